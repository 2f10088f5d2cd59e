"""SemanIR's stage: transformer layers that share one dictionary, for both network shapes.

Reads and writes tensors only. *printed* was read in arXiv 2405.20008, *inferred* fits its printed
sizes, *ours* is a choice; the options are explained in models/semanir.py.

Try: ``python -m pytest tests/models/test_blocks_semanir.py -k stage``
"""

from __future__ import annotations

import math
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from irbench.models import layers
from irbench.models.attention import KeyDictionary, Keys, attend, choose
from irbench.models.attention.bias import PositionBias
from irbench.models.linear import Linear
from irbench.models.padding import reflect_index
from irbench.models.reach import Span

LOGIT_SCALES = ("learned", "fixed", "sqrt")
SHIFTS = ("none", "half")


class Stage(nn.Module):
    """Layers with one dictionary, a convolution and a residual (printed; the form of SwinIR).

    The stage's input is cut into windows once. The dictionary, the attention and the FFN all work
    inside a window; only the convolution needs the image again.
    """

    def __init__(self, width: int, heads: int, options: SimpleNamespace, *, second: bool = False):
        """Build for ``width`` channels and ``heads``; a card's options give the rest.

        ``second``: whether the option ``shift`` moves this stage's windows.
        """
        super().__init__()
        o = options
        self.window = o.window
        shifted = layers.choice("shift", o.shift, SHIFTS) == "half" and second
        self.margin = o.window // 2 if shifted else 0
        self.dictionary = KeyDictionary(o.k, o.similarity)
        self.layers = nn.ModuleList(Layer(width, heads, o) for _ in range(o.layers))
        self.conv = layers.conv3(width, width)

    def forward(self, x: Tensor, k: int | None = None) -> Tensor:
        """Map tokens (B, H, W, width) to the same shape; H and W multiples of the window.

        ``k``: keys per token instead of the option's, for one training batch.
        """
        height, width = x.shape[1:3]
        image = self.enlarge(x) if self.margin else x
        tokens = layers.to_windows(image, self.window)                  # (windows, N, width)
        keys = self.dictionary(tokens, k)
        for layer in self.layers:
            tokens = layer(tokens, keys)
        y = layers.from_windows(tokens, self.window, image.shape[1:3])
        m = self.margin
        return x + self.conv(y[:, m:m + height, m:m + width])

    def enlarge(self, x: Tensor) -> Tensor:
        """Pad by reflection, half a window on each side, so that the windows shift.

        (B, H, W, C) to (B, H + w, W + w, C). Nothing wraps around, so no mask is needed.
        """
        for dim in (1, 2):
            length = x.shape[dim]
            inside = reflect_index(length, length + self.window - self.margin, x.device)
            before = torch.arange(self.margin, 0, -1, device=x.device)  # margin < length
            x = x.index_select(dim, torch.cat([before, inside]))
        return x

    def reads(self, span: Span) -> Span:
        """Return the span of the input that a span of the output depends on."""
        return span.wider(1).windows(self.window, -self.margin)


class Layer(nn.Module):
    """Attention + residual, FFN + residual (printed); the norms' position is an option (ours)."""

    def __init__(self, width: int, heads: int, options: SimpleNamespace):
        """Build for ``width`` channels and ``heads``; the rest from a card's options."""
        super().__init__()
        o = options
        self.pre = layers.choice("norm", o.norm, ("pre", "post")) == "pre"
        self.norm1 = nn.LayerNorm(width)
        self.attention = SemanticAttention(width, heads, o)
        self.norm2 = nn.LayerNorm(width)
        self.ffn = nn.Sequential(Linear(width, o.mlp_ratio * width), nn.GELU(),
                                 Linear(o.mlp_ratio * width, width))

    def forward(self, tokens: Tensor, keys: Keys) -> Tensor:
        """Map (windows, N, width) to the same shape."""
        if self.pre:
            tokens = tokens + self.attention(self.norm1(tokens), keys)
            return tokens + self.ffn(self.norm2(tokens))
        tokens = tokens + self.norm1(self.attention(tokens, keys))
        return tokens + self.norm2(self.ffn(tokens))


class SemanticAttention(nn.Module):
    """Attention over the dictionary's keys with a position bias: softmax(s(q, k) + bias) v.

    The option ``logit_scale`` determines s. ``learned`` is cosine attention, s = exp(min(t, ln
    100)) cos(q, k) with one t per head that starts at ln 10 (inferred; as in SwinV2 and GRL).
    ``fixed`` is the same with a constant 10. ``sqrt`` is the textbook q . k / sqrt(d). The last two
    are ours and have no parameter.
    """

    def __init__(self, width: int, heads: int, options: SimpleNamespace):
        """Build for ``width`` channels and ``heads``; the rest from a card's options."""
        super().__init__()
        layers.per_head(width, heads)
        self.heads = heads
        self.implementation = options.attention
        self.every_key = False
        choose(self.implementation)
        self.scaling = layers.choice("logit_scale", options.logit_scale, LOGIT_SCALES)
        self.qkv = Linear(width, 3 * width)
        if self.scaling == "learned":
            self.log_scale = nn.Parameter(torch.full((heads, 1, 1), math.log(10.0)))
        self.bias = PositionBias(options.window, heads, options.bias_hidden)
        self.project = Linear(width, width)

    def forward(self, x: Tensor, keys: Keys) -> Tensor:
        """Map (windows, N, width) to the same shape."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = self.scaled(q, k)                                        # (windows, heads, N, d)
        keys = Keys(None) if self.every_key else keys
        out = attend(q, k, v, keys, self.bias(), self.implementation)
        return self.project(layers.join_heads(out))

    def to_textbook(self) -> None:
        """Attend to all keys from now on, to count multiply-adds; see interface.py.

        The mask does not affect the count, and is as large as the scores.
        """
        self.implementation, self.every_key = "mask", True

    def saved_macs(self, output: Tensor, x: Tensor, keys: Keys) -> int:
        """Return the multiply-adds for the keys that are not among each query's k.

        A query needs N scores of d multiply-adds and a sum over N values of d; over all heads, d
        adds up to the layer's width.
        """
        windows, n, width = x.shape
        return 0 if keys.dense else windows * n * (n - keys.k) * 2 * width

    def scaled(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Return q and k whose dot products are the scores."""
        if self.scaling == "sqrt":
            return q / math.sqrt(q.shape[-1]), k
        scale = (self.log_scale.clamp(max=math.log(100.0)).exp() if self.scaling == "learned"
                 else 10.0)
        return q * (scale * inverse_norm(q)).to(q.dtype), k * inverse_norm(k).to(k.dtype)


def inverse_norm(x: Tensor) -> Tensor:
    """Return 1 / max(|x|, 1e-12) for (..., d) as (..., 1), in float32 or wider.

    The same factor as in ``F.normalize``, in a form whose gradient needs a third of the work.
    """
    wide = x if x.dtype == torch.float64 else x.float()
    return wide.square().sum(-1, keepdim=True).clamp_min(1e-24).rsqrt()
