"""Self-ensemble: a network's mean output over the 8 flips and rotations of its input.

The input is run 8 times, flipped, turned by 90 degrees or both; every output is turned back, and
the outputs are averaged in float32, before they are clipped and rounded. Papers mark such a row
with "+" (Timofte et al., CVPR 2016; Lim et al., EDSR, CVPRW 2017). It costs 8 forward passes and
goes around tiling, so that each pass is tiled as a single image would be. Tensors only.

Try: ``python -c "import torch; from irbench.inference.ensemble import mean_of_all
print(mean_of_all(torch.nn.PixelShuffle(2), torch.rand(1, 12, 4, 6)).shape)"``
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from torch import Tensor

# (flip the rows, flip the columns, swap rows and columns); the first one changes nothing
VIEWS = tuple(itertools.product((False, True), repeat=3))


def mean_of_all(forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Map (B, C, h, w) to the mean of a network's outputs for all ``VIEWS``, (B, C', sh, sw).

    Args:
        forward: from (B, C, h, w), and from (B, C, w, h), to float32 of s times the sides.
        x: the input, which is not changed unless ``forward`` changes it.
    """
    total = None
    for view in VIEWS:
        y = back(forward(seen(x, view)), view)
        # a sum of its own: the output may be the input; after tiling it is on the CPU
        total = y.clone() if total is None else total.add_(y.to(total.device))
    return total.div_(len(VIEWS))


def seen(x: Tensor, view: tuple[bool, bool, bool]) -> Tensor:
    """Return (B, C, h, w) in a view, (B, C, w, h) if it swaps rows and columns; contiguous."""
    rows, columns, swapped = view
    x = x.flip([axis for axis, on in ((-2, rows), (-1, columns)) if on])
    return (x.transpose(-2, -1) if swapped else x).contiguous()


def back(y: Tensor, view: tuple[bool, bool, bool]) -> Tensor:
    """Undo ``seen``."""
    rows, columns, swapped = view
    y = y.transpose(-2, -1) if swapped else y
    return y.flip([axis for axis, on in ((-2, rows), (-1, columns)) if on])
