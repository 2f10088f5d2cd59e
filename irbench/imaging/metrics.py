"""PSNR, SSIM and LPIPS of a restored image under a protocol, and the functions of all metrics.

``irbench.core.metrics`` holds the name and format of each metric; ``register`` adds the function
that computes it.

PSNR and SSIM are computed here in float64, on planes prepared here. pyiqa's versions are not used,
for two reasons, which a test shows. Its luma is full-range YIQ, 1.32 dB off the figures in papers.
Its SSIM sets negative contrast-structure terms to zero, unlike the published definition. This lifts
noisy images, the more the stronger the noise: photographs of Kodak24 by .0007 on average at sigma
50 (one by .0012), by .002 at sigma 100 (.004), by .003 at sigma 150 (.005). LPIPS is pyiqa's. SSIM
is written for speed; ``benchmarks/metrics.py`` measures it.

Try: ``python -c "from irbench.imaging import metrics; print(metrics.lpips_weights())"``
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import math
import os
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from irbench.catalog.protocols import Protocol
from irbench.core.errors import Unavailable, UserError, unknown
from irbench.imaging.images import crop_border, luma, to_rgb

# Both files as torchvision and the authors of LPIPS publish them; the names end in the first
# eight hex digits of the SHA-256, which is checked.
BACKBONE = "alexnet-owt-7be5be79.pth"
BACKBONE_URL = f"https://download.pytorch.org/models/{BACKBONE}"


def planes(image: np.ndarray, protocol: Protocol, gray_file: bool = False) -> np.ndarray:
    """Convert uint8 (H, W, C) to the planes a protocol scores: float64 (H', W', C'), border cut.

    ``gray_file``: whether the target's file is gray. The protocol's ``gray_files`` says what that
    means for Y.
    """
    image = crop_border(image, protocol.metric.crop)
    if protocol.metric.color == "y":
        return luma(image, rounded=protocol.metric.y_rounded,
                    gray_file=gray_file and protocol.metric.gray_files == "y")
    return image.astype(np.float64)


def psnr(restored: np.ndarray, target: np.ndarray) -> float | None:
    """Peak signal-to-noise ratio in dB of two arrays (H, W, C) in [0, 255].

    Returns None for identical arrays, because infinity cannot be averaged.
    """
    difference = np.subtract(restored, target, dtype=np.float64)
    error = float(np.mean(np.square(difference, out=difference)))
    return 10 * math.log10(255.0**2 / error) if error else None


# -- SSIM --------------------------------------------------------------------------------------

def _gaussian() -> np.ndarray:
    """The 11 weights of a Gaussian of sigma 1.5, summing to 1 (Wang et al. 2004, section III-B)."""
    x = np.arange(11) - 5
    g = np.exp(-(x**2) / (2 * 1.5**2))
    return g / g.sum()


# variant -> the weights along one axis, np.pad's mode (None: only windows inside the image
# count), and the factor of the (co)variances
_SSIM = {
    "gaussian11_valid": (_gaussian(), None, 1.0),
    "gaussian11_same": (_gaussian(), "constant", 1.0),
    "gaussian11_3d": (_gaussian(), "edge", 1.0),
    "uniform7": (np.full(7, 1 / 7), None, 49 / 48),  # sample covariance: divided by N - 1
}
STRIP = 160  # rows at a time, so that intermediate results of large images stay in the cache


def ssim(restored: np.ndarray, target: np.ndarray, variant: str = "gaussian11_valid") -> float:
    """Structural similarity (Wang et al. 2004), mean over pixels and channels.

    The variants differ by thousandths and more on the same pair (see ``irbench explain``)::

        gaussian11_valid  11x11 Gaussian, sigma 1.5; only pixels whose window lies inside the image:
                          the authors' own code, BasicSR, KAIR
        gaussian11_same   the same with zeros around the image, all pixels
        gaussian11_3d     11x11x11 Gaussian over height, width and the channels, edges repeated, all
                          pixels: MATLAB's ``ssim`` on a colour array, as deblurring papers use it
        uniform7          7x7 mean, sample covariance, only windows inside: scikit-image's default

    Args:
        restored: float64 (H, W, C) in [0, 255].
        target: the same.
        variant: one of ``protocols.SSIM_VARIANTS``.

    Raises:
        UserError: an unknown variant; an image smaller than a window that must lie inside.
    """
    if variant not in _SSIM:
        raise unknown("SSIM variant", variant, _SSIM)
    taps, border, factor = _SSIM[variant]
    around = len(taps) // 2
    if border:
        pad = ((around, around), (around, around), (0, 0))
        restored, target = (np.pad(p, pad, mode=border) for p in (restored, target))
    elif min(restored.shape[:2]) < len(taps):
        raise UserError(f"SSIM needs images of at least {len(taps)}x{len(taps)} pixels after "
                        f"cropping, not {restored.shape[0]}x{restored.shape[1]}.")
    h, w, channels = (restored.shape[0] - 2 * around, restored.shape[1] - 2 * around,
                      restored.shape[2])
    across = _across(taps, channels) if variant == "gaussian11_3d" else None
    total = 0.0
    for top in range(0, h, STRIP):
        rows = slice(top, min(top + STRIP, h) + 2 * around)
        total += _ssim_sum(restored[rows], target[rows], taps, across, factor)
    return total / (h * w * channels)


def _ssim_sum(a: np.ndarray, b: np.ndarray, taps: np.ndarray, across: np.ndarray | None,
              factor: float) -> float:
    """Add up the similarity of all windows that lie inside two strips (H, W, C).

    The formula needs only the sum of the two variances, so four weighted means suffice: those of
    a, b, a*b and a*a + b*b. Arrays are reused, because allocating costs more than the arithmetic.
    """
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2 / factor
    means = (_means(a[..., c], b[..., c], taps, c2) for c in range(a.shape[-1]))
    if across is not None:
        kinds = [np.stack(planes) for planes in zip(*means, strict=True)]  # (C, H', W) each
        means = ([np.tensordot(weights, planes, 1) for planes in kinds] for weights in across)
    around, total = len(taps) // 2, 0.0
    for mean_a, mean_b, covariance, variances in means:
        product = mean_a * mean_b
        squares = np.square(mean_a, out=mean_a)
        squares += np.square(mean_b, out=mean_b)
        # the numerator is (2 product + c1)(2 covariance + c2); its factor 4 is applied at the end,
        # and a factor of both covariance and variances cancels, except in their constant
        covariance -= product
        variances -= squares
        product += c1 / 2
        squares += c1
        product *= covariance
        squares *= variances
        product /= squares
        total += 4 * product[:, around:-around].sum()
    return float(total)


def _means(a: np.ndarray, b: np.ndarray, taps: np.ndarray, c2: float) -> list[np.ndarray]:
    """Weighted means of a, b, a*b + c2/2 and a*a + b*b + c2: (H, W) to four (H - n + 1, W), n taps.

    The first and last n // 2 columns are not valid. They are cut off at the end, which costs less
    than rows that are not contiguous in memory. cv2 takes about a third of the time of two scipy
    passes and is equally exact in float64.
    """
    import cv2

    a, b = (np.ascontiguousarray(plane, np.float64) for plane in (a, b))
    products, squares = a * b, a * a
    squares += b * b
    around = len(taps) // 2
    return [cv2.sepFilter2D(plane, -1, taps, taps, delta=more)[around:-around]
            for plane, more in ((a, 0), (b, 0), (products, c2 / 2), (squares, c2))]


def _across(taps: np.ndarray, channels: int) -> np.ndarray:
    """Return the taps along the short channel axis, with edges repeated, as (C, C) weights."""
    weights = np.zeros((channels, channels))
    for offset, tap in enumerate(taps, -(len(taps) // 2)):
        for c in range(channels):
            weights[c, min(max(c + offset, 0), channels - 1)] += tap
    return weights


# -- LPIPS -------------------------------------------------------------------------------------

def lpips_weights() -> tuple[Path | None, str]:
    """Find AlexNet's weights without importing torch; return (path or None, the reason).

    Searches torch's hub folder (respecting TORCH_HOME), then IRBENCH_MIRROR if it is a folder. A
    file is not used if its SHA-256 does not begin with the digits in its name.
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
    """Build LPIPS 0.1 on AlexNet (Zhang et al. 2018), using pyiqa's implementation.

    The five linear layers come from the ``lpips`` package, the backbone from torch's hub folder
    or the mirror.

    Args:
        backbone: torchvision's AlexNet state dict; by default read from ``lpips_weights()``.

    Returns:
        A function that maps two uint8 images (H, W, C) to their distance (0 = same). Gray images
        are repeated to RGB.

    Raises:
        Unavailable: the weights are missing; the message says what to do.
    """
    path = None
    if backbone is None:  # checked before the imports, which take seconds
        path, reason = lpips_weights()
        if path is None:
            raise Unavailable(f"LPIPS {reason}.")
    import torch
    import torchvision
    from pyiqa.archs import lpips_arch

    if path:
        backbone = torch.load(path, map_location="cpu", weights_only=True)
    network = torchvision.models.alexnet(weights=None)
    network.load_state_dict(backbone)
    # pyiqa always asks torchvision to download; give it the network that is already loaded
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
    """Return the learned weights of the five layers (version 0.1) from the ``lpips`` package."""
    import torch

    spec = importlib.util.find_spec("lpips")
    path = spec and Path(spec.origin).parent / "weights" / "v0.1" / "alex.pth"
    if not (path and path.is_file()):
        raise Unavailable("LPIPS needs its linear layers: install the package lpips, "
                          "which holds them.")
    return torch.load(path, map_location="cpu", weights_only=True)


# -- all of them -------------------------------------------------------------------------------

@dataclass(frozen=True)
class Pair:
    """A restored image and its target, as input of the metrics.

    Attributes:
        restored: uint8 (H, W, C), without the protocol's border.
        target: the same.
        planes: the planes of both that the protocol scores, float64 (H, W, C') in [0, 255].
    """

    restored: np.ndarray
    target: np.ndarray
    planes: tuple[np.ndarray, np.ndarray]


Score = Callable[[Pair], float | None]      # None: not defined for this pair
Weights = Callable[[], tuple[Path | None, str]]     # the path (None: missing) and the reason

# metric -> the function that prepares it for a protocol, and the one that finds its weights
COMPUTED: dict[str, Callable[[Protocol], Score]] = {}
WEIGHTS: dict[str, Weights] = {}


def register(name: str, prepare: Callable[[Protocol], Score],
             weights: Weights | None = None) -> None:
    """Register the function that computes a metric of the table (``irbench.core.metrics``).

    Args:
        name: the name of its row.
        prepare: returns the function that scores a pair under a protocol. It may raise Unavailable.
        weights: finds the file of weights that it needs.

    Raises:
        UserError: another function already computes the metric.
    """
    if COMPUTED.setdefault(name, prepare) != prepare:
        raise UserError(f"metric {name!r} is already computed by {COMPUTED[name].__module__}. "
                        "Give yours another name.")
    if weights:
        WEIGHTS[name] = weights


register("psnr", lambda protocol: lambda pair: psnr(*pair.planes))
register("ssim", lambda protocol: lambda pair: ssim(*pair.planes, protocol.metric.ssim))


def _prepare_lpips(_protocol: Protocol) -> Score:
    distance = make_lpips()
    return lambda pair: distance(pair.restored, pair.target)


register("lpips", _prepare_lpips, lpips_weights)


def check(names: Iterable[str], where: str = "") -> None:
    """Raise UserError with near names for a metric without a function that computes it."""
    for name in names:
        if name not in COMPUTED:
            raise unknown("metric", name, COMPUTED, where)


def weights_in_use(names: Iterable[str]) -> dict[str, str | None]:
    """Return NAME_weights -> the file that a metric needs (None: missing), for a job's spec.

    With it in the spec, cells run again once the weights become available.
    """
    found = {name: WEIGHTS[name]()[0] for name in names if name in WEIGHTS}
    return {f"{name}_weights": path and path.name for name, path in found.items()}


class Scorer:
    """Scores image pairs under one protocol; ``missing`` holds why a metric is unavailable."""

    def __init__(self, protocol: Protocol, names: Collection[str]) -> None:
        """Prepare the metrics in ``names``; those without their weights are put in ``missing``.

        Raises UserError for a metric without a function that computes it.
        """
        check(names)
        self.protocol = protocol
        self.missing: dict[str, str] = {}
        self._scores: dict[str, Score] = {}
        for name, prepare in COMPUTED.items():
            if name in names:
                try:
                    self._scores[name] = prepare(protocol)
                except Unavailable as error:
                    self._scores[name] = lambda pair: None
                    self.missing[name] = str(error)

    @property
    def prepared(self) -> tuple[str, ...]:
        """The metrics that were asked for, also those without their weights."""
        return tuple(self._scores)

    def __call__(self, restored: np.ndarray, target: np.ndarray,
                 gray_file: bool = False) -> dict[str, float | None]:
        """Score uint8 (H, W, C) against its target; None stands for an unavailable score.

        ``gray_file``: whether the target's file is gray (see ``planes``).
        """
        if restored.shape != target.shape:
            raise UserError(f"the restored image is {restored.shape}, its target {target.shape} "
                            "(H, W, C): the model does not fit the protocol.")
        crop = self.protocol.metric.crop
        pair = Pair(crop_border(restored, crop), crop_border(target, crop),
                    tuple(planes(image, self.protocol, gray_file) for image in (restored, target)))
        return {name: score(pair) for name, score in self._scores.items()}


def mean(scores: list[dict[str, float | None]], names: tuple[str, ...]) -> dict:
    """Average each metric over all images, unweighted; None if the score of any image is missing.
    """
    means: dict[str, float | None] = {}
    for name in names:
        values = [s[name] for s in scores]
        means[name] = None if not values or None in values else math.fsum(values) / len(values)
    return means
