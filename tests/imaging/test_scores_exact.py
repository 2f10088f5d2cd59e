"""Scores by strips have the bits of their plain forms, which hold whole images in memory."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irbench.catalog import protocols
from irbench.imaging import metrics
from irbench.imaging.images import crop_border, luma

PROTOCOLS = ("sr-x2", "sr-x4", "denoise_color-sigma25", "jpeg_gray-q10", "deblur-motion")


def plain_planes(image, protocol, gray_file):
    image = crop_border(image, protocol.metric.crop)
    if protocol.metric.color == "y":
        return luma(image, rounded=protocol.metric.y_rounded,
                    gray_file=gray_file and protocol.metric.gray_files == "y")
    return image.astype(np.float64)


def plain_psnr(a, b):
    difference = np.subtract(a, b, dtype=np.float64)
    error = float(np.mean(np.square(difference, out=difference)))
    return 10 * math.log10(255.0**2 / error) if error else None


def plain_ssim(a, b, variant):
    taps, border, factor = metrics._SSIM[variant]
    around = len(taps) // 2
    if border:
        pad = ((around, around), (around, around), (0, 0))
        a, b = (np.pad(p, pad, mode=border) for p in (a, b))
    h, w, channels = a.shape[0] - 2 * around, a.shape[1] - 2 * around, a.shape[2]
    across = metrics._across(taps, channels) if variant == "gaussian11_3d" else None
    total = 0.0
    for top in range(0, h, metrics.STRIP):
        rows = slice(top, min(top + metrics.STRIP, h) + 2 * around)
        total += metrics._ssim_sum(a[rows], b[rows], taps, across, factor)
    return total / (h * w * channels)


def pair(rng, h, w, channels, planar):
    """A target and a restored image; ``planar`` as a network returns it: channel after channel."""
    target = rng.integers(0, 256, (h, w, channels), dtype=np.uint8)
    restored = np.clip(target + rng.normal(0, 9, target.shape), 0, 255).astype(np.uint8)
    if planar:
        restored = np.ascontiguousarray(restored.transpose(2, 0, 1)).transpose(1, 2, 0)
    return restored, target


def same(restored, target, protocol, gray_file=False):
    found = metrics.Scorer(protocol, ("psnr", "ssim"))(restored, target, gray_file)
    a, b = (plain_planes(image, protocol, gray_file) for image in (restored, target))
    assert found == {"psnr": plain_psnr(a, b), "ssim": plain_ssim(a, b, protocol.metric.ssim)}


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 9999), st.integers(30, 190), st.integers(30, 90),
       st.sampled_from(PROTOCOLS), st.booleans(), st.booleans(), st.sampled_from([0, 2**24]),
       st.sampled_from([128, 2**10, 2**19]))
def test_every_size_and_protocol(seed, h, w, name, gray_file, planar, whole, piece):
    protocol = protocols.get(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "WHOLE", whole)
        patch.setattr(metrics, "PIECE", piece)
        same(*pair(np.random.default_rng(seed), h, w, protocol.channels, planar), protocol,
             gray_file)


@pytest.mark.parametrize("shape", [(8, 16, 1), (43, 3, 1), (7, 19, 3), (30, 31, 1), (61, 47, 3)])
def test_squares_are_added_in_the_order_of_numpy(shape, monkeypatch):
    """Also of values whose sum depends on the order, which whole numbers do not show."""
    assert metrics.PIECE >= 128     # numpy adds up to 128 values in one go
    monkeypatch.setattr(metrics, "PIECE", 128)
    rng = np.random.default_rng(shape[0])
    for _ in range(20):
        a, b = rng.normal(100, 50, (2, *shape))
        expected = float(np.add.reduce(np.square(a - b).reshape(-1)))
        assert metrics._squares(a, b, 0, a.size) == expected


def test_the_sum_of_squares_reads_few_rows_at_a_time(monkeypatch):
    class Rows:
        def __init__(self, array):
            self.array, self.shape, self.most = array, array.shape, 0

        def __getitem__(self, rows):
            found = self.array[rows]
            self.most = max(self.most, len(found))
            return found

    monkeypatch.setattr(metrics, "PIECE", 128)
    a, b = (Rows(array) for array in np.random.default_rng(0).normal(0, 1, (2, 90, 8, 2)))
    assert metrics.psnr(a, b) == metrics.psnr(a.array, b.array)
    assert a.most == b.most <= 128 / 16 + 1         # one more where a piece ends within a row


@pytest.mark.parametrize("variant", metrics._SSIM)
@pytest.mark.parametrize("height", [11, 12, 159, 160, 165, 166, 170, 171, 325, 331])
def test_each_ssim_where_a_strip_ends(variant, height):
    a, b = (image.astype(float) for image in pair(np.random.default_rng(3), height, 17, 3, False))
    assert metrics.ssim(a, b, variant) == plain_ssim(a, b, variant)


@pytest.mark.parametrize("name", ["sr-x2", "denoise_color-sigma25"])
def test_a_larger_image(name, monkeypatch):
    monkeypatch.setattr(metrics, "WHOLE", 0)
    same(*pair(np.random.default_rng(4), 701, 863, 3, True), protocols.get(name))


def test_identical_images_have_no_psnr():
    image = np.full((40, 40, 3), 7, np.uint8)
    assert metrics.Scorer(protocols.get("sr-x2"), ("psnr",))(image, image) == {"psnr": None}
