"""Compacter's layers on a CPU without gradients: strip by strip, so that temporaries stay in cache.

Reads and writes tensors only. The modules of ``irbench.models.compacter`` make about thirty tensors
of the image's size in each layer, and on a CPU moving them to memory and back costs nearly as much
as the arithmetic. Here the same modules work on a strip of rows at a time. Only data that other
strips need are stored for the whole image: the layer's result, and for the attention V and the
spatial attention, because the channel attention is known only after all positions were processed.
The values are the same up to rounding, because sums over positions are computed strip by strip.

With this Compacter x2 takes 0.7 of the time (AMD EPYC, 1 thread, 256x256 and 512x512 pixels). Its
peak memory at 256x256 is 71 MiB instead of 168, because tensors of the DSGM's width exist only per
strip.

Try: ``python benchmarks/compacter.py --size 128 --rounds 5``
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from irbench.models import layers

# Tokens of a strip for each thread; the largest temporaries, 192 channels of the DSGM in float32,
# then take 6 MB. With half of this Compacter took as long, with a quarter or twice 1.1 to 1.2 times
# as long (256x256 and 512x512; 1 MB of L2 cache per core, 32 MB of L3).
TOKENS = 8192


def apply_to(x: Tensor) -> bool:
    """Whether strips apply to x: on a CPU, without gradients, tracing, compiling or autocast.

    A tracer that counts multiply-adds and a compiler need the definition, which has no loops over
    positions; autocast chooses types by operation, not by buffer. Hooks on modules inside a
    CompactLayer are not called in a pass with strips.
    """
    return (not torch.compiler.is_compiling() and not torch.jit.is_tracing()
            and x.device.type == "cpu" and not torch.is_grad_enabled()
            and not torch.is_autocast_enabled("cpu"))


def cut(x: Tensor, multiple: int) -> Iterator[slice]:
    """Cut the rows of (B, H, W, C) into strips of multiples of rows, about TOKENS a thread."""
    b, height, width, _ = x.shape
    rows = max(TOKENS * torch.get_num_threads() // (b * width * multiple), 1) * multiple
    for first in range(0, height, rows):
        yield slice(first, min(first + rows, height))


def with_neighbours(function: Callable[[Tensor], Tensor], x: Tensor, rows: slice) -> Tensor:
    """Return some rows of function(x), whose rows depend on the rows of x at most one away."""
    first, last = max(rows.start - 1, 0), min(rows.stop + 1, x.shape[1])
    return function(x[:, first:last])[:, rows.start - first:rows.stop - first]


def layer(module: nn.Module, x: Tensor) -> Tensor:
    """Compute what a CompactLayer defines; tokens (B, H, W, C) in and out, x is not changed."""
    x = add_attention(module.norm1, module.attention, x)
    return add_mixer(module.norm2, module.mixer, x, module.attention.window)


def add_attention(norm: nn.Module, casa: nn.Module, x: Tensor) -> Tensor:
    """Return x + CASA(LN(x)); (B, H, W, C) in and out."""
    b, height, width, c = x.shape
    heads, d = casa.channel_heads, c // casa.channel_heads
    spatial, values, out = (torch.empty_like(x) for _ in range(3))
    exact = torch.promote_types(x.dtype, torch.float32)     # for sums over strips
    products = x.new_zeros(b, heads, d, d, dtype=exact)
    squares = x.new_zeros(2, b, heads, d, dtype=exact)      # of the columns of q and k
    for rows in cut(x, casa.window):
        size = (rows.stop - rows.start, width)
        tokens = layers.to_windows(norm(x[:, rows]), casa.window)
        q, k, v = casa.query(tokens), casa.key(tokens), casa.value(tokens)
        spatial[:, rows] = layers.from_windows(casa.spatial(q, k, v), casa.window, size)
        values[:, rows] = layers.from_windows(v, casa.window, size)
        q, k = (layers.split_heads(t.view(b, -1, c), heads) for t in (q, k))
        products += q.transpose(-2, -1) @ k
        squares[0] += (q * q).sum(-2, dtype=exact)          # 3 times as fast as a norm
        squares[1] += (k * k).sum(-2, dtype=exact)
    weights = casa.channel_weights(products, height * width, *squares.sqrt())
    weights = weights.transpose(-2, -1).to(x.dtype)
    for rows in cut(x, casa.window):
        s = spatial[:, rows]
        v = layers.split_heads(values[:, rows].flatten(1, 2), heads)
        mixed = casa.interact(s, layers.join_heads(v @ weights).reshape(s.shape))
        mixed += with_neighbours(casa.local, values, rows)
        torch.add(x[:, rows], casa.project(mixed), out=out[:, rows])
    return out


def add_mixer(norm: nn.Module, dsgm: nn.Module, x: Tensor, multiple: int) -> Tensor:
    """Return x + DSGM(LN(x)); (B, H, W, C) in and out; strips of multiples of rows."""
    out = torch.empty_like(x)
    for rows in cut(x, multiple):
        both = with_neighbours(lambda t: dsgm.local(dsgm.expand(norm(t))), x, rows)
        torch.add(x[:, rows], dsgm.project(dsgm.gate(both)), out=out[:, rows])
    return out
