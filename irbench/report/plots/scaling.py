"""The scaling plot: latency against input pixels and against batch, with fitted exponents.

A straight line on these axes is a power law; its slope is the exponent p of latency ~ pixels^p
(1: linear, 2: quadratic), by least squares on the logarithms, with a 95 % interval, as recorded.
One row of panels per protocol and measuring condition. Reads nothing but the collected run; writes
``figures/scaling.png``, or one figure per task or protocol if there are many rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from irbench.present import style, text
from irbench.report.plots import latency, split
from irbench.report.run import Run

KINDS = {"size": "Input pixels per image (log scale)", "batch": "Batch (images, log scale)"}
MAX_ROWS = 3                    # in one figure
WIDE = 1.0                      # half interval beyond which an exponent is not informative


@dataclass
class Curve:
    """One model's sweep: (x, p50 in ms) and the exponent as recorded, {} if there is none.

    ``disturbed`` are the points that other processes disturbed: no exponent is fitted to them.
    """

    title: str
    points: list[tuple[int, float]]
    exponent: dict
    label: str = ""             # the title, or the name of the model if the title is long
    missing: list[str] = field(default_factory=list)
    disturbed: list[tuple[int, float]] = field(default_factory=list)


@dataclass
class Sweeps:
    """The sweeps of one protocol under one condition: kind -> model -> curve."""

    protocol: str
    conditions: dict[str, str] = field(default_factory=dict)
    curves: dict[str, dict[str, Curve]] = field(default_factory=dict)

    @property
    def task(self) -> str:
        """The protocol's task."""
        return text.split_id(self.protocol)[0]


def x_of(kind: str, point: dict) -> int:
    """Return a point's input pixels per image, or its batch."""
    return point["height"] * point["width"] if kind == "size" else point["batch"]


def place(kind: str, point: dict) -> str:
    """Return the name of a point of a sweep."""
    return (f"{point['height']}{text.TIMES}{point['width']}" if kind == "size"
            else f"batch {point['batch']}")


def reason(point: dict) -> str:
    """Return the reason why a point has no latency."""
    why = point.get("missing") or point.get("reason")
    if isinstance(why, dict):
        why = why.get("latency_ms") or "; ".join(map(str, why.values()))
    return str(why or "no reason recorded").rstrip(".")


def interval(exponent: dict) -> str:
    """Return ``1.02 ± 0.03`` for a recorded exponent, ``no fit`` if there is none."""
    if exponent.get("value") is None:
        return "no fit"
    low, high = exponent.get("low"), exponent.get("high")
    if low is None or high is None:
        return f"{exponent['value']:.2f}"
    return f"{exponent['value']:.2f} ± {(high - low) / 2:.2f}"


def rows(run: Run) -> list[Sweeps]:
    """Return the sweeps of a run, one row per protocol and condition."""
    found: dict[tuple, Sweeps] = {}
    for (protocol, model), job in run.profiles.items():
        sweep = job.result.get("sweep") or {}
        for kind in KINDS:
            points = (sweep.get(kind) or {}).get("points") or []
            if not points:
                continue
            # the swept quantity is not part of the condition
            key = (protocol, latency.condition(job.result))
            row = found.setdefault(key, Sweeps(protocol))
            row.conditions[kind] = latency.condition(job.result, (kind,))
            row.curves.setdefault(kind, {})[model] = _curve(run, model, job.result, kind)
    return list(found.values())


def _curve(run: Run, model: str, result: dict, kind: str) -> Curve:
    points, exponent = (result["sweep"][kind].get(name) for name in ("points", "exponent"))
    known = [p for p in points if (p.get("latency_ms") or {}).get("p50") is not None]
    # records of older versions hold no load for the points, and their exponents are of all points
    own = [p for p in known if "busy_elsewhere" in p["latency_ms"]]
    busy = [p for p in known if latency.busy(p if p in own else result)]
    quiet, disturbed = (sorted((x_of(kind, p), p["latency_ms"]["p50"]) for p in some)
                        for some in ([p for p in known if p not in busy], busy))
    return Curve(latency.name(run, model, result), quiet,
                 {} if busy and len(own) < len(known) else exponent or {},
                 latency.label(run, model, result, 36),
                 [f"{place(kind, p)} ({reason(p)})" for p in points if p not in known], disturbed)


def draw(run: Run) -> style.Drawing:
    """Draw the plots; write nothing if no profile has a sweep."""
    drawing = style.Drawing()
    found = rows(run)
    drawn = [row for row in found if any(c.points or c.disturbed for k in row.curves.values()
                                         for c in k.values())]
    if not drawn:
        if found or run.asked.get("sweep"):
            drawing.left_out.append("No scaling plot: no profile has a sweep with a latency. "
                                    f"{_missing(found)}".strip())
        return drawing
    parts = split.figures(drawn, "scaling", "Scaling", MAX_ROWS)
    drawing.figures += [_figure(run, part, *named) for named, part in
                        split.asked(parts, run.plots, drawing.left_out).items()]
    return drawing


def _figure(run: Run, drawn: list[Sweeps], stem: str, title: str) -> style.Drawn:
    kinds = [kind for kind in KINDS if any(kind in row.curves for row in drawn)]
    names = max(len(row.curves.get(kind, {})) for row in drawn for kind in kinds)
    with style.look():
        figure = style.figure((2.6 + 0.14 * names) * len(drawn),
                              style.WIDTH if len(kinds) > 1 else 4.2)
        axes = figure.subplots(len(drawn), len(kinds), squeeze=False)
        for line, row in zip(axes, drawn, strict=True):
            for ax, kind in zip(line, kinds, strict=True):
                if any(curve.points or curve.disturbed
                       for curve in row.curves.get(kind, {}).values()):
                    _panel(ax, run, row, kind)
                else:
                    ax.set_axis_off()
        style.save(figure, run.folder, stem, run.formats)
    return style.Drawn(stem, title, _caption(run, drawn), _alt(drawn))


def _panel(ax: Axes, run: Run, row: Sweeps, kind: str) -> None:
    names = list(run.models)
    hues, shapes = style.colors(names), style.markers(names)
    ticks, values = set(), []
    for model, curve in row.curves[kind].items():
        together = [*curve.points, *curve.disturbed]
        if not together:
            continue
        for points, look in ((curve.points, {"linestyle": "", "markeredgewidth": 0}),
                             (curve.disturbed, style.HOLLOW)):
            ax.plot([x for x, _ in points], [y for _, y in points], color=hues[model],
                    marker=shapes[model], markersize=4, zorder=3, **look)
        fitted = _line(curve)
        ax.plot([x for x, _ in fitted], [y for _, y in fitted], color=hues[model], alpha=0.75)
        # the legend shows line and marker; a marker alone means that there is no fit
        ax.plot([], [], color=hues[model], marker=shapes[model], markersize=4,
                label=f"{curve.label}: {interval(curve.exponent)}",
                linestyle="-" if fitted else "", markeredgewidth=0)
        ticks |= {x for x, _ in together}
        values += [y for _, y in (*together, *fitted)]
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(min(ticks) / 1.3, max(ticks) * 1.3)
    room = max((max(values) / min(values)) ** 0.07, 1.2)
    ax.set_ylim(min(values) / room, max(values) * room)
    ax.xaxis.set_major_locator(FixedLocator(sorted(ticks)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(
        lambda x, _: text.si(x) if kind == "size" else f"{x:.0f}"))
    style.log_ticks(ax.yaxis, "{:g}".format)
    ax.set_xlabel(KINDS[kind])
    ax.set_ylabel("Latency, p50 (ms, log scale)")
    ax.set_title(f"{run.protocol_title(row.protocol)}\n\n")
    device, _, rest = row.conditions[kind].partition(", ")
    ax.annotate(f"{text.wrap(device, 48, 1)}\n{rest}", (0, 1), (0, 4), xycoords="axes fraction",
                textcoords="offset points", fontsize=style.SMALL, color=style.GRAY, va="bottom")
    ax.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.24), frameon=False, borderaxespad=0,
              title="Exponent ± 95 % interval", alignment="left", handlelength=2.6)
    style.open_frame(ax)


def _line(curve: Curve) -> list[tuple[float, float]]:
    """Return the ends of the fitted line, which passes through the mean of the points (log axes).

    [] if the interval of the exponent is too wide.
    """
    slope, low, high = (curve.exponent.get(key) for key in ("value", "low", "high"))
    if slope is None or len(curve.points) < 2:
        return []
    if low is not None and high is not None and (high - low) / 2 > WIDE:
        return []
    across = sum(math.log(x) for x, _ in curve.points) / len(curve.points)
    up = sum(math.log(y) for _, y in curve.points) / len(curve.points)
    return [(x, math.exp(up + slope * (math.log(x) - across)))
            for x in (curve.points[0][0], curve.points[-1][0])]


def _missing(found: list[Sweeps]) -> str:
    gaps = [f"{curve.title} ({row.protocol}): {', '.join(curve.missing)}"
            for row in found for curves in row.curves.values() for curve in curves.values()
            if curve.missing]
    return f"Missing values: {'; '.join(gaps)}." if gaps else ""


def _caption(run: Run, drawn: list[Sweeps]) -> str:
    curves = [c for row in drawn for kind in row.curves.values() for c in kind.values()]
    hows = dict.fromkeys(how for row in drawn for how in row.conditions.values())
    disturbed = any(c.disturbed for c in curves)
    return " ".join(filter(None, [
        "Median latency (p50, ms) of one forward pass against the size of the input and against "
        "the batch, on logarithmic axes. The number of each model is the fitted exponent p of "
        "latency ~ x^p (1 is linear, 2 quadratic) ± half of its 95 % interval, from least squares "
        "on the logarithms.",
        f"No fit: fewer than three{' undisturbed' * disturbed} points."
        if any(c.exponent.get("value") is None for c in curves) else "",
        f"No line is drawn if the interval is wider than ± {WIDE:g}."
        if any(c.exponent.get("value") is not None and len(c.points) > 1 and not _line(c)
               for c in curves) else "",
        f"Measured on: {'; '.join(hows)}.",
        _disturbances(drawn), _missing(drawn)]))


def _disturbances(found: list[Sweeps]) -> str:
    busy = [f"{curve.title} ({row.protocol}, {kind}: {len(curve.disturbed)} of "
            f"{len(curve.points) + len(curve.disturbed)} points)"
            for row in found for kind, curves in row.curves.items() for curve in curves.values()
            if curve.disturbed]
    return ("Hollow points were measured while other processes kept cores busy, so they are not "
            f"reliable; no line or exponent uses them: {', '.join(busy)}." if busy else "")


def _alt(drawn: list[Sweeps]) -> str:
    return "Scatter plots of latency with fitted lines. " + " ".join(
        f"{row.protocol}, {kind}: " + ", ".join(
            f"{c.title} exponent {interval(c.exponent)}, {text.milliseconds(c.points[0][1])} to "
            f"{text.milliseconds(c.points[-1][1])}" for c in curves.values() if c.points) + "."
        for row in drawn for kind, curves in row.curves.items())
