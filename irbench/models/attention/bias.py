"""The position bias of SemanIR's attention: a small table per layer and head, expanded to N x N.

Reads and writes tensors only. *Inferred* (arXiv 2405.20008 shows no bias): an MLP of the offset
between two tokens, as in SwinV2 and GRL, gives the printed sizes to 0.01 M. According to these
sizes each layer has its own MLP (4,608 parameters per layer at 512 hidden units). So a stage cannot
share the bias like the dictionary: it is computed once per layer, for all windows.

Try: ``python -c "from irbench.models.attention.bias import PositionBias;
print(PositionBias(8, 3, 64)().full_matrix().shape)"``
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from irbench.core.errors import UserError


class BiasTable(NamedTuple):
    """A bias by offset, which ``attend`` accepts in place of (heads, N, N) and expands itself.

    The bias depends only on the offset between query and key. So for the queries in one column of
    the window, the rows of the N x N matrix are w overlapping pieces of one strip, and no index
    lookup is needed.

    Attributes:
        strips: (heads, w, (2w-1) w): for each column of queries, the bias of the keys that lie
            1-w .. w-1 rows below the query, w columns each.
    """

    strips: Tensor

    def rows(self, first: int, last: int) -> Tensor:
        """Return the bias of the queries in rows first .. last - 1 of the window, for all keys.

        (heads, (last - first) w, N), N = w w.
        """
        w = self.strips.shape[1]
        return torch.cat([self.strips[:, :, (w - 1 - y) * w:(2 * w - 1 - y) * w]
                          for y in range(first, last)], dim=1)

    def full_matrix(self) -> Tensor:
        """Return the bias as a matrix (heads, N, N): query by key."""
        return self.rows(0, self.strips.shape[1])


class PositionBias(nn.Module):
    """16 sigmoid(MLP(offset)), offsets log-spaced over -8 .. 8 (inferred; SwinV2's, as in GRL).

    The MLP's input is an offset in (-w+1 .. w-1)^2, so its weights work for any window.
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
        # the offset is query - key; after the flip it grows with the key
        table = values.t().unflatten(1, (2 * self.window - 1, -1)).flip(1, 2)
        strips = table.unfold(2, self.window, 1).flip(2)                # (heads, dy, x, key's x)
        return BiasTable(strips.transpose(1, 2).flatten(2))
