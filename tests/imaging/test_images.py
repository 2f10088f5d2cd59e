import hashlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from irbench.core.errors import UserError
from irbench.imaging import images

sizes = st.integers(1, 24)


def random_image(seed, h, w, c=3):
    return np.random.default_rng(seed).integers(0, 256, (h, w, c), dtype=np.uint8)


def encode(image, kind="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, kind)
    return buffer.getvalue()


@given(st.integers(0, 99), sizes, sizes, st.sampled_from([1, 3]))
def test_png_round_trip(seed, h, w, c):
    image = random_image(seed, h, w, c)
    assert np.array_equal(images.decode(encode(image), "x"), image)


def test_write_then_read(tmp_path):
    image = random_image(0, 7, 5)
    images.write_png(tmp_path / "deep" / "a.png", image)
    assert np.array_equal(images.read_image(tmp_path / "deep" / "a.png"), image)
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["a.png"]


@given(st.integers(0, 99), sizes, sizes, st.sampled_from([1, 3]))
def test_a_picture_is_written_once(tmp_path_factory, seed, h, w, c):
    path = tmp_path_factory.mktemp("once") / "a.png"
    image = random_image(seed, h, w, c)
    digest = images.put_png(path, image)
    written = path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino
    assert digest == hashlib.sha256(written[0]).hexdigest()
    assert np.array_equal(images.read_image(path), image)
    planar = np.ascontiguousarray(image.transpose(2, 0, 1)).transpose(1, 2, 0)
    assert images.put_png(path, planar) == digest
    assert (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino) == written
    other = image ^ 1
    assert images.put_png(path, other) != digest
    assert np.array_equal(images.read_image(path), other)


def test_an_altered_picture_is_written_again(tmp_path):
    """An edited byte, a cut file, other pixels that keep the text, and another file altogether."""
    path, image = tmp_path / "a.png", random_image(0, 20, 30)
    digest = images.put_png(path, image)
    data = path.read_bytes()
    seal = data[images.HEAD:images.HEAD + images.SEAL]
    negative = encode(255 - image)
    altered = [data[:k] + bytes([data[k] ^ 1]) + data[k + 1:] for k in range(0, len(data), 41)]
    altered += [data[:-1], data + b" ", b"", encode(image),
                negative[:images.HEAD] + seal + negative[images.HEAD:]]
    for one in altered:
        path.write_bytes(one)
        assert images.put_png(path, image) == digest
        assert path.read_bytes() == data


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP"])
def test_truncated_files_are_named(kind):
    data = encode(random_image(0, 64, 64), kind)
    for cut in (len(data) // 3, len(data) // 2, len(data) - 40):
        with pytest.raises(UserError, match=r"pic\.x: (the image is truncated|not an image)"):
            images.decode(data[:cut], "pic.x")


def test_a_file_that_is_no_image_is_refused():
    with pytest.raises(UserError, match=r"notes\.txt: not an image file"):
        images.decode(b"hello", "notes.txt")


def test_luma_is_bt601_limited_range():
    colours = np.array([[[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]]],
                       np.uint8)
    expected = [235.0, 16.0, 81.481, 144.553, 40.966]
    assert np.allclose(images.luma(colours, rounded=False)[0, :, 0], expected)
    assert images.luma(colours, rounded=True)[0, :, 0].tolist() == [235, 16, 81, 145, 41]
    assert images.to_gray(colours)[0, :, 0].tolist() == [235, 16, 81, 145, 41]


def test_the_luma_of_a_gray_file_is_the_file():
    gray = random_image(0, 5, 6, 1)
    assert np.array_equal(images.luma(gray, rounded=False), gray)
    back = images.luma(images.to_rgb(gray), rounded=False, gray_file=True)
    assert np.allclose(back, gray, atol=1e-9)


def test_full_range_gray_is_that_of_cv2():
    """What every gray denoising toolkit reads; a gray file stays as it is under both sources."""
    import cv2

    steps = np.arange(0, 256, 3, dtype=np.uint8)
    every = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(len(steps), -1, 3)
    every[0, 0] = 255
    ours = images.to_gray(every, "full_range")
    assert np.array_equal(ours[..., 0], cv2.cvtColor(every, cv2.COLOR_RGB2GRAY))
    assert (ours.min(), ours.max(), ours.dtype, ours.ndim) == (0, 255, np.uint8, 3)
    gray = random_image(0, 5, 6, 1)
    for source in ("full_range", "matlab_y"):
        assert np.array_equal(images.to_gray(gray, source), gray)
    assert np.array_equal(images.to_gray(images.to_rgb(gray), "full_range"), gray)


def test_to_uint8_clips_rounds_and_refuses_nan():
    values = np.array([-1.0, 0.0, 0.4999 / 255, 0.51 / 255, 1.0, 7.0])
    assert images.to_uint8(values).tolist() == [0, 0, 0, 1, 255, 255]
    with pytest.raises(UserError, match="NaN"):
        images.to_uint8(np.array([0.0, np.nan]))


@given(st.integers(0, 99), sizes, sizes)
def test_uint8_to_float_and_back(seed, h, w):
    image = random_image(seed, h, w)
    assert np.array_equal(images.to_uint8(images.to_float(image)), image)


def slow_bicubic(image, scale):
    """MATLAB's imresize written pixel by pixel from its documentation, without rounding."""
    def kernel(x):
        x = abs(x)
        if x <= 1:
            return 1.5 * x**3 - 2.5 * x**2 + 1
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x <= 2 else 0.0

    def one_axis(rows, n_out):
        n = len(rows)
        out = []
        for i in range(n_out):
            centre = (i + 0.5) / scale - 0.5
            shrink = min(scale, 1)
            reach = int(np.ceil(2 / shrink)) + 1
            total, value = 0.0, 0.0
            for j in range(int(np.floor(centre)) - reach, int(np.floor(centre)) + reach + 1):
                weight = shrink * kernel(shrink * (centre - j))
                k = j % (2 * n)  # mirrored with the edge pixel repeated
                value = value + weight * rows[k if k < n else 2 * n - 1 - k]
                total += weight
            out.append(value / total)
        return np.array(out)

    h, w = image.shape[:2]
    first = one_axis(image.astype(float), int(np.ceil(round(h * scale, 6))))
    return one_axis(first.transpose(1, 0, 2), int(np.ceil(round(w * scale, 6)))).transpose(1, 0, 2)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 99), st.integers(1, 13), st.integers(1, 13),
       st.sampled_from([1 / 4, 1 / 3, 1 / 2, 1, 2, 3, 4]))
def test_imresize_against_a_slow_one(seed, h, w, scale):
    image = random_image(seed, h, w) / 255
    assert np.allclose(images.imresize(image, scale), slow_bicubic(image, scale), atol=1e-12)


@given(st.integers(0, 255), st.integers(4, 16), st.integers(4, 16),
       st.sampled_from([1 / 4, 1 / 3, 1 / 2, 2, 3]))
def test_imresize_keeps_a_flat_image_flat(value, h, w, scale):
    out = images.imresize(np.full((h, w, 3), value, np.uint8), scale)
    assert out.dtype == np.uint8
    assert (out == value).all()


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 8))
def test_crop_to_multiple(h, w, multiple):
    out = images.crop_to_multiple(np.zeros((h, w, 1), np.uint8), multiple)
    assert out.shape[0] == h // multiple * multiple
    assert out.shape[1] == w // multiple * multiple


def test_crop_border():
    image = random_image(0, 6, 8)
    assert np.array_equal(images.crop_border(image, 2), image[2:4, 2:6])
    assert images.crop_border(image, 0) is image
    with pytest.raises(UserError, match="nothing left"):
        images.crop_border(image, 3)


@given(st.integers(0, 99), st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3]),
       st.sampled_from(["C", "F"]), st.sampled_from([np.float32, np.float64]))
def test_rounding_by_strips_changes_nothing(seed, h, w, c, order, kind):
    rng = np.random.default_rng(seed)
    values = np.asarray(rng.normal(0.5, 0.4, (h, w, c)), kind, order=order)
    whole = np.round(np.clip(values, 0, 1) * np.float64(255)).astype(np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "BLOCK", 64)
        found = images.to_uint8(values)
    assert np.array_equal(found, whole)
    assert found.strides == whole.strides
