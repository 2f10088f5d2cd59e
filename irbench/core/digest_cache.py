"""Digests of local files, kept on disk: a file is hashed once, and again only when it has changed.

``answer`` keeps what else is computed from content alone, such as the imports of a source file.

Reads and writes ``$XDG_CACHE_HOME/irbench/digests-1.sqlite`` (default: below ``~/.cache``). It may
be deleted at any time. A damaged cache is replaced. A cache that cannot be read or written is
ignored; digests are then kept for the life of the process only.

An entry is valid only while path, size, times (of content and of inode) and inode are the same. A
file that changed within the last two seconds is never trusted, because a second change might not
alter any of these. Git treats its index in the same way. Every entry has a seal, so that a flipped
bit on the disk cannot become a wrong digest. An answer is valid for its key, which must name all
that it depends on.

Try: ``python -c "from irbench.core import digest_cache; print(digest_cache.location())"``
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

try:
    import sqlite3
except ImportError:  # a Python that was built without it
    sqlite3 = None

T = TypeVar("T")
SETTLED_NS = 2_000_000_000  # longer than the time resolution of any file system or clock
LIMIT = 1_000_000           # number of newest entries kept on disk
WAIT = 2.0                  # seconds to wait for another process that writes
TABLES = ("""CREATE TABLE IF NOT EXISTS digests
             (path BLOB PRIMARY KEY, state TEXT, sha256 TEXT, seal TEXT)""",
          """CREATE TABLE IF NOT EXISTS answers
             (key TEXT PRIMARY KEY, answer TEXT, seal TEXT)""")


@dataclass(frozen=True)
class Measured:
    """A file's digest and its state at that time; ``state`` is None if it may have changed."""

    path: Path
    state: str | None
    sha256: str


_memory: dict[Path, Measured] = {}
_guard = threading.Lock()
_opened: tuple[Path, sqlite3.Connection | None] | None = None
_abandoned: list = []  # a connection must not be used, not even closed, on the other side of a fork


def location() -> Path | None:
    """Return the file of the cache; None if this user has no home folder."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    try:
        # the XDG specification requires that a relative path is ignored
        home = Path(given) if Path(given).is_absolute() else Path.home() / ".cache"
    except RuntimeError:
        return None
    return home / "irbench" / "digests-1.sqlite"


def find(paths: Iterable[Path]) -> dict[Path, str]:
    """Return the SHA-256 (hex) of those files that are known and have not changed since.

    Raises OSError for a file that does not exist.
    """
    states = {path: state for path in paths if (state := _state(path))}
    found = {path: one.sha256 for path, state in states.items()
             if (one := _memory.get(path)) and one.state == state}
    unknown = {path: state for path, state in states.items() if path not in found}
    stored = _on_disk(lambda disk: _select(disk, unknown)) if unknown else []
    for one in stored or ():
        _memory[one.path] = one
        found[one.path] = one.sha256
    return found


def measure(path: Path, digest: Callable[[Path], str]) -> Measured:
    """Hash a file with ``digest`` and note whether it may have changed meanwhile.

    Raises OSError for a file that cannot be read.
    """
    before = _state(path)
    sha256 = digest(path)
    return Measured(path, before if _state(path) == before else None, sha256)


def keep(found: Iterable[Measured]) -> None:
    """Keep digests for later; those of files that may have changed are dropped."""
    found = [one for one in found if one.state]
    _memory.update({one.path: one for one in found})
    if found:
        _on_disk(lambda disk: _insert(disk, found))


def answer(key: str, compute: Callable[[], str]) -> str:
    """Return what ``compute`` gives, from the disk if it is known.

    Args:
        key: the SHA-256 (hex) of everything that the answer depends on, the code included.
        compute: computes the answer, a text.
    """
    found = _on_disk(lambda disk: disk.execute(
        "SELECT answer, seal FROM answers WHERE key = ?", (key,)).fetchone())
    if found and found[1] == _seal(key.encode(), "", found[0]):
        return found[0]
    computed = compute()
    _on_disk(lambda disk: _store(disk, "answers", [
        (key, computed, _seal(key.encode(), "", computed))]))
    return computed


def _state(path: Path) -> str | None:
    """Return the values that identify a file's state; None while its last change is too recent."""
    stat = path.stat()
    if time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) <= SETTLED_NS:
        return None
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}"


# -- on disk -----------------------------------------------------------------------------------

def _select(disk: sqlite3.Connection, states: dict[Path, str]) -> list[Measured]:
    found = []
    for path, state in states.items():
        name = os.fsencode(path)
        row = disk.execute("SELECT state, sha256, seal FROM digests WHERE path = ?",
                           (name,)).fetchone()
        if row and row[0] == state and row[2] == _seal(name, *row[:2]):
            found.append(Measured(path, state, row[1]))
    return found


def _insert(disk: sqlite3.Connection, found: list[Measured]) -> None:
    rows = [(os.fsencode(one.path), one.state, one.sha256) for one in found]
    _store(disk, "digests", [(*row, _seal(*row)) for row in rows])


def _store(disk: sqlite3.Connection, table: str, rows: list[tuple]) -> None:
    disk.execute("BEGIN IMMEDIATE")
    values = ", ".join("?" * len(rows[0]))
    disk.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({values})", rows)
    # a replaced row gets a new number: the lowest ones are the oldest
    disk.execute(f"DELETE FROM {table} WHERE rowid <= (SELECT MAX(rowid) FROM {table}) - ?",
                 (LIMIT,))
    disk.execute("COMMIT")


def _seal(path: bytes, state: str, sha256: str) -> str:
    return hashlib.sha256(b"\0".join([path, f"{state} {sha256}".encode()])).hexdigest()[:16]


def _on_disk(work: Callable[[sqlite3.Connection], T]) -> T | None:
    """Run a function on the cache file's connection; None if the cache cannot be used."""
    if sqlite3 is None or (place := location()) is None:
        return None
    with _guard:
        disk = _connection(place)
        if disk is None:
            return None
        try:
            return work(disk)
        except sqlite3.OperationalError:  # locked, read-only, no space
            with contextlib.suppress(sqlite3.Error):
                disk.rollback()
        except (sqlite3.DatabaseError, TypeError, UnicodeError):  # damaged
            _replace(place, disk)
        return None


def _connection(place: Path) -> sqlite3.Connection | None:
    global _opened
    if _opened is None or _opened[0] != place:
        _opened = (place, _connect(place))
    return _opened[1]


def _connect(place: Path) -> sqlite3.Connection | None:
    with contextlib.suppress(OSError, sqlite3.OperationalError):
        place.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(2):  # the second pass creates a new cache in place of a damaged one
            disk = sqlite3.connect(place, timeout=WAIT, isolation_level=None,
                                   check_same_thread=False)
            try:
                disk.execute("PRAGMA synchronous = OFF")  # lost entries are computed again
                for table in TABLES:
                    disk.execute(table)
                return disk
            except sqlite3.OperationalError:  # locked, read-only, no space
                disk.close()
                raise
            except sqlite3.DatabaseError:
                _replace(place, disk)
    return None


def _replace(place: Path, disk: sqlite3.Connection) -> None:
    """Remove a damaged cache; the next use begins a new one."""
    global _opened
    _opened = None
    with contextlib.suppress(sqlite3.Error):
        disk.close()
    for path in (place, place.with_name(f"{place.name}-journal")):
        with contextlib.suppress(OSError):
            path.unlink()


def _after_fork() -> None:
    global _opened, _guard
    _abandoned.append(_opened)
    _opened, _guard = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
