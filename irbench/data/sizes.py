"""How large the images of a set are: from the headers of its files, or as the catalog states it.

Reads headers only; writes nothing. The memory that a cell asks for follows from it, and what a run
will cost (``irbench plan --cost``).

Try: ``python -c "from irbench.data import sets, sizes; print(
sizes.largest(sets.get('photos'), 'data'))"``
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from irbench.catalog.datasets import DatasetEntry
from irbench.core.errors import UserError
from irbench.data import sets
from irbench.imaging.images import size_of


@dataclass(frozen=True)
class ImageSizes:
    """The pixels of a set's images: the inputs of pairs, otherwise the clean images.

    Attributes:
        count: how many images there are.
        total: the pixels of all of them.
        largest: the pixels of the largest one.
        source: where these numbers come from, in words.
    """

    count: int
    total: int
    largest: int
    source: str


def known(entry: DatasetEntry, data_root: str | Path) -> ImageSizes | None:
    """Return how large the images of a set are; None if it is not present and nobody states it."""
    try:
        here = sets.open_local(entry, data_root)
        role = "input" if entry.paired else "hr"
        pixels = _pixels(tuple(file.path for file in here.role(role)))
    except UserError:
        pixels = ()
    if pixels and all(pixels):
        return ImageSizes(len(pixels), sum(pixels), max(pixels), "its files")
    count, _ = sets.extent(entry, data_root)
    if entry.pixels and count:
        return ImageSizes(count, entry.pixels["all"], entry.pixels["largest"], "the catalog")
    return None


def largest(entry: DatasetEntry, data_root: str | Path) -> int | None:
    """Return the pixels of the largest image of a set, in any role; None if that is not known."""
    try:
        paths = tuple(file.path for file in sets.open_local(entry, data_root).images)
    except UserError:
        return entry.pixels.get("largest")
    return max(_pixels(paths), default=0) or None


@functools.cache    # a workflow asks for each cell
def _pixels(paths: tuple[Path, ...]) -> tuple[int, ...]:
    return tuple(map(size_of, paths))
