"""A network that allocates what a test asks for."""

import torch
from torch import nn

MIB = 2**20


class Temporary(nn.Module):
    """Allocates and frees, one after the other, tensors of so many MiB."""

    def __init__(self, *sizes):
        super().__init__()
        self.sizes = sizes

    def forward(self, x):
        for size in self.sizes:
            torch.ones(size * MIB // 4)
        return x
