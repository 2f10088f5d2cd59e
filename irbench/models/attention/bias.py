"""The position bias of SemanIR's attention: one small table a layer and head, spread over N x N.

Reads and writes tensors only. *Inferred* (arXiv 2405.20008 draws none): an MLP of the offset
between two tokens, as in SwinV2 and GRL, gives the printed sizes to 0.01 M. Each layer has an MLP
of its own by those sizes (4,608 parameters a layer at 512 hidden units), so the bias cannot be
shared by a stage as the dictionary is: it is made once a layer, for all windows.

Try: ``python -c "from irbench.models.attention.bias import PositionBias;
print(PositionBias(8, 3, 64)().whole().shape)"``
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from irbench.errors import UserError


class BiasTable(NamedTuple):
    """A bias by offset: what ``attend`` may be given in place of (heads, N, N).

    The offset of a pair of tokens is the difference of their places, so the N x N of it is made
    where it is needed, some rows at a time, and never kept.

    Attributes:
        values: (heads, (2w-1)^2), by offset: from (1-w, 1-w) to (w-1, w-1).
        places: (N,) int32, a token's place in a row of 2w-1: y (2w-1) + x.
    """

    values: Tensor
    places: Tensor

    def index(self, first: int, last: int) -> Tensor:
        """Return the offsets' numbers for queries first .. last - 1 and all keys, one after another."""
        apart = self.places[first:last, None] - self.places             # (rows, N): query - key
        return apart.add_(self.values.shape[1] // 2).flatten()

    def rows(self, first: int, last: int) -> Tensor:
        """Return the rows of queries first .. last - 1, (heads, last - first, N)."""
        heads = self.values.shape[0]
        index = self.index(first, last).long().expand(heads, -1)
        return self.values.gather(1, index).view(heads, -1, len(self.places))

    def whole(self) -> Tensor:
        """Return all of it, (heads, N, N): query by key. Cheaper to go back through than ``rows``."""
        n = len(self.places)
        return self.values.index_select(1, self.index(0, n)).view(-1, n, n)


class PositionBias(nn.Module):
    """16 sigmoid(MLP(offset)), offsets log-spaced over -8 .. 8 (inferred; SwinV2's, as in GRL).

    The MLP sees an offset of (-w+1 .. w-1)^2, so its weights do for any window.
    """

    def __init__(self, window: int, heads: int, hidden: int):
        """Tabulate the offsets of a window x window square."""
        super().__init__()
        if window < 2:
            raise UserError(f"option 'window' is {window}; it must be at least 2.")
        self.mlp = nn.Sequential(nn.Linear(2, hidden), nn.ReLU(inplace=True),
                                 nn.Linear(hidden, heads, bias=False))
        steps = torch.arange(1 - window, window, dtype=torch.float32) * 8 / (window - 1)
        steps = steps.sign() * (steps.abs() + 1).log2() / 3             # log2 8; -1.06 .. 1.06
        offsets = torch.cartesian_prod(steps, steps)                    # ((2w-1)^2, 2): dy, dx
        places = torch.arange(window, dtype=torch.int32)
        places = (places[:, None] * (2 * window - 1) + places).flatten()            # (N,)
        self.register_buffer("offsets", offsets, persistent=False)
        self.register_buffer("places", places, persistent=False)

    def forward(self) -> BiasTable:
        """Return the table of this layer's heads."""
        values = 16 * torch.sigmoid(self.mlp(self.offsets))             # ((2w-1)^2, heads)
        return BiasTable(values.t(), self.places)
