"""Models without weights, for rows that test only the pipeline.

``input`` returns the degraded image; ``bicubic`` enlarges it as MATLAB does. Any correct pipeline
reproduces their published figures (see catalog/anchors.yaml). ``malvar`` also returns its input,
which under a demosaic protocol is already the Malvar-He-Cutler interpolation.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from irbench.imaging.images import imresize

CARDS = {
    "input": {
        "title": "Input",
        "builder": "build_input",
        "tasks": ["denoise_gray", "denoise_color", "jpeg_gray", "jpeg_color", "demosaic",
                  "deblur", "derain", "lowlight", "weather", "denoise_real", "dehaze", "*"],
        "in_paper": True,
        "learned": False,
        "published_as": "input",
        "source": "the degraded image itself; in demosaicking the Malvar-He-Cutler interpolation "
                  "of the mosaic",
    },
    "malvar": {
        "title": "Malvar-He-Cutler",
        "builder": "build_input",
        "tasks": ["demosaic"],
        "in_paper": True,
        "learned": False,
        "published_as": "Matlab",
        "source": "Malvar, He and Cutler, ICASSP 2004 (MATLAB's demosaic). The protocol's input "
                  "is this interpolation already (irbench/imaging/mosaic.py), so it is returned "
                  "as it is",
    },
    "bicubic": {
        "title": "Bicubic",
        "builder": "build_bicubic",
        "tasks": ["sr"],
        "any_scale": True,
        "in_paper": True,
        "learned": False,
        "published_as": "Bicubic",
        "source": "MATLAB's imresize (Keys 1981, a = -0.5)",
    },
}


class Bicubic(nn.Module):
    """(B, C, H, W) to (B, C, scale*H, scale*W) by MATLAB's bicubic, in float64 inside."""

    def __init__(self, scale: int | float) -> None:
        """Enlarge by ``scale``."""
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge each image of a batch."""
        single = x.dtype == torch.float32   # numpy has not every other type
        images = [imresize((image if single else image.double()).permute(1, 2, 0).cpu().numpy(),
                           self.scale, np.float32 if single else np.float64) for image in x]
        whole = images[0][None] if len(images) == 1 else np.stack(images)
        return torch.from_numpy(whole).permute(0, 3, 1, 2).to(x)


def build_input(task: str, scale: int, channels: int) -> nn.Module:
    """Build the model that returns its input."""
    return nn.Identity()


def build_bicubic(task: str, scale: int | float, channels: int) -> nn.Module:
    """Build MATLAB's bicubic enlargement."""
    return Bicubic(scale)
