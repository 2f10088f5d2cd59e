"""Dictionary attention by masking all scores: the paper's training form (Torch-Mask, printed).

Reads and writes tensors only. ``reference`` says what the result is in the plainest way;
``mask`` is the one to use. Both take (windows, heads, N, d) and return the same; see
``attention.attend`` for the arguments.

The mask is one per window and the bias one per head, so their sum is as large as the scores: made
for each layer it costs more than the attention. On a CPU it is therefore added where the scores
are: in pieces that stay in the cache, and the bias is where a piece's products start from.

Try: ``python -m pytest tests/models/test_attention.py -k mask``
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from irbench.models.attention.bias import BiasTable
from irbench.models.attention.dictionary import Keys, additive, cache_bytes, chunks, even

# Products of matrices whose inner sides are multiples of this are up to twice as fast (30 to 32).
LANES = 16
HALVES = (torch.bfloat16, torch.float16)


def reference(q: Tensor, k: Tensor, v: Tensor, keys: Keys, bias: Tensor | None) -> Tensor:
    """All scores, the bias, minus infinity where the dictionary has no key, softmax, values."""
    given, (q, k, v) = q.dtype, widened(q, k, v)
    scores = q @ k.transpose(-2, -1)                                # (windows, heads, N, N)
    if bias is not None:
        scores = scores + bias
    if keys.mask is not None:
        scores = scores.masked_fill(~keys.mask.unsqueeze(1), -torch.inf)
    return (scores.softmax(-1) @ v).to(given)


def widened(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return tensors of 16 bits in float32, others as they are."""
    return tuple(t.float() if t.dtype in HALVES else t for t in tensors)


def mask(q: Tensor, k: Tensor, v: Tensor, keys: Keys,
         bias: Tensor | BiasTable | None) -> Tensor:
    """On a CPU in cached pieces, or step by step for autograd; elsewhere torch's own attention.

    Types of 16 bits are computed in float32 on a CPU: as fast as bfloat16 there, four times as
    fast as float16, and nothing is rounded but the inputs and the result. Elsewhere they stay, and
    the sum of bias and mask is rounded to them as well.
    """
    compiled, traced = torch.compiler.is_compiling(), torch.jit.is_tracing()
    values = bias.strips if isinstance(bias, BiasTable) else bias
    recorded = torch.is_grad_enabled() and any(
        t is not None and t.requires_grad for t in (q, k, v, values))
    if q.device.type == "cpu" and not recorded and not traced:
        if compiled:
            return compiled_pieces(q, k, v, keys.mask, values)
        return _pieces(*widened(q, k, v), keys, bias).to(q.dtype)
    bias = bias.whole() if isinstance(bias, BiasTable) else bias
    if compiled or traced or (recorded and q.device.type != "cpu"):
        return _whole(q, k, v, keys, bias)
    if recorded:
        return _steps(*widened(q, k, v), keys, bias).to(q.dtype)
    return _grouped(q, k, v, keys, bias)


def _steps(q: Tensor, k: Tensor, v: Tensor, keys: Keys, bias: Tensor | None) -> Tensor:
    """The equation itself, for autograd on a CPU: there 0.65 to 0.85 of the time of torch's own.

    With a bias that wants a gradient torch's own takes the same steps, and guards each against
    rows without a key, which a dictionary does not have.
    """
    scores = q @ k.transpose(-2, -1)                                    # (windows, heads, N, N)
    for more in (bias, keys.penalty):
        if more is not None:
            scores = scores.add_(more)
    return scores.softmax(-1) @ v


def _whole(q: Tensor, k: Tensor, v: Tensor, keys: Keys, bias: Tensor | None) -> Tensor:
    """Torch's own attention with one additive mask, which compilers and tracers can follow."""
    extra = None if bias is None else bias.unsqueeze(0)
    if keys.mask is not None:
        # a compiler cannot see into a cached property, but finds for itself what stays the same
        penalty = (additive(keys.mask).unsqueeze(1) if torch.compiler.is_compiling()
                   else keys.penalty)
        extra = penalty if extra is None else extra + penalty
    extra = None if extra is None else extra.to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=extra, scale=1.0)


def _grouped(q: Tensor, k: Tensor, v: Tensor, keys: Keys, bias: Tensor | None) -> Tensor:
    """The same for as many windows at a time as keep the additive mask small."""
    if keys.mask is None:
        return _whole(q, k, v, keys, bias)
    windows, heads, n, _ = q.shape
    each = (1 if bias is None else heads) * n * n * q.element_size()
    done = [_whole(q[part], k[part], v[part], Keys(keys.mask[part]), bias)
            for part in chunks(windows, each, q.device)]
    return done[0] if len(done) == 1 else torch.cat(done)


def _pieces(q: Tensor, k: Tensor, v: Tensor, keys: Keys,
            bias: Tensor | BiasTable | None) -> Tensor:
    """Some windows, all heads, some rows at a time: each piece's scores stay in the cache.

    bias + penalty, + q k^T, softmax, times v; all but the last are written over one another. The
    result lies in memory as (windows, N, heads, d), so that joining the heads moves nothing.
    """
    windows, heads, n, _ = q.shape
    width = v.shape[-1]
    v = F.pad(v, (0, -width % LANES))
    k = k.transpose(-2, -1)
    out = q.new_empty(windows, n, heads, width).transpose(1, 2)
    row = heads * n * q.element_size()                                  # bytes of scores
    unit = bias.strips.shape[1] if isinstance(bias, BiasTable) else 1
    rows = unit * even(n // unit, cache_bytes(q.device) // (unit * row))
    group = even(windows, cache_bytes(q.device) // (row * rows))
    scratch = q.new_empty(group * heads * rows * n)
    for first in range(0, n, rows):
        block = slice(first, min(first + rows, n))
        start = _rows(bias, block, q)                                # (heads, rows, N)
        for one in range(0, windows, group):
            part = slice(one, one + group)
            near = q[part, :, block]                                    # (group, heads, rows, d)
            shape = (*near.shape[:3], n)
            scores = scratch[:math.prod(shape)].view(shape)             # (group, heads, rows, N)
            if keys.mask is None:
                scores.copy_(start)
            else:
                penalty = additive(keys.mask[part, block], q.dtype)
                torch.add(start, penalty.unsqueeze(1), out=scores)
            flat = scores.flatten(0, 1)
            flat.baddbmm_(near.flatten(0, 1), k[part].flatten(0, 1))
            torch.softmax(flat, -1, out=flat)
            result = torch.bmm(flat, v[part].flatten(0, 1))             # (group heads, rows, d')
            out[part, :, block] = result.view(near.shape[0], heads, -1, v.shape[-1])[..., :width]
    return out


@torch.library.custom_op("irbench::masked_attention", mutates_args=())
def compiled_pieces(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None,
                    values: Tensor | None) -> Tensor:
    """``_pieces`` as one operation for ``torch.compile``, which would unroll it for minutes.

    allowed: the dictionary's mask; values: the bias, or the strips of its table.
    """
    table = values is not None and values.shape[1] != q.shape[2]
    bias = BiasTable(values) if table else values
    return _pieces(*widened(q, k, v), Keys(allowed), bias).to(q.dtype)


@compiled_pieces.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None, values: Tensor | None) -> Tensor:
    windows, heads, n, _ = q.shape
    return q.new_empty(windows, n, heads, v.shape[-1]).transpose(1, 2)


def _rows(bias: Tensor | BiasTable | None, block: slice, like: Tensor) -> Tensor:
    """Return the bias of a block of queries, (heads, rows, N), in the type of ``like``."""
    if bias is None:
        return like.new_zeros(()).expand(like.shape[1], 1, 1)
    if isinstance(bias, BiasTable):
        w = bias.strips.shape[1]
        return BiasTable(bias.strips.to(like.dtype)).rows(block.start // w, block.stop // w)
    return bias[:, block].to(like.dtype)
