"""Detect whether a machine was busy with other work while a latency was measured, and wait.

Reads the kernel's counters of CPU time; writes nothing. A latency measured beside other work is
useless: because each thread waits for the slowest, one busy core of two made forward passes 47
times as slow. So every profile and benchmark records how many cores other processes kept busy
meanwhile. With time to spare (``Patience``), a measurement waits until the machine is quiet, and is
repeated if it was disturbed.

Try: ``python -c "import time; from irbench.jobs.profiling.elsewhere import Elsewhere
with Elsewhere() as others: time.sleep(1)
print(others.cores)"``
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

import psutil

from irbench.core import machine, messages

WINDOW = 0.5                    # seconds for which the machine must be quiet
COUNTABLE = 0.5                 # seconds; over less the counters are off by a tenth of a core
T = TypeVar("T")


class Elsewhere:
    """A context that measures in ``cores`` how many cores other processes kept busy inside it.

    The unit is 0.01. None if the time was shorter than ``least`` seconds, because the counters tick
    every 10 ms.
    """

    cores: float | None = None

    def __init__(self, least: float = 0.1) -> None:
        """Measure nothing yet."""
        self.least = least

    def __enter__(self) -> Elsewhere:
        """Read the counters."""
        self._before = _read()
        return self

    def __exit__(self, *error: object) -> None:
        """Read them again."""
        elapsed, everything, own = (b - a for a, b in zip(self._before, _read(), strict=True))
        if elapsed >= self.least:
            self.cores = round(max(everything - own, 0.0) / elapsed, 2)


class Patience:
    """The seconds that a job may lose, over all its measurements, for a quiet machine.

    Only time that the machine was busy counts; without any time left, each measurement is made once
    and at once. So a job takes at most about these seconds longer.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        """Start with so many seconds; 0: never wait."""
        self.left = seconds

    def measured(self, measure: Callable[[], T], least: float = 0.1) -> tuple[T, float | None]:
        """Return the result of a measurement, and the cores that other processes used meanwhile.

        It begins when the machine is quiet, and is repeated while it was disturbed and there is
        time for once more; of several the least disturbed counts.

        Args:
            measure: what is measured; it must be possible to call it again.
            least: seconds below which the load is not known (``Elsewhere``).
        """
        kept: tuple[T, float | None] | None = None
        while True:
            self._wait()
            begun = time.monotonic()
            with Elsewhere(least) as others:
                found = measure()
            took = time.monotonic() - begun
            if kept is None or (others.cores or 0.0) < (kept[1] or 0.0):
                kept = found, others.cores
            if not machine.busy(others.cores) or self.left < took:
                return kept
            self.left -= took
            messages.say(f"other processes kept {others.cores:.1f} cores busy: measured again")

    def _wait(self) -> None:
        """Return when other processes are quiet for ``WINDOW`` seconds, or no time is left."""
        told = False
        while self.left > 0:
            with Elsewhere() as others:
                time.sleep(WINDOW)
            if not machine.busy(others.cores):
                return
            self.left -= WINDOW
            if not told:
                messages.say(f"other processes keep {others.cores:.1f} cores busy: waiting for a "
                             f"quiet machine, at most {self.left:.0f} s")
            told = True


def _read() -> tuple[float, float, float]:
    """Return seconds: wall time, CPU time of all processes, CPU time of this process."""
    times = psutil.cpu_times()
    own = os.times()
    return time.monotonic(), times.user + times.system + getattr(times, "nice", 0.0), (
        own.user + own.system)
