"""Files without a published digest: the first download is accepted, and later ones must equal it.

Reads   an http(s) address, or its copy in a mirror (see ``irbench.data.fetch``).
Writes  FOLDER/NAME-ADDRESS.SUFFIX, atomically, and beside it ``....json`` (the pin: url, sha256,
        bytes) once the file has been used successfully (``keep``). A file that turns out to be
        wrong is removed (``drop``).

Try: ``irbench eval --protocol sr-x2 --dataset set5 --model swinir-m``
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from irbench.core import files, locks
from irbench.core.errors import Unavailable, UserError
from irbench.data import fetch
from irbench.data.transfer import RemoteFile


def place(url: str, folder: Path) -> Path:
    """Return the path for the file of a URL; its name contains a digest of the whole address."""
    name = Path(urlsplit(url).path)
    stem = re.sub(r"[^A-Za-z0-9._-]", "_", name.stem)[:60]
    suffix = re.sub(r"[^A-Za-z0-9.]", "", name.suffix)[:20]
    return folder / f"{stem}-{hashlib.sha256(url.encode()).hexdigest()[:16]}{suffix}"


def pinned(url: str, folder: Path) -> str | None:
    """Return the digest pinned for a URL, None if it is not pinned. Raises UserError if unreadable.
    """
    pin = _pin(place(url, folder))
    try:
        found = files.read_json(pin)["sha256"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{pin}: not readable as a pin ({type(error).__name__}). Delete it, to "
                        "accept the file of the next download.") from None
    return str(found)


def obtain(url: str, folder: Path) -> Path:
    """Fetch the file of a URL, if it is missing, and return its path.

    A pinned file is checked, and fetched again if it was altered.

    Raises:
        Unavailable: the file cannot be fetched, or differs from the pinned one.
    """
    target = place(url, folder)
    with _locked(target):
        digest = pinned(url, folder)
        if digest is None:
            # any complete file is accepted here; its content is checked when it is loaded
            return fetch.fetch_all([RemoteFile(url, target, None)], label=target.name)[0]
        try:
            return fetch.fetch_file(url, target, digest)
        except Unavailable as error:
            raise Unavailable(f"{error} This is the digest of the first download "
                              f"({_pin(target)}); delete that file to accept another.") from None


def keep(url: str, folder: Path, digest: str) -> None:
    """Pin a file that was used. Raises UserError if another file is already pinned."""
    target = place(url, folder)
    with _locked(target):
        known = pinned(url, folder)
        if known is None:
            files.write_json(_pin(target), {"url": url, "sha256": digest,
                                              "bytes": target.stat().st_size})
        elif known != digest:
            raise UserError(f"{target}: its SHA-256 is {digest}, but {known} is pinned "
                            f"({_pin(target)}). Delete both files to start over.")


def drop(url: str, folder: Path) -> None:
    """Remove a file that turned out to be wrong, unless it is pinned."""
    target = place(url, folder)
    with _locked(target):
        if pinned(url, folder) is None:
            target.unlink(missing_ok=True)


def _pin(target: Path) -> Path:
    return target.with_name(f"{target.name}.json")


@contextlib.contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Let only one process at a time use a file; the lock ends with the process."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_name(f".{target.name}.lock").open("a") as handle:
        locks.lock(handle, wait=True)
        yield
