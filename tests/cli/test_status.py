"""What the next run would do, in words and as one JSON document."""

import json
import shutil
import subprocess
import sys

import pytest
import yaml

from irbench import cli, plan
from irbench.cli import report
from irbench.core import files, locks
from irbench.core.errors import Unavailable
from irbench.core.run_folder import lock_of, part_lock_of
from irbench.jobs import run as jobs
from irbench.jobs.result import Result, failure, record_of, write
from tests.helpers import tiny
from tests.helpers.paths import ROOT

RESULTS = {"cell": {"images": tiny.IMAGES, "mean": {}}, "data": {"count": 3}}


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A run with a record of each kind of state."""
    monkeypatch.chdir(tmp_path)
    path = tiny.make(tmp_path)
    planned = plan.load(path)
    cells = list(planned.cells.values())
    for job in planned.jobs():
        if job.kind != "training":
            write(job, record_of(job, Result(RESULTS.get(job.kind, {}))))
    cells[0].record.write_text("{")
    write(cells[2], record_of(cells[2], failure(Unavailable("the set is not here"))))
    write(planned.data["tinytrain"], record_of(planned.data["tinytrain"], failure(
        ValueError("a defect"))))
    profile = planned.profiles["sr-x2@2/tiny"]
    write(profile, {**record_of(profile, Result({}, spec={**profile.spec, "device": "cuda"}))})
    files.write_json(planned.run_folder.config, planned.config)
    return path


@pytest.mark.parametrize("words", [(), ("config.yaml",), ("tiny",), ("results/tiny",)])
def test_each_job_has_a_state_and_a_reason(world, words, capsys):
    assert cli.main(["status", *words]) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    states = {f"{one['kind']} {' / '.join(one['key'].values())}": (one["state"], one["reason"])
              for one in found.pop("jobs")}
    assert set(states) == {job.title for job in plan.load(world).jobs()}
    assert found == {"run": "tiny", "would_run": 8, "running": 0,
                     "report_current": False, "report": {
        "state": "missing", "reason": "not made (results/tiny/report.html)"}, "missing": 2,
                     "stale": 3, "damaged": 1, "failed": 1, "unavailable": 1, "current": 3}
    assert "missing     report: not made (results/tiny/report.html)\n" in printed.err
    for title, state, words in (
            ("training sr-x2@1 / tiny", "missing", "not computed"),
            ("cell sr-x2@2 / tinyset / bicubic", "damaged", "To replace the file, run again"),
            ("cell sr-x2@2 / tinyset / tiny", "stale", "its training is missing or not current"),
            ("profile sr-x2@2 / tiny", "stale", "its device changed since"),
            ("data tinytrain", "failed", "a defect"),
            ("cell jpeg_gray-q10@1 / tinyset / input", "unavailable", "the set is not here")):
        assert states[title][0] == state and words in states[title][1]
        assert f"{state:11} {title}: {states[title][1]}" in printed.err
        assert not states[title][1].startswith(state)       # the state is said once
    assert states["data tinyset"] == ("current", None) and "data tinyset" not in printed.err
    assert "2 missing, 3 stale, 1 damaged, 1 failed, 1 unavailable, 3 current" in printed.err


def test_a_terminal_gets_no_list_of_jobs(world, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert cli.main(["status"]) == 0
    said = capsys.readouterr()
    assert "jobs" not in json.loads(said.out) and "its device changed since" in said.err


def test_what_is_being_done_is_told_from_what_waits(world, capsys):
    planned = plan.load(world)
    whole = planned.cells["sr-x2@2/tinyset/bicubic"].record
    part = planned.cells["sr-x2@2/tinyset/tiny"].record
    left = lock_of(planned.trainings["sr-x2@1/tiny"].record)
    left.parent.mkdir(parents=True, exist_ok=True)
    left.touch()                            # of a process that was killed
    with locks.hold(lock_of(whole), print), locks.hold(part_lock_of(part, "2-of-4"), print):
        assert cli.main(["status"]) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert found["running"] == 2 and found["would_run"] == 8
    assert {"/".join(one["key"].values()) for one in found["jobs"] if one["running"]} == {
        "sr-x2@2/tinyset/bicubic", "sr-x2@2/tinyset/tiny"}
    assert "running     cell sr-x2@2 / tinyset / bicubic\n" in printed.err
    assert "missing     training sr-x2@1 / tiny: not computed" in printed.err
    assert "3 current (2 running now); the report would be made" in printed.err
    assert left.exists() and not lock_of(whole).exists()        # status changes nothing


def test_verify_lists_apart_what_gave_no_result(world, capsys):
    assert cli.main(["verify"]) == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"problems": 9, "missing": 3, "stale": 3, "damaged": 1,
                                       "failed": 1, "unavailable": 1}
    first, apart = printed.err.split("Without a result, which the next run tries to get (2):")
    assert "a defect" in apart and "the set is not here" in apart and len(first.splitlines()) == 7
    assert "missing     report: not made (results/tiny/report.html)\n" in first
    for state in ("missing", "stale", "damaged", "failed", "unavailable"):
        assert f"{state}: {state}" not in printed.err and state in printed.err


def test_a_run_that_is_not_there_is_named_with_those_that_are(world, capsys):
    assert cli.main(["status", "tinny"]) == 2
    told = capsys.readouterr().err
    assert "unknown run or config 'tinny'. Did you mean 'tiny'? Valid: benchmark, " in told
    assert told.rstrip().endswith(", tiny, weights.")
    assert cli.main(["status", "other.yaml"]) == 2
    assert "config other.yaml: no such file" in capsys.readouterr().err


def interrupted(*_):
    raise KeyboardInterrupt


def test_a_finished_run_has_nothing_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = tiny.make(tmp_path, models={"bicubic": {}}, metrics=["ssim"], cells=[
        {"protocol": "sr-x2", "datasets": ["tinyset"], "models": ["bicubic"]}])
    planned = plan.load(path)
    for job in planned.jobs():
        jobs.do(planned, job)
    capsys.readouterr()
    assert cli.main(["status"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["would_run"] == 0
    assert printed.err == ("missing     report: not made (results/tiny/report.html)\n"
                           "results/tiny: 2 current; the report would be made.\n")
    assert cli.main(["verify"]) == 1        # also without a report a run is not whole
    assert json.loads(capsys.readouterr().out) == {"problems": 1, "missing": 1}
    assert cli.main(["report"]) == 0
    for verb in ("status", "verify"):
        capsys.readouterr()
        assert cli.main([verb]) == 0
    next(planned.run_folder.tables.glob("*.csv")).write_text("mine")
    assert cli.main(["verify"]) == 1
    assert "was altered; run the workflow again" in capsys.readouterr().err
    # a report that is made anew and interrupted: the earlier one stays, and what is to do is said
    with pytest.raises(KeyboardInterrupt), pytest.MonkeyPatch.context() as patch:
        patch.setattr("irbench.report.files.texts", interrupted)
        report.run(cli._parser().parse_args(["report"]))
    assert planned.run_folder.report.read_text().startswith("<!")
    assert cli.main(["status"]) == 0
    assert "or by a command that was interrupted; run the workflow again" in capsys.readouterr().err
    # a copy at another place, with a set whose image is another one now, of the same size
    image = tmp_path / "images/test/img0.png"
    content = image.read_bytes()
    image.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    cli.main(["status"])
    assert json.loads(capsys.readouterr().out)["would_run"] == 2


@pytest.mark.parametrize("verb", ["status", "plan"])
def test_a_copy_of_a_run_is_not_said_to_be_current(world, capsys, verb):
    shutil.copytree("results/tiny", "results/before")
    assert cli.main([verb, "results/before"]) == 2
    assert ("run results/before: its config makes the run 'tiny', whose records lie in "
            "results/tiny") in capsys.readouterr().err
    assert cli.main([verb, "results/tiny"]) == 0


def test_it_loads_no_torch(world):
    code = ("import sys; from irbench import cli; cli.main(['status']); "
            "cli.main(['plan', '--cost'])\n"
            "assert not {'torch', 'pyiqa', 'matplotlib', 'pandas', 'snakemake'} & set(sys.modules)")
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True,
                   env={"PYTHONPATH": str(ROOT)})
    assert yaml.safe_load(world.read_text())["run"] == "tiny"


@pytest.mark.parametrize("verb", ["status", "verify", "plan", "report", "cite"])
def test_a_config_that_comes_with_irbench_is_known_by_its_name(verb, tmp_path, monkeypatch, capsys):
    """Also before it was run, and from any folder."""
    monkeypatch.chdir(tmp_path)
    code = cli.main([verb, "lightweight"])
    told = capsys.readouterr()
    assert code == (verb == "verify"), told.err
    assert "unknown" not in told.err
    if verb == "verify":
        assert told.err.startswith("missing     data set5: not computed")
