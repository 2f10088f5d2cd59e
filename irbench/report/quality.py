"""The figure of PSNR against parameters: one panel per protocol and dataset.

Measured models are filled bubbles whose area is their multiply-adds (MACs) for a named input;
figures from papers are hollow diamonds of one size. Models without weights are dashed lines.
Variants of a model have its weights and almost its place, so they are left to the figure of k and
the table of variants. Reads nothing but the collected run; writes ``figures/quality.{png,pdf}``, or
``figures/quality-<task>.{png,pdf}`` when there are many panels. Synthetic degradations have a
figure of their own, ``quality-synthetic``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

from irbench import published
from irbench.report import family, style, text, verdict
from irbench.report.collect import Cell, Run
from irbench.report.labels import Point, place

AREA = 420.0                    # of the largest bubble, in square points
MAX_PANELS = 12                 # in one figure; beyond, one figure per task
LEAST_DB = 0.5                  # height of a panel, in dB
PLAIN = 30.0                    # where MACs cannot be compared or are unknown


@dataclass
class Panel:
    """What one panel shows: model -> (parameters, PSNR, MACs or None), and so on."""

    protocol: str
    dataset: str
    level: str
    task: str
    bubbles: dict[str, tuple[int, float, int | None]] = field(default_factory=dict)
    lines: dict[str, float] = field(default_factory=dict)
    printed: dict[str, tuple[float, float]] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    synthetic: bool = False
    leaking: list[str] = field(default_factory=list)        # models trained on test images


def draw(run: Run) -> style.Drawing:
    """Draw the figure; nothing is written when no measured model has a place in it."""
    drawing = style.Drawing()
    panels, omitted = _panels(run)
    variants = [run.model_title(n) for names in family.variants(run).values() for n in names]
    if variants:
        drawing.left_out.append("Variants, which have the weights of their base, are not in the "
                                "figure of quality against parameters but in the table of "
                                f"variants: {', '.join(variants)}.")
    if omitted:
        drawing.left_out.append("Not in the figure of quality against parameters, for want of a "
                                f"count of parameters: {', '.join(omitted)}.")
    if not panels:
        drawing.left_out.append("There is no figure of quality against parameters: no model with "
                                "a PSNR has a known number of parameters.")
        return drawing
    for stem, title, kind in (("quality", "Quality against size", False), (
            "quality-synthetic", "Quality against size, synthetic degradations", True)):
        here = [panel for panel in panels if panel.synthetic == kind]
        tasks = list(dict.fromkeys(panel.task for panel in here))
        if len(here) <= MAX_PANELS or len(tasks) == 1:
            parts = {(stem, title): here} if here else {}
        else:
            parts = {(f"{stem}-{task}", f"{title}: {text.task_title(task)}"):
                     [panel for panel in here if panel.task == task] for task in tasks}
        drawing.figures += [_figure(run, part, *named) for named, part in parts.items()]
    return drawing


def _figure(run: Run, panels: list[Panel], stem: str, title: str) -> style.Drawn:
    comparable = {id(p) for p in panels if len(p.inputs) == 1}
    largest = max((m for p in panels if id(p) in comparable for _, _, m in p.bubbles.values()
                   if m), default=0)
    unlabelled: list[str] = []
    with style.look():
        wide = any(p.printed for p in panels)       # room for the labels of many methods
        rows, columns = style.grid(len(panels), 2 if wide or len(panels) == 4 else 3)
        figure = style.figure(0.75 + (2.9 if wide else 2.65) * rows,
                              style.WIDTH if columns > 1 else 4.2)
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for ax in axes[len(panels):]:
            ax.set_axis_off()
        drawn = [_panel(ax, run, panel, largest if id(panel) in comparable else 0)
                 for ax, panel in zip(axes, panels, strict=False)]
        _legend(figure, panels, largest)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        for ax, (points, busy) in zip(axes, drawn, strict=False):
            unlabelled += [point.text.replace("\n", " ") for point in place(ax, points, busy(ax))]
        style.save(figure, run.folder, stem)
    caption = _caption(panels, largest, unlabelled)
    for panel in panels:
        if panel.leaking:
            names = ", ".join(run.model_title(m) for m in panel.leaking)
            caption += (f" {panel.protocol} on {run.dataset_title(panel.dataset)}: {names} "
                        "trained on images of this test set.")
    return style.Drawn(stem, title, caption, _alt(run, panels))


def _panels(run: Run) -> tuple[list[Panel], list[str]]:
    panels: dict[tuple[str, str], Panel] = {}
    omitted: list[str] = []
    for cell in run.cells:
        psnr = cell.means.get("psnr")
        if psnr is None or not family.competes(run.models[cell.model]):
            continue
        panel = panels.setdefault((cell.protocol, cell.dataset), Panel(
            cell.protocol, cell.dataset, cell.level, cell.task, synthetic=cell.synthetic))
        if cell.leak:
            panel.leaking.append(cell.model)
        count = run.parameters(cell.protocol, cell.model)
        if count is None:
            name = f"{run.model_title(cell.model)} ({cell.protocol})"
            if name not in omitted:
                omitted.append(name)
        elif count == 0:
            panel.lines[cell.model] = psnr
        else:
            panel.bubbles[cell.model] = (count, psnr, _macs(run, cell, panel))
    kept = [panel for panel in panels.values() if panel.bubbles]
    for panel in kept:
        if not panel.synthetic:
            _add_published(run, panel)
    return kept, omitted


def _macs(run: Run, cell: Cell, panel: Panel) -> int | None:
    profile = run.profiles.get((cell.protocol, cell.model))
    if not profile or profile.result.get("macs") is None:
        return None
    size = text.input_size(profile.result.get("input") or {})
    if size not in panel.inputs:
        panel.inputs.append(size)
    return profile.result["macs"]


def _add_published(run: Run, panel: Panel) -> None:
    for row in published.rows(panel.task, {(panel.level, panel.dataset)}, run.published):
        figure = row.figures.get((panel.level, panel.dataset, "psnr"))
        params = row.params_m.get(panel.level)
        if figure and params and float(params) > 0:
            panel.printed.setdefault(row.method, (float(params) * 1e6, figure.value))


def _panel(ax: Axes, run: Run, panel: Panel, largest: int):
    """Draw one panel; returns the points to label and a function giving the boxes to avoid."""
    names = list(run.models)
    hues, shapes = style.colors(names), style.markers(names)
    points: list[Point] = []
    for model, (count, psnr, macs) in panel.bubbles.items():
        area = AREA * macs / largest if largest and macs else PLAIN
        ax.scatter([count], [psnr], s=area, color=hues[model], alpha=0.45, linewidth=0, zorder=3)
        ax.scatter([count], [psnr], s=14, color=hues[model], marker=shapes[model],
                   edgecolor="white", linewidth=0.5, zorder=4)
        points.append(Point(count, psnr, text.wrap(run.model_title(model), 20),
                            max(math.sqrt(area / math.pi), 2.2), hues[model], True, 6.5))
    # the methods rebuilt here get the free places first, in their model's colour
    printed = {method: (next((hues[m] for m in panel.bubbles if verdict.is_counterpart(
        run.models[m], method, run.blind(panel.protocol, m))), None), *point)
        for method, point in panel.printed.items()}
    for method, (hue, count, psnr) in sorted(printed.items(), key=lambda i: i[1][0] is None):
        ax.scatter([count], [psnr], s=11, facecolor="white", edgecolor=hue or style.GRAY,
                   marker="D", linewidth=0.7, zorder=3.7 if hue else 3.5)
        hue = hue or style.GRAY
        points.append(Point(count, psnr, method, 2.2, hue, size=5.2))
    low, high = _range([c for c, *_ in panel.bubbles.values()]
                       + [c for c, _ in panel.printed.values()])
    ax.set_xscale("log")
    ax.set_xlim(low, high)
    _heights(ax, [v for _, v, _ in panel.bubbles.values()] + list(panel.lines.values())
             + [v for _, v in panel.printed.values()])
    lines = []
    for model, psnr in sorted(panel.lines.items(), key=lambda item: item[1]):
        ax.axhline(psnr, color=hues[model], linestyle=(0, (4, 2)), linewidth=0.9, zorder=1.5)
        words = f"{text.wrap(run.model_title(model), 24, 1)} (no weights)"
        lines.append(ax.annotate(words, (1, psnr), (-2, 1.5), ha="right", fontsize=6,
                                 xycoords=("axes fraction", "data"), color=hues[model],
                                 textcoords="offset points"))
    style.log_ticks(ax.xaxis, text.si)
    ax.set_xlabel("Parameters (count, log scale)")
    ax.set_ylabel("PSNR (dB)")
    ax.set_title(f"{panel.protocol}\n")
    size = f"; MACs for {' and '.join(panel.inputs)}" if panel.inputs else ""
    ax.text(0, 1.025, run.dataset_title(panel.dataset) + size, transform=ax.transAxes,
            va="bottom", fontsize=6, color=style.GRAY)

    def busy(ax: Axes) -> list[Bbox]:
        renderer = ax.figure.canvas.get_renderer()
        boxes = [line.get_window_extent(renderer) for line in lines]
        for psnr in panel.lines.values():
            y = ax.transData.transform((low, psnr))[1]
            frame = ax.get_window_extent(renderer)
            boxes.append(Bbox.from_extents(frame.x0, y - 1, frame.x1, y + 1))
        return boxes
    return points, busy


def _heights(ax: Axes, psnrs: list[float]) -> None:
    """Set PSNR limits with room for labels; a tiny difference must not fill the panel."""
    low, high = min(psnrs), max(psnrs)
    pad = max(0.16 * (high - low), (LEAST_DB - (high - low)) / 2)
    ax.set_ylim(low - pad, high + pad)


def _range(counts: list[float]) -> tuple[float, float]:
    """Return limits with room for labels at both sides, at least a decade wide."""
    low, high = math.log10(min(counts)), math.log10(max(counts))
    pad = max(0.18 * (high - low), (1.0 - (high - low)) / 2, 0.3)
    return 10 ** (low - pad), 10 ** (high + pad)


def _legend(figure, panels: list[Panel], largest: int) -> None:
    handles = []
    if largest:
        for macs in _nice(largest):
            size = 2 * math.sqrt(AREA * macs / largest / math.pi)
            handles.append(Line2D([], [], linestyle="", marker="o", markersize=size,
                                  color=style.GRAY, alpha=0.45, markeredgewidth=0,
                                  label=f"{text.si(macs)} MACs"))
    handles.append(Line2D([], [], linestyle="", marker="o", markersize=4, color=style.INK,
                          label="measured here"))
    if any(p.printed for p in panels):
        handles.append(Line2D([], [], linestyle="", marker="D", markersize=3.4, color=style.GRAY,
                              markerfacecolor="white", markeredgewidth=0.7,
                              label="published (papers)"))
    if any(p.lines for p in panels):
        handles.append(Line2D([], [], color=style.GRAY, linestyle=(0, (4, 2)), linewidth=0.9,
                              label="no weights"))
    # a narrow figure has room for three beside each other
    ncols = len(handles) if figure.get_figwidth() >= style.WIDTH else 3
    figure.legend(handles=handles, loc="outside lower center", ncols=ncols, frameon=False,
                  columnspacing=2.0, labelspacing=1.2, handlelength=3.2, handletextpad=0.8,
                  borderpad=1.0)


def _nice(largest: int) -> list[float]:
    """Return up to three round sizes: about the largest, a quarter and a twentieth of it."""
    sizes = []
    for share in (0.05, 0.25, 1.0):
        power = 10 ** math.floor(math.log10(largest * share))
        size = max(s * power for s in (1, 2, 5) if s * power <= largest * share * 1.0001)
        if size not in sizes:
            sizes.append(size)
    return sizes


def _caption(panels: list[Panel], largest: int, unlabelled: list[str]) -> str:
    said = ["PSNR (dB) against the number of parameters, one panel per protocol and dataset; "
            "higher and further left is better."]
    if panels[0].synthetic:
        said.append("The degradations are synthetic; no published figure belongs to them.")
    sizes = sorted({size for p in panels for size in p.inputs})
    if largest:
        said.append("The area of a bubble is the model's multiply-adds (MACs) for the input named "
                    f"at each panel (batch, channels, height, width): {', '.join(sizes)}.")
    if any(len(p.inputs) > 1 for p in panels):
        said.append("Where models of a panel were profiled on different inputs, all markers have "
                    "one size, because their MACs do not compare.")
    if any(macs is None for p in panels for _, _, macs in p.bubbles.values()):
        said.append("Models whose MACs are unknown have a bubble of a fixed small size.")
    if any(p.printed for p in panels):
        said.append("Hollow diamonds are figures from papers, drawn at their printed parameters; "
                    "they were not measured here and their MACs are not shown. One in a model's "
                    "colour is that model's figure in its paper.")
    if unlabelled:
        said.append(f"Unlabelled for want of room: {', '.join(dict.fromkeys(unlabelled))}.")
    return " ".join(said)


def _alt(run: Run, panels: list[Panel]) -> str:
    return "Scatter plots of PSNR against parameters. " + " ".join(
        f"{p.protocol} on {run.dataset_title(p.dataset)}: " + ", ".join(
            f"{run.model_title(m)} {text.parameters(c)} {v:.2f} dB"
            for m, (c, v, _) in p.bubbles.items()) + "." for p in panels)
