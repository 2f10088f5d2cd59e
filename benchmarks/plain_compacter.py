"""Compacter written straight from its figures, as a reader would first write it: the slow form.

``compacter.py`` (beside this file) measures irbench's against it. Feature maps are (B, C, H, W)
throughout, as in most published restoration code; each box of Figures 2 and 3 is one module: three
Linears for Q, K and V, windows by view and permute, attention by two matrix products and a softmax,
L2-normalised rows in the channel attention, two DSGM branches with a Linear and a convolution each.
Linear and LayerNorm want the channels last, so the map is permuted before and after them
(``channels_first``).

The options are those of ``irbench.models.compacter``, read from its card, and the function is the
same. ``load`` takes over the weights of irbench's model; two names differ, see ``rename``.

Try: ``python benchmarks/compacter.py --size 64 --rounds 5``
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irbench.models import compacter as fast
from irbench.models.layers import options_of
from irbench.models.padding import crop, enlarge, pad_to_multiple


def plain(scale: int, channels: int, **options) -> PlainCompacter:
    """Build the plain form with the options of irbench's card; scale 1 is restoration."""
    return PlainCompacter(scale, channels, options_of("compacter", fast.CARDS, options))


def load(model: PlainCompacter, weights: dict[str, Tensor]) -> PlainCompacter:
    """Give the plain model the state_dict of irbench's; return it."""
    model.load_state_dict(rename(weights))
    return model


def rename(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Translate a state_dict of irbench's Compacter to the plain form's.

    All names are the same but in DSGM, where irbench keeps both branches in one Linear and one
    convolution: ``mixer.expand`` and ``mixer.local`` become ``mixer.expand_a``, ``mixer.expand_b``
    and so on, a's channels first.
    """
    found = {}
    for name, value in weights.items():
        module, part = name.rsplit(".", 1)
        if module.endswith(("mixer.expand", "mixer.local")):
            found[f"{module}_a.{part}"], found[f"{module}_b.{part}"] = value.chunk(2)
        else:
            found[name] = value
    return found


class PlainCompacter(nn.Module):
    """Figure 2: convolution, layers, convolution, long residual, reconstruction."""

    def __init__(self, scale: int, channels: int, options):
        super().__init__()
        o = options
        self.scale, self.skip = scale, o.skip
        self.extract, self.reconstruct, stride = ends(scale, channels, o)
        self.multiple = o.window * stride
        self.layers = nn.ModuleList(PlainLayer(o) for _ in range(o.layers))
        self.norm = LayerNorm(o.width) if o.final_norm else nn.Identity()
        self.body_conv = nn.Conv2d(o.width, o.width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W) to (B, channels, scale*H, scale*W), any H, W >= 2."""
        height, width = x.shape[-2:]
        shallow = self.extract(pad_to_multiple(x, self.multiple))       # (B, C, H, W)
        deep = shallow
        for layer in self.layers:
            deep = layer(deep)
        y = self.reconstruct(shallow + self.body_conv(self.norm(deep)))
        y = crop(y, self.scale * height, self.scale * width)
        return y + enlarge(x, self.scale) if self.skip == "input" else y


def ends(scale: int, channels: int, o) -> tuple[nn.Sequential | nn.Conv2d, nn.Sequential, int]:
    """Build the first and last part and the stride of the body; see irbench.models.layers.ends."""
    if scale > 1:
        return (nn.Conv2d(channels, o.width, 3, padding=1), nn.Sequential(
            nn.Conv2d(o.width, channels * scale**2, 3, padding=1), nn.PixelShuffle(scale)), 1)
    if o.restoration == "half":
        return (nn.Sequential(nn.Conv2d(channels, o.width, 3, padding=1), nn.PixelUnshuffle(2),
                              nn.Conv2d(4 * o.width, o.width, 1)),
                nn.Sequential(nn.Conv2d(o.width, 4 * o.width, 1), nn.PixelShuffle(2),
                              nn.Conv2d(o.width, channels, 3, padding=1)), 2)
    if o.restoration == "unshuffle":
        return (nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * channels, o.width, 3, padding=1)),
                nn.Sequential(nn.Conv2d(o.width, 4 * channels, 3, padding=1), nn.PixelShuffle(2)),
                2)
    return (nn.Conv2d(channels, o.width, 3, padding=1),
            nn.Sequential(nn.Conv2d(o.width, channels, 3, padding=1)), 1)


def channels_first(x: Tensor) -> Tensor:
    """Permute (B, H, W, C) back to (B, C, H, W), as it lies in memory too."""
    return x.permute(0, 3, 1, 2).contiguous()


class Linear(nn.Linear):
    """A Linear over the channels of (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return channels_first(super().forward(x.permute(0, 2, 3, 1)))


class LayerNorm(nn.LayerNorm):
    """A LayerNorm over the channels of (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return channels_first(super().forward(x.permute(0, 2, 3, 1)))


class PlainLayer(nn.Module):
    """Compact Transformer Layer, Figure 2."""

    def __init__(self, o):
        super().__init__()
        self.norm1 = LayerNorm(o.width)
        self.attention = PlainCASA(o)
        self.norm2 = LayerNorm(o.width)
        self.mixer = PlainDSGM(o.width, o.ratio, o.dsgm)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mixer(self.norm2(x))


class PlainCASA(nn.Module):
    """Spatial and channel attention on shared Q, K, V with adaptive interaction, Figure 3."""

    def __init__(self, o):
        super().__init__()
        self.o = o
        self.query = Linear(o.width, o.width)
        self.key = Linear(o.width, o.width)
        self.value = Linear(o.width, o.width)
        self.local = nn.Conv2d(o.width, o.width, 3, padding=1, groups=o.width)
        self.project = Linear(o.width, o.width)
        learned = o.temperature == "learned"
        self.spatial_factor = nn.Parameter(torch.ones(o.heads, 1, 1)) if learned else None
        self.channel_factor = nn.Parameter(torch.ones(o.channel_heads, 1, 1)) if learned else None

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.query(x), self.key(x), self.value(x)
        s, c = self.spatial(q, k, v), self.channel(q, k, v)
        return self.project(s * torch.sigmoid(c) + c * torch.sigmoid(s) + self.local(v))

    def spatial(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        b, c, h, w = q.shape
        n, heads = self.o.window, self.o.heads

        def windows(t: Tensor) -> Tensor:                       # (windows, heads, n*n, d)
            t = t.reshape(b, heads, c // heads, h // n, n, w // n, n)
            return t.permute(0, 3, 5, 1, 4, 6, 2).reshape(-1, heads, n * n, c // heads)

        q, k, v = windows(q), windows(k), windows(v)
        scale = (c // heads) ** -0.5
        if self.o.spatial_norm == "cosine":
            q, k, scale = F.normalize(q, dim=-1), F.normalize(k, dim=-1), self.o.spatial_scale
        scores = q @ k.transpose(-2, -1) * scale
        if self.spatial_factor is not None:
            scores = scores * self.spatial_factor
        out = scores.softmax(dim=-1) @ v
        out = out.view(b, h // n, w // n, heads, n, n, c // heads)
        return out.permute(0, 3, 6, 1, 4, 2, 5).reshape(b, c, h, w)

    def channel(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        b, c, h, w = q.shape
        q, k, v = (t.reshape(b, self.o.channel_heads, -1, h * w) for t in (q, k, v))
        if self.o.channel_norm == "cosine":
            q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
            scores = q @ k.transpose(-2, -1) * self.o.channel_scale
        else:
            scores = q @ k.transpose(-2, -1) / (h * w) ** 0.5
        if self.channel_factor is not None:
            scores = scores * self.channel_factor
        return (scores.softmax(dim=-1) @ v).view(b, c, h, w)


class PlainDSGM(nn.Module):
    """Dual gating, Figure 3: two branches, multiplied both ways, summed."""

    def __init__(self, width: int, ratio: int, form: str):
        super().__init__()
        self.form, hidden = form, ratio * width
        self.expand_a, self.expand_b = Linear(width, hidden), Linear(width, hidden)
        self.local_a = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.local_b = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.project = Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.local_a(self.expand_a(x)), self.local_b(self.expand_b(x))
        gate, signal = torch.sigmoid(a), F.gelu(b)
        if self.form == "literal":
            return self.project(gate * signal + signal * gate)
        return self.project(gate * b + signal * a)
