"""Transfer one file: continued where it broke off, retried, checked, moved into place whole.

Reads   an http(s) address, or a file of a mirror folder.
Writes  the file at its path, only once size and SHA-256 are right. Until then its bytes grow in the
        hidden file ``.NAME.DIGEST.part`` beside it, which the next attempt or run continues. A
        file without a known SHA-256 is continued only if the server still has the same one by its
        tag, kept in ``.NAME.unpinned.part.tag``.

``irbench.data.fetch`` uses it for sets of files. Try: ``irbench data fetch set5``
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from irbench.core.digests import file_digest
from irbench.core.errors import Damaged, Unavailable
from irbench.core.locks import lock

CHUNK = 1 << 16  # bytes; small enough that the bar moves, large enough that Python is not the limit
LONGEST_WAIT = 60.0  # seconds; also caps what a server may ask for by Retry-After
BUSY = {408, 425, 429}  # besides 5xx: answers that ask to come back later
RUN_AGAIN = ("Check the connection and run the same command again: what has arrived is kept. "
             "Without a connection, point IRBENCH_MIRROR to a folder that holds the file.")


@dataclass(frozen=True)
class RemoteFile:
    """A file to have: where from, where to (ignored by package:// and file://), and its identity.

    ``bytes`` may be None where the size is not known. ``sha256`` (64 lower-case hex digits) is None
    only for an archive that no one has pinned: whatever arrives whole is taken, and whoever asked
    for it must check and record it. ``name`` is what messages call it, ``pin`` where its checksum
    stands.
    """

    url: str
    path: Path
    sha256: str | None
    bytes: int | None = None
    name: str = ""
    pin: str = "the manifest"

    def __str__(self) -> str:
        """Return the name for messages."""
        return self.name or self.path.name

    @property
    def expected(self) -> str:
        """What the file must be, for messages."""
        size = "" if self.bytes is None else f"{self.bytes} bytes with "
        return size + (f"sha256 {self.sha256}" if self.sha256 else "any content (not pinned)")


def problem(path: Path, sha256: str | None, size: int | None = None) -> str | None:
    """Say what is wrong with a file (missing, size, content), or None if it is the right one."""
    try:
        found = path.stat().st_size
        if size is not None and found != size:
            return f"{found} bytes"
        digest = sha256 and file_digest(path)
    except FileNotFoundError:
        return "no such file"
    except OSError as error:
        return str(error)
    return None if digest == sha256 else f"sha256 {digest}"


@dataclass
class Downloads:
    """What the downloads of one set share."""

    attempts: int
    backoff: float
    timeout: float
    bar: object = None
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, size: int) -> None:
        """Move the bar by so many bytes; negative when a download starts over."""
        with self.lock:
            self.bar.update(size)

    def say(self, message: str) -> None:
        """Print a line above the bar."""
        if not self.bar.disable:
            self.bar.write(message, file=sys.stderr)


class _Retry(Exception):
    """Worth another attempt; may carry how long the server wants us to wait."""

    def __init__(self, what: str, wait: float = 0.0) -> None:
        super().__init__(what)
        self.wait = wait


class _Wrong(Exception):
    """These are not the bytes that were asked for."""


class _Gone(Exception):
    """No attempt will help."""


class Stopped(Exception):
    """Another file failed, or the user interrupted."""


class _Sink:
    """The partial file as pooch's output: counts, stops when told to, refuses too many bytes."""

    def __init__(self, handle: BinaryIO, file: RemoteFile, run: Downloads) -> None:
        self.handle, self.file, self.run = handle, file, run
        self.size = handle.seek(0, os.SEEK_END)
        # Without a checksum only the server can tell whether it still has the file that this is the
        # beginning of: by the tag it gave, kept beside the partial file.
        self.tag = Path(f"{handle.name}.tag")
        run.count(self.size)
        if file.sha256 is None and self.size and not self.tag.exists():
            self.restart()

    def write(self, chunk: bytes) -> None:
        if self.run.stop.is_set():
            raise Stopped
        if self.file.bytes is not None and self.size + len(chunk) > self.file.bytes:
            raise _Wrong(f"more than {self.file.bytes} bytes")
        self.handle.write(chunk)
        self.size += len(chunk)
        self.run.count(len(chunk))

    def flush(self) -> None:
        self.handle.flush()

    def remember(self, headers: Mapping[str, str]) -> None:
        """Keep what identifies the server's version of a file that has no checksum."""
        if self.file.sha256 is None:
            tag = headers.get("ETag", "")
            # a weak tag (W/) promises no equal bytes
            tag = tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")
            if tag:
                self.tag.write_text(tag)
            else:
                self.tag.unlink(missing_ok=True)

    def restart(self) -> None:
        """Forget what has arrived."""
        self.handle.truncate(0)  # opened for appending: the next write goes to the new end
        self.run.count(-self.size)
        self.size = 0


def transfer(file: RemoteFile, source: str | Path, run: Downloads) -> None:
    """Bring one file to its path from an address, or from a file of a mirror.

    Returns early, with what has arrived kept, when ``run.stop`` is set. Raises Unavailable, naming
    the file, its URL, what was expected and found, and what to do.
    """
    try:
        with _partial(file, run) as (handle, part):
            if problem(file.path, file.sha256, file.bytes) is None:
                part.unlink()  # another process fetched it while this one waited for the lock
                run.count(file.bytes or 0)
                return
            sink = _Sink(handle, file, run)
            try:
                _persist(file, source, sink, run)
                # Moved while locked, so that no other process can append to it in between.
                part.replace(file.path)
                sink.tag.unlink(missing_ok=True)
            except BaseException:
                if not sink.size:
                    part.unlink(missing_ok=True)
                    sink.tag.unlink(missing_ok=True)
                raise
    except Stopped:
        pass  # the partial file stays, for the next run
    except OSError as error:
        raise _unavailable(file, source, f"cannot write {file.path}: {error.strerror or error}",
                           _disk_advice(file, error)) from None


def _persist(file: RemoteFile, source: str | Path, sink: _Sink, run: Downloads) -> None:
    """Transfer until the partial file is the right one, or give up."""
    wrong = 0
    for attempt in range(1, run.attempts + 1):
        try:
            _transfer(source, sink, run)
            _check(file, sink)
            return
        except _Gone as error:
            advice = ("It was moved or removed: correct its url, or point IRBENCH_MIRROR to a "
                      "folder that holds it." if str(source) == file.url else
                      "Add it to the mirror, or unset IRBENCH_MIRROR.")
            raise _unavailable(file, source, str(error), advice) from None
        except _Wrong as error:
            sink.restart()
            wrong += 1
            reason, wait = f"wrong content: {error}", 0.0
            if wrong == 2 or isinstance(source, Path):
                raise _unavailable(
                    file, source, reason, "It changed after its checksum was taken, or something "
                    "on the way alters it. Nothing was kept. Try another network or mirror; change "
                    f"the checksum in {file.pin} only if you trust the new file.",
                    Damaged) from None
        except _Retry as error:
            reason, wait = str(error), error.wait
        if attempt < run.attempts:
            wait = min(max(wait, run.backoff * 2 ** (attempt - 1)), LONGEST_WAIT)
            run.say(f"{file}: {reason}; attempt {attempt + 1} of {run.attempts} in {wait:.3g} s")
            if run.stop.wait(wait):
                raise Stopped
    raise _unavailable(file, source, f"{reason} (attempts: {run.attempts})", RUN_AGAIN)


def _transfer(source: str | Path, sink: _Sink, run: Downloads) -> None:
    """Append what is missing of the source to the sink."""
    if isinstance(source, Path):
        _copy(source, sink)
        return
    if sink.file.bytes is not None and sink.size >= sink.file.bytes:
        return  # all bytes had arrived before the last run ended

    import requests
    from pooch import HTTPDownloader

    # identity: a compressed answer would have another length and could not be continued.
    headers = {"Accept-Encoding": "identity"}
    if sink.size and sink.file.sha256 is None:
        if sink.tag.exists():
            headers["If-Range"] = sink.tag.read_text()
        else:
            sink.restart()
    if sink.size:
        headers["Range"] = f"bytes={sink.size}-"

    answers = contextlib.ExitStack()  # pooch leaves a broken answer's connection open

    def answered(response: requests.Response, **_: object) -> None:
        answers.callback(response.close)
        _accept(response, sink)

    download = HTTPDownloader(chunk_size=CHUNK, timeout=run.timeout, headers=headers,
                              hooks={"response": answered})
    try:
        with answers:
            download(source, sink, None)
    except requests.HTTPError as error:
        status, reason = error.response.status_code, f"HTTP {error.response.status_code}"
        if status == 416:  # the server has no bytes beyond ours, so ours are not of this file
            sink.restart()
        elif status < 500 and status not in BUSY:
            raise _Gone(reason) from None
        after = error.response.headers.get("Retry-After", "")
        raise _Retry(reason, float(after) if after.isdigit() else 0.0) from None
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema,
            requests.TooManyRedirects) as error:
        raise _Gone(str(error)) from None
    except (requests.RequestException, ConnectionError, TimeoutError) as error:
        raise _Retry(f"{type(error).__name__}: {error}") from None


def _copy(source: Path, sink: _Sink) -> None:
    sink.restart()
    try:
        stream = source.open("rb")
    except OSError as error:
        raise _Gone(error.strerror.lower()) from None
    with stream:
        size = os.fstat(stream.fileno()).st_size
        if sink.file.bytes not in (None, size):
            raise _Wrong(f"{size} bytes")
        while chunk := stream.read(CHUNK):
            sink.write(chunk)


def _accept(response: object, sink: _Sink) -> None:
    """Look at an answer before its body: whole or continued, and of the size that is expected.

    pooch does not tell 206 from 200, and appending a whole file to a part would ruin it.
    """
    headers = response.headers
    if response.status_code == 206:
        span, _, total = headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        if span.partition("-")[0] != str(sink.size):
            sink.restart()
            raise _Retry(f"the server continued at the wrong place ({span or 'unnamed'})")
    elif response.status_code == 200:
        sink.restart()  # the beginning of the file, whether or not a later part was asked for
        sink.remember(headers)
        total = headers.get("Content-Length", "")
    else:
        return
    known = total.isdigit() and "Content-Encoding" not in headers and sink.file.bytes is not None
    if known and int(total) != sink.file.bytes:
        raise _Wrong(f"{total} bytes")


def _check(file: RemoteFile, sink: _Sink) -> None:
    sink.flush()
    if file.bytes is not None and sink.size < file.bytes:
        raise _Retry(f"the answer ended after {sink.size} of {file.bytes} bytes")
    if file.sha256 is None:
        if not sink.size:
            raise _Retry("the answer was empty")
        return
    sink.handle.seek(0)
    digest = hashlib.file_digest(sink.handle, "sha256").hexdigest()
    if digest != file.sha256:
        raise _Wrong(f"{sink.size} bytes with sha256 {digest}")


@contextlib.contextmanager
def _partial(file: RemoteFile, run: Downloads) -> Iterator[tuple[BinaryIO, Path]]:
    """Open the partial file for appending, locked against other processes that want the same file.

    Its name holds the digest, so that bytes of another version are never continued.
    """
    version = (file.sha256 or "unpinned")[:12]
    part = file.path.with_name(f".{file.path.name}.{version}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with part.open("a+b") as handle:
            while not lock(handle):
                if run.stop.wait(0.1):
                    raise Stopped
            # Whoever held the lock may have moved the file into place: then this is no partial
            # file any more, and a new one must be opened.
            if _is_at(part, handle):
                yield handle, part
                return


def _is_at(path: Path, handle: BinaryIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle.fileno()))
    except FileNotFoundError:
        return False


def _disk_advice(file: RemoteFile, error: OSError) -> str:
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return "Choose a data folder that can be written to."
    there = next(folder for folder in file.path.absolute().parents if folder.is_dir())
    free = shutil.disk_usage(there).free
    return (f"The disk is full ({free} bytes free, the file has {file.bytes or 'unknown many'}). "
            "Free some space, or choose another data folder, and run the same command again.")


def _unavailable(file: RemoteFile, source: str | Path, found: str, advice: str,
                 kind: type[Unavailable] = Unavailable) -> Unavailable:
    through = "" if str(source) == file.url else f" through the mirror ({source})"
    return kind(f"{file} could not be fetched from {file.url}{through}: {found}. "
                f"Expected {file.expected}. {advice}")
