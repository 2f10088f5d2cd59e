"""Attention restricted to each token's key-semantic dictionary, behind one function: ``attend``.

Reads and writes tensors only. ``dictionary.py`` chooses the keys, once per stage; the
implementations here spend them, once per layer. All return the same values; they differ in time
and memory. Another one is a function with ``reference``'s arguments and an entry in
``IMPLEMENTATIONS``.

Try: ``python -c "import torch; from irbench.models.attention import attend, KeyDictionary;
x = torch.randn(4, 64, 48); q = torch.randn(4, 3, 64, 16);
print(attend(q, q, q, KeyDictionary(k=16, similarity='cosine')(x)).shape)"``
"""

from __future__ import annotations

from torch import Tensor

from irbench.errors import unknown
from irbench.models.attention.dictionary import KeyDictionary, Keys, selection_statistics
from irbench.models.attention.masked import reference, sdpa

__all__ = ["IMPLEMENTATIONS", "KeyDictionary", "Keys", "attend", "choose", "selection_statistics"]

IMPLEMENTATIONS = {"reference": reference, "sdpa": sdpa}


def choose(implementation: str) -> tuple[str, str]:
    """Return the implementation to use and the reason. ``auto`` takes the fastest known one."""
    if implementation == "auto":
        return "sdpa", ("the fastest in every case measured on CPU, training and inference, "
                        "windows of 8 to 32")
    if implementation not in IMPLEMENTATIONS:
        raise unknown("value of option 'attention':", implementation, ["auto", *IMPLEMENTATIONS])
    return implementation, "asked for"


def attend(q: Tensor, k: Tensor, v: Tensor, keys: Keys, bias: Tensor | None = None,
           implementation: str = "auto") -> Tensor:
    """Return softmax(q k^T + bias) v over each query's keys in the dictionary.

    Arguments:
        q, k, v: (windows, heads, N, d). No scale is applied: the caller folds its own into q.
        keys: of the same windows and N; one dictionary serves all heads.
        bias: (heads, N, N), added to the scores, the same for all windows.
        implementation: a name in IMPLEMENTATIONS, or ``auto``.
    Returns (windows, heads, N, d). Raises UserError for an unknown implementation.
    """
    return IMPLEMENTATIONS[choose(implementation)[0]](q, k, v, keys, bias)
