"""What an image file holds besides plain 8-bit pixels, and whether the file is whole.

A decoder drops the low byte of 16-bit colour, further frames, unused channels and a wrong checksum
without a word. This module reads the file's own headers and refuses such a file with its reason.
``irbench.imaging.images.decode`` then decodes the rest with Pillow. The pixels are those of
``cv2.imread``, which the field's code bases use.

Reads bytes, writes nothing.

Try: ``python -c "from irbench.imaging import images; print(images.read_image('photo.png').shape)"``
"""

from __future__ import annotations

import io
import re
import struct
import zlib

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from irbench.core.files import open_picture

# Pillow's names of the formats that are read; others (EPS, PSD, AVIF, ...) are not checked here
FORMATS = tuple(file.format for file in (
    PngImagePlugin.PngImageFile, JpegImagePlugin.JpegImageFile, BmpImagePlugin.BmpImageFile,
    TiffImagePlugin.TiffImageFile, WebPImagePlugin.WebPImageFile, GifImagePlugin.GifImageFile,
    PpmImagePlugin.PpmImageFile, Jpeg2KImagePlugin.Jpeg2KImageFile))
ORIENTATION = 0x0112  # the tag, in EXIF and TIFF
# the chunks that decide a PNG file's pixels; text and colour profiles, of any size, do not
PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"eXIf", b"IEND")
# of PNG: channels of a colour type; first pixel and steps of each pass of an interlaced file
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
          (0, 1, 1, 2))
PIECE = 2**20       # bytes of pixels that are unpacked at a time
PNM = re.compile(rb"P([2356])" + 3 * rb"(?:\s|#[^\n]*\n)+(\d{1,9})")
# TIFF's photometric interpretations that are neither gray, RGB, a palette nor YCbCr
COLOURS = {4: "of a mask", 5: "CMYK", **dict.fromkeys((8, 9, 10), "LAB"), 32844: "LogL",
           32845: "LogLuv", 32803: "of a sensor (CFA)", 34892: "of a sensor (linear raw)"}
# what other files begin with
OTHERS = {b"version https://git-lfs": "a pointer of Git LFS, whose file was not fetched",
          b"PK\3\4": "a ZIP archive", b"\x1f\x8b": "a gzip archive", b"%PDF": "a PDF file",
          b"%!PS": "a PostScript file", b"8BPS": "a Photoshop file",
          b"\x93NUMPY": "an array of NumPy", b"\x76\x2f\x31\x01": "an OpenEXR file",
          b"#?RADIANCE": "a Radiance HDR file", b"MATLAB": "a MATLAB file",
          b"\xff\x0a": "a JPEG XL file", b"\0\0\0\x0cJXL ": "a JPEG XL file"}
AGAIN = "Fetch it again or remove it from the set."
CONVERT = "Valid: 8-bit gray or RGB. Convert it first."


class NotPlain(Exception):
    """The file's pixels are not plain 8-bit gray or RGB, or the file is damaged."""


class MoreBits(NotPlain):
    """The file has more than 8 bits per channel."""


def examine(data: bytes) -> bytes:
    """Check a file's headers and its end; return the bytes to decode.

    A PNG file is returned without its metadata, so that no metadata can make it unreadable. The
    bytes of an unknown format are returned unchanged.

    Raises:
        NotPlain: the file would lose bits, channels, frames or transparency, or is damaged; the
            reason is a sentence without the file's name, followed by what to do.
        struct.error, IndexError: a header ends too early.
    """
    for start, check in CHECKS.items():
        if data.startswith(start):
            return check(data)
    return data


def refuse_frames(image: Image.Image) -> None:
    """Raise NotPlain if an opened image has more than one frame, or one that is not the whole."""
    if (count := getattr(image, "n_frames", 1)) > 1:
        raise _frames(count)
    part = getattr(image, "dispose_extent", None)  # of a GIF file's frame
    if part is not None and tuple(part) != (0, 0, *image.size):
        raise _transparent()


def refuse_colours(image: Image.Image) -> None:
    """Raise NotPlain if an opened image's mode is not one that gives 8-bit gray or RGB."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        raise _bits(f"mode {image.mode}")
    if image.mode not in ("1", "L", "P", "RGB", "RGBA", "LA", "PA", "RGBa", "La"):
        raise _colours(image.mode)


def refuse_transparency(image: Image.Image) -> None:
    """Raise NotPlain if a loaded image has a pixel that is not opaque.

    An alpha channel, or a transparent colour that no pixel has, loses nothing.
    """
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        alpha = image.getchannel(image.getbands()[-1])
    elif "transparency" in image.info:
        alpha = image.convert("RGBA").getchannel("A")
    else:
        return
    if alpha.getextrema()[0] < 255:
        raise _transparent()


def load_upright(image: Image.Image) -> int:
    """Load an opened image; return the EXIF orientation that remains to be applied, 1 to 8.

    1 means upright. Only the tag of EXIF counts, as in cv2.imread: Pillow would also take XMP's.
    """
    if image.format == "TIFF":  # whose tag Pillow applies itself, from this copy
        image.getexif()[ORIENTATION] = image.tag_v2.get(ORIENTATION, 1)
        image.load()
        return 1
    image.load()
    try:
        return _orientation(image.info.get("exif", b"").removeprefix(b"Exif\0\0"))
    except struct.error:  # damaged metadata never costs the pixels
        return 1


def _orientation(exif: bytes) -> int:
    """Return the orientation in the first list of tags; 1 if there is none that is valid.

    As in cv2, the value is read as 16 bits whatever its type, and the first of two tags counts.
    """
    if not (order := {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])):
        return 1
    at = struct.unpack_from(f"{order}I", exif, 4)[0]
    for n in range(struct.unpack_from(f"{order}H", exif, at)[0]):
        tag, value = struct.unpack_from(f"{order}H6xH", exif, at + 2 + 12 * n)
        if tag == ORIENTATION:
            return value if 1 <= value <= 8 else 1
    return 1


def other(data: bytes) -> str:
    """Say what the bytes are that no decoder of images takes, as well as their beginning tells."""
    if not data:
        return "an empty file"
    for start, what in OTHERS.items():
        if data.startswith(start):
            return what
    if data[4:8] == b"ftyp":
        return f"a file of the kind {data[8:12].decode('latin-1').strip()!a} (AVIF, HEIC or video)"
    head = data[:2000]
    if not head.strip(b"\0"):
        return "a file of zeros"
    try:
        text = head.decode("utf-8", errors="strict" if len(data) <= len(head) else "ignore")
    except UnicodeDecodeError:
        return "a file of another kind"
    if any(ord(letter) < 32 and not letter.isspace() for letter in text) or (
            len(text.encode()) < len(head) - 3):
        return "a file of another kind"
    if text.lstrip()[:15].lower().startswith(("<!doctype html", "<html")):
        return "a web page"
    first = next(iter(text.split("\n")), "").strip()
    return f"a text file ({first[:40]!a}{'...' if len(first) > 40 else ''})"


def lossy(data: bytes) -> str:
    """Return the name of the format if a file's pixels went through a lossy compression, else "".

    Such a picture is not what a model returned. JPEG 2000 counts by its wavelet (9-7 is lossy). "",
    too, for bytes that are no image.
    """
    try:
        with open_picture(io.BytesIO(data), FORMATS) as image:
            kind, compression = image.format, image.info.get("compression")
    except Exception:  # Pillow's parsers raise many kinds for damaged files
        return ""
    if kind == JpegImagePlugin.JpegImageFile.format or kind == "MPO":
        return "JPEG"
    if kind == TiffImagePlugin.TiffImageFile.format:
        return "TIFF with JPEG inside" if "jpeg" in str(compression) else ""
    if kind == WebPImagePlugin.WebPImageFile.format:
        return "WebP" if _chunks_of_webp(data) & {b"VP8 "} else ""
    if kind == Jpeg2KImagePlugin.Jpeg2KImageFile.format:
        style = data.find(b"\xff\x52", data.find(b"\xff\x4f\xff\x51"))
        return "JPEG 2000" if style >= 0 and data[style + 13:style + 14] == b"\0" else ""
    return "GIF (256 colours)" if kind == GifImagePlugin.GifImageFile.format else ""


def _chunks_of_webp(data: bytes) -> set[bytes]:
    """Return the names of the chunks of a WebP file."""
    found, at = set(), 12
    while at + 8 <= len(data):
        found.add(data[at:at + 4])
        at += 8 + (struct.unpack_from("<I", data, at + 4)[0] + 1) // 2 * 2
    return found


# -- reasons -----------------------------------------------------------------------------------

def _bits(what: object) -> NotPlain:
    return MoreBits(f"the image has more than 8 bits per channel ({what}). {CONVERT}")


def _few_bits(bits: object) -> NotPlain:
    return NotPlain(f"the image has fewer than 8 bits per channel ({bits}), which programs expand "
                   f"to 8 in different ways. {CONVERT}")


def _colours(name: str) -> NotPlain:
    return NotPlain(f"the image has the colour space {name}, whose conversion to RGB is not "
                   f"defined. {CONVERT}")


def _frames(count: int) -> NotPlain:
    return NotPlain(f"the file has more than one frame or page ({count}), and one would be scored. "
                   "Save each frame as a file of its own.")


def _transparent() -> NotPlain:
    return NotPlain("the image has transparent pixels, whose colour is not defined. "
                   "Flatten it to RGB first.")


def _truncated(what: str) -> NotPlain:
    return NotPlain(f"the image is truncated or broken ({what}). {AGAIN}")


# -- formats -----------------------------------------------------------------------------------

def _png(data: bytes) -> bytes:
    """Check the checksum of every chunk, and that the last one and all rows are there."""
    view = memoryview(data)
    kept, at, kind = [view[:8]], 8, b""
    depth, colour = data[24], data[25]
    while kind != b"IEND":
        if at + 12 > len(data):
            raise _truncated("it ends before its last chunk, IEND")
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise _truncated(f"it ends inside its chunk {kind.decode('latin-1')}")
        if zlib.crc32(view[at + 4:end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            raise _truncated(f"the checksum of its chunk {kind.decode('latin-1')} is wrong")
        if kind == b"acTL" and (count := struct.unpack_from(">I", data, at + 8)[0]) > 1:
            raise _frames(count)
        if kind == b"fdAT":
            raise _frames(2)
        if kind == b"tRNS" and colour == 0 and depth < 8:
            raise _transparent()  # Pillow compares this colour with pixels that are scaled to 255
        if kind in PIXEL_CHUNKS:
            kept.append(view[at:end])
        at = end
    _check_rows(data, [chunk[8:-4] for chunk in kept[1:] if chunk[4:8] == b"IDAT"])
    if depth > 8:
        raise _bits(depth)
    return b"".join(kept)


def _check_rows(data: bytes, parts: list[memoryview]) -> None:
    """Raise NotPlain if a PNG file lacks rows, which Pillow would leave black."""
    width, height, depth, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    sizes = [(-(-(width - x) // dx), -(-(height - y) // dy)) for x, y, dx, dy in
             (PASSES if interlaced else ((0, 0, 1, 1),))]
    need = sum(h * (1 + (w * depth * CHANNELS.get(colour, 0) + 7) // 8)
               for w, h in sizes if w > 0 and h > 0)
    unpacker = zlib.decompressobj()
    try:
        for part in parts:
            piece = unpacker.decompress(part, PIECE)
            while piece and need > 0:
                need -= len(piece)
                piece = unpacker.decompress(unpacker.unconsumed_tail, PIECE)
    except zlib.error as error:
        raise _truncated(f"its pixels cannot be unpacked: {error}") from None
    if need > 0:
        raise _truncated("rows of pixels are missing")


def _jpeg(data: bytes) -> bytes:
    """Check the bits per channel, and that the end mark comes after the start of the pixels."""
    at = 2
    while data[at] == 0xFF and (marker := data[at + 1]) != 0xDA:
        if marker == 0xFF:  # filling
            at += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and data[at + 4] > 8:
            raise _bits(data[at + 4])
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    if data.rfind(b"\xff\xd9", at) < 0:
        raise _truncated("it ends without its end mark")
    return data


def _jpeg2000(data: bytes) -> bytes:
    """Check bits, colour space and the end mark of a JP2 file or of a bare codestream."""
    start = data.find(b"\xff\x4f\xff\x51")
    if start < 0:
        raise _truncated("it holds no pixels")
    for n in range(struct.unpack_from(">H", data, start + 40)[0]):
        if (size := data[start + 42 + 3 * n]) & 0x80:
            raise NotPlain(f"the image has signed values. {CONVERT}")
        if size != 7:
            raise _bits(size + 1) if size > 7 else _few_bits(size + 1)
    box = data.find(b"colr", 0, start)
    space = struct.unpack_from(">I", data, box + 7)[0] if box >= 0 and data[box + 4] == 1 else 16
    if space not in (16, 17):  # sRGB, gray
        name = {12: "CMYK", 14: "Lab", 18: "YCbCr"}.get(space, f"number {space}")
        raise _colours(name)
    if data.find(b"pclr", 0, start) >= 0:
        raise _colours("a palette of JPEG 2000")
    if data.rfind(b"\xff\xd9", start) < 0:
        raise _truncated("it ends without its end mark")
    return data


def _tiff(data: bytes) -> bytes:
    """Check bits, number format, channels and pages by the tags of the first page."""
    file = io.BytesIO(data)
    header = file.read(16 if data[2:4] in (b"+\0", b"\0+") else 8)  # 16 of a BigTIFF file
    tags = TiffImagePlugin.ImageFileDirectory_v2(header)
    file.seek(first := tags.next)
    tags.load(file)
    if tags.next == first or tags.next >= len(data):
        raise _truncated("its list of tags is cut off")
    if tags.next:
        raise NotPlain("the file has more than one page, and one would be scored. Save each page "
                      "as a file of its own.")
    bits, kinds, photometric = (_all(tags.get(tag, 1)) for tag in (258, 339, 262))
    if any(kind != 1 for kind in kinds):
        raise NotPlain("the image has signed or floating-point values, and 8-bit ones would be "
                      f"scored. {CONVERT}")
    if max(bits) > 8:
        raise _bits(max(bits))
    if any(size not in (1, 8) for size in bits):
        raise _few_bits(min(bits))
    if photometric[0] in COLOURS:
        raise _colours(COLOURS[photometric[0]])
    channels = {2: 3, 6: 3}.get(photometric[0], 1)
    extra = _all(tags.get(338, ()))
    # 1 and 2 are alpha, which is looked at when the pixels are decoded; 0 means something else
    alpha = len(extra) == 1 and extra[0] in (1, 2)
    if _all(tags.get(277, 1))[0] != channels + alpha:
        raise NotPlain(f"the image has {_all(tags.get(277, 1))[0]} channels, of which {channels} "
                      f"would be scored. {CONVERT}")
    return data


def _all(value: object) -> tuple:
    return value if isinstance(value, tuple) else (value,)


def _bmp(data: bytes) -> bytes:
    """Check the bits per channel, and that the rows are all there."""
    offset, header = struct.unpack_from("<II", data, 10)
    if header < 40:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        compression = 0
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    if bits == 16:
        raise _few_bits("5 or 6")
    if compression in (0, 3) and len(data) < offset + (width * bits + 31) // 32 * 4 * abs(height):
        raise _truncated(f"it ends after {len(data)} bytes")
    return data


def _gif(data: bytes) -> bytes:
    if not data.rstrip(b"\0").endswith(b";"):
        raise _truncated("it ends without its end mark")
    return data


def _pnm(data: bytes) -> bytes:
    """Check the largest value, and that no second image follows."""
    if not (found := PNM.match(data)):
        return data
    kind, width, height, largest = (int(number) for number in found.groups())
    if largest > 255:
        raise _bits(f"the largest value is {largest}")
    if largest < 255:
        raise _few_bits(f"the largest value is {largest}")
    size = width * height * (3 if kind == 6 else 1)
    if kind in (5, 6) and data[found.end() + 1 + size:].lstrip().startswith(b"P"):
        raise _frames(2)
    return data


CHECKS = {b"\x89PNG\r\n\x1a\n": _png, b"\xff\xd8": _jpeg, b"BM": _bmp, b"GIF8": _gif,
          b"\0\0\0\x0cjP  ": _jpeg2000, b"\xff\x4f\xff\x51": _jpeg2000,
          b"II*\0": _tiff, b"MM\0*": _tiff, b"II+\0": _tiff, b"MM\0+": _tiff,
          **{b"P%d" % kind: _pnm for kind in (2, 3, 5, 6)}}
