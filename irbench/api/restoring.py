"""``irbench.restore``: restore a picture that has no target. Nothing is degraded first.

Reads the file of a picture given by its path; writes nothing.

Try: ``python -c "import irbench; irbench.restore('photo.jpg', 'compacter', 'sr-x2').show()"``
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np
from PIL import Image

from irbench.api import models
from irbench.api.models import LoadedModel
from irbench.api.pictures import restore_picture

if TYPE_CHECKING:
    from torch import nn


@overload
def restore(picture: np.ndarray, model: LoadedModel | str | Path | nn.Module,
            protocol: str | None = None, device: str = "auto") -> np.ndarray: ...


@overload
def restore(picture: Image.Image | str | Path, model: LoadedModel | str | Path | nn.Module,
            protocol: str | None = None, device: str = "auto") -> Image.Image: ...


def restore(picture: np.ndarray | Image.Image | str | Path,
            model: LoadedModel | str | Path | nn.Module, protocol: str | None = None,
            device: str = "auto") -> np.ndarray | Image.Image:
    """Restore a picture as it is; nothing is degraded first.

    Args:
        picture: one of
            an array (H, W, 3), RGB, or (H, W), gray: uint8 in [0, 255], uint16 in [0, 65535], or
            float32 or float64 in [0, 1];
            a Pillow image, or the path of an image file (PNG, JPEG, TIFF, WebP, BMP). EXIF's
            orientation is applied, alpha is kept (enlarged bicubically where the model enlarges),
            and the ICC profile is copied.
        model: from ``load_model``, or what that takes. A colour model restores a gray picture in
            three equal channels, whose mean is returned.
        protocol: see ``load_model``; for a model that is loaded already it must be the same.
        device: see ``load_model``.

    Returns:
        For an array an array of the same kind, (scale H, scale W, 3) or (scale H, scale W); of
        floats float32, neither clipped nor rounded. Otherwise a Pillow image, upright; a 16-bit
        colour file gives 8 bits here, because Pillow knows no other (the command ``irbench
        restore`` writes 16 bits).

    Raises:
        Unavailable: too little memory.
        UserError: a picture of another form or range, which is never guessed; a file that is not a
            plain picture; a colour picture for a gray model, or a gray one for a model that removes
            Gaussian noise from colour pictures.

    Warns (UserWarning) if a model that removes Gaussian noise from colour pictures gets a JPEG file
    with subsampled chroma: much of its noise stays.
    """
    if not isinstance(model, LoadedModel):
        model = models.load_model(model, protocol, device=device)
    model.check_protocol(protocol)
    return restore_picture(picture, model)
