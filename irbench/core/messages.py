"""Messages and progress for people, on stderr: a live line on a terminal, else lines at intervals.

Several jobs of a run share one output, where live lines would overwrite each other; they use
``plain``.

Try: ``python -c "import time; from irbench.core import messages
for _ in messages.track(range(50), 'work', 50): time.sleep(0.5)"``
"""

from __future__ import annotations

import io
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from tqdm import tqdm

from irbench.core import forms
from irbench.core.errors import UserError, refusal

T = TypeVar("T")
EVERY = 10.0  # seconds between lines
SILENT = 30.0   # a picture that will probably take longer is named when it begins
LARGE = 2.5e5   # pixels of a picture that is named before it is known how fast the work goes
_log: Path | None = None
_muted = _plain = False
# of the live line of a budget in seconds
BUDGET = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s{postfix}"
# of the live line of pictures, whose length and time left go by pixels
PIXELS = "{desc}: {percentage:3.0f}%|{bar}| [{elapsed}<{remaining}{postfix}]"


def log_to(path: str | Path | None) -> None:
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


def plain() -> None:
    """Report progress by lines from now on, on a terminal, too: others write to it at once."""
    global _plain
    _plain = True


def is_live() -> bool:
    """Return whether progress is one line that is rewritten: on a terminal of our own.

    A terminal that does not tell its width, as that of some containers, gets lines as well.
    """
    if _muted or _plain or not sys.stderr.isatty():
        return False
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns > 0
    except (OSError, ValueError):       # something that only behaves like a terminal
        return True


def print_anything() -> None:
    """Let this process print every text: what the terminal cannot show becomes an escape."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(message: str) -> None:
    """Print one message, which may have several lines."""
    if _muted:
        return
    message = readable(message)
    with tqdm.external_write_mode(file=sys.stderr):     # above the line of a progress
        print(message, file=sys.stderr, flush=True)
    _to_log(message)


def readable(message: object) -> str:
    """Return a message whose lines hold nothing that a terminal would act on."""
    return "\n".join(map(forms.shown, str(message).split("\n")))


def _to_log(message: str) -> None:
    global _log
    if _log is None:
        return
    try:
        with _log.open("a", encoding="utf-8", errors="backslashreplace") as handle:
            handle.write(message + "\n")
    except OSError as error:
        print(f"--log {_log}: no more messages are written to it: {refusal(error)}",
              file=sys.stderr, flush=True)
        _log = None


class Sized(NamedTuple):
    """A picture to work on: its name for people, and its pixels (0 if they are not known)."""

    name: str
    pixels: float


class Progress:
    """How much of a piece of work is done, how fast it goes and how long it will take.

    On a terminal this is one line that is rewritten and removed in the end; elsewhere, and in the
    log, it is a line every ``EVERY`` seconds at most. Several threads may report. Used in a
    ``with`` block.
    """

    def __init__(self, title: str, total: float | None, start: float = 0, unit: str = "",
                 show: bool = True, pixels: float = 0) -> None:
        """Begin the work.

        Args:
            title: what is being done.
            total: how much there is to do, with what was done before; None if that is not known.
            start: how much was done before.
            unit: ``B`` for bytes, ``s`` for a budget in seconds, "" for items.
            show: whether to report at all.
            pixels: of all items that remain, if they are pictures: the time left goes by pixels,
                since a picture may have a hundred times those of another one. 0: items are alike.
        """
        self.title, self.total, self.unit = title, total, unit
        self.start = self.done = start
        self.begun = self.last = time.monotonic()
        self.rounds = 0     # of a budget in seconds
        self.pixels, self.pixels_done = pixels, 0.0
        self.shown, self._lock, self._bar = show and not _muted, threading.RLock(), None
        if self.shown and is_live():
            how = ({"bar_format": PIXELS, "miniters": 0} if pixels else
                   {"bar_format": BUDGET} if unit == "s" else {"unit": unit or "it"})
            # the sizes of what was done before are not known: taken as those of the rest
            each = pixels / (total - start) if pixels else 1
            self._bar = tqdm(desc=title, initial=start * each,
                             total=None if total is None else total * each, leave=False,
                             file=sys.stderr, unit_scale=unit == "B", **how)
            if pixels:
                self._bar.set_postfix_str(self._so_far())

    def __enter__(self) -> Progress:
        """Report this work until the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the live line."""
        if self._bar is not None:
            self._bar.close()

    def begin(self, picture: Sized) -> None:
        """Name a picture that begins if the next line will be long in coming."""
        if not self.shown:
            return
        name = f"{self.title}: now {picture.name}, {picture.pixels / 1e6:.1f} megapixels"
        if not self.pixels_done:
            if picture.pixels >= LARGE:
                say(name)
            return
        seconds = (time.monotonic() - self.begun) / self.pixels_done * picture.pixels
        if seconds >= SILENT:
            say(f"{name}, about {duration_in_words(seconds)}")

    def advance(self, amount: float = 1, pixels: float = 0) -> None:
        """Count what has been done since; less than 0 if something has to be done again.

        ``pixels``: those of the picture that has been done.
        """
        with self._lock:
            self.reach(self.done + amount, pixels)

    def reach(self, done: float, pixels: float = 0) -> None:
        """Count how much has been done in all, of ``total``; ``pixels`` as for ``advance``."""
        if not self.shown:
            return
        with self._lock:
            amount, self.done = done - self.done, done
            self.pixels_done += pixels
            self.rounds += 1
            now = time.monotonic()
            if self._bar is not None:
                if self.pixels:
                    self._bar.set_postfix_str(self._so_far(), refresh=False)
                    amount = pixels
                if self.unit == "s":
                    self._bar.set_postfix_str(self._pace(now), refresh=False)
                    amount = min(done, self.total) - self._bar.n
                self._bar.update(amount)
            if now - self.last >= EVERY and done > self.start:
                self.last = now
                line = f"{self.title}: {self._so_far()}, {self._pace(now)}"
                if self._bar is None:
                    say(line)
                else:
                    _to_log(line)

    def _so_far(self) -> str:
        if self.unit == "s":
            return f"{self.done:.0f} of {self.total:.0f} s"
        if self.unit == "B":
            return megabytes(self.done) if self.total is None else (
                f"{megabytes(self.done, '')} of {megabytes(self.total)}")
        return f"{self.done:.0f}" if self.total is None else f"{self.done:.0f}/{self.total:.0f}"

    def _pace(self, now: float) -> str:
        """Return the rate, and the time left if it is known."""
        spent = now - self.begun
        if self.unit == "s":
            left, pace = self.total - self.done, rate(spent / self.rounds)
        else:
            each = spent / (self.done - self.start) if self.done > self.start else 0.0
            left = None if self.total is None else each * (self.total - self.done)
            if self.pixels:
                left = (spent / self.pixels_done * (self.pixels - self.pixels_done)
                        if self.pixels_done else None)
            pace = f"{megabytes(1 / max(each, 1e-12))}/s" if self.unit == "B" else rate(each)
        return f"{pace}, about {duration_in_words(left)} left" if left and left > 0 else pace


def track(items: Iterable[T], title: str, total: int | None, start: int = 0,
          pictures: Sequence[Sized] = ()) -> Iterator[T]:
    """Yield the items and report how many are done (``Progress``).

    Args:
        items: what remains to be done.
        title: what is being done.
        total: how many items there are, including those done before; None if that is not known.
        start: how many were done before.
        pictures: if the items are pictures, all of them in order. The time left then goes by
            pixels, and a picture that will take long is named when it begins.

    For a budget in seconds use ``track_seconds``.
    """
    with Progress(title, total, start,
                  pixels=sum(picture.pixels for picture in pictures)) as progress:
        if pictures:
            progress.begin(pictures[0])
        for i, item in enumerate(items):
            yield item
            progress.advance(1, pictures[i].pixels if pictures else 0)
            if i + 1 < len(pictures):
                progress.begin(pictures[i + 1])


def track_seconds(items: Iterable[float], title: str, total: float) -> Iterator[float]:
    """Yield the seconds spent so far, and report them with the rate of items.

    Args:
        items: the seconds spent after each item, including earlier runs.
        title: what is being done.
        total: the budget in seconds.
    """
    with Progress(title, total, unit="s") as progress:
        for done, spent in enumerate(items):
            if done:
                progress.reach(spent)
            yield spent


def megabytes(count: float, unit: str = " MB") -> str:
    """Return a number of bytes in MB, with one digit after the point below 100."""
    return f"{count / 1e6:.{1 if count < 1e8 else 0}f}{unit}"


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
