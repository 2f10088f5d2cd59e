"""Messages and progress for people, on stderr: a live bar on a terminal, else a line now and then.

Several jobs of a run share one output, where bars would overwrite each other.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from irbench.errors import UserError

T = TypeVar("T")
EVERY = 10.0  # seconds between lines
_log: Path | None = None


def log_to(path: str | None) -> None:
    """Send a copy of all messages to a file, begun anew."""
    global _log
    _log = None
    if path:
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text("")
        except OSError as error:
            raise UserError(f"--log {path}: {error.strerror}. Give a file that can be "
                            "written.") from None
        _log = Path(path)


def say(message: str) -> None:
    """Print one message."""
    print(message, file=sys.stderr, flush=True)
    if _log:
        with _log.open("a") as handle:
            handle.write(message + "\n")


def track(items: Iterable[T], title: str, total: int, start: int = 0) -> Iterator[T]:
    """Yield the items and report how far along they are.

    Args:
        items: what remains to be done.
        title: what is being done.
        total: how many there are, those done before included.
        start: how many were done before.

    Items of a budget in seconds are no count: see ``track_seconds``.
    """
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, desc=title, initial=start, total=total, leave=False)
        return
    begun = last = time.monotonic()
    for done, item in enumerate(items, start):
        now = time.monotonic()
        if now - last >= EVERY and done > start:
            left = (now - begun) / (done - start) * (total - done)
            say(f"{title}: {done}/{total}, about {left:.0f} s left")
            last = now
        yield item


def track_seconds(items: Iterable[float], title: str, total: float) -> Iterator[float]:
    """Yield items that are themselves the seconds spent so far, and report now and then."""
    last = time.monotonic()
    for spent in items:
        now = time.monotonic()
        if now - last >= EVERY:
            say(f"{title}: {spent:.0f} of {total:.0f} s")
            last = now
        yield spent
