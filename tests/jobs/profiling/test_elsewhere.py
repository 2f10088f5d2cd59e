"""Work of other processes beside a measurement is seen; one's own is not."""

import subprocess
import sys
import time

from irbench.jobs.profiling.elsewhere import Elsewhere


def spin(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def test_another_process_is_seen():
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        time.sleep(0.2)
        with Elsewhere() as others:
            time.sleep(1.0)
        other.kill()
    assert others.cores > 0.3  # it may share its core


def test_own_work_does_not_count():
    with Elsewhere() as sleeping:
        time.sleep(0.6)
    with Elsewhere() as working:
        spin(0.6)
    # other tests may run beside this one, but not by as much more
    assert working.cores < sleeping.cores + 0.6


def test_too_short_is_unknown():
    with Elsewhere() as others:
        pass
    assert others.cores is None
