"""Locks between processes; a lock is released when its process ends, even by kill -9.

Writes lock files; reads nothing.

Try: ``python -c "from pathlib import Path; from irbench.core import locks;
locks.claim(Path('run', '.lock'))"``
"""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO

from irbench.core.errors import UserError, not_written

_claims: list = []  # open files: a claim lasts until the process ends


def claim(path: Path) -> None:
    """Claim a run by its lock file until this process ends, even by kill -9.

    Raises:
        UserError: another process holds it, or its folder cannot be made or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("a")
    except OSError as error:
        raise not_written(path, error) from None
    if not lock(handle):
        handle.close()
        raise UserError(f"{path.parent}: another run is working in this folder. Wait for it, or "
                        "give this one another name (`run:` in the config).")
    _claims.append(handle)


def lock(handle: IO | int, wait: bool = False) -> bool:
    """Lock an open file against other processes, until it is closed or the process ends.

    Returns False if another process holds the lock; with ``wait``, waits until it is released. On
    a file system without locks, returns True.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True
