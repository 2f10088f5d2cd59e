"""A Linear that is twice as fast where torch's is slow: float32 on CPUs of other makers than Intel.

Reads and writes tensors only. For float32 torch uses MKL in Linear, and MKL uses half the width of
other makers' vector units. For 1x1 convolutions, which compute the same, it uses oneDNN, which uses
the full width. On an AMD EPYC (AVX-512, 1 and 2 threads) forward and backward of the layers here
take 0.4 to 0.7 of the time. With AVX2 only, forward takes 0.8 and backward 1.2 of it, in a training
of Compacter together the same. For small inputs it is not slower than Linear.

Try: ``python -m pytest tests/models/test_blocks_semanir.py -k linear``
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# torch uses oneDNN for 1x1 convolutions only with several threads or a batch of this size.
BATCH = 16
AVAILABLE = torch.backends.mkldnn.is_available()
LEAST = 2**23  # multiply-adds below which starting oneDNN costs more than it saves


class Linear(nn.Linear):
    """``nn.Linear`` on (..., inputs), with its weights, names and results (to rounding)."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., inputs) to (..., outputs)."""
        if not _onednn(x):
            return super().forward(x)
        tokens = x.numel() // self.in_features
        if tokens % BATCH or tokens * self.weight.numel() < LEAST:
            return super().forward(x)
        image = x.reshape(BATCH, tokens // BATCH, 1, -1).permute(0, 3, 1, 2)
        y = F.conv2d(image, self.weight[:, :, None, None], self.bias)
        return y.permute(0, 2, 3, 1).reshape(*x.shape[:-1], self.out_features)


def _onednn(x: Tensor) -> bool:
    """Whether oneDNN is available and faster; not while tracing, which must see a Linear."""
    return (x.dtype == torch.float32 and x.device.type == "cpu" and AVAILABLE
            and not torch.is_autocast_enabled("cpu") and not torch.jit.is_tracing())
