"""PSNR, SSIM and LPIPS of a restored image under a protocol.

PSNR and LPIPS are pyiqa's, on planes prepared here: pyiqa's own luma is full-range YIQ, 1.32 dB
off what papers print. SSIM is ours: pyiqa's sets negative contrast-structure terms to zero, which
the published definition does not, and which adds up to .001 on noisy images (a test shows both).

Try: ``python -c "from irbench import metrics; print(metrics.lpips_weights())"``
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import math
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from irbench.errors import Unavailable, UserError
from irbench.images import crop_border, luma, to_rgb
from irbench.protocols import Protocol

NAMES = ("psnr", "ssim", "lpips")
# Both files as torchvision and the authors of LPIPS publish them; the names end in the first
# eight hex digits of the SHA-256, which is checked.
BACKBONE = "alexnet-owt-7be5be79.pth"
BACKBONE_URL = f"https://download.pytorch.org/models/{BACKBONE}"


def planes(image: np.ndarray, protocol: Protocol, gray_file: bool = False) -> np.ndarray:
    """Bring uint8 (H, W, C) to the planes a protocol scores: float64 (H', W', C'), border cut."""
    image = crop_border(image, protocol.metric.crop)
    if protocol.metric.color == "y":
        return luma(image, rounded=protocol.metric.y_rounded, gray_file=gray_file)
    return image.astype(np.float64)


def psnr(restored: np.ndarray, target: np.ndarray) -> float | None:
    """Peak signal-to-noise ratio in dB of two arrays (H, W, C) in [0, 255].

    Identical arrays have none: null, since infinity cannot be averaged. Through pyiqa, which is
    also handed single planes.
    """
    import torch
    from pyiqa.archs.psnr_arch import psnr as pyiqa_psnr

    if np.array_equal(restored, target):
        return None
    pair = [torch.from_numpy(np.ascontiguousarray(p)).permute(2, 0, 1)[None]
            for p in (restored, target)]
    return float(pyiqa_psnr(*pair, data_range=255.0))


def _window() -> np.ndarray:
    """The 11 weights of a Gaussian of sigma 1.5, summing to 1 (Wang et al. 2004, section III-B)."""
    x = np.arange(11) - 5
    g = np.exp(-(x**2) / (2 * 1.5**2))
    return g / g.sum()


def _blur(plane: np.ndarray) -> np.ndarray:
    """Weighted mean over 11x11, 'valid': (H, W) to (H-10, W-10). Separable, so 22 taps."""
    g = _window()
    h, w = plane.shape[0] - 10, plane.shape[1] - 10
    rows = sum(weight * plane[i:i + h] for i, weight in enumerate(g))
    return sum(weight * rows[:, i:i + w] for i, weight in enumerate(g))


def ssim(restored: np.ndarray, target: np.ndarray) -> float:
    """Structural similarity (Wang et al. 2004), mean over the valid region and over channels.

    Args:
        restored: float64 (H, W, C) in [0, 255], H and W at least 11.
        target: the same.

    Raises:
        UserError: smaller than the 11x11 window.
    """
    if min(restored.shape[:2]) < 11:
        raise UserError(f"SSIM needs images of at least 11x11 pixels after cropping, "
                        f"not {restored.shape[0]}x{restored.shape[1]}.")
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    scores = []
    for c in range(restored.shape[-1]):
        a, b = restored[..., c], target[..., c]
        mean_a, mean_b = _blur(a), _blur(b)
        var_a, var_b = _blur(a * a) - mean_a**2, _blur(b * b) - mean_b**2
        cov = _blur(a * b) - mean_a * mean_b
        scores.append(np.mean((2 * mean_a * mean_b + c1) * (2 * cov + c2)
                              / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))))
    return float(np.mean(scores))


# -- LPIPS -------------------------------------------------------------------------------------

def lpips_weights() -> tuple[Path | None, str]:
    """Find AlexNet's weights without importing torch: (path or None, the reason).

    Looked for in torch's hub folder (TORCH_HOME is honoured), then under IRBENCH_MIRROR if that
    is a folder. A file whose SHA-256 does not begin as its name says is not used.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "torch"
    hub = Path(os.environ.get("TORCH_HOME", cache)).expanduser() / "hub" / "checkpoints" / BACKBONE
    places = [hub]
    mirror = os.environ.get("IRBENCH_MIRROR", "")
    if mirror and not mirror.startswith(("http://", "https://")):
        places.append(Path(mirror).expanduser() / BACKBONE_URL.split("://")[1])
    for path in places:
        if path.is_file():
            if _intact(path, path.stat().st_mtime_ns):
                return path, f"AlexNet weights from {path.parent}"
            return None, f"{BACKBONE} is there but its checksum is wrong; delete it and fetch again"
    return None, (f"needs AlexNet's weights: put {BACKBONE} (from {BACKBONE_URL}) "
                  "into torch's hub folder, hub/checkpoints")


@functools.cache
def _intact(path: Path, _mtime: int) -> bool:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return digest.startswith(BACKBONE.rsplit("-", 1)[1].removesuffix(".pth"))


def make_lpips(backbone: dict | None = None) -> Callable[[np.ndarray, np.ndarray], float]:
    """Build LPIPS 0.1 on AlexNet (Zhang et al. 2018), pyiqa's implementation.

    The five linear layers come from the ``lpips`` package, the backbone from torch's hub folder
    or the mirror.

    Args:
        backbone: torchvision's AlexNet state dict; by default read from ``lpips_weights()``.

    Returns:
        A function of two uint8 images (H, W, C), gray repeated to RGB, to the distance (0 = same).

    Raises:
        Unavailable: no weights here, with the remedy.
    """
    import torch
    import torchvision
    from pyiqa.archs import lpips_arch

    if backbone is None:
        path, reason = lpips_weights()
        if path is None:
            raise Unavailable(f"LPIPS {reason}.")
        backbone = torch.load(path, map_location="cpu", weights_only=True)
    network = torchvision.models.alexnet(weights=None)
    network.load_state_dict(backbone)
    # pyiqa always asks torchvision to download; hand it the network that is loaded already
    theirs = lpips_arch.models
    lpips_arch.models = SimpleNamespace(alexnet=lambda weights: network)
    try:
        net = lpips_arch.LPIPS(net="alex", version="0.1", pretrained=False)
    finally:
        lpips_arch.models = theirs
    net.load_state_dict(_linear_layers(), strict=False)
    net.eval()

    def distance(restored: np.ndarray, target: np.ndarray) -> float:
        pair = [torch.from_numpy(to_rgb(p).astype(np.float32) / 255).permute(2, 0, 1)[None]
                for p in (restored, target)]
        with torch.inference_mode():
            return float(net(*pair))

    return distance


def _linear_layers() -> dict:
    """The learned weights of the five layers (version 0.1), as the ``lpips`` package ships them."""
    import torch

    spec = importlib.util.find_spec("lpips")
    path = spec and Path(spec.origin).parent / "weights" / "v0.1" / "alex.pth"
    if not (path and path.is_file()):
        raise Unavailable("LPIPS needs its linear layers: install the package lpips, "
                          "which holds them.")
    return torch.load(path, map_location="cpu", weights_only=True)


# -- all of them -------------------------------------------------------------------------------

class Scorer:
    """Scores image pairs under one protocol; says once why a metric cannot be had."""

    def __init__(self, protocol: Protocol, names: tuple[str, ...] = NAMES) -> None:
        """Prepare the metrics in ``names``; LPIPS without weights goes to ``missing``."""
        self.protocol, self.names = protocol, names
        self.missing: dict[str, str] = {}
        self._lpips = None
        if "lpips" in names:
            try:
                self._lpips = make_lpips()
            except Unavailable as error:
                self.missing["lpips"] = str(error)

    def __call__(self, restored: np.ndarray, target: np.ndarray,
                 gray_file: bool = False) -> dict[str, float | None]:
        """Score uint8 (H, W, C) against its target; null is a figure that cannot be had.

        ``gray_file`` says that the target's file is gray (see ``images.luma``).
        """
        if restored.shape != target.shape:
            raise UserError(f"the restored image is {restored.shape}, its target {target.shape} "
                            "(H, W, C): the model does not fit the protocol.")
        a, b = (planes(image, self.protocol, gray_file) for image in (restored, target))
        scores: dict[str, float | None] = {}
        if "psnr" in self.names:
            scores["psnr"] = psnr(a, b)
        if "ssim" in self.names:
            scores["ssim"] = ssim(a, b)
        if "lpips" in self.names:
            crop = self.protocol.metric.crop
            scores["lpips"] = self._lpips and self._lpips(crop_border(restored, crop),
                                                          crop_border(target, crop))
        return scores


def mean(scores: list[dict[str, float | None]], names: tuple[str, ...]) -> dict:
    """Average each metric over all images, unweighted; one missing image leaves no mean."""
    means: dict[str, float | None] = {}
    for name in names:
        values = [s[name] for s in scores]
        means[name] = None if not values or None in values else math.fsum(values) / len(values)
    return means
