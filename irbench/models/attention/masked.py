"""Dictionary attention by masking all scores: the paper's training form (Torch-Mask, printed).

Reads and writes tensors only. ``reference`` says what the result is in the plainest way;
``sdpa`` is the one to use. Both take (windows, heads, N, d) and return the same; see
``attention.attend`` for the arguments.

Try: ``python -m pytest tests/test_blocks.py -k attend``
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from irbench.models.attention.dictionary import Keys, chunks


def reference(q: Tensor, k: Tensor, v: Tensor, keys: Keys, bias: Tensor | None) -> Tensor:
    """All scores, the bias, minus infinity where the dictionary has no key, softmax, values."""
    scores = q @ k.transpose(-2, -1)                                # (windows, heads, N, N)
    if bias is not None:
        scores = scores + bias
    if keys.mask is not None:
        scores = scores.masked_fill(~keys.mask.unsqueeze(1), -torch.inf)
    return scores.softmax(-1) @ v


def sdpa(q: Tensor, k: Tensor, v: Tensor, keys: Keys, bias: Tensor | None) -> Tensor:
    """Bias and mask folded into one additive mask for torch's own attention.

    The mask is per window and the bias per head, so together they are as large as the scores:
    without gradients the windows are taken in groups that keep that below CHUNK_BYTES.
    """
    if keys.mask is None:
        extra = None if bias is None else bias.unsqueeze(0).to(q.dtype)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=extra, scale=1.0)
    if torch.is_grad_enabled():  # adding is cheaper to go back through than choosing
        extra = keys.penalty if bias is None else bias + keys.penalty
        return F.scaled_dot_product_attention(q, k, v, attn_mask=extra.to(q.dtype), scale=1.0)
    windows, heads, n, _ = q.shape
    if bias is None:
        bias = q.new_zeros(1, 1, 1)
    done = []
    for part in chunks(windows, heads * n * n * q.element_size(), q.device):
        extra = bias.to(q.dtype).where(keys.mask[part].unsqueeze(1), -torch.inf)
        done.append(F.scaled_dot_product_attention(q[part], k[part], v[part], attn_mask=extra,
                                                   scale=1.0))
    return done[0] if len(done) == 1 else torch.cat(done)
