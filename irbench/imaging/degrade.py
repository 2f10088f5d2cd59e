"""The degradations of the protocols: they turn a clean image into the input of a model.

A protocol has one step or a list of steps (``irbench.catalog.degradations``). An image of 8 bits
stays one through ``matlab_bicubic``, ``subsample``, ``mosaic`` and the synthetic kinds, as in a
file. ``gaussian_blur`` and ``gaussian_noise`` give floating-point values, which later steps neither
clip nor round, but ``jpeg``, ``round`` and the synthetic kinds, which take images of 8 bits, clip
and round to them.

Reads and writes arrays only. To see degraded inputs, set ``keep_images: true`` in a config: a run
then writes them beside the restored images.
"""

from __future__ import annotations

import hashlib
import io
import math

import numpy as np
from PIL import Image

from irbench.catalog import degradations
from irbench.catalog.protocols import Protocol
from irbench.core.errors import UserError
from irbench.core.files import open_picture
from irbench.imaging import synthetic
from irbench.imaging.images import (
    as_channels,
    crop_to_multiple,
    imresize,
    strips,
    to_float,
    to_uint8,
)
from irbench.imaging.mosaic import malvar, mosaic


def seed_of(*parts: object) -> int:
    """Hash names and numbers into a 32-bit seed."""
    text = "\0".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:4], "little")


def prepare_target(image: np.ndarray, protocol: Protocol) -> np.ndarray:
    """Convert a file's image to the protocol's colour and crop it to a multiple of its scale.

    For a scale that is not whole, the sides become multiples of ``Protocol.unit``: of 5 for 2.5.

    Args:
        image: uint8 (H, W, 1 or 3).
        protocol: determines colour and scale.

    Returns:
        uint8 (H', W', channels): the image that restored images are compared with.

    Raises:
        UserError: the image is so small that the input would have a side of one pixel.
    """
    h, w = image.shape[:2]
    # two pixels of the input, and whole units
    least = math.ceil(2 * protocol.scale / protocol.unit) * protocol.unit
    if min(h, w) < least:
        raise UserError(f"the image is {h}x{w} pixels (height x width); {protocol.id} needs at "
                        f"least {least} on each side.")
    return crop_to_multiple(as_channels(image, protocol.color, protocol.gray), protocol.unit)


def prepare_pair(input_image: np.ndarray, target_image: np.ndarray,
                 protocol: Protocol) -> tuple[np.ndarray, np.ndarray]:
    """Convert the two images of a pair to a model's input and its target.

    Args:
        input_image: the degraded file's image, uint8 (h, w, 1 or 3).
        target_image: the clean file's, uint8 (H, W, 1 or 3); H, W = scale * h, w.
        protocol: a paired protocol, which determines colour and size.

    Returns:
        Input float32 (h', w', C) in [0, 1] and target uint8 (H', W', C).

    Raises:
        UserError: the target's sides (cropped to multiples of the protocol's scale) are not those
            of the input times the scale, an image is too small, or the protocol is not paired.
    """
    degraded, target = align_pair(input_image, target_image, protocol)
    return to_float(degraded), target


def align_pair(input_image: np.ndarray, target_image: np.ndarray,
               protocol: Protocol) -> tuple[np.ndarray, np.ndarray]:
    """Do the same as ``prepare_pair``, but return the input in uint8."""
    if not protocol.paired:
        raise UserError(f"{protocol.id} makes its inputs from clean images, not from "
                        "pairs.")
    (h, w), (th, tw), scale = input_image.shape[:2], target_image.shape[:2], protocol.scale
    if (h, w) != (th // scale, tw // scale):
        valid = ("the images of a pair have the same size" if scale == 1 else
                 f"under {protocol.id} the target is {scale} times as large")
        border = (th - h * scale) // 2
        hint = (f" If the targets of the set have a border of {border} pixels, add `target_crop: "
                f"{border}` to the set in its catalog." if border > 0 and (
                    (h, w) == ((th - 2 * border) // scale, (tw - 2 * border) // scale)) else "")
        raise UserError(f"the input is {h}x{w} pixels (height x width), its target {th}x{tw}; "
                        f"{valid}. Check that the files belong together.{hint}")
    if scale > 1:
        return (as_channels(input_image, protocol.color, protocol.gray),
                prepare_target(target_image, protocol))
    size = paired_size(*target_image.shape[:2], protocol)
    return tuple(_lanczos(prepare_target(image, protocol), size)
                 for image in (input_image, target_image))


def scored_target(image: np.ndarray, protocol: Protocol) -> np.ndarray:
    """Return what a restored image is compared with, made from a file's image as in a cell.

    Takes uint8 (H, W, 1 or 3) and returns uint8 (H', W', channels). Raises UserError as
    ``prepare_target``.
    """
    target = prepare_target(image, protocol)
    if not protocol.paired:
        return target
    return _lanczos(target, paired_size(*image.shape[:2], protocol))


def paired_size(height: int, width: int, protocol: Protocol) -> tuple[int, int]:
    """Return height and width at which a paired protocol works.

    If the longer side exceeds ``longest``, the image is shrunk in proportion, rounded up. Then both
    sides are rounded up to the next multiple of ``multiple``. TransWeather and WeatherDiffusion do
    the same with 1024 and 16.
    """
    multiple, longest = protocol.degradation["multiple"], protocol.degradation["longest"]
    most = max(height, width)
    if longest is not None and most > longest:
        height, width = (math.ceil(side * longest / most) for side in (height, width))
    return tuple(math.ceil(side / multiple) * multiple for side in (height, width))


def _lanczos(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize uint8 (H, W, C) to a height and width with Pillow's Lanczos filter."""
    if image.shape[:2] == size:
        return image
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    return np.asarray(picture.resize(size[::-1], Image.Resampling.LANCZOS)).reshape(
        *size, image.shape[-1]).copy()


def degrade(target: np.ndarray, protocol: Protocol,
            rng: np.random.RandomState | None = None, name: str = "") -> np.ndarray:
    """Return a model's input for a target.

    Args:
        target: uint8 (H, W, C), sides divisible by the protocol's ``unit``.
        protocol: names the degradation.
        rng: the source of randomness of all steps, in their order. The default is numpy's legacy
            generator. For noise it is seeded with the protocol's seed, like ``np.random.seed(0)``
            before each image in the published toolkits. With a synthetic degradation among the
            steps it is seeded with a hash of that seed and ``name``, so that no two images of a
            set get the same rain.
        name: the image's name.

    Returns:
        float32 (H/scale, W/scale, C) in [0, 1]; noisy images are not clipped to this range.

    Raises:
        UserError: the protocol is paired; its inputs are files.
    """
    return as_input(through_steps(target, protocol, rng, name))


def through_steps(target: np.ndarray, protocol: Protocol,
                  rng: np.random.RandomState | None = None, name: str = "") -> np.ndarray:
    """Return what the protocol's steps give: uint8 or float (H/scale, W/scale, C); see ``degrade``.

    ``as_input`` makes the model's input of it. Apart, so that a caller with a large image can give
    memory back in between.
    """
    if protocol.paired:
        raise UserError(f"{protocol.id} takes its inputs from a dataset of pairs; it cannot "
                        "degrade a clean image. The protocols named synthetic can.")
    if rng is None:
        rng = np.random.RandomState(seed_of(protocol.seed, name) if protocol.synthetic
                                    else protocol.seed)
    image = target
    for step in protocol.steps:
        image = apply(step, image, rng)
    return image


def as_input(image: np.ndarray) -> np.ndarray:
    """Return float32 values of what the steps gave, in [0, 1] for an image of 8 bits."""
    return _signal(image).astype(np.float32, copy=False)


def apply(step: dict, image: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """Apply one step of a degradation.

    Args:
        step: its ``kind`` and parameters, see ``degradations.DEGRADATIONS``.
        image: uint8 (H, W, C), or float (H, W, C) in about [0, 1].
        rng: the source of randomness.

    Returns:
        uint8 or float (h, w, C); the head of this module says which.

    Raises:
        UserError: values that are not finite cannot be rounded.
    """
    kind, parameters = step["kind"], {k: v for k, v in step.items() if k != "kind"}
    if kind in degradations.SYNTHETIC:
        return synthetic.apply(kind, _rounded(image), rng, parameters)
    return STEPS[kind](image, rng, **parameters)


def _rounded(image: np.ndarray) -> np.ndarray:
    """Return an image of 8 bits, as a file would hold it."""
    return image if image.dtype == np.uint8 else to_uint8(image)


def _signal(image: np.ndarray) -> np.ndarray:
    """Return floating-point values, in [0, 1] for an image of 8 bits."""
    return to_float(image) if image.dtype == np.uint8 else image


def blur(image: np.ndarray, sigma: float, size: int) -> np.ndarray:
    """Blur with a Gaussian of ``size`` x ``size`` pixels, whose sum is 1.

    Beyond the border the image is mirrored without repeating the edge, as cv2's filters do. Takes
    uint8 or float (H, W, C); returns float64 (H, W, C).
    """
    line = np.exp(-0.5 * ((np.arange(size) - size // 2) / sigma) ** 2)
    kernel = np.outer(line, line)
    return synthetic.convolve(_signal(image).astype(np.float64), kernel / kernel.sum())


def add_noise(image: np.ndarray, sigma: float, rng: np.random.RandomState) -> np.ndarray:
    """Add white Gaussian noise of standard deviation sigma/255, drawn in (H, W, C) order.

    Takes uint8 or float (H, W, C) and returns float32 (H, W, C), neither clipped nor rounded.
    """
    out = np.empty(image.shape, np.float32)
    for rows in strips(image):      # a generator gives the same numbers as for the whole
        noise = rng.normal(0, sigma / 255.0, out[rows].shape)
        out[rows] = _signal(image[rows]) + noise
    return out


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """Compress uint8 (H, W, C) with libjpeg and decompress it; colour has 4:2:0 subsampling.

    Pillow and cv2 decode such files to identical pixels. Returns uint8 (H, W, C).
    """
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(
        buffer, "JPEG", quality=int(quality), subsampling="4:2:0")
    with open_picture(buffer) as decoded:
        return np.asarray(decoded).reshape(image.shape).copy()


# kind -> the step as a function of image, source of randomness and the parameters
STEPS = {
    "matlab_bicubic": lambda image, rng, scale: imresize(image, 1 / scale),
    "gaussian_blur": lambda image, rng, sigma, size: blur(image, sigma, size),
    "subsample": lambda image, rng, scale: image[::scale, ::scale],     # from the top left
    "gaussian_noise": lambda image, rng, sigma: add_noise(image, sigma, rng),
    "jpeg": lambda image, rng, quality: jpeg(_rounded(image), quality),
    "round": lambda image, rng: _rounded(image),
    "mosaic": lambda image, rng, pattern: malvar(mosaic(image)),
}
