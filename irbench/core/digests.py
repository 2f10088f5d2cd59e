"""Digests of values, files and code: SHA-256 in hexadecimal digits.

Reads files; the digests of files are kept by ``irbench.core.digest_cache``.

Try: ``python -c "from irbench.core import digests; print(digests.fingerprint({'a': 1}))"``
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path

from irbench.core import digest_cache
from irbench.core.files import open_file


def canonical(value: object) -> str:
    """Return the canonical JSON text of a value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False,
                      allow_nan=False)


def fingerprint(value: object) -> str:
    """Return the SHA-256 (hex) of a value's canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 (hex) of a file's bytes."""
    with open_file(path) as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def known_digest(path: str | Path) -> str:
    """Return the SHA-256 (hex) of a file, read again only when the file has changed."""
    return known_digests([path])[0]


def known_digests(paths: Iterable[str | Path], each: Callable = map) -> list[str]:
    """Return the SHA-256 (hex) of files, in order; see ``irbench.core.digest_cache``.

    Args:
        paths: the files.
        each: hashes the files whose digests are not known; called like ``map``. It may use
            threads and show progress.

    Raises OSError for a file that does not exist or cannot be read.
    """
    paths = [Path(path).absolute() for path in paths]
    known = digest_cache.find(paths)
    missing = [path for path in dict.fromkeys(paths) if path not in known]
    if missing:
        known |= dict(zip(missing, fresh_digests(missing, each), strict=True))
    return [known[path] for path in paths]


def fresh_digests(paths: Iterable[str | Path], each: Callable = map) -> list[str]:
    """Return the SHA-256 (hex) of files, in order; all are read, and their digests known from now.

    Arguments and errors as of ``known_digests``.
    """
    found = []
    try:
        for one in each(lambda path: digest_cache.measure(path, file_digest),
                        [Path(path).absolute() for path in paths]):
            found.append(one)
    finally:
        digest_cache.keep(found)
    return [one.sha256 for one in found]


def fresh_digest(path: str | Path) -> str:
    """Return the SHA-256 (hex) of a file, which is read."""
    return fresh_digests([path])[0]
