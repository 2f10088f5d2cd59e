"""Datasets as data: which exist, what files they have, where those are, and their bytes, checked.

Reads   ``catalog/datasets.yaml`` and users' own catalogs of the same form, the manifests they name
        (see ``irbench.manifests``), and the files under ``<data_root>/<dataset>/<role>/``.
Writes  nothing itself; ``fetch`` has ``irbench.fetch`` write below ``data_root``.

A role is what a file is for: ``hr`` (the clean image), ``lr_x2`` (what authors ship as its
low-resolution image), ``weights``. A name is the file's name without its suffix.

Try: ``python -c "from irbench import datasets; print(*datasets.catalog())"``
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from irbench import catalogs
from irbench import fetch as fetching
from irbench.errors import Unavailable, UserError, unknown
from irbench.manifests import NAME, ManifestRow, read_manifest
from irbench.records import file_digest, fingerprint

if TYPE_CHECKING:
    import numpy as np

USES = ("test", "train", "weights")
TASKS = ("sr", "denoise_gray", "denoise_color", "jpeg_gray", "jpeg_color", "demosaic", "deblur",
         "derain", "lowlight", "weather")
REQUIRED = {"title", "use"}
OPTIONAL = {"tasks", "manifest", "local", "source", "terms", "notes"}
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class DatasetEntry:
    """One entry of a catalog: either ``manifest`` or ``folder`` is set.

    ``tasks`` says what the set is customarily used for; ``catalog`` is the file that defines it.
    """

    name: str
    title: str
    use: str
    catalog: Path
    tasks: tuple[str, ...] = ()
    manifest: Path | None = None
    folder: Path | None = None
    pattern: str | None = None
    source: str = ""
    terms: str = ""
    notes: str = ""

    def __str__(self) -> str:
        """Return the name with the place of its definition, for messages."""
        return f"dataset {self.name!r} ({self.catalog})"


@dataclass(frozen=True)
class ImageFile:
    """A file of a dataset that is present (or, for ``weights``, a checkpoint)."""

    name: str
    role: str
    path: Path
    sha256: str
    bytes: int

    def read(self) -> bytes:
        """Return the file's bytes. Raises Unavailable if they are not those of the manifest."""
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise Unavailable(f"{self.path}: {error.strerror}. Fetch the dataset again: "
                              "irbench data fetch NAME.") from None
        found = hashlib.sha256(data).hexdigest()
        if found != self.sha256:
            raise Unavailable(
                f"{self.path}: the file has changed: expected {self.bytes} bytes with sha256 "
                f"{self.sha256}, found {len(data)} bytes with sha256 {found}. Fetch the dataset "
                "again (irbench data fetch NAME replaces it) or, for a folder of your own, start "
                "a new run: the old scores belong to the old file.")
        return data

    def load(self) -> np.ndarray:
        """Decode the checked bytes: uint8 (H, W, C) in [0, 255], C = 1 (gray) or 3 (RGB).

        Raises Unavailable if the file changed, UserError if it is no image.
        """
        from irbench.images import decode

        return decode(self.read(), str(self.path))


@dataclass(frozen=True)
class Dataset:
    """A dataset whose files are present. ``images`` is sorted by role, then by name."""

    name: str
    images: tuple[ImageFile, ...]

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that have files, sorted."""
        return tuple(sorted({image.role for image in self.images}))

    def role(self, role: str) -> list[ImageFile]:
        """Return the files of one role, sorted by name. Raises UserError if there are none."""
        if role not in self.roles:
            raise unknown("role", role, self.roles, f"dataset {self.name!r}")
        return [image for image in self.images if image.role == role]


# -- the catalog -------------------------------------------------------------------------------

def catalog(catalog_paths: Iterable[str | Path] = ()) -> dict[str, DatasetEntry]:
    """Return every known dataset by name: the built-in ones, then those of users' catalogs.

    Args:
        catalog_paths: folders that hold a ``datasets.yaml``, or YAML files with a section
            ``datasets:``. Paths inside a catalog are relative to its file.

    Raises:
        UserError: a catalog that cannot be read, a bad entry, or a name that is taken.
    """
    found: dict[str, DatasetEntry] = {}
    for path in catalogs.files("datasets", catalog_paths):
        for name, fields in catalogs.section(path, "datasets").items():
            entry = _entry(path, name, fields)
            if name in found:
                raise UserError(f"{path}: the dataset name {name!r} is already taken by "
                                f"{found[name].catalog}. Rename one of them.")
            found[name] = entry
    return found


def get(name: str, catalog_paths: Iterable[str | Path] = ()) -> DatasetEntry:
    """Return one entry of the catalog. Raises UserError with near names if there is none."""
    known = catalog(catalog_paths)
    if name not in known:
        raise unknown("dataset", name, known)
    return known[name]


def _entry(path: Path, name: object, fields: object) -> DatasetEntry:
    where = f"{path}: dataset {name!r}"
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise UserError(f"{where}: not a valid name, for it becomes a folder. Valid: lower-case "
                        "letters, digits and _ . -, beginning with a letter or digit, in quotes "
                        "if it is a number.")
    if not isinstance(fields, dict):
        raise UserError(f"{where}: valid is a mapping with {', '.join(sorted(REQUIRED))}, ...")
    for key in fields:
        if key not in REQUIRED | OPTIONAL:
            raise unknown("key", key, REQUIRED | OPTIONAL, where)
    if missing := REQUIRED - set(fields):
        raise UserError(f"{where}: missing {', '.join(sorted(missing))}. Add it.")
    if ("manifest" in fields) == ("local" in fields):
        raise UserError(f"{where}: needs either 'manifest' (a CSV file) or 'local' (a folder).")
    if fields["use"] not in USES:
        raise unknown("use", fields["use"], USES, where)
    tasks = fields.get("tasks") or []
    if not isinstance(tasks, list):
        raise UserError(f"{where}: tasks: valid is a list, such as [sr, jpeg_gray].")
    for task in tasks:
        if task not in TASKS:
            raise unknown("task", task, TASKS, where)
    texts = {key: fields.get(key) or "" for key in ("title", "source", "terms", "notes")}
    for key, text in texts.items():
        if not isinstance(text, str):
            raise UserError(f"{where}: {key}: valid is a text; put {text!r} in quotes.")
    return DatasetEntry(name=name, use=fields["use"], catalog=path, tasks=tuple(tasks), **texts,
                        **_files_of(path, where, fields))


def _files_of(path: Path, where: str, fields: dict) -> dict:
    """Return the fields of an entry that say where its files are listed."""
    def relative(value: object, key: str) -> Path:
        if not isinstance(value, str) or not value:
            raise UserError(f"{where}: {key}: valid is a path, relative to the catalog file or "
                            "absolute.")
        return path.parent / Path(value).expanduser()

    if "manifest" in fields:
        return {"manifest": relative(fields["manifest"], "manifest")}
    local = fields["local"]
    if not isinstance(local, dict) or "folder" not in local:
        raise UserError(f"{where}: local: valid is {{folder: path, pattern: '*.png'}}.")
    for key in local:
        if key not in ("folder", "pattern"):
            raise unknown("key", key, ("folder", "pattern"), f"{where}: local")
    pattern = local.get("pattern")
    if pattern is not None and (not isinstance(pattern, str) or pattern.startswith("/")
                                or ".." in pattern.split("/") or not pattern):
        raise UserError(f"{where}: local: pattern: {pattern!r} is not valid. Valid: such as "
                        "'*.png' or '**/*.png', inside the folder.")
    return {"folder": relative(local["folder"], "local: folder"), "pattern": pattern}


# -- the files of a dataset --------------------------------------------------------------------

def manifest(entry: DatasetEntry) -> list[ManifestRow]:
    """Return the files of a dataset, sorted by role and name.

    For a folder of the user's own they are looked up and hashed now, with role ``hr``.

    Raises:
        UserError: a manifest that cannot be read or has a bad line (named), two files of one role
            with the same name.
        Unavailable: the folder is missing or holds no image.
    """
    if entry.manifest is None:
        rows = [ManifestRow("hr", path.name, path.as_uri(), _hash(path, size, changed), size)
                for path, size, changed in _found(entry)]
    else:
        rows = read_manifest(entry.manifest)
    return sorted(rows, key=lambda row: (row.role, row.name))


def digest(entry: DatasetEntry) -> str:
    """Return the SHA-256 (hex) of a dataset's content: role, file name and sha256 of every file.

    Neither URLs and paths nor the order of lines enter. Raises as ``manifest``.
    """
    return fingerprint(sorted([row.role, row.file, row.sha256] for row in manifest(entry)))


def overlap(one: DatasetEntry, other: DatasetEntry) -> list[str]:
    """Return the files of one dataset whose very bytes are also in another, to catch leaks."""
    theirs = {row.sha256 for row in manifest(other)}
    return [row.file for row in manifest(one) if row.sha256 in theirs]


def _found(entry: DatasetEntry) -> list[tuple[Path, int, int]]:
    """Return path, size and time of change of each image in a local folder."""
    paths = [path for path in entry.folder.resolve().glob(entry.pattern or "*")
             if path.is_file() and not path.name.startswith(".")
             and (entry.pattern or path.suffix.lower() in SUFFIXES)]
    if not paths:
        what = (f"no image matches {entry.pattern or ', '.join(SUFFIXES)} in"
                if entry.folder.is_dir() else "there is no folder")
        raise Unavailable(f"{entry}: {what} {entry.folder}. Put the images there, or correct "
                          "'local' in the catalog.")
    seen: dict[str, Path] = {}
    for path in sorted(paths):
        if (first := seen.setdefault(path.stem.casefold(), path)) != path:
            raise UserError(f"{entry}: {first} and {path} have the same name without suffix, which "
                            "names an image in every result. Rename one of them.")
    return [(path, (stat := path.stat()).st_size, stat.st_mtime_ns) for path in seen.values()]


@functools.cache
def _hash(path: Path, size: int, changed: int) -> str:
    """Return a file's SHA-256; asked again only when size or time of change differ."""
    return file_digest(path)


# -- on this machine ---------------------------------------------------------------------------

def fetch(entry: DatasetEntry, data_root: str | Path, progress: bool = True,
          **options: object) -> Dataset:
    """Download what is missing, check every file's SHA-256, and return the dataset.

    Args:
        entry: the dataset.
        data_root: its files go to ``<data_root>/<dataset>/<role>/<file>``, except those that come
            with a package or lie in a folder of the user's own: they stay where they are.
        progress: show one bar for the set on stderr.
        options: passed to ``irbench.fetch.fetch_all`` (jobs, attempts, backoff, timeout, mirror).

    Raises as ``irbench.fetch.fetch_all`` and ``manifest``.
    """
    rows = manifest(entry)
    files = [fetching.RemoteFile(row.url, _place(entry, row, data_root), row.sha256, row.bytes,
                                 f"{entry.name}/{row.role}/{row.file}") for row in rows]
    places = fetching.fetch_all(files, label=entry.name, progress=progress, **options)
    return _dataset(entry, rows, places)


def open_local(entry: DatasetEntry, data_root: str | Path) -> Dataset:
    """Return a dataset whose files are all here, without any download.

    Presence and size are checked; the content is checked when an image is loaded. Raises
    Unavailable, naming what is missing and the command that fetches it.
    """
    rows = manifest(entry)
    places = [_place(entry, row, data_root) for row in rows]
    lacking = [place for row, place in zip(rows, places, strict=True) if not _has(place, row)]
    if lacking:
        raise Unavailable(f"{entry}: {len(lacking)} of {len(rows)} files are missing or of the "
                          f"wrong size, first {lacking[0]}. Run: irbench data fetch {entry.name}")
    return _dataset(entry, rows, places)


def obtain(entry: DatasetEntry, data_root: Path) -> Dataset:
    """Open a dataset; what is missing (deleted since it was fetched, say) is fetched first.

    Raises as ``fetch``.
    """
    try:
        return open_local(entry, data_root)
    except Unavailable:
        return fetch(entry, data_root)


def state(entry: DatasetEntry, data_root: str | Path) -> str:
    """Say how much of a dataset is here: ``complete``, ``partial 3/14`` or ``absent``.

    Goes by presence and size; hashes nothing.
    """
    try:
        if entry.manifest is None:
            return "complete" if _found(entry) else "absent"
        rows = manifest(entry)
        count = sum(_has(_place(entry, row, data_root), row) for row in rows)
    except Unavailable:
        return "absent"
    if count == len(rows):
        return "complete"
    return f"partial {count}/{len(rows)}" if count else "absent"


def _place(entry: DatasetEntry, row: ManifestRow, data_root: str | Path) -> Path:
    return (fetching.location(row.url)
            or Path(data_root).expanduser() / entry.name / row.role / row.file)


def _has(place: Path, row: ManifestRow) -> bool:
    try:
        return place.is_file() and place.stat().st_size == row.bytes
    except OSError:
        return False


def _dataset(entry: DatasetEntry, rows: Sequence[ManifestRow], places: Sequence[Path]) -> Dataset:
    return Dataset(entry.name, tuple(
        ImageFile(row.name, row.role, place, row.sha256, row.bytes)
        for row, place in zip(rows, places, strict=True)))
