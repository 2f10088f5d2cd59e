"""Detect whether a machine was busy with other work while a latency was measured.

Reads the kernel's counters of CPU time; writes nothing. A latency measured beside other work is
useless: because each thread waits for the slowest, one busy core of two made forward passes 47
times as slow. So every profile records how many cores other processes kept busy meanwhile.

Try: ``python -c "import time; from irbench.jobs.profiling.elsewhere import Elsewhere
with Elsewhere() as others: time.sleep(1)
print(others.cores)"``
"""

from __future__ import annotations

import os
import time

import psutil


class Elsewhere:
    """A context that measures in ``cores`` how many cores other processes kept busy inside it.

    The unit is 0.01. None if the time was too short for the counters, which tick every 10 ms.
    """

    cores: float | None = None

    def __enter__(self) -> Elsewhere:
        """Read the counters."""
        self._before = _read()
        return self

    def __exit__(self, *error: object) -> None:
        """Read them again."""
        elapsed, machine, own = (b - a for a, b in zip(self._before, _read(), strict=True))
        if elapsed >= 0.1:
            self.cores = round(max(machine - own, 0.0) / elapsed, 2)


def _read() -> tuple[float, float, float]:
    """Return seconds: wall time, CPU time of all processes, CPU time of this process."""
    times = psutil.cpu_times()
    own = os.times()
    return time.monotonic(), times.user + times.system + getattr(times, "nice", 0.0), (
        own.user + own.system)
