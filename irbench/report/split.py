"""Many panels become several figures: by task, by protocol, by number.

Pure functions; nothing is read or written.
"""

from __future__ import annotations

from collections import Counter
from typing import Protocol, TypeVar

from irbench.report import text


class Panel(Protocol):
    """What is split: a panel, or a row of panels, of one protocol."""

    protocol: str
    task: str


P = TypeVar("P", bound=Panel)


def figures(found: list[P], stem: str, title: str, most: int) -> dict[tuple[str, str], list[P]]:
    """Return the panels of each figure, at most ``most``, by (stem, title), in their order.

    All in one if there is room; else a figure per task, per protocol where a task has too many,
    and numbered ones where a protocol has.
    """
    if len(found) <= most:
        return {(stem, title): found} if found else {}
    parts: dict[tuple[str, str], list[P]] = {}
    sizes = Counter(panel.task for panel in found)
    for panel in found:
        name = ((f"{stem}-{panel.task}", f"{title}: {text.task_title(panel.task)}")
                if sizes[panel.task] <= most else
                (f"{stem}-{panel.protocol}", f"{title}: {panel.protocol}"))
        parts.setdefault(name, []).append(panel)
    numbered = {}
    for (name, said), part in parts.items():
        chunks = [part[i:i + most] for i in range(0, len(part), most)]
        for number, chunk in enumerate(chunks, 1):
            many = len(chunks) > 1
            numbered[f"{name}-{number}" if many else name,
                     f"{said} ({number} of {len(chunks)})" if many else said] = chunk
    return numbered
