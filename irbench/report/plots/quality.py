"""Plots of quality against cost: PSNR against parameters, MACs and latency.

One row of panels per protocol and dataset, with the Pareto front of the models measured here as a
step line. Values from papers are hollow stars in the panel of parameters, the only cost that all
papers print in the same way; they were not measured here and are not in the front. Multiply-adds
(MACs) are compared for one input size, latencies under one condition (device, dtype, size, batch,
threads). Variants have the weights of their base; see the plot of k and the variants table instead.

Reads nothing but the collected run; writes ``figures/quality.png``, or one figure per
task or protocol (``figures/quality-<task>``) if there are many rows. Synthetic degradations have
separate figures, ``quality-synthetic``.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

from irbench.catalog import published
from irbench.present import style, text
from irbench.present.labels import Point, place
from irbench.report.facts import family, kinds, verdict
from irbench.report.plots import latency, pareto, split
from irbench.report.run import Run

COSTS = {"parameters": "Parameters (count, log scale)", "macs": "MACs (count, log scale)",
         "latency": "Latency, p50 (ms, log scale)"}
# inches per row; the second with values from papers, whose names need room
PLAIN, WIDE = 2.05, 2.75
LEAST_DB = 0.5                  # least height of a panel, in dB
NEAR_DB = 3.0                   # a line further below all points is named, not drawn
LEAST_RANGE = 4.0               # least ratio of the ends of a cost axis
FRONT = {"color": style.INK, "linewidth": 0.9, "alpha": 0.75}
DASHED = (0, (4, 2))
PRINTED = {"marker": "*", "markersize": 5, "markerfacecolor": "white", "markeredgewidth": 0.7,
           "linestyle": ""}     # no model here has this marker, see ``style.MARKERS``


@dataclass
class Tradeoff:
    """The content of the panels of one protocol and dataset; mappings have the model as key."""

    protocol: str
    dataset: str
    level: str
    task: str
    psnr: dict[str, float] = field(default_factory=dict)                # dB, of models with weights
    lines: dict[str, float] = field(default_factory=dict)               # dB, of the others
    costs: dict[str, dict[str, float]] = field(default_factory=dict)    # kind -> model -> cost
    conditions: dict[str, str] = field(default_factory=dict)            # kind -> how measured
    apart: list[str] = field(default_factory=list)  # sentences on costs that do not compare
    printed: dict[str, tuple[float, float]] = field(default_factory=dict)   # parameters, dB
    synthetic: bool = False
    leaking: list[str] = field(default_factory=list)        # models trained on test images

    def near(self) -> dict[str, float]:
        """Return the lines to draw; lines far below all points would flatten the panel."""
        least = min([*self.psnr.values(), *(v for _, v in self.printed.values())])
        return {model: psnr for model, psnr in self.lines.items() if psnr > least - NEAR_DB}

    def points(self, kind: str) -> dict[str, pareto.Place]:
        """Return (cost, PSNR) of the models of a panel; those without weights cost 0 parameters."""
        found = {model: (cost, self.psnr[model])
                 for model, cost in self.costs.get(kind, {}).items()}
        if kind == "parameters":
            found |= {model: (0.0, psnr) for model, psnr in self.lines.items()}
        return found


def draw(run: Run) -> style.Drawing:
    """Draw the plots; write nothing if no measured model can be shown."""
    drawing = style.Drawing()
    found, omitted = rows(run)
    variants = [run.model_title(n) for names in family.variants(run).values() for n in names]
    if variants:
        drawing.left_out.append("Variants use the weights of their base. They are in the variants "
                                "table, not in the plots of quality against cost: "
                                f"{', '.join(variants)}.")
    if omitted:
        drawing.left_out.append("Not in the plots of quality against cost, because the number of "
                                f"parameters is unknown: {', '.join(omitted)}.")
    if not found:
        drawing.left_out.append("No plot of quality against cost: no model with a PSNR has a known "
                                "number of parameters.")
        return drawing
    alone = [row for row in found if len(row.psnr) < 2 and not row.printed]
    if alone:
        drawing.left_out.append(
            "No plot of quality against cost where there is only one model with weights and no "
            "published value: "
            + ", ".join(f"{r.protocol} on {run.dataset_title(r.dataset)}" for r in alone)
            + ".")
    for stem, title, kind in (("quality", "Quality against cost", False), (
            "quality-synthetic", "Quality against cost, synthetic degradations", True)):
        here = [row for row in found if row.synthetic == kind and row not in alone]
        parts = split.figures(here, stem, title, style.HEIGHT, _height)
        drawing.figures += [_figure(run, part, *named) for named, part in
                            split.asked(parts, run.plots, drawing.left_out).items()]
    return drawing


# -- what is shown -------------------------------------------------------------------------------

def rows(run: Run) -> tuple[list[Tradeoff], list[str]]:
    """Return one row per protocol and dataset, and the models with unknown parameters."""
    found: dict[tuple[str, str], Tradeoff] = {}
    omitted: list[str] = []
    for cell in run.rows:
        psnr = cell.means.get("psnr")
        if psnr is None or not kinds.competes(run.models[cell.model]):
            continue
        row = found.setdefault((cell.protocol, cell.dataset), Tradeoff(
            cell.protocol, cell.dataset, cell.level, cell.task, synthetic=cell.synthetic))
        if cell.leak:
            row.leaking.append(cell.model)
        count = run.parameters(cell.protocol, cell.model)
        if count is None:
            name = f"{run.model_title(cell.model)} ({cell.protocol})"
            if name not in omitted:
                omitted.append(name)
        elif count == 0:
            row.lines[cell.model] = psnr
        else:
            row.psnr[cell.model] = psnr
            row.costs.setdefault("parameters", {})[cell.model] = count
    kept = [row for row in found.values() if row.psnr]
    for row in kept:
        _add_measured(run, row, "macs", _macs)
        _add_measured(run, row, "latency", _latency)
        if not row.synthetic:
            _add_published(run, row)
    return kept, omitted


def _macs(result: dict) -> tuple[float | None, str]:
    return result.get("macs"), text.input_size(result.get("input") or {})


def _latency(result: dict) -> tuple[float | None, str]:
    return (result.get("latency_ms") or {}).get("p50"), latency.condition(result)


def _add_measured(run: Run, row: Tradeoff, kind: str, read) -> None:
    """Add the cost of models profiled under the most common condition; list the others."""
    known: dict[str, dict[str, float]] = {}
    for model in row.psnr:
        profile = run.profiles.get((row.protocol, model))
        cost, how = read(profile.result) if profile and profile.result else (None, "")
        if cost:
            known.setdefault(how, {})[model] = cost
    if not known:
        return
    how = max(known, key=lambda one: len(known[one]))       # the first with most models
    row.costs[kind], row.conditions[kind] = known.pop(how), how
    name = {"macs": "MACs", "latency": "latency"}[kind]
    row.apart += [f"{run.model_title(model)}, {row.protocol}: {name} on another condition ({other})"
                  for other, models in known.items() for model in models]


def _add_published(run: Run, row: Tradeoff) -> None:
    for one in published.rows(row.task, {(row.level, row.dataset)}, run.published, run.figures):
        figure = one.figures.get((row.level, row.dataset, "psnr"))
        params = one.params_m.get(row.level)
        if (figure and params and float(params) > 0
                and not published.other_version(figure, row.protocol)):
            row.printed.setdefault(one.method, (float(params) * 1e6, figure.value))


# -- drawing -------------------------------------------------------------------------------------

def _figure(run: Run, found: list[Tradeoff], stem: str, title: str) -> style.Drawn:
    kinds = [kind for kind in COSTS if any(row.costs.get(kind) for row in found)]
    wide = any(row.printed for row in found)        # room for the names of many methods
    unlabelled: list[str] = []
    with style.look():
        height = max(_height(row) for row in found)
        figure = style.figure(height * len(found), {1: 4.2, 2: 5.6}.get(len(kinds), style.WIDTH))
        axes = figure.subplots(len(found), len(kinds), squeeze=False, width_ratios=[
            1.75 if wide and kind == "parameters" else 1 for kind in kinds])
        labelled = []
        for line, row in zip(axes, found, strict=True):
            for ax, kind in zip(line, kinds, strict=True):
                labelled.append((ax, row, _panel(ax, run, row, kind)))
                _name(ax, run, row, kind,
                      len({other.conditions.get(kind) for other in found} - {None}) < 2)
                if kind != kinds[0]:
                    ax.tick_params(labelleft=False)
                else:
                    ax.set_ylabel("PSNR (dB)")
        style.legend(figure, _handles(run, found), 4)
        style.settle(figure)
        for ax, row, points in labelled:
            if any(point.text for point in points):
                unlabelled += [point.text for point in place(ax, points, _busy(ax, row))]
        style.save(figure, run.folder, stem, run.formats)
    return style.Drawn(stem, title, _caption(run, found, unlabelled), _alt(run, found))


def _height(row: Tradeoff) -> float:
    return WIDE if row.printed else PLAIN


def _panel(ax: Axes, run: Run, row: Tradeoff, kind: str) -> list[Point]:
    """Draw one panel; return the published points, to be labelled when the layout is fixed."""
    names = list(run.models)
    hues, shapes = style.colors(names), style.markers(names)
    costs = row.costs.get(kind) or {}
    printed = row.printed if kind == "parameters" else {}
    _axes(ax, run, row, kind, [*costs.values(), *(x for x, _ in printed.values())])
    for model, psnr in row.near().items():
        ax.axhline(psnr, color=hues[model], linestyle=DASHED, linewidth=0.9, zorder=1.5)
    below = [f"{text.wrap(run.model_title(model), 24, 1)}: {psnr:.2f} dB, below"
             for model, psnr in row.lines.items() if model not in row.near()]
    if below and kind == "parameters":
        ax.text(0.98, 0.02, "\n".join(below), transform=ax.transAxes, ha="right", va="bottom",
                fontsize=style.SMALL, color=style.GRAY)
    if not costs:
        ax.text(0.5, 0.5, text.NA, transform=ax.transAxes, ha="center", color=style.GRAY)
        ax.set_xticks([])
        return []
    (low, high), floor = ax.get_xlim(), ax.get_ylim()[0]
    disturbed = {model for model in costs if kind == "latency"
                 and latency.busy(run.profiles[row.protocol, model].result)}
    if front := pareto.steps({model: place for model, place in row.points(kind).items()
                              if model not in disturbed}, low, high, floor):
        ax.plot(*zip(*front, strict=True), zorder=2, **FRONT)
    points = []
    for model, cost in costs.items():
        ax.plot([cost], [row.psnr[model]], color=hues[model], marker=shapes[model], markersize=6,
                markeredgecolor="white", markeredgewidth=0.6, zorder=4, linestyle="")
        points.append(Point(cost, row.psnr[model], "", 3.0, hues[model]))
        if model in disturbed:
            ax.annotate(text.DISTURBED, (cost, row.psnr[model]), (3, 2), fontweight="bold",
                        textcoords="offset points", fontsize=6.5, color=hues[model])
    # methods reproduced here are labelled first, in the colour of their model
    known = {method: next((hues[m] for m in row.psnr if verdict.is_counterpart(
        run.models[m], method, run.blind(row.protocol, m))), None) for method in printed}
    for method in sorted(printed, key=lambda name: known[name] is None):
        count, psnr = printed[method]
        hue = known[method] or style.GRAY
        ax.plot([count], [psnr], markeredgecolor=hue, zorder=3.5, **PRINTED)
        points.append(Point(count, psnr, method, 2.2, hue, size=style.SMALL))
    return points


def _busy(ax: Axes, row: Tradeoff) -> list[Bbox]:
    """Return the boxes in display pixels that labels must not cover: lines and texts.

    ``ax`` is the panel of parameters, the only one with values from papers.
    """
    renderer, (low, high) = ax.figure.canvas.get_renderer(), ax.get_xlim()
    lines = [((low, psnr), (high, psnr)) for psnr in row.near().values()]
    lines += itertools.pairwise(pareto.steps(row.points("parameters"), low, high,
                                             ax.get_ylim()[0]))
    return [*(Bbox(ax.transData.transform(ends)).padded(1) for ends in lines),
            *(label.get_window_extent(renderer) for label in ax.texts)]


def _axes(ax: Axes, run: Run, row: Tradeoff, kind: str, costs: list[float]) -> None:
    """Set limits and names of a panel. Quality has one range in all panels of a row."""
    psnrs = [*row.psnr.values(), *row.near().values(), *(v for _, v in row.printed.values())]
    low, high = min(psnrs), max(psnrs)
    # a tiny difference must not fill the panel
    pad = max(0.12 * (high - low), (LEAST_DB - (high - low)) / 2)
    ax.set_ylim(low - pad, high + pad)
    if costs:
        low, high = math.log10(min(costs)), math.log10(max(costs))
        pad = max(0.12 * (high - low), (math.log10(LEAST_RANGE) - (high - low)) / 2, 0.12)
        ax.set_xscale("log")
        ax.set_xlim(10 ** (low - pad), 10 ** (high + pad))
        style.log_ticks(ax.xaxis, text.si if kind != "latency" else "{:g}".format)
    ax.set_xlabel(COSTS[kind])
    ax.set_title(f"{run.protocol_title(row.protocol)}\n" if kind == "parameters" else "\n")
    style.open_frame(ax)


def _name(ax: Axes, run: Run, row: Tradeoff, kind: str, alike: bool) -> None:
    """Write the set or the condition above a panel. The caption names a condition that is alike."""
    first, _, rest = row.conditions.get(kind, "").partition(", ") if not alike else ("", "", "")
    heading = {"parameters": run.dataset_title(row.dataset),
               "macs": f"for {first}" if first else "",
               "latency": f"{text.wrap(first, 34, 1)}\n{rest}" if first else ""}[kind]
    ax.annotate(heading, (0, 1), (0, 4), xycoords="axes fraction", textcoords="offset points",
                fontsize=style.SMALL, color=style.GRAY, va="bottom")


def _handles(run: Run, found: list[Tradeoff]) -> list[Line2D]:
    names = list(run.models)
    hues, shapes = style.colors(names), style.markers(names)
    handles = [Line2D([], [], linestyle="", marker=shapes[m], markersize=6, color=hues[m],
                      markeredgecolor="white", markeredgewidth=0.6,
                      label=text.wrap(run.model_title(m), 40, 1))
               for m in names if any(m in row.psnr for row in found)]
    handles += [Line2D([], [], color=hues[m], linestyle=DASHED, linewidth=0.9,
                       label=f"{text.wrap(run.model_title(m), 30, 1)} (no weights)")
                for m in names if any(m in row.near() for row in found)]
    handles.append(Line2D([], [], label="Pareto front (measured here)", **FRONT))
    if any(row.printed for row in found):
        handles.append(Line2D([], [], color=style.GRAY, label="published (papers)", **PRINTED))
    return handles


def _caption(run: Run, found: list[Tradeoff], unlabelled: list[str]) -> str:
    names = {"parameters": "the number of parameters", "macs": "multiply-adds (MACs)",
             "latency": "the median latency (p50, ms)"}
    kinds = [kind for kind in COSTS if any(row.costs.get(kind) for row in found)]
    *others, last = [names[kind] for kind in kinds]
    sentences = [
        "PSNR (dB) against " + " and ".join(filter(None, [", ".join(others), last]))
        + " of the models measured here, one row per protocol and dataset ("
        + "; ".join(f"{r.protocol} on {run.dataset_title(r.dataset)}" for r in found)
        + "). Higher and further left is better. The step line is the Pareto front: the best "
        "PSNR that a model measured here reaches at this cost or less."]
    if any(row.lines for row in found):
        sentences.append("Models without weights are dashed lines, or only named if they are far "
                         "below. They count as 0 parameters in the front for parameters and are "
                         "not in the other fronts.")
    if seeds := family.seeded(cell for cell in run.rows if any(
            cell.model in row.psnr and cell.protocol == row.protocol for row in found)):
        sentences.append(seeds)
    sizes = sorted({row.conditions["macs"] for row in found if "macs" in row.conditions})
    if sizes:
        sentences.append(f"MACs are for an input of {' or '.join(sizes)} (batch, channels, height, "
                         "width).")
    hows = sorted({row.conditions["latency"] for row in found if "latency" in row.conditions})
    if hows:
        sentences.append(f"Latency was measured on: {'; '.join(hows)}. It depends on the machine "
                         "and its load: treat it as a guide.")
        sentences.append(latency.disturbances(run, [(row.protocol, model) for row in found
                                                    for model in row.costs.get("latency", {})],
                                              f"marked {text.DISTURBED!r}, not in the Pareto "
                                              "front"))
    if any(row.printed for row in found):
        sentences.append("Hollow stars are values from papers, at the published number of "
                         "parameters. They were not measured here, their other costs are not "
                         "shown, and they are not in the front. A star in the colour of a model "
                         "is the value of this model in its paper.")
    if found[0].synthetic:
        sentences.append("The degradations are synthetic; there are no published values for them.")
    missing = [f"{run.model_title(m)} on {row.protocol} ({name})" for row in found
               for kind, name in (("macs", "MACs"), ("latency", "latency")) if kind in kinds
               for m in row.psnr if m not in row.costs.get(kind, {})
               and not any(one.startswith(f"{run.model_title(m)}, {row.protocol}: {name}")
                           for one in row.apart)]
    if len(kinds) < len(COSTS):
        sentences.append("No model here has a known number of "
                         + " or ".join({"macs": "MACs", "latency": "ms of latency"}[kind]
                                       for kind in COSTS if kind not in kinds) + ".")
    if missing:
        sentences.append(f"Unknown, so not shown: {', '.join(dict.fromkeys(missing))}.")
    apart = dict.fromkeys(one for row in found for one in row.apart)
    if apart:
        sentences.append(f"Not comparable, so not shown: {'; '.join(apart)}.")
    for row in found:
        if row.leaking:
            names = ", ".join(run.model_title(m) for m in row.leaking)
            sentences.append(f"{row.protocol} on {run.dataset_title(row.dataset)}: {names} trained "
                             "on images of this test set.")
    if unlabelled:
        sentences.append("Without a label, because there was no room: "
                         f"{', '.join(dict.fromkeys(unlabelled))}.")
    return " ".join(filter(None, sentences))


def _alt(run: Run, found: list[Tradeoff]) -> str:
    words = {"parameters": text.parameters, "macs": lambda n: f"{text.si(n)} MACs",
             "latency": text.milliseconds}
    return "Scatter plots of PSNR against cost with Pareto fronts. " + " ".join(
        f"{row.protocol} on {run.dataset_title(row.dataset)}: " + "; ".join(
            f"{run.model_title(m)} {psnr:.2f} dB, " + ", ".join(
                words[kind](row.costs[kind][m]) for kind in COSTS
                if m in row.costs.get(kind, {}))
            for m, psnr in row.psnr.items()) + "." for row in found)
