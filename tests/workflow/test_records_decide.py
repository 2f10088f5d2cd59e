"""What the next run does is what ``irbench verify`` finds, whatever Snakemake noted of it."""

import json
import os
import re
import shutil
import signal
import time
import zipfile
from pathlib import Path

import pytest
import yaml

from irbench import cli, plan
from irbench.core import records
from irbench.jobs import run as jobs
from irbench.jobs import verify
from tests.helpers import tiny
from tests.helpers.workflow import snakemake

# what the workflow prints of a job
WORDS = {"data": "Fetch {dataset}", "training": "Train {model} for {protocol}",
         "cell": "Evaluate {model} on {dataset} under {protocol}",
         "leaks": "Search for test images in the training sets"}
REPORT = "Render the report"
PICTURES = "results/tiny/images/sr-x2@2/tinyset"
CELLS, OWN = "results/tiny/cells/sr-x2@2/tinyset", "results/tiny/training/sr-x2@1/tiny.json"
BICUBIC, TINY = (f"Evaluate {model} on tinyset under sr-x2@2" for model in ("bicubic", "tiny"))
TRAIN = "Train tiny for sr-x2@1"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run that Snakemake has never seen."""
    folder = tmp_path_factory.mktemp("finished")
    training = {"recipe": "demo", "data": ["tinytrain"], "steps": 2, "patch": 16, "batch": 2}
    tiny.make(folder, metrics=["ssim"], cells=[
        {"protocol": "sr-x2", "datasets": ["tinyset"], "models": ["bicubic", "tiny"]}],
        models={"bicubic": {}, "tiny": {"training": training, "profile": False}})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run = plan.load("config.yaml")
        for job in run.jobs():
            assert jobs.do(run, job)["status"] == "ok"
        assert cli.main(["report"]) == 0
    return folder


@pytest.fixture
def world(finished, tmp_path, monkeypatch):
    """A copy of it at another place, all files of one age; tests run in it."""
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace(str(finished), str(folder)))
    monkeypatch.chdir(folder)
    return folder


def found():
    """What verify finds, in the words of the workflow."""
    planned = plan.load("config.yaml")
    titles = {job.title: WORDS[job.kind].format_map(job.key) for job in planned.jobs()}
    return {titles[problem.partition(": ")[0]] for problem in verify.check(planned)}


def run(folder, *arguments):
    """Run Snakemake; return the jobs that it named, and all that it printed."""
    code, output = snakemake(folder, "--configfile", "config.yaml", *arguments)
    assert code == 0, output
    return set(re.findall(r"^Job \d+: (.*)$", output, re.M)), output


def state(folder):
    """Every file but Snakemake's own notes, with its age."""
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*")
            if path.is_file() and ".snakemake" not in path.parts}


def edit(path, change):
    """Change a JSON file as plain data."""
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def age(folder):
    """Give every record another age, some of the time to come."""
    for i, path in enumerate(sorted((folder / "results").rglob("*.json"), reverse=True)):
        os.utime(path, ns=(2**60 + i * 10**9,) * 2)


def ask_for_another_metric(folder):
    edit_config(folder, lambda config: config.update(metrics=["ssim", "psnr"]))


def ask_for_more_steps(folder):
    edit_config(folder, lambda config: config["models"]["tiny"]["training"].update(steps=3))


def ask_for_another_seed(folder):
    edit_config(folder, lambda config: config["models"]["tiny"]["training"].update(seeds=2))


def tiny_config():
    return plan.load("config.yaml").config


def edit_config(folder, change):
    config = yaml.safe_load((folder / "config.yaml").read_text())
    change(config)
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def fail(record):
    record.update(status="failed", reason="it did", result=None, attempt=2,
                  result_digest=records.make("data", {}, {}, status="failed", reason="it did")[
                      "result_digest"])


CHANGES = {
    # name -> what is done to the folder, what the next run then does
    "a cell edited": (lambda folder: edit(folder / CELLS / "bicubic.json", lambda one: one[
        "result"]["mean"].update(ssim=0.5)), {BICUBIC}),
}
MORE = {
    "nothing": (lambda folder: None, set()),
    "a training's record gone": (lambda folder: (folder / OWN).unlink(), {TRAIN, TINY}),
    "files of another age": (age, set()),
    "a cell gone": (lambda folder: (folder / CELLS / "tiny.json").unlink(), {TINY}),
    "a set's record gone": (lambda folder: (folder / "results/tiny/data/tinyset.json").unlink(),
                            {"Fetch tinyset"}),
    "a record emptied": (lambda folder: (folder / CELLS / "bicubic.json").write_text(""),
                         {BICUBIC}),
    "a picture gone": (lambda folder: (folder / PICTURES / "bicubic/img0.png").unlink(),
                       {BICUBIC}),
    "a picture edited": (lambda folder: (folder / PICTURES / "tiny/img2.png").write_bytes(b"no"),
                         {TINY}),
    "a picture of all models gone": (lambda folder: (folder / PICTURES / "_input/img1.png")
                                     .unlink(), {BICUBIC, TINY}),
    "a record cut off": (lambda folder: (folder / "results/tiny/leaks.json").write_text("{"),
                         {WORDS["leaks"]}),
    "a failure": (lambda folder: edit(folder / CELLS / "bicubic.json", fail), {BICUBIC}),
    "weights gone": (lambda folder: (
        folder / "results/tiny/checkpoints/sr-x2@1/tiny.safetensors").unlink(), {TRAIN, TINY}),
    "weights altered": (lambda folder: (
        folder / "results/tiny/checkpoints/sr-x2@1/tiny.safetensors").write_bytes(b"no"),
        {TRAIN, TINY}),
    "another metric": (ask_for_another_metric, {BICUBIC, TINY}),
    "another recipe": (ask_for_more_steps, {TRAIN, TINY}),
    # the first seed is the training that is there
    "another seed": (ask_for_another_seed, {TRAIN.replace("tiny", "tiny.seed2"),
                                            TINY.replace(" tiny ", " tiny.seed2 ")}),
    "a set without its images": (lambda folder: [path.unlink() for path in (
        folder / "images/test").iterdir()], {"Fetch tinyset", BICUBIC, TINY, WORDS["leaks"]}),
}


@pytest.mark.parametrize(("change", "expected"), [
    *(pytest.param(*value, id=name) for name, value in CHANGES.items()),
    *(pytest.param(*value, id=name, marks=pytest.mark.slow) for name, value in MORE.items())])
def test_the_next_run_does_what_verify_finds(world, change, expected):
    change(world)
    assert found() == expected
    before = state(world)
    planned, output = run(world, "-n")
    assert state(world) == before       # a dry run changes nothing
    assert planned == (expected | {REPORT} if expected else set())
    assert ("Nothing to be done" in output) == (not expected)


@pytest.mark.slow
@pytest.mark.parametrize("change", ["a page gone", "a table's folder gone", "another title",
                                    "a record that is newer", "a table gone", "a plot edited",
                                    "a damaged plan", "the config of another run"])
def test_the_report_is_made_again_by_itself(world, change):
    folder = world / "results/tiny"
    if change == "a page gone":
        (folder / "report.html").unlink()
    elif change == "a table's folder gone":
        shutil.rmtree(folder / "tables")
    elif change == "a table gone":
        (folder / "tables/sr.csv").unlink()
    elif change == "a plot edited":
        next(folder.glob("figures/*.png")).write_bytes(b"no")
    elif change == "a damaged plan":
        (folder / "plan.json").write_text("{")
    elif change == "the config of another run":
        (folder / "config.json").write_text(json.dumps(tiny_config() | {"seed": 7}))
    elif change == "another title":
        edit_config(world, lambda config: config.update(title="Another"))
    else:
        edit(world / CELLS / "bicubic.json", lambda one: one["seconds"].update(load=99.0))
    assert found() == set()
    assert run(world, "-n")[0] == {REPORT}


@pytest.mark.slow
def test_a_run_that_was_damaged_is_whole_again(world):
    """Several things at once, for real; Snakemake's notes of a run before are thrown away."""
    assert "Nothing to be done" in run(world)[1]
    shutil.rmtree(world / ".snakemake")
    for name in ("a training's record gone", "weights gone", "a record cut off"):
        ({**CHANGES, **MORE}[name])[0](world)
    cell = world / CELLS / "bicubic.json"
    cell.unlink()
    (cell / "a folder in its place").mkdir(parents=True)
    expected = found()
    assert expected == {BICUBIC, TRAIN, TINY, WORDS["leaks"]}
    before = state(world / "results")
    assert run(world)[0] == expected | {REPORT}
    after = state(world / "results")
    kept = {path.name for path in before if after[path] == before[path]}
    assert {"tinyset.json", "tinytrain.json"} <= kept
    assert not {"tiny.json", "leaks.json", "report.html"} & kept
    assert found() == set()
    assert (cell.with_name("bicubic.json.1") / "a folder in its place").is_dir()    # set aside
    assert "Nothing to be done" in run(world)[1]
    # the plan that the jobs read is in the folder now, and says the same
    assert plan.read("results/tiny/plan.json").jobs() == plan.load("config.yaml").jobs()


@pytest.mark.slow
def test_one_record_can_be_asked_for(world):
    """Then nothing else is done, but what it needs."""
    (world / OWN).unlink()
    edit(world / CELLS / "bicubic.json", lambda one: one["result"]["mean"].update(ssim=0.5))
    assert run(world, "-n", "--", f"{CELLS}/bicubic.json")[0] == {BICUBIC}
    assert run(world, "-n", "--", f"{CELLS}/tiny.json")[0] == {TRAIN, TINY}
    assert run(world, "-n", "--until", "train")[0] == {TRAIN}


@pytest.mark.slow
def test_the_last_report_stays_until_the_next_one_is_there(tmp_path, monkeypatch):
    """The making of another one is interrupted; the next run makes it."""
    monkeypatch.chdir(tmp_path)
    tiny.make(tmp_path, metrics=["ssim"], models={"bicubic": {}}, cells=[
        {"protocol": "sr-x2", "datasets": ["tinyset"], "models": ["bicubic"]}])
    planned = plan.load("config.yaml")
    for job in planned.jobs():
        assert jobs.do(planned, job)["status"] == "ok"
    assert cli.main(["report"]) == 0
    folder = planned.run_folder
    before = {path: path.read_bytes() for path in folder.report_files()}
    edit_config(tmp_path, lambda config: config.update(title="Another"))
    process = snakemake(tmp_path, "--configfile", "config.yaml", wait=False)
    until = time.monotonic() + 300
    log = Path(folder.log("report"))
    while not (log.exists() and log.read_text()):       # it has begun
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGTERM)
    output = process.communicate(timeout=300)[0]
    assert process.returncode and "Render the report" in output
    assert not folder.report_note.exists()
    assert {path: path.read_bytes() for path in before} == before
    assert verify.find_report(plan.load("config.yaml")).state == "stale"
    assert run(tmp_path)[0] == {REPORT}
    assert "Another" in folder.report.read_text()
    assert verify.find_report(plan.load("config.yaml")).state == "current"
    code, output = snakemake(tmp_path, "--configfile", "config.yaml", "--report", "own.zip")
    assert code == 0, output
    with zipfile.ZipFile("own.zip") as archive:
        names = {name.rpartition("/")[2] for name in archive.namelist()}
        assert {path.name for path in folder.report_files() if path.suffix not in (
            ".pdf", ".svg")} <= names
