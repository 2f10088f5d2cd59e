"""Dictionary attention by gathering each query's keys and values (Torch-Gather, printed).

Reads and writes tensors only; see ``attention.attend`` for the arguments. It computes N k products
per head instead of N N, but copies k keys and values for every query. On a CPU it is as fast as
``mask`` if k is about N / 16, and eight times as slow if k is N / 2.

Try: ``python -m pytest tests/models/test_attention.py -k gather``
"""

from __future__ import annotations

import torch
from torch import Tensor

from irbench.models.attention.dictionary import Keys, cache_bytes, even
from irbench.models.attention.mask import mask, widened


def gather(q: Tensor, k: Tensor, v: Tensor, keys: Keys, bias: Tensor | None) -> Tensor:
    """Compute scores of k keys per query, softmax, and weighted values; some queries at a time.

    The copies of one piece stay below CHUNK_BYTES, unless autograd keeps them. If the dictionary is
    dense, ``mask`` is used.
    """
    if keys.dense:
        return mask(q, k, v, keys, bias)
    given, (q, k, v) = q.dtype, widened(q, k, v)
    windows, heads, n, d = q.shape
    near = keys.index.shape[-1] * heads * d * q.element_size()          # bytes a query
    rows = even(n, cache_bytes(q.device) // near)
    group = even(windows, cache_bytes(q.device) // (near * rows))
    tokens = [t.transpose(1, 2).reshape(windows * n, heads * d) for t in (k, v)]
    done = []
    for first in range(0, n, rows):
        block = slice(first, first + rows)
        biased = None if bias is None else bias[:, block]
        done.append(torch.cat([
            _piece(q[one:one + group, :, block], *tokens, keys.index[one:one + group, block], one,
                   n, biased) for one in range(0, windows, group)]))
    return torch.cat(done, dim=1).transpose(1, 2).to(given)             # (windows, heads, N, d)


def _piece(q: Tensor, k: Tensor, v: Tensor, index: Tensor, first: int, n: int,
           bias: Tensor | None) -> Tensor:
    """Attend with some queries of some windows.

    q: (windows, heads, rows, d); k, v: (all windows * N, heads * d); index: (windows, rows, keys),
    of windows first, first + 1, ...; bias: (heads, rows, N). Returns (windows, rows, heads, d).
    """
    windows, heads, rows, d = q.shape
    start = torch.arange(first, first + windows, device=q.device).view(-1, 1, 1) * n
    flat = (index + start).flatten()
    near = k.index_select(0, flat).view(windows * rows, -1, heads, d)
    asked = q.transpose(1, 2).reshape(windows * rows, heads, d, 1)
    scores = torch.stack([near[:, :, h] @ asked[:, h] for h in range(heads)])  # (h, w r, keys, 1)
    scores = scores.view(heads, windows, rows, -1)
    if bias is not None:
        index = index.expand(heads, -1, -1, -1)
        scores = scores + bias.unsqueeze(1).expand(-1, windows, -1, -1).gather(3, index)
    weights = scores.softmax(-1).view(heads, windows * rows, 1, -1)
    near = v.index_select(0, flat).view(windows * rows, -1, heads, d)
    out = torch.stack([weights[h] @ near[:, :, h] for h in range(heads)], dim=2)
    return out.view(windows, rows, heads, d)
