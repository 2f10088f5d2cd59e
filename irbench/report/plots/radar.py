"""The radar plot: gain in PSNR on each set of a protocol, drawn only if it is informative.

A radar compares which model is better on which kind of images. It is drawn for a protocol if the
same two or more models with weights were scored on three or more sets and differ visibly. The
radius is the gain in dB over the only model without weights, so that every spoke has the same unit
and zero. With plain PSNR the spokes would differ by their images, not by the models.

Reads nothing but the collected run; writes ``figures/radar.png``, or one figure per task
or protocol if there are many.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from irbench.present import style, text
from irbench.report.facts import kinds
from irbench.report.plots import split
from irbench.report.run import Run

SETS, MODELS = 3, 2             # at least
VISIBLE = 0.1                   # share of the radius; a smaller difference is thinner than a line
MAX_PANELS = 6
COLUMNS = 3


@dataclass
class RadarPanel:
    """One protocol: the sets, and model -> gain in dB over ``base`` on each set."""

    protocol: str
    task: str
    base: str
    sets: list[str]
    gains: dict[str, list[float]] = field(default_factory=dict)

    @property
    def apart(self) -> float:
        """The spread of the models, as a share of the largest gain; 0 without any gain."""
        reach = max(abs(gain) for gains in self.gains.values() for gain in gains)
        spread = max(max(gains) - min(gains)
                     for gains in zip(*self.gains.values(), strict=True))
        return spread / reach if reach else 0.0


def panels(run: Run) -> list[RadarPanel]:
    """Return the protocols with an informative radar."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    tasks = {}
    for cell in run.rows:
        if "psnr" in cell.means and kinds.competes(run.models[cell.model]):
            found.setdefault(cell.protocol, {}).setdefault(cell.model, {})[
                cell.dataset] = cell.means["psnr"]
            tasks[cell.protocol] = cell.task
    kept = []
    for protocol, models in found.items():
        learned = {m: sets for m, sets in models.items() if run.models[m].learned}
        plain = {m: sets for m, sets in models.items() if m not in learned}
        if len(plain) != 1 or len(learned) < MODELS:        # the zero is missing or ambiguous
            continue
        (base, zero), = plain.items()
        sets = [name for name in zero if all(name in scored for scored in learned.values())]
        if len(sets) < SETS:
            continue
        panel = RadarPanel(protocol, tasks[protocol], base, sets, {
            m: [scored[name] - zero[name] for name in sets] for m, scored in learned.items()})
        if panel.apart >= VISIBLE:
            kept.append(panel)
    return kept


def draw(run: Run) -> style.Drawing:
    """Draw the plots; if there is nothing to draw, as is usual, the page does not mention it."""
    drawing = style.Drawing()
    parts = split.figures(panels(run), "radar", "Gain per set", MAX_PANELS)
    for named, part in split.asked(parts, run.plots, drawing.left_out).items():
        drawing.figures.append(_figure(run, part, *named))
    return drawing


def _figure(run: Run, found: list[RadarPanel], stem: str, title: str) -> style.Drawn:
    models = [m for m in run.models if any(m in panel.gains for panel in found)]
    hues, shapes = style.colors(list(run.models)), style.markers(list(run.models))
    with style.look():
        rows, columns = style.grid(len(found), COLUMNS)
        figure = style.figure(2.75 * rows, style.WIDTH * max(columns / COLUMNS, 0.6))
        axes = figure.subplots(rows, columns, squeeze=False,
                               subplot_kw={"projection": "polar"}).ravel()
        for ax in axes[len(found):]:
            ax.set_axis_off()
        for ax, panel in zip(axes, found, strict=False):
            _panel(ax, run, panel)
        style.legend(figure, [Line2D([], [], color=hues[m], marker=shapes[m], markersize=4,
                                     markeredgewidth=0, label=text.wrap(run.model_title(m), 44, 1))
                              for m in models], 3)
        style.save(figure, run.folder, stem, run.formats)
    return style.Drawn(stem, title, _caption(run, found), _alt(run, found))


def _panel(ax: Axes, run: Run, panel: RadarPanel) -> None:
    hues, shapes = style.colors(list(run.models)), style.markers(list(run.models))
    angles = [2 * math.pi * i / len(panel.sets) for i in range(len(panel.sets))]
    ax.set_theta_offset(math.pi / 2)
    ax.set_theta_direction(-1)
    for model, gains in panel.gains.items():
        ax.plot([*angles, angles[0]], [*gains, gains[0]], color=hues[model], linewidth=1.1,
                marker=shapes[model], markersize=4, markeredgewidth=0)
    gains = [gain for one in panel.gains.values() for gain in one]
    ax.set_ylim(min(0.0, 1.1 * min(gains)), 1.08 * max(max(gains), 0.0) or 1.0)
    if min(gains) < 0:
        around = [2 * math.pi * i / 90 for i in range(91)]
        ax.plot(around, [0.0] * 91, color=style.INK, linewidth=0.8, linestyle=(0, (4, 2)))
    ax.set_xticks(angles, [run.dataset_title(name) for name in panel.sets])
    ax.yaxis.set_major_locator(MaxNLocator(4))
    ax.yaxis.set_major_formatter(lambda gain, _: f"{gain:g} dB")
    ax.set_rlabel_position(180 / len(panel.sets))           # between two spokes
    ax.tick_params(axis="y", labelsize=style.SMALL, labelcolor=style.GRAY)
    for label in ax.get_yticklabels():                      # a line may pass below it
        label.set_bbox({"facecolor": "white", "alpha": 0.75, "pad": 0.4, "linewidth": 0})
    ax.spines["polar"].set_visible(False)
    ax.set_title(f"{run.protocol_title(panel.protocol)}\n", pad=16)
    ax.annotate(f"gain over {run.model_title(panel.base)}", (0, 1), (0, 17), va="bottom",
                xycoords="axes fraction", textcoords="offset points", fontsize=style.SMALL,
                color=style.GRAY)


def _caption(run: Run, found: list[RadarPanel]) -> str:
    bases = dict.fromkeys(run.model_title(panel.base) for panel in found)
    return (f"Gain in mean PSNR (dB) over {' or '.join(bases)}, which is named above each panel "
            "and is at 0; one spoke per set and one panel per protocol. All spokes have the same "
            "scale; nothing else is normalised. The sets are in the order of the plan, so areas "
            "have no meaning. Only protocols with three or more sets are drawn, if models with "
            f"weights differ by at least {VISIBLE:.0%} of the largest gain on some set.")


def _alt(run: Run, found: list[RadarPanel]) -> str:
    return "Radar plots of the gain in PSNR. " + " ".join(
        f"{panel.protocol}: " + "; ".join(
            f"{run.model_title(m)} " + ", ".join(
                f"{gain:.2f} dB on {run.dataset_title(name)}"
                for name, gain in zip(panel.sets, gains, strict=True))
            for m, gains in panel.gains.items()) + "." for panel in found)
