"""From a clean image to the input of a model: the degradations of the protocols.

Try: ``python -c "from irbench import degrade, protocols, images; ..."``, or ``irbench eval
--keep-images``, which writes the degraded inputs beside the restored images.
"""

from __future__ import annotations

import io

import numpy as np

from irbench.errors import UserError
from irbench.images import as_channels, crop_to_multiple, imresize, to_float
from irbench.protocols import Protocol


def prepare_target(image: np.ndarray, protocol: Protocol) -> np.ndarray:
    """Bring a file's image to the protocol's colour and to a size its scale divides.

    Args:
        image: uint8 (H, W, 1 or 3).
        protocol: fixes colour and scale.

    Returns:
        uint8 (H', W', channels): the image restored ones are compared with.

    Raises:
        UserError: so small that the input would have a side of one pixel.
    """
    h, w = image.shape[:2]
    least = 2 * protocol.scale
    if min(h, w) < least:
        raise UserError(f"the image is {h}x{w} pixels (height x width); {protocol.id} needs at "
                        f"least {least} on each side.")
    return crop_to_multiple(as_channels(image, protocol.color), protocol.scale)


def degrade(target: np.ndarray, protocol: Protocol,
            rng: np.random.RandomState | None = None) -> np.ndarray:
    """Return a model's input for a target.

    Args:
        target: uint8 (H, W, C), sides divisible by the protocol's scale.
        protocol: names the degradation.
        rng: the source of randomness; by default numpy's legacy generator seeded anew with the
            protocol's seed, as ``np.random.seed(0)`` before each image in the published toolkits.

    Returns:
        float32 (H/scale, W/scale, C). In [0, 1] except for noise, which is not clipped.
    """
    parameters = protocol.degradation
    if parameters["kind"] == "matlab_bicubic":
        return to_float(imresize(target, 1 / parameters["scale"]))
    if parameters["kind"] == "gaussian_noise":
        if rng is None:
            rng = np.random.RandomState(protocol.seed)
        return add_noise(target, parameters["sigma"], rng)
    return to_float(jpeg(target, parameters["quality"]))


def add_noise(image: np.ndarray, sigma: float, rng: np.random.RandomState) -> np.ndarray:
    """Add white Gaussian noise of standard deviation sigma/255, drawn in (H, W, C) order.

    Neither clipped nor rounded. float32 (H, W, C) from uint8 (H, W, C).
    """
    noise = rng.normal(0, sigma / 255.0, image.shape)
    return (to_float(image) + noise).astype(np.float32)


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """Compress and decompress with libjpeg at a quality; colour with 4:2:0 subsampling.

    Pillow and cv2 decode such files to identical pixels. uint8 (H, W, C) to uint8 (H, W, C).
    """
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(
        buffer, "JPEG", quality=int(quality), subsampling=-1 if image.shape[-1] == 1 else "4:2:0")
    with Image.open(buffer) as decoded:
        return np.asarray(decoded).reshape(image.shape).copy()
