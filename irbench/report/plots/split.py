"""Split many panels into several figures, by task, protocol and number, and choose of them.

Pure functions; nothing is read or written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Protocol, TypeVar

from irbench.present import text


class Panel(Protocol):
    """A panel, or a row of panels, of one protocol."""

    protocol: str
    task: str


P = TypeVar("P", bound=Panel)
K = TypeVar("K")
V = TypeVar("V")


def figures(found: list[P], stem: str, title: str, most: float,
            size: Callable[[P], float] = lambda panel: 1) -> dict[tuple[str, str], list[P]]:
    """Return (stem, title) -> panels of each figure, with a total ``size`` of at most ``most``.

    All panels go in one figure if there is room. Otherwise there is a figure per task; a task with
    too many panels has one per protocol, and a protocol with too many has numbered figures. The
    order is kept. A panel larger than ``most`` has its own figure.
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


def asked(parts: dict[K, V], most: int | None, left_out: list[str]) -> dict[K, V]:
    """Return the figures to draw: all, or ``most`` of them, spread evenly over the plan.

    ``left_out`` gets a sentence on the others.
    """
    if most is None or len(parts) <= most:
        return parts
    left_out.append(f"{most} of {len(parts)} figures are drawn, spread over the run, to keep the "
                    "report quick and small: irbench report --plots all draws all of them "
                    "(report.plots in the config).")
    wanted = {number * len(parts) // most for number in range(most)}
    return {key: part for place, (key, part) in enumerate(parts.items()) if place in wanted}


def _chunks(part: list[P], most: float, size: Callable[[P], float]) -> list[list[P]]:
    """Return chunks of at most ``most``, filled one after the other."""
    chunks: list[list[P]] = []
    room = 0.0
    for panel in part:
        if not chunks or size(panel) > room:
            chunks.append([])
            room = most
        chunks[-1].append(panel)
        room -= size(panel)
    return chunks
