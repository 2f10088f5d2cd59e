"""Dictionary attention by masking all scores: the paper's training form (Torch-Mask, printed).

Reads and writes tensors only. ``reference`` defines the result in the simplest way; ``mask`` is the
one to use. Both take (windows, heads, N, d) and return the same; see ``attention.attend`` for the
arguments.

There is one mask per window and one bias per head, so their sum is as large as the scores; to build
it for each layer costs more than the attention. On a CPU they are therefore added to the scores in
pieces that stay in the cache, and the products of a piece are accumulated onto the bias.

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
    """Compute all scores, add the bias and -inf outside the dictionary, softmax, apply to v."""
    given, (q, k, v) = q.dtype, widened(q, k, v)
    scores = q @ k.transpose(-2, -1)                                # (windows, heads, N, N)
    if bias is not None:
        scores = scores + bias
    if keys.mask is not None:
        scores = scores.masked_fill(~keys.mask.unsqueeze(1), -torch.inf)
    return (scores.softmax(-1) @ v).to(given)


def widened(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return 16-bit tensors in float32, others unchanged."""
    return tuple(t.float() if t.dtype in HALVES else t for t in tensors)


def mask(q: Tensor, k: Tensor, v: Tensor, keys: Keys,
         bias: Tensor | BiasTable | None) -> Tensor:
    """Attend on a CPU in cached pieces, or step by step for autograd; elsewhere with torch's own.

    On a CPU 16-bit types are computed in float32: this is as fast as bfloat16 and four times as
    fast as float16, and only the inputs and the result are rounded. Elsewhere the type stays, and
    the sum of bias and mask is rounded to it as well.
    """
    compiled, traced = torch.compiler.is_compiling(), torch.jit.is_tracing()
    values = bias.strips if isinstance(bias, BiasTable) else bias
    recorded = torch.is_grad_enabled() and any(
        t is not None and t.requires_grad for t in (q, k, v, values))
    if q.device.type == "cpu" and not recorded and not traced:
        if compiled:
            return compiled_pieces(q, k, v, keys.mask, values)
        return _pieces(*widened(q, k, v), keys, bias).to(q.dtype)
    bias = bias.full_matrix() if isinstance(bias, BiasTable) else bias
    if compiled or traced or (recorded and q.device.type != "cpu"):
        return _whole(q, k, v, keys, bias)
    if recorded:
        return _steps(*widened(q, k, v), keys, bias).to(q.dtype)
    return _grouped(q, k, v, keys, bias)


def _steps(q: Tensor, k: Tensor, v: Tensor, keys: Keys, bias: Tensor | None) -> Tensor:
    """Compute the equation directly, for autograd on a CPU: 0.65 to 0.85 of torch's own time.

    With a bias that needs a gradient, torch's own attention takes the same steps and also handles
    rows without a key, which do not occur in a dictionary.
    """
    scores = q @ k.transpose(-2, -1)                                    # (windows, heads, N, N)
    for more in (bias, keys.penalty):
        if more is not None:
            scores = scores.add_(more)
    return scores.softmax(-1) @ v


def _whole(q: Tensor, k: Tensor, v: Tensor, keys: Keys, bias: Tensor | None) -> Tensor:
    """Call torch's own attention with one additive mask; compilers and tracers can follow it."""
    extra = None if bias is None else bias.unsqueeze(0)
    if keys.mask is not None:
        # a compiler cannot follow a cached property, but reuses common subexpressions itself
        penalty = (additive(keys.mask).unsqueeze(1) if torch.compiler.is_compiling()
                   else keys.penalty)
        extra = penalty if extra is None else extra + penalty
    extra = None if extra is None else extra.to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=extra, scale=1.0)


def _grouped(q: Tensor, k: Tensor, v: Tensor, keys: Keys, bias: Tensor | None) -> Tensor:
    """Do the same for a few windows at a time, so that the additive mask stays small."""
    if keys.mask is None:
        return _whole(q, k, v, keys, bias)
    windows, heads, n, _ = q.shape
    each = (1 if bias is None else heads) * n * n * q.element_size()
    done = [_whole(q[part], k[part], v[part], Keys(keys.mask[part]), bias)
            for part in chunks(windows, each, q.device)]
    return done[0] if len(done) == 1 else torch.cat(done)


def _pieces(q: Tensor, k: Tensor, v: Tensor, keys: Keys,
            bias: Tensor | BiasTable | None) -> Tensor:
    """Process some windows, all heads and some rows at a time; a piece's scores stay in the cache.

    bias + penalty, + q k^T, softmax, times v; all steps but the last work in place. The result is
    stored as (windows, N, heads, d), so that joining the heads needs no copy.
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
