"""LPIPS and DISTS: distances between two images in the features of a network.

Written here rather than taken from pyiqa, ``lpips`` or torchvision: importing these costs each cell
of a run 2 to 3 s of CPU time. Tests compare the values with the package ``lpips`` and with pyiqa.

Reads the weights that ``irbench.imaging.backbones`` finds; writes nothing else.

Try: ``python -c "from irbench.imaging import perceptual; print(perceptual.make_lpips('alex'))"``
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from irbench.core.errors import Unavailable
from irbench.imaging import backbones
from irbench.imaging.images import to_rgb

if TYPE_CHECKING:
    from torch import Tensor

# what maps two uint8 images (H, W, C) to their distance; 0 is "same"
Distance = Callable[[np.ndarray, np.ndarray], float]
# the layers of each network after which a feature is taken are the last of each stage
ALEX_STAGES = ((0,), (1,), (2,), (3,), (4,))
VGG_STAGES = ((0, 1), (2, 3), (4, 5, 6), (7, 8, 9), (10, 11, 12))
ALEX_STRIDE, ALEX_PADDING = (4, 1, 1, 1, 1), (2, 2, 1, 1, 1)
LEAST = {"alex": 32, "vgg": 16}     # pixels of the shorter side; smaller features have no pixels
# LPIPS's own normalisation of images in [-1, 1] (the "scaling layer"), and ImageNet's of [0, 1]
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def make_lpips(net: str = "alex", weights: dict[str, np.ndarray] | None = None) -> Distance:
    """Build LPIPS, version 0.1 (Zhang et al., CVPR 2018).

    Args:
        net: ``alex`` or ``vgg``.
        weights: as ``backbones.load`` returns them; by default those.

    Returns:
        A function that maps two uint8 images (H, W, C) of one size to their distance. Gray images
        are repeated to RGB. It raises Unavailable for an image that is too small.

    Raises:
        Unavailable: the weights are missing; the message says what to do.
    """
    import torch

    held = {name: torch.from_numpy(np.ascontiguousarray(value))
            for name, value in (weights or _load("LPIPS", net)).items()}
    features = _alex if net == "alex" else _vgg

    def distance(restored: np.ndarray, target: np.ndarray) -> float:
        _check_size(restored, net, "LPIPS")
        with torch.inference_mode():
            pair = [features(_normalised(image, SHIFT, SCALE, signed=True), held)
                    for image in (restored, target)]
            total = 0.0
            for i, (a, b) in enumerate(zip(*pair, strict=True)):    # (1, channels, h, w)
                apart = (_unit(a) - _unit(b)).square_()
                total += float((apart * held[f"lin{i}"].view(1, -1, 1, 1)).sum(1).mean())
        return total

    return distance


def make_dists() -> Distance:
    """Build DISTS (Ding et al., IEEE TPAMI 2020) on VGG16, whose pooling is an L2 one.

    Returns:
        A function as that of ``make_lpips``.

    Raises:
        Unavailable: the weights are missing; the message says what to do.
    """
    try:
        alpha, beta = backbones.load_dists()
    except Unavailable as error:
        raise Unavailable(f"DISTS {error}") from None
    import torch

    held = {name: torch.from_numpy(value) for name, value in _load("DISTS", "vgg").items()}
    alpha, beta = (torch.from_numpy(one).double() for one in (alpha, beta))
    weight = alpha.sum() + beta.sum()

    def distance(restored: np.ndarray, target: np.ndarray) -> float:
        _check_size(restored, "vgg", "DISTS")
        with torch.inference_mode():
            pair = []
            for image in (restored, target):
                x = _normalised(image, MEAN, DEVIATION)
                plain = x * torch.tensor(DEVIATION).view(1, 3, 1, 1) \
                    + torch.tensor(MEAN).view(1, 3, 1, 1)
                pair.append([plain, *_vgg(x, held, pool=_l2_pool)])
            likeness, start = 0.0, 0
            for a, b in zip(*pair, strict=True):
                end = start + a.shape[1]
                texture, structure = _likeness(a, b)
                likeness += float(alpha[start:end] @ texture + beta[start:end] @ structure)
                start = end
        return 1.0 - likeness / float(weight)

    return distance


def _load(title: str, net: str) -> dict[str, np.ndarray]:
    try:
        return backbones.load(net)
    except Unavailable as error:
        raise Unavailable(f"{title} {error}") from None


def _check_size(image: np.ndarray, net: str, title: str) -> None:
    if min(image.shape[:2]) < LEAST[net]:
        raise Unavailable(f"{title} needs images of at least {LEAST[net]}x{LEAST[net]} pixels "
                          f"after cropping, not {image.shape[0]}x{image.shape[1]}.")


# -- features ----------------------------------------------------------------------------------

def _normalised(image: np.ndarray, shift: tuple, scale: tuple, signed: bool = False) -> Tensor:
    """uint8 (H, W, 1 or 3) to (1, 3, H, W), from [0, 1] (``signed``: [-1, 1]), normalised."""
    import torch

    x = torch.from_numpy(to_rgb(image).astype(np.float32) / 255).permute(2, 0, 1)[None]
    x = 2 * x - 1 if signed else x
    return (x - torch.tensor(shift).view(1, 3, 1, 1)) / torch.tensor(scale).view(1, 3, 1, 1)


def _alex(x: Tensor, held: dict[str, Tensor]) -> list[Tensor]:
    """Return the five features of AlexNet, after each ReLU: (1, C, h, w)."""
    from torch.nn import functional as F

    found = []
    for i, (stride, padding) in enumerate(zip(ALEX_STRIDE, ALEX_PADDING, strict=True)):
        if i in (1, 2):
            x = F.max_pool2d(x, 3, 2)
        x = F.conv2d(x, held[f"conv{i}.weight"], held[f"conv{i}.bias"], stride, padding).relu_()
        found.append(x)
    return found


def _vgg(x: Tensor, held: dict[str, Tensor],
         pool: Callable[[Tensor], Tensor] | None = None) -> list[Tensor]:
    """Return the features at the ends of VGG16's five stages: (1, C, h, w)."""
    from torch.nn import functional as F

    found = []
    for stage in VGG_STAGES:
        if found:
            x = pool(x) if pool else F.max_pool2d(x, 2, 2)
        for i in stage:
            x = F.conv2d(x, held[f"conv{i}.weight"], held[f"conv{i}.bias"], padding=1).relu_()
        found.append(x)
    return found


def _l2_pool(x: Tensor) -> Tensor:
    """Halve a feature: the root of the mean square under a 3x3 Hann window, zeros around."""
    import torch
    from torch.nn import functional as F

    taps = torch.tensor([0.25, 0.5, 0.25])
    window = torch.outer(taps, taps).expand(x.shape[1], 1, 3, 3)
    return (F.conv2d(x.square(), window, stride=2, padding=1, groups=x.shape[1]) + 1e-12).sqrt()


def _unit(feature: Tensor) -> Tensor:
    """Scale the channels of each pixel to length 1: (1, C, h, w)."""
    return feature / (feature.square().sum(1, keepdim=True).sqrt() + 1e-10)


def _likeness(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return how alike two features (1, C, h, w) are in mean and in structure, (C,) each."""
    mean_a, mean_b = (one.mean((0, 2, 3)) for one in (a, b))
    apart_a, apart_b = (one - mean.view(1, -1, 1, 1) for one, mean in ((a, mean_a), (b, mean_b)))
    variances = apart_a.square().mean((0, 2, 3)) + apart_b.square().mean((0, 2, 3))
    covariance = (apart_a * apart_b).mean((0, 2, 3))
    texture = (2 * mean_a * mean_b + 1e-6) / (mean_a.square() + mean_b.square() + 1e-6)
    return texture.double(), ((2 * covariance + 1e-6) / (variances + 1e-6)).double()
