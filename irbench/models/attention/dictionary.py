"""The key-semantic dictionary of SemanIR: for each token, the k most similar ones of its window.

Reads and writes tensors only. Printed (SemanIR, arXiv 2405.20008, method section and figure of
the layer): it is built once per stage, from the stage's input, per window, before the QKV
projection; similarity is the dot product v_i . v_j; all layers and heads of the stage share it.

Try: ``python -c "import torch; from irbench.models.attention import *;
x = torch.randn(4, 64, 48);
print([selection_statistics(KeyDictionary(8, s)(x)) for s in ('dot', 'cosine')])"``
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irbench.errors import UserError
from irbench.models.layers import choice

SIMILARITIES = ("dot", "cosine", "dot_ln")
# Of one temporary (windows, ..., N, N). A whole image's do not fit in memory: one of 2K pixels has
# 200 windows of 32. On CPU what fits in the cache is up to twice as fast.
CHUNK_BYTES = {"cpu": 4 * 2**20, "cuda": 256 * 2**20}


@dataclass(frozen=True)
class Keys:
    """Which keys each query may attend to: the same for all heads, and all layers of a stage.

    Arguments:
        mask: (windows, N, N) bool, row = query, True = may attend, with k True in every row;
            None, as the other forms then are, if every token attends to all of its window.
    The other forms are made from it when first asked for and then kept, so that a stage makes
    them once.
    """

    mask: Tensor | None

    @cached_property
    def penalty(self) -> Tensor | None:
        """The mask to be added to scores, (windows, 1, N, N) float32: 0 or -inf."""
        if self.mask is None:
            return None
        zero = torch.zeros((), device=self.mask.device)
        return zero.where(self.mask, -torch.inf).unsqueeze(1)

    @cached_property
    def index(self) -> Tensor | None:
        """The keys' positions in ascending order, (windows, N, k) int64; for gathering."""
        if self.mask is None:
            return None
        windows, n, _ = self.mask.shape
        return self.mask.nonzero()[:, 2].view(windows, n, -1)


class KeyDictionary(nn.Module):
    """Choose the k most similar tokens of each token's window. No parameters, no gradient.

    Arguments:
        k: keys a token, in training and inference; k >= N means all, which is dense attention.
        similarity: ``dot`` is the printed v_i . v_j, on the tokens as they are. Tokens of a large
            norm then are the most similar to everything: in the second stage of an untrained
            SemanIR-S with windows of 8 and k = 16, 51 % of tokens select themselves and 56 % are
            used at all. ``cosine`` (100 % and 100 %) and ``dot_ln``, the dot product after a
            LayerNorm without parameters (the same), do away with that; ours. The first stage's
            input has just been normalised, so there all three agree.
        train_k: values to draw from, anew at each call, while training (printed as one of two
            ways to train, the other being a fixed k); empty for a fixed k. Drawn by torch's
            default generator, so the global seed fixes the sequence.
    """

    def __init__(self, k: int, similarity: str = "dot", train_k: list[int] | tuple[int, ...] = ()):
        """Keep the arguments (above); raise UserError for a bad value."""
        super().__init__()
        self.k = k
        self.similarity = choice("similarity", similarity, SIMILARITIES)
        self.train_k = tuple(train_k)
        if any(type(n) is not int or n < 1 for n in (k, *self.train_k)):
            raise UserError(f"options 'k' and 'train_k' are {k!r} and {list(train_k)!r}; they "
                            "take whole numbers of at least 1.")

    @torch.no_grad()
    def forward(self, tokens: Tensor) -> Keys:
        """Build the dictionary of a stage's input, (windows, N, C). Ties go either way."""
        windows, n, _ = tokens.shape
        k = self.k
        if self.training and self.train_k:
            k = self.train_k[int(torch.randint(len(self.train_k), ()))]
        if k >= n:
            return Keys(None)
        if self.similarity == "cosine":
            tokens = F.normalize(tokens, dim=-1)
        elif self.similarity == "dot_ln":
            tokens = F.layer_norm(tokens, tokens.shape[-1:])
        mask = torch.zeros(windows, n, n, dtype=torch.bool, device=tokens.device)
        for part in chunks(windows, n * n * tokens.element_size(), tokens.device):
            similar = tokens[part] @ tokens[part].transpose(1, 2)
            mask[part].scatter_(2, similar.topk(k, sorted=False).indices, 1)
        return Keys(mask)


def chunks(windows: int, bytes_each: int, device: torch.device) -> Iterator[slice]:
    """Cut 0 .. windows into slices whose temporaries stay below CHUNK_BYTES (one at least)."""
    step = max(1, CHUNK_BYTES.get(device.type, CHUNK_BYTES["cuda"]) // bytes_each)
    return (slice(start, start + step) for start in range(0, windows, step))


def selection_statistics(keys: Keys) -> dict[str, float] | None:
    """Say how a dictionary behaves: fractions 0 .. 1, or None where it is dense.

    ``self``: tokens that have themselves among their keys. ``used``: tokens that are a key of any
    query. Both near 1 where every token finds its own kin; small where a few hubs win.
    """
    if keys.mask is None:
        return None
    own = keys.mask.diagonal(dim1=1, dim2=2)
    return {"self": own.float().mean().item(), "used": keys.mask.any(dim=1).float().mean().item()}
