"""Archives of datasets: download, check before anything is written, and unpack completely.

Reads   zip and tar (plain, gzip, xz) files from their addresses (see ``irbench.data.fetch``).
Writes  ``<data_root>/<set>/``, all members or none: they are unpacked beside it and moved into
        place at the end. ``<data_root>/archives/<set>/`` holds the archive while it is needed. Once
        the set is found complete, the checksum of an unpinned archive is written there to
        ``FILE.sha256``, and the archive is deleted. If the set is not complete, an unpinned archive
        is deleted too, so that the next attempt downloads it again.

Members with an absolute path or '..', links, devices, encrypted members and duplicate names are
refused, so that an archive cannot write outside its folder. A tar file without its end mark is
refused too, because a tar file with a damaged header would otherwise look like a shorter one.

Try: ``irbench data fetch div2k_valid``
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import lzma
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from irbench.catalog.archives import Archive
from irbench.catalog.manifest import UNFIT
from irbench.core import messages
from irbench.core.digests import file_digest
from irbench.core.errors import Unavailable
from irbench.core.files import write_atomic
from irbench.core.locks import lock
from irbench.data import fetch as fetching
from irbench.data.transfer import CHUNK

LONGEST = 255  # bytes of a file's name, on all common file systems
MARK = ".unpacked-by-irbench"  # only a folder that contains this file is ever replaced
RATIO = 1100  # deflate makes data at most 1032 times smaller
# the readers' errors for a damaged file; NotImplementedError: a form that zipfile cannot unpack;
# the last four: a header that states an impossible size, or headers that never end
BROKEN = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, lzma.LZMAError,
          EOFError, NotImplementedError, ValueError, struct.error, MemoryError, OverflowError,
          RecursionError)


class Refused(Exception):
    """The archive contains something that must not be unpacked, or cannot be read."""


# -- a set -------------------------------------------------------------------------------------

def fetch(archives: Sequence[Archive], folder: Path, keep: Path, look_up: Callable[[], object], *,
          name: str, progress: bool = True, **options: object) -> Path:
    """Download a set's archives and unpack them all into one folder; return the folder.

    After an interruption the next call continues: a download where it stopped, unpacking from the
    beginning.

    Args:
        archives: the files; unknown checksums and sizes are accepted at the first download.
        folder: the folder for their members; replaced if this module made it.
        keep: the folder that holds the archives until they are unpacked.
        look_up: called when everything is unpacked; raises Unavailable if it is not the whole set.
        name: the set's name, for messages.
        progress: report the progress of the download on stderr.
        options: passed to ``irbench.data.fetch.fetch_all``.

    Raises:
        Unavailable: an archive cannot be fetched, is broken, has a refused member or does not fit
            on the disk; or the folder exists and was not made by irbench; or as ``look_up``.
    """
    if (folder.is_symlink() or folder.exists()) and not (folder / MARK).is_file():
        raise Unavailable(f"dataset {name!r}: {folder} exists, is not complete, and was not made "
                          f"by irbench, so it is not replaced. irbench data check {name} shows "
                          "what is missing. To fetch the set, move the folder away.")
    try:
        keep.mkdir(parents=True, exist_ok=True)
        with _alone(keep / ".lock"):
            files = [fetching.RemoteFile(a.url, keep / a.name, a.sha256 or _recorded(keep, a),
                                         a.bytes, f"{name}/{a.name}",
                                         "the catalog" if a.sha256 else str(_sidecar(keep, a)),
                                         a.limit)
                     for a in archives]
            paths = fetching.fetch_all(files, label=name, progress=progress, **options)
            _unpack_all(archives, paths, folder, name)
            _accept(archives, paths, keep, look_up)
    except OSError as error:
        advice = {errno.ENOSPC: "Free some space, or choose another data_root.",
                  errno.ENAMETOOLONG: "Choose a data_root with a shorter path."}
        raise Unavailable(f"dataset {name!r}: cannot write {error.filename or keep}: "
                          f"{error.strerror or error}. "
                          + advice.get(error.errno, "Choose a data_root that is writable.")
                          ) from None
    return folder


def _accept(archives: Sequence[Archive], paths: Sequence[Path], keep: Path,
            look_up: Callable[[], object]) -> None:
    """Delete the archives, after recording unpinned ones; without the set, delete only those."""
    try:
        look_up()
    except Unavailable:
        for archive, path in zip(archives, paths, strict=True):
            if archive.sha256 is None:
                path.unlink()
        raise
    for archive, path in zip(archives, paths, strict=True):
        if archive.sha256 is None:
            write_atomic(_sidecar(keep, archive), f"{file_digest(path)}  {archive.name}\n")
    for path in keep.glob("*"):
        if path.suffix != ".sha256" and path.is_file():
            path.unlink()


def _unpack_all(archives: Sequence[Archive], paths: Sequence[Path], folder: Path,
                name: str) -> None:
    fresh = folder.with_name(f".{folder.name}.unpacking")
    old = folder.with_name(f".{folder.name}.old")
    for left in (fresh, old):  # of a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    try:
        for archive, path in zip(archives, paths, strict=True):
            messages.say(f"{name}: unpacking {path.name}")
            try:
                unpack(path, fresh)
            except Refused as error:
                if archive.sha256 is None:
                    path.unlink()  # not accepted, so the next attempt downloads it again
                    again = "It was deleted; running the same command again downloads it anew."
                else:
                    again = "The file has the catalog's checksum: correct the catalog."
                raise Unavailable(f"dataset {name!r}: {path} (from {archive.url}): {error}. "
                                  f"Nothing was unpacked. {again}") from None
        (fresh / MARK).write_text("".join(f"{archive.url}\n" for archive in archives))
        if folder.exists():
            folder.replace(old)
        fresh.replace(folder)
    finally:
        for left in (fresh, old):
            shutil.rmtree(left, ignore_errors=True)


def _sidecar(keep: Path, archive: Archive) -> Path:
    return keep / f"{archive.name}.sha256"


def _recorded(keep: Path, archive: Archive) -> str | None:
    """Return the checksum of an archive that was accepted on this machine."""
    with contextlib.suppress(FileNotFoundError):
        return _sidecar(keep, archive).read_text().split()[0]
    return None


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock, so that only one process fetches the set at a time."""
    with path.open("a") as handle:
        lock(handle, wait=True)
        yield


# -- one archive -------------------------------------------------------------------------------

@dataclass(frozen=True)
class _Member:
    """A file or folder in an archive: its name there, and how to read it."""

    name: str
    folder: bool
    size: int
    open: Callable[[], BinaryIO] | None


def unpack(path: Path, folder: Path) -> list[Path]:
    """Unpack one zip or tar file into a folder and return the unpacked files.

    All members are checked before anything is written. Owners, modes and times are not restored.

    Raises:
        Refused: not readable, or a member that must not be unpacked; the member is named.
        OSError: the disk is full or not writable.
    """
    try:
        with _opened(path) as members:
            targets = _checked(members, folder)
            _fits(members, folder)
            folder.mkdir(parents=True, exist_ok=True)
            for member, target in messages.track(zip(members, targets, strict=True),
                                                 f"unpack {path.name}", len(members)):
                if member.folder:
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                with member.open() as source, target.open("xb") as sink:
                    shutil.copyfileobj(source, sink, CHUNK)
                if target.stat().st_size != member.size:
                    raise Refused(f"{member.name!r} ends after {target.stat().st_size} of "
                                  f"{member.size} bytes")
    except (*BROKEN, OSError) as error:
        # damaged data also raises OSError, but without an error number of the system
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise Refused(f"not a readable archive ({type(error).__name__}: {error})") from None
    return [target for member, target in zip(members, targets, strict=True) if not member.folder]


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[list[_Member]]:
    """Yield an archive's members while it is open."""
    if path.name.lower().endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            yield [_zipped(archive, info) for info in archive.infolist()]
    else:
        with tarfile.open(path) as archive:
            try:
                members = [_tarred(archive, info) for info in archive]
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                raise Refused("a member states a size that no file has") from None
            _ends(archive)
            yield members


def _ends(archive: tarfile.TarFile) -> None:
    """Refuse a tar file that does not end with blocks of zeros.

    tarfile treats a damaged header, other than the first, as the end, and ignores what follows.
    """
    # read to the end: the checksum of a compressed stream comes after the data that tar reads
    archive.fileobj.seek(archive.offset)
    size = 0
    while chunk := archive.fileobj.read(CHUNK):
        if any(chunk):
            raise Refused(f"not a readable archive (a damaged header about byte {archive.offset}, "
                          f"after {len(archive.members)} members)")
        size += len(chunk)
    if size < tarfile.BLOCKSIZE:
        raise Refused(f"not a readable archive (it ends without its end mark, after "
                      f"{len(archive.members)} members: cut short)")


def _zipped(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    name, kind = info.orig_filename, stat.S_IFMT(info.external_attr >> 16)
    if info.flag_bits & 1:
        raise Refused(f"{name!r} is encrypted")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise Refused(f"{name!r} is a link or a device")
    if (info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
            and info.file_size > RATIO * (info.compress_size + 1)):
        raise Refused(f"{name!r} states a size of {info.file_size} bytes, which its "
                      f"{info.compress_size} bytes cannot hold")
    return _Member(name, info.is_dir(), info.file_size, lambda: archive.open(info))


def _tarred(archive: tarfile.TarFile, info: tarfile.TarInfo) -> _Member:
    if not (info.isreg() or info.isdir()):
        raise Refused(f"{info.name!r} is a link or a device")
    if info.issparse():
        raise Refused(f"{info.name!r} is a sparse file")
    return _Member(info.name, info.isdir(), info.size, lambda: archive.extractfile(info))


def _checked(members: Sequence[_Member], folder: Path) -> list[Path]:
    """Return the path of each member. Raises Refused for a member that is not allowed."""
    kinds: dict[str, bool] = {}  # path, without case -> is a folder
    targets = []
    for member in members:
        parts = PurePosixPath(member.name).parts
        if member.name.startswith("/") or ".." in parts or not member.name:
            raise Refused(f"{member.name!r} would lie outside its folder")
        if bad := [c for c in member.name if c in "\\:" or UNFIT.match(c)]:
            raise Refused(f"{member.name!r} contains {bad[0]!r}, which some systems do not allow "
                          "in a name; valid: a path with / between names")
        if any(len(os.fsencode(part)) > LONGEST for part in parts):
            raise Refused(f"{member.name[:40]!r}... is too long: a name may have {LONGEST} bytes")
        if member.folder and not parts:
            targets.append(folder)  # ./ itself
            continue
        key = "/".join(parts).casefold()
        # a folder may appear again; on some file systems A.png and a.png are the same file
        if not parts or (key in kinds and not (kinds[key] and member.folder)):
            raise Refused(f"it contains {member.name!r} twice")
        kinds[key] = member.folder
        for n in range(1, len(parts)):
            if not kinds.setdefault("/".join(parts[:n]).casefold(), True):
                raise Refused(f"{member.name!r} lies in a path that is a file")
        targets.append(folder.joinpath(*parts))
    if not any(not member.folder for member in members):
        raise Refused("it contains no files")
    for target in targets:
        if target.is_file() or target.is_symlink():
            raise Refused(f"{target.relative_to(folder)} is also in another archive of the set")
    return targets


def _fits(members: Sequence[_Member], folder: Path) -> None:
    there = next(parent for parent in folder.absolute().parents if parent.is_dir())
    needed, free = sum(member.size for member in members), shutil.disk_usage(there).free
    if needed > free:
        raise OSError(errno.ENOSPC, f"its content needs {needed} bytes, the disk has {free} free",
                      str(folder))
