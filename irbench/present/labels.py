"""Label the points of a plot without overlap: a greedy, deterministic search.

For each point, places around it are tried at increasing distance. The first place inside the axes
and clear of other labels and markers is used, with a thin leader line if it is far away. Points
without a free place get no label and are returned, so that a caption can list them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

ANGLES = tuple(math.radians(d) for d in (0, 45, -45, 90, -90, 135, -135, 180,
                                         22, -22, 68, -68, 112, -112, 158, -158,
                                         80, -80, 100, -100, 56, -56, 124, -124))
RINGS = (0.0, 3.0, 7.0, 13.0, 19.0, 25.0, 32.0, 40.0, 50.0, 62.0, 76.0)     # points (1/72 inch)
LEADER_FROM = 4.0


@dataclass(frozen=True)
class Point:
    """A labelled point: data coordinates, text, marker radius in points, text style."""

    x: float
    y: float
    text: str
    radius: float
    color: object
    bold: bool = False
    size: float = 6.0


def place(ax: Axes, points: list[Point], busy: list[Bbox] | None = None) -> list[Point]:
    """Label points, most important first, and return the points without a label.

    Call this when the layout is final. ``busy``: boxes in display pixels that labels must avoid.
    """
    figure = ax.figure
    renderer = figure.canvas.get_renderer()
    scale = figure.dpi / 72
    inside = ax.get_window_extent(renderer)
    centres = [tuple(ax.transData.transform((p.x, p.y))) for p in points]
    taken: list[Bbox] = list(busy or [])
    dots = [_box(x, y, max(p.radius, 1.5) * scale) for p, (x, y) in
            zip(points, centres, strict=True)]
    lines: list[tuple] = []
    unlabelled = []
    for index, (point, (x, y)) in enumerate(zip(points, centres, strict=True)):
        text = ax.text(point.x, point.y, point.text, fontsize=point.size, color=point.color,
                       fontweight="bold" if point.bold else "normal", zorder=6)
        extent = text.get_window_extent(renderer)
        spot = _spot(x, y, point.radius * scale, extent.width, extent.height, scale, inside,
                     taken, dots, index, lines)
        if spot is None:
            text.remove()
            unlabelled.append(point)
            continue
        box, ring = spot
        taken.append(box)
        text.set_verticalalignment("bottom")
        text.set_position(ax.transData.inverted().transform((box.x0, box.y0)))
        if ring > LEADER_FROM:
            end = _nearest(box, x, y)
            lines.append((x, y, *end))
            (dx, dy) = ax.transData.inverted().transform(end)
            ax.plot([point.x, dx], [point.y, dy], color=point.color, linewidth=0.35, alpha=0.8,
                    zorder=2.5, solid_capstyle="butt", scalex=False, scaley=False)
    return unlabelled


def _box(x: float, y: float, radius: float) -> Bbox:
    return Bbox.from_extents(x - radius, y - radius, x + radius, y + radius)


def _spot(x, y, radius, width, height, scale, inside, taken, dots, own, lines):
    """Return (box, ring) of the first free place, or None. All in display pixels."""
    for ring in RINGS:
        reach = radius + (2.0 + ring) * scale
        for angle in ANGLES:
            cx = x + math.cos(angle) * (reach + width / 2)
            cy = y + math.sin(angle) * (reach + height / 2)
            box = Bbox.from_extents(cx - width / 2, cy - height / 2,
                                    cx + width / 2, cy + height / 2)
            pad = box.padded(1.6 * scale, 0.3 * scale)
            if (box.x0 < inside.x0 + scale or box.x1 > inside.x1 - scale
                    or box.y0 < inside.y0 + scale or box.y1 > inside.y1 - scale):
                continue
            if any(pad.overlaps(other) for other in taken):
                continue
            if any(pad.overlaps(dot) for i, dot in enumerate(dots) if i != own):
                continue
            if any(_crosses(line, box) for line in lines):
                continue
            end = _nearest(box, x, y)
            if ring > LEADER_FROM and any(_crosses((x, y, *end), other) for other in taken):
                continue
            if ring > LEADER_FROM and any(_cut((x, y, *end), line) for line in lines):
                continue
            if ring > LEADER_FROM and any(_crosses((x, y, *end), dot)
                                          for i, dot in enumerate(dots) if i != own
                                          and not dot.contains(x, y)):
                continue
            return box, ring
    return None


def _nearest(box: Bbox, x: float, y: float) -> tuple[float, float]:
    """Return the point of a box nearest to (x, y)."""
    return min(max(x, box.x0), box.x1), min(max(y, box.y0), box.y1)


def _crosses(line: tuple, box: Bbox) -> bool:
    """Return whether a segment meets a box (slabs; Kay and Kajiya 1986)."""
    x0, y0, x1, y1 = line
    low, high = 0.0, 1.0
    for start, delta, lower, upper in ((x0, x1 - x0, box.x0, box.x1),
                                       (y0, y1 - y0, box.y0, box.y1)):
        if delta == 0:
            if not lower <= start <= upper:
                return False
            continue
        a, b = sorted(((lower - start) / delta, (upper - start) / delta))
        low, high = max(low, a), min(high, b)
    return low <= high


def _cut(a: tuple, b: tuple) -> bool:
    """Return whether two segments cross."""
    def side(p, q, r) -> float:
        return (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])
    p, q, r, s = a[:2], a[2:], b[:2], b[2:]
    return side(p, q, r) * side(p, q, s) < 0 and side(r, s, p) * side(r, s, q) < 0
