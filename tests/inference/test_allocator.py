"""Whether freed memory is kept, and returned where it is asked for."""

import subprocess
import sys

import pytest

PROGRAM = """
import numpy as np
from irbench.inference import allocator


def resident():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if "VmRSS" in line)


assert allocator.keep()
blocks = [np.ones(2**20) for _ in range(20)]    # 8 MB each
last = np.ones(2**20)                           # behind them, so that the heap cannot shrink
full = resident()
del blocks
kept = resident()
assert allocator.release()
print(full - kept, kept - resident())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_freed_blocks_are_kept_until_they_are_released():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True,
                          check=True)
    freed, released = map(int, done.stdout.split())
    assert freed < 20 * 1024 and released > 140 * 1024


def test_another_c_library_is_no_error(monkeypatch):
    from irbench.inference import allocator

    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    assert not allocator.keep() and not allocator.release()
