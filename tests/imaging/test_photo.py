"""Photographs as people have them: what is kept, and what is refused by name."""

import io
import struct

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from irbench.core.errors import UserError
from irbench.imaging import photo

RANDOM = np.random.default_rng(0)
RGB = RANDOM.integers(0, 256, (7, 11, 3), dtype=np.uint8)
DEEP = RANDOM.integers(0, 65536, (7, 11, 3), dtype=np.uint16)
TAKEN = "2020:01:01 00:00:00"


def saved(image, kind, **more):
    buffer = io.BytesIO()
    image.save(buffer, kind, **more)
    return buffer.getvalue()


def deep(suffix, pixels, orientation=1):
    """The bytes of a 16-bit file; a TIFF file with an orientation."""
    data = cv2.imencode(suffix, pixels[..., ::-1] if pixels.ndim == 3 else pixels)[1].tobytes()
    if orientation == 1:
        return data
    # append a tag to the only directory, at the end of the file
    start = struct.unpack_from("<I", data, 4)[0]
    count = struct.unpack_from("<H", data, start)[0]
    tags = [data[start + 2 + 12 * i:start + 14 + 12 * i] for i in range(count)]
    tags.append(struct.pack("<HHIHH", 0x112, 3, 1, orientation, 0))
    table = struct.pack("<H", count + 1) + b"".join(sorted(
        tags, key=lambda tag: struct.unpack("<H", tag[:2]))) + bytes(4)
    return data[:4] + struct.pack("<I", len(data)) + data[8:] + table


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_orientation_is_applied_and_dropped(kind, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Make] = orientation, "Camera"
    more = {"lossless": True} if kind == "WEBP" else {}
    data = saved(Image.fromarray(RGB), kind, exif=exif, **more)
    found = photo.decode(data, "x")
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(found.pixels, np.asarray(ImageOps.exif_transpose(image)))
    assert dict(found.exif) == {ExifTags.Base.Make: "Camera"}
    opened = photo.from_pillow(Image.open(io.BytesIO(data)))
    assert np.array_equal(opened.pixels, found.pixels)


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_16_bit_tiff_is_turned_once(orientation):
    found = photo.decode(deep(".tif", DEEP, orientation), "x")
    turned = {1: DEEP, 3: DEEP[::-1, ::-1], 6: np.rot90(DEEP, -1)}[orientation]
    assert found.pixels.dtype == np.uint16 and np.array_equal(found.pixels, turned)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("pixels", [DEEP, DEEP[..., 0]], ids=["rgb", "gray"])
def test_16_bits_stay_16_bits(suffix, pixels):
    found = photo.decode(deep(suffix, pixels), "x")
    want = pixels if pixels.ndim == 3 else pixels[..., None]
    assert np.array_equal(found.pixels, want)
    again = photo.decode(photo.encode(found, ".png", "x"), "x")
    assert np.array_equal(again.pixels, want) and again.pixels.dtype == np.uint16


def test_16_bits_with_alpha_profile_and_exif_come_back():
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Camera"
    profile = bytes(range(256)) * 4
    given = photo.Photo(DEEP, DEEP[..., 0], profile, exif)
    found = photo.decode(photo.encode(given, ".png", "x", "irbench 1"), "x")
    assert np.array_equal(found.pixels, DEEP) and np.array_equal(found.alpha, DEEP[..., 0])
    assert found.icc == profile
    assert dict(found.exif) == {ExifTags.Base.Make: "Camera", ExifTags.Base.Software: "irbench 1"}


@pytest.mark.parametrize("suffix", photo.WRITTEN)
def test_every_format_keeps_profile_and_exif(suffix, tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Copyright], exif[ExifTags.Base.Orientation] = "me", 6
    exif.get_ifd(ExifTags.IFD.Exif)[0x9003] = TAKEN
    exif.get_ifd(ExifTags.IFD.Exif)[0xA002] = 11
    exif.get_ifd(ExifTags.IFD.GPSInfo)[1] = "N"
    given = photo.decode(saved(Image.fromarray(RGB), "JPEG", exif=exif, icc_profile=b"p" * 200),
                         "x")
    path = tmp_path / f"out{suffix}"
    path.write_bytes(photo.encode(given, suffix, "x", "irbench 2"))
    found = photo.read(path)
    assert found.icc == b"p" * 200
    assert found.exif[ExifTags.Base.Copyright] == "me"
    assert found.exif.get_ifd(ExifTags.IFD.Exif) == {0x9003: TAKEN}
    assert found.exif.get_ifd(ExifTags.IFD.GPSInfo) == {1: "N"}
    assert photo.made_with(path) == ("irbench 2", "")
    if suffix not in (".jpg", ".jpeg"):
        assert np.array_equal(found.pixels, given.pixels)


@pytest.mark.parametrize("image, pixels, alpha", [
    (Image.fromarray(RGB).convert("RGBA"), RGB, np.full((7, 11), 255)),
    (Image.fromarray(np.dstack([RGB, RGB[..., 0]])), RGB, RGB[..., 0]),
    (Image.fromarray(RGB[..., 0]), RGB[..., :1], None),
    (Image.fromarray(RGB[..., 0] > 99), np.where(RGB[..., :1] > 99, 255, 0), None),
    (Image.fromarray(RGB[..., :2].copy(), "LA"), RGB[..., :1], RGB[..., 1]),
], ids=["opaque", "alpha", "gray", "bits", "gray and alpha"])
def test_gray_and_alpha_are_kept_apart(image, pixels, alpha):
    found = photo.decode(saved(image, "PNG"), "x")
    assert np.array_equal(found.pixels, pixels)
    assert (found.alpha is None) if alpha is None else np.array_equal(found.alpha, alpha)


def test_a_palette_becomes_rgb_and_its_transparency_alpha():
    image = Image.fromarray(RGB).quantize(16)
    found = photo.decode(saved(image, "PNG"), "x")
    assert found.alpha is None and np.array_equal(found.pixels, np.asarray(image.convert("RGB")))
    found = photo.decode(saved(image, "PNG", transparency=3), "x")
    assert np.array_equal(found.alpha == 0, np.asarray(image) == 3)


FRAMES = [Image.fromarray(RGB), Image.fromarray(RGB[::-1].copy())]


@pytest.mark.parametrize("data, reason", [
    (b"no image", "x: not an image file"),
    (saved(FRAMES[0], "GIF"), "x: not an image file"),
    (saved(FRAMES[0], "PNG")[:150], "x: the image is truncated"),
    (deep(".png", DEEP)[:-20], "x: the image is truncated"),
    (deep(".png", DEEP).replace(b"IDAT", b"IDAT\1", 1)[:-1], "x: the image is truncated"),
    (deep(".tif", DEEP)[:300], "x: "),
    (saved(FRAMES[0].convert("CMYK"), "TIFF"), "x: the image has the colour space CMYK"),
    (saved(FRAMES[0].convert("CMYK"), "JPEG"), "x: it has the colour space CMYK"),
    (saved(FRAMES[0].convert("F"), "TIFF"), "x: the image has signed or floating-point values"),
    (saved(FRAMES[0], "TIFF", save_all=True, append_images=FRAMES[1:]), "x: it has 2 frames"),
    (saved(FRAMES[0], "WEBP", save_all=True, append_images=FRAMES[1:]), "x: it has 2 frames"),
])
def test_what_would_lose_something_is_refused_by_name(data, reason):
    with pytest.raises(UserError, match=reason):
        photo.decode(data, "x")


@pytest.mark.parametrize("given, suffix, reason", [
    (photo.Photo(RGB, RGB[..., 0]), ".jpg", "transparent pixels"),
    (photo.Photo(DEEP), ".jpg", "16 bits"),
    (photo.Photo(DEEP), ".tif", "16 bits"),
    (photo.Photo(RGB), ".gif", "the suffix '.gif' is of no format"),
    (photo.Photo(np.zeros((1, 70000, 3), np.uint8)), ".jpg", "1 x 70000 pixels"),
    (photo.Photo(np.zeros((20000, 1, 3), np.uint8)), ".webp", "20000 x 1 pixels"),
])
def test_what_a_format_cannot_hold_is_refused(given, suffix, reason):
    with pytest.raises(UserError, match=f"x: .*{reason}"):
        photo.encode(given, suffix, "x")


def test_a_huge_photograph_is_no_attack(monkeypatch):
    data = saved(FRAMES[0], "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert photo.decode(data, "x").pixels.shape == RGB.shape
    assert Image.MAX_IMAGE_PIXELS == 10


@pytest.mark.parametrize("how, want", [
    ({"subsampling": 0}, ""), ({"subsampling": 1}, "4:2:2"), ({"subsampling": 2}, "4:2:0")])
def test_the_subsampling_of_jpeg_is_read_from_its_header(how, want, tmp_path):
    data = saved(Image.fromarray(RGB), "JPEG", **how)
    (tmp_path / "it.jpg").write_bytes(data)
    assert photo.header(tmp_path / "it.jpg") == (77, want)
    assert photo.decode(data, "it").subsampling == want


def test_the_header_of_other_files_tells_no_subsampling(tmp_path):
    for name, image in (("gray.jpg", Image.fromarray(RGB[..., 0])),
                        ("it.png", Image.fromarray(RGB)),
                        ("print.jpg", Image.fromarray(RGB).convert("CMYK"))):
        image.save(tmp_path / name)
        assert photo.header(tmp_path / name) == (77, "")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    for name in ("broken.jpg", "missing.jpg"):
        assert photo.header(tmp_path / name) == (0, "")
