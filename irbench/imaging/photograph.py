"""A natural photograph of any size as a network's input, where random values would mislead.

Reads scikit-image's package folder, writes nothing, and needs no network.

Try: ``python -c "from irbench.imaging.photograph import photograph; print(photograph(3, 64,
96)[1])"``
"""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from irbench.imaging import images

PHOTOGRAPH = "astronaut.png"
SEED = 0  # of the random values that replace a missing photograph


def photograph(channels: int, height: int, width: int) -> tuple[Tensor, str]:
    """Return a natural image as an input, (1, channels, height, width) in [0, 1], and its name.

    It is the middle of scikit-image's astronaut (NASA, public domain), which is first enlarged if
    it is too small. Without that package, or if channels is not 1 or 3, returns random values.
    """
    package = importlib.util.find_spec("skimage")
    path = Path(package.origin).parent / "data" / PHOTOGRAPH if package else Path(PHOTOGRAPH)
    if channels not in (1, 3) or not path.is_file():
        generator = torch.Generator().manual_seed(SEED)
        return torch.rand(1, channels, height, width, generator=generator), "random values"
    image = images.as_channels(images.read_image(path), "rgb" if channels == 3 else "gray")
    x = torch.from_numpy(images.to_float(image)).permute(2, 0, 1).unsqueeze(0)
    factor = max(height / x.shape[-2], width / x.shape[-1], 1)
    if factor > 1:
        size = [math.ceil(factor * side) for side in x.shape[-2:]]
        x = F.interpolate(x, size, mode="bicubic").clamp(0, 1)
    top, left = (x.shape[-2] - height) // 2, (x.shape[-1] - width) // 2
    name = f"photograph ({PHOTOGRAPH} of scikit-image, {'enlarged' if factor > 1 else 'cut'})"
    return x[..., top:top + height, left:left + width].contiguous(), name
