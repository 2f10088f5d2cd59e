import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irbench.catalog import degradations, protocols
from irbench.imaging import synthetic

PARAMETERS = {p.degradation["kind"]: {k: v for k, v in p.degradation.items() if k != "kind"}
              for p in protocols.catalog().values() if p.synthetic}


def rng(seed=0):
    return np.random.RandomState(seed)


def apply(kind, image, seed=0, **changes):
    return synthetic.apply(kind, image, rng(seed), {**PARAMETERS[kind], **changes})


def photo(h=96, w=128):
    y, x = np.mgrid[:h, :w] / 9
    return (120 + 60 * np.stack([np.sin(x + y), np.sin(x - 2 * y), np.cos(3 * x)], -1)
            ).astype(np.uint8)


def test_there_is_a_catalogued_protocol_of_every_kind():
    assert set(PARAMETERS) == set(degradations.SYNTHETIC)


@pytest.mark.parametrize("kind", degradations.SYNTHETIC)
def test_a_degradation_is_a_function_of_its_seed(kind):
    image = photo()
    before = image.copy()
    first = apply(kind, image)
    assert first.dtype == np.uint8 and first.shape == image.shape
    assert np.array_equal(image, before)
    assert np.array_equal(first, apply(kind, image))
    assert not np.array_equal(first, apply(kind, image, seed=1))
    assert np.abs(first.astype(int) - image).mean() > 0.1


@settings(derandomize=True, deadline=None, max_examples=60)
@given(kind=st.sampled_from(degradations.SYNTHETIC), h=st.integers(16, 50), w=st.integers(16, 50),
       channels=st.sampled_from([1, 3]), end=st.sampled_from([1, 2]))
def test_any_size_and_the_limits_of_all_parameters(kind, h, w, channels, end):
    limits = {row[0]: row[end] for row in degradations.DEGRADATIONS[kind]}
    degraded = apply(kind, np.full((h, w, channels), 77, np.uint8), **limits)
    assert degraded.shape == (h, w, channels)


# -- convolution -----------------------------------------------------------------------------------

@settings(derandomize=True, deadline=None, max_examples=30)
@given(h=st.integers(2, 12), w=st.integers(2, 12), radius=st.integers(0, 15),
       seed=st.integers(0, 99))
def test_convolution_equals_plain_sums_over_a_mirrored_image(h, w, radius, seed):
    image, kernel = rng(seed).rand(h, w, 2), rng(seed + 1).rand(2 * radius + 1, 2 * radius + 1)
    padded = np.pad(image, ((radius, radius), (radius, radius), (0, 0)), mode="reflect")
    expected = sum(kernel[2 * radius - i, 2 * radius - j] * padded[i:i + h, j:j + w]
                   for i in range(2 * radius + 1) for j in range(2 * radius + 1))
    assert np.allclose(synthetic.convolve(image, kernel), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sigma", [0.0, 0.7, 2.0])
def test_a_gaussian_sums_to_one_and_has_its_width(sigma):
    kernel = synthetic.gaussian(sigma)
    at = np.arange(len(kernel)) - len(kernel) // 2
    assert kernel.sum() == pytest.approx(1)
    assert (kernel * at[:, None] ** 2).sum() == pytest.approx(sigma**2, rel=0.05, abs=1e-9)


# -- motion blur -----------------------------------------------------------------------------------

def test_splatting_shares_a_point_among_its_neighbours():
    psf = synthetic.splat(np.array([[0.25], [-0.5]]))  # down 0.25, left 0.5
    middle = len(psf) // 2
    assert psf[middle:middle + 2, middle - 1:middle + 1].tolist() == [[0.375, 0.375],
                                                                      [0.125, 0.125]]
    assert psf.sum() == 1


@settings(derandomize=True, deadline=None, max_examples=40)
@given(length=st.floats(1, 60), bend=st.floats(0, 1), seed=st.integers(0, 999))
def test_a_point_spread_function_is_a_centred_path(length, bend, seed):
    psf = synthetic.trajectory_psf(rng(seed), length, bend)
    at = np.arange(len(psf)) - len(psf) // 2
    assert psf.min() >= 0
    assert psf.sum() == pytest.approx(1)
    for axis in (0, 1):  # no shift of the image on the whole
        assert (psf.sum(axis=axis) * at).sum() == pytest.approx(0, abs=1e-9)
    assert len(psf) // 2 <= length + 2


def test_straight_paths_are_straight_and_of_their_length():
    for seed in range(20):
        psf = synthetic.trajectory_psf(rng(seed), 40, 0)
        y, x = np.nonzero(psf)
        spread = np.hypot(np.ptp(y), np.ptp(x))
        assert 18 <= spread <= 43  # half to all of 40, and the pixels at both ends
        spectrum = np.linalg.eigvalsh(np.cov(np.stack([y, x]), aweights=psf[y, x]))
        assert spectrum[0] < 0.5  # across the line hardly more than the splat


def test_blur_keeps_constants_and_light():
    flat = np.full((40, 50, 3), (17, 128, 255), np.uint8)
    assert np.array_equal(apply("motion_blur", flat, length=60), flat)
    star = np.zeros((101, 101, 1), np.uint8)
    star[45:56, 45:56] = 255
    blurred = apply("motion_blur", star, length=20, gamma=1)
    assert blurred.sum() == pytest.approx(star.sum(), rel=0.01)
    # light adds up, so that highlights win over shadows
    assert apply("motion_blur", star, length=20, gamma=2.2).sum() > 1.1 * blurred.sum()


# -- rain ------------------------------------------------------------------------------------------

def test_rain_only_brightens():
    image = photo()
    rainy = apply("rain_streaks", image)
    assert (rainy >= image).all()
    assert (rainy > image).mean() > 0.05
    assert np.array_equal(apply("rain_streaks", image, density=0), image)
    assert np.array_equal(apply("rain_streaks", image, opacity=0), image)
    white = np.full((32, 32, 3), 255, np.uint8)
    assert np.array_equal(apply("rain_streaks", white), white)


def test_more_rain_is_more_rain():
    black = np.zeros((96, 96, 3), np.uint8)
    means = [apply("rain_streaks", black, density=d).mean() for d in (0.5, 2, 8)]
    assert means == sorted(means) and means[0] > 0
    layers = [apply("rain_streaks", black, layers=n).mean() for n in (1, 3, 6)]
    assert layers == sorted(layers)


def test_streaks_fall_in_their_direction():
    def steepness(angle):
        """Return mean change down over mean change across: low for vertical streaks."""
        plane = apply("rain_streaks", np.zeros((128, 128, 1), np.uint8), angle=angle, layers=1,
                      density=1)[..., 0].astype(float)
        return np.abs(np.diff(plane, axis=0)).mean() / np.abs(np.diff(plane, axis=1)).mean()
    assert steepness(0) < 0.4
    line = synthetic.streak(20, 0, 0.8)
    assert line.max() == 1 and line[:, len(line) // 2].sum() > 20 > line[len(line) // 2].sum() * 5
    assert np.allclose(synthetic.streak(20, np.pi / 2, 0.8), line.T)


# -- darkness --------------------------------------------------------------------------------------

def test_darkness_has_the_exposure_and_the_noise_that_are_declared():
    flat = np.full((200, 200, 1), 186, np.uint8)
    light = (186 / 255) ** 2.2
    stored = synthetic.low_light(flat / 255, rng(), exposure=0.1, gamma=1, photons=5000,
                                 read_noise=8)
    electrons = stored * 5000
    expected = 5000 * 0.1 * 186 / 255
    assert electrons.mean() == pytest.approx(expected, rel=0.002)
    assert electrons.var() == pytest.approx(expected + 64, rel=0.03)
    clean = synthetic.low_light(flat / 255, rng(), 0.1, 2.2, 1e6, 0)
    assert np.median(clean) == pytest.approx((0.1 * light) ** (1 / 2.2), rel=0.005)


def test_darkness_is_darker_and_fewer_photons_are_noisier():
    image = photo()
    assert apply("low_light", image).mean() < 0.5 * image.mean()
    bright = apply("low_light", image, exposure=1, photons=1e6, read_noise=0)
    assert np.abs(bright.astype(int) - image).max() <= 2
    flat = np.full((64, 64, 3), 128, np.uint8)
    assert apply("low_light", flat, photons=100).std() > 2 * apply("low_light", flat).std()


# -- snow and drops --------------------------------------------------------------------------------

def test_snow_whitens_and_haze_fades():
    image = photo()
    assert np.array_equal(apply("snow", image, density=0, haze=0), image)
    assert (apply("snow", image, haze=0) >= image).all()
    haze = apply("snow", image, density=0, haze=0.5)
    assert np.abs(haze - (0.5 * image + 0.5 * 255 * synthetic.AIRLIGHT)).max() <= 0.51
    white = [(apply("snow", np.zeros((96, 96, 3), np.uint8), haze=0, size=s) > 127).mean()
             for s in (3, 9, 20)]
    assert white == sorted(white) and white[0] < white[-1]


def test_drops_change_places_and_leave_the_rest():
    image = photo()
    wet = apply("drops", image, count=300)
    same = (wet == image).all(axis=-1)
    assert 0.3 < same.mean() < 0.99
    assert np.array_equal(apply("drops", image, count=0), image)
    assert np.array_equal(apply("drops", image, opacity=0), image)
    flat = np.full((40, 40, 3), (9, 99, 199), np.uint8)
    assert np.array_equal(apply("drops", flat, count=1000), flat)


def test_a_drop_shows_the_scene_upside_down():
    scene = np.zeros((201, 201, 1))
    scene[:100] = 1  # bright sky above, dark ground below
    for seed in range(10):
        wet = synthetic.drops(scene, rng(seed), 0.001, 40, 6, 0, 1)
        sky, ground = wet[:95], wet[106:]
        # where a drop lies across the horizon, its upper part is dark and its lower part bright
        if sky.min() < 0.05 and ground.max() > 0.95:
            return
    pytest.fail("no drop met the horizon in ten tries")
