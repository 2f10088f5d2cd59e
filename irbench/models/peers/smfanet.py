"""SMFANet and SMFANet+: self-modulation feature aggregation for super-resolution.

Zheng, Sun, Dong, Pan, "SMFANet: A Lightweight Self-Modulation Feature Aggregation Network for
Efficient Image Super-Resolution", ECCV 2024: section 3.1 (Figure 2), the aggregation in 3.2
(Equations 2 to 6), the partial convolution in 3.3 (Equation 7). SMFANet has 36 channels and 8
blocks, SMFANet+ 48 and 12 (section 4.1).

Try: ``python -c "from irbench.models.peers import smfanet; print(smfanet.build(2, 3))"``
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irbench.models.padding import Restorer

POOL = 8        # the non-local branch works at an eighth of the size
GROWTH = 2      # hidden channels of the local branch and of the feed-forward part
PARTIAL = 4     # one of so many hidden channels gets a 3x3 convolution


class LocalDetail(nn.Module):
    """The local branch: a depthwise 3x3 and two 1x1 convolutions (Equation 6)."""

    def __init__(self, width: int) -> None:
        """Make the convolutions."""
        super().__init__()
        hidden = GROWTH * width
        self.conv_0 = nn.Sequential(nn.Conv2d(width, hidden, 3, padding=1, groups=width),
                                    nn.Conv2d(hidden, hidden, 1))
        self.conv_1 = nn.Conv2d(hidden, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        return self.conv_1(F.gelu(self.conv_0(x)))


class Aggregation(nn.Module):
    """Self-modulated features of an eighth of the size, and local details, summed (Equation 2)."""

    def __init__(self, width: int) -> None:
        """Make the two branches."""
        super().__init__()
        self.linear_0 = nn.Conv2d(width, 2 * width, 1)
        self.linear_1 = nn.Conv2d(width, width, 1)
        self.linear_2 = nn.Conv2d(width, width, 1)
        self.lde = LocalDetail(width)
        self.dw_conv = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.alpha = nn.Parameter(torch.ones(1, width, 1, 1))
        self.belt = nn.Parameter(torch.zeros(1, width, 1, 1))  # beta, in the authors' spelling

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        local, modulated = self.linear_0(x).chunk(2, dim=1)
        height, width = x.shape[-2:]
        small = F.adaptive_max_pool2d(modulated, (max(height // POOL, 1), max(width // POOL, 1)))
        variance = modulated.var(dim=(-2, -1), keepdim=True)
        weights = F.gelu(self.linear_1(self.dw_conv(small) * self.alpha + variance * self.belt))
        modulated = modulated * F.interpolate(weights, size=(height, width), mode="nearest")
        return self.linear_2(modulated + self.lde(local))


class PartialFeedForward(nn.Module):
    """The feed-forward part: a quarter of its hidden channels is convolved (Equation 7)."""

    def __init__(self, width: int) -> None:
        """Make the convolutions."""
        super().__init__()
        hidden = GROWTH * width
        self.sizes = (hidden // PARTIAL, hidden - hidden // PARTIAL)
        self.conv_0 = nn.Conv2d(width, hidden, 1)
        self.conv_1 = nn.Conv2d(self.sizes[0], self.sizes[0], 3, padding=1)
        self.conv_2 = nn.Conv2d(hidden, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        convolved, passed = F.gelu(self.conv_0(x)).split(self.sizes, dim=1)
        return self.conv_2(torch.cat((F.gelu(self.conv_1(convolved)), passed), dim=1))


class ModulationBlock(nn.Module):
    """Aggregation and feed-forward part, each after a normalisation and with a residual."""

    def __init__(self, width: int) -> None:
        """Make both parts."""
        super().__init__()
        self.smfa = Aggregation(width)
        self.pcfn = PartialFeedForward(width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape; the channels of a pixel are brought to length 1."""
        x = x + self.smfa(F.normalize(x))
        return x + self.pcfn(F.normalize(x))


class SMFANet(Restorer):
    """The network: a convolution, the blocks with a long residual, a pixel shuffle."""

    def __init__(self, scale: int, channels: int, width: int, blocks: int) -> None:
        """Build it; see ``build``."""
        super().__init__(channels=channels, scale=scale, size_multiple=1)
        self.to_feat = nn.Conv2d(channels, width, 3, padding=1)
        self.feats = nn.Sequential(*(ModulationBlock(width) for _ in range(blocks)))
        self.to_img = nn.Sequential(nn.Conv2d(width, channels * scale**2, 3, padding=1),
                                    nn.PixelShuffle(scale))

    def restore(self, x: Tensor) -> Tensor:
        """Enlarge (B, channels, H, W)."""
        shallow = self.to_feat(x)
        return self.to_img(shallow + self.feats(shallow))


def build(scale: int, channels: int, *, width: int = 36, blocks: int = 8) -> SMFANet:
    """Build SMFANet (36 channels, 8 blocks) or SMFANet+ (48, 12).

    It maps (B, channels, H, W) to (B, channels, scale*H, scale*W).
    """
    return SMFANet(scale, channels, width, blocks)
