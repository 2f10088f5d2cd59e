"""Transfer one file: resume, retry, check it, and move it into place.

Reads   an http(s) address, or a file of a mirror folder.
Writes  the file at its path, only after size and SHA-256 are correct. Until then its bytes are
        collected in the hidden file ``.NAME.DIGEST.part`` beside it, which the next attempt or run
        continues. A file without a known SHA-256 is continued only if the server's tag for it is
        unchanged; the tag is kept in ``.NAME.unpinned.part.tag``.

``irbench.data.fetch`` uses it for sets of files. Try: ``irbench data fetch set5``
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from irbench.core import messages
from irbench.core.digests import file_digest
from irbench.core.errors import Damaged, Unavailable
from irbench.core.files import open_file
from irbench.core.locks import lock

CHUNK = 1 << 16  # bytes; small enough that the bar moves, large enough that Python is not the limit
LONGEST_WAIT = 60.0  # seconds; also limits a server's Retry-After
LIMIT = "IRBENCH_DOWNLOAD_LIMIT"  # replaces LARGEST
LARGEST = 4 * 10**9  # bytes of a download whose size is not known
BUSY = {408, 425, 429}  # besides 5xx: statuses that ask to try again later
RUN_AGAIN = ("Check the connection and run the same command again; the received bytes are kept. "
             "Without a connection, point IRBENCH_MIRROR to a folder that holds the file.")


@dataclass(frozen=True)
class RemoteFile:
    """A file to fetch: source, destination (ignored by package:// and file://), and identity.

    ``bytes`` may be None if the size is not known. ``sha256`` (64 lower-case hex digits) is None
    only for an unpinned file: any complete file is accepted, and the caller must check and record
    it. ``name`` is its name in messages, ``pin`` the place of its checksum. ``limit`` is the
    largest size that is accepted while ``bytes`` is None; None is the limit of all downloads.
    """

    url: str
    path: Path
    sha256: str | None
    bytes: int | None = None
    name: str = ""
    pin: str = "the manifest"
    limit: int | None = None

    def __str__(self) -> str:
        """Return the name for messages."""
        return self.name or self.path.name

    @property
    def expected(self) -> str:
        """The expected size and digest, for messages."""
        size = "" if self.bytes is None else f"{self.bytes} bytes with "
        return size + (f"sha256 {self.sha256}" if self.sha256 else "any content (not pinned)")


def problem(path: Path, sha256: str | None, size: int | None = None) -> str | None:
    """Describe what is wrong with a file (missing, size, content); None if it is correct."""
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
    """The shared state of the downloads of one set."""

    attempts: int
    backoff: float
    timeout: float
    limit: int = LARGEST
    progress: messages.Progress | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, size: int) -> None:
        """Count bytes that have come; less than 0 when a download starts over."""
        self.progress.advance(size)

    def say(self, message: str) -> None:
        """Print a line, if progress is reported."""
        if self.progress.shown:
            messages.say(message)


class _Retry(Exception):
    """An error that is worth another attempt; may hold the wait that the server asks for."""

    def __init__(self, what: str, wait: float = 0.0) -> None:
        super().__init__(what)
        self.wait = wait


class _Wrong(Exception):
    """The received bytes are not the expected ones."""


class _Gone(Exception):
    """An error that further attempts cannot fix."""


class _TooLarge(Exception):
    """The file's size is not known, and it is larger than the limit."""


class Stopped(Exception):
    """Another file failed, or the user interrupted."""


class _Sink:
    """The partial file as pooch's output: counts, stops on request, refuses too many bytes."""

    def __init__(self, handle: BinaryIO, file: RemoteFile, run: Downloads) -> None:
        self.handle, self.file, self.run = handle, file, run
        self.size = handle.seek(0, os.SEEK_END)
        self.limit = run.limit if file.limit is None else file.limit
        # Without a checksum only the server's tag shows whether the partial file belongs to the
        # server's present file. The tag is kept beside the partial file.
        self.tag = Path(f"{handle.name}.tag")
        run.count(self.size)
        if file.sha256 is None and self.size and not self.tag.exists():
            self.restart()

    def write(self, chunk: bytes) -> None:
        if self.run.stop.is_set():
            raise Stopped
        if self.file.bytes is not None and self.size + len(chunk) > self.file.bytes:
            raise _Wrong(f"more than {self.file.bytes} bytes")
        if self.file.bytes is None and self.size + len(chunk) > self.limit:
            raise _TooLarge(f"it has more than {self.limit} bytes")
        self.handle.write(chunk)
        self.size += len(chunk)
        self.run.count(len(chunk))

    def flush(self) -> None:
        self.handle.flush()

    def remember(self, headers: Mapping[str, str]) -> None:
        """Keep the tag that identifies the server's version of a file without checksum."""
        if self.file.sha256 is None:
            tag = headers.get("ETag", "")
            # a weak tag (W/) does not promise equal bytes
            tag = tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")
            if tag:
                self.tag.write_text(tag)
            else:
                self.tag.unlink(missing_ok=True)

    def restart(self) -> None:
        """Discard the received bytes."""
        self.handle.truncate(0)  # opened for appending: the next write goes to the new end
        self.run.count(-self.size)
        self.size = 0


def transfer(file: RemoteFile, source: str | Path, run: Downloads) -> None:
    """Fetch one file to its path, from an address or from a file of a mirror.

    Returns early, and keeps the received bytes, when ``run.stop`` is set. Raises Unavailable with
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
                # Moved while locked, so that no other process can append to it meanwhile.
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
    """Transfer until the partial file is complete and correct, or give up."""
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
        except _TooLarge as error:
            sink.restart()
            raise _unavailable(
                file, source, f"{error}, the limit for a download whose size is not known",
                f"Nothing was kept. If the file is right, state its 'bytes' or a 'limit' where the "
                f"catalog gives its url, or set {LIMIT} (for example {LIMIT}=20G).") from None
        except _Wrong as error:
            sink.restart()
            wrong += 1
            reason, wait = f"wrong content: {error}", 0.0
            if wrong == 2 or isinstance(source, Path):
                raise _unavailable(
                    file, source, reason, "It changed after its checksum was taken, or it is "
                    "altered on the way. Nothing was kept. Try another network or mirror; change "
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
    """Append the missing bytes of the source to the sink."""
    if isinstance(source, Path):
        _copy(source, sink)
        return
    if sink.file.bytes is not None and sink.size >= sink.file.bytes:
        return  # all bytes had arrived before the last run ended

    import requests
    from pooch import HTTPDownloader

    # identity, because a compressed answer would have another length and could not be continued
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
        if status == 416:  # the server's file is not longer than ours, so ours belongs to another
            sink.restart()
        elif status < 500 and status not in BUSY:
            raise _Gone(reason) from None
        after = error.response.headers.get("Retry-After", "")
        raise _Retry(reason, float(_number(after) or 0)) from None
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema,
            requests.TooManyRedirects) as error:
        raise _Gone(str(error)) from None
    except (requests.RequestException, ConnectionError, TimeoutError) as error:
        raise _Retry(f"{type(error).__name__}: {error}") from None
    except ValueError as error:  # an address that the server sends us to, which is no URL
        raise _Gone(str(error)) from None


def _number(text: str) -> int | None:
    """Return a number of an HTTP header; None if it is not one."""
    return int(text) if re.fullmatch("[0-9]{1,18}", text.strip()) else None


def _copy(source: Path, sink: _Sink) -> None:
    sink.restart()
    try:
        stream = open_file(source)
    except OSError as error:
        raise _Gone(error.strerror.lower()) from None
    with stream:
        size = os.fstat(stream.fileno()).st_size
        if sink.file.bytes not in (None, size):
            raise _Wrong(f"{size} bytes")
        sink.limit = max(sink.limit, size)  # a file of this machine: its size is known
        while chunk := stream.read(CHUNK):
            sink.write(chunk)


def _accept(response: object, sink: _Sink) -> None:
    """Check an answer before its body is read: complete or continued, and of the expected size.

    pooch does not distinguish 206 from 200, and appending a complete file to a part would ruin it.
    """
    headers = response.headers
    if response.status_code == 206:
        span, _, total = headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        if span.partition("-")[0] != str(sink.size):
            sink.restart()
            raise _Retry(f"the server continued at the wrong place ({span or 'unnamed'})")
    elif response.status_code == 200:
        sink.restart()  # the server sent the file from its beginning
        sink.remember(headers)
        total = headers.get("Content-Length", "")
    else:
        return
    length = headers.get("Content-Length")
    if length is not None and _number(length) is None:
        raise _Retry(f"the server sent an invalid Content-Length, {length[:40]!r}")
    size = _number(total)
    if size is None or "Content-Encoding" in headers:
        return
    if sink.file.bytes is None and size > sink.limit:
        raise _TooLarge(f"it has {size} bytes, more than {sink.limit}")
    if sink.file.bytes not in (None, size):
        raise _Wrong(f"{size} bytes")


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
    """Open the partial file for appending, locked against other processes that fetch the same file.

    Its name contains the digest, so that bytes of another version are never continued.
    """
    version = (file.sha256 or "unpinned")[:12]
    part = file.path.with_name(f".{file.path.name}.{version}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with part.open("a+b") as handle:
            while not lock(handle):
                if run.stop.wait(0.1):
                    raise Stopped
            # The process that held the lock may have moved the file into place. Then this is not
            # the partial file any more, and a new one must be opened.
            if _is_at(part, handle):
                yield handle, part
                return


def _is_at(path: Path, handle: BinaryIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle.fileno()))
    except FileNotFoundError:
        return False


def _disk_advice(file: RemoteFile, error: OSError) -> str:
    if error.errno == errno.ENAMETOOLONG:
        return "Choose a data folder with a shorter path, or a shorter name for the file."
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return "Choose a data folder that is writable."
    there = next(folder for folder in file.path.absolute().parents if folder.is_dir())
    free = shutil.disk_usage(there).free
    return (f"The disk is full ({free} bytes free, size of the file: {file.bytes or 'unknown'}). "
            "Free some space, or choose another data folder, and run the same command again.")


def _unavailable(file: RemoteFile, source: str | Path, found: str, advice: str,
                 kind: type[Unavailable] = Unavailable) -> Unavailable:
    through = "" if str(source) == file.url else f" through the mirror ({source})"
    return kind(f"{file} could not be fetched from {file.url}{through}: {found}. "
                f"Expected {file.expected}. {advice}")
