"""Leaks: images that are in a training set and in a test set, even cropped, recompressed or gray.

Each image is reduced to a small gray picture, and that picture to its cosine coefficients. Two
images are candidates if their perceptual hashes differ in few bits (the signs of the low
coefficients against their median, as in pHash). They count as one image if the reduced pictures
also correlate. Both tests are made for each of the eight rotated and mirrored positions.

Reads   the ``hr`` files of local datasets (for pairs: the clean images).
Writes  ``<data_root>/.leaks/<digest of a set>.npz``, so that an image is decoded once.

It does not detect patches, other exposures of a scene, and crops of more than a few percent of a
side. Of CBSD68's 68 images (481 x 321 pixels) it finds all when 8 pixels are cut from each side, 57
at 12, 34 at 16 and 4 at 24 (``python benchmarks/leaks.py``).

Try: ``irbench data leak --train bsds500_train --test bsd68``
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from irbench.core import code as code_digests
from irbench.core.errors import UserError
from irbench.core.files import atomic_path, expanded
from irbench.data import sets

SIDE = 32           # pixels of the reduced picture
HASHED = 8          # coefficients along each axis that form the hash: 64 bits
KEPT = 24           # coefficients along each axis that are compared
# Coefficients (i, j) with i + j below this are not compared: brightness, gradients and other
# features that smooth pictures share. With them, two unrelated skies correlate to 0.94.
SMOOTH = 3
# Both thresholds separate the groups that `python benchmarks/leaks.py` measures on the public sets.
# Altered copies of 485 images (cut by 2 pixels on each side, compressed at quality 10, rotated, or
# all of these) differ in at most 10 of the 64 bits and correlate to at least 0.95; cut by 4 pixels
# or converted to gray by a plain mean, 12 bits and 0.86. Among 257,000 pairs of different
# photographs of 15 sets the highest correlation is 0.71. Larger crops of one scene, as in Kodak24
# and LIVE1, reach 0.80 but differ in 22 bits: they are not found.
BITS = 16
CORRELATION = 0.8
FLAT = 1.0          # gray levels: pictures with less contrast cannot be compared
CODE = ("irbench.data.leaks", "irbench.imaging.images")
# (transposed, then upside down, then mirrored) -> words
POSITIONS = {
    (False, False, False): "", (False, False, True): "mirrored",
    (False, True, False): "upside down", (False, True, True): "turned by 180 degrees",
    (True, False, False): "transposed", (True, False, True): "turned by 90 degrees",
    (True, True, False): "turned by 270 degrees", (True, True, True): "transposed and turned"}
CHUNK = 256         # training images compared at once: bounds the memory


@dataclass(frozen=True)
class Signatures:
    """Data about a set's images: names, digests of bytes and pixels, reduced pictures.

    ``pictures`` is float32 (N, SIDE, SIDE), gray, in levels [0, 255].
    """

    names: tuple[str, ...]
    files: tuple[str, ...]
    pixels: tuple[str, ...]
    pictures: np.ndarray

    @functools.cached_property
    def coefficients(self) -> np.ndarray:
        """The orthonormal cosine coefficients of the pictures, float64 (N, SIDE, SIDE)."""
        return _DCT @ self.pictures.astype(np.float64) @ _DCT.T


def _dct() -> np.ndarray:
    """Return the orthonormal DCT-II as a matrix (SIDE, SIDE)."""
    k, x = np.mgrid[:SIDE, :SIDE]
    matrix = np.sqrt(2 / SIDE) * np.cos(np.pi * (2 * x + 1) * k / (2 * SIDE))
    matrix[0] /= np.sqrt(2)
    return matrix


_DCT = _dct()


# -- one set -------------------------------------------------------------------------------------

def signatures(data: sets.Dataset, digest: str, data_root: str | Path,
               progress: Callable[[Iterable], Iterable] = iter) -> Signatures:
    """Return the signatures of a set's clean images, from the cache if possible.

    Args:
        data: the set, whose files are present.
        digest: the digest of its content, which names the cache file.
        data_root: the folder of all data, which contains the cache.
        progress: wraps the list of images to decode.

    Raises:
        Unavailable: a file changed since the set was checked.
        UserError: a file is not an image.
    """
    code = code_digests.of_modules(*CODE)
    path = expanded(data_root) / ".leaks" / f"{digest}.npz"
    known = _read(path, code)
    if known is not None:
        return known
    names, files, pixels, pictures = [], [], [], []
    # a set without targets may have the very photographs of a training set as its inputs
    for item in progress(data.role("hr" if "hr" in data.roles else "input")):
        image = item.load()
        names.append(item.name)
        files.append(item.sha256)
        pixels.append(_pixels(image))
        pictures.append(picture(image))
    found = Signatures(tuple(names), tuple(files), tuple(pixels),
                       np.stack(pictures).astype(np.float32))
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, code=code, **{
            f.name: getattr(found, f.name) for f in dataclasses.fields(found)})
    return found


def _read(path: Path, code: str) -> Signatures | None:
    """Return cached signatures; None if the file is missing, broken or made by other code."""
    try:
        with np.load(path) as stored:
            if str(stored["code"]) != code:
                return None
            return Signatures(*(tuple(map(str, stored[name]))
                                for name in ("names", "files", "pixels")), stored["pictures"])
    except FileNotFoundError:
        return None
    except Exception:  # numpy and zlib raise various errors for a damaged file, which is replaced
        return None


def _pixels(image: np.ndarray) -> str:
    """Digest the pixels of uint8 (H, W, C); three equal channels count as one."""
    if image.shape[-1] == 3 and (image == image[..., :1]).all():
        image = image[..., :1]
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()


def picture(image: np.ndarray) -> np.ndarray:
    """Average uint8 (H, W, C) to a gray float32 picture (SIDE, SIDE) in levels [0, 255]."""
    gray = (image[..., 0].astype(np.float32) if image.shape[-1] == 1
            else image.astype(np.float32) @ np.float32([0.299, 0.587, 0.114]))
    return np.asarray(Image.fromarray(gray).resize((SIDE, SIDE), Image.Resampling.BOX))


# -- two sets ------------------------------------------------------------------------------------

def move(coefficients: np.ndarray, position: tuple[bool, bool, bool]) -> np.ndarray:
    """Rotate and mirror pictures given by their coefficients (N, n, n): signs and a transposition.

    ``position``: whether to transpose, then whether to flip upside down and whether to mirror.
    """
    transposed, down, across = position
    moved = coefficients.swapaxes(-1, -2) if transposed else coefficients
    sign = (-1.0) ** np.arange(moved.shape[-1])
    return moved * (sign[:, None] if down else 1) * (sign if across else 1)


def hashes(coefficients: np.ndarray) -> np.ndarray:
    """Return the 64-bit hash of each picture, uint64 (N,): coefficients above their median."""
    low = coefficients[:, :HASHED, :HASHED].reshape(len(coefficients), -1)
    bits = low > np.median(low, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(np.uint64)[:, 0]


def vectors(coefficients: np.ndarray) -> np.ndarray:
    """Return vectors (N, KEPT²) whose products are the correlations of the pictures' detail."""
    detail = coefficients[:, :KEPT, :KEPT].copy()
    detail[:, np.add.outer(np.arange(KEPT), np.arange(KEPT)) < SMOOTH] = 0
    detail = detail.reshape(len(detail), -1)
    # divided by the contrast; a picture without contrast stays near zero
    contrast = np.linalg.norm(detail, axis=1, keepdims=True)
    return detail / np.maximum(contrast, FLAT * SIDE)


def compare(train: Signatures, test: Signatures) -> list[dict]:
    """Return the images of two sets that are the same, in the order of the test set.

    Each is a dict with ``train_image``, ``test_image``, ``kind`` ("identical": the same file or
    the same pixels; "near": the same picture), ``distance`` (1 - correlation of the detail, 0 if
    identical), ``bits`` (by which the hashes differ) and ``position`` (how the test image must be
    turned to match; "" if not at all).
    """
    found: dict[tuple[int, int], dict] = {}
    for name in ("files", "pixels"):
        places: dict[str, list[int]] = {}
        for i, digest in enumerate(getattr(train, name)):
            places.setdefault(digest, []).append(i)
        for j, digest in enumerate(getattr(test, name)):
            for i in places.get(digest, ()):
                found[j, i] = {"kind": "identical", "distance": 0.0, "bits": 0, "position": ""}
    known, own = hashes(train.coefficients), vectors(train.coefficients)
    for position, words in POSITIONS.items():
        moved = move(test.coefficients, position)
        wanted, theirs = hashes(moved), vectors(moved)
        for start in range(0, len(known), CHUNK):
            bits = np.bitwise_count(known[start:start + CHUNK, None] ^ wanted[None])
            rows, columns = np.nonzero(bits <= BITS)
            agreement = np.einsum("nk,nk->n", own[rows + start], theirs[columns])
            for row, j, r in zip(rows, columns, agreement, strict=True):
                key = (int(j), int(row) + start)
                distance = round(max(0.0, 1 - float(r)), 4)
                if r >= CORRELATION and distance < found.get(key, {"distance": 2})["distance"]:
                    found[key] = {"kind": "near", "distance": distance,
                                  "bits": int(bits[row, j]), "position": words}
    return [{"train_image": train.names[i], "test_image": test.names[j], **what}
            for (j, i), what in sorted(found.items())]


# -- many sets -----------------------------------------------------------------------------------

def check(pairs: Iterable[tuple[str, str]], obtain: Callable[[str], tuple[sets.Dataset, str]],
          data_root: str | Path, progress: Callable[[Iterable], Iterable] = iter) -> dict:
    """Compare training sets with test sets; unavailable sets are listed instead of compared.

    Args:
        pairs: (training set, test set), by name; both may be the same set.
        obtain: returns a set with its files, and its digest; or raises Unavailable.
        data_root: the folder below which signatures are kept.
        progress: wraps the list of images to decode.

    Returns:
        ``pairs`` (dicts as ``compare`` returns them, with ``train`` and ``test``), ``compared``
        (dicts with train, test, and the counts train_images and test_images), and
        ``not_compared`` (dicts with train, test, reason).
    """
    known: dict[str, Signatures | str] = {}
    result: dict[str, list] = {"pairs": [], "compared": [], "not_compared": []}
    for train, test in pairs:
        for name in (train, test):
            if name not in known:
                try:
                    known[name] = signatures(*obtain(name), data_root, progress)
                except UserError as error:      # the set is missing, or an image cannot be read
                    known[name] = str(error)
        names = {"train": train, "test": test}
        lacking = [known[name] for name in dict.fromkeys((train, test))
                   if isinstance(known[name], str)]
        if lacking:
            result["not_compared"].append({**names, "reason": " ".join(lacking)})
            continue
        result["compared"].append({**names, "train_images": len(known[train].names),
                                   "test_images": len(known[test].names)})
        result["pairs"] += [{**names, **same} for same in compare(known[train], known[test])]
    return result
