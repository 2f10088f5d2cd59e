import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irbench.data import obtain, sets
from irbench.imaging import mosaic

# The filters as Figure 2 of Malvar, He and Cutler draws them, times 8: which colour is estimated
# at which pixel of the RGGB pattern (row parity, column parity).
GREEN = [[0, 0, -1, 0, 0], [0, 0, 2, 0, 0], [-1, 2, 4, 2, -1], [0, 0, 2, 0, 0], [0, 0, -1, 0, 0]]
ROW = [[0, 0, .5, 0, 0], [0, -1, 0, -1, 0], [-1, 4, 5, 4, -1], [0, -1, 0, -1, 0], [0, 0, .5, 0, 0]]
COLUMN = [list(line) for line in zip(*ROW, strict=True)]
CROSS = [[0, 0, -1.5, 0, 0], [0, 2, 0, 2, 0], [-1.5, 0, 6, 0, -1.5], [0, 2, 0, 2, 0],
         [0, 0, -1.5, 0, 0]]
FILTERS = {(0, 0): (None, GREEN, CROSS), (0, 1): (ROW, None, COLUMN),
           (1, 0): (COLUMN, None, ROW), (1, 1): (CROSS, GREEN, None)}


def fold(i, n):
    """Mirror a position at 0 and n - 1 until it is inside."""
    while not 0 <= i < n:
        i = -i if i < 0 else 2 * (n - 1) - i
    return i


def slowly(raw):
    """Interpolate pixel by pixel: what mosaic.malvar must give in floating point."""
    h, w = raw.shape[:2]
    out = np.zeros((h, w, 3))
    for y in range(h):
        for x in range(w):
            for color, kernel in enumerate(FILTERS[y % 2, x % 2]):
                out[y, x, color] = float(raw[y, x, 0]) if kernel is None else sum(
                    kernel[i][j] / 8 * float(raw[fold(y + i - 2, h), fold(x + j - 2, w), 0])
                    for i in range(5) for j in range(5))
    return out


def random_image(seed, h, w):
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8)


def test_a_mosaic_holds_the_colours_of_an_rggb_sensor():
    image = np.array([[[1, 2, 3], [4, 5, 6], [7, 8, 9]],
                      [[10, 11, 12], [13, 14, 15], [16, 17, 18]]], np.uint8)
    assert mosaic.mosaic(image)[..., 0].tolist() == [[1, 5, 7], [11, 15, 17]]
    assert mosaic.mosaic(image).dtype == np.uint8
    assert image[0, 0].tolist() == [1, 2, 3]  # the image itself is left alone


def test_a_gray_image_is_its_own_mosaic():
    gray = random_image(0, 7, 9)[..., :1]
    assert np.array_equal(mosaic.mosaic(np.repeat(gray, 3, axis=-1)), gray)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(h=st.integers(2, 11), w=st.integers(2, 11), seed=st.integers(0, 99))
def test_malvar_equals_plain_loops(h, w, seed):
    raw = mosaic.mosaic(random_image(seed, h, w))
    expected = slowly(raw)
    assert np.allclose(mosaic.malvar(raw.astype(np.float64)), expected, rtol=0, atol=1e-9)
    # a uint8 mosaic: clipped, halves up
    rounded = np.floor(np.clip(expected, 0, 255) + 0.5)
    assert np.array_equal(mosaic.malvar(raw), rounded)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(h=st.integers(2, 20), w=st.integers(2, 20), seed=st.integers(0, 99))
def test_the_colours_of_the_sensor_stay(h, w, seed):
    raw = mosaic.mosaic(random_image(seed, h, w))
    full = mosaic.malvar(raw)
    assert full.shape == (h, w, 3)
    assert full.dtype == np.uint8
    assert np.array_equal(mosaic.mosaic(full), raw)


def test_constant_colours_of_gray_images_are_exact():
    for value in (0, 1, 127, 255):
        image = np.full((5, 8, 3), value, np.uint8)
        assert np.array_equal(mosaic.malvar(mosaic.mosaic(image)), image)


@pytest.mark.parametrize("colours", [(10, 200, 90), (255, 0, 31)])
def test_any_constant_colour_is_exact(colours):
    """Each filter sums to 1 over the colour it estimates and to 0 over the others."""
    image = np.broadcast_to(np.array(colours, np.uint8), (9, 12, 3))
    assert np.array_equal(mosaic.malvar(mosaic.mosaic(image)), image)


def test_linear_images_are_exact_inside():
    y, x = np.mgrid[:14, :17].astype(float)
    image = np.stack([3 * x + 2 * y + 5, 30 - x + 4 * y, 2 * x - y + 60], -1)
    full = mosaic.malvar(mosaic.mosaic(image))
    assert np.allclose(full[2:-2, 2:-2], image[2:-2, 2:-2], rtol=0, atol=1e-9)
    assert not np.allclose(full, image)  # at the border a ramp is mirrored, so no ramp any more


def test_values_beyond_the_range_are_clipped_only_in_uint8():
    raw = np.zeros((9, 9, 1), np.uint8)
    raw[4, 4] = 255  # one red pixel; blue two pixels on gets -3/16 of it
    loose = mosaic.malvar(raw.astype(np.float64))
    assert loose[4, 6, 2] == -1.5 / 8 * 255
    assert mosaic.malvar(raw)[4, 6, 2] == 0
    bright = mosaic.malvar((255 - raw).astype(np.float64))
    assert bright[4, 6, 2] == 255 + 1.5 / 8 * 255
    assert mosaic.malvar(255 - raw)[4, 6, 2] == 255


@pytest.mark.mirror
def test_the_published_figure_on_mcmaster(mirror, tmp_path):
    """34.43 dB in DPIR and the tables after it: rounded to uint8, 10 pixels of border cut."""
    entry = sets.get("mcmaster")
    scores = []
    for item in obtain.fetch(entry, tmp_path, progress=False).role("hr"):
        image = item.load()
        difference = mosaic.malvar(mosaic.mosaic(image)).astype(float) - image
        scores.append(10 * np.log10(255**2 / np.mean(difference[10:-10, 10:-10] ** 2)))
    assert len(scores) == 18
    assert np.mean(scores) == pytest.approx(34.43, abs=0.005)
