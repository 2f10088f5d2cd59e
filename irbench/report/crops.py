"""Visual crops: the same zoomed window of the input, of every model's result and of the target.

The window is where the results differ most, so that the figure shows a difference if there is
one; it is found with integers, so that the choice is the same on every machine. Reads the images
under ``images/`` of the run; writes ``figures/crops-<protocol>-<dataset>.{png,pdf}``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.gridspec import GridSpec
from matplotlib.patches import Rectangle
from PIL import Image

from irbench.report import family, style, text
from irbench.report.collect import Cell, Run

WINDOW = 96                     # pixels of the target; at most a third of its shorter side
SEARCHED = 24                   # images of a dataset looked at, in the record's order
PER_LINE = 6                    # crops beside the whole image
INPUT, TARGET = "_input", "_target"


@dataclass(frozen=True)
class Choice:
    """One window: image name, file name, top, left, side in target pixels, scale of the input."""

    name: str
    file: str
    top: int
    left: int
    side: int
    scale: int
    score: int


def draw(run: Run) -> style.Drawing:
    """Draw one figure per protocol and dataset whose images were kept."""
    drawing = style.Drawing()
    groups: dict[tuple[str, str], list[Cell]] = {}
    variants = set()
    for cell in run.cells:
        if family.competes(run.models[cell.model]):
            groups.setdefault((cell.protocol, cell.dataset), []).append(cell)
        elif any(image.get("file") for image in cell.images):
            variants.add(run.model_title(cell.model))
    if variants:
        drawing.left_out.append("No crops of variants, which have the weights of their base: "
                                f"{', '.join(sorted(variants))}.")
    without = []
    for (protocol, dataset), cells in groups.items():
        place = f"{protocol} on {run.dataset_title(dataset)}"
        if cells[0].synthetic:
            place += " (synthetic degradation)"
        shown = [c for c in cells if _files(run.folder, c)]
        names = [n for n in _names(shown) if _file(run.folder, protocol, dataset, TARGET, n)]
        if not names:
            without.append(place)
            continue
        found = _choose(run.folder, shown, names)
        if found is None:
            drawing.left_out.append(f"{place}: no crops, because the kept images of the models "
                                    "and the target differ in size.")
            continue
        stem = f"crops-{protocol}-{dataset}"
        _figure(run, shown, found, stem)
        drawing.figures.append(_drawn(run, shown, found, stem, place, len(names),
                                      len(_files(run.folder, shown[0]))))
    if without:
        drawing.left_out.append("No crops for want of kept images (keep_images in the config): "
                                f"{', '.join(without)}.")
    return drawing


# -- finding images ------------------------------------------------------------------------------

def _files(folder: Path, cell: Cell) -> dict[str, Path]:
    """Return the kept images of a cell that lie in the run folder: name -> path."""
    found = {}
    for image in cell.images:
        file = image.get("file")
        if file:
            path = (folder / str(file)).resolve()
            if path.is_relative_to(folder.resolve()) and path.is_file():
                found[str(image["name"])] = path
    return found


def _names(cells: list[Cell]) -> list[str]:
    """Return the image names with a record in every cell, in the first record's order."""
    if not cells:
        return []
    others = [{str(image["name"]) for image in cell.images if image.get("file")}
              for cell in cells]
    return [str(i["name"]) for i in cells[0].images
            if all(str(i["name"]) in names for names in others)]


def _file(folder: Path, protocol: str, dataset: str, part: str, name: str) -> Path | None:
    """Return the file of the reserved names, which is named as the models' results are."""
    for candidate in (f"{name}.png", name):
        path = folder / "images" / protocol / dataset / part / candidate
        if path.is_file():
            return path
    return None


def _load(path: Path) -> np.ndarray:
    """Return an image as uint8 (H, W) or (H, W, 3)."""
    with Image.open(path) as image:
        return np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"))


# -- choosing the window -------------------------------------------------------------------------

def disagreement(images: list[np.ndarray]) -> np.ndarray:
    """Return, per pixel, M² times the variance over M uint8 images, summed over channels.

    Integers (int64), so that no rounding decides a tie. ``images``: each (H, W) or (H, W, C).
    """
    total = np.zeros(images[0].shape, np.int64)
    squares = np.zeros_like(total)
    for image in images:
        wide = image.astype(np.int64)
        total += wide
        squares += wide * wide
    spread = len(images) * squares - total * total
    return spread if spread.ndim == 2 else spread.sum(axis=2)


def window(spread: np.ndarray, side: int, step: int = 1) -> tuple[int, int, int]:
    """Return (top, left, score) of the window with the largest sum; ties go to the first.

    Tops and lefts are multiples of ``step``. ``spread``: (H, W) integers, H and W >= side.
    """
    integral = np.zeros((spread.shape[0] + 1, spread.shape[1] + 1), np.int64)
    integral[1:, 1:] = spread.cumsum(axis=0).cumsum(axis=1)
    sums = (integral[side:, side:] - integral[:-side, side:] - integral[side:, :-side]
            + integral[:-side, :-side])[::step, ::step]
    top, left = np.unravel_index(int(sums.argmax()), sums.shape)
    return int(top) * step, int(left) * step, int(sums[top, left])


def _choose(folder: Path, cells: list[Cell], names: list[str]) -> Choice | None:
    """Return the window of the first ``SEARCHED`` images where the results differ most."""
    best: Choice | None = None
    files = [_files(folder, cell) for cell in cells]
    for name in names[:SEARCHED]:
        if not all(name in known for known in files):
            continue
        protocol, dataset = cells[0].protocol, cells[0].dataset
        path = _file(folder, protocol, dataset, TARGET, name)
        if path is None:
            continue
        target = _load(path)
        images = [_load(known[name]) for known in files]
        if any(image.shape != target.shape for image in images):
            continue
        scale = 1
        degraded = _file(folder, protocol, dataset, INPUT, name)
        if degraded:
            with Image.open(degraded) as image:
                scale = max(1, round(target.shape[0] / image.height))
        shorter = min(target.shape[:2])
        side = min(WINDOW, max(shorter // 3, min(24, shorter)))
        side = max(side - side % scale, scale)
        # one result differs from nothing: show where it differs from the target
        spread = disagreement(images if len(images) > 1 else [*images, target])
        top, left, score = window(spread, side, scale)
        score //= side * side           # windows of small images compete per pixel
        if best is None or score > best.score:
            best = Choice(name, path.name, top, left, side, scale, score)
    return best


# -- drawing -------------------------------------------------------------------------------------

def _figure(run: Run, cells: list[Cell], choice: Choice, stem: str) -> None:
    protocol, dataset = cells[0].protocol, cells[0].dataset
    target = _load(run.folder / "images" / protocol / dataset / TARGET / choice.file)
    crops = []
    degraded = _file(run.folder, protocol, dataset, INPUT, choice.name)
    small = _load(degraded) if degraded else None
    restored = [_load(_files(run.folder, cell)[choice.name]) for cell in cells]
    # the model that returns its input shows it, with its scores
    if small is not None and not any(np.array_equal(small, image) for image in restored):
        s = choice.scale
        part = _cut(small, choice.top // s, choice.left // s, choice.side // s)
        crops.append(("Input", part.repeat(s, axis=0).repeat(s, axis=1),
                      f"enlarged {text.TIMES}{s}, nearest" if s > 1 else "as the models see it"))
    for cell, image in zip(cells, restored, strict=True):
        crops.append((run.model_title(cell.model),
                      _cut(image, choice.top, choice.left, choice.side), _scores(cell, choice)))
    crops.append(("Target", _cut(target, choice.top, choice.left, choice.side), "PSNR / SSIM"))
    with style.look():
        lines = -(-len(crops) // PER_LINE)
        columns = -(-len(crops) // lines)
        aspect = target.shape[1] / target.shape[0]
        # sizes in inches: square crops with two lines of text, the whole image at their left
        room = 30 if columns < 4 else 20            # letters
        extra = 0.11 * any("\n" in text.wrap(title, room) for title, *_ in crops)
        gap, words = 0.06, 0.36 + extra
        share = min(max(aspect * lines, 0.8), 1.8 + 0.4 * (lines > 1))
        cell_width = (style.WIDTH - gap * columns) / (columns + share)
        height = lines * (cell_width + words)
        figure = style.figure(height)
        figure.set_layout_engine("none")
        layout = GridSpec(lines, columns + 1, figure, left=0.002, right=0.998,
                          top=1 - (0.19 + extra) / height, bottom=0.17 / height,
                          width_ratios=[share] + [1] * columns, wspace=gap / cell_width,
                          hspace=words / cell_width)
        ax = figure.add_subplot(layout[:, 0])
        _show(ax, target)
        ax.set_anchor("N")
        ax.add_patch(Rectangle((choice.left - 0.5, choice.top - 0.5), choice.side, choice.side,
                               fill=False, edgecolor="#e8590c", linewidth=1.2))
        ax.set_title(text.wrap(choice.name, 24, 1), loc="center", fontsize=6.5, fontweight="normal",
                     pad=3)
        for index, (title, crop, below) in enumerate(crops):
            ax = figure.add_subplot(layout[index // columns, 1 + index % columns])
            _show(ax, crop)
            ax.set_title(text.wrap(title, room), loc="center", fontsize=6.5, pad=3)
            ax.set_xlabel(below, fontsize=5.8, labelpad=2.5)
        style.save(figure, run.folder, stem)


def _show(ax, image: np.ndarray) -> None:
    ax.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(visible=False)
    for spine in ax.spines.values():
        spine.set_linewidth(0.4)


def _cut(image: np.ndarray, top: int, left: int, side: int) -> np.ndarray:
    return image[top:top + side, left:left + side]


def _scores(cell: Cell, choice: Choice) -> str:
    image = next(i for i in cell.images if str(i["name"]) == choice.name)
    psnr, ssim = image.get("psnr"), image.get("ssim")
    return (f"{text.NA if psnr is None else f'{psnr:.2f} dB'} / "
            f"{text.NA if ssim is None else f'{ssim:.4f}'}")


def _drawn(run: Run, cells: list[Cell], choice: Choice, stem: str, place: str, kept: int,
           total: int) -> style.Drawn:
    searched = min(kept, SEARCHED)
    how = ("the results differ most" if len(cells) > 1
           else "the one result differs most from the target")
    caption = (f"{place}: image {choice.name}, {choice.side}{text.TIMES}{choice.side} "
               f"pixels from row {choice.top}, column {choice.left}: the window where {how} "
               f"(largest mean variance over models, among {searched} of {total} images; ties go "
               "to the first). Below each crop: PSNR and SSIM of the whole image under the "
               "protocol.")
    if choice.scale > 1:
        caption += f" The input is enlarged {text.TIMES}{choice.scale} by repeating pixels."
    elif cells[0].task.startswith("denoise"):
        caption += " The input is shown clipped to 0-255."
    absent = [run.model_title(c.model) for c in run.cells
              if (c.protocol, c.dataset) == (cells[0].protocol, cells[0].dataset)
              and c not in cells]
    if absent:
        caption += f" Without kept images: {', '.join(absent)}."
    names = ", ".join(run.model_title(c.model) for c in cells)
    return style.Drawn(stem, place, caption,
                       f"Crops of {choice.name}: input, {names}, and the target.")
