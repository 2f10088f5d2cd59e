"""Image files below a folder, chosen by glob patterns; and those that no pattern chooses.

A pattern is that of ``glob``: ``*``, ``?`` and ``[...]`` within a name, ``**`` for any number of
folders. Hidden names match only a pattern that begins with a dot. Unlike with ``glob``

- the suffix of a file is compared without case: ``*.png`` takes ``a.PNG``;
- links to folders are followed below ``**``, but a link that leads back to a folder it lies in is
  not, so that a loop of links ends;
- a folder that cannot be read is an error, not an empty folder;
- so is a tree of more files than a set can have (``TooMany``), such as a whole disk.

Reads   the names below a folder. Writes nothing.

Try: ``python -c "from pathlib import Path; from irbench.data import tree; print(tree.find(
Path('data'), ['**/*.png']))"``
"""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

# read by irbench.imaging.images.decode
SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".tif", ".tiff", ".webp",
            ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k")
# images, too, which must be converted first
OTHERS = (".apng", ".avif", ".heic", ".heif", ".jxl", ".exr", ".hdr", ".pfm", ".pam", ".tga",
          ".psd", ".dng", ".nef", ".arw", ".cr2", ".cr3", ".raf", ".rw2", ".orf")
MOST = 5_000_000    # files and folders below a folder that are looked at
MOST_LEFT = 1000    # images that no pattern chooses which are listed


class TooMany(OSError):
    """More files lie below a folder than are looked at."""

    def __init__(self, home: Path, most: int) -> None:
        """Take the folder and the limit."""
        super().__init__(errno.E2BIG, f"more than {most:,} files and folders lie below it", home)


def find(home: Path, patterns: Sequence[str | None],
         most: int | None = None) -> list[list[Path]]:
    """Return, for each pattern, the files below a folder that it chooses, sorted by name.

    Args:
        home: the folder, absolute.
        patterns: one glob pattern each; None is ``*``. A pattern that ends with ``*`` chooses files
            with one of ``SUFFIXES`` only.
        most: how many files and folders are looked at; default: ``MOST``.

    Raises OSError if a folder cannot be read, or holds too many files; a folder that does not exist
    has no files.
    """
    split = [_split(pattern) for pattern in patterns]
    found: list[list[Path]] = [[] for _ in patterns]
    for parts, names in _walk(home, [folders for folders, _ in split], most or MOST):
        folder = home.joinpath(*parts)
        for (folders, wanted), paths in zip(split, found, strict=True):
            if _fits(parts, folders):
                paths += [folder / name for name in names if _chosen(name, wanted)]
    return [sorted(paths, key=lambda path: (path.name, path)) for paths in found]


def left_out(home: Path, patterns: Sequence[str | None], ignored: Sequence[str],
             below: bool = False) -> list[Path]:
    """Return the images that lie where a pattern looks, but that no pattern chooses; sorted.

    A pattern looks into the folders that match its part before the last ``/``; with ``below``, into
    every folder that is not hidden. ``ignored`` are patterns of files that may be left out. At most
    about ``MOST_LEFT`` are returned. Raises as ``find``.
    """
    split = [_split(pattern) for pattern in patterns]
    free = [_split(pattern) for pattern in ignored]
    left: list[Path] = []
    looked = [folders for folders, _ in split] + [("**",)] * below
    for parts, names in _walk(home, looked, MOST):
        here = [wanted for folders, wanted in split if _fits(parts, folders)]
        allowed = [wanted for folders, wanted in free if _fits(parts, folders)]
        if here or below:
            left += [home.joinpath(*parts, name) for name in names
                     if _suffix(name) in SUFFIXES + OTHERS and not name.startswith(".")
                     and not any(_chosen(name, wanted) for wanted in here)
                     and not any(_matches(name, wanted) for wanted in allowed)]
        if len(left) > MOST_LEFT:
            break
    return sorted(left)


def images_in(folder: Path) -> list[Path]:
    """Return the images directly in a folder, also of types that must be converted first."""
    return [path for path in folder.iterdir() if not path.name.startswith(".")
            and _suffix(path.name) in SUFFIXES + OTHERS and path.is_file()]


def distinct(home: Path, pattern: str | None, path: Path) -> str:
    """Return a path below a folder without the folders that a pattern states word for word.

    What is left distinguishes the files that the pattern chooses: ``V/1.png`` for
    ``test/V/sharp/1.png`` and the pattern ``test/*/sharp/*.png``.
    """
    *parts, name = path.relative_to(home).parts
    return "/".join((*(_varying(tuple(parts), _split(pattern)[0]) or ()), name))


# -- patterns ----------------------------------------------------------------------------------

def _split(pattern: str | None) -> tuple[tuple[str, ...], str]:
    """Return the patterns of the folders, and that of the file's name."""
    parts = tuple(part for part in (pattern or "*").split("/") if part not in ("", "."))
    if not parts or parts[-1] == "**":
        return parts, "*"
    return parts[:-1], parts[-1]


def _chosen(name: str, wanted: str) -> bool:
    return _matches(name, wanted) and (not wanted.endswith("*") or _suffix(name) in SUFFIXES)


def _matches(name: str, wanted: str) -> bool:
    return _visible(name, wanted) and fnmatchcase(_lowered(name), _lowered(wanted))


def _lowered(name: str) -> str:
    """Return a name with its suffix in lower case."""
    stem, dot, suffix = name.rpartition(".")
    return stem + dot + suffix.lower() if dot else name


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122, a Path for each name is slow


def _visible(name: str, wanted: str) -> bool:
    return not name.startswith(".") or wanted.startswith(".")


@functools.lru_cache(maxsize=100_000)   # several ** would be tried in very many ways
def _fits(parts: Sequence[str], folders: Sequence[str], beginning: bool = False) -> bool:
    """Whether a path of folders matches a pattern; with ``beginning``, whether a longer one may."""
    if not parts and beginning:
        return True
    if not folders:
        return not parts
    if folders[0] == "**":
        return _fits(parts, folders[1:], beginning) or (
            bool(parts) and not parts[0].startswith(".")
            and _fits(parts[1:], folders, beginning))
    return (bool(parts) and _visible(parts[0], folders[0]) and fnmatchcase(parts[0], folders[0])
            and _fits(parts[1:], folders[1:], beginning))


@functools.lru_cache(maxsize=100_000)
def _varying(parts: Sequence[str], folders: Sequence[str]) -> tuple[str, ...] | None:
    """Return the parts of a path that the wildcards of a pattern took; None if it does not fit."""
    if not folders:
        return None if parts else ()
    if folders[0] == "**":
        rest = _varying(parts, folders[1:])
        if rest is None and parts and (rest := _varying(parts[1:], folders)) is not None:
            return (parts[0], *rest)
        return rest
    if not parts or not fnmatchcase(parts[0], folders[0]):
        return None
    rest = _varying(parts[1:], folders[1:])
    return rest if rest is None or folders[0] == parts[0] else (parts[0], *rest)


# -- folders -----------------------------------------------------------------------------------

def _walk(home: Path, wanted: Sequence[Sequence[str]], most: int
          ) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """Yield each folder that may match a pattern, as path below ``home``, with its files' names."""
    todo: list[tuple[tuple[str, ...], frozenset]] = [((), frozenset())]
    seen = 0
    while todo:
        parts, above = todo.pop()
        folder = home.joinpath(*parts)
        try:
            stat = folder.stat()
            entries = list(os.scandir(folder))
        except (FileNotFoundError, NotADirectoryError):
            continue
        if (seen := seen + len(entries)) > most:
            raise TooMany(home, most)
        identity = (stat.st_dev, stat.st_ino)
        if identity in above:  # a link that leads back
            continue
        names = []
        for entry in entries:
            if not _is_folder(entry):
                # a link to nothing counts as a file: a missing image must be noticed
                names += [entry.name] if entry.is_symlink() or entry.is_file() else []
            elif any(_fits((*parts, entry.name), folders, beginning=True) for folders in wanted):
                todo.append(((*parts, entry.name), above | {identity}))
        yield parts, names


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
