"""Dictionary attention by torch's FlexAttention: a compiled kernel without scores in memory.

Reads and writes tensors only; see ``attention.attend`` for the arguments. FlexAttention is sparse
in blocks of 128 x 128. With a dictionary 96 to 99 % of the blocks contain a key, so it saves
memory, not time. Findings with torch 2.15:

    compiled    always: the uncompiled form computes all scores, with a warning. The first call for
                each number of heads, tokens and dimensions takes seconds, and a CPU needs a C++
                compiler.
    CPU         one window per call: the generated C++ does not compile for a variable number of
                windows, and one compilation per image size would take longer than it saves. No
                gradients. Checked for heads of 10 to 64 dimensions and any N.
    CUDA        all windows in one call, gradients by torch's own backward pass. Heads of less than
                16 dimensions are padded. Tested on an H200 with torch 2.11.

The blocks of a dictionary are counted once per stage, in its first layer.

Try: ``python -c "import torch; from irbench.models.attention import *; x = torch.randn(2, 100, 30);
q = torch.randn(2, 3, 100, 10); keys = KeyDictionary(8)(x);
print((attend(q, q, q, keys, None, 'flex') - attend(q, q, q, keys)).abs().max())"``
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from irbench.core.errors import Unavailable, UserError
from irbench.models.attention.dictionary import Keys
from irbench.models.attention.mask import mask

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SMALLEST_HEAD = 16  # dimensions; on CUDA
_BLOCKS: WeakKeyDictionary[Keys, list[BlockMask]] = WeakKeyDictionary()


def flex(q: Tensor, k: Tensor, v: Tensor, keys: Keys, bias: Tensor | None) -> Tensor:
    """Attend with FlexAttention (above); if all keys of a window are used, with ``mask``.

    q, k, v: (windows, heads, N, d) of float32, bfloat16 or float16. Raises UserError for another
    type, Unavailable for gradients on a CPU or if compiling fails.
    """
    _check(q, k, v, bias)
    if keys.dense:
        return mask(q, k, v, keys, bias)
    d = q.shape[-1]
    if q.is_cuda and d < SMALLEST_HEAD:  # zeros add nothing to a product
        q, k, v = (F.pad(t, (0, SMALLEST_HEAD - d)) for t in (q, k, v))
    blocks = _blocks(keys)
    size = len(q) // len(blocks)                                        # windows a call
    done = [_call(q[i * size:(i + 1) * size], k[i * size:(i + 1) * size],
                  v[i * size:(i + 1) * size], part, bias) for i, part in enumerate(blocks)]
    out = done[0] if len(done) == 1 else torch.cat(done)
    return out[..., :d]


def _check(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> None:
    """Raise a clear error for input that FlexAttention does not support."""
    if q.dtype not in DTYPES or not q.dtype == k.dtype == v.dtype:
        names = ", ".join(str(t.dtype).removeprefix("torch.") for t in (q, k, v))
        raise UserError(f"option 'attention' is 'flex', which takes q, k and v of one type, "
                        f"float32, bfloat16 or float16; these are {names}. Use 'mask'.")
    if q.is_cuda or not torch.is_grad_enabled():
        return
    if any(t is not None and t.requires_grad for t in (q, k, v, bias)):
        raise Unavailable("option 'attention' is 'flex', which has no gradients on a CPU. Train "
                          "with 'mask' (the weights are the same), or, if no gradients are "
                          "wanted, call the model in torch.inference_mode().")


def _blocks(keys: Keys) -> list[BlockMask]:
    """Return the block masks of a dictionary, for each call of ``_call`` one; made once."""
    if keys not in _BLOCKS:
        parts = [keys.mask] if keys.mask.is_cuda else keys.mask.split(1)
        _BLOCKS[keys] = [_block_mask(part) for part in parts]
    return _BLOCKS[keys]


def _block_mask(allowed: Tensor) -> BlockMask:
    windows, n, _ = allowed.shape

    def may_attend(window: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return allowed[window, query, key]

    return create_block_mask(may_attend, windows, None, n, n, device=allowed.device)


def _call(q: Tensor, k: Tensor, v: Tensor, blocks: BlockMask, bias: Tensor | None) -> Tensor:
    def add_bias(score: Tensor, window: Tensor, head: Tensor, query: Tensor,
                 key: Tensor) -> Tensor:
        return score + bias[head, query, key]

    try:
        return _compiled(q.is_cuda)(q, k, v, score_mod=None if bias is None else add_bias,
                                    block_mask=blocks, scale=1.0)
    except FailOnRecompileLimitHit as error:
        raise Unavailable(
            "option 'attention' is 'flex', which this process has compiled for as many numbers of "
            "heads, tokens and dimensions as torch allows. Use 'mask', or start another process "
            "for the other models.") from error
    except TorchDynamoException as error:
        raise Unavailable(
            "option 'attention' is 'flex', which must be compiled, and that failed: "
            f"{_why(error)}. Use 'mask' or 'auto'; on a CPU it needs a C++ compiler "
            "(g++ or clang++, or the one that CXX names).") from error


def _why(error: Exception) -> str:
    """Return the first informative line of a compiler's message."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line), type(error).__name__).rstrip(".")


@functools.cache
def _compiled(cuda: bool) -> Callable[..., Tensor]:
    # on a CPU sizes are fixed (see above); on CUDA torch keeps sizes dynamic that it has seen vary
    return torch.compile(flex_attention, fullgraph=True, dynamic=None if cuda else False)
