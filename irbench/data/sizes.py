"""How large a set's images are, from the headers of their files, and the memory that a cell needs.

Reads headers only; writes nothing. A workflow asks for the memory of its jobs (``mem_mb``).

Try: ``python -c "from irbench.data import sets, sizes; print(
sizes.largest(sets.get('photos'), 'data'))"``
"""

from __future__ import annotations

from pathlib import Path

from irbench.catalog.datasets import DatasetEntry
from irbench.core.errors import UserError
from irbench.data import sets
from irbench.imaging.images import size_of

BYTES = 30          # per pixel of the result, of a cell without a network (its goal)
PROCESS = 1024      # MB of a process with torch and its libraries


def largest(entry: DatasetEntry, data_root: str | Path) -> int | None:
    """Return the pixels of the largest image of a set; None if it is not present or readable."""
    try:
        files = sets.open_local(entry, data_root).images
    except UserError:
        return None
    return max((size_of(file.path) for file in files), default=None)


def memory_mb(pixels: int | None, scale: float = 1) -> int:
    """Return the megabytes that a cell needs beside its network.

    Args:
        pixels: of the largest image (``largest``); None if unknown.
        scale: side of the result / side of that image; above 1 only if the set's images are inputs.
    """
    return PROCESS + round(BYTES * (pixels or 0) * scale**2 / 10**6)
