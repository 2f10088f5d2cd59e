"""Compacter: a lightweight transformer for image restoration (ACM MM 2024).

Reads and writes tensors only; the paper released no code or weights, so this is written from
its Figures 2 and 3. In the text below *printed* was read there, *inferred* reproduces the printed
sizes, *ours* is a choice where the paper gives no information.

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
    spatial_norm scaled   ours: logits of the spatial attention are q.k / sqrt(d), the textbook's;
                    ``cosine`` takes unit vectors and multiplies by ``spatial_scale``.
    spatial_scale 10.0    ours: see channel_scale; unused unless spatial_norm is cosine.
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
Inferred without an option: all Linears and convolutions have biases, positions have no table
(with one, the printed sizes do not come out). The schedule of its training is unknown: see recipes.

The modules below are the definition, used for training, on a GPU and for counting. On a CPU without
gradients CompactLayer uses irbench.models.strips, which gives the same in 0.7 of the time.

Try: ``python -c "from irbench.models.compacter import compacter;
print(sum(p.numel() for p in compacter('sr', 2, 3).parameters()))"``
"""

from __future__ import annotations

from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irbench.models import layers, strips
from irbench.models.linear import Linear
from irbench.models.padding import Columnar

NORMS = ("cosine", "scaled")

CARDS = {
    "compacter": {
        "title": "Compacter",
        "builder": "compacter",
        "tasks": ["sr", "denoise_gray", "denoise_color", "jpeg_gray", "jpeg_color", "demosaic",
                  "deblur", "derain", "lowlight", "weather", "denoise_real", "dehaze"],
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
            "channel_norm": "cosine", "channel_scale": 10.0, "spatial_norm": "scaled",
            "spatial_scale": 10.0, "temperature": "fixed", "final_norm": False, "dsgm": "literal",
            "restoration": "half", "skip": "none",
        },
        "free": ["window", "channel_norm", "channel_scale", "spatial_norm", "spatial_scale",
                 "dsgm", "skip"],
        "dtypes": ["float32", "float64", "bfloat16"],
    },
}


def compacter(task: str, scale: int, channels: int, **options) -> Compacter:
    """Build Compacter for a task. Raises UserError for an unknown option or a bad value."""
    layers.check_task(task, scale)
    return Compacter(scale, channels, layers.options_of("compacter", CARDS, options))


class Compacter(Columnar):
    """The whole network; see the module's text. (B, channels, H, W) in [0, 1], any H, W >= 2.

    Its ``receptive_field`` is unbounded (None): the channel attention of every layer looks at all
    positions, padding included, so cutting an image into tiles changes the whole result a little.
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
            layers.start_at_input(self.extract, self.reconstruct)

    def body(self, tokens: Tensor) -> Tensor:
        """Map tokens (B, H, W, width) to the same shape: all layers and the final norm, if any."""
        for layer in self.layers:
            tokens = layer(tokens)
        return self.norm(tokens)


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
        if strips.apply_to(x):
            return strips.layer(self, x)
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
        self.channel_norm = layers.choice("channel_norm", o.channel_norm, NORMS)
        self.channel_scale = float(o.channel_scale)
        self.spatial_norm = layers.choice("spatial_norm", o.spatial_norm, NORMS)
        self.spatial_scale = float(o.spatial_scale)
        self.query = Linear(o.width, o.width)
        self.key = Linear(o.width, o.width)
        self.value = Linear(o.width, o.width)
        self.local = layers.depthwise(o.width)
        self.project = Linear(o.width, o.width)
        learned = layers.choice("temperature", o.temperature, ("fixed", "learned")) == "learned"
        self.spatial_factor = nn.Parameter(torch.ones(o.heads, 1, 1)) if learned else None
        self.channel_factor = nn.Parameter(torch.ones(o.channel_heads, 1, 1)) if learned else None

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, H, W, C) to the same shape."""
        size = x.shape[1:3]
        tokens = layers.to_windows(x, self.window)              # (windows, w*w, C)
        q, k, v = self.query(tokens), self.key(tokens), self.value(tokens)
        s = self.spatial(q, k, v)
        # the channel attention sums over positions, whose order does not matter
        c = self.channel(*(t.reshape(x.shape[0], -1, x.shape[-1]) for t in (q, k, v)))
        mixed = layers.from_windows(self.interact(s, c.reshape(s.shape)), self.window, size)
        return self.project(mixed + self.local(layers.from_windows(v, self.window, size)))

    def spatial(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """SWSA: softmax(q k^T / sqrt(d)) v in each window; (windows, w*w, C) in and out."""
        q, k, v = (layers.split_heads(t, self.heads) for t in (q, k, v))
        scale = None                                            # torch's: 1 / sqrt(d)
        if self.spatial_norm == "cosine":
            q, k, scale = F.normalize(q, dim=-1), F.normalize(k, dim=-1), self.spatial_scale
        if self.spatial_factor is not None:
            q = q * self.spatial_factor
        return layers.join_heads(F.scaled_dot_product_attention(q, k, v, scale=scale))

    def channel(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """CWSA: softmax over channels of q^T k, applied to v; (B, H*W, C) in and out."""
        q, k, v = (layers.split_heads(t, self.channel_heads) for t in (q, k, v))
        norms = [t.norm(dim=-2) for t in (q, k)] if self.channel_norm == "cosine" else []
        weights = self.channel_weights(q.transpose(-2, -1) @ k, q.shape[-2], *norms)
        return layers.join_heads(v @ weights.transpose(-2, -1))

    def channel_weights(self, products: Tensor, positions: int, *norms: Tensor) -> Tensor:
        """Turn sums over positions into the softmax of CWSA.

        Args:
            products: (B, heads, d, d), q^T k.
            positions: how many were summed over; of use for ``scaled`` only.
            norms: of the columns of q and of k, (B, heads, d) each; for ``cosine`` only.

        Returns:
            (B, heads, d, d): row, the channel that is made; column, the channel of v.
        """
        if self.channel_norm == "cosine":                       # the norms taken out of the sum
            lengths = norms[0].unsqueeze(-1) * norms[1].unsqueeze(-2)
            logits = self.channel_scale * products / lengths.clamp_min(1e-6)
        else:
            logits = products / positions**0.5
        if self.channel_factor is not None:
            logits = logits * self.channel_factor
        return logits.softmax(-1)

    @staticmethod
    def interact(s: Tensor, c: Tensor) -> Tensor:
        """Adaptive interaction (printed): each times the sigmoid of the other, summed."""
        return s * torch.sigmoid(c) + c * torch.sigmoid(s)


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
        self.expand = Linear(width, 2 * ratio * width)
        self.local = layers.depthwise(2 * ratio * width)
        self.project = Linear(ratio * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, H, W, width) to the same shape."""
        return self.project(self.gate(self.local(self.expand(x))))

    def gate(self, both: Tensor) -> Tensor:
        """Multiply the branches both ways and sum: (..., 2 C), a before b, to (..., C)."""
        a, b = both.chunk(2, dim=-1)
        if self.form == "literal":
            return 2 * torch.sigmoid(a) * F.gelu(b)
        return torch.sigmoid(a) * b + F.gelu(b) * a
