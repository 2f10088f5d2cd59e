"""Messages and progress for people, on stderr: a live bar on a terminal, else a line at intervals.

Several jobs of a run share one output, where bars would overwrite each other.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from irbench.core import forms
from irbench.core.errors import UserError, refusal

T = TypeVar("T")
EVERY = 10.0  # seconds between lines
_log: Path | None = None
_muted = False


def log_to(path: str | None) -> None:
    """Send a copy of all messages to a file, which is overwritten.

    Raises UserError if it cannot be written. If that happens later (the disk is full), the messages
    go on without the copy: a job does not depend on its log.
    """
    global _log
    _log = None
    if path:
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text("")
        except OSError as error:
            raise UserError(f"--log {path}: not written: {refusal(error)}") from None
        _log = Path(path)


def mute() -> None:
    """Print nothing from now on: only one of the processes that share a training reports."""
    global _muted
    _muted = True


def say(message: str) -> None:
    """Print one message, which may have several lines."""
    global _log
    if _muted:
        return
    message = readable(message)
    print(message, file=sys.stderr, flush=True)
    if _log:
        try:
            with _log.open("a", encoding="utf-8", errors="backslashreplace") as handle:
                handle.write(message + "\n")
        except OSError as error:
            print(f"--log {_log}: no more messages are written to it: {refusal(error)}",
                  file=sys.stderr, flush=True)
            _log = None


def readable(message: object) -> str:
    """Return a message whose lines hold nothing that a terminal would act on."""
    return "\n".join(map(forms.shown, str(message).split("\n")))


def track(items: Iterable[T], title: str, total: int, start: int = 0) -> Iterator[T]:
    """Yield the items and report how many are done, how fast it goes and how long it will take.

    Args:
        items: what remains to be done.
        title: what is being done.
        total: how many items there are, including those done before.
        start: how many were done before.

    For a budget in seconds use ``track_seconds``.
    """
    if sys.stderr.isatty() and not _muted:
        yield from tqdm(items, desc=title, initial=start, total=total, leave=False)
        return
    begun = last = time.monotonic()
    for done, item in enumerate(items, start):
        now = time.monotonic()
        if now - last >= EVERY and done > start:
            each = (now - begun) / (done - start)
            left = duration_in_words(each * (total - done))
            say(f"{title}: {done}/{total}, {rate(each)}, about {left} left")
            last = now
        yield item


def track_seconds(items: Iterable[float], title: str, total: float) -> Iterator[float]:
    """Yield the seconds spent so far, and report them with the rate of items.

    Args:
        items: the seconds spent after each item, including earlier runs.
        title: what is being done.
        total: the budget in seconds.
    """
    bar = None
    if sys.stderr.isatty() and not _muted:
        bar = tqdm(desc=title, total=total, leave=False, bar_format=(
            "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s{postfix}"))
    begun = last = time.monotonic()
    for done, spent in enumerate(items):
        now = time.monotonic()
        if done and bar is not None:
            bar.n = min(spent, total)
            bar.set_postfix_str(f"{rate((now - begun) / done)}, about "
                                f"{duration_in_words(total - spent)} left")
        elif done and now - last >= EVERY:
            say(f"{title}: {spent:.0f} of {total:.0f} s, {rate((now - begun) / done)}, about "
                f"{duration_in_words(total - spent)} left")
            last = now
        yield spent
    if bar is not None:
        bar.close()


def rate(each: float) -> str:
    """Return the rate in words from the seconds per item: 4.2 it/s, or 3.1 s/it."""
    return f"{each:.1f} s/it" if each >= 1 else f"{1 / max(each, 1e-9):.1f} it/s"


def duration_in_words(seconds: float) -> str:
    """Return a duration in a readable unit: 42 s, 12 min or 3.5 h."""
    seconds = max(seconds, 0.0)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


SHOWN = 5  # names in a message


def some(names: Iterable[object]) -> str:
    """Name the first few of many."""
    names = [str(name) for name in names]
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more"
                                       if len(names) > SHOWN else "")
