"""The conventions in which toolkits differ, and how an image is scored under each.

A convention is one deviation from a protocol. At most ``MOST`` of them are combined, because with
more some combination matches almost any figure. ``irbench.fidelity.explain`` uses them.

Try: ``python -c "from irbench.fidelity.conventions import *; print(SSIM, COLORS, GT_MEAN,
sep='\\n')"``
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np

from irbench.catalog.protocols import Protocol
from irbench.core.errors import UserError
from irbench.fidelity.inputs import INPUTS, OWN, RUNS, Kind, Pictures
from irbench.imaging import metrics
from irbench.imaging.images import BT601, BT601_OFFSET, crop_border, luma

MOST = 2  # conventions that may differ at once
BT601_FULL = np.array([0.299, 0.587, 0.114])  # used in cv2's YCrCb, and for the Y of YIQ
COLORS = {
    "y": "Y (MATLAB's limited range)",
    "y_rounded": "rounded Y (MATLAB's limited range)",
    "full": "full-range luma (as pyiqa's YIQ)",
    "full_rounded": "rounded full-range luma (as cv2's YCrCb)",
    "rgb": "RGB",
    "gray": "gray",
}
SSIM = {
    "gaussian11_valid": "SSIM over the valid region",
    "gaussian11_same": "SSIM padded with zeros",
    "gaussian11_3d": "SSIM as MATLAB's on the whole array (3-D kernel, border repeated)",
    "uniform7": "SSIM with skimage's defaults (uniform 7x7 window)",
}
# Low light: the output times (mean of the target / mean of the output), clipped to [0, 255].
# Toolkits differ in the mean and in whether they round afterwards.
GT_MEAN = {
    "gray": "GT-mean: output scaled to the target's mean gray, rounded",
    "gray_float": "GT-mean: output scaled to the target's mean gray, unrounded (as Retinexformer)",
    "channels": "GT-mean: output scaled to the target's mean of all channels, rounded",
    "channels_float": "GT-mean: output scaled to the target's mean of all channels, unrounded (as "
                      "LYT-Net)",
}
GRAY_FILES = {
    "y": "gray files taken as Y, as old MATLAB scripts (SRCNN, VDSR)",
    "converted": "gray files converted to Y like RGB",
}


@dataclass(frozen=True)
class Choice:
    """One way to score: a value for each convention."""

    color: str
    crop: int
    ssim: str
    gray_files: str = "y"  # a gray file of an RGB set counts as Y, or is converted like RGB
    outputs: str = OWN[2]
    mean: str = "images"
    input: str = OWN[0]
    run: str = OWN[1]
    gt_mean: str = "none"

    @property
    def picture(self) -> Kind:
        """The restored picture that is scored."""
        return self.input, self.run, self.outputs

    def words(self, base: Choice) -> tuple[str, ...]:
        """Return the differences from the protocol in words; () if there are none."""
        differences = []
        if self.input != base.input:
            differences.append(INPUTS[self.input])
        if self.run != base.run:
            differences.append(RUNS[self.run])
        if self.gt_mean != base.gt_mean:
            differences.append(GT_MEAN[self.gt_mean])
        if self.color != base.color:
            rounding = {("y", "y_rounded"): "Y rounded", ("y_rounded", "y"): "Y not rounded"}
            differences.append(rounding.get(
                (base.color, self.color),
                f"{COLORS[self.color]} instead of {COLORS[base.color]}"))
        if self.gray_files != base.gray_files:
            differences.append(GRAY_FILES[self.gray_files])
        if self.crop != base.crop:
            differences.append(f"border of {self.crop} cropped instead of {base.crop}")
        if self.outputs != base.outputs:
            differences.append("outputs not rounded to uint8")
        if self.ssim != base.ssim:
            differences.append(f"{SSIM[self.ssim]}")
        if self.mean != base.mean:
            differences.append("PSNR of the mean squared error of all images")
        return tuple(differences)


@dataclass(frozen=True)
class Picture:
    """An image to be scored: restored pictures and target, (H, W, C) in [0, 255]."""

    restored: Pictures
    target: np.ndarray
    gray_file: bool


# -- the conventions ---------------------------------------------------------------------------

def base(protocol: Protocol) -> Choice:
    """Return a protocol's own way to score."""
    y = protocol.metric.color == "y"
    color = ("y_rounded" if protocol.metric.y_rounded else "y") if y else protocol.metric.color
    return Choice(color=color, crop=protocol.metric.crop, ssim=protocol.metric.ssim,
                  gray_files=protocol.metric.gray_files)


def choices(protocol: Protocol, metric: str, kinds: set[Kind],
            most: int = MOST) -> list[Choice]:
    """Return every way to score that differs from a protocol in at most ``most`` conventions.

    Those with fewer differences come first, among them the best known (see ``_axes``).

    Args:
        protocol: the protocol; its own way to score comes first.
        metric: psnr or ssim: ``core.metrics.explained()``.
        kinds: the available restored pictures.
        most: the largest number of conventions that may differ at once.
    """
    own, axes, found = base(protocol), _axes(protocol, metric), []
    for count in range(most + 1):
        for names in itertools.combinations(axes, count):
            for values in itertools.product(*(axes[name] for name in names)):
                choice = replace(own, **dict(zip(names, values, strict=True)))
                # resampling Y alone gives no other colour
                if choice.picture in kinds and not (
                        choice.input == "y_only" and {"color", "gray_files"} & set(names)):
                    found.append(choice)
    return found


def _axes(protocol: Protocol, metric: str) -> dict[str, list]:
    """Return for each convention the values other than the protocol's, the best known first."""
    own, s = base(protocol), math.ceil(protocol.scale)
    gray = protocol.color == "gray"
    axes = {
        "gt_mean": list(GT_MEAN) if protocol.task == "lowlight" else [],
        "input": list(INPUTS),
        "color": ["gray", "y", "y_rounded"] if gray
                 else ["y_rounded", "y", "rgb", "full", "full_rounded"],
        "gray_files": list(GRAY_FILES) if own.color.startswith("y") and not gray else [],
        # s + 6 is used by EDSR and the NTIRE challenges
        "crop": [s, 0, s + 6, 2 * s] if s > 1 else [0],
        "ssim": list(SSIM) if metric == "ssim" else [],
        "run": list(RUNS),
        "outputs": ["float"],
        "mean": ["mse"] if metric == "psnr" else [],
    }
    return {name: [v for v in values if v != getattr(own, name)]
            for name, values in axes.items()}


def planes(image: np.ndarray, color: str, gray_file: bool = False) -> np.ndarray:
    """Convert (H, W, C) in [0, 255] to the planes of one of ``COLORS``: float64 (H, W, 1 or 3)."""
    image = image.astype(np.float64)
    rounded = color.endswith("rounded")
    if color in ("rgb", "gray"):
        return image
    if image.shape[-1] == 1:  # as if the gray file were read as RGB
        y = image * BT601.sum() + BT601_OFFSET
        return np.round(y) if rounded else y
    if color.startswith("full"):
        y = image @ BT601_FULL[:, None]
        return np.round(y) if rounded else y
    return luma(image, rounded=rounded, gray_file=gray_file)


def scaled(restored: np.ndarray, target: np.ndarray, gt_mean: str) -> np.ndarray:
    """Scale (H, W, C) in [0, 255] to the target's mean as ``GT_MEAN`` says; "none" returns it.

    A black output stays black.
    """
    if gt_mean == "none":
        return restored
    mean, _, exact = gt_mean.partition("_")
    weights = BT601_FULL if mean == "gray" and target.shape[-1] == 3 else np.ones(target.shape[-1])
    own, wanted = (float((image.astype(np.float64) @ weights).mean())
                   for image in (restored, target))
    light = np.clip(restored * (wanted / own if own else 1.0), 0, 255)
    return light if exact else np.round(light)


def score(picture: Picture, found: list[Choice], metric: str) -> list[float]:
    """Score one image under each choice: its mean squared error (for psnr) or its SSIM.

    Returns the mean squared error instead of PSNR because the mean may be taken before the
    logarithm: see ``mean``. NaN if the image is too small; raises UserError if it is too small for
    the first choice, the protocol's.
    """
    cache: dict[tuple, object] = {}

    def once(key: tuple, make) -> object:
        if key not in cache:
            cache[key] = make()
        return cache[key]

    def score_one(choice: Choice) -> float:
        # the scripts that resample Y alone take a gray file as Y
        gray = picture.gray_file and (choice.gray_files == "y" or choice.input == "y_only")
        source = (choice.picture, choice.gt_mean)
        # Y that was resampled alone is compared with the original Y
        color = "y_rounded" if choice.input == "y_only" else choice.color
        restored = once(source, lambda: scaled(picture.restored[choice.picture], picture.target,
                                               choice.gt_mean))
        a = once((source, color, gray), lambda: restored.astype(np.float64)
                 if choice.input == "y_only" else planes(restored, color, gray))
        b = once(("target", color, gray), lambda: planes(picture.target, color, gray))

        def compute() -> float:
            try:
                x, y = crop_border(a, choice.crop), crop_border(b, choice.crop)
                return (float(np.mean((x - y) ** 2)) if metric == "psnr"
                        else metrics.ssim(x, y, choice.ssim))
            except UserError:  # too small for this border or window
                if choice == found[0]:
                    raise
                return math.nan

        # choices that do not differ for this image are computed once
        return once(("score", source, color, gray, choice.crop, choice.ssim), compute)

    return [score_one(choice) for choice in found]


def mean(values: list[float], choice: Choice, metric: str) -> float | None:
    """Return the figure of a set from its images' scores (see ``score``).

    None if it is infinite, or if the score of an image is missing.
    """
    if any(map(math.isnan, values)):
        return None
    if metric == "ssim":
        return math.fsum(values) / len(values)
    if choice.mean == "mse":
        values = [math.fsum(values) / len(values)]
    if min(values) == 0:
        return None  # identical to the target: infinite
    return math.fsum(10 * math.log10(255**2 / v) for v in values) / len(values)

