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

from irbench.core.errors import UserError


class BiasTable(NamedTuple):
    """A bias by offset: what ``attend`` may be given in place of (heads, N, N), which it spreads.

    Queries of one row of the window meet all keys, row by row, in the same order as those of the
    row below meet them one row of keys later. So the N x N of them are w overlapping pieces of
    one strip a column of queries, and nothing is looked up.

    Attributes:
        strips: (heads, w, (2w-1) w): for each column of the window, the queries of which it is,
            the bias of keys 1-w .. w-1 rows below it, of w columns each.
    """

    strips: Tensor

    def rows(self, first: int, last: int) -> Tensor:
        """Return the bias of queries in rows first .. last - 1 of the window, by all keys.

        (heads, (last - first) w, N), N = w w.
        """
        w = self.strips.shape[1]
        return torch.cat([self.strips[:, :, (w - 1 - y) * w:(2 * w - 1 - y) * w]
                          for y in range(first, last)], dim=1)

    def whole(self) -> Tensor:
        """Return all of it, (heads, N, N): query by key."""
        return self.rows(0, self.strips.shape[1])


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
        self.register_buffer("offsets", offsets, persistent=False)
        self.window = window

    def forward(self) -> BiasTable:
        """Return the table of this layer's heads."""
        values = 16 * torch.sigmoid(self.mlp(self.offsets))             # ((2w-1)^2, heads)
        # a key's offset is query - key: turned around it grows with the key
        table = values.t().unflatten(1, (2 * self.window - 1, -1)).flip(1, 2)
        strips = table.unfold(2, self.window, 1).flip(2)                # (heads, dy, x, key's x)
        return BiasTable(strips.transpose(1, 2).flatten(2))
