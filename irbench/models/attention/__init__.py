"""Attention restricted to each token's key-semantic dictionary, behind one function: ``attend``.

Reads and writes tensors only. ``dictionary.py`` chooses the keys, once per stage; the
implementations here use them, once per layer. All return the same values; they differ in time
and memory:

    reference   the equation, line by line; for tests
    mask        all scores, masked by the dictionary (the paper's Torch-Mask, printed)
    gather      k keys and values gathered for each query (its Torch-Gather, printed)
    flex        torch's FlexAttention, compiled
    triton      one kernel for a GPU (its Triton, printed; the kernel itself is ours)

To add one, write a function with ``reference``'s arguments and add it to ``IMPLEMENTATIONS``. The
last two are imported at first use, because compilers take seconds to import and may be missing.

Try: ``python -c "import torch; from irbench.models.attention import attend, KeyDictionary;
x = torch.randn(4, 64, 48); q = torch.randn(4, 3, 64, 16);
print(attend(q, q, q, KeyDictionary(k=16, similarity='cosine')(x)).shape)"``
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable

import torch
from torch import Tensor

from irbench.core.errors import Unavailable, unknown
from irbench.models.attention.bias import BiasTable
from irbench.models.attention.dictionary import KeyDictionary, Keys, selection_statistics
from irbench.models.attention.gather import gather as _gather
from irbench.models.attention.mask import mask as _mask
from irbench.models.attention.mask import reference as _reference

__all__ = ["IMPLEMENTATIONS", "KeyDictionary", "Keys", "attend", "choose", "selection_statistics"]

LARGEST_HEAD = 64  # dimensions of a head that the Triton kernel takes


def _later(module: str, name: str, needs: str) -> Callable[..., Tensor]:
    """Return a function that imports its module when called."""
    def run(q: Tensor, k: Tensor, v: Tensor, keys: Keys, bias: Tensor | None) -> Tensor:
        try:
            found = importlib.import_module(f"irbench.models.attention.{module}")
        except ImportError as error:
            raise Unavailable(
                f"option 'attention' is {name!r}, which needs {needs}; importing it failed: "
                f"{error}. Install it, or use 'auto'.") from error
        return getattr(found, name)(q, k, v, keys, bias)
    run.__name__ = name
    return run


IMPLEMENTATIONS: dict[str, Callable[..., Tensor]] = {
    "reference": _reference,
    "mask": _mask,
    "gather": _gather,
    "flex": _later("flex", "flex", "torch's FlexAttention"),
    "triton": _later("triton_kernel", "triton", "the package triton"),
}


def choose(implementation: str, *, device: str | torch.device = "cpu", training: bool = False,
           n: int | None = None, k: int | None = None, d: int | None = None,
           dtype: torch.dtype | None = None) -> tuple[str, str]:
    """Return the implementation to use and the reason; ``auto`` chooses the fastest one known.

    Arguments:
        implementation: a name in IMPLEMENTATIONS, or ``auto``.
        device: where the tensors are; on a CPU ``auto`` never chooses one that compiles.
        training: whether gradients are needed.
        n, k, d, dtype: tokens of a window, keys of a token, dimensions of a head, and the queries'
            type, if known.
    Raises UserError for an unknown name. A given name is returned unchanged; if it cannot run, the
    call fails.
    """
    if implementation != "auto":
        if implementation not in IMPLEMENTATIONS:
            raise unknown("value of option 'attention':", implementation,
                          ["auto", *IMPLEMENTATIONS])
        return implementation, "asked for"
    if n is not None and k is not None and k >= n:
        return "mask", f"all {n} keys of a window are used: plain attention, nothing to mask"
    if torch.device(device).type != "cuda":
        return "mask", ("the fastest, or within 15 % of it, wherever measured on CPU (windows of 8 "
                        "to 32)")
    if training:
        return "mask", "gradients are wanted, for which it is the paper's choice; not measured here"
    if dtype is not None and dtype == torch.float64:
        return "mask", "float64 is for tests, and this one runs everywhere"
    if d is not None and d > LARGEST_HEAD:
        return "mask", f"the Triton kernel takes heads of up to {LARGEST_HEAD} dimensions"
    if torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 0):
        return "mask", "the Triton kernel was made for GPUs of compute capability 8.0 and above"
    if importlib.util.find_spec("triton") is None:
        return "mask", "the package triton is not installed; install it to save memory"
    return "triton", "the fastest, or within 15 % of it, wherever measured on a GPU (H200)"


def attend(q: Tensor, k: Tensor, v: Tensor, keys: Keys,
           bias: Tensor | BiasTable | None = None, implementation: str = "auto") -> Tensor:
    """Return softmax(q k^T + bias) v over each query's keys in the dictionary.

    Arguments:
        q, k, v: (windows, heads, N, d). No scale is applied: the caller folds its own into q.
        keys: of the same windows and N; one dictionary serves all heads.
        bias: (heads, N, N), added to the scores, the same for all windows; or its table, which
            ``mask`` expands piece by piece.
        implementation: a name in IMPLEMENTATIONS, or ``auto``.
    Returns (windows, heads, N, d). Raises UserError for an unknown implementation, Unavailable
    for one that cannot run here.
    """
    if implementation == "auto" and torch.compiler.is_compiling():
        implementation = "mask"  # a compiler can follow torch's operations, but not our kernel
    elif implementation == "auto":
        implementation, _ = choose(implementation, device=q.device, dtype=q.dtype,
                                   training=torch.is_grad_enabled(), n=q.shape[-2], d=q.shape[-1],
                                   k=q.shape[-2] if keys.dense else None)
    else:
        choose(implementation)
    if isinstance(bias, BiasTable) and implementation != "mask":
        bias = bias.full_matrix()
    return IMPLEMENTATIONS[implementation](q, k, v, keys, bias)
