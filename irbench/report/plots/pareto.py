"""The Pareto front of models: no other model is better in cost and quality at once.

Pure functions; nothing is read or written.

Try: ``python -c "from irbench.report.plots import pareto; print(pareto.front({'a': (1, 2)}))"``
"""

from __future__ import annotations

from collections.abc import Mapping

Place = tuple[float, float]     # cost, less is better; quality, more is better


def dominates(one: Place, other: Place) -> bool:
    """Return whether ``one`` is at least as good as ``other`` in cost and quality, not equal."""
    return one[0] <= other[0] and one[1] >= other[1] and one != other


def front(points: Mapping[str, Place]) -> list[str]:
    """Return the names of the points that no other point dominates, by increasing cost.

    Two equal points do not dominate each other: either both are in the front or neither.
    ``points``: name -> (cost, quality), finite numbers.
    """
    kept = [name for name, place in points.items()
            if not any(dominates(other, place) for other in points.values())]
    return sorted(kept, key=lambda name: points[name])


def steps(points: Mapping[str, Place], least: float, most: float, floor: float) -> list[Place]:
    """Return the corners of the front as a step line: the best quality at each cost.

    The line rises from ``floor`` at the first cost and ends at ``most``. Costs below ``least``,
    such as 0 on a log axis, are drawn at ``least``. [] without points.
    """
    corners: list[Place] = []
    level = floor
    for name in front(points):
        cost, quality = max(points[name][0], least), points[name][1]
        corners += [(cost, level), (cost, quality)]
        level = quality
    return [*corners, (most, level)] if corners else []
