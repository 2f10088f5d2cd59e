"""The crops on the page: each version's window in its own pixels, which the browser enlarges.

So letters, crops and maps follow the width and the colours of the screen, and a window of 96 pixels
costs kilobytes. Crops and error maps are lossless; the whole image, which only shows where the
window is, is a preview (``PREVIEW``, ``QUALITY``), and ``NOTE`` says so below it. For print,
``report/plots/crops.py`` draws the same tiles. Reads the kept images of the run; writes nothing.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence

import matplotlib
import numpy as np
from PIL import Image

from irbench.report.page import embed
from irbench.report.plots import crops, window
from irbench.report.plots.crops import VisualComparison

PREVIEW = 480                   # pixels: the longer side of the whole image
QUALITY = 80                    # of its WebP; nobody compares pixels in it
NOTE = (f"The whole image is a preview of at most {PREVIEW} pixels (WebP of quality {QUALITY}); "
        "crops and error maps are lossless.")


def build(found: Sequence[VisualComparison]) -> dict[str, dict]:
    """Return the crops of each comparison by the stem of its figure.

    Each has name (of the image), whole (a data URI), width and height (of the image, pixels), frame
    (left, top, width, height of the window in percent of the image), side (of the window, pixels),
    tiles and scale. A tile has title, src, below (lines) and error: a data URI, "" without one. The
    scale has src (one row of its colours), end (levels of 255) and beyond (errors exceed it).
    """
    return {one.stem: _crops(one) for one in found}


def _crops(one: VisualComparison) -> dict:
    whole = window.load(one.versions[-1].path)
    height, width = whole.shape[:2]
    made = one.tiles
    end, beyond = crops.error_scale(made)
    return {
        "name": one.name, "whole": _preview(whole), "width": width, "height": height,
        "frame": [round(100 * part / of, 3) for part, of in (
            (one.left, width), (one.top, height), (one.side, width), (one.side, height))],
        "side": one.side, "scale": {"src": _bar(), "end": end, "beyond": beyond},
        "tiles": [{"title": tile.title, "src": _lossless(tile.crop),
                   "below": tile.below.split("\n"),
                   "error": "" if tile.error is None else _lossless(_coloured(tile.error / end))}
                  for tile in made]}


def _coloured(levels: np.ndarray) -> np.ndarray:
    """Return the colours, uint8 (H, W, 3), of shares of the error scale, (H, W) from 0 on."""
    return matplotlib.colormaps[crops.ERRORS](levels, bytes=True)[..., :3]


@functools.cache
def _bar() -> str:
    return _lossless(_coloured(np.linspace(0, 1, 256)[None]))


def _lossless(pixels: np.ndarray) -> str:
    return embed.uri("image/webp", embed.webp(Image.fromarray(np.ascontiguousarray(pixels))))


def _preview(pixels: np.ndarray) -> str:
    image = Image.fromarray(pixels).convert("RGB")
    image.thumbnail((PREVIEW, PREVIEW), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "WEBP", quality=QUALITY, method=4)
    return embed.uri("image/webp", out.getvalue())
