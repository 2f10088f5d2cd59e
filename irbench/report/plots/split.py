"""Many panels become several figures: by task, by protocol, by number.

Pure functions; nothing is read or written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Protocol, TypeVar

from irbench.present import text


class Panel(Protocol):
    """What is split: a panel, or a row of panels, of one protocol."""

    protocol: str
    task: str


P = TypeVar("P", bound=Panel)


def figures(found: list[P], stem: str, title: str, most: float,
            size: Callable[[P], float] = lambda panel: 1) -> dict[tuple[str, str], list[P]]:
    """Return the panels of each figure, of total ``size`` at most ``most``, by (stem, title).

    All in one if there is room; else a figure per task, per protocol where a task has too many,
    and numbered ones where a protocol has. Their order stays. A panel beyond ``most`` is alone.
    """
    if sum(map(size, found)) <= most:
        return {(stem, title): found} if found else {}
    sizes: Counter = Counter()
    for panel in found:
        sizes[panel.task] += size(panel)
    parts: dict[tuple[str, str], list[P]] = {}
    for panel in found:
        name = ((f"{stem}-{panel.task}", f"{title}: {text.task_title(panel.task)}")
                if sizes[panel.task] <= most else
                (f"{stem}-{panel.protocol}", f"{title}: {panel.protocol}"))
        parts.setdefault(name, []).append(panel)
    numbered = {}
    for (name, heading), part in parts.items():
        chunks = _chunks(part, most, size)
        for number, chunk in enumerate(chunks, 1):
            many = len(chunks) > 1
            numbered[f"{name}-{number}" if many else name,
                     f"{heading} ({number} of {len(chunks)})" if many else heading] = chunk
    return numbered


def _chunks(part: list[P], most: float, size: Callable[[P], float]) -> list[list[P]]:
    """Fill one chunk after the other."""
    chunks: list[list[P]] = []
    room = 0.0
    for panel in part:
        if not chunks or size(panel) > room:
            chunks.append([])
            room = most
        chunks[-1].append(panel)
        room -= size(panel)
    return chunks
