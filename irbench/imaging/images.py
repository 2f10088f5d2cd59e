"""Images between files and tensors: decoding, rounding, luma, MATLAB's bicubic, crops.

Inside irbench an image is a numpy array (H, W, C) with C = 1 (gray) or 3 (RGB): uint8 in
[0, 255] for the content of a file, float32 in [0, 1] for a signal.

Try: ``python -c "from irbench.imaging.images import *; print(read_image('photo.png').shape)"``
"""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from irbench.core.errors import UserError
from irbench.core.files import open_file, open_picture, read_bytes, write_atomic
from irbench.imaging import containers

# BT.601 limited range ("studio swing"), the rgb2ycbcr of MATLAB: Y in [16, 235] for RGB in [0, 255]
BT601 = np.array([65.481, 128.553, 24.966]) / 255.0
BT601_OFFSET = 16.0
# BT.601 full range in 15 bits, as cv2's BGR2GRAY computes it: .299, .587, .114 for R, G, B
FULL_RANGE = np.array([9798, 19235, 3735])
FULL_RANGE_BITS = 15
BLOCK = 2**16   # values of an intermediate result at a time, so that it stays in the cache


# -- files -------------------------------------------------------------------------------------

def decode(data: bytes, where: str) -> np.ndarray:
    """Decode the bytes of an image file: the pixels of ``cv2.imread``, turned upright by EXIF.

    Args:
        data: a PNG, JPEG, BMP, TIFF, WebP, GIF, PPM or JPEG 2000 file.
        where: the file's name, for messages.

    Returns:
        uint8 (H, W, C), C = 1 for gray files and 3 for all others (palettes are expanded).

    Raises:
        UserError: not an image; truncated or damaged; or pixels that are not opaque 8-bit gray or
            RGB (more bits, transparency, several frames or pages, another colour space).
    """
    try:
        with open_picture(io.BytesIO(containers.examine(data)), containers.FORMATS) as image:
            return of_pillow(image)
    except containers.NotPlain as error:
        raise UserError(f"{where}: {error}") from None
    except UnidentifiedImageError:
        raise UserError(f"{where}: not an image file that irbench reads, but "
                        f"{containers.other(data)}. Valid: PNG, JPEG, BMP, TIFF, WebP, GIF, PPM "
                        "and JPEG 2000. Convert it, fetch it again or remove it from the set."
                        ) from None
    except MemoryError:
        raise UserError(f"{where}: the image does not fit into memory. Cut it into parts."
                        ) from None
    except Exception as error:  # Pillow's parsers raise many kinds for damaged files
        raise UserError(f"{where}: the image is truncated or broken ({error}). "
                        "Fetch it again or remove it from the set.") from None


def of_pillow(image: Image.Image) -> np.ndarray:
    """Return the pixels of an opened Pillow image, turned upright by EXIF; see ``decode``.

    Raises ``containers.NotPlain`` for what ``decode`` refuses, and what Pillow raises for a damaged
    file.
    """
    containers.refuse_frames(image)
    containers.refuse_colours(image)
    orientation = containers.load_upright(image)
    containers.refuse_transparency(image)
    mode = "L" if image.mode in ("L", "1", "LA", "La") else "RGB"
    plain = image if image.mode == mode else image.convert(mode)    # which always copies
    pixels = np.asarray(plain).reshape(plain.height, plain.width, -1)
    return TURNED[orientation](pixels).copy()


# EXIF orientation to the function that turns an image (H, W, C) upright
TURNED = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: image[::-1, ::-1].transpose(1, 0, 2),
    8: lambda image: np.rot90(image),
}


def read_image(path: str | Path) -> np.ndarray:
    """Read an image file as uint8 (H, W, C). Raises UserError as ``decode``, or if unreadable."""
    try:
        data = read_bytes(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}. Check the path.") from None
    return decode(data, str(path))


def size_of(path: str | Path) -> int:
    """Return the number of pixels of an image file from its header; 0 if it cannot be read."""
    try:
        with open_file(path) as handle, open_picture(handle, containers.FORMATS) as image:
            return image.width * image.height
    except Exception:  # as in ``decode``; who decodes it says what is wrong
        return 0


def write_png(path: str | Path, image: np.ndarray) -> None:
    """Write uint8 (H, W, C) as PNG, atomically, in few bytes; ``put_png`` is six times as fast."""
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, "PNG")
    write_atomic(Path(path), buffer.getvalue())


def put_png(path: str | Path, image: np.ndarray) -> str:
    """Write uint8 (H, W, C) as PNG, atomically, unless the file holds just that already.

    Several models share their targets and inputs, which are then written once. The file begins with
    a text that holds the SHA-256 of the pixels and that of the rest of the file, so that it need
    not be decoded for comparison, and no edit goes unnoticed.

    Returns the SHA-256 (hex) of the file.
    """
    path, pixels = Path(path), hashlib.sha256(str(image.shape).encode())
    pixels.update(np.ascontiguousarray(image))
    try:
        data = path.read_bytes()
    except OSError:
        data = b""
    seal = _seal(pixels.hexdigest(), data[:HEAD], data[HEAD + SEAL:])
    if data[HEAD:HEAD + SEAL] != seal:
        plain = _encoded(image)
        data = plain[:HEAD] + _seal(pixels.hexdigest(), plain[:HEAD], plain[HEAD:]) + plain[HEAD:]
        write_atomic(path, data)
    return hashlib.sha256(data).hexdigest()


HEAD = 33       # bytes of a PNG file before the first chunk that is not its header
SEAL = 12 + len("irbench") + 2 * 65     # bytes of the chunk: around it, its keyword, two digests


def _seal(pixels: str, head: bytes, rest: bytes) -> bytes:
    """Return the chunk tEXt (PNG specification, 11.3.4.3) with the digests of pixels and file."""
    text = f"tEXtirbench\0{pixels} {hashlib.sha256(head + rest).hexdigest()}".encode()
    return struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))


def _encoded(image: np.ndarray) -> bytes:
    """Return the PNG file of uint8 (H, W, C); ``benchmarks/images.py`` compares other ways."""
    import cv2

    plain = np.ascontiguousarray(image)
    if plain.shape[-1] == 3:
        plain = cv2.cvtColor(plain, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".png", plain, (
        cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER,
        cv2.IMWRITE_PNG_FILTER_PAETH))[1].tobytes()


# -- values ------------------------------------------------------------------------------------

def to_float(image: np.ndarray) -> np.ndarray:
    """Turn uint8 [0, 255] into float32 [0, 1]."""
    values = image.astype(np.float32)
    values /= np.float32(255)
    return values


def strips(image: np.ndarray) -> Iterator[slice]:
    """Yield slices of rows, so that intermediate results of a large image need little memory."""
    at_once = max(1, BLOCK * len(image) // max(image.size, 1))
    for first in range(0, len(image), at_once):
        yield slice(first, first + at_once)


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Clip float to [0, 1] and round to uint8; all published figures are computed after this step.

    Without it PSNR moves by about 0.01 dB. NaN is refused, because it would become plausible black.
    """
    out = np.empty_like(image, np.uint8)
    for rows in strips(image):
        if not np.isfinite(image[rows]).all():
            raise UserError("the restored image holds NaN or infinite values: the weights or the "
                            "number type do not fit the model.")
        out[rows] = np.round(np.clip(image[rows], 0, 1) * np.float64(255))
    return out


def luma(image: np.ndarray, *, rounded: bool, gray_file: bool = False) -> np.ndarray:
    """Return the luma Y that papers score, float64 (H, W, 1), from uint8 (H, W, 1 or 3).

    BT.601 limited range, Y in [16, 235]. Old MATLAB scripts make an exception for gray files and
    treat their values as Y, so the equal channels of such an RGB image are averaged, Y in [0, 255].
    Converting them instead adds 1.32 dB to the image, and .09 dB to Set14 with its one gray image.

    Args:
        image: an image with one channel is returned unchanged.
        rounded: whether Y is rounded to whole levels. MATLAB, GRL and KAIR round; BasicSR and
            SwinIR do not.
        gray_file: whether the image comes from a gray file whose values are Y already.
    """
    if image.shape[-1] == 1:
        return image.astype(np.float64)
    if gray_file:
        y = image.astype(np.float64) @ (BT601[:, None] / BT601.sum())
    else:
        y = image.astype(np.float64) @ BT601[:, None] + BT601_OFFSET
    return np.round(y) if rounded else y


def to_gray(image: np.ndarray, source: str = "matlab_y") -> np.ndarray:
    """Convert RGB to gray: uint8 (H, W, 1 or 3) to uint8 (H, W, 1); a gray image stays as it is.

    Args:
        image: the image.
        source: ``matlab_y``, the rounded Y of MATLAB's rgb2ycbcr in [16, 235], as in the tests of
            JPEG artefacts; or ``full_range``, luma in [0, 255] as in those of denoising: the pixels
            of ``cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)``.
    """
    if source == "matlab_y" or image.shape[-1] == 1:
        return luma(image, rounded=True).astype(np.uint8)
    half = 1 << (FULL_RANGE_BITS - 1)
    return ((image @ FULL_RANGE[:, None] + half) >> FULL_RANGE_BITS).astype(np.uint8)


def to_rgb(image: np.ndarray) -> np.ndarray:
    """Repeat a gray image (H, W, 1) into three channels; RGB is returned unchanged."""
    return np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image


def as_channels(image: np.ndarray, color: str, gray: str = "matlab_y") -> np.ndarray:
    """Convert an image to a protocol's colour: ``rgb``, or ``gray`` as ``to_gray`` does."""
    return to_gray(image, gray) if color == "gray" else to_rgb(image)


# -- geometry ----------------------------------------------------------------------------------

def crop_to_multiple(image: np.ndarray, multiple: int) -> np.ndarray:
    """Crop right and bottom so that both sides are multiples, as is usual for SR test sets."""
    h, w = image.shape[:2]
    return image[: h - h % multiple, : w - w % multiple]


def crop_border(image: np.ndarray, border: int) -> np.ndarray:
    """Cut ``border`` pixels from each side. Raises UserError if nothing would remain."""
    if border == 0:
        return image
    h, w = image.shape[:2]
    if min(h, w) <= 2 * border:
        raise UserError(f"an image of {h}x{w} pixels has nothing left after cutting {border} "
                        "from each side.")
    return image[border:-border, border:-border]


# -- MATLAB's bicubic --------------------------------------------------------------------------

def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution kernel with a = -0.5 (Keys 1981), MATLAB's 'bicubic'."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


@lru_cache(maxsize=64)
def _taps(n_in: int, n_out: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Return source indices and weights (n_out, taps) for one axis.

    Shrinking widens the kernel by 1/scale (antialiasing). Beyond the border the image is mirrored
    with the edge pixel repeated, as in MATLAB's imresize.
    """
    stretch = min(scale, 1.0)
    width = 4 / stretch
    centre = (np.arange(n_out) + 0.5) / scale - 0.5
    first = np.floor(centre - width / 2).astype(int)
    index = first[:, None] + np.arange(int(np.ceil(width)) + 2)
    weight = stretch * _cubic(stretch * (centre[:, None] - index))
    weight /= weight.sum(axis=1, keepdims=True)
    period = np.concatenate([np.arange(n_in), np.arange(n_in)[::-1]])
    keep = np.any(weight != 0, axis=0)
    return period[index[:, keep] % (2 * n_in)], weight[:, keep]


def _along_rows(image: np.ndarray, taps: tuple[np.ndarray, np.ndarray], first: int, last: int,
                rounded: bool) -> np.ndarray:
    """Return rows ``first`` to ``last`` of an image resized along its first axis.

    A sparse matrix times the rows in between: each value is 0, plus the product of every tap in
    turn, each rounded to float64 (on x86; other processors may round once for both).

    Args:
        image: (n, ...), uint8 or float.
        taps: of ``_taps``.
        first: the first row of the result.
        last: the row behind the last.
        rounded: whether to round to uint8.

    Returns:
        (last - first, ...), uint8 or float64.
    """
    from scipy.sparse import csr_array

    index, weight = (part[first:last] for part in taps)
    low, high = index.min(), index.max() + 1
    matrix = csr_array((weight.ravel(), (index - low).ravel(),
                        np.arange(0, index.size + 1, index.shape[1])),
                       shape=(last - first, high - low))
    rows = np.asarray(image[low:high], np.float64, order="C").reshape(high - low, -1)
    out = matrix @ rows
    if rounded:
        # MATLAB rounds halves away from zero; the tiny term corrects 0.5 stored as 0.49999...
        np.clip(out, 0, 255, out=out)
        out += 0.5
        out += 1e-9
        out = out.astype(np.uint8)      # cuts off the fraction
    return out.reshape(last - first, *image.shape[1:])


def _turned(image: np.ndarray) -> np.ndarray:
    """Return an image (H, W, C) as (W, H, C)."""
    import cv2

    # for numpy's copy of such short pieces this takes five times as long
    return (cv2.transpose(image).reshape(image.shape[1], image.shape[0], -1)
            if image.shape[2] in (1, 3) else np.ascontiguousarray(image.transpose(1, 0, 2)))


def imresize(image: np.ndarray, scale: float, dtype: type = np.float64) -> np.ndarray:
    """Resize like MATLAB's ``imresize(image, scale)`` with its default bicubic and antialiasing.

    A uint8 image is rounded to uint8 after the pass along H and again after the pass along W. This
    reproduces every pixel of the low-resolution images that authors ship; a float pipeline differs
    in a tenth of the pixels. A float image is never rounded or clipped.

    Works on a few rows at a time, so that it needs little memory beside the result.

    Args:
        image: uint8 or float (H, W, C).
        scale: the factor, e.g. 0.5 or 2.
        dtype: of the result of a float image, which is computed in float64.

    Returns:
        The same kind of array, (ceil(H*scale), ceil(W*scale), C); ``dtype`` for float input.
    """
    rounded = image.dtype == np.uint8
    h, w = (int(np.ceil(round(side * scale, 6))) for side in image.shape[:2])
    down, across = (_taps(n_in, n_out, scale)
                    for n_in, n_out in zip(image.shape[:2], (h, w), strict=True))
    out = np.empty((h, w, image.shape[2]), np.uint8 if rounded else dtype)
    at_once = max(8, BLOCK // max(image.shape[1] * image.shape[2], 1))
    for first in range(0, h, at_once):
        last = min(first + at_once, h)
        strip = _along_rows(image, down, first, last, rounded)      # (last - first, W, C)
        out[first:last] = _turned(_along_rows(_turned(strip), across, 0, w, rounded))
    return out
