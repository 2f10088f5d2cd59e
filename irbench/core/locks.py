"""Locks between processes: they end with the process, however it ends.

Writes lock files; reads nothing.

Try: ``python -c "from pathlib import Path; from irbench.core import locks;
locks.claim(Path('run'))"``
"""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO

from irbench.core.errors import UserError

_claims: list = []  # open files: a claim lasts as long as the process, however it ends


def claim(folder: Path) -> None:
    """Claim a run's folder for this process; a claim ends with the process, even by kill -9.

    Raises:
        UserError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = (folder / ".lock").open("a")
    if not lock(handle):
        handle.close()
        raise UserError(f"{folder}: another run is working in this folder. Wait for it, or give "
                        "this one another name (`run:` in the config).")
    _claims.append(handle)


def lock(handle: IO, wait: bool = False) -> bool:
    """Claim an open file against other processes, until it is closed or the process ends.

    Returns False if another process holds it; with ``wait``, waits until it has let go. On a file
    system without locks everyone gets it.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True
