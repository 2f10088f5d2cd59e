"""Visual comparison: one enlarged window of the input, of the result of every model, of the target.

The window is where the results differ most, so the figure shows a difference if there is one
(``window``). Below each crop are the scores of the whole image, and below them the error map: the
difference to the target, on one scale for the figure. Reads the images under ``images/`` of the
run; writes ``figures/crops-<protocol>-<dataset>.png``.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from irbench.core import metrics
from irbench.present import style, text
from irbench.report.facts import kinds
from irbench.report.plots import split, window
from irbench.report.run import Cell, Run

PER_LINE = 6                    # crops beside the whole image
INPUT = "Input"                 # title of the degraded image
FRAME = (("white", 2.2), ("black", 0.8))        # one line inside the other, visible on any picture
ERRORS = "magma"                # perceptually uniform, and readable in gray
LEAST_ERROR = 8                 # levels: least end of the scale, so that rounding stays invisible
SHARE = 0.995                   # share of the pixels within the scale; the rest gets its end colour
TITLE_LINES = 3
# inches
MAX_SIDE = 1.3                  # of a crop, so that few do not fill a page
GAP, TITLE, LINE, SCORES, SKIP = 0.06, 0.18, 0.11, 0.27, 0.08


class Version(NamedTuple):
    """One version of an image: its title, its file, and the scores of the image, or {}."""

    label: str
    path: Path
    scores: dict[str, float]


@dataclass(frozen=True)
class VisualComparison:
    """An image with its versions, and the window in which the models' results differ most.

    ``top``, ``left`` and ``side`` are in pixels of the target; the input is ``scale`` times
    smaller. ``versions``: the input if it was kept (unless a model returns it, which then shows it
    with scores), the result of each model, the target.
    """

    protocol: str
    dataset: str
    name: str
    top: int
    left: int
    side: int
    scale: int
    versions: list[Version]
    cells: list[Cell] = field(repr=False, default_factory=list)     # in the order of the versions
    judged: tuple[str, ...] = ()    # the models whose results determined the window
    searched: tuple[int, int] = (0, 0)      # number of images searched, and of all images

    @functools.cached_property
    def tiles(self) -> list[Tile]:
        """The window of each version, the target last; figure and page show the same."""
        return tiles(self)

    @property
    def stem(self) -> str:
        """The name of its figure's files, without suffix."""
        return f"crops-{self.protocol}-{self.dataset}"


@dataclass
class Crops(style.Drawing):
    """The figures, and all comparisons, drawn or not."""

    comparisons: list[VisualComparison] = field(default_factory=list)


def comparisons(run: Run) -> list[VisualComparison]:
    """Return one comparison for each protocol and dataset with kept images."""
    return _compare(run)[0]


def _compare(run: Run) -> tuple[list[VisualComparison], list[str]]:
    """Return the comparisons, and sentences on cells without one."""
    groups: dict[tuple[str, str], list[Cell]] = {}
    variants, without = set(), []
    for cell in run.rows:
        if kinds.competes(run.models[cell.model]):
            groups.setdefault((cell.protocol, cell.dataset), []).append(cell)
        elif any(image.get("file") for image in cell.images):
            variants.add(run.model_title(cell.model))
    left_out = [f"No crops for variants, which use the weights of their base: "
                f"{', '.join(sorted(variants))}."] if variants else []
    found = []
    for (protocol, dataset), cells in groups.items():
        shown = [c for c in cells if window.files(run.folder, c)]
        names = [n for n in window.names(shown)
                 if window.reserved(run.folder, protocol, dataset, window.TARGET, n)]
        if not names and window.names(shown):
            left_out.append(f"{_place(run, cells[0])}: no crops, because the set has no targets; "
                            "the restored images are in the run's folder images.")
            continue
        if not names:
            without.append(_place(run, cells[0]))
            continue
        judged = window.compared(shown, run.models)
        choice = window.choose(run.folder, judged, names)
        if choice is None or not _fits(run, shown, choice):
            left_out.append(f"{_place(run, cells[0])}: no crops, because the kept images of the "
                            "models and the target differ in size.")
            continue
        found.append(_comparison(run, shown, judged, choice, names))
    if without:
        left_out.append("No crops, because no images were kept (set keep_images in the config): "
                        f"{', '.join(without)}.")
    return found, left_out


def _place(run: Run, cell: Cell) -> str:
    return (f"{cell.protocol} on {run.dataset_title(cell.dataset)}"
            + " (synthetic degradation)" * cell.synthetic)


def _fits(run: Run, cells: list[Cell], choice: window.Window) -> bool:
    """Return whether every result for the chosen image has the shape of the target."""
    shapes = {window.shape(path) for path in (
        window.reserved(run.folder, cells[0].protocol, cells[0].dataset, window.TARGET,
                        choice.name),
        *(window.files(run.folder, cell)[choice.name] for cell in cells))}
    return len(shapes) == 1


def _comparison(run: Run, cells: list[Cell], judged: list[Cell], choice: window.Window,
                names: list[str]) -> VisualComparison:
    protocol, dataset = cells[0].protocol, cells[0].dataset
    versions = []
    for cell in cells:
        image = next(i for i in cell.images if str(i["name"]) == choice.name)
        versions.append(Version(
            run.model_title(cell.model), window.files(run.folder, cell)[choice.name],
            {m: image[m] for m in metrics.METRICS if image.get(m) is not None}))
    degraded = window.reserved(run.folder, protocol, dataset, window.INPUT, choice.name)
    if degraded:
        # under a scale that is not whole, no part of the input is the same region
        sides = tuple(choice.scale * side for side in window.shape(degraded)[:2])
        if sides == window.shape(versions[0].path)[:2] and not _returned(degraded, versions):
            versions.insert(0, Version(INPUT, degraded, {}))
    target = window.reserved(run.folder, protocol, dataset, window.TARGET, choice.name)
    versions.append(Version("Target", target, {}))
    return VisualComparison(protocol, dataset, choice.name, choice.top, choice.left, choice.side,
                      choice.scale, versions, cells, tuple(cell.model for cell in judged),
                      (min(len(names), window.SEARCHED),
                       len(window.files(run.folder, cells[0]))))


def _returned(degraded: Path, versions: list[Version]) -> bool:
    """Return whether a model returns its input."""
    alike = [one.path for one in versions if window.shape(one.path) == window.shape(degraded)]
    pixels = window.load(degraded) if alike else None
    return any(np.array_equal(pixels, window.load(path)) for path in alike)


def draw(run: Run) -> Crops:
    """Draw one figure per comparison."""
    found, left_out = _compare(run)
    drawing = Crops(left_out=left_out, comparisons=found)
    shown = split.asked({one.stem: one for one in found}, run.plots, drawing.left_out)
    for one in shown.values():
        end, beyond = _figure(run, one, one.stem)
        drawing.figures.append(style.Drawn(
            one.stem, _place(run, one.cells[0]), _caption(run, one, end, beyond), _alt(one)))
    return drawing


# -- drawing -------------------------------------------------------------------------------------

@dataclass
class Tile:
    """A crop as shown: (S, S) or (S, S, 3) uint8, the text below it, its error in levels."""

    title: str
    crop: np.ndarray
    below: str
    error: np.ndarray | None = None


def error(crop: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return |crop - target| in levels of 255, float (H, W): the mean over colour channels."""
    apart = np.abs(crop.astype(np.int64) - target.astype(np.int64))
    return apart.astype(float) if apart.ndim == 2 else apart.mean(axis=2)


def scale_end(errors: list[np.ndarray]) -> int:
    """Return the end of the error scale for all maps: a round number of levels of 255."""
    together = np.concatenate([one.ravel() for one in errors])
    wanted = max(float(np.quantile(together, SHARE)), LEAST_ERROR)
    return next((end for end in (8, 12, 16, 20, 32, 40, 60, 80, 120, 160, 200) if end >= wanted),
                255)


def tiles(one: VisualComparison) -> list[Tile]:
    """Return the window of each version of a comparison, the target last."""
    target = _cut(window.load(one.versions[-1].path), one.top, one.left, one.side)
    made = []
    for version in one.versions[:-1]:
        image, s = window.load(version.path), one.scale
        if (version.label, version.scores) != (INPUT, {}):
            crop = _cut(image, one.top, one.left, one.side)
            made.append(Tile(version.label, crop, scores(version), error(crop, target)))
        elif s > 1:
            part = _cut(image, one.top // s, one.left // s, one.side // s)
            made.append(Tile(INPUT, part.repeat(s, axis=0).repeat(s, axis=1),
                             f"enlarged {text.TIMES}{s},\nnearest"))
        else:
            crop = _cut(image, one.top, one.left, one.side)
            made.append(Tile(INPUT, crop, "as the\nmodels see it",
                             error(crop, target) if crop.shape == target.shape else None))
    return [*made, Tile("Target", target, "")]


def error_scale(made: list[Tile]) -> tuple[int, bool]:
    """Return the end of the error scale of tiles in levels of 255, and whether errors exceed it."""
    errors = [tile.error for tile in made if tile.error is not None]
    end = scale_end(errors)
    return end, any(bool((one > end).any()) for one in errors)


def scores(version: Version) -> str:
    """Return the text below a crop: the scores of the whole image, one per line."""
    return "\n".join(
        f"{one.title} {text.NA}" if version.scores.get(one.name) is None
        else one.worded(version.scores[one.name]) for one in map(metrics.get, metrics.main()))


def _figure(run: Run, one: VisualComparison, stem: str) -> tuple[int, bool]:
    """Draw a comparison; return the end of the error scale, and whether errors exceed it."""
    whole = window.load(one.versions[-1].path)
    made = one.tiles
    end, beyond = error_scale(made)
    lines = -(-len(made) // PER_LINE)
    columns = -(-len(made) // lines)
    # the whole image at the left, square crops beside it with their errors below; in inches
    share = min(max(whole.shape[1] / whole.shape[0] * 2 * lines, 0.8), 1.75 + 0.4 * (lines > 1))
    side = min((style.WIDTH - GAP * (columns + 1)) / (columns + share), MAX_SIDE)
    titles = [text.wrap(tile.title, int(side * 72 / 4.2), TITLE_LINES) for tile in made]
    top = TITLE + LINE * max(title.count("\n") for title in titles)
    line = top + 2 * side + SCORES + SKIP
    with style.look():
        figure = style.figure(lines * line, columns * (side + GAP) + share * side + GAP,
                              arranged=False)
        ax = _axes(figure, 0.01, top, share * side, lines * line - top - SKIP)
        _show(ax, whole)
        ax.set_anchor("N")
        for colour, width in FRAME:
            ax.add_patch(Rectangle((one.left - 0.5, one.top - 0.5), one.side, one.side,
                                   fill=False, edgecolor=colour, linewidth=width))
        ax.set_title(text.wrap(one.name, 24, 1), loc="center", fontsize=6.5, fontweight="normal",
                     pad=3)
        for index, tile in enumerate(made):
            row, column = divmod(index, columns)
            x, y = share * side + GAP + column * (side + GAP), row * line + top
            ax = _axes(figure, x, y, side, side)
            _show(ax, tile.crop)
            ax.set_title(titles[index], loc="center", fontsize=6.5, pad=3)
            ax.set_xlabel(tile.below, fontsize=style.SMALL, labelpad=2.5, linespacing=1.1)
            y += side + SCORES
            if tile.error is not None:
                shown = _show(_axes(figure, x, y, side, side), tile.error, end, ERRORS)
            elif index == len(made) - 1:
                _scale(figure, shown, x, y, side, end, beyond)
            else:
                ax.annotate("no error map:\nfewer pixels\nthan the target", (0.5, 0),
                            (0, -72 * (SCORES + side / 2)), xycoords="axes fraction",
                            textcoords="offset points", ha="center", va="center",
                            fontsize=style.SMALL, color=style.GRAY, annotation_clip=False)
        style.save(figure, run.folder, stem, run.formats)
    return end, beyond


def _axes(figure: Figure, x: float, y: float, width: float, height: float) -> Axes:
    """Return axes whose upper left corner lies at (x, y) inches from the figure's."""
    wide, high = figure.get_size_inches()
    return figure.add_axes((x / wide, 1 - (y + height) / high, width / wide, height / high))


def _scale(figure: Figure, shown, x: float, y: float, side: float, end: int,
           beyond: bool) -> None:
    """Draw the error scale below the target, which has no error map."""
    pad = side * 0.09 if beyond else 0.02
    ax = _axes(figure, x + 0.06, y + pad, 0.09, side - pad - 0.02)
    bar = figure.colorbar(shown, cax=ax, extend="max" if beyond else "neither",
                          extendfrac=0.07, ticks=[round(end * i / 4) for i in range(5)])
    bar.ax.tick_params(labelsize=style.SMALL, length=2, pad=1.5)
    bar.set_label("|result \N{MINUS SIGN} target|\n(levels of 255)", fontsize=style.SMALL,
                  labelpad=2)
    bar.outline.set_linewidth(0.4)


def _show(ax: Axes, image: np.ndarray, end: int = 255, colours: str = "gray"):
    made = ax.imshow(image, cmap=colours, vmin=0, vmax=end, interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(visible=False)
    for spine in ax.spines.values():
        spine.set_linewidth(0.4)
    return made


def _cut(image: np.ndarray, top: int, left: int, side: int) -> np.ndarray:
    return image[top:top + side, left:left + side]


def _caption(run: Run, one: VisualComparison, end: int, beyond: bool) -> str:
    titles = [run.model_title(model) for model in one.judged]
    models = f" of {text.listed(titles)}" if len(titles) < len(one.cells) else ""
    how = (f"the results{models} differ most (largest mean variance over these models"
           if len(titles) > 1 else
           "the only result differs most from the target (largest mean squared difference")
    sentences = [
        f"{_place(run, one.cells[0])}: image {one.name}, {one.side}{text.TIMES}{one.side} "
        f"pixels from row {one.top}, column {one.left}, enlarged by repeating pixels. This is the "
        f"window where {how}, among {one.searched[0]} of {one.searched[1]} images; ties go "
        "to the first). Below each crop: PSNR and SSIM of the whole image under the protocol, "
        "not of the crop. Below them: the error of the crop, |result \N{MINUS SIGN} target| "
        "of 8-bit pixels" + (", mean over the colours" if _coloured(one) else "")
        + f", on one scale from 0 to {end} levels of 255"
        + ("; larger errors have the brightest colour." if beyond else ".")]
    if one.scale > 1:
        sentences.append(f"The input is enlarged {text.TIMES}{one.scale} and has no error map.")
    elif one.cells[0].task.startswith("denoise"):
        sentences.append("The input is shown clipped to 0-255.")
    absent = [run.model_title(c.model) for c in run.rows
              if (c.protocol, c.dataset) == (one.protocol, one.dataset)
              and kinds.competes(run.models[c.model]) and c not in one.cells]
    if absent:
        sentences.append(f"Models without kept images: {', '.join(absent)}.")
    return " ".join(sentences)


def _coloured(one: VisualComparison) -> bool:
    return len(window.shape(one.versions[-1].path)) == 3


def _alt(one: VisualComparison) -> str:
    shown = ", ".join(version.label + "".join(
        f" ({metrics.get(m).title} {text.value(m, v)})" for m, v in version.scores.items()
        if m == "psnr") for version in one.versions)
    return f"Crops of {one.name} with maps of their errors: {shown}."
