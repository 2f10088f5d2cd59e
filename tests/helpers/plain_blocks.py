"""Slow, plain references of the parts of networks, written from the equations, and of Compacter.

Everything works on one image with the channels last, (H, W, C); autograd goes through all of it.
Compacter is nested loops over positions, heads and channels, one value at a time. The parameters
are those of the real modules. SemanIR's references are in plain_semanir.py; what compares any of
them with the modules stands at the beginning here.
"""

from __future__ import annotations

import math
from itertools import product

import torch
from torch import Tensor
from torch.func import functional_call

# -- comparing -----------------------------------------------------------------------------------

def normal(seed: int, *size: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def wake(module: torch.nn.Module, seed: int = 1) -> torch.nn.Module:
    """Give every parameter a value that matters, in float64: zeros and ones hide mistakes."""
    torch.manual_seed(seed)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    module = module.double().eval()
    for one in module.modules():
        if hasattr(one, "offsets"):  # kept in float32, which double() does not undo
            window = (len(one.offsets) ** 0.5 + 1) / 2
            steps = torch.arange(1 - window, window, dtype=torch.float64) * 8 / (window - 1)
            steps = steps.sign() * (steps.abs() + 1).log2() / 3
            one.offsets = torch.cartesian_prod(steps, steps)
    return module


def same(found: Tensor, expected: Tensor, inputs: list[Tensor]) -> None:
    """Compare values, and their gradients by all inputs along a random direction."""
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-9)
    along = normal(5, *expected.shape)
    fast, slow = (torch.autograd.grad((y * along).sum(), inputs) for y in (found, expected))
    torch.testing.assert_close(fast, slow, rtol=1e-8, atol=1e-9)
    assert fast[0].abs().max() > 0


def check_gradients(module: torch.nn.Module, x: Tensor, *more: object, fast: bool = False) -> None:
    """gradcheck, by the input and all parameters."""
    names = [name for name, _ in module.named_parameters()]
    assert torch.autograd.gradcheck(
        lambda x, *values: functional_call(module, dict(zip(names, values, strict=True)),
                                           (x, *more)),
        (x, *module.parameters()), fast_mode=fast)


# -- parts ---------------------------------------------------------------------------------------

def linear(x: Tensor, m) -> Tensor:
    return x @ m.weight.T + (0 if m.bias is None else m.bias)


def layer_norm(x: Tensor, m) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    deviation = (centred.square().mean(-1, keepdim=True) + m.eps).sqrt()
    return centred / deviation * m.weight + m.bias


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def conv(x: Tensor, m, stride: int = 1) -> Tensor:
    """(H, W, C) -> (H / stride, W / stride, C'), zeros outside; dense, or one channel a group."""
    reach = m.weight.shape[-1] // 2
    height, width, c = x.shape
    wide = x.new_zeros(height + 2 * reach, width + 2 * reach, c)
    wide[reach:reach + height, reach:reach + width] = x
    y = m.bias
    for i, j in product(range(2 * reach + 1), repeat=2):
        near, tap = wide[i:i + height, j:j + width], m.weight[:, :, i, j]
        y = y + (near @ tap.T if m.groups == 1 else near * tap[:, 0])
    return y[::stride, ::stride]


def shuffle(x: Tensor, scale: int) -> Tensor:
    """(H, W, C s^2) -> (sH, sW, C); the channel's number counts (C, row, column)."""
    height, width, c = x.shape
    y = x.new_zeros(height * scale, width * scale, c // scale**2)
    for i, j in product(range(scale), repeat=2):
        y[i::scale, j::scale] = x[..., i * scale + j::scale**2]
    return y


def unshuffle(x: Tensor, scale: int) -> Tensor:
    height, width, c = x.shape
    y = x.new_zeros(height // scale, width // scale, c * scale**2)
    for i, j in product(range(scale), repeat=2):
        y[..., i * scale + j::scale**2] = x[i::scale, j::scale]
    return y


def ends(x: Tensor, m) -> Tensor:
    """Either end, the extractor or the reconstructor: its parts in their order."""
    kind = type(m).__name__
    if kind == "Sequential":
        for part in m:
            x = ends(x, part)
        return x
    if kind == "Shuffle":
        return shuffle(x, m.scale)
    if kind == "Unshuffle":
        return unshuffle(x, m.scale)
    if kind == "LeakyReLU":
        return torch.where(x > 0, x, 0.01 * x)
    return conv(x, m)


# -- Compacter -----------------------------------------------------------------------------------

def grid(rows: list[list[Tensor]]) -> Tensor:
    """Put values by row and column together: (H, W, C)."""
    return torch.stack([torch.stack(row) for row in rows])


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
