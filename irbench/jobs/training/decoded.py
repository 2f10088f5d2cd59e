"""Training images decoded once: flat uint8 files that are mapped into memory, with a checksum.

Decoding a JPEG of 481x321 pixels takes as long as preparing ten training patches from it, so each
set is decoded once per colour. Inputs without randomness (super-resolution) are also computed once,
by the exact bicubic. Many processes map the same file and share its pages.

Reads a dataset's files; writes ``DATA_ROOT/decoded/<dataset>-<key>.u8`` and ``.json`` (names, sizes
and the SHA-256 of the first file). A damaged file is made again; all of them may be deleted at any
time. Unfinished files of killed processes are removed after an hour.

Try: ``python -c "from irbench.jobs.training import decoded; help(decoded.Images)"``
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from irbench.core import digests, files, messages

FORMAT = 1  # version of the files' format
BEGUN = 3600.0  # seconds without a write after which an unfinished file counts as abandoned


class Images:
    """A list of uint8 images (H, W, C) that lie one after another in a mapped file."""

    def __init__(self, path: Path, names: list[str], shapes: list[list[int]]) -> None:
        """Map the file; ``names`` and ``shapes`` come from the index beside it."""
        self.path, self.names, self.shapes = path, names, shapes
        sizes = np.prod(shapes, axis=1, dtype=np.int64) if shapes else np.zeros(0, np.int64)
        self._starts = np.concatenate([[0], np.cumsum(sizes)])
        self._pixels = (np.memmap(path, np.uint8, "r") if path.stat().st_size
                        else np.zeros(0, np.uint8))

    def __len__(self) -> int:
        """The number of images."""
        return len(self.names)

    def __reduce__(self) -> tuple:
        """Let a process that receives the images map the file itself."""
        return Images, (self.path, self.names, self.shapes)

    def __getitem__(self, i: int) -> np.ndarray:
        """Return image i, a read-only view of the file."""
        return self._pixels[self._starts[i]:self._starts[i + 1]].reshape(self.shapes[i])


def obtain(folder: Path, name: str, key: object,
           make: Callable[[], Iterator[tuple[str, np.ndarray]]],
           count: int | None = None) -> Images:
    """Return the decoded images of a set, and create them, with progress, if they do not exist yet.

    Args:
        folder: the folder for the files.
        name: the set's name, used in the files' names.
        key: plain data that determine the pixels.
        make: yields names and uint8 (H, W, C); called if a valid file does not exist.
        count: how many images there are, if that is known: it tells the time left.
    """
    stem = f"{name}-{digests.fingerprint([FORMAT, key])[:16]}"
    path, index = folder / f"{stem}.u8", folder / f"{stem}.json"
    about = _read(path, index)
    if about is None:
        messages.say(f"{name}: decoding into {path}")
        about = _write(path, index, messages.track(make(), f"decode {name}", count))
    return Images(path, about["names"], about["shapes"])


def _write(path: Path, index: Path, images: Iterator[tuple[str, np.ndarray]]) -> dict:
    sweep(path.parent, path.suffix)
    names, shapes = [], []
    with files.atomic_path(path) as temporary:
        with temporary.open("wb") as handle:
            for name, image in images:
                names.append(name)
                shapes.append(list(image.shape))
                handle.write(np.ascontiguousarray(image).data)
        digest = digests.file_digest(temporary)
    about = {"names": names, "shapes": shapes, "sha256": digest}
    # the index is written last: without it, or with another checksum, the pixels are not used
    files.write_json(index, about)
    return about


def sweep(folder: Path, suffix: str) -> None:
    """Remove unfinished files of killed processes, but not of one that may still be writing."""
    for begun in folder.glob(f".*{suffix}"):
        with contextlib.suppress(OSError):  # already removed, or owned by another user
            if time.time() - begun.stat().st_mtime > BEGUN:
                begun.unlink()


def _read(path: Path, index: Path) -> dict | None:
    """Return the index if both files exist and belong together."""
    try:
        about = json.loads(index.read_text())
        return about if digests.file_digest(path) == about["sha256"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
