"""Work of other processes beside a measurement is seen; one's own is not."""

import subprocess
import sys
import time

import pytest

from irbench.jobs.profiling import elsewhere
from irbench.jobs.profiling.elsewhere import Elsewhere, Patience


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


class Machine:
    """A machine whose load is given for each measurement or pause, and a clock that they advance.
    """

    def __init__(self, monkeypatch, loads, took=2.0):
        self.loads, self.took, self.now, self.naps, self.runs = iter(loads), took, 0.0, 0, 0
        monkeypatch.setattr(elsewhere, "time", self)
        monkeypatch.setattr(Elsewhere, "__enter__", lambda watch: watch)
        monkeypatch.setattr(Elsewhere, "__exit__",
                            lambda watch, *_: setattr(watch, "cores", next(self.loads)))

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.naps += 1
        self.now += seconds

    def measure(self):
        self.runs += 1
        self.now += self.took
        return self.runs


def test_without_time_a_measurement_is_made_once_and_at_once(monkeypatch):
    machine = Machine(monkeypatch, [1.5])
    assert Patience().measured(machine.measure) == (1, 1.5)
    assert (machine.runs, machine.naps) == (1, 0)


def test_it_begins_when_the_machine_is_quiet_and_ends_when_it_stayed_so(monkeypatch):
    machine = Machine(monkeypatch, [1.0, 1.0, 0.1, 0.05])
    patience = Patience(60)
    assert patience.measured(machine.measure) == (1, 0.05)
    assert machine.naps == 3 and patience.left == 59     # only the busy pauses count


def test_a_disturbed_measurement_is_made_again(monkeypatch):
    machine = Machine(monkeypatch, [0.0, 0.9, 0.0, None])
    patience = Patience(60)
    assert patience.measured(machine.measure) == (2, None)
    assert patience.left == 58


@pytest.mark.parametrize("took", [0.3, 2.0, 100.0])
def test_a_machine_that_never_rests_costs_no_more_than_the_time_given(monkeypatch, took):
    machine = Machine(monkeypatch, (load for _ in range(1000) for load in (1.5,)), took)
    found, cores = Patience(10).measured(machine.measure)
    assert cores == 1.5 and found >= 1
    assert machine.now <= 10 + took + elsewhere.WINDOW


def test_of_disturbed_measurements_the_least_disturbed_counts(monkeypatch):
    machine = Machine(monkeypatch, [0.0, 1.5, 0.0, 0.4, 0.0, 0.8], took=4.0)
    assert Patience(10).measured(machine.measure) == (2, 0.4)
    assert machine.runs == 3
