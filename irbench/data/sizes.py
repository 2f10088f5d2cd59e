"""How large the images of a set are, from the headers of their files.

Reads headers only; writes nothing. The memory that a cell asks for follows from it.

Try: ``python -c "from irbench.data import sets, sizes; print(
sizes.largest(sets.get('photos'), 'data'))"``
"""

from __future__ import annotations

import functools
from pathlib import Path

from irbench.catalog.datasets import DatasetEntry
from irbench.core.errors import UserError
from irbench.data import sets
from irbench.imaging.images import size_of


def largest(entry: DatasetEntry, data_root: str | Path) -> int | None:
    """Return the pixels of the largest image of a set; None if it is not present or readable."""
    try:
        paths = tuple(file.path for file in sets.open_local(entry, data_root).images)
    except UserError:
        return None
    return _most(paths) or None


@functools.cache    # a workflow asks for each cell
def _most(paths: tuple[Path, ...]) -> int:
    return max(map(size_of, paths), default=0)
