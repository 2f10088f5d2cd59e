"""The images of the slider on the page: for each comparison, one region of every version.

The window comes from ``crops.comparisons``: it is where the results differ most. The region around
it is as large as the page has room for, or the whole image. Reads the kept images under
``images/`` of the run; writes nothing.

Try: ``irbench report``, then "Compare two images" on a task's page
"""

from __future__ import annotations

from collections.abc import Sequence

from irbench.core import metrics
from irbench.core.files import open_picture
from irbench.present import text
from irbench.report.page import embed
from irbench.report.plots import crops
from irbench.report.plots.crops import VisualComparison
from irbench.report.run import Run

PIXELS = 1_500_000              # of all versions of all comparisons: 2 MB or so
SIDES = (512, 384, 320, 256, 224, 192, 160, 128, 96)    # of a region, in pixels of the target


def build(run: Run, found: Sequence[VisualComparison]
          ) -> tuple[dict[str, list[dict]], list[str], str]:
    """Return the comparisons by task, a sentence on those without room on the page, and the lead.

    A comparison has task and title (texts), note, width and height (of the region, in pixels of
    the target), versions: label, src (a data URI), scores (as shown, may be ""), first: the
    indices of the two to show first, and lead: whether the overview shows it first. The lead is the
    comparison in which a network gains most; the third value is the stem of its figure, or "".
    """
    tasks = {cell.protocol: cell.task for cell in run.cells}
    sizes = [_size(one) for one in found]
    side, kept = room([tasks[one.protocol] for one in found],
                      [(size, len(one.versions)) for one, size in zip(found, sizes, strict=True)],
                      PIXELS)
    made: dict[str, list[dict]] = {}
    lead = max(kept, key=lambda index: gain(run, found[index]), default=None)
    for index in kept:
        one = found[index]
        made.setdefault(tasks[one.protocol], []).append(
            {**_comparison(run, one, sizes[index], side), "lead": index == lead})
    left_out = [f"{one.protocol} on {run.dataset_title(one.dataset)}"
                for index, one in enumerate(found) if index not in kept]
    return made, ([f"The slider omits, to keep the page small: {', '.join(left_out)}."]
                  if left_out else []), "" if lead is None else found[lead].stem


def gain(run: Run, one: VisualComparison) -> float:
    """Return by how many dB the best network restores the image better than all other methods.

    0 without a network or another method to compare it with.
    """
    psnr: dict[bool, list[float]] = {True: [], False: []}
    for cell in one.cells:
        image = next(image for image in cell.images if str(image["name"]) == one.name)
        if image.get("psnr") is not None:
            psnr[run.models[cell.model].learned].append(image["psnr"])
    return max(psnr[True]) - max(psnr[False]) if all(psnr.values()) else 0.0


def room(tasks: Sequence[str], sizes: Sequence[tuple[tuple[int, int], int]],
         pixels: int) -> tuple[int, list[int]]:
    """Return the largest side of regions for which all fit, and the indices of the kept ones.

    If all do not fit even with the smallest regions, the first comparison of each task is kept, and
    then the others in order as long as they fit.

    Args:
        tasks: task of each comparison.
        sizes: height and width of each image, and the number of its versions.
        pixels: the largest total number of pixels.
    """
    def cost(index: int, side: int) -> int:
        (height, width), versions = sizes[index]
        return min(height, side) * min(width, side) * versions

    every = range(len(sizes))
    for side in SIDES:
        if sum(cost(index, side) for index in every) <= pixels:
            return side, list(every)
    side, kept, used = SIDES[-1], [], 0
    first = {tasks.index(task) for task in tasks}
    for index in sorted(every, key=lambda i: (i not in first, i)):
        if index in first or used + cost(index, side) <= pixels:
            kept.append(index)
            used += cost(index, side)
    return side, sorted(kept)


def region(start: int, side: int, length: int, wanted: int, step: int = 1) -> tuple[int, int]:
    """Return (start, length) of a range around a window, inside an image, on multiples of a step.

    Args:
        start: start of the window, in pixels of the target.
        side: side of the window.
        length: length of the image along this axis.
        wanted: length of the range; the whole image if that is shorter, never less than ``side``.
        step: the scale of the input: the range begins and ends on its pixels.
    """
    if length <= wanted:
        return 0, length - length % step
    taken = max(wanted - wanted % step, side)
    middle = start + side // 2 - taken // 2
    return max(0, min(middle - middle % step, length - taken - (length - taken) % step)), taken


def _size(one: VisualComparison) -> tuple[int, int]:
    with open_picture(one.versions[-1].path) as image:        # the target
        return image.height, image.width


def _comparison(run: Run, one: VisualComparison, size: tuple[int, int], side: int) -> dict:
    (top, height), (left, width) = (
        region(start, one.side, length, side, one.scale)
        for start, length in zip((one.top, one.left), size, strict=True))
    versions = []
    for label, path, scores in one.versions:
        with open_picture(path) as image:
            # the input of super-resolution is smaller: the same region in its own pixels
            scale = max(1, round(size[0] / image.height))
            box = (left // scale, top // scale, (left + width) // scale, (top + height) // scale)
            src = embed.uri("image/webp", embed.webp(image.crop(box)))
        versions.append({"label": label, "src": src, "scores": _scores(scores)})
    times = text.TIMES
    part = ("the whole image" if (height, width) == size else
            f"{width}{times}{height} pixels from row {top}, column {left}, around the window where "
            "the results differ most")
    small = one.scale > 1 and any(label == crops.INPUT for label, *_ in one.versions)
    return {
        "task": text.task_title(text.split_id(one.protocol)[0]),
        "title": f"{text.level_label(text.split_id(one.protocol)[1])}, "
                 f"{run.dataset_title(one.dataset)}, {one.name}",
        "note": f"{one.protocol} on {run.dataset_title(one.dataset)}, image {one.name}: {part}. "
                "Scores are for the whole image." + (
                    f" The input is enlarged {times}{one.scale} by repeating pixels."
                    if small else ""),
        "width": width, "height": height, "versions": versions, "first": first(one)}


def first(one: VisualComparison) -> list[int]:
    """Return the two versions to show first: the input (or the first version) and the best.

    The best version has the highest PSNR on the image; without scores it is the target.
    """
    psnr = [scores.get("psnr") for _, _, scores in one.versions]
    scored = [i for i, number in enumerate(psnr) if i and number is not None]
    return [0, max(scored, key=lambda i: psnr[i]) if scored else len(psnr) - 1]


def _scores(scores: dict[str, float]) -> str:
    """Return the scores of an image with their names: ``PSNR 33.20 dB, SSIM 0.9312``."""
    return ", ".join(one.worded(scores[one.name]) for one in metrics.METRICS.values()
                     if scores.get(one.name) is not None)
