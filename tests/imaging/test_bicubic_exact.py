"""MATLAB's bicubic gives the same bits as its plain form, one tap at a time over whole images."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irbench.imaging import images

SCALES = [1 / 2, 1 / 3, 1 / 4, 2, 3, 4, 1 / 2.5, 2.5, 1 / 1.1, 1.3, 1 / 8, 1]


def plain(image, scale):
    """The earlier definition: add up the products of one tap after the other, axis by axis."""
    out = image
    for axis in (0, 1):
        n_in = image.shape[axis]
        n_out = int(np.ceil(round(n_in * scale, 6)))
        index, weight = images._taps(n_in, n_out, scale)
        moved = np.moveaxis(out.astype(np.float64), axis, 0)
        total = np.zeros((n_out, *moved.shape[1:]))
        for tap in range(index.shape[1]):
            total += weight[:, tap].reshape(-1, *[1] * (moved.ndim - 1)) * moved[index[:, tap]]
        out = np.moveaxis(total, 0, axis)
        if image.dtype == np.uint8:
            out = np.floor(np.clip(out, 0, 255) + 0.5 + 1e-9).astype(np.uint8)
    return out


def same_bits(a, b):
    return (a.dtype, a.shape) == (b.dtype, b.shape) and (
        np.ascontiguousarray(a).tobytes() == np.ascontiguousarray(b).tobytes())


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 9999), st.integers(1, 90), st.integers(1, 90), st.sampled_from([1, 3, 4]),
       st.sampled_from(SCALES), st.sampled_from([np.uint8, np.float32, np.float64]),
       st.sampled_from([1, 2**9, 2**16]))
def test_every_size_scale_and_type(seed, h, w, channels, scale, kind, block):
    rng = np.random.default_rng(seed)
    image = (rng.integers(0, 256, (h, w, channels), dtype=np.uint8) if kind == np.uint8
             else rng.normal(0.5, 0.5, (h, w, channels)).astype(kind))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "BLOCK", block)
        assert same_bits(images.imresize(image, scale), plain(image, scale))


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
@pytest.mark.parametrize("scale", [1 / 2, 1 / 3, 2, 1 / 2.5])
def test_images_of_many_strips(scale, kind):
    """Images that are worked on in several strips, of sides that are not multiples of anything."""
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (367, 411, 3), dtype=np.uint8)
    image = image if kind == np.uint8 else (image / 255).astype(kind)
    assert same_bits(images.imresize(image, scale), plain(image, scale))


def test_arrays_of_any_layout_and_extreme_values():
    """Views, columns before rows in memory, negative zeros, and values that are not finite."""
    rng = np.random.default_rng(2)
    image = rng.normal(size=(40, 36, 3))
    image[3, 5], image[9, 8], image[20, 20], image[30, 30] = -0.0, np.inf, np.nan, -np.inf
    for view in (image[::-1, ::2], np.asfortranarray(image), image.transpose(1, 0, 2)):
        for scale in (1 / 2, 2):
            found, expected = images.imresize(view, scale), plain(view, scale)
            assert np.array_equal(found, expected, equal_nan=True)
            assert np.array_equal(np.signbit(found) & (found == 0),
                                  np.signbit(expected) & (expected == 0))
