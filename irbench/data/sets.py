"""Datasets: which exist, which files they have, where these are, and their checked bytes.

Reads   ``catalog/datasets.yaml`` and users' own catalogs of the same form
(``irbench.catalog.datasets``),
        the manifests they name (``irbench.catalog.manifest``), and the files below ``data_root``.
Writes  nothing itself; ``irbench.data.folders`` writes the lists of files that sets are held to,
        and ``irbench.data.obtain`` gets what is missing.

A file has a role: ``hr`` (the clean image, the target), ``input`` (the degraded image of a pair),
``lr_x2`` (the low-resolution image that authors ship), or ``weights``. A name is the file's name
without its suffix.

Try: ``python -c "from irbench.data import sets; print(*sets.catalog())"``
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from irbench.catalog import datasets, reader
from irbench.catalog.datasets import TASKS, USES, DatasetEntry
from irbench.catalog.manifest import UNFIT, ManifestRow, read_manifest
from irbench.core.digests import fingerprint
from irbench.core.errors import Damaged, Unavailable, UserError, unknown
from irbench.core.files import expanded, read_bytes
from irbench.data import blocks, folders
from irbench.data import fetch as fetching
from irbench.imaging.images import crop_border, decode

if TYPE_CHECKING:
    import numpy as np

__all__ = ["TASKS", "USES", "Dataset", "DatasetEntry", "ImageFile", "altered", "catalog", "digest",
           "extent", "get", "manifest", "open_local", "place", "state"]


@dataclass(frozen=True)
class ImageFile:
    """A file of a dataset that is present (or, for ``weights``, a checkpoint).

    ``crop`` is how many pixels ``load`` cuts from each side: the targets of some sets of pairs are
    larger than their inputs.
    """

    name: str
    role: str
    path: Path
    sha256: str
    bytes: int
    crop: int = 0

    def read(self) -> bytes:
        """Return the file's bytes.

        Raises Unavailable if they cannot be read, Damaged if they differ from the manifest.
        """
        try:
            data = read_bytes(self.path)
        except OSError as error:
            raise Unavailable(f"{self.path}: {error.strerror}. Fetch the dataset again: "
                              "irbench data fetch NAME.") from None
        found = hashlib.sha256(data).hexdigest()
        if found != self.sha256:
            raise Damaged(
                f"{self.path}: the file has changed: expected {self.bytes} bytes with sha256 "
                f"{self.sha256}, found {len(data)} bytes with sha256 {found}. irbench data check "
                "NAME finds all such files; irbench data fetch NAME replaces those that can be "
                "fetched. For a folder of your own start a new run: the old scores belong to the "
                "old file.")
        return data

    def load(self) -> np.ndarray:
        """Decode the checked bytes: uint8 (H, W, C) in [0, 255], C = 1 (gray) or 3 (RGB).

        Raises as ``read``, and Damaged if the bytes cannot be decoded as an image. Then its set
        has no result.
        """
        data = self.read()
        try:
            return crop_border(decode(data, str(self.path)), self.crop)
        except UserError as error:
            raise Damaged(str(error)) from None


@dataclass(frozen=True)
class Dataset:
    """A dataset whose files are present. ``images`` is sorted by role, then by name.

    ``match`` is the catalog entry's: the part of a name that ``pairs`` ignores.
    """

    name: str
    images: tuple[ImageFile, ...]
    match: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that have files, sorted."""
        return tuple(sorted({image.role for image in self.images}))

    def role(self, role: str) -> list[ImageFile]:
        """Return the files of one role, sorted by name. Raises UserError if there are none."""
        if role not in self.roles:
            raise unknown("role", role, self.roles, f"dataset {self.name!r}")
        return [image for image in self.images if image.role == role]

    def pairs(self) -> list[tuple[ImageFile, ImageFile]]:
        """Return the pairs (input, target), matched by name and sorted by the input's name.

        Raises:
            UserError: the set has no role ``input``.
            Unavailable: an image has no partner; it is named.
        """
        inputs, targets = self.role("input"), self.role("hr")
        pairs, problems = folders.pair([i.name for i in inputs], [t.name for t in targets],
                                     self.match)
        if problems:
            raise Unavailable(f"dataset {self.name!r}: {'; '.join(problems)}. Only complete sets "
                              "are scored: add the missing files.")
        return [(inputs[i], targets[j]) for i, j in pairs]


# -- the catalog -------------------------------------------------------------------------------

def catalog(catalog_paths: Iterable[str | Path] = (),
            data_root: str | Path = "data") -> dict[str, DatasetEntry]:
    """Return every known dataset by name: the built-in ones, then those of users' catalogs.

    Args:
        catalog_paths: folders that hold a ``datasets.yaml``, or YAML files with a section
            ``datasets:``. Paths inside a catalog are relative to its file.
        data_root: the folder below which ``manual`` and ``archive`` sets lie.

    Raises:
        UserError: a catalog that cannot be read, an invalid entry, or a duplicate name.
    """
    root = _root(data_root)
    found: dict[str, DatasetEntry] = {}
    catalog_paths = tuple(catalog_paths)
    tasks = _tasks(catalog_paths)
    for path in reader.files("datasets", catalog_paths):
        for name, fields in reader.section(path, "datasets").items():
            entry = datasets.parse(path, name, fields, root, tasks)
            if name in found:
                raise UserError(f"{path}: the dataset name {name!r} is already taken by "
                                f"{found[name].catalog}. Rename one of them.")
            found[name] = entry
    return found


def _tasks(catalog_paths: Iterable[str | Path]) -> tuple[str, ...]:
    """Return irbench's tasks and those of the protocols in users' catalogs."""
    own = (str(key).partition("-")[0] for path in reader.files("protocols", catalog_paths)[1:]
           for key in reader.section(path, "protocols"))
    return tuple(dict.fromkeys((*TASKS, *own)))


def get(name: str, catalog_paths: Iterable[str | Path] = (),
        data_root: str | Path = "data") -> DatasetEntry:
    """Return one entry of the catalog. Raises UserError with near names if there is none."""
    known = catalog(catalog_paths, data_root)
    if name not in known:
        raise unknown("dataset", name, known)
    return known[name]


# -- the files of a dataset --------------------------------------------------------------------

def manifest(entry: DatasetEntry) -> list[ManifestRow]:
    """Return the files of a dataset, sorted by role and name.

    The files of a user's own folder are looked up and hashed now. Those of a ``manual`` or
    ``archive`` set are pinned when the set is first found complete, which may be now.

    Raises:
        UserError: a manifest that cannot be read or has a bad line, which is named; or two files
            of one role with the same name.
        Unavailable: a set without a manifest is missing or not complete; states how to get it.
    """
    rows = folders.rows(entry) if entry.manifest is None else read_manifest(entry.manifest)
    return sorted(rows, key=lambda row: (row.role, row.name))


def digest(entry: DatasetEntry, rows: Sequence[ManifestRow] | None = None) -> str:
    """Return the SHA-256 (hex) of a dataset's content.

    The digest covers role, file name and sha256 of every file and, for a paired set, which input
    belongs to which target, and how far targets are cropped. URLs, paths and the
    order of lines have no influence.

    Args:
        entry: the dataset.
        rows: its ``manifest``, if the caller has it already.

    Raises as ``manifest``.
    """
    rows = manifest(entry) if rows is None else rows
    content: object = sorted([row.role, row.file, row.sha256] for row in rows)
    inputs, targets = ([row.name for row in rows if row.role == role] for role in ("input", "hr"))
    if inputs:
        pairs, _ = folders.pair(inputs, targets, entry.match)
        content = {"files": content, "pairs": sorted([inputs[i], targets[j]] for i, j in pairs),
                   **({"target_crop": entry.target_crop} if entry.target_crop else {})}
    return fingerprint(content)


# -- on this machine ---------------------------------------------------------------------------

def open_local(entry: DatasetEntry, data_root: str | Path) -> Dataset:
    """Return a dataset whose files are all present, without any download.

    Presence and size are checked; the content is checked when an image is loaded. Raises
    Unavailable with the missing files and how to get them; Damaged if a file has another size.
    """
    entry = at(entry, data_root)
    rows = manifest(entry)
    places = [place(entry, row) for row in rows]
    lacking = [path for row, path in zip(rows, places, strict=True) if not _has(path, row)]
    if lacking:
        accept = (f" If the change is meant: {entry.command('check NAME --accept')}"
                  if entry.frozen else "")
        wrong = Damaged if any(path.is_file() for path in lacking) else Unavailable
        raise wrong(f"{entry}: {len(lacking)} of {len(rows)} files are missing or have the "
                    f"wrong size, first {lacking[0]}. {folders.advice(entry)}{accept}")
    return dataset(entry, rows, places)


def altered(entry: DatasetEntry, anew: bool = True) -> list[Path]:
    """Return the files of a set that are present and do not match their digest.

    Every file is read, or without ``anew`` only those that changed since they were hashed. Raises
    as ``manifest``.
    """
    rows = [(path, row) for row in manifest(entry) if (path := place(entry, row)).is_file()]
    hash_all = folders.digest_anew if anew else folders.digest_all
    digests = hash_all([path for path, _ in rows], entry.name)
    return [path for (path, row), sha256 in zip(rows, digests, strict=True)
            if sha256 != row.sha256]


def state(entry: DatasetEntry, data_root: str | Path) -> str:
    """Return how much of a dataset is present, by presence and size; hashes nothing.

    ``complete``, ``partial 3/14``, ``absent``; for a ``manual`` or ``archive`` set also
    ``unchecked`` (the expected number of files, not pinned yet) or ``3 of 14 expected``; for a
    folder also ``incomplete`` (pairs, images that no pattern takes) and ``unusable``; for images
    inside MATLAB files also ``not unpacked``.
    ``irbench data check`` shows details.
    """
    entry = at(entry, data_root)
    try:
        if entry.blocks and not entry.home.is_dir() and any(blocks.files(entry).values()):
            return "not unpacked"
        rows = folders.frozen(entry) if entry.frozen else None
        if entry.manifest is not None:
            rows = manifest(entry)
        if rows is None:
            return _looked_up(entry)
        count = sum(_has(place(entry, row), row) for row in rows)
        strays = entry.frozen and bool(folders.left_out(entry))
    except Unavailable:
        return "absent"
    if count == len(rows):
        return "incomplete" if strays else "complete"
    return f"partial {count}/{len(rows)}" if count else "absent"


def extent(entry: DatasetEntry, data_root: str | Path) -> tuple[int | None, int | None]:
    """Return the number of images (or pairs) of a set and their bytes; None for unknown values.

    Hashes nothing. Raises UserError if a manifest cannot be read.
    """
    entry = at(entry, data_root)
    try:
        if entry.kind == "local":
            try:
                found = folders.look_up(entry)
            except UserError:
                return None, None
            paths = [path for paths in found.values() for path in paths]
            if not paths:
                return None, None
            return (len(found.get("input", found["hr"])),
                    sum(path.stat().st_size for path in paths))
        rows = manifest(entry) if entry.manifest is not None else folders.frozen(entry)
    except Unavailable:
        rows = None
    if rows is None:
        sizes = [archive.bytes for archive in entry.archives]
        return entry.count, sum(sizes) if sizes and None not in sizes else None
    role = "input" if entry.paired else "hr" if entry.use != "weights" else "weights"
    return sum(row.role == role for row in rows), sum(row.bytes for row in rows)


def _looked_up(entry: DatasetEntry) -> str:
    try:
        found = folders.look_up(entry)
    except UserError:  # such as two files of one name; irbench data check shows the reason
        return "unusable"
    count = len(found.get("input", found["hr"]))
    if not count:
        return "absent"
    if entry.count is not None and count != entry.count:
        return f"{count} of {entry.count} expected"
    if not entry.frozen:
        return "incomplete" if folders.shortcomings(entry, found) else "complete"
    return "unchecked"


def at(entry: DatasetEntry, data_root: str | Path) -> DatasetEntry:
    """Return the entry with its data below another folder."""
    return replace(entry, root=_root(data_root))


def _root(data_root: str | Path) -> Path:
    if UNFIT.search(str(data_root)):
        raise UserError(f"data_root {str(data_root)!a}: bytes that are not UTF-8, or control "
                        "characters, are in the path. Choose another folder.")
    return expanded(data_root)


def place(entry: DatasetEntry, row: ManifestRow) -> Path:
    """Return the path that a file of a set has, or will have."""
    return fetching.location(row.url) or entry.root / entry.name / row.role / row.file


def _has(path: Path, row: ManifestRow) -> bool:
    try:
        return path.is_file() and path.stat().st_size == row.bytes
    except OSError:
        return False


def dataset(entry: DatasetEntry, rows: Sequence[ManifestRow], places: Sequence[Path]) -> Dataset:
    """Return a dataset of files that are here, from its manifest and the place of each row."""
    return Dataset(entry.name, tuple(
        ImageFile(row.name, row.role, path, row.sha256, row.bytes,
                  entry.target_crop if row.role == "hr" else 0)
        for row, path in zip(rows, places, strict=True)), entry.match)
