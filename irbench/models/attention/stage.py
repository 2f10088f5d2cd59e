"""SemanIR's stage: layers of transformer that share one dictionary. Columns and U-shape use it.

Reads and writes tensors only. *printed* was read in arXiv 2405.20008, *inferred* fits its printed
sizes, *ours* is a choice; the options are explained in models/semanir.py.

Try: ``python -m pytest tests/test_blocks.py -k stage``
"""

from __future__ import annotations

import math
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irbench.errors import UserError
from irbench.models import layers
from irbench.models.attention import KeyDictionary, Keys, attend, choose


class Stage(nn.Module):
    """Layers between one dictionary and a convolution, with a residual (printed; SwinIR's form).

    The stage's input is cut into windows once: the dictionary, the attention and the FFN all work
    inside a window, and only the convolution needs the image again.
    """

    def __init__(self, width: int, heads: int, options: SimpleNamespace):
        """Build for ``width`` channels and ``heads``; the rest from a card's options."""
        super().__init__()
        o = options
        self.window = o.window
        self.dictionary = KeyDictionary(o.k, o.similarity, o.train_k)
        self.layers = nn.ModuleList(Layer(width, heads, o) for _ in range(o.layers))
        self.conv = layers.conv3(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, H, W, width) to the same shape; H and W multiples of the window."""
        tokens = layers.to_windows(x, self.window)                      # (windows, N, width)
        keys = self.dictionary(tokens)
        for layer in self.layers:
            tokens = layer(tokens, keys)
        return x + self.conv(layers.from_windows(tokens, self.window, x.shape[1:3]))


class Layer(nn.Module):
    """Attention + residual, FFN + residual (printed); where the norms stand is an option (ours)."""

    def __init__(self, width: int, heads: int, options: SimpleNamespace):
        """Build for ``width`` channels and ``heads``; the rest from a card's options."""
        super().__init__()
        o = options
        self.pre = layers.choice("norm", o.norm, ("pre", "post")) == "pre"
        self.norm1 = nn.LayerNorm(width)
        self.attention = SemanticAttention(width, heads, o)
        self.norm2 = nn.LayerNorm(width)
        self.ffn = nn.Sequential(nn.Linear(width, o.mlp_ratio * width), nn.GELU(),
                                 nn.Linear(o.mlp_ratio * width, width))

    def forward(self, tokens: Tensor, keys: Keys) -> Tensor:
        """Map (windows, N, width) to the same shape."""
        if self.pre:
            tokens = tokens + self.attention(self.norm1(tokens), keys)
            return tokens + self.ffn(self.norm2(tokens))
        tokens = tokens + self.norm1(self.attention(tokens, keys))
        return tokens + self.norm2(self.ffn(tokens))


class SemanticAttention(nn.Module):
    """Cosine attention over the dictionary's keys with a position bias (inferred; SwinV2's, GRL's).

    softmax(s cos(q, k) + bias) v, with s = exp(min(t, ln 100)) a head, t starting at ln 10.
    """

    def __init__(self, width: int, heads: int, options: SimpleNamespace):
        """Build for ``width`` channels and ``heads``; the rest from a card's options."""
        super().__init__()
        layers.per_head(width, heads)
        self.heads = heads
        self.implementation = options.attention
        choose(self.implementation)
        self.qkv = nn.Linear(width, 3 * width)
        self.log_scale = nn.Parameter(torch.full((heads, 1, 1), math.log(10.0)))
        self.bias = PositionBias(options.window, heads, options.bias_hidden)
        self.project = nn.Linear(width, width)

    def forward(self, x: Tensor, keys: Keys) -> Tensor:
        """Map (windows, N, width) to the same shape."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q = F.normalize(q, dim=-1) * self.log_scale.clamp(max=math.log(100.0)).exp()
        k = F.normalize(k, dim=-1)                                      # (windows, heads, N, d)
        out = attend(q, k, v, keys, self.bias(), self.implementation)
        return self.project(out.transpose(1, 2).flatten(-2))


class PositionBias(nn.Module):
    """16 sigmoid(MLP(offset)), offsets log-spaced over -8 .. 8 (inferred; SwinV2's, as in GRL).

    The MLP sees an offset of (-w+1 .. w-1)^2, so its weights do for any window.
    """

    def __init__(self, window: int, heads: int, hidden: int):
        """Tabulate the offsets of a window x window square."""
        super().__init__()
        if window < 2:
            raise UserError(f"option 'window' is {window}; it must be at least 2.")
        self.mlp = nn.Sequential(nn.Linear(2, hidden), nn.ReLU(),
                                 nn.Linear(hidden, heads, bias=False))
        steps = torch.arange(1 - window, window, dtype=torch.float32) * 8 / (window - 1)
        steps = steps.sign() * (steps.abs() + 1).log2() / 3             # log2 8; -1.06 .. 1.06
        offsets = torch.cartesian_prod(steps, steps)                    # ((2w-1)^2, 2): dy, dx
        place = torch.cartesian_prod(torch.arange(window), torch.arange(window))    # (N, 2)
        apart = place[:, None] - place[None] + window - 1               # (N, N, 2): query - key
        index = apart[..., 0] * (2 * window - 1) + apart[..., 1]
        self.register_buffer("offsets", offsets, persistent=False)
        self.register_buffer("index", index.flatten(), persistent=False)
        self.tokens = window * window

    def forward(self) -> Tensor:
        """Return (heads, N, N): query by key."""
        table = 16 * torch.sigmoid(self.mlp(self.offsets))              # ((2w-1)^2, heads)
        return table.t().index_select(1, self.index).view(-1, self.tokens, self.tokens)
