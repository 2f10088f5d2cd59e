"""The workflow on a real Slurm of one node, with eight pretend GPUs (.ci/slurm).

All tests share three runs that go on at once, since starting the jobs takes most of the time.
"""

import importlib.util
import shutil
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest
import yaml

from irbench import plan
from irbench.core import records
from irbench.jobs import run as running
from irbench.jobs.result import RunSettings
from tests.helpers import slurm

PLUGIN = "snakemake_executor_plugin_slurm"
MISSING = next((f"no {name}" for name in ("sbatch", "sacct", "scontrol") if not shutil.which(name)),
               None) or (None if importlib.util.find_spec(PLUGIN) else f"no {PLUGIN}")
pytestmark = [pytest.mark.slurm, pytest.mark.slow,
              pytest.mark.skipif(bool(MISSING), reason=f"no Slurm here: {MISSING}")]
GPUS = 8
SCOPE = "sr-x2@1"
TRAINING = {"recipe": "demo", "data": ["tinytrain"], "steps": 300, "patch": 16, "batch": 2,
            "save_every": 2}


def answers():
    try:
        return "up" in slurm.run("sinfo", "--noheader", "--format", "%a")
    except (OSError, subprocess.SubprocessError):
        return False


SLOW = ("hurt", "timed")        # runs, and the one model of each


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Three runs of one folder, started at once: ``first``, and two whose trainings are slow."""
    if not answers():
        pytest.skip("no Slurm here: its controller does not answer (.ci/slurm start)")
    folder = tmp_path_factory.mktemp("slurm").resolve()
    models = {f"met{number}": {"arch": "meeting", "profile": False} for number in range(GPUS)}
    config = slurm.make(folder, run="first", models={
        **models, "tiny": {"training": TRAINING | {"steps": 12}}}, cells=[
        {"protocol": "sr-x2", "datasets": ["tinyset"], "models": list(models)},
        {"protocol": "sr-x2", "datasets": ["tinyset"], "models": ["tiny"]}])
    value = yaml.safe_load(config.read_text())
    for name in SLOW:
        value |= {"run": name, "models": {name: {
            "arch": "slow", "profile": False, "options": {"slow_while": f"slow-{name}"},
            "training": TRAINING}},
            "cells": [{"protocol": "sr-x2", "datasets": ["tinyset"], "models": [name]}]}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(value, sort_keys=False))
        (folder / f"slow-{name}").touch()
    started = {name: slurm.start(folder, f"{config}.yaml", f"{name}.log")
               for name, config in (("first", "config"), *((name, name) for name in SLOW))}
    yield folder, started
    for process in started.values():
        process.kill()
        process.wait()
    for rule in ("train", "evaluate", "profile", "leaks"):
        for number in slurm.jobs(rule, folder):
            slurm.run("scancel", number)


@pytest.fixture(scope="module")
def limits(world):
    """End the training of ``timed`` by five time limits, beside all else; return the jobs."""
    def end_all():
        numbers = []
        for _ in range(5):
            numbers.append(attempt(world, numbers, name="timed"))
            slurm.run("scontrol", "update", f"JobId={numbers[-1]}", "TimeLimit=00:01:00")
        attempt(world, numbers, name="timed")
        (world[0] / "slow-timed").unlink()
        return numbers

    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(end_all)


def attempt(world, before=(), name="hurt"):
    """Wait until a job of a slow training, other than some, has saved a state; return it."""
    folder, started = world

    def others():
        assert started[name].poll() is None, log(folder, name)
        return set(slurm.jobs("train", folder, "RUNNING", name=name)).difference(before)

    number = slurm.wait_for(others, "a training").pop()
    saves(folder, name)
    return number


def begins_again(world, number):
    """Wait until a job was sent back into the queue, and let it begin at once."""
    folder, _ = world
    slurm.wait_for(lambda: slurm.jobs("train", folder, "PENDING", name="hurt"), "a requeue")
    for one in slurm.jobs("train", folder, "PENDING"):      # a preemption ends both trainings
        slurm.run("scontrol", "update", f"JobId={one}", "StartTime=now")    # not in two minutes
    assert attempt(world) == number


def saves(folder, name="hurt"):
    """Wait until a slow training saves a state."""
    path = folder / f"results/{name}/training/{SCOPE}/{name}.state"

    def stamp():
        return path.stat().st_mtime_ns if path.exists() else 0

    before = stamp()
    slurm.wait_for(lambda: stamp() > before, "a saved state")


def log(folder, name):
    return (folder / f"{name}.log").read_text()


def test_a_training_that_is_ended_again_and_again_has_the_bytes_of_an_undisturbed_one(
        world, limits, monkeypatch):
    """By SIGTERM, kill -9, a requeue, another job's preemption, and the death of the process that
    submits.

    Not by scancel: Snakemake's plugin 2.8.0 does not notice it, and goes on waiting.
    """
    folder, started = world
    first = attempt(world)
    slurm.run("scancel", "--signal=TERM", first)        # as --signal of the profile does
    second = attempt(world, [first])
    assert records.read(folder / f"results/hurt/training/{SCOPE}/hurt.json")["status"] == "paused"
    slurm.kill(second)
    third = attempt(world, [first, second])
    slurm.run("scontrol", "requeue", third)
    begins_again(world, third)
    urgent = slurm.run("sbatch", "--parsable", "--partition=urgent", "--exclusive",
                       "--output=/dev/null", "--wrap=sleep 1").strip()
    begins_again(world, third)
    assert slurm.ended(urgent) == ["COMPLETED"]
    assert slurm.ended(third)[-2:] == ["REQUEUED", "PREEMPTED"]

    started["hurt"].send_signal(signal.SIGKILL)
    started["hurt"].wait()
    saves(folder)       # the job goes on
    started["hurt"] = slurm.start(folder, "hurt.yaml", "hurt.log")
    slurm.wait_for(lambda: len(slurm.jobs("train", folder, "RUNNING", name="hurt")) == 2,
                   "a second job")
    told = folder / f"results/hurt/logs/training/{SCOPE}/hurt.log"      # begun anew by the second
    slurm.wait_for(lambda: told.exists() and "waiting for another process" in told.read_text(),
                   "one that waits")
    (folder / "slow-hurt").unlink()
    assert started["hurt"].wait(600) == 0, log(folder, "hurt")

    assert not list(folder.glob("results/hurt/training/*/*.state*"))    # the record was seen
    assert (folder / "results/hurt/report.html").is_file()
    same_as_undisturbed(folder, "hurt", monkeypatch)


def same_as_undisturbed(folder, name, monkeypatch):
    """A slow training has ended, and its weights are those of the same one without a cluster."""
    record = records.read(folder / f"results/{name}/training/{SCOPE}/{name}.json")
    assert (record["status"], record["result"]["steps"]) == ("ok", TRAINING["steps"])
    apart = folder / f"apart-{name}"
    apart.mkdir()
    monkeypatch.chdir(apart)
    planned = plan.load(folder / f"{name}.yaml")
    alone = running.do(planned, next(iter(planned.trainings.values())), RunSettings(threads=1))
    assert alone["result"]["checkpoint"]["sha256"] == record["result"]["checkpoint"]["sha256"]


def test_a_run_from_nothing_to_its_report_has_each_cell_on_a_gpu_of_its_own(world):
    folder, started = world
    assert started["first"].wait(600) == 0, log(folder, "first")
    summary = pd.read_csv(folder / "results/first/summary.csv")
    assert set(summary.status) == {"ok"} and len(summary) == GPUS + 1
    cells = [records.read(path) for path in folder.glob("results/first/cells/*/*/met*.json")]
    assert len({one["provenance"]["gpu_uuid"] for one in cells}) == GPUS
    assert len(list((folder / "met").iterdir())) == GPUS    # and all of them met
    assert (folder / "results/first/report.html").is_file()
    assert "gres" not in log(folder, "first").lower()

    again = slurm.start(folder, "config.yaml", "again.log")
    assert again.wait(300) == 0 and "Nothing to be done" in log(folder, "again")


def test_a_training_over_five_time_limits_has_the_bytes_of_an_undisturbed_one(
        world, limits, monkeypatch):
    """Slurm says 120 s before the limit that it comes (``--signal`` in the profile).

    The last test, which may be cut off where time is short.
    """
    folder, _ = world
    numbers = limits.result(600)
    assert len(set(numbers)) == 5
    path = folder / f"results/timed/training/{SCOPE}/timed.json"
    slurm.wait_for(lambda: records.read(path)["status"] == "ok", "the end of the training")
    for number in numbers:      # its limit, or the training itself just before
        assert slurm.ended(number)[-1] in ("TIMEOUT", "FAILED"), slurm.ended(number)
    same_as_undisturbed(folder, "timed", monkeypatch)
