"""RAMiT-1: reciprocal attention mixing transformer.

Choi et al., "Reciprocal Attention Mixing Transformer for Lightweight Image Restoration", CVPRW
2024: the network in section 3.1 (Figure 2), the block of spatial and channel attention in 3.2, the
mixing of the stages' attention in 3.3, MobiVari in 3.4. RAMiT-1 is the variant with MobileNet V1's
form of MobiVari, whose weights the authors published; the RAMiT of the paper's tables is another.
What neither figures nor text fix (the order of heads, of the four pixels of a downsizing, the
normalisation of the image) was read in the authors' repository.

Images are padded to multiples of 32 by mirroring that repeats the edge, as the authors evaluate;
zeros give 37.59 dB instead of 38.18 on Set5 x2.

Try: ``python -c "from irbench.models.peers import ramit; print(ramit.build(2, 3))"``
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irbench.models.padding import Restorer, crop

WIDTH, HEADS, CHANNEL_HEADS = 64, 4, 1
PER_HEAD = WIDTH // HEADS
SPATIAL_HEADS = HEADS - CHANNEL_HEADS
DEPTHS = (6, 4, 4, 6)
WINDOW = 8
MULTIPLE = WINDOW * 2 ** (len(DEPTHS) - 2)
FINEST = math.log(100)  # the largest logarithm of an attention's scale
# of the training images (DIV2K, low resolution), by scale: read in the authors' repository
MEAN = (0.4485, 0.4375, 0.4045)
DEVIATION = {2: (0.2397, 0.2290, 0.2389), 3: (0.2373, 0.2265, 0.2367), 4: (0.2352, 0.2244, 0.2349)}


def mirror(x: Tensor, multiple: int) -> Tensor:
    """Pad (B, C, H, W) on the bottom and right by mirroring that repeats the edge.

    Returns (B, C, H', W') with the smallest multiples H' >= H and W' >= W.
    """
    for dim in (-2, -1):
        length = x.shape[dim]
        padded = -(-length // multiple) * multiple
        index = torch.arange(padded, device=x.device) % (2 * length)
        x = x.index_select(dim, torch.where(index < length, index, 2 * length - 1 - index))
    return x


class MobiVari(nn.Module):
    """MobileNet V1's pair of convolutions with residuals (section 3.4)."""

    def __init__(self, inputs: int, outputs: int = WIDTH) -> None:
        """Make the depthwise and the pointwise convolution."""
        super().__init__()
        self.dw_conv = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs)
        self.pw_conv = nn.Conv2d(inputs, outputs, 1)
        self.same = inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H, W)."""
        y = F.leaky_relu(self.pw_conv(F.leaky_relu(self.dw_conv(x)) + x))
        return y + x if self.same else y


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each pixel of (B, C, H, W)."""

    def __init__(self, width: int = WIDTH) -> None:
        """Make the normalisation."""
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class CosineAttention(nn.Module):
    """Attention by the cosine of queries and keys, with a learned scale of each head."""

    def __init__(self, heads: int) -> None:
        """Make the scale and the projection of the heads' outputs."""
        super().__init__()
        self.logit_scale = nn.Parameter(torch.full((heads, 1, 1), math.log(10)))
        self.proj = nn.Conv2d(heads * PER_HEAD, heads * PER_HEAD, 1)

    def logits(self, q: Tensor, k: Tensor) -> Tensor:
        """Return (..., heads, M, M) for q and k (..., heads, M, D)."""
        cosine = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
        return cosine * self.logit_scale.clamp(max=FINEST).exp()


class SpatialAttention(CosineAttention):
    """Attention among the pixels of an 8x8 window, rolled by half a window in every second block.

    Windows that the roll makes of both ends of the image are not masked.
    """

    def __init__(self, shift: int) -> None:
        """Make the table of relative position biases."""
        super().__init__(SPATIAL_HEADS)
        self.shift = shift
        side = 2 * WINDOW - 1
        self.relative_position_bias_table = nn.Parameter(torch.zeros(side**2, SPATIAL_HEADS))
        y, x = torch.meshgrid(torch.arange(WINDOW), torch.arange(WINDOW), indexing="ij")
        y, x = y.flatten(), x.flatten()
        index = (y[:, None] - y + WINDOW - 1) * side + x[:, None] - x + WINDOW - 1
        self.register_buffer("relative_position_index", index)

    def forward(self, qkv: Tensor, helper: Tensor | None) -> Tensor:
        """Attend to pixels.

        Args:
            qkv: (B, 3 heads, 3*16, H, W): queries, keys and values of each head.
            helper: (B, 16, H, W), the channel attention of the block before; scales the values.

        Returns:
            (B, 48, H, W).
        """
        batch, _, _, height, width = qkv.shape
        size = (height // WINDOW, WINDOW, width // WINDOW, WINDOW)
        if helper is not None:
            q_and_k, v = qkv.split((2 * PER_HEAD, PER_HEAD), dim=2)
            qkv = torch.cat((q_and_k, v * helper.unsqueeze(1)), dim=2)
        if self.shift:
            qkv = qkv.roll((-self.shift, -self.shift), dims=(-2, -1))
        windows = qkv.reshape(batch, SPATIAL_HEADS, 3, PER_HEAD, *size)
        windows = windows.permute(2, 0, 4, 6, 1, 5, 7, 3)  # (3, B, rows, columns, heads, 8, 8, 16)
        q, k, v = windows.reshape(3, -1, SPATIAL_HEADS, WINDOW**2, PER_HEAD)
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)
        y = (self.logits(q, k) + bias).softmax(dim=-1) @ v
        y = y.reshape(batch, size[0], size[2], SPATIAL_HEADS, WINDOW, WINDOW, PER_HEAD)
        y = y.permute(0, 3, 6, 1, 4, 2, 5).reshape(batch, -1, height, width)
        y = self.proj(y)
        return y.roll((self.shift, self.shift), dims=(-2, -1)) if self.shift else y


class ChannelAttention(CosineAttention):
    """Attention among the channels of a head, over all pixels of the image."""

    def __init__(self) -> None:
        """Make scale and projection."""
        super().__init__(CHANNEL_HEADS)

    def forward(self, qkv: Tensor, helper: Tensor | None) -> Tensor:
        """Attend to channels.

        Args:
            qkv: (B, 1 head, 3*16, H, W).
            helper: (B, 48, H, W), the spatial attention of the block before; its mean over channels
                scales the values.

        Returns:
            (B, 16, H, W).
        """
        batch, _, _, height, width = qkv.shape
        q, k, v = qkv.flatten(3).chunk(3, dim=2)
        if helper is not None:
            v = v * helper.mean(dim=1).view(batch, 1, 1, -1)
        y = self.logits(q, k).softmax(dim=-1) @ v
        return self.proj(y.reshape(batch, -1, height, width))


class Projection(nn.Module):
    """Queries, keys and values of all heads from (B, 64, H, W): (B, 4, 3*16, H, W)."""

    def __init__(self) -> None:
        """Make the 1x1 convolution."""
        super().__init__()
        self.qkv = nn.Conv2d(WIDTH, 3 * WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Project and split by heads."""
        return self.qkv(x).unflatten(1, (HEADS, 3 * PER_HEAD))


class FeedForward(nn.Module):
    """Two 1x1 convolutions with GELU between them."""

    def __init__(self) -> None:
        """Make the convolutions."""
        super().__init__()
        self.hidden = nn.Conv2d(WIDTH, 2 * WIDTH, 1)
        self.out = nn.Conv2d(2 * WIDTH, WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 64, H, W) to the same shape."""
        return self.out(F.gelu(self.hidden(x)))


class ReciprocalBlock(nn.Module):
    """A D-RAMiT block: both attentions side by side, each helped by the other's last output."""

    def __init__(self, shift: int) -> None:
        """Make attentions, mixing, feed-forward part and normalisations."""
        super().__init__()
        self.qkv_proj = Projection()
        self.sp_attn = SpatialAttention(shift)
        self.ch_attn = ChannelAttention()
        self.mobivari = MobiVari(WIDTH)
        self.norm1 = ChannelNorm()
        self.ffn = FeedForward()
        self.norm2 = ChannelNorm()

    def forward(self, x: Tensor, spatial: Tensor | None, channel: Tensor | None
                ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the new (x, spatial, channel), and the mixed attention (B, 64, H, W)."""
        qkv = self.qkv_proj(x)
        spatial, channel = (self.sp_attn(qkv[:, :SPATIAL_HEADS], channel),
                            self.ch_attn(qkv[:, SPATIAL_HEADS:], spatial))
        mixed = self.mobivari(torch.cat((spatial, channel), dim=1))
        x = x + self.norm1(mixed)
        return x + self.norm2(self.ffn(x)), spatial, channel, mixed


class ReciprocalStage(nn.Module):
    """Blocks in a row."""

    def __init__(self, depth: int) -> None:
        """Make the blocks; every second one rolls its windows."""
        super().__init__()
        self.blocks = nn.ModuleDict({f"block{i}": ReciprocalBlock(WINDOW // 2 * (i % 2))
                                     for i in range(depth)})

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features and the last block's mixed attention, both (B, 64, H, W)."""
        spatial = channel = mixed = None
        for block in self.blocks.values():
            x, spatial, channel, mixed = block(x, spatial, channel)
        return x, mixed


class Downsizing(nn.Module):
    """Half the size: the four pixels of a square become channels, then MobiVari."""

    def __init__(self) -> None:
        """Make normalisation and reduction."""
        super().__init__()
        self.norm = ChannelNorm(4 * WIDTH)
        self.reduction = MobiVari(4 * WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 64, H, W) to (B, 64, H/2, W/2)."""
        corners = [x[:, :, row::2, column::2] for row in (0, 1) for column in (0, 1)]
        return self.reduction(self.norm(torch.cat(corners, dim=1)))


def shuffled(parts: list[Tensor]) -> Tensor:
    """Bring the features of the three sizes to the full one by pixel shuffle: (B, 84, H, W)."""
    return torch.cat([F.pixel_shuffle(part, 2**i) for i, part in enumerate(parts)], dim=1)


class Bottleneck(nn.Module):
    """The outputs of the three sizes with the shallow features added, back at the full size."""

    def __init__(self) -> None:
        """Make mixing and normalisation."""
        super().__init__()
        self.mobivari = MobiVari(WIDTH + WIDTH // 4 + WIDTH // 16)
        self.norm = ChannelNorm()

    def forward(self, shallow: Tensor, outputs: list[Tensor]) -> Tensor:
        """Map (B, 64, H, W) at the full, half and quarter size to the full one."""
        parts = []
        for output in outputs:
            parts.append(output + F.leaky_relu(shallow))
            shallow = F.max_pool2d(shallow, 2)
        return self.norm(self.mobivari(shuffled(parts)))


class Mixer(nn.Module):
    """H-RAMi: the attention of all stages in one map, which scales the features (section 3.3)."""

    def __init__(self) -> None:
        """Make the mixing."""
        super().__init__()
        self.mobivari = MobiVari(WIDTH + WIDTH // 4 + WIDTH // 16 + WIDTH)

    def forward(self, attentions: list[Tensor]) -> Tensor:
        """Map the attentions of stages 1 to 4 to (B, 64, H, W)."""
        return self.mobivari(torch.cat((shuffled(attentions[:3]), attentions[3]), dim=1))


class Reconstruction(nn.Module):
    """Two MobiVari, a convolution, the pixel shuffle, and a convolution of the image."""

    def __init__(self, scale: int, channels: int) -> None:
        """Make the modules."""
        super().__init__()
        self.mobivari = nn.ModuleDict({f"mobivari{i}": MobiVari(WIDTH) for i in range(2)})
        self.conv = nn.Conv2d(WIDTH, channels * scale**2, 3, padding=1)
        self.shuffle = nn.PixelShuffle(scale)
        self.final_conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 64, H, W) to (B, channels, scale*H, scale*W)."""
        for mobivari in self.mobivari.values():
            x = mobivari(x)
        return self.final_conv(self.shuffle(self.conv(x)))


class RAMiT(Restorer):
    """The network: three stages of falling size, a bottleneck, a fourth stage, reconstruction."""

    def __init__(self, scale: int, channels: int) -> None:
        """Build RAMiT-1 for RGB images and the scales 2 to 4."""
        super().__init__(channels=channels, scale=scale, size_multiple=1)
        self.shallow = nn.ModuleDict({"conv": nn.Conv2d(channels, WIDTH, 3, padding=1)})
        self.stage1, self.stage2, self.stage3, self.stage4 = map(ReciprocalStage, DEPTHS)
        self.down1, self.down2 = Downsizing(), Downsizing()
        self.bottleneck = Bottleneck()
        self.attn_mix = Mixer()
        self.to_target = Reconstruction(scale, channels)
        for name, values in (("mean", MEAN), ("deviation", DEVIATION[scale])):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1), persistent=False)

    def restore(self, x: Tensor) -> Tensor:
        """Enlarge (B, 3, H, W)."""
        height, width = x.shape[-2:]
        x = (mirror(x, MULTIPLE) - self.mean) / self.deviation
        shallow = self.shallow["conv"](x)
        full, attention1 = self.stage1(shallow)
        half, attention2 = self.stage2(self.down1(full))
        quarter, attention3 = self.stage3(self.down2(half))
        features, attention4 = self.stage4(self.bottleneck(shallow, [full, half, quarter]))
        mixed = self.attn_mix([attention1, attention2, attention3, attention4])
        y = self.to_target(features * mixed + shallow) * self.deviation + self.mean
        return crop(y, self.scale * height, self.scale * width)


def build(scale: int, channels: int) -> RAMiT:
    """Build RAMiT-1, from (B, 3, H, W) to (B, 3, scale*H, scale*W)."""
    return RAMiT(scale, channels)
