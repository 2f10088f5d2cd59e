"""Dictionary attention in one Triton kernel: no scores in memory, the dictionary as packed bits.

Reads and writes tensors only; see ``attention.attend`` for the arguments. Printed (SemanIR, arXiv
2405.20008): inference uses a Triton kernel. Its design is unknown; this one is ours:

    tiles       a program takes 64 queries of one head and goes over all keys of the window, a tile
                at a time, with FlashAttention's online softmax (arXiv 2205.14135). Tiles are dense,
                so the time is that of dense attention for any k: the keys of 64 queries lie all
                over the window. (A 128x128 photograph, windows of 32, k = 64, untrained weights: 89
                to 97 % of the tiles of 64 x 64 hold a key. A test for the others costs more.)
    dictionary  ``keys.packed``, a bit a pair, N N / 8 bytes a window for all heads and layers. One
                threshold a row, with the similarity recomputed in the tile, would need C
                multiply-adds a score, heads times what the score itself takes.
    precision   products and sums in float32 whatever the inputs are; the weights of a half-width
                type are rounded to it before they meet the values, as matrix units need. float32
                products are IEEE's, not TF32, or they could not agree with ``reference`` to 1e-5.
    backward    goes through ``mask``, from the inputs: nothing of size N N is kept between the two
                passes, but the backward pass itself makes it.

A CPU runs it in Triton's interpreter only, for tests, slowly: ``TRITON_INTERPRET=1`` must be set
before triton is first imported.

Try: ``TRITON_INTERPRET=1 python -c "import torch; from irbench.models.attention import *;
x = torch.randn(2, 100, 30); q = torch.randn(2, 3, 100, 10); keys = KeyDictionary(8)(x);
print((attend(q, q, q, keys, None, 'triton') - attend(q, q, q, keys)).abs().max())"``
"""

from __future__ import annotations

import torch
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable
from triton import JITFunction, cdiv, jit, next_power_of_2

from irbench.core.errors import Unavailable, UserError
from irbench.models.attention import LARGEST_HEAD
from irbench.models.attention.dictionary import Keys
from irbench.models.attention.mask import mask

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
BLOCK_M = 64  # queries of a program


def triton(q: Tensor, k: Tensor, v: Tensor, keys: Keys, bias: Tensor | None) -> Tensor:
    """Attend with the kernel (above); gradients are computed with ``mask``.

    q, k, v: (windows, heads, N, d <= 64) of float32, bfloat16 or float16. Returns a view of
    (windows, N, heads, d), in which the heads of a token lie together. Raises UserError for other
    types or sizes, Unavailable without a GPU or the interpreter.
    """
    _check(q, k, v)
    if torch.is_grad_enabled() and any(
            t is not None and t.requires_grad for t in (q, k, v, bias)):
        return _Differentiable.apply(q, k, v, bias, keys)
    return _forward(q, k, v, keys, bias)


def _check(q: Tensor, k: Tensor, v: Tensor) -> None:
    """Raise a clear error for input that the kernel does not support."""
    if q.device.type != "cuda" and not INTERPRETED:
        raise Unavailable(
            f"option 'attention' is 'triton', but the tensors are on {q.device.type}: it needs a "
            "CUDA device. Use 'auto' or 'mask'; to test the kernel on a CPU (slowly), set "
            "TRITON_INTERPRET=1 in the environment before Python starts.")
    if q.dtype not in DTYPES or not q.dtype == k.dtype == v.dtype:
        names = ", ".join(str(t.dtype).removeprefix("torch.") for t in (q, k, v))
        raise UserError(f"option 'attention' is 'triton', which takes q, k and v of one type, "
                        f"float32, bfloat16 or float16; these are {names}. Use 'mask'.")
    if q.shape[-1] > LARGEST_HEAD:
        raise UserError(f"option 'attention' is 'triton', which takes heads of up to "
                        f"{LARGEST_HEAD} dimensions; these have {q.shape[-1]}. Use 'mask', or "
                        "more heads.")
    if not q.shape == k.shape == v.shape:
        raise UserError("option 'attention' is 'triton', which takes q, k and v of one shape; "
                        f"these are {tuple(q.shape)}, {tuple(k.shape)} and {tuple(v.shape)}. "
                        "Use 'mask'.")


class _Differentiable(torch.autograd.Function):
    """The kernel, and the gradient of ``mask`` at the same inputs."""

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, keys: Keys) -> Tensor:
        ctx.save_for_backward(q, k, v, bias)
        ctx.keys = keys
        return _forward(q, k, v, keys, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        wanted = ctx.needs_input_grad[:4]
        inputs = [None if t is None else t.detach().requires_grad_(w)
                  for t, w in zip(ctx.saved_tensors, wanted, strict=True)]
        q, k, v, bias = inputs
        with torch.enable_grad():
            out = mask(q, k, v, ctx.keys, bias)
        found = iter(torch.autograd.grad(out, [t for t, w in zip(inputs, wanted, strict=True) if w],
                                         gradient))
        return (*(next(found) if w else None for w in wanted), None)


def _forward(q: Tensor, k: Tensor, v: Tensor, keys: Keys, bias: Tensor | None) -> Tensor:
    """Launch one program for each 64 queries of each head of each window."""
    windows, heads, n, d = q.shape
    out = q.new_empty(windows, n, heads, d)
    if not out.numel():
        return out.transpose(1, 2)
    q, k, v = (t if t.stride(-1) == 1 else t.contiguous() for t in (q, k, v))
    bias = None if bias is None else bias.contiguous()
    constants = launch_constants(d, q.dtype)
    with torch.cuda.device_of(q):
        _kernel[windows * heads * cdiv(n, BLOCK_M),](
            q, k, v, out, q if keys.dense else keys.packed, q if bias is None else bias,
            n, d, heads, -(-n // 32), *q.stride()[:3], *k.stride()[:3], *v.stride()[:3],
            not keys.dense, bias is not None, INTERPRETED and q.dtype == torch.bfloat16,
            **constants)
    return out.transpose(1, 2)


def launch_constants(d: int, dtype: torch.dtype) -> dict[str, int | bool]:
    """Return tile sizes and compiler options for heads of d dimensions.

    Chosen without a GPU, by what the compiler makes of them for compute capability 8.0, 9.0 and
    12.0 at N = 64, 100 and 1024: the largest tiles that leave everything in registers. float32
    takes ordinary multiply-adds (half of all instructions then), the others matrix units.
    """
    width = max(16, next_power_of_2(d))  # tl.dot takes no fewer
    wide = dtype == torch.float32
    return {"BLOCK_M": BLOCK_M, "BLOCK_N": 32 if wide else 64, "BLOCK_D": width,
            "num_warps": 8 if wide and width > 32 else 4, "num_stages": 2,
            "enable_fp_fusion": True}


@jit
def _kernel(q, k, v, out, packed, bias,
            N: tl.constexpr, D: tl.constexpr, HEADS: tl.constexpr, WORDS: tl.constexpr,
            Q_WINDOW: tl.constexpr, Q_HEAD: tl.constexpr, Q_TOKEN: tl.constexpr,
            K_WINDOW: tl.constexpr, K_HEAD: tl.constexpr, K_TOKEN: tl.constexpr,
            V_WINDOW: tl.constexpr, V_HEAD: tl.constexpr, V_TOKEN: tl.constexpr,
            HAS_MASK: tl.constexpr, HAS_BIAS: tl.constexpr, WIDEN: tl.constexpr,
            BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr):
    """Attend with BLOCK_M queries of one head of one window; one program each, heads fastest.

    Strides are in elements, of a last dimension that is contiguous; ``out`` is
    (windows, N, HEADS, D). They are constants so that loads can be as wide as they divide. WIDEN
    is for the interpreter, which takes bfloat16 for integers in products; it changes no value, as
    products of two are exact in float32.
    """
    program = tl.program_id(0)
    head = program % HEADS
    block = (program // HEADS) % ((N + BLOCK_M - 1) // BLOCK_M)
    window = (program // (HEADS * ((N + BLOCK_M - 1) // BLOCK_M))).to(tl.int64)

    rows = block * BLOCK_M + tl.arange(0, BLOCK_M)
    dims = tl.arange(0, BLOCK_D)
    q_inside = (rows < N)[:, None] & (dims < D)[None, :]
    q += window * Q_WINDOW + head * Q_HEAD
    k += window * K_WINDOW + head * K_HEAD
    v += window * V_WINDOW + head * V_HEAD
    queries = tl.load(q + rows[:, None] * Q_TOKEN + dims[None, :], mask=q_inside, other=0.0)
    if WIDEN:
        queries = queries.to(tl.float32)
    packed += window * N * WORDS
    bias += head.to(tl.int64) * N * N

    highest = tl.full([BLOCK_M], float("-inf"), tl.float32)
    total = tl.full([BLOCK_M], 0.0, tl.float32)
    values = tl.full([BLOCK_M, BLOCK_D], 0.0, tl.float32)
    for start in range(0, N, BLOCK_N):
        columns = start + tl.arange(0, BLOCK_N)
        k_inside = (columns < N)[None, :] & (dims < D)[:, None]
        near = tl.load(k + columns[None, :] * K_TOKEN + dims[:, None], mask=k_inside, other=0.0)
        if WIDEN:
            near = near.to(tl.float32)
        scores = tl.dot(queries, near, input_precision="ieee")              # (BLOCK_M, BLOCK_N)
        inside = (rows < N)[:, None] & (columns < N)[None, :]
        if HAS_BIAS:
            here = bias + rows[:, None] * N + columns[None, :]
            scores += tl.load(here, mask=inside, other=0.0).to(tl.float32)
        if HAS_MASK:  # bits beyond N are 0
            bits = _bits(packed, rows, start, N, WORDS, BLOCK_M, BLOCK_N)
            scores = tl.where(bits != 0, scores, float("-inf"))
        else:
            scores = tl.where((columns < N)[None, :], scores, float("-inf"))

        # where no key of a row has come yet, highest is -inf, and -inf - -inf were NaN
        new = tl.maximum(highest, tl.max(scores, 1))
        base = tl.where(new == float("-inf"), 0.0, new)
        weights = tl.exp(scores - base[:, None])
        before = tl.exp(highest - base)
        total = total * before + tl.sum(weights, 1)
        v_inside = (columns < N)[:, None] & (dims < D)[None, :]
        near = tl.load(v + columns[:, None] * V_TOKEN + dims[None, :], mask=v_inside, other=0.0)
        weights = weights.to(near.dtype)
        if WIDEN:
            weights, near = weights.to(tl.float32), near.to(tl.float32)
        values = tl.dot(weights, near, values * before[:, None], input_precision="ieee")
        highest = new

    values = values / tl.where(rows < N, total, 1.0)[:, None]
    out += window * N * HEADS * D + head * D
    tl.store(out + rows[:, None] * (HEADS * D) + dims[None, :], values.to(out.dtype.element_ty),
             mask=q_inside)


@jit
def _bits(packed, rows, start, N: tl.constexpr, WORDS: tl.constexpr,
          BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """Unpack (BLOCK_M, BLOCK_N) bits of the dictionary from column ``start`` on."""
    place = tl.arange(0, BLOCK_N)
    at = rows * WORDS + start // 32
    words = tl.load(packed + at, mask=rows < N, other=0)[:, None]
    if BLOCK_N == 64:
        inside = (rows < N) & (at + 1 < (rows + 1) * WORDS)
        second = tl.load(packed + at + 1, mask=inside, other=0)
        words = tl.where((place < 32)[None, :], words, second[:, None])
    return (words >> (place % 32)[None, :]) & 1


INTERPRETED = not isinstance(_kernel, JITFunction)  # TRITON_INTERPRET=1 was set in time
