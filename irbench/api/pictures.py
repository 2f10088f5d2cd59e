"""Run a model on a picture in any of the forms that a caller may have.

``irbench.restore`` and the command ``irbench restore`` are both made of this. Reads the file of a
picture given by its path; writes nothing.

Try: ``python -c "import irbench; irbench.restore('photo.jpg', 'compacter', 'sr-x2').show()"``
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from irbench.catalog import protocols
from irbench.core.errors import UserError
from irbench.imaging import photo
from irbench.imaging.images import imresize, to_rgb
from irbench.imaging.photo import Photo

# bytes for each value of an image: of input and output as float32, each in a second copy, and of
# the result
INPUT_BYTES, OUTPUT_BYTES = 8, 12
STRIP = 256     # rows that are rounded at a time
LEVELS = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}
WITH_ALPHA = 4  # channels
GRAY = "denoise_gray-sigma25"
OVER = 2        # floats up to here overshoot [0, 1]; larger ones are in [0, 255]


class GrayPicture(UserError):
    """The picture is gray, and the model removes noise that differs between the channels."""


class PictureModel(Protocol):
    """What this module needs of a model; ``api.models.LoadedModel`` has it."""

    name: str
    protocol: str
    scale: int
    channels: int
    colour_noise: bool

    def forward(self, image: np.ndarray,
                tile: Callable[[int, int], None] | None = None) -> np.ndarray:
        """Map float32 (h, w, channels) to float32 (scale h, scale w, channels)."""


def restore_picture(picture: np.ndarray | Image.Image | str | Path,
                    model: PictureModel) -> np.ndarray | Image.Image:
    """Restore a picture and return it in its form; see ``irbench.restore``."""
    if isinstance(picture, np.ndarray):
        found = restore_photo(Photo(_checked(picture)), model).pixels
        return found[..., 0] if picture.ndim == 2 else found
    if isinstance(picture, Image.Image):
        given = photo.from_pillow(picture)
    elif isinstance(picture, str | Path):
        given = photo.read(picture)
    else:
        raise UserError(f"a picture of type {type(picture).__name__}. Valid: a numpy array, a "
                        "Pillow image, or the path of an image file.")
    where = str(picture) if isinstance(picture, str | Path) else ""
    found = restore_photo(given, model, where)
    if model.colour_noise and given.subsampling:
        warnings.warn(f"{where or 'the image'}: {noise_stays(model, [given.subsampling])}",
                      stacklevel=3)
    if found.pixels.dtype == np.uint16 and (found.pixels.shape[-1] > 1 or found.alpha is not None):
        found = Photo(*(one if one is None else (one >> 8).astype(np.uint8)
                        for one in (found.pixels, found.alpha)), found.icc)
    return photo.to_pillow(found)


def noise_stays(model: PictureModel, subsamplings: Iterable[str]) -> str:
    """Say why a model for Gaussian colour noise leaves noise in JPEG files of these subsamplings.
    """
    # measured: 20.8 dB become 31.4 (PNG), 31.1 (4:4:4), but 22.8 only 26.9 (4:2:2) and 23.6 only
    # 25.7 (4:2:0)
    return (f"JPEG with subsampled chroma ({', '.join(sorted(set(subsamplings)))}), in which "
            f"neighbouring pixels share their noise. {model.name} removes noise that is "
            f"independent at each pixel ({model.protocol}): much of the noise will stay. Restore "
            "the picture from which the JPEG file was made (raw, converted to TIFF or PNG), if "
            "there is one.")


def gray_counterpart(protocol: str) -> str:
    """Return the protocol for gray pictures with the noise of a protocol for colour pictures."""
    wanted = protocols.name_of(protocol).replace("denoise_color", "denoise_gray")
    known = {protocols.name_of(one) for one in protocols.catalog()}
    return wanted if wanted.startswith("denoise_gray") and wanted in known else GRAY


def plain_array(array: np.ndarray) -> np.ndarray:
    """Return an array of numpy's own class. Raises UserError if values of it are masked."""
    if np.ma.is_masked(array):
        raise UserError("an array with masked values, which no metric or model knows of. Fill them "
                        "first: array.filled(0).")
    return np.asarray(array)


def check_shape(array: np.ndarray, alpha: str = "Cut its alpha off") -> None:
    """Raise UserError for an array that is not (H, W, 1 or 3) or (H, W); ``alpha``: the advice."""
    shape = array.shape
    if array.ndim == 2 or (array.ndim == 3 and shape[-1] in (1, 3)):
        return
    hint = ""
    if array.ndim == 3 and shape[0] in (1, 3, WITH_ALPHA):
        cut = "[:3]" * (shape[0] == WITH_ALPHA)
        hint = f" It looks like channels first: give array{cut}.transpose(1, 2, 0)."
    elif array.ndim == 3 and shape[-1] == WITH_ALPHA:
        hint = f" {alpha}: array[..., :3]."
    raise UserError(f"an array of shape {shape}. Valid: (H, W, 3), RGB, or (H, W), gray.{hint}")


def _checked(array: np.ndarray) -> np.ndarray:
    """Return an array as (H, W, 1 or 3), floats as float32. Raises UserError for other arrays."""
    array = plain_array(array)
    shape = array.shape
    check_shape(array, "Give a Pillow image to keep its alpha, or cut it off")
    if not array.size:
        raise UserError(f"an array of shape {shape} has no pixel.")
    array = array[..., None] if array.ndim == 2 else array
    if array.dtype in LEVELS:
        return array
    if array.dtype not in (np.float32, np.float64):
        raise UserError(f"an array of type {array.dtype}. Valid: uint8 in [0, 255], uint16 in "
                        "[0, 65535], float32 or float64 in [0, 1].")
    low, high = array.min(), array.max()
    if np.isnan(low):
        raise UserError(f"an array of {array.dtype} with NaN. A picture has a value at every "
                        "pixel.")
    if not (low >= 0 and high <= 1):
        how = ("array / 255" if low >= 0 and OVER < high <= 255 else
               "numpy.clip(array / 255, 0, 1)" if high > OVER else "numpy.clip(array, 0, 1)")
        raise UserError(f"an array of {array.dtype} with values from {low:g} to {high:g}. "
                        f"Floating-point pictures have values in [0, 1]: give {how}.")
    return array.astype(np.float32)


def restore_photo(given: Photo, model: PictureModel, where: str = "",
                  tile: Callable[[int, int], None] | None = None) -> Photo:
    """Restore a photograph; see ``restore_picture``.

    Args:
        given: the photograph.
        model: the model.
        where: the file's name, for messages.
        tile: called after each tile with the number of finished tiles and of all tiles.

    Returns:
        The restored photograph, with the number type, profile and EXIF data of the given one.

    Raises as ``irbench.restore``; messages begin with ``where``.
    """
    try:
        return _restored(given, model, tile)
    except UserError as error:
        if not where:
            raise
        raise type(error)(f"{where}: {error}") from None


def _restored(given: Photo, model: PictureModel, tile: Callable | None) -> Photo:
    pixels = given.pixels
    gray = pixels.shape[-1] == 1
    if not gray and model.channels == 1:
        if (pixels != pixels[..., :1]).any():
            raise UserError(f"the picture has colours, and {model.name} restores gray pictures "
                            f"({model.protocol}). Choose a model for colour, or convert the "
                            "picture to gray first.")
        pixels, gray = pixels[..., :1], True
    if model.colour_noise and (gray or not (pixels != pixels[..., :1]).any()):
        # measured: 20.4 dB become 21.2 where the gray model reaches 29.1
        raise GrayPicture(f"the picture is gray, and {model.name} removes noise that differs "
                          f"between the channels ({model.protocol}): it would leave most of the "
                          "noise of a gray picture. Choose a model for gray pictures, such as "
                          f"compacter with {gray_counterpart(model.protocol)}.")
    _check_memory(pixels.shape[:2], model)
    levels = LEVELS.get(pixels.dtype)
    x = pixels.astype(np.float32) / np.float32(levels or 1)
    y = model.forward(to_rgb(x) if model.channels == 3 else x, tile)
    h, w = (round(side * model.scale) for side in pixels.shape[:2])
    if y.shape != (h, w, model.channels):
        raise UserError(f"model {model.name} returned {y.shape} for a picture of "
                        f"{pixels.shape[:2]}; valid is {(h, w, model.channels)} (H, W, C).")
    if gray and model.channels == 3:
        y = y.mean(-1, keepdims=True)
    alpha = given.alpha
    if alpha is not None and model.scale > 1:
        enlarged = imresize(alpha[..., None].astype(np.float64) / (levels or 1), model.scale)
        alpha = _rounded(enlarged, pixels.dtype)[..., 0]
    return replace(given, pixels=_rounded(y, pixels.dtype), alpha=alpha)


def _rounded(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Clip and round float (H, W, C) to a whole-number type, as ``images.to_uint8``; floats stay.

    Raises UserError for NaN or infinite values, which would become plausible black.
    """
    if not np.isfinite(values).all():
        raise UserError("the restored picture holds NaN or infinite values: the weights or the "
                        "number type do not fit the model.")
    if dtype not in LEVELS:
        return values
    found = np.empty(values.shape, dtype)
    for top in range(0, len(values), STRIP):    # in strips: in float64 a large picture needs much
        rows = slice(top, top + STRIP)
        found[rows] = np.round(np.clip(values[rows], 0, 1) * np.float64(LEVELS[dtype]))
    return found


def _check_memory(size: tuple[int, int], model: PictureModel) -> None:
    """Raise UserError if input and output alone need more memory than there is."""
    from irbench.inference.budget import available, gib

    h, w = size
    need = h * w * model.channels * (INPUT_BYTES + OUTPUT_BYTES * model.scale**2)
    if need > (there := available("cpu")):
        raise UserError(f"the picture of {h} x {w} pixels (height x width) and its result of "
                        f"{h * model.scale} x {w * model.scale} need {gib(need)} of memory, and "
                        f"{gib(there)} are available. Cut it into parts, or use a machine with "
                        "more memory.")
