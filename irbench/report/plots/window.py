"""The kept images of a run, and the window of an image in which the results differ most.

The search uses integers, so that the choice is the same on every machine. Reads the images under
``images/`` of the run; writes nothing.

Try: ``python -c "from irbench.report.plots import window; help(window.largest)"``
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from irbench.catalog.model import Model
from irbench.core.files import open_picture
from irbench.core.run_folder import INPUT, TARGET, RunFolder
from irbench.report.run import Cell

WINDOW = 96                     # pixels of the target; at most a third of its shorter side
SEARCHED = 24                   # images of a dataset to search, in the order of the record


@dataclass(frozen=True)
class Window:
    """A window: image name, file name, top, left, side in target pixels, scale of the input."""

    name: str
    file: str
    top: int
    left: int
    side: int
    scale: int
    score: int


# -- finding images ------------------------------------------------------------------------------

def files(folder: Path, cell: Cell) -> dict[str, Path]:
    """Return the kept images of a cell that lie in the run folder: name -> path."""
    found = {}
    for image in cell.images:
        file = image.get("file")
        if file:
            path = (folder / str(file)).resolve()
            if path.is_relative_to(folder.resolve()) and path.is_file():
                found[str(image["name"])] = path
    return found


def names(cells: list[Cell]) -> list[str]:
    """Return the image names that every cell has, in the order of the first record."""
    if not cells:
        return []
    others = [{str(image["name"]) for image in cell.images if image.get("file")}
              for cell in cells]
    return [str(i["name"]) for i in cells[0].images
            if all(str(i["name"]) in known for known in others)]


def reserved(folder: Path, protocol: str, dataset: str, part: str, name: str) -> Path | None:
    """Return the file of an input or target; it is named like the results of the models."""
    path = RunFolder(folder).image(protocol, dataset, part, name)
    return next((one for one in (path, path.with_name(name)) if one.is_file()), None)


def load(path: Path) -> np.ndarray:
    """Return an image as uint8 (H, W) or (H, W, 3)."""
    with open_picture(path) as image:
        return np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"))


def shape(path: Path) -> tuple[int, ...]:
    """Return the shape of an image as ``load`` returns it, without decoding the image."""
    with open_picture(path) as image:
        return (image.height, image.width, *(() if image.mode == "L" else (3,)))


# -- choosing the window -------------------------------------------------------------------------

def disagreement(images: list[np.ndarray]) -> np.ndarray:
    """Return, per pixel, M² times the variance over M uint8 images, summed over channels.

    The result is int64, so that rounding cannot decide a tie. ``images``: (H, W) or (H, W, C) each.
    """
    total = np.zeros(images[0].shape, np.int64)
    squares = np.zeros_like(total)
    for image in images:
        wide = image.astype(np.int64)
        total += wide
        squares += wide * wide
    spread = len(images) * squares - total * total
    return spread if spread.ndim == 2 else spread.sum(axis=2)


def largest(spread: np.ndarray, side: int, step: int = 1) -> tuple[int, int, int]:
    """Return (top, left, score) of the window with the largest sum; ties go to the first.

    Top and left are multiples of ``step``. ``spread``: (H, W) integers, H and W >= side.
    """
    integral = np.zeros((spread.shape[0] + 1, spread.shape[1] + 1), np.int64)
    integral[1:, 1:] = spread.cumsum(axis=0).cumsum(axis=1)
    sums = (integral[side:, side:] - integral[:-side, side:] - integral[side:, :-side]
            + integral[:-side, :-side])[::step, ::step]
    top, left = np.unravel_index(int(sums.argmax()), sums.shape)
    return int(top) * step, int(left) * step, int(sums[top, left])


def compared(cells: list[Cell], models: dict[str, Model]) -> list[Cell]:
    """Return the cells whose results determine the window: networks if there are two, else all.

    A noisy input or an interpolation differs from every network far more than networks differ from
    each other, so it alone would determine the window.
    """
    learned = [cell for cell in cells if models[cell.model].learned]
    return learned if len(learned) > 1 else cells


def choose(folder: Path, cells: list[Cell], images: list[str]) -> Window | None:
    """Return the window of the first ``SEARCHED`` images where the cells' results differ most.

    None if no image has results and a target of the same size.
    """
    best: Window | None = None
    kept = [files(folder, cell) for cell in cells]
    for name in images[:SEARCHED]:
        if not all(name in known for known in kept):
            continue
        protocol, dataset = cells[0].protocol, cells[0].dataset
        path = reserved(folder, protocol, dataset, TARGET, name)
        if path is None:
            continue
        target = load(path)
        restored = [load(known[name]) for known in kept]
        if any(image.shape != target.shape for image in restored):
            continue
        scale = 1
        degraded = reserved(folder, protocol, dataset, INPUT, name)
        if degraded:
            with open_picture(degraded) as image:
                # a scale that is not whole counts as 1: then the input is not shown
                scale = max(1, target.shape[0] // image.height)
                if (scale * image.height, scale * image.width) != target.shape[:2]:
                    scale = 1
        shorter = min(target.shape[:2])
        side = min(WINDOW, max(shorter // 3, min(24, shorter)))
        side = max(side - side % scale, scale)
        # with a single result: the window where it differs most from the target
        spread = disagreement(restored if len(restored) > 1 else [*restored, target])
        top, left, score = largest(spread, side, scale)
        score //= side * side           # per pixel, because small images have small windows
        if best is None or score > best.score:
            best = Window(name, path.name, top, left, side, scale, score)
    return best
