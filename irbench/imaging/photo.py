"""Photographs as people have them: read one to restore it, and write the restored one.

Unlike ``irbench.imaging.images``, which refuses what could change a value of a test set, this
module keeps what a photographer wants to keep:

    orientation  the EXIF tag is applied to the pixels and then removed
    16 bits      per channel stay 16 bits (PNG and TIFF)
    alpha        is kept beside the colours; a palette becomes RGB
    profile      the ICC profile is copied; values are not converted
    EXIF         camera, lens, exposure, time, place, author and resolution are copied

Refused by name: other formats than ``SUFFIXES``, several frames or pages, CMYK, LAB and other
colour spaces, floating-point files, truncated files.

Reads files; ``encode`` returns bytes and writes nothing.

Try: ``python -c "from irbench.imaging import photo; print(photo.read('photo.jpg').pixels.shape)"``
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from irbench.core import files
from irbench.core.errors import UserError
from irbench.imaging import containers

# suffix of a file -> Pillow's name of its format
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF",
           ".webp": "WEBP", ".bmp": "BMP"}
SUFFIXES = tuple(FORMATS)
# suffixes of photographs, most of them of raw files, that are not read
UNREAD = (".heic", ".heif", ".hif", ".avif", ".jxl", ".jp2", ".gif", ".psd", ".dng", ".raw", ".cr2",
          ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".raf", ".orf", ".rw2", ".rwl",
          ".pef", ".srw", ".x3f", ".3fr", ".iiq", ".erf", ".kdc", ".dcr", ".mrw", ".mos")
WRITTEN = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp")
QUALITY = 95            # of JPEG
LONGEST = {"JPEG": 65535, "WEBP": 16383}    # pixels of a side that a format can hold
LONGEST_TEXT = 30_000   # characters of a text that is written; EXIF in JPEG holds 64 KiB in all
PNG_HEAD = 33           # bytes of signature and IHDR; chunks on colour follow
DEEP = ("PNG", "TIFF")  # formats of which 16 bits per channel are read
GRAY_16 = ("I;16", "I;16B", "I;16L", "I;16N")
SHORT = 3               # TIFF's number for the type of a tag with 16 bits
# the EXIF tags that are kept: what they say holds for the restored photograph, too
KEPT = (ExifTags.Base.ImageDescription, ExifTags.Base.Make, ExifTags.Base.Model,
        ExifTags.Base.XResolution, ExifTags.Base.YResolution, ExifTags.Base.ResolutionUnit,
        ExifTags.Base.Software, ExifTags.Base.DateTime, ExifTags.Base.Artist,
        ExifTags.Base.HostComputer, ExifTags.Base.Copyright, ExifTags.Base.Rating)
SIZES = (0xA002, 0xA003)    # width and height in the EXIF part
PARTS = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
# how many pixels of JPEG share one value of colour (across, down) -> its usual name
SUBSAMPLINGS = {(2, 1): "4:2:2", (2, 2): "4:2:0", (1, 2): "4:4:0", (4, 1): "4:1:1"}
VALID = "Valid: 8-bit or 16-bit gray or RGB, with or without alpha. Convert it first."


@dataclass(frozen=True)
class Photo:
    """A photograph, upright.

    Attributes:
        pixels: (H, W, C), C = 1 (gray) or 3 (RGB): uint8 in [0, 255], uint16 in [0, 65535], or
            float32 in [0, 1].
        alpha: the opacity, (H, W) of the same type; None: the file has none.
        icc: the bytes of its ICC profile; None: it has none.
        exif: the part of its EXIF data that is kept (``KEPT``, ``PARTS``); None: it has none.
        subsampling: of the chroma of a JPEG file, such as 4:2:0; "": it has the size of the luma,
            or this is no JPEG file.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    icc: bytes | None = None
    exif: Image.Exif | None = None
    subsampling: str = ""


class Header(NamedTuple):
    """What the header of a photograph tells: pixels, 0 if unknown; subsampling as of ``Photo``."""

    pixels: int = 0
    subsampling: str = ""


# -- reading -----------------------------------------------------------------------------------

def read(path: str | Path) -> Photo:
    """Read a photograph.

    Raises:
        UserError: the file cannot be read, or is one of those that this module refuses; the
            message begins with the file's name.
    """
    try:
        data = files.read_bytes(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}. Check the path.") from None
    return decode(data, str(path))


def header(path: str | Path) -> Header:
    """Return what a file's header tells; of a file that cannot be read nothing (``read`` says why).
    """
    try:
        with files.open_file(path) as handle, files.open_picture(
                handle, sorted(set(FORMATS.values()))) as image:
            return Header(image.width * image.height, _subsampling(image))
    except Exception:   # Pillow's parsers raise many kinds for damaged files
        return Header()


def decode(data: bytes, where: str) -> Photo:
    """Decode the bytes of a photograph; ``where`` begins the messages. Raises as ``read``."""
    try:
        with files.open_picture(io.BytesIO(data), sorted(set(FORMATS.values()))) as image:
            _refuse_frames(image, where)
            deep = _examine(image, data)
            if not deep:
                image.load()
            found = from_pillow(image, where, pixels=_decode_deep(data, where) if deep else None)
    except containers.NotPlain as error:
        raise UserError(f"{where}: {error}".replace(containers.AGAIN, "Get it again.")) from None
    except UnidentifiedImageError:
        raise UserError(not_read(where, data)) from None
    except (OSError, SyntaxError, ValueError, struct.error, IndexError) as error:
        raise UserError(f"{where}: the image is truncated or broken ({error}). Get it again."
                        ) from None
    return found


def not_read(where: str, data: bytes = b"") -> str:
    """Say that a file is of no format that is read, as its name and its content tell."""
    suffix = Path(where).suffix.lower()
    if suffix in UNREAD:
        return f"{where}: irbench does not read {suffix} files. Convert it to TIFF or PNG first."
    if suffix in FORMATS:
        return (f"{where}: its content is not an image that irbench restores, although its name "
                f"ends in {suffix}. It is {containers.other(data)}. Get it again, or convert it to "
                "TIFF or PNG.")
    return (f"{where}: not an image file that irbench restores. Valid: {', '.join(SUFFIXES)}. "
            "Convert it first (raw files and HEIC to TIFF or PNG).")


def from_pillow(image: Image.Image, where: str = "the image",
                pixels: np.ndarray | None = None) -> Photo:
    """Return a Pillow image as a photograph, upright.

    Args:
        image: an opened image.
        where: begins the messages.
        pixels: the pixels in the file's order, (H, W, 1 to 4), if Pillow cannot hold them.

    Raises:
        UserError: several frames, or a mode that is not gray or RGB.
    """
    _refuse_frames(image, where)
    exif = image.getexif()
    orientation = exif.get(ExifTags.Base.Orientation, 1)
    icc = image.info.get("icc_profile")
    given = pixels is not None
    pixels = pixels if given else _pixels(image, where)
    channels = pixels.shape[-1]
    alpha = pixels[..., -1] if channels in (2, 4) else None
    colours = pixels[..., :1] if channels < 3 else pixels[..., :3]
    if image.format != "TIFF" or given:   # Pillow turns a TIFF file itself when it loads it
        colours, alpha = (_upright(one, orientation) for one in (colours, alpha))
    return Photo(np.ascontiguousarray(colours),
                 None if alpha is None else np.ascontiguousarray(alpha), icc or None,
                 _kept(exif), _subsampling(image))


def _subsampling(image: Image.Image) -> str:
    """Return how the chroma of an opened JPEG file is subsampled; "" if it is not."""
    layers = getattr(image, "layer", ()) if image.format == "JPEG" else ()
    if len(layers) != 3:        # gray, or CMYK
        return ""
    luma, *chroma = [(across, down) for _, across, down, _ in layers]
    steps = {(luma[0] // max(one[0], 1), luma[1] // max(one[1], 1)) for one in chroma}
    most = max(steps)
    return "" if steps == {(1, 1)} else SUBSAMPLINGS.get(most, "subsampled")


def _pixels(image: Image.Image, where: str) -> np.ndarray:
    """Return the pixels of a Pillow image, (H, W, 1 to 4): uint8, or uint16 for mode I;16."""
    mode = image.mode
    if mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)[..., None]
    if mode in ("1", "P", "PA") or (mode in ("L", "RGB") and "transparency" in image.info):
        see_through = mode == "PA" or "transparency" in image.info
        gray = mode in ("1", "L")
        image = image.convert("L" if gray and not see_through else
                              "LA" if gray else "RGBA" if see_through else "RGB")
    elif mode in ("RGBa", "La"):
        image = image.convert({"RGBa": "RGBA", "La": "LA"}[mode])
    if image.mode not in ("L", "LA", "RGB", "RGBA"):
        what = {"CMYK": "the colour space CMYK", "LAB": "the colour space LAB",
                "F": "floating-point values", "I": "32 bits per channel"}.get(
                    image.mode, f"the mode {image.mode}")
        raise UserError(f"{where}: it has {what}. {VALID}")
    return np.asarray(image).reshape(image.height, image.width, -1)


def _refuse_frames(image: Image.Image, where: str) -> None:
    if (count := getattr(image, "n_frames", 1)) > 1:
        raise UserError(f"{where}: it has {count} frames or pages, and one would be restored. Save "
                        "each as a file of its own.")


def _examine(image: Image.Image, data: bytes) -> bool:
    """Return whether a file has 16 bits per channel, of which Pillow may drop 8 without a word.

    Raises NotPlain if the file is damaged, or has more than 8 bits that are not read here.
    """
    try:
        containers.examine(data)
    except containers.MoreBits:
        if image.format not in DEEP or image.mode not in ("RGB", "RGBA", *GRAY_16):
            raise
        return True
    return False


def _decode_deep(data: bytes, where: str) -> np.ndarray:
    """Decode 16 bits per channel: uint16 (H, W, 1, 3 or 4)."""
    import cv2

    found = cv2.imdecode(np.frombuffer(_without_orientation(data), np.uint8),
                         cv2.IMREAD_UNCHANGED)
    if found is None or found.dtype != np.uint16:
        raise UserError(f"{where}: its 16-bit pixels cannot be read: it is damaged, or of a kind "
                        f"that irbench does not read. {VALID}")
    if found.ndim == 2:
        return found[..., None]
    return found[..., [2, 1, 0, 3][:found.shape[-1]]]      # cv2 has BGR


def _without_orientation(data: bytes) -> bytes:
    """Return a file as it is, but a TIFF file with orientation 1: cv2 applies half of the others.
    """
    if data[:4] not in (b"II*\0", b"MM\0*"):
        return data
    order, found = "<" if data[:1] == b"I" else ">", bytearray(data)
    start = struct.unpack_from(f"{order}I", data, 4)[0]
    for i in range(struct.unpack_from(f"{order}H", data, start)[0]):
        tag, kind = struct.unpack_from(f"{order}HH", data, start + 2 + 12 * i)
        if tag == ExifTags.Base.Orientation and kind == SHORT:
            struct.pack_into(f"{order}H", found, start + 10 + 12 * i, 1)
    return bytes(found)


def _upright(pixels: np.ndarray | None, orientation: int) -> np.ndarray | None:
    """Turn and mirror (H, W, ...) by EXIF's orientation, 1 to 8; another value counts as 1."""
    if pixels is None:
        return None
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def _kept(exif: Image.Exif) -> Image.Exif | None:
    """Return EXIF data without the tags that may no longer hold; None if nothing is left."""
    found = Image.Exif()
    for tag in KEPT:
        if tag in exif:
            found[tag] = exif[tag]
    for part in PARTS:
        values = {tag: value for tag, value in exif.get_ifd(part).items() if tag not in SIZES}
        if values:
            found.get_ifd(part).update(values)
            found[part] = values
    return found if len(found) else None


# -- writing -----------------------------------------------------------------------------------

def encode(photo: Photo, suffix: str, where: str, software: str = "",
           history: str = "") -> bytes:
    """Encode a photograph as a file.

    Args:
        photo: with pixels of 8 or 16 bits.
        suffix: one of ``WRITTEN``, which decides the format. PNG, TIFF and WebP lose nothing; JPEG
            has quality 95 and no alpha.
        where: begins the messages.
        software: text for EXIF's tag Software; "" leaves it as it is.
        history: ASCII text for EXIF's tag ImageHistory, at most ``LONGEST_TEXT`` characters; ""
            writes none.

    Raises:
        UserError: a format that cannot hold the photograph.
    """
    check_format(photo, suffix, where)
    kind = FORMATS[suffix.lower()]
    if kind == "JPEG":
        photo = replace(photo, alpha=None)
    exif = photo.exif or Image.Exif()
    if software:
        exif[ExifTags.Base.Software] = software
    if history:
        exif[ExifTags.Base.ImageHistory] = history
    if photo.pixels.dtype == np.uint16:
        return _encode_deep(photo, exif)
    buffer = io.BytesIO()
    more = {"JPEG": {"quality": QUALITY, "subsampling": 0}, "WEBP": {"lossless": True}}.get(
        kind, {})   # TIFF is not compressed: libtiff, which would do it, refuses parts of EXIF
    to_pillow(photo).save(buffer, kind, icc_profile=photo.icc, exif=exif, **more)
    return buffer.getvalue()


def check_format(photo: Photo, suffix: str, where: str, scale: int | float = 1) -> None:
    """Raise UserError if a format cannot hold a photograph, enlarged by a scale."""
    if suffix.lower() not in WRITTEN:
        raise UserError(f"{where}: the suffix {suffix!r} is of no format that irbench writes. "
                        f"Valid: {', '.join(WRITTEN)}.")
    kind = FORMATS[suffix.lower()]
    height, width = (round(scale * side) for side in photo.pixels.shape[:2])
    if max(height, width) > LONGEST.get(kind, height + width):
        raise UserError(f"{where}: {height} x {width} pixels (height x width) are more than {kind} "
                        f"holds ({LONGEST[kind]} on a side). Write PNG.")
    if kind == "JPEG" and photo.alpha is not None and (
            photo.alpha.min() < np.iinfo(photo.alpha.dtype).max):
        raise UserError(f"{where}: it has transparent pixels, which JPEG cannot hold. Write PNG, "
                        "TIFF or WebP.")
    if photo.pixels.dtype == np.uint16 and kind != "PNG":
        raise UserError(f"{where}: it has 16 bits per channel, which irbench writes as PNG only. "
                        "Write PNG, or convert the photograph to 8 bits first.")


def to_pillow(photo: Photo) -> Image.Image:
    """Return an 8-bit photograph, or a 16-bit gray one, as a Pillow image with its ICC profile."""
    pixels = photo.pixels if photo.alpha is None else np.dstack([photo.pixels, photo.alpha])
    image = Image.fromarray(np.ascontiguousarray(
        pixels[..., 0] if pixels.shape[-1] == 1 else pixels))
    if photo.icc:
        image.info["icc_profile"] = photo.icc
    return image


def _encode_deep(photo: Photo, exif: Image.Exif) -> bytes:
    """Encode 16 bits per channel as PNG, with the chunks that cv2 does not write."""
    import cv2

    pixels = photo.pixels
    if photo.alpha is not None:     # cv2 knows no gray with alpha
        pixels = np.dstack([np.repeat(pixels, 3, -1) if pixels.shape[-1] == 1 else pixels,
                            photo.alpha])
    order = [2, 1, 0, 3][:pixels.shape[-1]] if pixels.shape[-1] > 1 else [0]
    data = cv2.imencode(".png", pixels[..., order])[1].tobytes()
    chunks = b""
    # a gray profile does not fit pixels that became RGB
    if photo.icc and not (photo.alpha is not None and photo.pixels.shape[-1] == 1):
        chunks += _chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(photo.icc))
    if len(exif):
        chunks += _chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    return data[:PNG_HEAD] + chunks + data[PNG_HEAD:]


def _chunk(kind: bytes, content: bytes) -> bytes:
    return (struct.pack(">I", len(content)) + kind + content
            + struct.pack(">I", zlib.crc32(kind + content)))


def made_with(path: str | Path) -> tuple[str, str]:
    """Return EXIF's tags Software and ImageHistory of an image file.

    A tag that is missing or cannot be read is "".
    """
    try:
        with files.open_file(path) as handle, files.open_picture(handle) as image:
            exif = image.getexif()
            return tuple(str(exif.get(tag, "")) for tag in (ExifTags.Base.Software,
                                                            ExifTags.Base.ImageHistory))
    except (OSError, SyntaxError, ValueError, struct.error):
        return "", ""
