"""The plots of a history: one per metric, with a panel per protocol and dataset.

A vertical line marks a step. A triangle, up or down, marks the model that has the step, with the
signed size of the step. Latency has a panel per measuring condition, with its quartiles. A series
of only one run is not drawn. Writes
``figures/history-<metric>.{png,pdf,svg}``, several where there are many panels.

Try: ``irbench history results --output history``
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib import dates
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import Bbox

from irbench.compare import history_tables as tables
from irbench.compare.history import PROFILED, History, Series, SeriesPoint, quantities, quantity
from irbench.core import metrics
from irbench.present import style, text
from irbench.present.labels import Point, place

MAX_PANELS = 12                 # in one plot
LOG_FROM = 12.0                 # ratio of largest to smallest that calls for a log scale
CROWDED = 40                    # runs nearer than this part of the whole time would overlap
NAMES = 10                      # runs whose names have room below a panel; beyond, numbers
STEP = (0, (3, 2))
WIDTHS = {1: 60, 2: 54, 3: 34}  # letters beside each other above a panel, by panels in a row
# by days between first and last run: what a tick says of its time, and the axis for all ticks
FORMS = ((700, "%Y", ""), (60, "%Y-%m", ""), (3, "%m-%d", "%Y"), (1, "%m-%d\n%H:%M", "%Y"),
         (0, "%H:%M", "%Y-%m-%d"))


def draw(history: History, folder: Path) -> list[style.Drawn]:
    """Write the plots below ``folder``; the same history gives the same bytes."""
    timeline = _timeline(history)
    # the palette's best colours for the models that have a line
    lines = {one.model for one in history.series if len(one.points) > 1}
    names = sorted({one.model for one in history.series}, key=lambda m: (m not in lines, m))
    looks = dict(zip(names, zip(style.colors(names).values(), style.markers(names).values(),
                                strict=True), strict=True))
    drawn = []
    for metric in quantities():
        panels: dict[tuple[str, str], list[Series]] = {}
        for one in history.series:
            if one.metric == metric:
                panels.setdefault((one.protocol, one.dataset or one.condition), []).append(one)
        panels = {key: held for key, held in panels.items()
                  if any(len(one.points) > 1 for one in held)}
        for stem, part in _parts(f"history-{metric.replace(':', '_')}", panels):
            with style.look():
                drawn.append(_figure(metric, part, stem, folder, looks, timeline))
    return drawn


def _parts(stem: str, panels: dict) -> Iterator[tuple[str, dict]]:
    """Yield (stem, panels) of each plot, by protocol like the panels."""
    keys = list(panels)
    for number, start in enumerate(range(0, len(keys), MAX_PANELS), 1):
        here = {key: panels[key] for key in keys[start:start + MAX_PANELS]}
        yield f"{stem}-{number}" if len(keys) > MAX_PANELS else stem, here


@dataclass(frozen=True)
class Timeline:
    """The x axis of all panels: time, or the order of the runs where times are equal or crowded."""

    order: dict[str, float]     # run -> 1, 2, ...
    low: float                  # days, or the first of the order
    high: float
    dated: bool

    def x(self, point: SeriesPoint) -> float:
        """Return the place of a value: its own time, because cells of one run differ in time."""
        return float(dates.date2num(point.time)) if self.dated else self.order[point.run]

    @property
    def named(self) -> bool:
        """Whether there is room for the names of the runs."""
        return not self.dated and len(self.order) <= NAMES


def _timeline(history: History) -> Timeline:
    order = {run.name: float(i) for i, run in enumerate(history.runs, 1)}
    when = [dates.date2num(run.time) for run in history.runs]
    if len(when) < 2 or min(np.diff(when)) * CROWDED <= when[-1] - when[0]:
        return Timeline(order, 1.0, float(len(order)), False)
    own = [dates.date2num(point.time) for one in history.series for point in one.points]
    return Timeline(order, float(min(own)), float(max(own)), True)


def _figure(metric: str, panels: dict, stem: str, folder: Path, looks: dict,
            timeline: Timeline) -> style.Drawn:
    rows, columns = style.grid(len(panels), 2 if len(panels) in (2, 4) else 3)
    shown = sorted({one.model for held in panels.values() for one in held})
    legend = -(-(len(shown) + 2) // 5)
    figure = style.figure(0.5 + 0.16 * legend + (2.35 if timeline.named else 2.0) * rows,
                          style.WIDTH if columns > 1 else 4.6)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes[len(panels):]:
        ax.set_axis_off()
    points = [_panel(ax, metric, key, held, looks, timeline, WIDTHS[columns])
              for ax, (key, held) in zip(axes, panels.items(), strict=False)]
    room = 0.26 if any(labels for labels, _ in points) else 0.08    # for the last step's label
    for ax in axes[:len(panels)]:
        _time_axis(ax, timeline, room)
    figure.legend(handles=_legend(metric, panels, shown, looks), loc="outside lower center",
                  ncols=5, frameon=False, handlelength=2.4)
    style.settle(figure)
    unlabelled = []
    for ax, (labels, lines) in zip(axes, points, strict=False):
        unlabelled += place(ax, labels, list(_boxes(ax, lines, labels)))
    style.save(figure, folder, stem)
    return style.Drawn(stem, tables.metric_label(metric),
                       _caption(metric, timeline.dated, unlabelled, _disturbed(panels)),
                       _alt(metric, panels))


def _disturbed(panels: dict) -> bool:
    return any(point.busy for held in panels.values() for one in held for point in one.points)


def _panel(ax: Axes, metric: str, key: tuple[str, str], held: list[Series], looks: dict,
           timeline: Timeline, width: int) -> tuple[list[Point], list[Line2D]]:
    """Draw one panel; returns the steps to label and the lines that labels must leave free."""
    labels, lines = [], []
    for one in held:
        hue, marker = looks[one.model]
        xs = [timeline.x(point) for point in one.points]
        ys = [point.value for point in one.points]
        quiet, disturbed = (sorted((x, point.value) for x, point in zip(xs, one.points, strict=True)
                                   if bool(point.busy) is busy) for busy in (False, True))
        if quiet:               # sorted, because a later run may hold an earlier cell
            lines += ax.plot(*zip(*quiet, strict=True), color=hue, marker=marker, markersize=3.2,
                             linewidth=1.0, markeredgecolor="white", markeredgewidth=0.4, zorder=3)
        if disturbed:
            ax.plot(*zip(*disturbed, strict=True), color=hue, marker=marker, markersize=3.2,
                    zorder=3, **style.HOLLOW)
        for x, point in zip(xs, one.points, strict=True):
            if point.low is not None and not point.busy:
                ax.plot([x, x], [point.low, point.high], color=hue, linewidth=2.6, alpha=0.35,
                        zorder=2, solid_capstyle="butt")
        for step in one.steps:
            x, y = xs[step.at], ys[step.at]
            lines.append(ax.axvline(x, color=style.GRAY, linewidth=0.7, linestyle=STEP, zorder=1.5))
            ax.plot([x], [y], color=hue, marker="^" if step.size > 0 else "v", markersize=6.5,
                    markeredgecolor="white", markeredgewidth=0.5, zorder=4)
            labels.append(Point(x, y, _size(metric, step), 3.6, hue, True, 5.8))
    _heights(ax, metric, [v for one in held for p in one.points
                          for v in (p.value, *([] if p.busy else (p.low, p.high)))
                          if v is not None])
    log = ", log scale" if ax.get_yscale() == "log" else ""
    unit = quantity(metric).unit
    ax.set_ylabel(quantity(metric).title + (f" ({unit}{log})" if unit else ""))
    protocol, place_or_condition = key
    below = text.wrap(place_or_condition, width, 2) if place_or_condition else ""
    ax.set_title(protocol + "\n" * (1 + below.count("\n") if below else 0))
    ax.annotate(below, (0, 1), (0, 3.5), xycoords="axes fraction", textcoords="offset points",
                fontsize=5.8, color=style.GRAY, va="bottom")
    style.open_frame(ax)
    return labels, lines


def _size(metric: str, step) -> str:
    size = tables.difference(metric, step.before, step.after)
    # for counts and latency a percentage says more than the number
    return (size.partition(" (")[2].rstrip(")") if metric in PROFILED else "") or size


def _heights(ax: Axes, metric: str, values: list[float]) -> None:
    """Set limits with room for labels; a log scale where the models are far apart."""
    low, high = min(values), max(values)
    if metric in PROFILED and low > 0 and high / low > LOG_FROM:
        ax.set_yscale("log")
        ax.set_ylim(low / (high / low) ** 0.18, high * (high / low) ** 0.18)
        style.log_ticks(ax.yaxis, text.si if metric != "latency" else "{:g}".format)
        return
    # noise must not fill the panel
    least = 0.2 * abs(high) or 1.0 if metric in PROFILED else metrics.get(metric).height
    pad = max(0.2 * (high - low), (least - (high - low)) / 2)
    ax.set_ylim(max(low - pad, 0) if metric in PROFILED else low - pad, high + pad)
    ax.yaxis.set_major_locator(MaxNLocator(5))
    if metric in ("parameters", "macs"):
        ax.yaxis.set_major_formatter(FuncFormatter(
            lambda value, _: text.si(value) if value > 0 else f"{value:g}"))


def _time_axis(ax: Axes, timeline: Timeline, room: float) -> None:
    """Set limits and ticks; ``room`` is left after the last run, as a part of the whole time."""
    low, high = timeline.low, timeline.high
    ax.set_xlim(low - 0.08 * (high - low), high + room * (high - low))
    ax.set_xlabel("Run, in order of time" + " (number)" * (not timeline.named))
    if timeline.dated:
        tick, rest = next((tick, rest) for days, tick, rest in FORMS if high - low >= days)
        ax.xaxis.set_major_locator(dates.AutoDateLocator(minticks=2, maxticks=5))
        ax.xaxis.set_major_formatter(dates.DateFormatter(tick))
        texts = dict.fromkeys(dates.num2date(day).strftime(rest) for day in (low, high))
        ax.set_xlabel("Time (UTC)" + (", " + " and ".join(texts)) * bool(rest))
    elif timeline.named:
        ax.set_xticks(list(timeline.order.values()),
                      [text.wrap(name, 14, 1) for name in timeline.order],
                      rotation=35, ha="right", rotation_mode="anchor")
    else:
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def _boxes(ax: Axes, lines: Iterable[Line2D], labels: list[Point]) -> Iterator[Bbox]:
    """Yield small boxes along lines, in display pixels, except where a label's leader begins."""
    half = 1.2 * ax.figure.dpi / 72
    own = [ax.transData.transform((point.x, point.y)) for point in labels]
    for line in lines:
        # use its own transform: the heights of a vertical line are shares of the axes
        ends = line.get_transform().transform(
            np.column_stack([line.get_xdata(), line.get_ydata()]))
        for (x0, y0), (x1, y1) in pairwise(ends):
            count = max(2, math.ceil(math.hypot(x1 - x0, y1 - y0) / (2 * half)))
            for x, y in zip(np.linspace(x0, x1, count), np.linspace(y0, y1, count), strict=True):
                if all(math.hypot(x - a, y - b) > 5 * half for a, b in own):
                    yield Bbox.from_extents(x - half, y - half, x + half, y + half)


def _legend(metric: str, panels: dict, shown: list[str], looks: dict) -> list[Line2D]:
    handles = [Line2D([], [], color=looks[model][0], marker=looks[model][1], markersize=3.6,
                      linewidth=1.0, markeredgecolor="white", markeredgewidth=0.4, label=model)
               for model in shown]
    if any(one.steps for held in panels.values() for one in held):
        handles += [Line2D([], [], color=style.GRAY, linewidth=0.7, linestyle=STEP, marker="^",
                           markersize=5, markeredgewidth=0, label="step, with its size")]
    if metric == "latency":
        handles += [Line2D([], [], color=style.GRAY, linewidth=2.6, alpha=0.4,
                           label="quartiles")]
    if _disturbed(panels):
        handles += [Line2D([], [], color=style.GRAY, marker="o", markersize=3.6,
                           label="disturbed by other work", **style.HOLLOW)]
    return handles


def _caption(metric: str, dated: bool, unlabelled: list[Point], disturbed: bool) -> str:
    panel = "protocol and measuring condition" if metric == "latency" else (
        "protocol" if metric in PROFILED else "protocol and dataset")
    better = {1: " Higher is better.", -1: " Lower is better."}.get(quantity(metric).better, "")
    caption = (f"{tables.metric_label(metric)} over {'time' if dated else 'the runs in order'}, "
               f"one panel per {panel}.{better} A dashed line marks a step. The triangle shows the "
               "model and the direction; the number is the size of the step"
               f"{' in per cent' if metric in PROFILED else ''}.")
    if metric == "latency":
        caption += " Bars are the quartiles of the samples of a run."
    if disturbed:
        caption += (" Hollow points: other processes kept cores busy meanwhile; no line and no "
                    "step uses them.")
    if unlabelled:
        caption += (" There is no room for these numbers in the plot: "
                    f"{', '.join(dict.fromkeys(point.text for point in unlabelled))}.")
    return caption


def _alt(metric: str, panels: dict) -> str:
    def described(one: Series) -> str:
        found = "; ".join(tables.step(one, step) for step in one.steps)
        return (f"{one.model} from {tables.point(metric, one.points[0])} to "
                f"{tables.point(metric, one.points[-1])}"
                + (f" with steps at {found}" if found else ""))

    return f"Lines of {tables.metric_label(metric)} over the runs. " + " ".join(
        f"{', '.join(filter(None, key))}: {', '.join(map(described, held))}."
        for key, held in panels.items())
