"""Files that appear whole or not at all, and files from people, read within limits.

Writes to a temporary name beside the target and moves it into place. A process that is killed
leaves that temporary file; the next one that writes the same target removes it, and so does
``remove_leftovers``. Reads text, JSON and pictures that anyone may have made: of any size, and
nested to any depth.

Try: ``python -c "from irbench.core import files; files.write_json('one.json', {'a': 1})"``
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import math
import os
import re
import secrets
import stat
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from irbench.core import locks
from irbench.core.errors import NO_ROOM, not_written

if TYPE_CHECKING:
    from PIL.Image import Image

LARGEST = 256 * 2**20       # bytes of a file that is read as a whole
DEEPEST = 64                # levels of lists and mappings in each other
MOST = 1_000_000            # values of a YAML file, with each alias counted as what it stands for
# temporary names: that of the target, shortened, then eight characters and the target's suffix
TEMPORARY = re.compile(r"\.(.+)\.[0-9a-z_]{8}(\.\w+)?")
# a pipe that nobody writes to is opened at once; Windows has bytes and text
WITHOUT_WAITING = (getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
                   | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0))
LONGEST = 40                # characters of the target's name in it: names have at most 255 bytes


def expanded(path: str | Path) -> Path:
    """Return a path with ``~`` as the user's home folder; as it is, if there is no such home."""
    return Path(os.path.expanduser(path))  # noqa: PTH111, Path.expanduser raises an error instead


def version_of(path: Path) -> tuple[int, ...]:
    """Return size and times of a file, which change with each edit; () if there is no file."""
    try:
        stat = path.stat()
    except (OSError, ValueError):
        return ()
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


# -- writing -----------------------------------------------------------------------------------

@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; moved into place on success, removed on failure.

    The file gets the permissions that the process gives to new files (its umask).

    Raises:
        UserError: the folder cannot be made or written, or the disk or the quota is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary, handle = _begin(path)
    except OSError as error:
        raise not_written(path, error) from None
    try:
        # the lock says that the file is being written; it ends with the process
        with os.fdopen(handle, "wb"):
            yield temporary
            try:
                temporary.replace(path)
            except OSError as error:
                raise not_written(path, error) from None
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise       # of what the caller does, such as reading
        raise not_written(path, error) from None
    finally:
        temporary.unlink(missing_ok=True)


def _begin(path: Path) -> tuple[Path, int]:
    """Make a temporary file beside a target and lock it; return its path and the open file."""
    if not path.name or path.name == "..":      # ".", "/" and "": pathlib has no name for them
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    remove_leftovers(path.parent, lambda name: name == path.name[:LONGEST])
    while True:
        name = f".{path.name[:LONGEST]}.{secrets.token_hex(4)}{path.suffix[:20]}"
        temporary = path.with_name(name)
        handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        locks.lock(handle)
        if temporary.exists():      # another process may take an unlocked file for a leftover
            return temporary, handle
        os.close(handle)


def remove_leftovers(folder: Path, wanted: Callable[[str], bool] = lambda name: True) -> None:
    """Remove temporary files that killed processes left in a folder.

    Args:
        folder: may be missing; folders below it are left alone.
        wanted: tells by the name of the target (its first ``LONGEST`` characters) whether its
            temporary files count; default: all.
    """
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for path in sorted(Path(folder).iterdir()):
            match = TEMPORARY.fullmatch(path.name)
            if match and wanted(match[1]) and path.is_file():
                with contextlib.suppress(OSError), path.open("rb") as handle:
                    if locks.lock(handle):
                        path.unlink()


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file atomically: completely or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def set_folder_aside(path: Path) -> None:
    """Rename a folder that lies where a file is to be written; it becomes NAME.1, say."""
    path = Path(path)
    if path.is_dir() and not path.is_symlink():
        numbers = itertools.count(1)
        path.rename(next(free for number in numbers
                         if not (free := path.with_name(f"{path.name}.{number}")).exists()))


def write_json(path: Path, value: object) -> None:
    """Write a value as readable JSON (keys in their given order), atomically."""
    write_atomic(path, json_text(value))


def json_text(value: object) -> str:
    """Return a value as the text of a JSON file. Raises ValueError for NaN and infinity."""
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


# -- reading -----------------------------------------------------------------------------------

def open_file(path: str | Path) -> BinaryIO:
    """Open a file that a user named, to read its bytes.

    Raises:
        OSError: there is none, or it cannot be read; also a folder, and a pipe, a socket or a
            device, which may have no end, or wait for another program for ever.
    """
    handle = os.open(path, os.O_RDONLY | WITHOUT_WAITING)
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(handle, "rb")
    os.close(handle)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EOPNOTSUPP, "A pipe, a socket or a device, not a file", str(path))


def read_bytes(path: str | Path) -> bytes:
    """Return the bytes of a file that a user named. Raises OSError as ``open_file``."""
    with open_file(path) as handle:
        return handle.read()


_pictures = threading.Lock()
_limits: list[int | None] = []      # Pillow's usual one, once for each picture that is open


@contextlib.contextmanager
def open_picture(file: str | Path | BinaryIO, formats: Sequence[str] | None = None
                 ) -> Iterator[Image]:
    """Open an image file of any size with Pillow.

    From 89 megapixels on Pillow warns of a "decompression bomb", and from 179 on it refuses. A
    panorama is none, and memory is bounded elsewhere (``inference.budget``, ``mem_mb`` of the
    rules). While no picture is open here the program's limit is as it was.

    Raises what ``PIL.Image.open`` raises, but for the limit.
    """
    from PIL import Image

    with _pictures:
        _limits.append(_limits[-1] if _limits else Image.MAX_IMAGE_PIXELS)
        Image.MAX_IMAGE_PIXELS = None
    try:
        with Image.open(file, formats=formats) as image:
            yield image
    finally:
        with _pictures:
            usual = _limits.pop()
            if not _limits:
                Image.MAX_IMAGE_PIXELS = usual


def read_text(path: str | Path, largest: int = LARGEST) -> str:
    """Return the text of a file in UTF-8, with or without a byte order mark.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: a folder, unreadable, larger than ``largest`` bytes, or not text in UTF-8; the
            message is one phrase without the path.
    """
    try:
        with open_file(path) as handle:
            data = handle.read(largest + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(error.strerror or type(error).__name__) from None
    if len(data) > largest:
        raise ValueError(f"larger than {largest // 2**20} MiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("not a text file in UTF-8") from None
    if "\0" in text:
        raise ValueError("not a text file: it holds the character NUL")
    return text


def read_json(path: str | Path, **how: object) -> object:
    """Return the value of a JSON file; ``how`` goes to ``json.loads``.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: as ``read_text``, and if it is not JSON or nested too deeply.
    """
    text = read_text(path)
    try:
        value = json.loads(text, **how)
    except json.JSONDecodeError as error:
        raise ValueError(f"not valid JSON: {error}") from None
    except RecursionError:
        raise ValueError(f"nested deeper than {DEEPEST} levels") from None
    # characters that no file has and no file can be written with come as escapes only
    check_plain(value, leaves=re.search(r"\\u(d[89a-f]|0000)", text, re.IGNORECASE) is not None)
    return value


def check_plain(value: object, *, leaves: bool = True) -> None:
    """Raise ValueError unless a value is plain data of a sound size and depth.

    Plain data are mappings with texts as keys, lists, texts, finite numbers, true, false and null.

    Args:
        value: what a parser returned; it may hold one object in many places, or itself.
        leaves: whether to look at more than the depth: types, numbers, characters, and the size.
    """
    waiting, seen = [(value, "", 1)], 0
    while waiting:
        one, place, depth = waiting.pop()
        if depth > DEEPEST:
            raise ValueError(f"nested deeper than {DEEPEST} levels")
        seen += 1
        if leaves and seen > MOST:
            raise ValueError(f"its aliases stand for more than {MOST:,} values")
        if isinstance(one, dict):
            items = one.items()
        elif isinstance(one, list):
            items = enumerate(one)
        else:
            if problem := _leaf(one):
                raise ValueError(f"{place or 'it'} {problem}")
            continue
        for key, inner in items:
            if leaves and isinstance(one, dict) and (problem := _key(key)):
                raise ValueError(f"{place or 'top level'}: the key {key!r} {problem}")
            if leaves or isinstance(inner, dict | list):
                step = f"[{key}]" if isinstance(one, list) else f".{key}" if place else str(key)
                waiting.append((inner, place + step, depth + 1))


def _key(key: object) -> str:
    return _leaf(key) if isinstance(key, str) else "is not a text; write it in quotes"


def _leaf(value: object) -> str:
    """Return what is wrong with a value that holds no others, "" if nothing is."""
    if isinstance(value, str):
        if "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
            return "holds a character that is not allowed in a text"
    elif isinstance(value, float):
        if not math.isfinite(value):
            return "is not a finite number"
    elif isinstance(value, int):
        if abs(value) > sys.float_info.max:
            return "is too large a number"
    elif value is not None:
        return (f"is {value!s}, which is read as a {type(value).__name__}; for a text, write it in "
                "quotes")
    return ""
