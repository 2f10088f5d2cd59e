"""A job's lock: one process at a time, passed on to a helper, gone without a trace afterwards."""

import os
import subprocess
import sys
import threading

import pytest

from irbench.core import locks
from irbench.core.errors import UserError
from tests.helpers.paths import ROOT


def never(seconds):
    raise AssertionError("there is nothing to wait for")


def hold_elsewhere(path):
    """Hold a lock in another process until its input ends."""
    code = ("import sys; from pathlib import Path; from irbench.core import locks\n"
            "with locks.hold(Path(sys.argv[1]), None): print('held', flush=True); sys.stdin.read()")
    other = subprocess.Popen([sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True,
                             env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert other.stdout.readline() == "held\n"
    return other


def test_a_lock_leaves_no_file(tmp_path):
    path = tmp_path / "new" / "one.lock"
    for _ in range(2):
        with locks.hold(path, never) as waited:
            assert path.exists() and not waited
        assert not path.exists()
    path.touch()    # of a process that was killed
    with locks.hold(path, never) as waited:
        assert not waited


def test_what_a_killed_process_left_is_cleared_unless_it_is_held(tmp_path):
    path = tmp_path / "one.lock"
    locks.clear(path)       # none is there
    path.touch()
    locks.clear(path)
    assert not path.exists()
    with locks.hold(path, never):
        locks.clear(path)
        assert path.exists()


def test_whether_a_lock_is_held_is_found_without_touching_it(tmp_path):
    path = tmp_path / ".lock"
    assert not locks.held(path) and not path.exists()
    with locks.hold(path, print):
        assert locks.held(path)
        assert not locks.lock(path.open("a"))       # it is held as before
    path.touch()                                    # left by a process that was killed
    assert not locks.held(path) and path.exists()


@pytest.mark.parametrize("how", ["ends", "is killed"])
def test_one_process_waits_for_the_other(tmp_path, how):
    path, seen = tmp_path / "one.lock", []
    other = hold_elsewhere(path)

    def waiting(seconds):
        seen.append(seconds)
        if len(seen) == 2:
            other.kill() if how == "is killed" else other.stdin.close()
            other.wait()

    with locks.hold(path, waiting) as waited:
        assert waited and len(seen) == 2
        # nobody else gets it, though the other one has removed its file
        with pytest.raises(TimeoutError), locks.hold(path, give_up):
            pass
    assert not path.exists()
    other.stdout.close()


def give_up(seconds):
    raise TimeoutError


def test_of_several_that_wait_each_has_it_alone(tmp_path):
    path, inside, most = tmp_path / "one.lock", [], []

    def work():
        for _ in range(5):
            with locks.hold(path, lambda seconds: None):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert most == [1] * 15


def test_a_lock_that_was_passed_on_is_held_until_both_have_ended(tmp_path, monkeypatch):
    path = tmp_path / "one.lock"
    code = ("import sys; from pathlib import Path; from irbench.core import locks\n"
            "with locks.hold(Path(sys.argv[1]), None) as waited: print(waited, flush=True)\n"
            "print(len(locks.passed_on()[1]), flush=True); sys.stdin.read()")
    with locks.hold(path, never):
        environment, numbers = locks.passed_on()
        assert len(numbers) == 1
        helper = subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, pass_fds=numbers,
            stdout=subprocess.PIPE, text=True,
            env={**os.environ, **environment, "PYTHONPATH": str(ROOT)})
        assert helper.stdout.readline() == "False\n"    # it did not wait for its own starter
        assert helper.stdout.readline() == "1\n"        # and passes the lock on
        assert path.exists()
        kept = path.with_name("kept.lock")
        kept.hardlink_to(path)      # as if this process had been killed: the file stays
    kept.rename(path)
    with pytest.raises(TimeoutError), locks.hold(path, give_up):
        pass
    helper.stdin.close()
    helper.wait()
    helper.stdout.close()
    with locks.hold(path, never):
        pass
    assert locks.passed_on() == ({}, ())
    # a number that is open no more, or something else, is no lock
    for text in ("999:/x", "x:/x", ""):
        monkeypatch.setenv(locks.PASSED_ON, text)
        assert locks.passed_on() == ({}, ())


def test_a_folder_that_cannot_be_written_is_one_message(tmp_path):
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "one.lock"
    for call in (lambda: locks.claim(path), locks.hold(path, never).__enter__):
        with pytest.raises(UserError, match=r"one\.lock: not written: "):
            call()
