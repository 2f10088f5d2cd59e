"""Locks between processes; a lock is released when its process ends, even by kill -9.

Writes lock files; reads nothing.

Try: ``python -c "from pathlib import Path; from irbench.core import locks;
locks.claim(Path('run', '.lock'))"``
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from irbench.core.errors import UserError, not_written

PASSED_ON = "IRBENCH_LOCK"  # the number of an open file that holds a job's lock, and its path
EVERY = 0.2                 # seconds between two tries

_claims: list = []  # open files: a claim lasts until the process ends
_held: dict[int, Path] = {}  # open files that ``hold`` has locked in this process


def claim(path: Path, patience: float = 0.0) -> None:
    """Claim a run by its lock file until this process ends, even by kill -9.

    Args:
        path: the lock file.
        patience: seconds to wait for another process that is about to end.

    Raises:
        UserError: another process holds it, or it cannot be written.
    """
    handle = _open(path)
    until = time.monotonic() + patience
    while not lock(handle):
        if time.monotonic() > until:
            handle.close()
            raise UserError(f"{path.parent}: another run is working in this folder{_holder(path)}. "
                            "When it has ended, give the same command again: it does what is then "
                            "left. Or give this run another name (`run:` in the config).")
        time.sleep(EVERY)
    with contextlib.suppress(OSError):      # only a message needs it
        handle.truncate(0)
        handle.write(f"process {os.getpid()} on {platform.node()}")
        handle.flush()
    _claims.append(handle)


@contextlib.contextmanager
def hold(path: Path, waiting: Callable[[float], None]) -> Iterator[bool]:
    """Hold a lock file in a ``with`` block; yields whether another process had to end first.

    The file is removed afterwards. A process that was given the lock (``passed_on``) holds it
    already.

    Args:
        path: the lock file.
        waiting: called again and again while another process holds the lock, with the seconds
            waited so far; it may raise an error to give up.

    Raises UserError if the file cannot be written.
    """
    if path.absolute() in _given().values():
        yield False
        return
    begun, waited = time.monotonic(), False
    while True:
        handle = _open(path)
        # whoever held it may have removed the file meanwhile: then this lock keeps nobody out
        if lock(handle) and _is(handle, path):
            break
        handle.close()
        waited = True
        waiting(time.monotonic() - begun)
        time.sleep(EVERY)
    _held[handle.fileno()] = path.absolute()
    try:
        yield waited
    finally:
        del _held[handle.fileno()]
        path.unlink(missing_ok=True)
        handle.close()


def clear(path: Path) -> None:
    """Remove a lock file that no process holds.

    A process that was killed between the end of its work and the removal leaves one, and no later
    job need ever use it again.
    """
    if not path.is_file():
        return
    with contextlib.suppress(OSError), path.open("a") as handle:
        if lock(handle) and _is(handle, path):
            path.unlink()


def held(path: Path) -> bool:
    """Return whether a process holds a lock file; it is neither made nor changed."""
    try:
        with path.open("r") as handle:
            return not lock(handle)
    except OSError:
        return False


def passed_on() -> tuple[dict[str, str], tuple[int, ...]]:
    """Return environment and open files with which a started process shares this one's lock.

    The lock is then released when both have ended.
    """
    for number, path in (_held or _given()).items():
        return {PASSED_ON: f"{number}:{path}"}, (number,)
    return {}, ()


def _given() -> dict[int, Path]:
    """Return the open file with a lock that this process was started with, and its path."""
    number, _, path = os.environ.get(PASSED_ON, "").partition(":")
    try:
        os.fstat(int(number))
    except (ValueError, OSError):   # none, or not passed on to this process
        return {}
    return {int(number): Path(path)}


def _open(path: Path) -> IO:
    """Open a lock file. Raises UserError if it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a")
    except OSError as error:
        raise not_written(path, error) from None


def _holder(path: Path) -> str:
    """Return which process says in a lock file that it holds it, for a message."""
    with contextlib.suppress(OSError, ValueError):
        with path.open(encoding="utf-8") as handle:
            text = handle.read(200)
        if re.fullmatch(r"process \d+ on [\w.-]*", text):
            return f" ({text})"
    return ""


def _is(handle: IO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle.fileno()), path.stat())
    except OSError:
        return False


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
