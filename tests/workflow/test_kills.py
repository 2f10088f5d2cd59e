"""kill -9 at random moments (benchmarks/kill.py): a few of its cycles, and that it finds faults."""

import os
import random
import subprocess
import sys
import time
from importlib import util

import psutil
import pytest

from irbench.core import digests, files, records
from irbench.core.errors import UserError
from tests.helpers.paths import ROOT


@pytest.fixture(scope="module")
def kills():
    spec = util.spec_from_file_location("benchmark_of_kills", ROOT / "benchmarks" / "kill.py")
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_after_kills_the_next_run_is_right(kills, tmp_path):
    found = kills.campaign(tmp_path, 2, seed=5)
    assert found["kills"] >= 2 and found["unclean"] == []


@pytest.mark.slow
def test_jobs_end_with_snakemake_and_the_next_run_goes_on(kills, tmp_path):
    """Snakemake alone is killed while a job of it is at work; the next run starts at once."""
    kills.write_world(tmp_path)
    first = kills.start(tmp_path, "first.yaml", whole=False)
    until = time.monotonic() + 120
    while not list(tmp_path.glob("results/killed/training/*/*.lock")):
        assert time.monotonic() < until and first.poll() is None
        time.sleep(0.02)
    assert kills.kill(first, "snakemake", random.Random(0))
    first.wait()
    orphans = kills.workers(tmp_path)
    assert orphans
    assert kills.start(tmp_path, "second.yaml", whole=False).wait(300) == 0, (
        tmp_path / "log.txt").read_text()
    assert not any(map(psutil.Process.is_running, orphans))
    stored = [records.read(tmp_path / f"results/killed/{name}.json") for name in kills.RECORDS]
    assert [one["status"] for one in stored] == ["ok"] * 6
    training = records.read(tmp_path / "results/killed/training/sr-x2@1/smallest.json")
    assert training["spec"]["model"]["options"]["strength"] == 0.2


@pytest.mark.slow
def test_everything_ends_with_irbench_run(kills, tmp_path):
    """Its Snakemake, and the jobs of that; ``irbench run`` alone is killed."""
    kills.write_world(tmp_path)
    with (tmp_path / "log.txt").open("w") as log:
        run = subprocess.Popen(
            [sys.executable, "-m", "irbench", "run", "first.yaml", "--cores", "2"], cwd=tmp_path,
            stdout=log, stderr=log, start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)})
    until = time.monotonic() + 120
    while not list(tmp_path.glob("results/killed/training/*/*.lock")):
        assert time.monotonic() < until and run.poll() is None, (tmp_path / "log.txt").read_text()
        time.sleep(0.02)
    run.kill()
    run.wait()
    left = kills.workers(tmp_path)
    assert any("snakemake" in one.cmdline() for one in left)
    assert psutil.wait_procs(left, 60)[1] == []


def test_every_damage_of_a_record_is_noticed(kills, tmp_path):
    for name, damage in kills.DAMAGES.items():
        path = tmp_path / name / "one.json"
        files.write_json(path, records.make("cell", {"model": "a"}, {"x": 1}, result={
            "images": [{"name": "b", "ssim": 0.25}], "mean": {"ssim": 0.25}}))
        assert records.read(path)
        damage(path)
        with pytest.raises(UserError, match="no such record|not readable|not a valid"):
            records.read(path)


def test_a_fault_makes_a_cycle_unclean(kills, tmp_path, monkeypatch):
    """Another value, a failed run, a file that is left: each is told; what may stay is not."""
    monkeypatch.setattr(kills.plan, "load", lambda config: None)
    monkeypatch.setattr(kills.verify, "find", lambda planned: [])
    run = tmp_path / "results/killed/cells"
    files.write_json(run / "one.json", {"result": {"mean": 1}, "seconds": 3})
    expected, usual = kills.values(tmp_path), kills.paths(tmp_path)
    assert usual == {"results/killed/cells/one.json"}
    files.write_json(tmp_path / "results/killed/training/p/m.json", records.make(
        "training", {"protocol": "p", "model": "m"}, {"x": 1}, result={
            "steps": 1, "seconds": 1.0, "images_seen": 2,
            "checkpoint": {"file": "checkpoints/p/m.safetensors", "sha256": "0" * 64}}))
    usual.add("results/killed/training/p/m.json")
    own = digests.fingerprint({"x": 1})[:8]
    for path in ("logs/one.log", "cells/one.json.1/file", "plan.json/file", "training/p/m.state",
                 "training/p/m.state.0123abcd"):
        (run.parent / path).parent.mkdir(parents=True, exist_ok=True)
        (run.parent / path).touch()
    assert kills.problems(tmp_path, "first.yaml", 0, expected, usual) == []
    files.write_json(run / "one.json", {"result": {"mean": 1}, "seconds": 4})
    assert kills.problems(tmp_path, "first.yaml", 0, expected, usual) == []
    files.write_json(run / "one.json", {"result": {"mean": 2}, "seconds": 4})
    left = ("cells/.one.json.abcdefgh.json", "cells/one.lock", "cells/one.partial-1-of-2",
            f"training/p/m.state.{own}")
    for path in left:
        (run.parent / path).touch()
    monkeypatch.setattr(kills.verify, "find", lambda planned: ["data x: not computed"])
    assert kills.problems(tmp_path, "first.yaml", 1, expected, usual) == [
        "the run ended with code 1", "data x: not computed",
        "results/killed/cells/one.json: not the values of an undisturbed run",
        *(f"results/killed/{path} is left over" for path in left)]
