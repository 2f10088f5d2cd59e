"""Manifests: the files of a dataset, one line each, with URL, SHA-256 and size.

Reads   CSV files with the columns role, file, url, sha256, bytes.
Writes  nothing.

Try: ``python -c "from irbench.data import sets as d; print(d.manifest(d.get('photos'))[0])"``
"""

from __future__ import annotations

import csv
import functools
import io
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from irbench.core import files
from irbench.core.errors import UserError
from irbench.core.forms import UNFIT

SCHEMES = ("https", "http", "package", "file")
COLUMNS = ("role", "file", "url", "sha256", "bytes")
# names of datasets and roles are also names of folders and, with a suffix, of files
NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,99}")
LONGEST = 200  # bytes of a file's name; a partial download adds its digest, and systems allow 255


@dataclass(frozen=True)
class ManifestRow:
    """One file of a dataset. ``bytes`` is its size, ``sha256`` 64 lower-case hex digits."""

    role: str
    file: str
    url: str
    sha256: str
    bytes: int

    @property
    def name(self) -> str:
        """The file's name without its suffix; with folders if names repeat between folders."""
        return PurePosixPath(self.file).with_suffix("").as_posix()


def scheme(url: str) -> str:
    """Return the scheme of a URL; "" if it is not a URL or holds control characters.

    An address of a server has a valid host and port.
    """
    try:
        parts = urlsplit(url)
        whole = parts.port is None or parts.port > 0    # raises for a number that is too large
        host = parts.hostname or ""
    except ValueError:  # such as an unfinished IPv6 address
        return ""
    if UNFIT.search(unquote(url)) or (parts.scheme in ("http", "https") and not (
            whole and host and not re.search(r"\s", host))):
        return ""
    return parts.scheme


def read_manifest(path: Path) -> list[ManifestRow]:
    """Return the rows of a manifest in order. Raises UserError, which names the first bad line."""
    return list(_rows(path, files.version_of(path)))


@functools.lru_cache(maxsize=64)    # planning asks for the same few again and again
def _rows(path: Path, version: tuple[int, ...]) -> tuple[ManifestRow, ...]:
    """Read a manifest; ``version`` changes with each edit."""
    try:
        with io.StringIO(files.read_text(path), newline="") as handle:
            reader = csv.DictReader(handle)
            header = tuple(reader.fieldnames or ())
            if sorted(header) != sorted(COLUMNS):
                raise UserError(f"{path}: line 1: the columns are {', '.join(header) or 'missing'}."
                                f" Valid: {', '.join(COLUMNS)}.")
            rows, lines = [], {}
            for fields in reader:
                where = f"{path}: line {reader.line_num}"
                row = _row(where, fields)
                # compared without case, because on some file systems A.png and a.png are one file
                line = lines.setdefault((row.role, row.name.casefold()), reader.line_num)
                if line != reader.line_num:
                    raise UserError(f"{where}: the name {row.name!r} (the file without its suffix) "
                                    f"is already on line {line} for the role {row.role!r}. "
                                    "Rename one of them.")
                rows.append(row)
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: not a readable manifest ({error}). Give a CSV file with the "
                        f"columns {', '.join(COLUMNS)}.") from None
    if not rows:
        raise UserError(f"{path}: the manifest lists no files.")
    return tuple(rows)


def _row(where: str, fields: dict) -> ManifestRow:
    if None in fields or None in fields.values():
        raise UserError(f"{where}: expected {len(COLUMNS)} fields: {', '.join(COLUMNS)}.")
    for column in COLUMNS:
        if UNFIT.search(fields[column]):
            raise UserError(f"{where}: {column} {fields[column]!r}: a line break or another "
                            "control character is in it. Remove it.")
    role, file, url, sha256, size = (fields[column].strip() for column in COLUMNS)
    if not NAME.fullmatch(role):
        raise UserError(f"{where}: role {role!r}: valid are lower-case names such as hr or lr_x2.")
    if (not re.fullmatch(r"[^/\\:]+", file) or file.startswith(".")
            or len(file.encode()) > LONGEST):
        raise UserError(f"{where}: file {file!r}: valid is the plain name of a file, without a "
                        f"folder, not beginning with a dot, of at most {LONGEST} bytes.")
    if scheme(url) not in SCHEMES:
        raise UserError(f"{where}: url {url!r}: valid schemes are "
                        f"{', '.join(SCHEMES)}.")
    if not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise UserError(f"{where}: sha256 {sha256!r}: valid are 64 hexadecimal digits "
                        "(sha256sum FILE).")
    if not re.fullmatch("[0-9]{1,18}", size) or int(size) == 0:
        raise UserError(f"{where}: bytes {size!r}: valid is the file's size, a positive integer.")
    return ManifestRow(role, file, url, sha256.lower(), int(size))
