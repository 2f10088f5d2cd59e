"""The key-semantic dictionary of SemanIR: for each token, the k most similar ones of its window.

Reads and writes tensors only. Printed (SemanIR, arXiv 2405.20008, method section and figure of
the layer): it is built once per stage, from the stage's input, per window, before the QKV
projection; similarity is the dot product v_i . v_j; all layers and heads of the stage share it.

Try: ``python -c "import torch; from irbench.models.attention import *;
x = torch.randn(4, 64, 48);
print([selection_statistics(KeyDictionary(8, s)(x)) for s in ('dot', 'cosine')])"``
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irbench.core.errors import UserError
from irbench.models.layers import choice

SIMILARITIES = ("dot", "cosine", "dot_ln")
# Limit of one temporary (windows, ..., N, N). Those of a whole image do not fit into memory: a 2K
# image has 200 windows of 32. On a CPU temporaries that fit into the cache are up to twice as fast.
CHUNK_BYTES = {"cpu": 8 * 2**20, "cuda": 256 * 2**20}


@dataclass(frozen=True)
class Keys:
    """The keys that each query may attend to, the same for all heads and all layers of a stage.

    Arguments:
        mask: (windows, N, N) bool, row = query, True = may attend, with k True in every row. None
            if every token attends to its whole window; the other forms are then None, too.
    The other forms are computed from it at first use and cached, so that a stage computes them
    once.
    """

    mask: Tensor | None

    @property
    def dense(self) -> bool:
        """Whether every token attends to all of its window."""
        return self.mask is None

    @property
    def k(self) -> int | None:
        """The number of keys per token; None if it has all."""
        return None if self.mask is None else int(self.mask[0, 0].sum())

    @cached_property
    def penalty(self) -> Tensor | None:
        """The mask in additive form, (windows, 1, N, N) float32: 0 or -inf."""
        if self.mask is None:
            return None
        return additive(self.mask).unsqueeze(1)

    @cached_property
    def index(self) -> Tensor | None:
        """The keys' positions in ascending order, (windows, N, k) int64; for gathering."""
        if self.mask is None:
            return None
        windows, n, _ = self.mask.shape
        return self.mask.nonzero()[:, 2].view(windows, n, -1)

    @cached_property
    def packed(self) -> Tensor | None:
        """The mask as bits, (windows, N, ceil(N / 32)) int32: key j is bit j % 32 of word j // 32.

        N N / 8 bytes per window, an eighth of the mask's. Bits beyond N are 0.
        """
        if self.mask is None:
            return None
        bits = F.pad(self.mask, (0, -self.mask.shape[-1] % 32)).view(torch.uint8)
        place = (1 << torch.arange(8, device=bits.device)).to(torch.uint8)
        packed = (bits.unflatten(-1, (-1, 8)) * place).sum(-1, dtype=torch.uint8)
        return packed.view(torch.int32)                                 # (windows, N, words)


class KeyDictionary(nn.Module):
    """Choose the k most similar tokens of each token's window. No parameters, no gradient.

    Arguments:
        k: keys per token, in training and inference; k >= N means all, which is dense attention.
        similarity: ``dot`` is the printed v_i . v_j, on the unchanged tokens. Then tokens with a
            large norm are the most similar to everything: in the second stage of an untrained
            SemanIR-S with windows of 8 and k = 16, 51 % of tokens select themselves and 56 % are
            used at all. ``cosine`` (100 % and 100 %) and ``dot_ln``, the dot product after a
            LayerNorm without parameters (the same), avoid this; both are ours. The first stage's
            input has just been normalised, so there all three agree.
    """

    def __init__(self, k: int, similarity: str = "dot"):
        """Store the arguments (above); raise UserError for a bad value."""
        super().__init__()
        self.k = whole_number_option("k", k)
        self.similarity = choice("similarity", similarity, SIMILARITIES)

    @torch.no_grad()
    def forward(self, tokens: Tensor, k: int | None = None) -> Keys:
        """Build the dictionary of a stage's input, (windows, N, C). Ties are broken arbitrarily.

        ``k``: keys per token instead of the module's, as drawn for a batch by ``draw``.
        """
        windows, n, _ = tokens.shape
        k = self.k if k is None else k
        if k >= n:
            return Keys(None)
        mask = torch.zeros(windows, n, n, dtype=torch.bool, device=tokens.device)
        with torch.autocast(tokens.device.type, enabled=False):  # in 16 bits, 10 % would be ties
            tokens = self.prepared(tokens)
            for part in chunks(windows, n * n * tokens.element_size(), tokens.device):
                mask[part] = largest(tokens[part] @ tokens[part].transpose(1, 2), k)
        return Keys(mask)

    def count_macs(self, keys: Keys, tokens: Tensor, k: int | None = None) -> dict[str, int]:
        """Return the multiply-adds of the similarities, as a separate kind; see interface.py."""
        windows, n, width = tokens.shape
        return {"dictionary": 0 if keys.dense else windows * n * n * width}

    def prepared(self, tokens: Tensor) -> Tensor:
        """Return tokens whose dot products are the similarities, in float32 or wider."""
        tokens = tokens if tokens.dtype == torch.float64 else tokens.float()
        if self.similarity == "cosine":
            return F.normalize(tokens, dim=-1)
        if self.similarity == "dot_ln":
            return F.layer_norm(tokens, tokens.shape[-1:])
        return tokens


def largest(values: Tensor, k: int) -> Tensor:
    """Return a bool mask of the k largest values of each row, (..., N); ties are arbitrary.

    On a CPU numpy's vectorised partition finds the smallest of them in a sixth of topk's time.
    """
    if values.device.type != "cpu" or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return _topk(values, k)
    last = values.shape[-1] - k
    least = torch.from_numpy(np.partition(values.numpy(), last)[..., last:last + 1])
    mask = values >= least
    uneven = mask.sum(-1) != k  # rows with ties at the smallest value
    if uneven.any():
        mask[uneven] = _topk(values[uneven], k)
    return mask


def _topk(values: Tensor, k: int) -> Tensor:
    mask = torch.zeros_like(values, dtype=torch.bool)
    return mask.scatter_(-1, values.topk(k, sorted=False).indices, 1)


def draw(train_k: Sequence[int], training: bool) -> int | None:
    """Return one of the values of option ``train_k`` for a training batch, None for the fixed k.

    The paper describes it as one of two ways to train, besides a fixed k. One draw serves all
    stages of a batch (the paper only states that it is random). torch's default generator is used,
    so the global seed determines the sequence.
    """
    if not training or not train_k:
        return None
    return train_k[int(torch.randint(len(train_k), ()))]


def whole_number_option(option: str, *values: int) -> int:
    """Return the first value; raise UserError unless all are whole numbers of at least 1."""
    if any(type(n) is not int or n < 1 for n in values):
        raise UserError(f"option {option!r} holds {', '.join(map(repr, values))}; it takes whole "
                        "numbers of at least 1.")
    return values[0] if values else 0


def additive(mask: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return 0 where a bool mask is True and -inf where it is False, of its shape.

    Computed exactly as 1 - 1 / mask, because ``where`` is about thirty times as slow on a CPU.
    """
    return 1 - mask.view(torch.uint8).to(dtype).reciprocal_()


def cache_bytes(device: torch.device) -> int:
    """Return the limit of one temporary in bytes, from CHUNK_BYTES."""
    return CHUNK_BYTES.get(device.type, CHUNK_BYTES["cuda"])


def chunks(windows: int, bytes_each: int, device: torch.device) -> Iterator[slice]:
    """Cut 0 .. windows into slices whose temporaries stay below CHUNK_BYTES (one at least)."""
    step = max(1, cache_bytes(device) // bytes_each)
    return (slice(start, start + step) for start in range(0, windows, step))


def even(total: int, most: int) -> int:
    """Return the size of the fewest equal parts, of at most ``most`` each, that cover a total."""
    parts = -(-total // max(1, most))
    return -(-total // parts)


def selection_statistics(keys: Keys) -> dict[str, float] | None:
    """Return statistics of a dictionary as fractions 0 .. 1, or None if it is dense.

    ``self``: tokens that have themselves among their keys. ``used``: tokens that are a key of any
    query. Both are near 1 if tokens select similar tokens, and small if a few hubs dominate.
    """
    if keys.mask is None:
        return None
    own = keys.mask.diagonal(dim1=1, dim2=2)
    return {"self": own.float().mean().item(), "used": keys.mask.any(dim=1).float().mean().item()}
