"""IMDN: information multi-distillation network for super-resolution.

Hui, Gao, Yang, Wang, "Lightweight Image Super-Resolution with Information Multi-distillation
Network", ACM MM 2019: the network in section 3.1 (Figure 2), the block in 3.2 (Figure 3, Table 1),
contrast-aware attention in 3.2 (Figure 4). 694 to 715 thousand parameters, as printed.

Try: ``python -c "from irbench.models.peers import imdn; print(imdn.build(2, 3))"``
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irbench.models.padding import Restorer

WIDTH = 64
KEPT = WIDTH // 4       # channels that each step of a block distils; the others go on
REDUCED = WIDTH // 16   # width of the attention's bottleneck
BLOCKS = 6
SLOPE = 0.05            # of the leaky ReLU


class ContrastAttention(nn.Module):
    """Channel attention whose descriptor is the sum of standard deviation and mean (Figure 4)."""

    def __init__(self) -> None:
        """Make the two 1x1 convolutions."""
        super().__init__()
        self.conv_du = nn.Sequential(nn.Conv2d(WIDTH, REDUCED, 1), nn.ReLU(),
                                     nn.Conv2d(REDUCED, WIDTH, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """Scale the channels of (B, 64, H, W)."""
        variance, mean = torch.var_mean(x, dim=(2, 3), correction=0, keepdim=True)
        return x * self.conv_du(variance.sqrt() + mean)


class Distillation(nn.Module):
    """A block: three times a quarter of the channels is kept, the rest refined (Table 1)."""

    def __init__(self) -> None:
        """Make the convolutions."""
        super().__init__()
        rest = WIDTH - KEPT
        self.c1 = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.c2 = nn.Conv2d(rest, WIDTH, 3, padding=1)
        self.c3 = nn.Conv2d(rest, WIDTH, 3, padding=1)
        self.c4 = nn.Conv2d(rest, KEPT, 3, padding=1)
        self.cca = ContrastAttention()
        self.c5 = nn.Conv2d(WIDTH, WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 64, H, W) to the same shape."""
        kept, rest = [], x
        for conv in (self.c1, self.c2, self.c3):
            part, rest = F.leaky_relu(conv(rest), SLOPE).split((KEPT, WIDTH - KEPT), dim=1)
            kept.append(part)
        kept.append(self.c4(rest))
        return x + self.c5(self.cca(torch.cat(kept, dim=1)))


class IMDN(Restorer):
    """The network: six blocks whose outputs are fused, then one convolution and a pixel shuffle."""

    def __init__(self, scale: int, channels: int) -> None:
        """Build it for an image of ``channels`` channels and a whole ``scale``."""
        super().__init__(channels=channels, scale=scale, size_multiple=1)
        self.fea_conv = nn.Conv2d(channels, WIDTH, 3, padding=1)
        self.blocks = [f"IMDB{number}" for number in range(1, BLOCKS + 1)]
        for name in self.blocks:
            self.add_module(name, Distillation())
        self.c = nn.Sequential(nn.Conv2d(WIDTH * BLOCKS, WIDTH, 1), nn.LeakyReLU(SLOPE))
        self.LR_conv = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.upsampler = nn.Sequential(nn.Conv2d(WIDTH, channels * scale**2, 3, padding=1),
                                       nn.PixelShuffle(scale))

    def restore(self, x: Tensor) -> Tensor:
        """Enlarge (B, channels, H, W)."""
        shallow = self.fea_conv(x)
        outputs = [shallow]
        for name in self.blocks:
            outputs.append(self.get_submodule(name)(outputs[-1]))
        return self.upsampler(self.LR_conv(self.c(torch.cat(outputs[1:], dim=1))) + shallow)


def build(scale: int, channels: int) -> IMDN:
    """Build IMDN, from (B, channels, H, W) to (B, channels, scale*H, scale*W)."""
    return IMDN(scale, channels)
