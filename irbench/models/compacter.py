"""Compacter: a lightweight transformer for image restoration (ACM MM 2024).

Reads and writes tensors only; the paper released no code or weights, so this is written from
its Figures 2 and 3. In the text below *printed* was read there, *inferred* is what makes the
printed sizes come out, *ours* is a choice where the paper says nothing.

    conv 3x3 -> layers -> conv 3x3 -> + (long residual) -> reconstruction       printed
    layer: x + CASA(LN(x)), then x + DSGM(LN(x))                                printed

Options of the card, with their reasons:
    width 48, layers 14, ratio 2    inferred: 392.2 / 398.7 / 407.8 K for x2 / x3 / x4, printed
                    393 / 399 / 408 K.
    window 8        ours: side of the spatial attention's windows; the usual one. The windows do
                    not shift (none is drawn): the channel attention and the depthwise
                    convolutions carry information across their borders.
    heads 3         ours: of the spatial attention, 16 channels each; of the divisors of 48 the
                    fastest on CPU that still has several.
    channel_heads 1 ours: the channel attention is drawn as one C x C map.
    channel_norm cosine   ours: queries and keys of the channel attention are unit vectors over
                    the positions, so that a patch and a whole image behave alike; ``scaled``
                    is the textbook 1/sqrt(positions), which grows with the image.
    channel_scale 10.0    ours: multiplies the cosines, which alone (within -1 .. 1) would leave
                    the softmax nearly uniform; it is where SwinV2's cosine attention starts.
    temperature fixed     ours: ``learned`` adds one factor a head to both attentions. With 8 and
                    8 heads and final_norm it gives 392.5 / 399.0 / 408.1 K, which rounds to the
                    printed sizes as well; nothing else speaks for it.
    final_norm false      ours: a LayerNorm before the body's last convolution.
    dsgm literal    printed: both products are sigmoid(a) * GELU(b), so their sum is twice that.
                    ``gated`` is the reading in which each activation gates the other branch
                    itself: sigmoid(a) * b + GELU(b) * a.
    restoration half      inferred: one of the ends that give 407 K (see layers.ends).
    skip none       printed: no skip around the whole network is drawn. ``input`` adds the
                    (bicubically enlarged) input and starts from it: for short trainings.

Try: ``python -c "from irbench.models.compacter import compacter;
print(sum(p.numel() for p in compacter('sr', 2, 3).parameters()))"``
"""

from __future__ import annotations

from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irbench.models import layers
from irbench.models.padding import Restorer

CARDS = {
    "compacter": {
        "title": "Compacter",
        "builder": "compacter",
        "tasks": ["sr", "denoise_gray", "denoise_color", "jpeg_gray", "jpeg_color", "demosaic",
                  "deblur", "derain", "lowlight", "weather"],
        "levels": {"sr": ["x2", "x3", "x4"]},
        "in_paper": True,
        "published_as": "Compacter",
        "note": "",
        "source": "Compacter, ACM MM 2024, Figures 2 and 3, rebuilt without official code. Widths "
                  "and depth are inferred from the printed sizes; windows, heads, normalisation "
                  "and the restoration head are choices of ours. The paper reports sr, "
                  "denoise_color, derain and lowlight; the other tasks are the same network (with "
                  "one channel for gray images) where the paper has no figure.",
        "learned": True,
        "options": {
            "width": 48, "layers": 14, "ratio": 2, "window": 8, "heads": 3, "channel_heads": 1,
            "channel_norm": "cosine", "channel_scale": 10.0, "temperature": "fixed",
            "final_norm": False, "dsgm": "literal", "restoration": "half", "skip": "none",
        },
        "dtypes": ["float32", "float64", "bfloat16"],
    },
}


def compacter(task: str, scale: int, channels: int, **options) -> Compacter:
    """Build Compacter for a task. Raises UserError for an unknown option or a bad value."""
    layers.check_task(task, scale)
    return Compacter(scale, channels, layers.options_of("compacter", CARDS, options))


class Compacter(Restorer):
    """The whole network; see the module's text. (B, channels, H, W) in [0, 1], any H, W >= 2.

    The channel attention looks at all positions, padding included, so cutting an image into
    tiles changes the result a little.
    """

    def __init__(self, scale: int, channels: int, options: SimpleNamespace):
        """Build from all of the card's options; raise UserError for a bad value."""
        o = options
        first, last, stride = layers.ends(channels, scale, o.width, restoration=o.restoration)
        super().__init__(channels=channels, scale=scale, size_multiple=o.window * stride,
                         skip=o.skip)
        self.extract = first
        self.layers = nn.ModuleList(CompactLayer(o) for _ in range(o.layers))
        self.norm = nn.LayerNorm(o.width) if o.final_norm else nn.Identity()
        self.body_conv = layers.conv3(o.width, o.width)
        self.reconstruct = last
        layers.initialise(self)
        if self.skip == "input":
            layers.start_at_zero(self.reconstruct)

    def restore(self, x: Tensor) -> Tensor:
        """Restore an image whose sides are multiples of ``size_multiple``."""
        shallow = self.extract(x.permute(0, 2, 3, 1).contiguous())      # (B, H, W, width)
        deep = shallow
        for layer in self.layers:
            deep = layer(deep)
        deep = shallow + self.body_conv(self.norm(deep))
        return self.reconstruct(deep).permute(0, 3, 1, 2).contiguous()  # (B, channels, sH, sW)


class CompactLayer(nn.Module):
    """Compact Transformer Layer, Figure 2 (printed): x + CASA(LN(x)), then x + DSGM(LN(x))."""

    def __init__(self, options: SimpleNamespace):
        """Build from all of the card's options."""
        super().__init__()
        o = options
        self.norm1 = nn.LayerNorm(o.width)
        self.attention = CASA(o)
        self.norm2 = nn.LayerNorm(o.width)
        self.mixer = DSGM(o.width, o.ratio, o.dsgm)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, H, W, width) to the same shape; H and W multiples of the window."""
        x = x + self.attention(self.norm1(x))
        return x + self.mixer(self.norm2(x))


class CASA(nn.Module):
    """Spatial and channel attention on shared queries, keys and values, Figure 3 (printed).

    Three Linears give Q, K and V for both: SWSA, softmax attention inside spatial windows, and
    CWSA, attention between channels over all positions. Each is multiplied by the sigmoid of the
    other; their sum and a depthwise 3x3 convolution of V go through a Linear.
    """

    def __init__(self, options: SimpleNamespace):
        """Build from all of the card's options."""
        super().__init__()
        o = options
        layers.per_head(o.width, o.heads)
        layers.per_head(o.width, o.channel_heads)
        self.window, self.heads, self.channel_heads = o.window, o.heads, o.channel_heads
        self.norm = layers.choice("channel_norm", o.channel_norm, ("cosine", "scaled"))
        self.scale = float(o.channel_scale)
        self.query = nn.Linear(o.width, o.width)
        self.key = nn.Linear(o.width, o.width)
        self.value = nn.Linear(o.width, o.width)
        self.local = layers.depthwise(o.width)
        self.project = nn.Linear(o.width, o.width)
        learned = layers.choice("temperature", o.temperature, ("fixed", "learned")) == "learned"
        self.spatial_factor = nn.Parameter(torch.ones(o.heads, 1, 1)) if learned else None
        self.channel_factor = nn.Parameter(torch.ones(o.channel_heads, 1, 1)) if learned else None

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, H, W, width) to the same shape."""
        q, k, v = self.query(x), self.key(x), self.value(x)
        s, c = self.spatial(q, k, v), self.channel(q, k, v)
        return self.project(s * torch.sigmoid(c) + c * torch.sigmoid(s) + self.local(v))

    def spatial(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """SWSA: softmax(q k^T / sqrt(d)) v inside each window; (B, H, W, C) in and out."""
        size = q.shape[1:3]
        q, k, v = (layers.to_windows(t, self.window).unflatten(-1, (self.heads, -1)).transpose(1, 2)
                   for t in (q, k, v))                          # (windows, heads, w*w, d)
        if self.spatial_factor is not None:
            q = q * self.spatial_factor
        out = F.scaled_dot_product_attention(q, k, v)
        return layers.from_windows(out.transpose(1, 2).flatten(-2), self.window, size)

    def channel(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """CWSA: softmax over channels of q^T k, applied to v; (B, H, W, C) in and out."""
        b, h, w, c = q.shape
        q, k, v = (t.reshape(b, h * w, self.channel_heads, -1).transpose(1, 2)
                   for t in (q, k, v))                          # (B, heads, H*W, d)
        scores = q.transpose(-2, -1) @ k                        # (B, heads, d, d)
        if self.norm == "cosine":                               # the norms taken out of the sum
            norms = q.norm(dim=-2).unsqueeze(-1) * k.norm(dim=-2).unsqueeze(-2)
            scores = self.scale * scores / norms.clamp_min(1e-6)
        else:
            scores = scores / (h * w) ** 0.5
        if self.channel_factor is not None:
            scores = scores * self.channel_factor
        out = v @ scores.softmax(-1).transpose(-2, -1)          # (B, heads, H*W, d)
        return out.transpose(1, 2).reshape(b, h, w, c)


class DSGM(nn.Module):
    """Dual gating in place of the MLP, Figure 3 (printed; ratio 2 inferred).

    Two branches Linear -> depthwise 3x3, a through a sigmoid and b through a GELU, multiplied
    both ways, summed, then a Linear. Both branches are computed as one Linear and one convolution
    of twice the width, which is the same function with the same parameters.
    """

    def __init__(self, width: int, ratio: int, form: str):
        """Build for ``width`` channels, ``ratio * width`` in each branch."""
        super().__init__()
        self.form = layers.choice("dsgm", form, ("literal", "gated"))
        self.expand = nn.Linear(width, 2 * ratio * width)
        self.local = layers.depthwise(2 * ratio * width)
        self.project = nn.Linear(ratio * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, H, W, width) to the same shape."""
        a, b = self.local(self.expand(x)).chunk(2, dim=-1)
        if self.form == "literal":
            return self.project(2 * torch.sigmoid(a) * F.gelu(b))
        return self.project(torch.sigmoid(a) * b + F.gelu(b) * a)
