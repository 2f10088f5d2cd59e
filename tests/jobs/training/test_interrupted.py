"""Trainings in processes of their own, killed and stopped for real, then continued."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch

from irbench.catalog import recipes
from irbench.core import records
from irbench.jobs import life
from irbench.jobs.training import loop, state
from tests.helpers import trainings
from tests.helpers.paths import ROOT
from tests.helpers.trainings import Apart, again, change, job, outcome, result, train

# every kind of state at once
ALL = {"optimiser": "muon", "ema": 0.9, "holdout": 1, "validate_every": 3, "accumulate": 2,
       "phases": [{"from": 0}, {"from": 0.5, "batch": 2, "patch": 24}], "save_every": 1}


def killed(*_):
    """Stand in for what a killed process no longer does."""
    raise SystemExit


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def wait_for(path, alive, seconds=900):
    """Wait for a file as long as its process lives: a loaded machine may need minutes."""
    until = time.monotonic() + seconds
    while not path.exists():
        assert alive() or path.exists(), f"it ended without {path}"
        assert time.monotonic() < until, f"{path} did not appear"
        time.sleep(0.01)


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_with_the_same_bytes(folder):
    config = trainings.make(folder, **ALL)
    assert train(config) == 0
    whole = outcome(config)
    again(config)
    draw = random.Random(7)
    # killed from outside as soon as there is something to continue from
    one = Apart(config)
    path = job(config).record.with_suffix(".state")
    wait_for(path, one.process.is_alive)
    one.process.kill()
    assert one.code() == -signal.SIGKILL
    reached = []
    writing = ("irbench/jobs/training/state.py", "irbench/core/files.py")
    # while a state is written and moved, twelve lines at most of which matter; then anywhere
    for files, most in [(("irbench/core/files.py",), 40)] * 3 + [(writing, 900)] * 3 + [
            ((*writing, "jobs/training/loop.py", "jobs/training/curve.py"), 1800)] * 2:
        code = Apart(config, dies=(files, draw.randrange(1, most))).code()
        assert code in (-signal.SIGKILL, 0)
        reached.append(code)
        if code == 0:
            break
    assert reached.count(-signal.SIGKILL) >= 5
    if reached[-1]:
        assert Apart(config).code() == 0
    assert outcome(config) == whole
    assert not list(path.parent.glob(".thin*"))
    assert not list(path.parent.glob("*.state*"))


def test_before_each_line_of_a_save_there_is_a_good_state(folder):
    """Whenever a save is cut off, what is found next is the old state or the new one."""
    resolved = recipes.resolve({"recipe": "demo"}, "x")

    def one(step=None, training="f"):
        found = state.State(torch.nn.Linear(2, 2), resolved, training, folder / "m.state")
        found.step = step or 0
        return found

    found = []

    def lines(frame, event, _):
        if event == "line":
            sys.settrace(None)
            there = one()
            there.resume()
            found.append(there.step)
            sys.settrace(calls)
        return lines

    def calls(frame, *_):
        watched = frame.f_code.co_filename.endswith(("training/state.py", "irbench/core/files.py"))
        return lines if watched else None

    one(1).save()
    for step in (2, 3):
        found.clear()
        sys.settrace(calls)
        try:
            one(step).save()
        finally:
            sys.settrace(None)
        assert len(found) > 20
        assert set(found) == {step - 1, step}
        assert found == sorted(found)
    # another training takes the place: this one's state is there all the while
    found.clear()
    other = one(training="other")
    other.resume()
    sys.settrace(calls)
    try:
        other.save()
    finally:
        sys.settrace(None)
    assert len(found) > 20
    assert set(found) == {3}
    assert sorted(path.name for path in folder.iterdir()) == ["m.state", "m.state.f"]


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_signal_to_all_processes_ends_it_cleanly(folder, workers):
    config = trainings.make(folder, steps=100_000, save_every=3, workers=workers)
    one = Apart(config)
    path = job(config).record.with_suffix(".state")
    wait_for(path, one.process.is_alive)
    os.killpg(one.process.pid, signal.SIGTERM)
    assert one.code() == 3
    assert state.read(path)["step"] >= 3
    assert path.with_suffix(".csv").exists()
    assert not list(path.parent.glob(".thin*"))


@pytest.mark.parametrize("how", ["deleted", "cut off"])
def test_the_best_weights_that_are_gone_are_written_again(folder, monkeypatch, how):
    """Between the last state, which is that of the best validation, and the record."""
    config = trainings.make(folder, steps=4, holdout=1, validate_every=2)
    assert train(config) == 0
    whole = outcome(config)
    best = folder / "results/tiny" / whole["best"]["file"]
    assert whole["best"]["step"] == 4
    again(config)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "write", killed)
        assert train(config) == 2
    assert job(config).record.with_suffix(".state").exists() and not job(config).record.exists()
    if how == "deleted":
        best.unlink()
    else:
        best.write_bytes(best.read_bytes()[:99])
    assert train(config) == 0
    assert outcome(config) == whole


def test_out_of_minutes_it_pauses_and_the_same_command_goes_on(folder):
    config = trainings.make(folder)
    assert train(config) == 0
    whole = result(config)["checkpoint"]
    again(config)
    assert Apart(config, "--max-minutes", "1e-9").code() == 3
    assert Apart(config, "--max-minutes", "60").code() == 0
    assert result(config)["checkpoint"] == whole


@pytest.mark.slow
def test_in_a_workflow_a_pause_is_a_record_with_its_reason_and_the_next_run_goes_on(folder, capfd):
    config = trainings.make(folder)
    one = job(config)
    assert train(config, "--on-failure", "record", "--max-minutes", "1e-9") == 0
    record = records.read(one.record)
    assert record["status"] == "paused"
    assert record["reason"].startswith("stopped after step 1 of 12; the state is saved")
    assert train(config, "--on-failure", "record") == 0
    assert "continuing after step 1" in capfd.readouterr().err
    assert result(config)["steps"] == 12 and records.read(one.record)["status"] == "ok"


def test_ctrl_c_saves_too(folder):
    config = trainings.make(folder, steps=100_000)
    one = Apart(config)
    path = job(config).record.with_suffix(".state")
    wait_for(path, one.process.is_alive)
    os.killpg(one.process.pid, signal.SIGINT)
    assert one.code() == 3
    change(config, steps=100_001)
    assert state.read(path)["step"] >= 4


@pytest.mark.slow
def test_a_training_whose_run_was_killed_saves_and_ends(folder):
    run = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(300)"])
    named = f"{life._machine()}:{run.pid}:{life._started(run.pid)}"
    config = trainings.make(folder, steps=100_000, save_every=3)
    one = subprocess.Popen(
        [sys.executable, "-m", "irbench", "train", "--config", str(config), "--protocol", "sr-x2",
         "--model", "thin", "--on-failure", "record"],
        env={**os.environ, life.VARIABLE: named, "PYTHONPATH": str(ROOT)})
    path = job(config).record.with_suffix(".state")
    wait_for(path, lambda: one.poll() is None)
    run.kill()      # not waited for: it stays a zombie, and counts as ended
    assert one.wait(60) == 0
    run.wait()
    assert state.read(path)["step"] >= 3
    assert not path.with_suffix(".lock").exists()


@pytest.mark.slow
def test_a_signal_to_the_process_that_watches_a_job_reaches_the_job(folder):
    """As a cluster sends it to what it started: the training saves what it has and says so."""
    config = trainings.make(folder, steps=100_000, save_every=3)
    one = Apart(config, "--on-failure", "record")
    wait_for(job(config).record.with_suffix(".state"), one.process.is_alive)
    one.process.terminate()
    assert one.code() == 0
    record = records.read(job(config).record)
    assert record["status"] == "paused" and "the same command continues" in record["reason"]
