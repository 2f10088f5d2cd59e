import hashlib
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from irbench.catalog import degradations, protocols
from irbench.core.errors import UserError
from irbench.imaging import degrade, images, mosaic

MADE = [p.id for p in protocols.catalog().values() if not p.paired]
PAIRED = [p.id for p in protocols.catalog().values() if p.paired]
SYNTHETIC = [p.id for p in protocols.catalog().values() if p.synthetic]


def noise_image(seed, h, w, channels=3):
    return np.random.default_rng(seed).integers(0, 256, (h, w, channels), dtype=np.uint8)


# -- inputs made from clean images -----------------------------------------------------------------

@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("channels", [1, 3])
def test_shapes_types_and_determinism(name, channels):
    protocol = protocols.get(name)
    target = degrade.prepare_target(noise_image(0, 50, 61, channels), protocol)
    before = target.copy()
    degraded = degrade.degrade(target, protocol, name="a")
    assert target.dtype == np.uint8
    assert degraded.dtype == np.float32
    assert target.shape[-1] == degraded.shape[-1] == protocol.channels
    assert target.shape[0] == degraded.shape[0] * protocol.scale
    assert target.shape[1] == degraded.shape[1] * protocol.scale
    assert np.array_equal(target, before)
    assert np.array_equal(degraded, degrade.degrade(target, protocol, name="a"))
    if protocol.degradation["kind"] != "gaussian_noise":
        levels = degraded * 255.0
        assert 0 <= degraded.min() <= degraded.max() <= 1
        assert np.abs(levels - np.round(levels)).max() < 1e-4  # as a file of 8 bits would hold it


@settings(derandomize=True, deadline=None, max_examples=40)
@given(name=st.sampled_from(MADE), h=st.integers(16, 40), w=st.integers(16, 40))
def test_any_size_from_16_up(name, h, w):
    protocol = protocols.get(name)
    target = degrade.prepare_target(noise_image(1, h, w), protocol)
    degraded = degrade.degrade(target, protocol)
    assert degraded.shape[:2] == tuple(n // protocol.scale for n in (h, w))
    assert np.isfinite(degraded).all()


@pytest.mark.parametrize("name", SYNTHETIC)
def test_every_image_of_a_set_gets_its_own_weather(name):
    protocol = protocols.get(name)
    target = np.full((64, 64, 3), 90, np.uint8)
    target[20:40, 20:40] = 200
    first = degrade.degrade(target, protocol, name="a")
    assert not np.array_equal(first, degrade.degrade(target, protocol, name="b"))
    assert not np.array_equal(first, images.to_float(target))
    handed = degrade.degrade(target, protocol, np.random.RandomState(7), "a")
    assert np.array_equal(handed, degrade.degrade(target, protocol, np.random.RandomState(7), "b"))
    assert not np.array_equal(handed, first)


@pytest.mark.parametrize("name", ["denoise_color-sigma25", "denoise_gray-sigma25"])
def test_noise_is_the_published_stream(name):
    """np.random.seed(0) before each image, drawn in (H, W, C) order, not clipped, not rounded."""
    protocol = protocols.get(name)
    target = np.full((300, 300, protocol.channels), 3, np.uint8)
    degraded = degrade.degrade(target, protocol, name="any")
    np.random.seed(0)  # the published toolkits' own call
    expected = 3 / 255 + np.random.normal(0, 25 / 255, target.shape)
    assert np.abs(degraded - expected).max() < 1e-6
    assert degraded.min() < 0
    assert abs(degraded.std() * 255 - 25) < 0.1
    assert abs(degraded.mean() * 255 - 3) < 0.1


def test_noise_of_each_strength():
    for sigma in (15, 25, 50):
        for task in ("denoise_gray", "denoise_color"):
            protocol = protocols.get(f"{task}-sigma{sigma}")
            flat = degrade.degrade(np.full((200, 200, protocol.channels), 128, np.uint8), protocol)
            assert abs(flat.std() * 255 / sigma - 1) < 0.01


def test_gray_protocols_start_from_matlab_gray():
    image = noise_image(1, 16, 24)
    for name in ("jpeg_gray-q10", "denoise_gray-sigma15@1"):
        target = degrade.prepare_target(image, protocols.get(name))
        assert np.array_equal(target, images.luma(image, rounded=True))
        gray = image[..., :1]
        assert np.array_equal(degrade.prepare_target(gray, protocols.get(name)), gray)


@pytest.mark.parametrize("quality", [10, 20, 30, 40])
def test_colour_jpeg_is_what_opencv_makes(quality):
    y, x = np.mgrid[:37, :50]
    image = np.stack([x * 5, y * 6, 128 + 90 * np.sin(x / 3)], -1).astype(np.uint8)
    ok, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert ok
    theirs = cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]
    ours = degrade.degrade(image, protocols.get(f"jpeg_color-q{quality}"))
    assert np.abs(images.to_uint8(ours).astype(int) - theirs).max() <= 1
    assert np.array_equal(degrade.jpeg(image, quality), images.to_uint8(ours))


def test_the_input_of_demosaicking_is_the_interpolated_mosaic():
    image = noise_image(3, 20, 23)
    degraded = degrade.degrade(image, protocols.get("demosaic-rggb"))
    assert np.array_equal(images.to_uint8(degraded), mosaic.malvar(mosaic.mosaic(image)))


def test_a_random_source_can_be_handed_in():
    protocol = protocols.get("denoise_color-sigma15")
    target = np.zeros((8, 8, 3), np.uint8)
    own = degrade.degrade(target, protocol, np.random.RandomState(7))
    assert not np.array_equal(own, degrade.degrade(target, protocol))
    assert np.array_equal(own, degrade.degrade(target, protocol, np.random.RandomState(7)))


def test_images_too_small_are_refused():
    with pytest.raises(UserError, match=r"1x30 pixels .*sr-x4@2 needs at least 8"):
        degrade.prepare_target(np.zeros((1, 30, 3), np.uint8), protocols.get("sr-x4"))
    # the smallest image whose input has two pixels on each side
    smallest = degrade.prepare_target(np.zeros((8, 9, 3), np.uint8), protocols.get("sr-x4"))
    assert degrade.degrade(smallest, protocols.get("sr-x4")).shape == (2, 2, 3)


def test_the_seed_of_a_name_is_the_same_everywhere():
    """The first four bytes of the SHA-256 of the parts: the same weather on all machines."""
    assert degrade.seed_of(0, "a") == int.from_bytes(
        bytes.fromhex(hashlib.sha256(b"0\0a").hexdigest()[:8]), "little") < 2**32
    assert degrade.seed_of(0, "a") != degrade.seed_of("0a")


# -- pairs -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", PAIRED)
def test_a_paired_protocol_makes_no_input(name):
    with pytest.raises(UserError, match="takes its inputs from a dataset of pairs"):
        degrade.degrade(noise_image(0, 16, 16), protocols.get(name))


def test_other_protocols_take_no_pair():
    image = noise_image(0, 16, 16)
    with pytest.raises(UserError, match="sr-x2@2 makes its inputs from clean images"):
        degrade.prepare_pair(image, image, protocols.get("sr-x2"))


@pytest.mark.parametrize("name", ["deblur-motion", "derain-streak", "lowlight-lol",
                                  "weather-native"])
def test_a_pair_that_is_not_resized_stays_as_it_is(name):
    degraded, target = noise_image(0, 33, 47), noise_image(1, 33, 47)
    got = degrade.prepare_pair(degraded, target, protocols.get(name))
    assert got[0].dtype == np.float32 and got[1].dtype == np.uint8
    assert np.array_equal(images.to_uint8(got[0]), degraded)
    assert np.array_equal(got[1], target)


def test_a_pair_of_two_sizes_is_refused():
    with pytest.raises(UserError, match=r"input is 16x20 pixels .*target 20x16; the images of"):
        degrade.prepare_pair(noise_image(0, 16, 20), noise_image(1, 20, 16),
                             protocols.get("deblur-motion"))


def of_pairs(scale):
    """Return a protocol whose targets are so many times as large as the inputs of a set."""
    return replace(protocols.get("deblur-motion"), degradation=degradations.complete(
        {"kind": "paired", "scale": scale}))


def test_the_targets_of_enlarged_pairs_are_cut_to_the_inputs():
    degraded, target = noise_image(0, 20, 30), noise_image(1, 41, 61)
    got = degrade.align_pair(degraded, target, of_pairs(2))
    assert np.array_equal(got[0], degraded) and np.array_equal(got[1], target[:40, :60])
    with pytest.raises(UserError, match="the target is 3 times as large"):
        degrade.align_pair(degraded, target, of_pairs(3))


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize(("more_rows", "more_columns", "border"), [
    (2, 2, 1), (6, 6, 3), (6, 8, None), (8, 6, None), (0, 2, None), (-4, -4, None)])
def test_a_border_of_the_targets_is_recognized(scale, more_rows, more_columns, border):
    """The same on all four sides, of targets that are too large."""
    target = noise_image(1, 16 * scale + more_rows, 20 * scale + more_columns)
    with pytest.raises(UserError, match="Check that the files belong together") as caught:
        degrade.align_pair(noise_image(0, 16, 20), target, of_pairs(scale))
    hint = f"a border of {border} pixels, add `target_crop: {border}` to the set"
    assert (hint in str(caught.value)) == bool(border) == ("target_crop" in str(caught.value))


@pytest.mark.parametrize("name", ["weather-mixed", "derain-streak", "sr-x3", "jpeg_gray-q10"])
def test_a_restored_image_is_compared_with_the_target_of_the_cell(name):
    protocol, image = protocols.get(name), noise_image(0, 20, 34)
    wanted = (degrade.align_pair(image, image, protocol)[1] if protocol.paired
              else degrade.prepare_target(image, protocol))
    assert np.array_equal(degrade.scored_target(image, protocol), wanted)


@pytest.mark.parametrize("sigma", [15, 25, 50])
def test_a_colour_source_is_denoised_in_full_range_gray(sigma):
    """A colour file, its gray version and that saved as RGB are one test image under version 2."""
    protocol = protocols.get(f"denoise_gray-sigma{sigma}")
    colour = np.random.default_rng(3).integers(0, 256, (40, 50, 3), np.uint8)
    gray = cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY)[..., None]
    targets = [degrade.prepare_target(one, protocol)
               for one in (colour, gray, np.repeat(gray, 3, axis=2))]
    assert all(np.array_equal(one, gray) for one in targets)
    # version 1 takes MATLAB's Y of a colour source, in [16, 235]; gray files stay as they are
    old = protocols.get(f"denoise_gray-sigma{sigma}@1")
    assert np.array_equal(degrade.prepare_target(gray, old), gray)
    limited = degrade.prepare_target(colour, old).astype(int)
    assert np.abs(limited - (16 + gray.astype(int) * 219 / 255)).max() <= 1
    # gray of JPEG tests stays MATLAB's Y
    jpeg = degrade.prepare_target(colour, protocols.get("jpeg_gray-q10"))
    assert np.array_equal(jpeg, limited)


def test_a_gray_file_of_a_colour_pair_becomes_colour():
    gray, colour = noise_image(0, 16, 16, 1), noise_image(1, 16, 16)
    degraded, target = degrade.prepare_pair(gray, colour, protocols.get("derain-streak"))
    assert np.array_equal(images.to_uint8(degraded), np.repeat(gray, 3, axis=-1))
    assert np.array_equal(target, colour)


def test_pairs_are_resized_as_transweather_does():
    protocol = protocols.get("weather-mixed")
    # (height, width) of the files -> at which they are scored
    for before, after in {(480, 720): (480, 720), (481, 720): (496, 720), (16, 16): (16, 16),
                          (768, 1024): (768, 1024), (1500, 2000): (768, 1024),
                          (2000, 1500): (1024, 768), (1025, 1025): (1024, 1024),
                          (500, 1100): (480, 1024), (5, 1030): (16, 1024)}.items():
        assert degrade.paired_size(*before, protocol) == after
    degraded, target = noise_image(0, 20, 33), noise_image(1, 20, 33)
    got = degrade.prepare_pair(degraded, target, protocol)
    for ours, image in zip((images.to_uint8(got[0]), got[1]), (degraded, target), strict=True):
        assert np.array_equal(ours, Image.fromarray(image).resize((48, 32), Image.LANCZOS))


def test_gray_pairs_are_resized_alike():
    gray = noise_image(0, 20, 33, 1)
    resized = degrade._lanczos(gray, (32, 48))
    assert resized.shape == (32, 48, 1)
    assert np.array_equal(resized[..., 0],
                          Image.fromarray(gray[..., 0]).resize((48, 32), Image.LANCZOS))


@settings(derandomize=True, deadline=None, max_examples=100)
@given(h=st.integers(2, 5000), w=st.integers(2, 5000))
def test_resized_pairs_fit_the_protocol(h, w):
    size = degrade.paired_size(h, w, protocols.get("weather-mixed"))
    assert all(side % 16 == 0 and 16 <= side <= 1024 for side in size)
    assert degrade.paired_size(w, h, protocols.get("weather-mixed")) == size[::-1]
    assert degrade.paired_size(*size, protocols.get("weather-mixed")) == size
    assert degrade.paired_size(h, w, protocols.get("weather-native")) == (h, w)


# -- lists of steps --------------------------------------------------------------------------------

def made(*steps, seed=0, color="rgb", task="deblur"):
    """Return a protocol that makes its inputs by these steps."""
    given = degradations.complete(list(steps))
    degradations.check("here", given)
    return replace(protocols.get("deblur-motion"), id=f"{task}-own@1", task=task, level="own",
                   degradation=given, seed=seed, color=color)


def step(kind, **parameters):
    return {"kind": kind, **parameters}


STEP = st.one_of(
    st.builds(step, st.just("gaussian_blur"), sigma=st.floats(0.1, 50),
              size=st.integers(1, 20).map(lambda n: 2 * n + 1)),
    st.builds(step, st.just("matlab_bicubic"), scale=st.sampled_from([1.5, 2, 2.5])),
    st.builds(step, st.just("subsample"), scale=st.sampled_from([2, 3])),
    st.builds(step, st.just("gaussian_noise"), sigma=st.floats(0, 255)),
    st.builds(step, st.just("jpeg"), quality=st.integers(1, 100)),
    st.just(step("round")),
    st.just(step("motion_blur", length=5, bend=0.5, gamma=2.2)))
CHAIN = st.lists(STEP, min_size=1, max_size=4).filter(
    lambda steps: degradations.unit(degradations.complete(steps)) <= 30)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(steps=CHAIN, h=st.integers(60, 75), w=st.integers(60, 75), seed=st.integers(0, 9),
       color=st.sampled_from(["rgb", "gray"]))
def test_any_list_of_steps_gives_an_input_of_the_right_size_again_and_again(steps, h, w, seed,
                                                                            color):
    protocol = made(*steps, seed=seed, color=color)
    target = degrade.prepare_target(noise_image(seed, h, w), protocol)
    before = target.copy()
    degraded = degrade.degrade(target, protocol, name="a")
    assert degraded.dtype == np.float32 and np.isfinite(degraded).all()
    assert degraded.shape == (*(round(side / protocol.scale) for side in target.shape[:2]),
                              protocol.channels)
    assert all(round(protocol.scale * own) == side and side <= given < side + protocol.unit
               for own, side, given in zip(degraded.shape, target.shape, (h, w), strict=False))
    assert np.array_equal(degraded, degrade.degrade(target, protocol, name="a"))
    assert np.array_equal(target, before)
    # two lists in a row are one list
    rng = np.random.RandomState(seed)
    image = target
    for one in protocol.steps:
        image = degrade.apply(one, image, rng)
    whole = degrade.degrade(target, protocol, np.random.RandomState(seed))
    assert np.array_equal(whole, degrade._signal(image).astype(np.float32))
    if protocol.kinds[-1] in ("jpeg", "round", "motion_blur"):
        levels = whole * 255.0
        assert 0 <= whole.min() <= whole.max() <= 1
        assert np.abs(levels - np.round(levels)).max() < 1e-4


@pytest.mark.parametrize("name", ["sr-x2", "sr-x4", "denoise_color-sigma25", "jpeg_color-q10",
                                  "derain-synthetic", "demosaic-rggb"])
def test_a_protocol_of_one_kind_is_a_list_of_one_step(name):
    protocol = protocols.get(name)
    rest = [step("gaussian_noise", sigma=0)] if "sigma" not in protocol.level else []
    if "mosaic" in protocol.kinds:      # it is the last one
        rest = []
    target = degrade.prepare_target(noise_image(0, 48, 60), protocol)
    own = replace(protocol, degradation=degradations.complete([protocol.degradation, *rest]),
                  seed=protocol.seed or 0)
    assert np.array_equal(degrade.degrade(target, own, name="a"),
                          degrade.degrade(target, protocol, name="a"))


def test_blur_then_downsample_then_noise_then_jpeg_is_what_it_says():
    image = noise_image(5, 48, 60)
    line = cv2.getGaussianKernel(7, 1.6)
    blurred = cv2.sepFilter2D(image / 255.0, cv2.CV_64F, line, line)
    own = made(step("gaussian_blur", sigma=1.6, size=7), step("subsample", scale=3), task="sr")
    assert np.abs(degrade.degrade(image, own) - blurred[::3, ::3]).max() < 1e-6
    np.random.seed(0)   # as noise is seeded under all protocols
    noisy = blurred[::3, ::3] + np.random.normal(0, 10 / 255, (16, 20, 3))
    own = made(*own.steps, step("gaussian_noise", sigma=10), task="sr")
    assert np.abs(degrade.degrade(image, own) - noisy).max() < 1e-6
    own = made(*own.steps, step("jpeg", quality=40), task="sr")
    wanted = degrade.jpeg(images.to_uint8(noisy), 40)
    assert np.abs(images.to_uint8(degrade.degrade(image, own)).astype(int) - wanted).max() <= 1


def test_eight_bits_stay_until_a_step_leaves_them():
    image, rng = noise_image(2, 24, 24), np.random.RandomState(0)
    for one in (step("matlab_bicubic", scale=2), step("subsample", scale=2), step("round"),
                step("jpeg", quality=50), step("mosaic", pattern="rggb")):
        assert degrade.apply(one, image, rng).dtype == np.uint8
        signal = degrade.apply(one, image / 255.0, rng)
        assert (signal.dtype == np.uint8) == (one["kind"] in ("round", "jpeg"))
    half = np.full((4, 4, 1), 0.5 + 0.3 / 255)
    assert np.array_equal(degrade.apply(step("round"), half, rng), np.full((4, 4, 1), 128))
    over = degrade.apply(step("gaussian_noise", sigma=200), image, rng)
    assert over.min() < 0 and over.max() > 1
    assert degrade.apply(step("matlab_bicubic", scale=2), over, rng).min() < 0  # not clipped


@pytest.mark.parametrize(("sides", "after"), [((64, 63), (60, 60)), ((5, 9), (5, 5))])
def test_a_scale_that_is_not_whole_cuts_the_target_to_whole_pixels(sides, after):
    own = made(step("matlab_bicubic", scale=2.5), task="sr")
    target = degrade.prepare_target(noise_image(0, *sides), own)
    assert target.shape[:2] == after
    assert degrade.degrade(target, own).shape[:2] == tuple(side * 2 // 5 for side in after)
    with pytest.raises(UserError, match="needs at least 5 on each side"):
        degrade.prepare_target(noise_image(0, 4, 30), own)


def test_noise_by_strips_is_that_of_the_whole_image(monkeypatch):
    for image in (np.random.default_rng(0).integers(0, 256, (67, 31, 3), dtype=np.uint8),
                  np.random.default_rng(0).random((40, 23, 1))):
        signal = degrade._signal(image)
        noise = np.random.RandomState(0).normal(0, 25 / 255.0, image.shape)
        monkeypatch.setattr(images, "BLOCK", 99)    # odd numbers of values: they come in twos
        found = degrade.add_noise(image, 25, np.random.RandomState(0))
        assert found.dtype == np.float32
        assert np.array_equal(found, (signal + noise).astype(np.float32))
