"""Archives of a dataset in the catalog: addresses of zip or tar files.

Reads and writes nothing; ``irbench.data.archives`` fetches and unpacks them.

Try: ``irbench info div2k_valid``
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from irbench.catalog.manifest import LONGEST, scheme
from irbench.core.errors import UserError, unknown

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz")


@dataclass(frozen=True)
class Archive:
    """One archive file of a set; unknown values are None.

    ``limit`` is the largest size in bytes that is downloaded while ``bytes`` is not known.
    """

    url: str
    sha256: str | None = None
    bytes: int | None = None
    limit: int | None = None

    @property
    def name(self) -> str:
        """The file's name: the end of its address."""
        return Path(unquote(urlsplit(self.url).path)).name


def parse_archives(where: str, value: object) -> tuple[Archive, ...]:
    """Return the archives of an entry's list ``files``. Raises UserError, which says where.

    Args:
        where: the entry, for messages.
        value: what the catalog holds.
    """
    form = "valid is a list of {url: https://..., sha256: null, bytes: null, limit: null}"
    if not isinstance(value, list):
        raise UserError(f"{where}: files: {form}.")
    found = []
    for i, item in enumerate(value):
        here = f"{where}: files[{i}]"
        if not isinstance(item, dict) or not isinstance(item.get("url"), str):
            raise UserError(f"{here}: {form}.")
        for key in item:
            if key not in ("url", "sha256", "bytes", "limit"):
                raise unknown("key", key, ("url", "sha256", "bytes", "limit"), here)
        archive, sha256, size = Archive(item["url"]), item.get("sha256"), item.get("bytes")
        if scheme(archive.url) not in ("http", "https"):
            raise UserError(f"{here}: url {archive.url!r}: valid schemes are https and http.")
        if len(archive.name.encode()) > LONGEST:
            raise UserError(f"{here}: url {archive.url!r}: its file name is longer than {LONGEST} "
                            "bytes.")
        if not archive.name.lower().endswith(ARCHIVES) or archive.name.startswith("."):
            raise UserError(f"{here}: url {archive.url!r}: valid are files named "
                            f"{', '.join('*' + s for s in ARCHIVES)}. Any other set can be "
                            "'manual': the user unpacks it.")
        if sha256 is not None and not (isinstance(sha256, str)
                                       and re.fullmatch("[0-9a-fA-F]{64}", sha256)):
            raise UserError(f"{here}: sha256 {sha256!r}: valid are 64 hexadecimal digits "
                            "(sha256sum FILE), in quotes, or null if not known.")
        limit = item.get("limit")
        if size is not None and (type(size) is not int or size < 1):
            raise UserError(f"{here}: bytes {size!r}: valid is the file's size, or null.")
        if limit is not None and (type(limit) is not int or limit < 1):
            raise UserError(f"{here}: limit {limit!r}: valid is the largest size in bytes that is "
                            "downloaded while 'bytes' is not known, or null.")
        if archive.name in {other.name for other in found}:
            raise UserError(f"{here}: two files are named {archive.name!r}.")
        found.append(Archive(archive.url, sha256 and sha256.lower(), size, limit))
    return tuple(found)
