"""Images inside MATLAB files, such as the blocks of SIDD and DND: unpacked to PNG files.

Reads   the .mat files of a set (``irbench.catalog.blocks``): one array of images each, uint8, or
        floating-point values in [0, 1], (..., height, width, 3); and, with ``boxes``, the field
        ``boundingboxes`` of the struct ``info``: for each file rows of top, left, bottom, right,
        counted from 1, the ends included.
Writes  ``<data_root>/blocks/NAME/{hr,input}/*.png``, all or none, and beside them the digests of
        the .mat files. While these are the same nothing is written again; they may be deleted.

Files of version 7.3 are HDF5, which only the package h5py reads; it is not a dependency.

Try: ``irbench data fetch sidd_validation``
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from irbench.catalog.blocks import ROLES
from irbench.catalog.datasets import WILDCARD, DatasetEntry
from irbench.core import locks, messages
from irbench.core.digests import known_digests
from irbench.core.errors import Damaged, Unavailable, UserError
from irbench.core.files import open_file
from irbench.data import tree
from irbench.imaging.images import to_uint8, write_png

MARK = "unpacked.json"          # only a folder that holds this file is ever replaced
HDF5 = b"MATLAB 7.3 MAT-file"
LARGEST = 4 * 10**9             # bytes of an array in memory
TYPES = {"uint8": 1, "single": 4, "double": 8}      # MATLAB's name -> bytes of a value


def files(entry: DatasetEntry) -> dict[str, list[Path]]:
    """Return role -> the .mat files of a set, sorted by name; a role may have none.

    Raises Unavailable if a folder cannot be read.
    """
    blocks = entry.blocks
    roles = [role for role in ROLES if getattr(blocks, role)]
    try:
        found = tree.find(_folder(entry), [getattr(blocks, role) for role in roles])
    except OSError as error:
        raise Unavailable(f"dataset {entry.name!r}: {error.filename}: {error.strerror}.") from None
    return dict(zip(roles, found, strict=True))


def outdated(entry: DatasetEntry) -> str:
    """Return why the images of a set must be unpacked, "" if they need not be, or cannot be.

    Without .mat files the images that were unpacked before stay valid. Raises as ``files``.
    """
    found = files(entry)
    if not any(found.values()):
        return ""
    try:
        noted = json.loads((entry.home / MARK).read_text())
    except (OSError, ValueError):
        return "its .mat files are not unpacked"
    return "" if noted == _state(entry, found) else "its .mat files changed since"


def unpack(entry: DatasetEntry) -> None:
    """Write the images inside a set's .mat files, unless this was done already.

    Raises:
        Unavailable: a role has no file, a file needs h5py, or the images cannot be written.
        Damaged: a file cannot be read, or holds no images.
    """
    if not outdated(entry):
        return
    found, home = files(entry), entry.home
    if home.exists() and not (home / MARK).is_file():
        raise Unavailable(f"dataset {entry.name!r}: {home} exists and was not made by irbench, so "
                          "it is not replaced. Move it away.")
    fresh = home.with_name(f".{home.name}.unpacking")
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        with home.with_name(f".{home.name}.lock").open("a") as handle:
            locks.lock(handle, wait=True)
            if not outdated(entry):     # another process was faster
                return
            shutil.rmtree(fresh, ignore_errors=True)
            for role, paths in found.items():
                if not paths:
                    raise Unavailable(f"dataset {entry.name!r}: {getattr(entry.blocks, role)} "
                                      f"names no file in {_folder(entry)}.")
                for name, image in messages.track(_named(entry, role, paths),
                                                  f"unpacking {role} of {entry.name}", entry.count):
                    write_png(fresh / role / f"{name}.png", image)
            (fresh / MARK).write_text(json.dumps(_state(entry, found)))
            shutil.rmtree(home, ignore_errors=True)
            fresh.replace(home)
    except (OSError, UserError) as error:
        shutil.rmtree(fresh, ignore_errors=True)
        if isinstance(error, Unavailable):
            raise
        raise Unavailable(f"dataset {entry.name!r}: the images cannot be written to {home}: "
                          f"{getattr(error, 'strerror', None) or error}") from None


def _folder(entry: DatasetEntry) -> Path:
    return (entry.root / entry.blocks.folder).absolute()


def _state(entry: DatasetEntry, found: dict[str, list[Path]]) -> dict:
    """Return what the unpacked images depend on."""
    folder, boxes = _folder(entry), entry.blocks.boxes
    paths = {f"{role}/{path.relative_to(folder).as_posix()}": path
             for role, several in found.items() for path in several}
    if boxes and (folder / boxes).is_file():
        paths["boxes"] = folder / boxes
    return dict(zip(paths, known_digests(paths.values()), strict=True))


# -- images ----------------------------------------------------------------------------------------

def _named(entry: DatasetEntry, role: str, paths: list[Path]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each image, uint8 (H, W, 3), with its name.

    A name is the file's, if the pattern may choose several; then the place in the array, and the
    number of the box, each counted from 1: ``01_32``, ``0007_20``.
    """
    boxes = entry.blocks.boxes
    parts = _boxes(_folder(entry) / boxes, len(paths)) if boxes else [None] * len(paths)
    several = WILDCARD.search(getattr(entry.blocks, role))
    for path, part in zip(paths, parts, strict=True):
        array = images(path)
        outer = array.shape[:-3]
        for place in itertools.product(*map(range, outer)):
            digits = [f"{i + 1:0{max(2, len(str(n)))}d}" for i, n in zip(place, outer, strict=True)]
            name = "_".join([path.stem] * bool(several or not digits) + digits)
            image = _eight_bits(array[place], path)
            if part is None:
                yield name, image
                continue
            for number, box in enumerate(part, 1):
                yield f"{name}_{number:02d}", _cut(image, box, entry.blocks.boxes, name)


def _cut(image: np.ndarray, box: np.ndarray, where: str, name: str) -> np.ndarray:
    height, width = image.shape[:2]
    top, left, bottom, right = (int(side) for side in box)
    if not (1 <= top <= bottom <= height and 1 <= left <= right <= width):
        raise Damaged(f"{where}: the box {top}, {left}, {bottom}, {right} is not inside the image "
                      f"{name} of {height}x{width} pixels.")
    return np.ascontiguousarray(image[top - 1:bottom, left - 1:right])


def _eight_bits(image: np.ndarray, path: Path) -> np.ndarray:
    """Return uint8 (H, W, 3); floating-point values are rounded to 8 bits."""
    if image.dtype == np.uint8:
        return np.ascontiguousarray(image)
    low, high = float(image.min()), float(image.max())
    if not (low >= 0 and high <= 1):    # also for NaN
        raise Damaged(f"{path}: values from {low:g} to {high:g}. Valid: uint8, or floating-point "
                      "values from 0 to 1.")
    return to_uint8(image)


# -- MATLAB's files --------------------------------------------------------------------------------

def images(path: Path) -> np.ndarray:
    """Return the one array of images of a .mat file, (..., height, width, 3), uint8 or float.

    Raises:
        Unavailable: the file needs the package h5py.
        Damaged: it cannot be read, or holds no such array or several.
    """
    reader = _reader(path)
    with _reading(path):
        listed = reader.arrays()
    fitting = [name for name, (shape, kind) in listed.items()
               if kind in TYPES and len(shape) >= 3 and shape[-1] == 3 and 0 not in shape]
    if len(fitting) != 1:
        raise Damaged(f"{path}: {len(fitting)} arrays of images in it. Valid: one array of uint8, "
                      "single or double whose last dimension is 3. It holds: " + (
                          "; ".join(f"{name} ({kind}, {'x'.join(map(str, shape))})"
                                    for name, (shape, kind) in listed.items()) or "nothing") + ".")
    shape, kind = listed[fitting[0]]
    if (size := TYPES[kind] * math.prod(shape)) > LARGEST:
        raise Damaged(f"{path}: its array has {size / 1e9:.0f} GB; at most {LARGEST / 1e9:.0f} GB "
                      "are read.")
    with _reading(path):
        array = reader.array(fitting[0])
    if array.dtype.kind not in "uf":
        raise Damaged(f"{path}: the values of {fitting[0]} are {array.dtype.name}. Valid: uint8, "
                      "single or double, not complex.")
    return array


def _boxes(path: Path, count: int) -> list[np.ndarray]:
    """Return the boxes of each image, (boxes, 4) each, from the struct ``info``."""
    if not path.is_file():
        raise Unavailable(f"{path}: no such file. It says which parts of the images are taken.")
    reader = _reader(path)
    with _reading(path):
        found = reader.boxes()
    for one in found:
        if one.dtype.kind not in "uif" or not (np.isfinite(one) & (one == np.round(one))).all():
            raise Damaged(f"{path}: info.boundingboxes holds values that are not whole numbers. "
                          "Valid: rows of top, left, bottom, right in pixels, counted from 1.")
    if len(found) != count or any(one.ndim != 2 or one.shape[1] != 4 for one in found):
        raise Damaged(f"{path}: info.boundingboxes is for {len(found)} images of shape "
                      f"{', '.join(sorted({str(one.shape) for one in found})) or 'none'}; valid: "
                      f"(boxes, 4) for each of the {count} files of images.")
    return found


def _reader(path: Path) -> _Matlab7 | _Matlab73:
    """Return the reader for a file's version. Raises Unavailable if it needs h5py."""
    try:
        with open_file(path) as handle:
            hdf5 = handle.read(len(HDF5)) == HDF5
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror}.") from None
    if not hdf5:
        return _Matlab7(path)
    if find_spec("h5py") is None:
        raise Unavailable(f"{path}: a MATLAB file of version 7.3 (HDF5), which needs the package "
                          "h5py: pip install h5py. Or save it again in MATLAB with save(..., "
                          "'-v7').")
    return _Matlab73(path)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn every error of a file's parser into Damaged."""
    try:
        yield
    except Exception as error:  # scipy and h5py raise many kinds for damaged files
        raise Damaged(f"{path}: not a MATLAB file that can be read, or not as expected "
                      f"({type(error).__name__}: {' '.join(str(error).split())[:200]}). Get it "
                      "again.") from None


class _Matlab7:
    """A file of a version before 7.3, read by SciPy."""

    def __init__(self, path: Path) -> None:
        """Read nothing yet."""
        self.path = path

    def arrays(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Return variable -> (shape, MATLAB's type)."""
        from scipy import io

        return {name: (tuple(shape), kind) for name, shape, kind in io.whosmat(self.path)}

    def array(self, name: str) -> np.ndarray:
        """Return one variable."""
        from scipy import io

        return io.loadmat(self.path, variable_names=[name])[name]

    def boxes(self) -> list[np.ndarray]:
        """Return ``boundingboxes`` of each element of the struct ``info``."""
        return [np.asarray(one) for one in self.array("info")["boundingboxes"].ravel()]


class _Matlab73:
    """A file of version 7.3, read by h5py; its arrays have their dimensions in reverse order."""

    def __init__(self, path: Path) -> None:
        """Read nothing yet."""
        self.path = path

    def arrays(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Return variable -> (shape, MATLAB's type)."""
        import h5py

        with h5py.File(self.path, "r") as held:
            return {name: (one.shape[::-1], _type(one)) for name, one in held.items()
                    if isinstance(one, h5py.Dataset)}

    def array(self, name: str) -> np.ndarray:
        """Return one variable."""
        import h5py

        with h5py.File(self.path, "r") as held:
            return held[name][()].T

    def boxes(self) -> list[np.ndarray]:
        """Return ``boundingboxes`` of each element of the struct ``info``."""
        import h5py

        with h5py.File(self.path, "r") as held:
            field = held["info"]["boundingboxes"]
            if field.dtype != h5py.ref_dtype:   # a struct of one element has the values themselves
                return [field[()].T]
            return [held[one][()].T for one in field[()].ravel()]


def _type(dataset) -> str:
    kind = dataset.attrs.get("MATLAB_class", b"")
    return kind.decode() if isinstance(kind, bytes) else str(kind)
