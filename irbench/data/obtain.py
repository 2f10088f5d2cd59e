"""Get a dataset: download what is missing, check every file, and return the set, ready to read.

Reads   the files of sets below ``data_root``, and what the catalog's URLs serve.
Writes  fetched files below ``data_root``, through ``irbench.data.fetch`` and
        ``irbench.data.archives``; and the list of files that a set is held to, once the set is
        found whole (``irbench.data.check``).

Try: ``irbench data fetch photos``
"""

from __future__ import annotations

from pathlib import Path

from irbench.catalog.datasets import DatasetEntry
from irbench.core.errors import Unavailable
from irbench.data import archives, blocks, check, folders, sets
from irbench.data import fetch as fetching
from irbench.data.sets import Dataset


def fetch(entry: DatasetEntry, data_root: str | Path, progress: bool = True,
          **options: object) -> Dataset:
    """Download what is missing, check every file's SHA-256, and return the dataset.

    Args:
        entry: the dataset.
        data_root: files of a manifest go to ``<data_root>/<dataset>/<role>/<file>``, except those
            that come with a package; what an archive holds goes to ``<data_root>/<dataset>/``,
            images inside MATLAB files to ``<data_root>/blocks/<dataset>/``. A
            folder of the user's own stays where it is, and no program can fetch a ``manual`` set.
        progress: report the progress of the download on stderr.
        options: of ``irbench.data.fetch.fetch_all`` (jobs, attempts, backoff, timeout, mirror).

    Raises as ``irbench.data.fetch.fetch_all``, ``irbench.data.archives.fetch`` and
    ``irbench.data.sets.manifest``.
    """
    entry = sets.at(entry, data_root)
    if entry.blocks:
        blocks.unpack(entry)
    if entry.kind == "archive" and _lacking(entry):
        archives.fetch(entry.archives, entry.home, entry.root / "archives" / entry.name,
                       lambda: _complete(entry), name=entry.name, progress=progress, **options)
    if entry.frozen and folders.frozen(entry) is None:
        _hold(entry)
    if entry.manifest is None:
        return sets.open_local(entry, data_root)
    rows = sets.manifest(entry)
    files = [fetching.RemoteFile(row.url, sets.place(entry, row), row.sha256, row.bytes,
                                 f"{entry.name}/{row.role}/{row.file}") for row in rows]
    places = fetching.fetch_all(files, label=entry.name, progress=progress, **options)
    return sets.dataset(entry, rows, places)


def obtain(entry: DatasetEntry, data_root: str | Path) -> Dataset:
    """Open a dataset; what is missing (deleted since it was fetched, say) is fetched first.

    Raises as ``fetch``.
    """
    try:
        return sets.open_local(entry, data_root)
    except Unavailable:
        if entry.kind in ("manual", "local") and not entry.blocks:
            raise  # no program can fetch it
        return fetch(entry, data_root)


def _hold(entry: DatasetEntry) -> None:
    """Check a set for the first time, every file of it; once whole it is held to what it is.

    Raises Unavailable with all that is wrong.
    """
    folders.require(entry)
    result = check.check(entry, entry.root)
    if result.problems:
        raise Unavailable(f"{folders.title(entry)}: {'; '.join(result.problems)}. {result.get}")


def _lacking(entry: DatasetEntry) -> bool:
    try:
        _complete(entry)
    except Unavailable:
        return True
    return False


def _complete(entry: DatasetEntry) -> None:
    """Raise Unavailable unless a set is here and whole; check it, if for the first time."""
    sets.open_local(entry, entry.root)
    if folders.frozen(entry) is None:
        _hold(entry)
