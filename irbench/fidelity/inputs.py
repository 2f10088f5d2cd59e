"""The pictures that other toolkits would score: other inputs, enlargements and paddings.

A restored picture is named by three conventions: what the network was given (``INPUTS``), how it
was run (``RUNS``), and whether its output was rounded (``uint8`` or ``float``).
``irbench.fidelity.conventions`` scores the pictures.

Try: ``python -c "from irbench.fidelity.inputs import *; print(INPUTS, RUNS, sep='\\n')"``
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from irbench.catalog.protocols import Protocol
from irbench.imaging import degrade
from irbench.imaging.images import imresize, luma, to_float, to_uint8
from irbench.jobs import evaluate

Kind = tuple[str, str, str]     # input, run, outputs
Pictures = dict[Kind, np.ndarray]
OWN: Kind = ("protocol", "protocol", "uint8")

# In these tables the best known convention comes first: an explanation lists them in this order.
INPUTS = {
    "y_only": "bicubic on the rounded Y alone, as old MATLAB scripts (SRCNN, VDSR)",
    "cv2": "low-resolution input made by cv2's bicubic (INTER_CUBIC, no antialiasing)",
    "pillow": "low-resolution input made by Pillow's bicubic",
    "bgr": "noise drawn in BGR order",
    "rounded": "noisy input clipped and rounded to uint8",
    "float": "low-resolution input not rounded to uint8",
}
ENLARGED = {
    "cv2": "enlarged by cv2's bicubic (INTER_CUBIC)",
    "pillow": "enlarged by Pillow's bicubic",
}
MULTIPLES = (8, 16, 32)
# name -> numpy's mode, whether an image that fits already is padded, words
PADDINGS = {
    "reflect": ("reflect", False, "by reflection (as Restormer, MPRNet)"),
    "zeros": ("constant", False, "by zeros (as NAFNet)"),
    "replicate": ("edge", False, "by repeating the edge"),
    "flip": ("symmetric", True, "by a flipped copy, by at least one pixel (as SwinIR)"),
}
RUNS = ENLARGED | {f"{name}{multiple}": f"input padded to a multiple of {multiple} {words}"
                   for name, (_, _, words) in PADDINGS.items() for multiple in MULTIPLES}


# -- without a network -------------------------------------------------------------------------

def cv2_bicubic(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize uint8 (H, W, C) to (h, w, C) as ``cv2.resize`` with INTER_CUBIC.

    The kernel has a = -0.75 and is not widened for shrinking: most pixels are skipped.
    """
    import cv2

    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_CUBIC).reshape(*size, -1)


def pillow_bicubic(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize uint8 (H, W, C) to (h, w, C) as Pillow's BICUBIC: a = -0.5, with antialiasing.

    It differs from MATLAB's at the border, where it drops the taps outside the image, and by
    rounding.
    """
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    return np.asarray(picture.resize(size[::-1], Image.Resampling.BICUBIC)).reshape(*size, -1)


BICUBICS: dict[str, Callable[[np.ndarray, tuple[int, int]], np.ndarray]] = {
    "cv2": cv2_bicubic, "pillow": pillow_bicubic}


def shrunk(target: np.ndarray, scale: int) -> dict[str, np.ndarray]:
    """Return low-resolution images of uint8 (H, W, C) by toolkit, uint8 (H/scale, W/scale, C)."""
    size = (target.shape[0] // scale, target.shape[1] // scale)
    return {name: resize(target, size) for name, resize in BICUBICS.items()}


def y_only(target: np.ndarray, scale: int, gray_file: bool = False) -> np.ndarray:
    """Return Y shrunk and enlarged by MATLAB's bicubic as the old scripts do: (H, W, 1).

    They take the Y of ``rgb2ycbcr`` (uint8, so rounded), resample it in floating point both ways,
    and round the result to uint8.
    """
    y = luma(target, rounded=True, gray_file=gray_file)
    return np.round(np.clip(imresize(imresize(y, 1 / scale), scale), 0, 255))


def bicubic_rows(target: np.ndarray, degraded: np.ndarray, scale: int,
                 gray_file: bool = False) -> Pictures:
    """Return the bicubic baseline of other toolkits.

    Args:
        target: uint8 (H, W, C).
        degraded: the protocol's input, float32 (H/scale, W/scale, C) in [0, 1].
        scale: the factor.
        gray_file: whether the target's file is gray.

    Returns:
        uint8 (H, W, C) for each input and enlargement, but not the protocol's own; and float64
        (H, W, 1) for ``y_only``.
    """
    found: Pictures = {("y_only", "protocol", "uint8"): y_only(target, scale, gray_file)}
    for source, small in ({"protocol": to_uint8(degraded)} | shrunk(target, scale)).items():
        for run, resize in BICUBICS.items():
            found[source, run, "uint8"] = resize(small, target.shape[:2])
        if source != "protocol":
            # float32 between the steps, as the model ``bicubic``
            large = imresize(to_float(small).astype(np.float64), scale).astype(np.float32)
            found[source, "protocol", "uint8"] = to_uint8(large)
    return found


# -- with a network ----------------------------------------------------------------------------

def other_inputs(protocol: Protocol, target: np.ndarray,
                 degraded: np.ndarray) -> dict[str, np.ndarray]:
    """Return a network's inputs under the conventions in which toolkits differ, float32."""
    kind = _kind(protocol)
    found = {}
    if kind == "matlab_bicubic":
        found = {name: to_float(small) for name, small in shrunk(target, protocol.scale).items()}
        small = imresize(target.astype(np.float64), 1 / protocol.scale)
        found["float"] = (small / 255).astype(np.float32)
    if kind == "gaussian_noise":
        if protocol.channels == 3:
            found["bgr"] = degrade.degrade(target[..., ::-1], protocol)[..., ::-1]
        found["rounded"] = to_float(to_uint8(degraded))
    return found


def _kind(protocol: Protocol) -> str:
    """Return the degradation; "" for a scale that is not whole, which only irbench makes."""
    return protocol.degradation["kind"] if protocol.unit == protocol.scale else ""


def padded(image: np.ndarray, run: str) -> np.ndarray:
    """Pad (h, w, C) at the bottom and the right as one of ``RUNS`` says."""
    name = _name(run)
    multiple = int(run.removeprefix(name))
    mode, always, _ = PADDINGS[name]
    h, w = ((side // multiple + 1) * multiple if always else -(-side // multiple) * multiple
            for side in image.shape[:2])
    return np.pad(image, ((0, h - image.shape[0]), (0, w - image.shape[1]), (0, 0)), mode)


def _name(run: str) -> str:
    """Return the padding of one of ``RUNS``, without its multiple."""
    return run.rstrip("0123456789")


def restore(network, protocol: Protocol, degraded: np.ndarray, target: np.ndarray,
            seed: int, *, padding: bool) -> Pictures:
    """Run a network on all inputs of one image.

    Args:
        network: of ``evaluate.ready``.
        protocol: the cell's.
        degraded: the protocol's input, float32 (h, w, C) in [0, 1].
        target: uint8 (H, W, C).
        seed: of what the network draws, as in the cell (``evaluate.seed_for``).
        padding: also run the padded inputs, up to twelve.

    Returns:
        (H, W, C) in [0, 255]: uint8, and float64 that was clipped but not rounded.
    """
    found: Pictures = {}

    def keep(source: str, run: str, y: np.ndarray) -> None:
        found[source, run, "uint8"] = to_uint8(y)
        found[source, run, "float"] = np.clip(y, 0, 1) * np.float64(255)

    for source, x in ({"protocol": degraded} | other_inputs(protocol, target, degraded)).items():
        keep(source, "protocol", evaluate.forward(network, x, seed=seed))
    known = {("", degraded.shape): "protocol"}     # what was padded to the same size runs once
    for run in [run for run in RUNS if padding and run not in ENLARGED]:
        x = padded(degraded, run)
        name = "" if x.shape == degraded.shape else _name(run)
        same = known.setdefault((name, x.shape), run)
        if same == run:
            y = evaluate.forward(network, x, seed=seed)
            keep("protocol", run, y[:target.shape[0], :target.shape[1]])
        for outputs in ("uint8", "float"):
            found["protocol", run, outputs] = found["protocol", same, outputs]
    return found


def untried(protocol: Protocol, *, learned: bool, bicubic: bool, ran: bool) -> str:
    """Return the conventions that only a run of the model on request can test, "" if none.

    Args:
        protocol: the cell's.
        learned: whether the model has weights; others are not padded.
        bicubic: whether the model is the bicubic baseline (see ``bicubic_rows``).
        ran: whether the model ran, without padding.
    """
    names = []
    if not ran:
        kinds = {"matlab_bicubic": ["float"] if bicubic else ["cv2", "pillow", "float"],
                 "gaussian_noise": ["bgr", "rounded"] if protocol.channels == 3 else ["rounded"]}
        names = ["outputs not rounded to uint8",
                 *(INPUTS[name] for name in kinds.get(_kind(protocol), ()))]
    if learned:
        names.append(f"input padded to a multiple of {', '.join(map(str, MULTIPLES))}")
    return "; ".join(names)
