"""The whole pipeline on tiny data, as a user runs it: snakemake in a process of its own."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import yaml

from irbench.core import digests, records
from tests.helpers import tiny
from tests.helpers.archives import zipped
from tests.helpers.paths import ROOT
from tests.helpers.workflow import snakemake

JOBS = 13  # 2 data, 2 trainings, 4 cells, 2 profiles, leaks, report, all
EVERYTHING = 14  # of tiny.make_everything: a cell and a benchmark more; its profiles share a job


def verify(folder):
    return subprocess.run([sys.executable, "-m", "irbench", "verify"], cwd=folder,
                          capture_output=True, text=True)


def stamps(folder):
    """When each result of a run was written."""
    return {p.relative_to(folder).as_posix(): p.stat().st_mtime_ns
            for p in sorted((folder / "results").rglob("*.json"))
            if p.name not in ("config.json", "plan.json")}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    config = tiny.make_everything(folder)
    code, output = snakemake(folder, "--configfile", str(config))
    assert code == 0, output
    return folder, output


def test_a_run_ends_by_naming_its_report(world):
    folder, output = world
    assert f"The report: {folder / 'results/tiny/report.html'}" in output
    assert f"{EVERYTHING} of {EVERYTHING} steps (100%) done" in output
    summary = pd.read_csv(folder / "results/tiny/summary.csv")
    assert len(summary) == 5
    assert set(summary.status) == {"ok"}
    for record in (folder / "results/tiny").glob("cells/*/*/*.json"):
        records.read(record)
    for name in ("tables", "figures"):
        assert list((folder / "results/tiny" / name).iterdir())


def test_a_config_file_stands_alone(world):
    """Nothing of the root config.yaml may enter a run of another file."""
    written = json.loads((world[0] / "results/tiny/config.json").read_text())
    assert set(written["models"]) == {"input", "bicubic", "tiny", "sem"}


def test_a_variant_a_sweep_and_a_benchmark_went_the_whole_way(world):
    folder = world[0] / "results/tiny"
    base, k8 = (records.read(folder / f"cells/jpeg_gray-q10@1/tinyset/{name}.json")
                for name in ("sem", "sem.k8"))
    assert not list(folder.glob("training/*/sem.k8.json"))
    assert k8["resolved"]["checkpoint"] == base["resolved"]["checkpoint"]
    # another k gives other images from the same weights
    assert k8["result"]["mean"]["psnr"] != base["result"]["mean"]["psnr"]
    profile = records.read(folder / "profiles/jpeg_gray-q10@1/sem.k8.json")["result"]
    assert len(profile["sweep"]["size"]["points"]) == len(tiny.SWEEP["sizes"])
    assert len(profile["sweep"]["batch"]["points"]) == len(tiny.SWEEP["batches"])
    bench = records.read(folder / "benches/attention.json")
    assert bench["kind"] == "bench" and bench["result"]["rows"]
    assert "sem.k8" in pd.read_csv(folder / "summary.csv").model.tolist()


def test_the_second_run_does_nothing(world):
    folder, _ = world
    before = stamps(folder)
    # of jobs that were killed between the end of their work and the removal
    run = folder / "results/tiny"
    cell = sorted((run / "cells").rglob("*.json"))[0]
    training = sorted((run / "training").rglob("*.json"))[0]
    spec = digests.fingerprint(records.read(training)["spec"])
    left = [*(cell.with_suffix(end) for end in (
        ".lock", ".lock-1-of-2", ".partial", ".partial-1-of-2", ".partial-1-of-2.note")),
        training.with_suffix(f".state.{spec[:8]}")]
    other = cell.with_name("other.partial")     # of a cell that another config has asked for
    for path in (*left, other):
        path.touch()
    config = str(folder / "config.yaml")
    assert snakemake(folder, "--configfile", config, "--dry-run")[0] == 0
    assert all(path.exists() for path in left)
    for wanted in ([], ["--", str(cell.relative_to(folder))]):
        for path in left:
            path.touch()
        code, output = snakemake(folder, "--configfile", config, *wanted)
        assert code == 0, output
        assert "Nothing to be done" in output
        assert [path for path in left if path.exists()] == []
    with (run / ".lock").open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)      # another run is at work
        for path in left:
            path.touch()
        assert snakemake(folder, "--configfile", config)[0] == 0
        assert all(path.exists() for path in left)
    for path in (*left, other):
        path.unlink()
    assert stamps(folder) == before


@pytest.mark.slow
def test_snakemakes_own_report_holds_every_record(world):
    """More on it in tests/workflow/test_report.py."""
    folder, _ = world
    before = stamps(folder)
    code, output = snakemake(folder, "--configfile", str(folder / "config.yaml"),
                             "--report", "own.zip")
    assert code == 0, output
    assert "warning" not in output.lower()  # that Snakemake lacks what it noted of a file
    with zipfile.ZipFile(folder / "own.zip") as archive:
        inside = Counter(Path(name).name for name in archive.namelist() if "/raw/" in name)
    # every record (not config.json), table and figure as PNG, the page and its summary
    run = folder / "results/tiny"
    wanted = [p for p in run.rglob("*.json") if p.parent != run or p.name == "leaks.json"]
    wanted += [p for p in run.glob("tables/*.*") if not p.name.startswith(".")]
    wanted += [*run.glob("figures/*.png"), run / "report.html", run / "summary.csv"]
    assert inside == Counter(path.name for path in wanted)
    assert stamps(folder) == before


def test_irbench_verify_agrees(world):
    folder, _ = world
    assert verify(folder).returncode == 0, verify(folder).stderr
    cell = folder / "results/tiny/cells/sr-x2@2/tinyset/tiny.json"
    original = cell.read_text()
    cell.write_text(original.replace('"samples": 3', '"samples": 4').replace('"width": 4',
                                                                            '"width": 5'))
    altered = verify(folder)
    cell.write_text(original)
    assert altered.returncode == 1
    assert "the file was edited" in altered.stderr


@pytest.mark.slow
def test_one_models_change_runs_only_its_jobs(world, tmp_path):
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(world[0], folder, copy_function=shutil.copy2)
    text = (folder / "config.yaml").read_text().replace(str(world[0]), str(folder))
    (folder / "config.yaml").write_text(text)
    # of the copied run only the report is made again: its config names other folders
    code, output = snakemake(folder, "--configfile", str(folder / "config.yaml"))
    assert code == 0 and "Render the report" in output
    assert not any(word in output for word in ("Evaluate ", "Train ", "Measure ", "Fetch "))
    config = yaml.safe_load(text)
    config["models"]["tiny"]["training"]["steps"] = 8
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    before = stamps(folder)
    code, output = snakemake(folder, "--configfile", str(folder / "config.yaml"))
    assert code == 0, output
    changed = {name for name, stamp in stamps(folder).items() if before.get(name) != stamp}
    assert changed == {"results/tiny/training/sr-x2@1/tiny.json",
                       "results/tiny/cells/sr-x2@2/tinyset/tiny.json"}
    # a metric less costs nothing, a cell more is computed
    config["metrics"] = ["psnr"]
    config["cells"].append({"protocol": "sr-x4", "datasets": ["tinyset"], "models": ["bicubic"]})
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    before = stamps(folder)
    code, output = snakemake(folder, "--configfile", str(folder / "config.yaml"))
    assert code == 0, output
    changed = {name for name, stamp in stamps(folder).items() if before.get(name) != stamp}
    cells = {p.relative_to(folder).as_posix() for p in folder.glob("results/tiny/cells/*/*/*")}
    assert len(cells) == 6
    assert changed == {"results/tiny/cells/sr-x4@2/tinyset/bicubic.json"}
    assert verify(folder).returncode == 0


@pytest.mark.slow
def test_what_cannot_run_becomes_a_footnote_and_is_tried_again(tmp_path):
    """A checkpoint that is not there: its cell is n/a, the others stand; then it comes."""
    config = tiny.make(tmp_path)
    value = yaml.safe_load(config.read_text())
    value["models"]["late"] = {"arch": "tiny", "checkpoint": "late.safetensors", "profile": False}
    value["metrics"] = ["ssim"]  # psnr would import pyiqa, three seconds a cell
    value["models"]["tiny"] |= {"profile": False}
    value["models"]["tiny"]["training"]["steps"] = 4
    value["cells"] = [{"protocol": "sr-x2", "datasets": ["tinyset"],
                       "models": ["bicubic", "tiny", "late"]}]
    config.write_text(yaml.safe_dump(value, sort_keys=False))
    arguments = ("--configfile", str(config))
    code, output = snakemake(tmp_path, *arguments)
    assert code == 0, output
    assert "irbench: its rows will be n/a: checkpoint late.safetensors: no such file" in output
    assert "n/a: cell sr-x2@2 / tinyset / late: checkpoint late.safetensors: no such file" in output
    cells = tmp_path / "results/tiny/cells/sr-x2@2/tinyset"
    late = records.read(cells / "late.json")
    assert late["status"] == "unavailable"
    assert late["result"] is None
    table = (tmp_path / "results/tiny/tables/sr.md").read_text()
    assert "n/a" in table
    assert "late.safetensors: no such file" in table
    good = (cells / "bicubic.json").stat().st_mtime_ns
    # still missing: tried again, and only this
    code, output = snakemake(tmp_path, *arguments)
    assert "n/a: cell sr-x2@2 / tinyset / late" in output
    assert records.read(cells / "late.json")["attempt"] == 1
    code, output = snakemake(tmp_path, *arguments, "--report", "own.html")
    assert code == 0, output
    assert "late.safetensors: no such file" in (tmp_path / "own.html").read_text()
    weights = tmp_path / "results/tiny/checkpoints/sr-x2@1/tiny.safetensors"
    (tmp_path / "late.safetensors").write_bytes(weights.read_bytes())
    code, output = snakemake(tmp_path, *arguments)
    late = records.read(cells / "late.json")
    assert late["status"] == "ok"
    assert late["result"]["mean"] == records.read(cells / "tiny.json")["result"]["mean"]
    assert (cells / "bicubic.json").stat().st_mtime_ns == good
    code, output = snakemake(tmp_path, *arguments)
    assert "Nothing to be done" in output


@pytest.mark.slow
def test_killed_and_started_again(tmp_path):
    """kill -9 of the whole process group in the middle: the next run completes the rest."""
    config = tiny.make(tmp_path, metrics=["ssim"])
    process = snakemake(tmp_path, "--configfile", str(config), wait=False)
    cells = tmp_path / "results/tiny/cells"
    deadline = time.monotonic() + 120
    while len(list(cells.glob("*/*/*.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    done = stamps(tmp_path)
    assert done, "nothing was finished when the run was killed"
    assert not (tmp_path / "results/tiny/report.html").exists()
    code, output = snakemake(tmp_path, "--configfile", str(config))
    assert code == 0, output
    assert (tmp_path / "results/tiny/report.html").exists()
    assert len(stamps(tmp_path)) == JOBS - 2    # the report and all have none
    # what was finished stays, though Snakemake may not have noted it
    assert not {name for name, stamp in stamps(tmp_path).items() if done.get(name, stamp) != stamp}


@pytest.mark.parametrize(("change", "message"), [
    pytest.param({"run": "Tiny!"}, "run: the name 'Tiny!' is not valid", marks=pytest.mark.slow),
    ({"cells": [{"protocol": "sr-x2", "datasets": ["nowhere"], "models": ["bicubic"]}]},
     "unknown dataset 'nowhere'"),
])
def test_a_bad_config_stops_before_anything_runs(tmp_path, change, message):
    config = tiny.make(tmp_path, **change)
    code, output = snakemake(tmp_path, "--configfile", str(config))
    assert code == 2
    assert message in output
    assert "Traceback" not in output
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_a_run_with_nothing_to_draw_has_its_report(tmp_path):
    cells = [{"protocol": "sr-x2", "datasets": ["tinyset"], "models": ["bicubic"]}]
    config = tiny.make(tmp_path, metrics=["ssim"], keep_images=False, models={"bicubic": {}},
                       cells=cells)
    code, output = snakemake(tmp_path, "--configfile", str(config))
    assert code == 0, output
    assert (tmp_path / "results/tiny/report.html").exists()


@pytest.mark.slow
def test_the_anchors_do_not_end_by_naming_another_runs_report(tmp_path):
    config = tiny.make(tmp_path)
    for name in ("tiny/report.html", "anchors/.anchors"):
        path = tmp_path / "results" / name
        path.parent.mkdir(parents=True)
        path.touch()
    code, output = snakemake(tmp_path, "--configfile", str(config), "--touch",
                             "--forcerun", "anchors", "--", "anchors")
    assert code == 0, output
    assert "1 of 1 steps (100%) done" in output
    assert "The report" not in output


@pytest.mark.slow
def test_a_set_that_the_run_fetches_costs_no_second_run(tmp_path, monkeypatch):
    """Its content is known only after the run was planned; that changes no result."""
    cells = [{"protocol": "sr-x2", "datasets": ["packed"], "models": ["bicubic"]}]
    config = tiny.make(tmp_path, models={"bicubic": {}}, cells=cells, metrics=["psnr"])
    catalog = yaml.safe_load((tmp_path / "datasets.yaml").read_text())
    catalog["datasets"]["packed"] = {"title": "Packed", "use": "test", "archive": {
        "files": [{"url": "https://host.invalid/p.zip"}], "hr": "**/*.png", "count": 3}}
    (tmp_path / "datasets.yaml").write_text(yaml.safe_dump(catalog))
    (tmp_path / "mirror" / "host.invalid").mkdir(parents=True)
    zipped(tmp_path / "mirror" / "host.invalid" / "p.zip",
           *((p.name, p.read_bytes()) for p in (tmp_path / "images" / "test").iterdir()))
    monkeypatch.setenv("IRBENCH_MIRROR", str(tmp_path / "mirror"))
    code, output = snakemake(tmp_path, "--configfile", str(config))
    assert code == 0, output
    assert pd.read_csv(tmp_path / "results/tiny/summary.csv").status.tolist() == ["ok"]
    before = stamps(tmp_path)
    code, output = snakemake(tmp_path, "--configfile", str(config))
    assert code == 0, output
    assert "Nothing to be done" in output
    assert stamps(tmp_path) == before


@pytest.mark.slow
def test_two_runs_in_one_folder_do_not_mix(tmp_path):
    import fcntl

    config = tiny.make(tmp_path)
    folder = tmp_path / "results" / "tiny"
    folder.mkdir(parents=True)
    with (folder / ".lock").open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        code, output = snakemake(tmp_path, "--configfile", str(config))
    assert code == 2
    assert "another run is working in this folder" in output
    assert not (folder / "config.json").exists()


def test_the_dry_run_needs_no_cores_and_writes_nothing(tmp_path):
    config = tiny.make(tmp_path)
    process = subprocess.run(
        [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"),
         "--directory", str(tmp_path), "--configfile", str(config), "--dry-run"],
        capture_output=True, text=True, timeout=60)
    assert process.returncode == 0, process.stdout + process.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_a_blind_training_is_one_job_of_the_workflow(tmp_path):
    training = {"recipe": "demo", "data": ["tinytrain"], "patch": 16, "levels": {"sigma": [15, 50]}}
    config = tiny.make(tmp_path, models={"tiny": {"training": training, "profile": False}}, cells=[
        {"protocol": f"denoise_color-sigma{sigma}", "datasets": ["tinyset"], "models": ["tiny"]}
        for sigma in (15, 25, 50)])
    code, output = snakemake(tmp_path, "--configfile", str(config), "--dry-run")
    assert code == 0, output
    counts = dict(line.split() for line in output.splitlines() if len(line.split()) == 2)
    assert (counts["train"], counts["evaluate"], counts["total"]) == ("1", "3", "9")
    assert output.count("Train tiny for denoise_color-blind@1") == 1


@pytest.mark.slow
def test_lint_has_the_one_finding_the_readme_explains():
    process = subprocess.run(
        [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"),
         "--directory", str(ROOT), "--lint"], capture_output=True, text=True, timeout=60)
    found = {line.strip(" *:") for line in (process.stdout + process.stderr).splitlines()
             if line.startswith("    * ")}
    assert found == {"Specify a conda environment or container for each rule."}
