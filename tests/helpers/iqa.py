"""Pairs of images with official values of metrics, in the mirror.

The five calibration pairs of IQA-PyTorch (ResultsCalibra), with the values of the metrics' authors,
and the example of the README of LPIPS's authors.
"""

from pathlib import Path

from irbench.imaging.images import read_image

IQA = ("raw.githubusercontent.com/chaofengc/IQA-PyTorch/01ae427f9afd66842031d3a7cb694dcad5b5cbb8"
       "/ResultsCalibra")
LPIPS = ("raw.githubusercontent.com/richzhang/PerceptualSimilarity"
         "/082bb24f84c091ea94de2867d34c4544f68e0963/imgs")
KEYS = ("I03", "I04", "I06", "I08", "I19")
OFFICIAL = {name: dict(zip(KEYS, values, strict=True)) for name, values in {
    "lpips": (0.7237, 0.2572, 0.05079, 0.05205, 0.4253),
    "dists": (0.4742, 0.1424, 0.06825, 0.02867, 0.3123),
    "ms_ssim": (0.6733, 0.9996, 0.9998, 0.9566, 0.8462),
    "gmsd": (0.22035, 0.00052, 0.00045, 0.13463, 0.20500),
    "niqe": (15.754, 3.655, 3.235, 3.184, 8.635),
    "fsim": (0.689, 0.9702, 0.9927, 0.9575, 0.822),
    "vif": (0.0172, 0.9891, 0.9924, 0.9103, 0.1745)}.items()}


def calibration(mirror, key):
    """Return restored image and target of a pair, uint8 (384, 512, 3)."""
    return tuple(read_image(Path(mirror) / IQA / folder / f"{key}.bmp")
                 for folder in ("dist_dir", "ref_dir"))


def example(mirror, key):
    """Return ``ref``, ``p0`` or ``p1`` of the example of LPIPS, uint8 (64, 64, 3)."""
    return read_image(Path(mirror) / LPIPS / f"ex_{key}.png")
