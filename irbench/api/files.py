"""Restore files: photographs in, restored photographs of the same names out. ``irbench restore``.

Reads   files, folders (all photographs below them) and glob patterns.
Writes  one file for each, whole or not at all. EXIF's tag Software of it names irbench and a digest
        of photograph, model and format; ImageHistory names the files that the user's Python code of
        the model used until then, with their digests. A file for which all this is the same is
        not made again, so that an interrupted command continues; any other existing file is kept,
        and named.

Try: ``irbench restore photos --output restored --model compacter --protocol sr-x2``
"""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from irbench import __version__
from irbench.api.models import LoadedModel
from irbench.api.pictures import GrayPicture, noise_stays, restore_photo
from irbench.core import digests, files, messages, plugin_files
from irbench.core.errors import UserError
from irbench.core.files import expanded
from irbench.imaging import photo

WAY = 2         # to be raised when the same photograph and model give another file
SEPARATOR = " "


@dataclass(frozen=True)
class PhotoFile:
    """A photograph to restore.

    Attributes:
        source: its file.
        target: the file to write.
    """

    source: Path
    target: Path


@dataclass
class FilesFound:
    """What a command means.

    Attributes:
        photos: the photographs to restore, sorted by path.
        unread: photographs of formats that are not read, such as raw files and HEIC.
        others: how many more files there are, of other kinds.
    """

    photos: list[PhotoFile] = field(default_factory=list)
    unread: list[Path] = field(default_factory=list)
    others: int = 0


@dataclass
class FilesDone:
    """What became of photographs.

    Attributes:
        restored: those that were restored now.
        skipped: those whose result was there.
        refused: path -> why it could not be restored.
        gray: those of them that are gray, for a model that removes noise of colour pictures.
    """

    restored: list[Path] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    gray: list[Path] = field(default_factory=list)


# -- which files -------------------------------------------------------------------------------

def find(inputs: Sequence[str], output: str | Path, suffix: str | None = None) -> FilesFound:
    """Return the photographs that a command means, each with the file to write.

    Args:
        inputs: paths of files or folders, and glob patterns. Of folders and patterns files with a
            suffix of a photograph are taken (``photo.SUFFIXES``), and folders below them are kept.
            Other files are counted, hidden ones are left out.
        output: the folder to write to. For a single file it may be a file, if its suffix is that
            of a format.
        suffix: of the files to write; None: that of ``output``, or ``.png``.

    Raises:
        UserError: nothing there, or no photograph that is read; two photographs with one
            output; an output that would replace a photograph.
    """
    out = expanded(output)
    there = dict(_found(inputs, out.absolute()))
    named = {expanded(given) for given in inputs}      # a file that is named is taken as it is
    unread = sorted(path for path in there if path.suffix.lower() in photo.UNREAD)
    found = {path: name for path, name in there.items()
             if path.suffix.lower() in photo.SUFFIXES
             or (path in named and path.suffix.lower() not in photo.UNREAD)}
    if not found and len(there) == len(unread) == 1:
        raise UserError(photo.not_read(str(unread[0])))
    if not found:
        raise UserError(f"{', '.join(inputs)}: no photograph there that irbench reads"
                        f"{f' (but {messages.some(unread)})' if unread else ''}. Files with these "
                        f"suffixes are taken: {', '.join(photo.SUFFIXES)}.")
    return FilesFound(_tasks(inputs, output, suffix, found), unread,
                      len(there) - len(unread) - len(found))


def _tasks(inputs: Sequence[str], output: str | Path, suffix: str | None,
           found: dict[Path, Path]) -> list[PhotoFile]:
    """Return photographs, by path with the path to keep, each with the file to write."""
    out = expanded(output)
    one_file = (len(found) == 1 and len(inputs) == 1 and expanded(inputs[0]).is_file()
                and out.suffix.lower() in photo.SUFFIXES and not out.is_dir())
    if one_file:
        return _checked([PhotoFile(next(iter(found)), out)])
    if out.suffix.lower() in photo.SUFFIXES and not out.is_dir():
        raise UserError(f"--output {output}: this names a file, but several photographs may be "
                        "meant. Name a folder.")
    return _checked([PhotoFile(source, (out / name).with_suffix(suffix or ".png"))
                     for source, name in sorted(found.items())])


def _found(inputs: Sequence[str], out: Path) -> Iterator[tuple[Path, Path]]:
    """Yield (file, its path relative to what was named)."""
    for given in inputs:
        path = expanded(given)
        if path.is_file():
            yield path, Path(path.name)
        elif path.is_dir():
            yield from _below(path, out)
        elif glob.has_magic(given):
            parts = path.parts
            fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
            base = Path(*parts[:fixed])
            for one in map(Path, sorted(glob.glob(str(path), recursive=True))):  # noqa: PTH207
                if (not one.name.startswith(".") and one.is_file()
                        and out not in one.absolute().parents):
                    yield one, one.relative_to(base)
        else:
            raise UserError(f"{given}: no such file or folder. Give a photograph, a folder, or a "
                            "pattern such as 'photos/*.jpg'.")


def _below(folder: Path, out: Path) -> Iterator[tuple[Path, Path]]:
    for place, folders, names in os.walk(folder):
        # a folder of results inside is not restored again
        folders[:] = sorted(name for name in folders if not name.startswith(".")
                            and (Path(place) / name).absolute() != out)
        for name in sorted(names):
            path = Path(place) / name
            if not name.startswith(".") and path.is_file():
                yield path, path.relative_to(folder)


def _checked(tasks: list[PhotoFile]) -> list[PhotoFile]:
    """Refuse two photographs for one output, and an output in a photograph's place."""
    sources = {task.source.resolve() for task in tasks}
    seen: dict[str, Path] = {}
    for task in tasks:
        # names that differ in case only are one file on macOS and Windows
        first = seen.setdefault(str(task.target).casefold(), task.source)
        if first != task.source:
            raise UserError(f"{first} and {task.source} would both become {task.target}. Restore "
                            "them into two folders, or rename one.")
        if task.target.resolve() in sources:
            raise UserError(f"{task.target}: this is a photograph to restore, which the result "
                            "would replace. Name another --output.")
    return tasks


# -- restoring ---------------------------------------------------------------------------------

def restore_files(tasks: Sequence[PhotoFile], model: LoadedModel, *,
                  overwrite: bool = False, done: FilesDone | None = None) -> FilesDone:
    """Restore photographs and write the results, with progress on stderr.

    Args:
        tasks: from ``find``.
        model: the model.
        overwrite: whether to restore all photographs, and replace the files that exist.
        done: is completed while this works, for a caller that may be interrupted.

    Returns:
        What became of each; a photograph that cannot be restored does not stop the others.

    Raises:
        UserError: files are in the way (before anything is written), or cannot be written.
    """
    done = FilesDone() if done is None else done
    todo = list(_todo(tasks, model, overwrite, done))
    headers = [photo.header(task.source) for task in todo]
    if model.colour_noise:
        _warn_of_subsampling(todo, headers, model)
    pictures = [messages.Sized(task.source.name, header.pixels)
                for task, header in zip(todo, headers, strict=True)]
    for task in messages.track(todo, f"restore with {model.name}", len(todo), pictures=pictures):
        try:
            data = _restored(task, model, tile=_tiles(task.source.name))
        except UserError as error:
            done.refused[str(task.source)] = str(error)
            if isinstance(error, GrayPicture):
                done.gray.append(task.source)
            continue
        try:
            files.write_atomic(task.target, data)
        except OSError as error:
            raise UserError(f"{task.target}: not written: {error.strerror}. Name an --output that "
                            "can be written.") from None
        done.restored.append(task.target)
    return done


def _warn_of_subsampling(todo: Sequence[PhotoFile], headers: Sequence[photo.Header],
                         model: LoadedModel) -> None:
    """Name the photographs in which a model for Gaussian noise will leave much of it."""
    kinds = {str(task.source): header.subsampling
             for task, header in zip(todo, headers, strict=True) if header.subsampling}
    if kinds:
        messages.say(f"{len(kinds)} of {len(todo)} photographs ({messages.some(kinds)}): "
                     f"{noise_stays(model, kinds.values())}")


def _todo(tasks: Iterable[PhotoFile], model: LoadedModel, overwrite: bool,
          done: FilesDone) -> Iterator[PhotoFile]:
    """Yield the photographs without a result; those with one are entered in ``done``."""
    blocked, todo = [], []
    for task in tasks:
        if task.target.exists() and not task.target.is_file():
            raise UserError(f"{task.target}: a folder, a pipe or a device, not a file, is in the "
                            "way of a result. Move it away, or name another --output.")
        if overwrite or not task.target.exists():
            todo.append(task)
        elif _is_current(task, model):
            done.skipped.append(task.target)
        else:
            blocked.append(task.target)
    if blocked:
        raise UserError(f"{len(blocked)} of {len(blocked) + len(todo) + len(done.skipped)} results "
                        "exist already and were made from another photograph, by another model or "
                        f"program ({messages.some(blocked)}). Name another --output, or give "
                        "--overwrite.")
    yield from todo


def _digest(task: PhotoFile, model: LoadedModel) -> str:
    """Return the digest of all that decides the file of a result."""
    try:
        return digests.fingerprint([WAY, digests.known_digest(task.source), model.settings,
                                    task.target.suffix.lower()])
    except OSError as error:
        raise UserError(f"{task.source}: {error.strerror}. Check the path.") from None


def _is_current(task: PhotoFile, model: LoadedModel) -> bool:
    """Whether a result is what this model would make now of this photograph."""
    software, history = photo.made_with(task.target)
    name, _, digest = software.rpartition(SEPARATOR)
    if not name.startswith("irbench ") or digest != _digest(task, model):
        return False
    try:
        used = json.loads(history or "[]")
        return isinstance(used, list) and not plugin_files.changed({plugin_files.NOTED: used})
    except (ValueError, RecursionError):
        return False


def _restored(task: PhotoFile, model: LoadedModel, tile: Callable[[int, int], None]) -> bytes:
    where, suffix = str(task.source), task.target.suffix
    given = photo.read(task.source)
    photo.check_format(given, suffix, where, model.scale)     # before minutes of work
    found = restore_photo(given, model, where, tile)
    used = json.dumps(model.files_used())
    if len(used) > photo.LONGEST_TEXT:      # then no later run can tell: it restores again
        used = "too many files"
    software = SEPARATOR.join(["irbench", __version__, _digest(task, model)])
    return photo.encode(found, suffix, where, software, "" if used == "[]" else used)


def _tiles(title: str) -> Callable[[int, int], None]:
    """Return a function that reports the tiles of a large picture as they are finished."""
    bar: list[Iterator[int]] = []

    def tile(_: int, total: int) -> None:
        if not bar:
            bar.append(messages.track(range(1, total + 1), f"{title}, tiles", total))
        next(bar[0], None)

    return tile
