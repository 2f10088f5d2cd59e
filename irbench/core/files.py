"""Files that appear whole or not at all.

Writes to a temporary name beside the target and moves it into place; reads nothing.

Try: ``python -c "from irbench.core import files; files.write_json('one.json', {'a': 1})"``
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from irbench.core.errors import UserError

# no space on the disk, quota exceeded, file too large
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; moved into place on success, removed on failure.

    Raises:
        UserError: the disk or the quota is full, or the file is too large.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # a name may have 255 bytes, and the temporary one is longer
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:40]}.", suffix=path.suffix[-20:],
                                        dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(0o644)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise UserError(f"{path}: not written: {error.strerror}. Make room for it, then run the "
                        "same command again.") from None


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file atomically: completely or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, value: object) -> None:
    """Write a value as readable JSON (keys in their given order), atomically."""
    write_atomic(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
