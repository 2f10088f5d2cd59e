"""Files of every format: the pixels of cv2.imread, or a refusal with its reason."""

import functools
import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from irbench.core.errors import UserError
from irbench.imaging import containers, images


def photo(h=37, w=50):
    """Smooth colours with a little noise: uint8 (h, w, 3)."""
    y, x = np.mgrid[:h, :w]
    waves = np.stack([np.sin(x / 7 + k) + np.cos(y / 5 - k) for k in range(3)], -1)
    noise = np.random.default_rng(0).normal(0, 9, (h, w, 3))
    return np.clip(waves * 60 + 128 + noise, 0, 255).astype(np.uint8)


RGB = photo()
GRAY = RGB[..., 1]
DEEP = RGB.astype(np.uint16) * 257


def encode(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pillow(kind, mode="RGB", image=RGB, **options):
    return encode(Image.fromarray(image).convert(mode), kind, **options)


def tiff(image, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, image, **options)
    return buffer.getvalue()


def by_cv2(image, suffix, *options):
    done, data = cv2.imencode(suffix, image[..., ::-1] if image.ndim == 3 else image, options)
    assert done
    return data.tobytes()


def chunk(kind, content=b""):
    return (struct.pack(">I", len(content)) + kind + content
            + struct.pack(">I", zlib.crc32(kind + content)))


def png(depth, colour, width, rows, *before, after=b""):
    """Return a PNG file of raw rows, with more chunks before (and after) its pixels."""
    head = struct.pack(">IIBBBBB", width, len(rows), depth, colour, 0, 0, 0)
    return b"".join([b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", head), *before,
                     chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))),
                     after, chunk(b"IEND")])


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def expected(data):
    """The pixels of cv2.imread, as uint8 RGB (H, W, 3)."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image[..., ::-1]


def assert_as_cv2(data):
    found = images.decode(data, "x")
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    assert np.array_equal(images.to_rgb(found), expected(data))
    return found


FORMATS = [("PNG", {}), ("PNG", {"interlace": 1}), ("BMP", {}), ("GIF", {}), ("PPM", {}),
           *(("JPEG", {"quality": 80, "subsampling": s, "progressive": p})
             for s in (0, 1, 2) for p in (False, True)),
           *(("TIFF", {"compression": c} if c else {})
             for c in (None, "tiff_lzw", "tiff_deflate", "packbits", "jpeg")),
           ("WEBP", {"quality": 80}), ("WEBP", {"lossless": True}),
           ("JPEG2000", {}), ("JPEG2000", {"irreversible": True, "quality_layers": [8]})]
ALPHA = {"PNG", "TIFF", "WEBP", "JPEG2000", "BMP"}


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
@pytest.mark.parametrize(("kind", "options"), FORMATS)
def test_an_opaque_8_bit_file_gives_the_pixels_of_cv2(kind, options, mode):
    try:
        data = pillow(kind, mode, **options)
    except OSError:
        pytest.skip(f"there is no {kind} file of mode {mode} {options}")
    found = assert_as_cv2(data)
    if kind not in ("GIF", "WEBP"):  # these hold colours only
        assert found.shape[-1] == (1 if mode in ("1", "L", "LA") else 3)


@pytest.mark.parametrize("data", [
    pytest.param(tiff(GRAY, photometric="miniswhite"), id="white is 0"),
    pytest.param(tiff(np.moveaxis(RGB, -1, 0), photometric="rgb", planarconfig="separate"),
                 id="planes"),
    pytest.param(tiff(RGB, photometric="rgb", bigtiff=True), id="bigtiff"),
    pytest.param(tiff(RGB, photometric="rgb", byteorder=">"), id="big endian"),
    pytest.param(tiff(RGB, photometric="rgb", compression="zlib", predictor=True), id="predictor"),
    pytest.param(by_cv2(RGB, ".tif"), id="cv2 tiff"), pytest.param(by_cv2(RGB, ".bmp"), id="bmp"),
    pytest.param(by_cv2(RGB, ".jp2"), id="jp2"), pytest.param(by_cv2(GRAY, ".jp2"), id="gray jp2"),
    pytest.param(pillow("JPEG", keep_rgb=True), id="jpeg of rgb"),
    *(pytest.param(png(depth, 0, 8, [bytes([0x1B] * depth), bytes([0xE4] * depth)]),
                   id=f"png gray {depth}") for depth in (1, 2, 4)),
    pytest.param(b"P1\n3 2\n1 0 1 0 0 1\n", id="P1"), pytest.param(b"P4\n3 2\n\xa0\x40", id="P4"),
    pytest.param(b"P2\n# words\n3 1\n255\n1 2 255\n", id="P2"),
    pytest.param(pillow("PNG", "P") + b"padding", id="bytes after the end"),
])
def test_rarer_files_give_the_pixels_of_cv2(data):
    assert_as_cv2(data)


@given(st.integers(0, 99), st.integers(1, 40), st.integers(1, 40),
       st.sampled_from([".png", ".jpg", ".bmp", ".tif", ".webp", ".ppm"]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_size_written_by_cv2(seed, h, w, suffix, color):
    image = np.random.default_rng(seed).integers(0, 256, (h, w, 3) if color else (h, w), np.uint8)
    assert_as_cv2(by_cv2(image, ".pgm" if suffix == ".ppm" and not color else suffix))


# -- orientation -------------------------------------------------------------------------------

CARRIERS = [("PNG", {}), ("JPEG", {}), ("WEBP", {}), ("WEBP", {"lossless": True}),
            ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("TIFF", {"compression": "jpeg"})]


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("kind", "options"), CARRIERS)
def test_orientation_is_applied_as_by_cv2(kind, options, orientation, mode):
    found = assert_as_cv2(pillow(kind, mode, exif=exif(orientation), **options))
    assert found.shape[:2] == (RGB.shape[:2] if orientation < 5 else RGB.shape[1::-1])


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_an_orientation_out_of_range_is_none(orientation):
    for kind in ("PNG", "JPEG", "WEBP"):
        assert_as_cv2(pillow(kind, exif=exif(orientation)))


def tags(order, *lists):
    """Return EXIF of lists of (tag, type, value), each pointing to the next."""
    mark, content = "<" if order == "II" else ">", b""
    for n, entries in enumerate(lists):
        packed = b"".join(struct.pack(f"{mark}HHI", tag, kind, 1) + struct.pack(
            f"{mark}{'B3x' if kind == 1 else 'H2x' if kind == 3 else 'I'}", value)
            for tag, kind, value in entries)
        following = 8 + len(content) + len(packed) + 6 if n + 1 < len(lists) else 0
        content += struct.pack(f"{mark}H", len(entries)) + packed + struct.pack(
            f"{mark}I", following)
    return order.encode() + struct.pack(f"{mark}HI", 42, 8) + content


@pytest.mark.parametrize("order", ["II", "MM"])
@pytest.mark.parametrize("lists", [
    *([[(0x112, kind, 6)]] for kind in (1, 3, 4)), [[(0x100, 4, 50)], [(0x112, 3, 8)]],
    [[(0x112, 3, 6)], [(0x112, 3, 8)]], [[(0x112, 3, 6), (0x112, 3, 3)]], [[]]])
def test_exif_of_every_writer_is_read_as_by_cv2(order, lists):
    content = tags(order, *lists)
    rows = [row.tobytes() for row in RGB]
    assert_as_cv2(png(8, 2, RGB.shape[1], rows, chunk(b"eXIf", content)))
    assert_as_cv2(png(8, 2, RGB.shape[1], rows, chunk(b"eXIf", b"Exif\0\0" + content)))
    assert_as_cv2(pillow("JPEG", exif=b"Exif\0\0" + content))
    assert_as_cv2(pillow("WEBP", exif=content))


@pytest.mark.parametrize("content", [b"", b"Exif\0\0", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff",
                                     b"Exif\0\0II*\0\xff\xff\xff\xff"])
def test_damaged_exif_costs_no_pixels(content):
    assert_as_cv2(pillow("JPEG", exif=content))


XMP = (b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description '
       b'tiff:Orientation="6"></rdf:Description></x:xmpmeta>')


@pytest.mark.parametrize("data", [
    pillow("JPEG", xmp=XMP), pillow("JPEG", xmp=XMP, exif=exif(3)), pillow("WEBP", xmp=XMP),
    pillow("TIFF", tiffinfo={700: XMP}),
    pillow("PNG", pnginfo=(lambda info: (info.add_itxt("XML:com.adobe.xmp", XMP.decode()),
                                         info)[1])(PngImagePlugin.PngInfo()))])
def test_orientation_of_xmp_does_not_count(data):
    """Pillow's exif_transpose would follow it; cv2 does not."""
    assert_as_cv2(data)


def test_orientation_after_the_pixels_of_a_png_file():
    rows = [row.tobytes() for row in RGB]
    content = chunk(b"eXIf", exif(6).tobytes()[6:])
    assert_as_cv2(png(8, 2, RGB.shape[1], rows, content))
    assert_as_cv2(png(8, 2, RGB.shape[1], rows, after=content))


# -- metadata ----------------------------------------------------------------------------------

@pytest.mark.parametrize("size", [1000, 3_000_000])
def test_text_and_profiles_of_any_size_cost_no_pixels(size):
    info = PngImagePlugin.PngInfo()
    info.add_text("workflow", "x" * size, zip=True)
    info.add_itxt("prompt", "x" * size)
    plain = images.decode(pillow("PNG"), "x")
    for options in ({"pnginfo": info}, {"icc_profile": bytes(size)}):
        assert np.array_equal(images.decode(pillow("PNG", **options), "x"), plain)
    assert_as_cv2(pillow("JPEG", icc_profile=bytes(size), comment=b"x" * min(size, 60_000)))
    assert_as_cv2(pillow("TIFF", icc_profile=bytes(size), description="x" * size))


def test_a_private_chunk_costs_no_pixels():
    assert_as_cv2(png(8, 0, 2, [b"\1\2"], chunk(b"prVt", b"x"), after=chunk(b"tEXt", b"a\0b")))


# -- refused -----------------------------------------------------------------------------------

def frames(kind, count=3):
    pages = [Image.fromarray(RGB // (n + 1)) for n in range(count)]
    return encode(pages[0], kind, save_all=True, append_images=pages[1:])


def jp2_with(space):
    data = bytearray(pillow("JPEG2000"))
    at = data.index(b"colr") + 7
    data[at:at + 4] = struct.pack(">I", space)
    return bytes(data)


def jpeg_with_bits(bits):
    data = bytearray(pillow("JPEG"))
    data[data.index(b"\xff\xc0") + 4] = bits
    return bytes(data)


def bmp16():
    head = struct.pack("<IiiHHIIiiII", 40, 4, 2, 1, 16, 0, 16, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 70, 0, 0, 54) + head + bytes(16)


def half_clear(mode):
    image = Image.fromarray(RGB).convert(mode)
    image.putalpha(Image.fromarray(np.where(GRAY > 128, 255, 254).astype(np.uint8)))
    return image


BITS, CLEAR, FRAMES = "more than 8 bits", "transparent pixels", "more than one (frame|page)"
COLOURS, VALUES, FEW = "colour space", "signed or floating", "fewer than 8 bits"
ROWS = [b"\1\2\3\4\5\6" * 4] * 2
REFUSED = {
    "png rgb 16": (by_cv2(DEEP, ".png"), BITS),
    "png gray 16": (by_cv2(DEEP[..., 0], ".png"), BITS),
    "png rgba 16": (png(16, 6, 3, ROWS), BITS), "png la 16": (png(16, 4, 6, ROWS), BITS),
    "tiff rgb 16": (tiff(DEEP, photometric="rgb"), BITS),
    "tiff gray 16": (tiff(DEEP[..., 0]), BITS),
    "tiff 16 of cv2": (by_cv2(DEEP, ".tif"), BITS),
    "tiff uint32": (tiff(GRAY.astype(np.uint32)), BITS),
    "tiff float rgb": (tiff(RGB / np.float32(255), photometric="rgb"), VALUES),
    "tiff float": (tiff(GRAY / np.float32(255)), VALUES),
    "tiff half": (tiff(GRAY.astype(np.float16)), VALUES),
    "tiff double": (tiff(GRAY.astype(np.float64)), VALUES),
    "tiff int8": (tiff(GRAY.astype(np.int8)), VALUES),
    "jp2 rgb 16": (by_cv2(DEEP, ".jp2"), BITS), "jp2 gray 16": (by_cv2(DEEP[..., 0], ".jp2"), BITS),
    "ppm 16": (by_cv2(DEEP, ".ppm"), BITS), "pgm 16": (by_cv2(DEEP[..., 0], ".pgm"), BITS),
    "ppm 1023": (b"P6 1 1 1023\n" + bytes(6), BITS), "ppm text 16": (b"P3 1 1 65535 1 2 3\n", BITS),
    "ppm 15": (b"P6 1 1\n#\n15\n123", FEW), "pgm 254": (b"P5 1 1 254\n1", FEW),
    "pfm": (by_cv2(RGB / np.float32(255), ".pfm"), f"{BITS}|not an image"),
    "jpeg 12": (jpeg_with_bits(12), BITS), "bmp 555": (bmp16(), FEW),
    "png rgba": (encode(half_clear("RGB"), "PNG"), CLEAR),
    "png la": (encode(half_clear("L"), "PNG"), CLEAR),
    "tiff rgba": (encode(half_clear("RGB"), "TIFF"), CLEAR),
    "tiff la": (encode(half_clear("L"), "TIFF"), CLEAR),
    "tiff premultiplied": (tiff(np.dstack([RGB, GRAY]), photometric="rgb",
                                extrasamples=["assocalpha"]), CLEAR),
    "webp": (encode(half_clear("RGB"), "WEBP"), CLEAR),
    "webp lossless": (encode(half_clear("RGB"), "WEBP", lossless=True), CLEAR),
    "jp2 rgba": (encode(half_clear("RGB"), "JPEG2000"), CLEAR),
    "jp2 la": (encode(half_clear("L"), "JPEG2000"), CLEAR),
    "bmp rgba": (by_cv2(np.dstack([GRAY, RGB]), ".bmp"), CLEAR),
    "png trns rgb": (pillow("PNG", transparency=tuple(map(int, RGB[0, 0]))), CLEAR),
    "png trns gray": (pillow("PNG", "L", transparency=int(GRAY[0, 0])), CLEAR),
    "png trns bit": (png(1, 0, 8, [b"\x0f"], chunk(b"tRNS", b"\0\1")), CLEAR),
    "png trns gray 2": (png(2, 0, 4, [b"\x1b"], chunk(b"tRNS", b"\0\1")), CLEAR),
    "png trns palette": (png(8, 3, 2, [b"\0\1"], chunk(b"PLTE", bytes(6)),
                             chunk(b"tRNS", b"\xff\x80")), CLEAR),
    "gif trns": (pillow("GIF", "P", transparency=int(
        np.asarray(Image.fromarray(RGB).convert("P"))[0, 0])), CLEAR),
    "gif": (frames("GIF"), FRAMES), "apng": (frames("PNG"), FRAMES),
    "tiff pages": (frames("TIFF"), FRAMES), "webp frames": (frames("WEBP"), FRAMES),
    "mpo": (frames("MPO"), FRAMES), "tiff stack": (tiff(np.stack([RGB, RGB]), photometric="rgb"),
                                                   FRAMES),
    "apng with another first image": (encode(
        Image.fromarray(RGB), "PNG", save_all=True, default_image=True,
        append_images=[Image.fromarray(RGB // 2)]), FRAMES),
    "ppm twice": (2 * pillow("PPM"), FRAMES),
    "jpeg cmyk": (pillow("JPEG", "CMYK"), COLOURS), "tiff cmyk": (pillow("TIFF", "CMYK"), COLOURS),
    "tiff lab": (tiff(RGB, photometric="cielab"), COLOURS),
    "tiff ycbcr, not compressed": (pillow("TIFF", "YCbCr"), COLOURS),
    "jp2 ycc": (jp2_with(18), COLOURS), "jp2 lab": (jp2_with(14), COLOURS),
    "jp2 cmyk": (pillow("JPEG2000", "CMYK"), COLOURS),
    "tiff 5 channels": (tiff(np.dstack([RGB, RGB[..., :2]]), photometric="rgb"), "5 channels"),
    "tiff 2 channels": (tiff(RGB[..., :2], photometric="minisblack", planarconfig="contig"),
                        "2 channels"),
    "tiff unspecified": (tiff(np.dstack([RGB, GRAY]), photometric="rgb",
                              extrasamples=["unspecified"]), "4 channels"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_lost_is_refused_by_name(name):
    data, reason = REFUSED[name]
    with pytest.raises(UserError, match=rf"^photo\.x: .*({reason})") as caught:
        images.decode(data, "photo.x")
    assert any(word in str(caught.value) for word in ("Convert", "Flatten", "Save", "Valid"))


@pytest.mark.parametrize("data", [
    pytest.param(pillow("PNG", transparency=(1, 2, 3)), id="colour that no pixel has"),
    pytest.param(png(8, 3, 2, [b"\0\0"], chunk(b"PLTE", bytes([9] * 6)), chunk(b"tRNS", b"\xff\0")),
                 id="entry that no pixel has"),
    pytest.param(png(8, 3, 2, [b"\0\1"], chunk(b"PLTE", bytes([9] * 6)),
                     chunk(b"tRNS", b"\xff\xff")), id="opaque palette"),
    pytest.param(tiff(np.dstack([RGB, np.full_like(GRAY, 255)]), photometric="rgb",
                      extrasamples=["unassalpha"]), id="tiff"),
    pytest.param(by_cv2(np.dstack([np.full_like(GRAY, 255), RGB]), ".bmp"), id="bmp")])
def test_transparency_that_no_pixel_has_is_no_reason(data):
    assert_as_cv2(data)


# -- damaged -----------------------------------------------------------------------------------

WHOLE = {f"{kind} {options}": pillow(kind, **options) for kind, options in FORMATS}


@pytest.mark.filterwarnings("ignore")  # Pillow's, on damaged TIFF files
@pytest.mark.parametrize("name", WHOLE)
def test_a_file_without_its_end_is_refused(name):
    data = WHOLE[name]
    ends = {*range(1, 30), *range(30, len(data), len(data) // 30)}
    for end in ends:
        with pytest.raises(UserError, match=r"^x: (the image is truncated|not an image)"):
            images.decode(data[:-end], "x")


@pytest.mark.parametrize("kind", [b"IHDR", b"IDAT", b"tEXt", b"IEND"])
def test_a_png_file_with_a_wrong_checksum_is_refused(kind):
    info = PngImagePlugin.PngInfo()
    info.add_text("a", "word")
    data = bytearray(pillow("PNG", pnginfo=info))
    at = data.index(kind)
    length = struct.unpack_from(">I", data, at - 4)[0]
    data[at + 4 + length] ^= 1  # the first byte of the checksum
    with pytest.raises(UserError, match=f"x: the image is truncated or broken .*{kind.decode()}"):
        images.decode(bytes(data), "x")


def interlaced(image, end=None):
    """Return an interlaced PNG file of RGB pixels, of whose unpacked bytes ``end`` are there."""
    passes = [image[y::dy, x::dx] for x, y, dx, dy in containers.PASSES]
    raw = b"".join(b"\0" + row.tobytes() for one in passes if one.size for row in one)
    head = struct.pack(">IIBBBBB", image.shape[1], image.shape[0], 8, 2, 0, 0, 1)
    return b"".join([b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", head), chunk(b"IDAT"), chunk(
        b"IDAT", zlib.compress(raw[:end])), chunk(b"IEND")])


@pytest.mark.parametrize("size", [(37, 50), (1, 1), (3, 2), (2, 9)])
def test_an_interlaced_png_file_is_whole_or_refused(size):
    image = RGB[:size[0], :size[1]]
    assert np.array_equal(images.decode(interlaced(image), "x"), image)
    with pytest.raises(UserError, match="truncated or broken .rows of pixels are missing"):
        images.decode(interlaced(image, -1), "x")


@pytest.mark.parametrize(("depth", "colour", "width", "row"), [
    (8, 2, 4, b"\0" + bytes(12)), (8, 0, 4, b"\0" + bytes(4)), (1, 0, 12, b"\0" + bytes(2)),
    (8, 6, 2, b"\0" + bytes([0, 0, 0, 255] * 2)), (8, 4, 2, b"\0" + bytes([0, 255] * 2))])
def test_a_png_file_without_its_last_rows_is_refused(depth, colour, width, row):
    """Its chunks are whole; Pillow would leave the rows black without a word."""
    head = struct.pack(">IIBBBBB", width, 3, depth, colour, 0, 0, 0)

    def file(rows):
        return b"".join([b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", head), chunk(
            b"IDAT", zlib.compress(row * rows)), chunk(b"IEND")])

    assert images.decode(file(3), "x").shape[:2] == (3, width)
    for rows in (0, 2):
        with pytest.raises(UserError, match="rows of pixels are missing"):
            images.decode(file(rows), "x")


def test_a_jpeg_file_whose_end_was_overwritten_is_refused():
    data = pillow("JPEG", quality=95)
    with pytest.raises(UserError, match="truncated or broken .*without its end mark"):
        images.decode(data[:-200] + bytes(200), "x")


def test_other_formats_are_named_as_not_read():
    for kind in ("TGA", "ICO", "PCX", "SGI"):
        with pytest.raises(UserError, match="x: not an image file that .*, but .* Valid: PNG"):
            images.decode(pillow(kind), "x")


@functools.cache
def samples():
    return sorted(WHOLE.values(), key=len) + [data for data, _ in REFUSED.values()]


@pytest.mark.filterwarnings("ignore")
@given(st.data())
@settings(max_examples=100, deadline=None)
def test_damaged_files_are_read_or_refused_but_never_a_traceback(data):
    found = bytearray(data.draw(st.sampled_from(samples())))
    for at, value in data.draw(st.lists(st.tuples(
            st.integers(0, len(found) - 1), st.integers(0, 255)), max_size=4)):
        found[at] = value
    found = bytes(found[:data.draw(st.integers(0, len(found)))])
    try:
        image = images.decode(found, "x")
    except UserError:
        return
    assert image.dtype == np.uint8
    assert image.ndim == 3


@pytest.mark.parametrize("data, what", [
    (b"", "an empty file"), (b"hello\nworld", "a text file ('hello')"),
    ("grün \u4e2d".encode() * 999, "a text file ('gr"), (b"\0" * 9999, "a file of zeros"),
    (b"<!DOCTYPE html><html>404", "a web page"), (b"  <html>", "a web page"),
    (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
    (b"PK\3\4" + bytes(99), "a ZIP archive"), (b"\0\0\0\x1cftypavif" + bytes(50), "'avif'"),
    (bytes(range(256)) * 20, "a file of another kind"), (b"a\0b", "a file of another kind")])
def test_a_file_that_is_no_image_is_called_by_what_it_is(data, what):
    with pytest.raises(UserError) as caught:
        images.decode(data, "x.png")
    head, _, rest = str(caught.value).partition(", but ")
    assert head == "x.png: not an image file that irbench reads"
    assert what in rest and "Valid: PNG" in rest


def test_formats_that_lose_something_are_told_from_those_that_do_not():
    kinds = {"JPEG": {}, "WebP": {"lossless": False}, "": {"lossless": True}}
    for name, options in kinds.items():
        form = "JPEG" if name == "JPEG" else "WEBP"
        assert containers.lossy(pillow(form, **options)) == name
    assert containers.lossy(pillow("PNG")) == containers.lossy(pillow("BMP")) == ""
    assert containers.lossy(pillow("TIFF")) == containers.lossy(b"text") == ""
    assert containers.lossy(pillow("TIFF", compression="jpeg")) == "TIFF with JPEG inside"
    assert containers.lossy(pillow("GIF")).startswith("GIF")
    assert containers.lossy(pillow("JPEG2000", irreversible=True)) == "JPEG 2000"
    assert containers.lossy(pillow("JPEG2000", irreversible=False)) == ""
    # an ICC profile comes before the pixels
    assert containers.lossy(pillow("WEBP", icc_profile=bytes(999))) == "WebP"
