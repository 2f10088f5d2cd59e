"""Cells in parts, as a user runs them; how parts become a record: tests/jobs/test_parts.py."""

import os
import signal
import time

import pytest
import yaml

from irbench import plan
from irbench.core import records
from irbench.jobs import run as jobs
from irbench.jobs.result import RunSettings
from tests.helpers import tiny
from tests.helpers.workflow import snakemake

SETS = ("tinyset", "again")
CELLS = [f"results/tiny/cells/sr-x2@2/{name}/bicubic.json" for name in SETS]
PARTS = "results/tiny/cells/sr-x2@2/*/bicubic.*"


@pytest.fixture
def world(tmp_path):
    """A config with a cell on each of two sets, both in two parts."""
    config = tiny.make(tmp_path, shards=2, metrics=["ssim"], models={"bicubic": {}}, cells=[
        {"protocol": "sr-x2", "datasets": list(SETS), "models": ["bicubic"]}])
    catalog = yaml.safe_load((tmp_path / "datasets.yaml").read_text())
    catalog["datasets"]["again"] = catalog["datasets"]["tinyset"]
    (tmp_path / "datasets.yaml").write_text(yaml.safe_dump(catalog))
    return config


def change(config, **values):
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | values, sort_keys=False))


def run(folder, *arguments, **how):
    return snakemake(folder, "--configfile", str(folder / "config.yaml"), *arguments, "--", *CELLS,
                     **how)


@pytest.mark.slow
def test_parts_that_were_killed_go_on_in_others(world, tmp_path, monkeypatch):
    """kill -9 of everything while parts are at work; then the config asks for another number."""
    process = run(tmp_path, wait=False)
    until = time.monotonic() + 240
    while not (begun := [path for path in tmp_path.glob(PARTS) if path.stat().st_size > 200
                         and path.suffix.startswith(".partial-")]):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert begun and not list(tmp_path.glob("results/tiny/cells/*/*/*.json"))

    change(world, shards={"images": 1})
    code, output = run(tmp_path)
    assert code == 0, output
    assert output.count("Evaluate bicubic on part") == 6
    assert output.count("Evaluate bicubic on tinyset again") == 1   # both cells in one job
    assert output.count("3 of 3 images are done already") == 2
    assert "1 of 1 images are done already" in output   # by a part of two
    left = {path.name for path in tmp_path.glob("results/tiny/cells/*/*/*")}
    assert left == {"bicubic.json"}

    monkeypatch.chdir(tmp_path)
    planned = plan.load(world)
    for job in planned.cells.values():
        record = records.read(job.record)
        assert record["status"] == "ok" and record["spec"] == job.spec
        assert record["result"] == jobs.compute(planned, job, RunSettings()).result

    change(world, shards=1)     # nothing is computed again
    code, output = run(tmp_path)
    assert code == 0 and "Nothing to be done" in output


@pytest.mark.slow
def test_a_cell_is_planned_with_its_parts(world, tmp_path):
    code, output = run(tmp_path, "--dry-run", "-p", "--set-resources", "evaluate:cells=1",
                       "evaluate:resubmit=1", "--set-threads", "evaluate=2")
    assert code == 0, output
    counts = dict(line.split() for line in output.splitlines() if len(line.split()) == 2)
    assert (counts["evaluate_part"], counts["evaluate"], counts["total"]) == ("4", "1", "8")
    # what is set for cells holds for parts
    assert (output.count("--resubmit 1"), output.count("--threads 2")) == (6, 6)
    change(world, shards=1)
    code, output = run(tmp_path, "--dry-run")
    assert code == 0 and "evaluate_part" not in output
