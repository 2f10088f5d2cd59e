"""Slow, plain references of Compacter's parts, written from the equations: one value at a time.

Everything works on one image with the channels last, (H, W, C), as nested loops over positions,
heads and channels; autograd goes through all of it. The parameters are those of the real modules.
"""

from __future__ import annotations

import math
from itertools import product

import torch
from torch import Tensor


def grid(rows: list[list[Tensor]]) -> Tensor:
    """Put values by row and column together: (H, W, C)."""
    return torch.stack([torch.stack(row) for row in rows])


def each(x: Tensor, function) -> Tensor:
    """Apply a function of C channels to every position of (H, W, C)."""
    return grid([[function(x[i, j]) for j in range(x.shape[1])] for i in range(x.shape[0])])


def linear(x: Tensor, m) -> Tensor:
    return each(x, lambda t: torch.stack([w @ t for w in m.weight]) + m.bias)


def layer_norm(x: Tensor, m) -> Tensor:
    def one(t):
        mean = sum(t) / len(t)
        variance = sum((value - mean) ** 2 for value in t) / len(t)
        return (t - mean) / (variance + m.eps).sqrt() * m.weight + m.bias
    return each(x, one)


def conv(x: Tensor, m) -> Tensor:
    """A convolution of stride 1 with zeros outside, dense or depthwise (one channel a group)."""
    height, width, _ = x.shape
    reach = m.weight.shape[-1] // 2

    def at(i, j):
        y = m.bias
        for di, dj in product(range(-reach, reach + 1), repeat=2):
            if 0 <= i + di < height and 0 <= j + dj < width:
                tap, near = m.weight[:, :, reach + di, reach + dj], x[i + di, j + dj]
                y = y + (tap @ near if m.groups == 1 else tap[:, 0] * near)
        return y
    return grid([[at(i, j) for j in range(width)] for i in range(height)])


def shuffle(x: Tensor, s: int) -> Tensor:
    """Channel c s^2 + a s + b of a pixel is channel c of the pixel (a, b) of its s x s."""
    height, width, c = x.shape
    return grid([[x[i // s, j // s, i % s * s + j % s:: s * s][:c // s**2]
                  for j in range(s * width)] for i in range(s * height)])


def unshuffle(x: Tensor, s: int) -> Tensor:
    height, width, channels = x.shape
    return grid([[torch.stack([x[s * i + a, s * j + b, c] for c in range(channels)
                               for a in range(s) for b in range(s)])
                  for j in range(width // s)] for i in range(height // s)])


# -- Compacter -----------------------------------------------------------------------------------

def softmax(scores: list[Tensor]) -> list[Tensor]:
    exponentials = [torch.exp(s - max(scores).detach()) for s in scores]
    return [e / sum(exponentials) for e in exponentials]


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return a @ b / ((a @ a).sqrt() * (b @ b).sqrt())


def swsa(q: Tensor, k: Tensor, v: Tensor, o, factor: Tensor | None) -> Tensor:
    """Softmax attention inside spatial windows, a head at a time."""
    d = q.shape[-1] // o.heads

    def at(i, j):
        top, left = i // o.window * o.window, j // o.window * o.window
        near = [(top + a, left + b) for a, b in product(range(o.window), repeat=2)]
        out = []
        for h in range(o.heads):
            part = slice(h * d, h * d + d)
            logits = [o.spatial_scale * cosine(q[i, j, part], k[a, b, part])
                      if o.spatial_norm == "cosine"
                      else q[i, j, part] @ k[a, b, part] / math.sqrt(d) for a, b in near]
            weights = softmax([s * (1 if factor is None else factor[h, 0, 0]) for s in logits])
            out.append(sum(w * v[a, b, part] for w, (a, b) in zip(weights, near, strict=True)))
        return torch.cat(out)
    return grid([[at(i, j) for j in range(q.shape[1])] for i in range(q.shape[0])])


def cwsa(q: Tensor, k: Tensor, v: Tensor, o, factor: Tensor | None) -> Tensor:
    """Softmax attention between the channels of a head, over all positions."""
    d = q.shape[-1] // o.channel_heads
    columns = []
    for h in range(o.channel_heads):
        part = range(h * d, h * d + d)
        for one in part:
            a = q[..., one].flatten()
            logits = [o.channel_scale * cosine(a, k[..., other].flatten())
                      if o.channel_norm == "cosine"
                      else a @ k[..., other].flatten() / math.sqrt(len(a)) for other in part]
            weights = softmax([s * (1 if factor is None else factor[h, 0, 0]) for s in logits])
            columns.append(sum(w * v[..., other] for w, other in zip(weights, part, strict=True)))
    return torch.stack(columns, dim=-1)


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def casa(x: Tensor, m, o) -> Tensor:
    q, k, v = linear(x, m.query), linear(x, m.key), linear(x, m.value)
    s, c = swsa(q, k, v, o, m.spatial_factor), cwsa(q, k, v, o, m.channel_factor)
    return linear(s * sigmoid(c) + c * sigmoid(s) + conv(v, m.local), m.project)


def dsgm(x: Tensor, m, form: str) -> Tensor:
    wide = conv(linear(x, m.expand), m.local)
    half = wide.shape[-1] // 2
    a, b = wide[..., :half], wide[..., half:]
    if form == "literal":
        return linear(sigmoid(a) * gelu(b) + gelu(b) * sigmoid(a), m.project)
    return linear(sigmoid(a) * b + gelu(b) * a, m.project)


def compact_layer(x: Tensor, m, o) -> Tensor:
    x = x + casa(layer_norm(x, m.norm1), m.attention, o)
    return x + dsgm(layer_norm(x, m.norm2), m.mixer, o.dsgm)


def compacter(image: Tensor, m, o) -> Tensor:
    """The whole network without a skip, on (channels, H, W) of a fitting size."""
    shallow = ends(image.permute(1, 2, 0), m.extract)
    deep = shallow
    for layer in m.layers:
        deep = compact_layer(deep, layer, o)
    if o.final_norm:
        deep = layer_norm(deep, m.norm)
    return ends(shallow + conv(deep, m.body_conv), m.reconstruct).permute(2, 0, 1)


def ends(x: Tensor, m) -> Tensor:
    """Either end: convolutions, shuffles and unshuffles, as the modules are listed."""
    for part in m if isinstance(m, torch.nn.Sequential) else [m]:
        kind = type(part).__name__
        x = {"TokenConv": lambda x, p: conv(x, p), "Shuffle": lambda x, p: shuffle(x, p.scale),
             "Unshuffle": lambda x, p: unshuffle(x, p.scale)}[kind](x, part)
    return x
