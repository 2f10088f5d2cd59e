"""Digests of values, files and code: SHA-256 in hexadecimal digits.

Reads files; writes nothing.

Try: ``python -c "from irbench.core import digests; print(digests.fingerprint({'a': 1}))"``
"""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


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


@functools.cache
def code_digest(*modules: str) -> str:
    """Return one SHA-256 over the named modules' source (or files, by path), importing none."""
    paths = {Path(name) if "/" in name else _module_path(name) for name in modules}
    # by name and content: where the files lie makes no difference
    return fingerprint(sorted([path.name, file_digest(path)] for path in paths))


def _module_path(name: str) -> Path:
    base = PACKAGE.joinpath(*name.split(".")[1:])
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


def known_digest(path: Path) -> str:
    """Return the SHA-256 (hex) of a file, read again only when its size or time changed."""
    path = Path(path).absolute()
    stat = path.stat()
    return _known_digest(path, stat.st_size, stat.st_mtime_ns)


@functools.cache
def _known_digest(path: Path, size: int, changed: int) -> str:
    return file_digest(path)
