"""Plots of per-image PSNR: every image of a set under every model, and paired differences.

One row per protocol and dataset with two or more models that were scored on the same images. Left:
the PSNR of each image, joined across models if there are few images. Right: the difference of each
image to the best model. It is more informative than the spread of the PSNR, because images differ
far more than models. Whether a mean difference is significant is decided as in the tables
(``irbench.core.statistics``).

Reads nothing but the collected run; writes ``figures/distributions.png``, or one figure
per task or protocol if there are many rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from irbench.core import metrics, statistics
from irbench.present import style, text
from irbench.report.facts import family, kinds
from irbench.report.plots import split
from irbench.report.run import Cell, Run

JOINED = 12                     # images; more lines would be unreadable
LEAST = 2                       # images; one image has no distribution
LEAST_DB = 0.2                  # least width of a panel, so that a tiny difference does not fill it
PSNR = metrics.get("psnr")
VERDICTS = {statistics.REAL: "significant", statistics.NOISE: statistics.NOISE,
            statistics.SAME: statistics.SAME}   # as readers know them
NAME = 24                       # letters in a line of a model's name
HEIGHT, LINE = 0.22, 0.1        # inches per model, and per line of its name
ABOVE, BELOW = 0.42, 0.43       # inches of a row for its title, and for its axis
PAD, APART, WORDS, LEGEND = 0.12, 0.2, 0.9, 0.3   # inches: of labels, panels, verdicts, the legend
SHARE = 0.53                    # of the panels' width: the left one
GOLDEN = 0.6180339887           # spreads points evenly without random numbers


@dataclass
class ImageScores:
    """One protocol and dataset: model -> PSNR (dB) of each image, models in the order shown."""

    protocol: str
    dataset: str
    task: str
    images: list[str]
    psnr: dict[str, np.ndarray] = field(default_factory=dict)       # (N,), the best mean first
    against: dict[str, np.ndarray] = field(default_factory=dict)    # (N,), model minus the best
    verdicts: dict[str, statistics.Paired] = field(default_factory=dict)    # on ``against``

    @property
    def best(self) -> str:
        """The model with the highest mean."""
        return next(iter(self.psnr))


def rows(run: Run) -> list[ImageScores]:
    """Return the protocols and datasets that can be compared image by image."""
    groups: dict[tuple[str, str], dict[str, Cell]] = {}
    for cell in run.rows:
        if "psnr" in cell.means and kinds.competes(run.models[cell.model]):
            groups.setdefault((cell.protocol, cell.dataset), {})[cell.model] = cell
    found = []
    for (protocol, dataset), cells in groups.items():
        first = next(iter(cells.values()))
        names = [str(image["name"]) for image in first.images]
        scores = {model: cell.scores("psnr") for model, cell in cells.items()}
        # a different number of images means a different set, even under the same name
        scores = {model: by_name for model, by_name in scores.items() if set(by_name) == set(names)}
        if len(scores) < 2 or len(names) < LEAST:
            continue
        row = ImageScores(protocol, dataset, first.task, names)
        psnr = {model: np.array([by_name[name] for name in names], float)
                for model, by_name in scores.items()}
        row.psnr = dict(sorted(psnr.items(), key=lambda item: -item[1].mean()))
        learned = [m for m in row.psnr if run.models[m].learned]
        # the large distance of a noisy input would hide the distances between networks
        shown = [m for m in row.psnr if m in learned or len(learned) < 2]
        row.against = {m: row.psnr[m] - row.psnr[row.best] for m in shown if m != row.best}
        found.append(row)
    return found


def judge(found: list[ImageScores]) -> int:
    """Set the verdicts of the rows of one figure, as one family; return the number of comparisons.
    """
    tests = [(row, model, statistics.verdict(values.tolist(), row.protocol, row.dataset, model,
                                             row.best, least=PSNR.alike))
             for row in found for model, values in row.against.items()]
    for (row, model, _), verdict in zip(tests, statistics.corrected(
            [one for *_, one in tests]), strict=True):
        row.verdicts[model] = verdict
    return sum(one.tested for *_, one in tests)


def draw(run: Run) -> style.Drawing:
    """Draw the plots; write nothing if no two models were scored on the same images."""
    drawing = style.Drawing()
    parts = split.figures(rows(run), "distributions", "PSNR of each image", style.HEIGHT,
                          lambda row: _height(run, row))
    for named, part in split.asked(parts, run.plots, drawing.left_out).items():
        drawing.figures.append(_figure(run, part, *named))
    return drawing


def _figure(run: Run, found: list[ImageScores], stem: str, title: str) -> style.Drawn:
    comparisons = judge(found)
    with style.look():
        heights = [_height(run, row) for row in found]
        figure = style.figure(sum(heights) + LEGEND, arranged=False)
        margin = _margin(figure, run, found)
        for row, top in zip(found, accumulate(heights, initial=0.0), strict=False):
            left, right = _panels(figure, margin, top, _height(run, row))
            _images(left, run, row)
            _differences(right, run, row)
        handles = [Line2D([], [], linestyle="", marker="o", markersize=3, color=style.GRAY,
                          label="one image"),
                   Line2D([], [], linestyle="", marker="|", markersize=9, markeredgewidth=1.6,
                          color=style.INK, label="mean")]
        if any(len(row.images) > JOINED for row in found):
            handles.append(Line2D([], [], color=style.GRAY, alpha=0.35, linewidth=5,
                                  label="quartiles; line: 5 to 95 %"))
        handles.append(Line2D([], [], color=style.INK, linewidth=1.2,
                              label="95 % interval of the mean difference"))
        figure.legend(handles=handles, loc="lower center", ncols=4, frameon=False)
        style.save(figure, run.folder, stem, run.formats)
    return style.Drawn(stem, title, _caption(run, found, comparisons), _alt(run, found))


def _margin(figure: Figure, run: Run, found: list[ImageScores]) -> float:
    """Return the inches that the names of the models need at the left."""
    renderer, font = figure.canvas.get_renderer(), FontProperties(size=rcParams["ytick.labelsize"])
    lines = {line for row in found for model in row.psnr for line in _name(run, model).split("\n")}
    return PAD + max(renderer.get_text_width_height_descent(line, font, False)[0] / figure.dpi
                     for line in lines | {"mean 00.00 dB"})


def _panels(figure: Figure, margin: float, top: float, height: float) -> tuple[Axes, Axes]:
    """Return the two panels of a row, which begins ``top`` inches below the figure's upper edge."""
    wide, high = figure.get_size_inches()
    room = wide - margin - APART - WORDS
    place = (1 - (top + height - BELOW) / high, (height - ABOVE - BELOW) / high)
    left, right = (figure.add_axes((x / wide, place[0], width / wide, place[1]))
                   for x, width in ((margin, room * SHARE),
                                    (margin + room * SHARE + APART, room * (1 - SHARE))))
    return left, right


def _name(run: Run, model: str) -> str:
    return text.wrap(run.model_title(model), NAME)


def _height(run: Run, row: ImageScores) -> float:
    """Return the height of the panels of a row in inches."""
    return ABOVE + BELOW + sum(HEIGHT + LINE * (1 + _name(run, model).count("\n"))
                               for model in row.psnr)


def _images(ax: Axes, run: Run, row: ImageScores) -> None:
    """Draw the PSNR of every image under every model, one line of the panel per model."""
    hues, shapes = style.colors(list(run.models)), style.markers(list(run.models))
    if len(row.images) <= JOINED:
        for values in np.stack(list(row.psnr.values()), axis=1):        # (models,) of an image
            ax.plot(values, range(len(values)), color=style.GRAY, linewidth=0.5, alpha=0.6,
                    zorder=2)
    for height, (model, values) in enumerate(row.psnr.items()):
        _points(ax, values, height, hues[model], shapes[model], len(row.images) > JOINED)
    ax.set_yticks(range(len(row.psnr)), [
        f"{_name(run, model)}\nmean {values.mean():.2f} dB"
        for model, values in row.psnr.items()])
    ax.set_xlabel("PSNR of an image (dB)")
    ax.set_title(f"{run.protocol_title(row.protocol)}\n")
    _heading(ax, f"{run.dataset_title(row.dataset)}, {len(row.images)} images")
    _frame(ax, len(row.psnr))


def _differences(ax: Axes, run: Run, row: ImageScores) -> None:
    """Draw the difference of each image to the best model, with mean and verdict."""
    hues, shapes = style.colors(list(run.models)), style.markers(list(run.models))
    heights = {model: height for height, model in enumerate(row.psnr)}
    ax.axvline(0, color=hues[row.best], linewidth=1, zorder=1.5)
    together = np.concatenate([*row.against.values(), [0.0]])
    low, high = together.min(), together.max()
    pad = max(0.06 * (high - low), (LEAST_DB - (high - low)) / 2)
    ax.set_xlim(low - pad, high + pad)
    for model, values in row.against.items():
        height = heights[model]
        _points(ax, values, height, hues[model], shapes[model], len(row.images) > JOINED)
        verdict = row.verdicts[model]
        if verdict.low is not None and verdict.word != statistics.SAME:
            ax.plot([verdict.low, verdict.high], [height + 0.33] * 2, color=style.INK,
                    linewidth=1.2, zorder=5, solid_capstyle="butt")
        ax.text(1.02, height, f"{PSNR.difference(verdict.mean)} dB\n{VERDICTS[verdict.word]}",
                transform=ax.get_yaxis_transform(), va="center", fontsize=style.SMALL)
    ax.text(1.02, heights[row.best], "the best", transform=ax.get_yaxis_transform(), va="center",
            fontsize=style.SMALL, color=style.GRAY)
    for model in set(row.psnr) - set(row.against) - {row.best}:
        ax.text(1.02, heights[model], "no weights,\nnot shown", va="center", fontsize=style.SMALL,
                transform=ax.get_yaxis_transform(), color=style.GRAY)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.set_xlabel("Difference of an image (dB)")
    ax.set_title("\n")
    _heading(ax, f"to {text.wrap(run.model_title(row.best), 44, 1)}")
    ax.set_yticks(range(len(row.psnr)), [])
    _frame(ax, len(row.psnr))


def _points(ax: Axes, values: np.ndarray, height: int, hue: tuple, marker: str,
            many: bool) -> None:
    """Draw the images of one model at one height; if many, spread them and add quartiles."""
    spread = ((np.arange(len(values)) * GOLDEN) % 1 - 0.5) * 0.36 if many else np.zeros(len(values))
    ax.plot(values, height + spread, linestyle="", marker=marker, color=hue, zorder=3,
            markersize=2.2 if many else 3.6, markeredgewidth=0, alpha=0.55 if many else 0.9)
    if many:
        ends = np.quantile(values, (0.05, 0.25, 0.75, 0.95))
        ax.plot(ends[[0, 3]], [height] * 2, color=hue, linewidth=0.8, zorder=2.5, alpha=0.8)
        ax.plot(ends[[1, 2]], [height] * 2, color=hue, linewidth=6, zorder=2.5, alpha=0.3,
                solid_capstyle="butt")
    ax.plot([values.mean()], [height], linestyle="", marker="|", markersize=11,
            markeredgewidth=1.6, color=style.INK, zorder=4)


def _frame(ax: Axes, models: int) -> None:
    ax.set_ylim(models - 0.45, -0.55)
    ax.grid(axis="y", visible=False)
    ax.tick_params(axis="y", length=0)
    style.open_frame(ax, left=False)


def _heading(ax: Axes, words: str) -> None:
    ax.annotate(words, (0, 1), (0, 4), xycoords="axes fraction", textcoords="offset points",
                fontsize=style.SMALL, color=style.GRAY, va="bottom")


def _caption(run: Run, found: list[ImageScores], comparisons: int) -> str:
    counts = "; ".join(f"{row.protocol} on {run.dataset_title(row.dataset)}: {len(row.images)}"
                       for row in found)
    few = any(len(row.images) <= JOINED for row in found)
    fewest = [row for row in found if len(row.images) < statistics.FEWEST]
    few_images = text.few_images()
    shown = {model for row in found for model in row.psnr}
    return " ".join(filter(None, [
        "Left: PSNR (dB) of every image under every model; the model with the best mean is at the "
        "top. Right: difference of each image to that model. Number of images: " + counts + ".",
        f"Up to {JOINED} images are joined across models, one line per image." if few else "",
        "At the right edge: the mean difference, with its 95 % bootstrap interval (of this mean "
        "alone) as a black line below the points. It is significant if "
        f"{text.significance(comparisons, 'figure')}; there is \"no change\" "
        f"if no image differs by more than {PSNR.alike} dB.",
        f"{few_images[0].upper()}{few_images[1:]}." if fewest else "",
        family.seeded(cell for cell in run.rows if cell.model in shown),
        "If two models have weights, the differences omit models without weights."
        if any(len(row.against) + 1 < len(row.psnr) for row in found) else ""]))


def _alt(run: Run, found: list[ImageScores]) -> str:
    return "Dot plots of PSNR per image. " + " ".join(
        f"{row.protocol} on {run.dataset_title(row.dataset)}: " + "; ".join(
            f"{run.model_title(m)} {v.min():.2f} to {v.max():.2f} dB, mean {v.mean():.2f} dB"
            + (f", {PSNR.difference(row.verdicts[m].mean)} dB to the best "
               f"({VERDICTS[row.verdicts[m].word]})" if m in row.against else "")
            for m, v in row.psnr.items()) + "." for row in found)
