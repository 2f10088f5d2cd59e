"""DeepJoint: joint demosaicking and denoising by one convolutional network.

Gharbi, Chaurasia, Paris, Durand, "Deep Joint Demosaicking and Denoising", SIGGRAPH Asia 2016: the
network in section 3.1 (Figure 3). The author's weights (package demosaicnet) belong to a variant:
the last layer at half resolution gives 128 values, of which one half multiplies the other. They are
of its Bayer network without added noise, 560,886 parameters.

The network knows a mosaic that begins with green, red (GRBG). irbench's begins with red, green
(RGGB), so it is moved by one column: the mosaic is mirrored beyond the border, which keeps the
pattern, by an odd number of columns. As the convolutions are not padded, no output depends on
anything but the image and its mirror image. For another start of the tile by an even number of
pixels the result is the same.

Try: ``python -c "from irbench.models.peers import deepjoint; print(deepjoint.build(1, 3))"``
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irbench.core.errors import UserError
from irbench.models.padding import Restorer, reflect_index

WIDTH = 64
DEPTH = 15                      # convolutions of 3x3 at half resolution
LOST = 2 * DEPTH                # pixels that these take from each side of the image
ABOVE, LEFT = LOST + 2, LOST + 1    # even: rows keep their colours; odd: columns change theirs


class DeepJoint(Restorer):
    """The network; takes an image that was interpolated from an RGGB mosaic, whose values it keeps.

    Any interpolation serves that leaves the measured values as they are, such as Malvar's.
    """

    receptive_field = LOST + 2

    def __init__(self) -> None:
        """Make the convolutions, named as in the author's file."""
        super().__init__(channels=3, scale=1, size_multiple=2)
        self.main_processor = nn.ModuleDict({"pack_mosaic": nn.Conv2d(3, 4, 2, stride=2)})
        for number in range(1, DEPTH + 1):
            self.main_processor[f"conv{number}"] = nn.Conv2d(
                4 if number == 1 else WIDTH, 2 * WIDTH if number == DEPTH else WIDTH, 3)
        self.residual_predictor = nn.Conv2d(WIDTH, 12, 1)
        self.upsampler = nn.ConvTranspose2d(12, 3, 2, stride=2, groups=3)
        self.fullres_processor = nn.ModuleDict({"post_conv": nn.Conv2d(6, WIDTH, 3),
                                                "output": nn.Conv2d(WIDTH, 3, 1)})

    def restore(self, x: Tensor) -> Tensor:
        """Interpolate (B, 3, H, W) with even H, W, of which only the mosaic's values count."""
        height, width = x.shape[-2:]
        mosaic = mirrored(x * pattern(x), ABOVE, LEFT)      # (B, 3, H + 64, W + 62)
        features = self.main_processor["pack_mosaic"](mosaic)
        for number in range(1, DEPTH + 1):
            features = F.relu(self.main_processor[f"conv{number}"](features))
        filters, masks = features.chunk(2, dim=1)
        residual = self.upsampler(self.residual_predictor(filters * masks))  # (.., H + 4, W + 2)
        both = torch.cat([mosaic[..., LOST:-LOST, LOST:-LOST], residual], dim=1)
        y = self.fullres_processor["output"](F.relu(self.fullres_processor["post_conv"](both)))
        return y[..., 1:height + 1, :width]


def pattern(x: Tensor) -> Tensor:
    """Return 1 where an RGGB sensor measures a colour of (B, 3, H, W), else 0, as (1, 3, H, W)."""
    mask = x.new_zeros(1, 3, *x.shape[-2:])
    mask[:, 0, ::2, ::2] = mask[:, 1, ::2, 1::2] = mask[:, 1, 1::2, ::2] = 1
    mask[:, 2, 1::2, 1::2] = 1
    return mask


def mirrored(x: Tensor, rows: int, columns: int) -> Tensor:
    """Mirror (B, C, H, W) beyond the border without repeating the edge, on all sides."""
    for dim, border in ((-2, rows), (-1, columns)):
        length = x.shape[dim]
        # the mirror image has a period, so that it can begin so many whole periods earlier
        period = 2 * (length - 1)
        begin = -border % period
        index = reflect_index(length, begin + length + 2 * border, x.device)[begin:]
        x = x.index_select(dim, index)
    return x


def build(scale: int, channels: int) -> DeepJoint:
    """Build DeepJoint, from (B, 3, H, W) to the same shape. Raises UserError for another task."""
    if (scale, channels) != (1, 3):
        raise UserError(f"deepjoint interpolates mosaics: scale 1 and 3 channels, not {scale} and "
                        f"{channels}.")
    return DeepJoint()
