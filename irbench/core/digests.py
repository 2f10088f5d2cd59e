"""Digests of values, files and code: SHA-256 in hexadecimal digits.

Reads files; writes nothing.

Try: ``python -c "from irbench.core import digests; print(digests.fingerprint({'a': 1}))"``
"""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path


def canonical(value: object) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False,
                      allow_nan=False)


def fingerprint(value: object) -> str:
    """Return the SHA-256 (hex) of a value's canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 (hex) of a file's bytes."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def known_digest(path: Path) -> str:
    """Return the SHA-256 (hex) of a file, read again only when its size or time changed."""
    path = Path(path).absolute()
    stat = path.stat()
    return _known_digest(path, stat.st_size, stat.st_mtime_ns)


@functools.cache
def _known_digest(path: Path, size: int, changed: int) -> str:
    return file_digest(path)
