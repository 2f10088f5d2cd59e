"""PSNR and SSIM of a restored image under a protocol, and the functions of all metrics.

``irbench.core.metrics`` holds the name and format of each metric; ``register`` adds the function
that computes it. The functions of pyiqa's and of a user's metrics are added by ``irbench.plan``.

PSNR and SSIM are computed here in float64, on planes prepared here. pyiqa's versions are not used,
for two reasons, which a test shows. Its luma is full-range YIQ, 1.32 dB off the figures in papers.
Its SSIM sets negative contrast-structure terms to zero, unlike the published definition. This lifts
noisy images, the more the stronger the noise: photographs of Kodak24 by .0007 on average at sigma
50 (one by .0012), by .002 at sigma 100 (.004), by .003 at sigma 150 (.005). SSIM is
written for speed; ``benchmarks/metrics.py`` measures it. LPIPS and DISTS are in
``irbench.imaging.perceptual``, what pyiqa computes in ``irbench.imaging.pyiqa_metrics``.

Try: ``python -c "from irbench.imaging import metrics; print(*metrics.COMPUTED)"``
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

import numpy as np

from irbench.catalog.protocols import Protocol
from irbench.core.errors import Unavailable, UserError, unknown
from irbench.imaging import backbones, perceptual, pyiqa_metrics
from irbench.imaging.images import crop_border, luma

WHOLE = 2**24   # values of an image whose planes are kept in memory as a whole
PIECE = 2**19   # values whose squared errors are added up at a time


def planes(image: np.ndarray, protocol: Protocol, gray_file: bool = False) -> np.ndarray:
    """Convert uint8 (H, W, C) to the planes a protocol scores: float64 (H', W', C'), border cut.

    ``gray_file``: whether the target's file is gray. The protocol's ``gray_files`` says what that
    means for Y.
    """
    return Planes(image, protocol, gray_file)[:]


class Planes:
    """The planes of an image that a protocol scores, converted a few rows at a time.

    As an array (H', W', C') it has a shape, and slices of rows, which are float64 arrays; but one
    of 100 megapixels would take 2.4 GB. Arguments as of ``planes``.
    """

    def __init__(self, image: np.ndarray, protocol: Protocol, gray_file: bool) -> None:
        """Cut the border; nothing is converted yet."""
        self.image = crop_border(image, protocol.metric.crop)
        self.metric = protocol.metric
        self.gray_file = gray_file and protocol.metric.gray_files == "y"
        channels = 1 if protocol.metric.color == "y" else image.shape[-1]
        self.shape = (*self.image.shape[:2], channels)
        self._whole: np.ndarray | None = None

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Return rows, float64 (h, W', C'). Those of a small image are kept for the next metric."""
        if self.image.size > WHOLE:
            return self._convert(self.image[rows])
        if self._whole is None:
            self._whole = self._convert(self.image)
        return self._whole[rows]

    def _convert(self, image: np.ndarray) -> np.ndarray:
        if self.metric.color == "y":
            return luma(image, rounded=self.metric.y_rounded, gray_file=self.gray_file)
        return image.astype(np.float64)


def psnr(restored: np.ndarray | Planes, target: np.ndarray | Planes) -> float | None:
    """Peak signal-to-noise ratio in dB of two arrays (H, W, C) in [0, 255].

    Returns None for identical arrays, because infinity cannot be averaged.
    """
    error = _squares(restored, target, 0, count := math.prod(restored.shape)) / count
    return 10 * math.log10(255.0**2 / error) if error else None


def _squares(a: np.ndarray | Planes, b: np.ndarray | Planes, start: int, stop: int) -> float:
    """Add up the squared differences of the values ``start`` to ``stop``, counted in (H, W, C).

    The values are halved as in numpy's pairwise sum, so that the sum has the same bits as numpy's
    of the whole array, which is never in memory.
    """
    count = stop - start
    if count > PIECE:
        half = count // 2
        half -= half % 8
        return _squares(a, b, start, start + half) + _squares(a, b, start + half, stop)
    width = a.shape[1] * a.shape[2]
    top = start // width
    rows = slice(top, -(-stop // width))
    difference = np.subtract(a[rows], b[rows], dtype=np.float64, order="C")
    np.square(difference, out=difference)
    return float(np.add.reduce(difference.reshape(-1)[start - top * width:stop - top * width]))


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


def ssim(restored: np.ndarray | Planes, target: np.ndarray | Planes,
         variant: str = "gaussian11_valid") -> float:
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
    h, w, channels = restored.shape
    if not border:
        if min(h, w) < len(taps):
            raise UserError(f"SSIM needs images of at least {len(taps)}x{len(taps)} pixels after "
                            f"cropping, not {h}x{w}.")
        h, w = h - 2 * around, w - 2 * around
    across = _across(taps, channels) if variant == "gaussian11_3d" else None
    total = 0.0
    for top in range(0, h, STRIP):
        bottom = min(top + STRIP, h)
        total += _ssim_sum(*(_windows(image, top, bottom, around, border)
                             for image in (restored, target)), taps, across, factor)
    return total / (h * w * channels)


def _windows(image: np.ndarray | Planes, top: int, bottom: int, around: int,
             border: str | None) -> np.ndarray:
    """Return the rows that the windows of a strip cover, with the border put around the image."""
    if not border:
        return image[top:bottom + 2 * around]
    first, last, h = top - around, bottom + around, image.shape[0]
    return np.pad(image[max(first, 0):min(last, h)],
                  ((max(-first, 0), max(last - h, 0)), (around, around), (0, 0)), mode=border)


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


# -- all of them -------------------------------------------------------------------------------

@dataclass(frozen=True)
class Pair:
    """A restored image and its target, as input of the metrics.

    Attributes:
        restored: uint8 (H, W, C), without the protocol's border.
        target: the same.
        rows: the planes of both that the protocol scores, made a few rows at a time.
    """

    restored: np.ndarray
    target: np.ndarray
    rows: tuple[Planes, Planes]

    @property
    def planes(self) -> tuple[np.ndarray, np.ndarray]:
        """The planes of both that the protocol scores, float64 (H, W, C') in [0, 255]."""
        return tuple(image[:] for image in self.rows)


# None: not defined for this pair. It may raise Unavailable for an image that it cannot score
Score = Callable[[Pair], float | None]
Prepare = Callable[[Protocol], Score]
Finder = Callable[[], backbones.Found]

# metric -> the function that prepares it for a protocol, and the one that finds its files
COMPUTED: dict[str, Prepare] = {}
FILES: dict[str, Finder] = {}


def register(name: str, prepare: Prepare, files: Finder | None = None) -> None:
    """Register the function that computes a metric of the table (``irbench.core.metrics``).

    Args:
        name: of its row.
        prepare: returns the function that scores a pair under a protocol. It may raise Unavailable.
        files: finds the file that it needs, of weights or of a user's code.

    Raises:
        UserError: another function already computes the metric.
    """
    if COMPUTED.setdefault(name, prepare) != prepare:
        raise UserError(f"metric {name!r} is already computed by {COMPUTED[name].__module__}. "
                        "Give yours another name.")
    if files:
        FILES[name] = files


def offer(name: str, prepare: Prepare, files: Finder | None = None) -> None:
    """Register a metric of pyiqa or of a user, in place of an earlier one of this name."""
    COMPUTED.pop(name, None)
    FILES.pop(name, None)
    register(name, prepare, files)


def on_images(make: Callable[[], Callable[[np.ndarray, np.ndarray], float]]) -> Prepare:
    """Return what prepares a metric that takes two images whatever the protocol scores."""
    def prepare(_protocol: Protocol) -> Score:
        measure = make()
        return lambda pair: measure(pair.restored, pair.target)
    return prepare


register("psnr", lambda protocol: lambda pair: psnr(*pair.rows))
register("ssim", lambda protocol: lambda pair: ssim(*pair.rows, protocol.metric.ssim))
# threads may compute these at the same time; the others may hold a state, or use all cores
THREADED = frozenset(COMPUTED)
register("lpips", on_images(functools.partial(perceptual.make_lpips, "alex")),
         functools.partial(backbones.find, "alex"))
register("lpips_vgg", on_images(functools.partial(perceptual.make_lpips, "vgg")),
         functools.partial(backbones.find, "vgg"))
register("dists", on_images(perceptual.make_dists), backbones.find_dists)
register("ms_ssim", on_images(functools.partial(pyiqa_metrics.make, "ms_ssim")))
register("gmsd", on_images(functools.partial(pyiqa_metrics.make, "gmsd")))
register("fsim", on_images(functools.partial(pyiqa_metrics.make, "fsim")))
register("vif", on_images(functools.partial(pyiqa_metrics.make, "vif")))
register("niqe", on_images(pyiqa_metrics.make_niqe), pyiqa_metrics.find_niqe)


def check(names: Iterable[str], where: str = "") -> None:
    """Raise UserError with near names for a metric without a function that computes it."""
    for name in names:
        if name not in COMPUTED:
            raise unknown("metric", name, COMPUTED, where)


def weights_in_use(names: Iterable[str]) -> dict[str, str | None]:
    """Return NAME_weights -> the file that a metric needs (None: missing), for a job's spec.

    So cells run again once the weights become available, and when a user's metric changes.
    """
    return {f"{name}_weights": FILES[name]().name for name in names if name in FILES}


class Scorer:
    """Scores image pairs under one protocol.

    Attributes:
        missing: metric -> why it is unavailable for all images.
        failed: metric -> why it has no score for the first image without one.
    """

    def __init__(self, protocol: Protocol, names: Collection[str]) -> None:
        """Prepare the metrics in ``names``; those without their weights are put in ``missing``.

        Raises UserError for a metric without a function that computes it.
        """
        check(names)
        self.protocol = protocol
        self.missing: dict[str, str] = {}
        self.failed: dict[str, str] = {}
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
        found, failed = self.score(restored, target, gray_file, self._scores)
        self.note(failed)
        return found

    def score(self, restored: np.ndarray, target: np.ndarray, gray_file: bool,
              names: Iterable[str]) -> tuple[dict[str, float | None], dict[str, str]]:
        """Return the scores, and why some are None; threads may do so for ``THREADED`` metrics."""
        if restored.shape != target.shape:
            raise UserError(f"the restored image is {restored.shape}, its target {target.shape} "
                            "(H, W, C): the model does not fit the protocol.")
        crop = self.protocol.metric.crop
        pair = Pair(crop_border(restored, crop), crop_border(target, crop),
                    tuple(Planes(image, self.protocol, gray_file) for image in (restored, target)))
        found, failed = {}, {}
        for name in names:
            try:
                found[name] = self._scores[name](pair)
            except Unavailable as error:
                found[name], failed[name] = None, str(error)
            if found[name] is not None and not math.isfinite(found[name]):
                found[name], failed[name] = None, f"{name} is {found[name]}"
        return found, failed

    def reason(self, name: str) -> str:
        """Return why a metric has no score for some images, as the end of a sentence."""
        return self.failed.get(name) or (   # ``compare`` looks for "identical to the target"
            "identical to the target, psnr is infinite" if name == "psnr" else f"{name} is None")

    def note(self, failed: dict[str, str]) -> None:
        """Remember why an image lacks scores; call it in the order of the images."""
        self.failed = failed | self.failed


def mean(scores: list[dict[str, float | None]], names: tuple[str, ...]) -> dict:
    """Average each metric over all images, unweighted; None if any image has no score."""
    means: dict[str, float | None] = {}
    for name in names:
        values = [s[name] for s in scores]
        means[name] = None if not values or None in values else math.fsum(values) / len(values)
    return means
