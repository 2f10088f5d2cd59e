"""Bayer mosaics and their interpolation by Malvar, He and Cutler: the input of demosaicking.

A camera's sensor measures one colour per pixel. ``mosaic`` keeps the values that an RGGB sensor
would measure. ``malvar`` interpolates the other two colours with 5x5 filters, which add the
Laplacian of the known colour to the mean of the neighbours (Malvar, He and Cutler, High-quality
linear interpolation for demosaicing of Bayer-patterned color images, ICASSP 2004). MATLAB's
``demosaic`` does the same.

Try: ``python -c "import numpy as np; from irbench.imaging import mosaic;
print(mosaic.malvar(mosaic.mosaic(np.full((6, 6, 3), 9, np.uint8)))[..., 0])"``
"""

from __future__ import annotations

import numpy as np

RED, GREEN, BLUE = 0, 1, 2
# The paper's filters times 8, as rings of equal weight around the pixel (its Figure 2):
# (centre, +-1 along the row, +-1 along the column, the four diagonals, +-2 along the row,
#  +-2 along the column)
GREEN_AT_COLOR = (4, 2, 2, 0, -1, -1)
COLOR_IN_ROW = (5, 4, 0, -1, -1, 0.5)        # at green, the colour of the row's neighbours
COLOR_IN_COLUMN = (5, 0, 4, -1, 0.5, -1)     # at green, the colour of the column's neighbours
OPPOSITE = (6, 0, 0, 2, -1.5, -1.5)          # red at blue and blue at red


def mosaic(image: np.ndarray) -> np.ndarray:
    """Keep one colour of each pixel, RGGB from the top left.

    Args:
        image: (H, W, 3) of any type.

    Returns:
        (H, W, 1) of the same type: red at even rows and columns, blue at odd ones, else green.
    """
    out = image[..., GREEN:BLUE].copy()
    out[::2, ::2, 0] = image[::2, ::2, RED]
    out[1::2, 1::2, 0] = image[1::2, 1::2, BLUE]
    return out


def malvar(raw: np.ndarray) -> np.ndarray:
    """Interpolate an RGGB mosaic by Malvar, He and Cutler.

    Computed in float64. Beyond the border the mosaic is mirrored without repeating the edge, which
    keeps the colour pattern. A uint8 mosaic gives a uint8 image, clipped and rounded (halves up),
    as in MATLAB's ``demosaic``; a float image is neither clipped nor rounded.

    Args:
        raw: uint8 or float (H, W, 1), H and W at least 2.

    Returns:
        (H, W, 3), uint8 or float64. The measured colour of each pixel is unchanged.
    """
    plane = raw[..., 0].astype(np.float64)
    rings = _rings(plane)
    out = np.repeat(plane[..., None], 3, axis=-1)
    even, odd = slice(None, None, 2), slice(1, None, 2)
    for rows, columns, color, weights in (
            (even, even, GREEN, GREEN_AT_COLOR), (odd, odd, GREEN, GREEN_AT_COLOR),
            (even, odd, RED, COLOR_IN_ROW), (odd, even, RED, COLOR_IN_COLUMN),
            (even, odd, BLUE, COLOR_IN_COLUMN), (odd, even, BLUE, COLOR_IN_ROW),
            (odd, odd, RED, OPPOSITE), (even, even, BLUE, OPPOSITE)):
        out[rows, columns, color] = sum(
            weight / 8 * ring[rows, columns]
            for weight, ring in zip(weights, rings, strict=True) if weight)
    if raw.dtype == np.uint8:
        # all weights are multiples of 1/16, so that halves are exact in float64
        return np.floor(np.clip(out, 0, 255) + 0.5).astype(np.uint8)
    return out


def _rings(plane: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the sums over the rings of pixels with equal weights, each (H, W)."""
    h, w = plane.shape
    padded = np.pad(plane, 2, mode="reflect")

    def at(down: int, right: int) -> np.ndarray:
        return padded[2 + down:2 + down + h, 2 + right:2 + right + w]

    return (plane, at(0, -1) + at(0, 1), at(-1, 0) + at(1, 0),
            at(-1, -1) + at(-1, 1) + at(1, -1) + at(1, 1), at(0, -2) + at(0, 2),
            at(-2, 0) + at(2, 0))
