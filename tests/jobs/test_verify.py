"""What ``irbench verify`` and the workflow make of records and files; no run of Snakemake."""

import hashlib
import json
import shutil

import pytest

from irbench import plan
from irbench.core import files
from irbench.data import folders
from irbench.jobs import verify
from irbench.jobs.result import Result, record_of, write
from irbench.plan import file as plan_file
from tests.helpers import tiny
from tests.helpers.sealed import seal

KEPT = "kept/img0.png"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run of one cell, which keeps its images; its records are all there."""
    monkeypatch.chdir(tmp_path)
    planned = plan.load(tiny.make(
        tmp_path, models={"bicubic": {}}, metrics=["ssim"], keep_images=True,
        cells=[{"protocol": "sr-x2", "datasets": ["tinyset"], "models": ["bicubic"]}]))
    files.write_atomic(planned.folder / KEPT, "image")
    results = {"data": {"count": 3}, "cell": {"images": [
        {"name": "img0", "kept": {KEPT: hashlib.sha256(b"image").hexdigest()}}, {"name": "img1"},
        {"name": "img2"}], "mean": {}}}
    for job in planned.jobs():
        write(job, record_of(job, Result(results[job.kind])))
    assert verify.check(planned) == []
    return planned


def problem(run):
    """What both ways of checking a run say of it."""
    known = verify.Records(run)
    found = {known.problem(job) for job in run.jobs()} - {None}
    assert {finding.reason for finding in verify.find(run)} == found
    return found


@pytest.mark.parametrize(("change", "words"), [
    (lambda path: path.unlink(), "is missing; run the workflow again"),
    (lambda path: path.write_text("other"), "was altered; run the workflow again")])
def test_an_image_that_was_kept_is_checked(run, change, words):
    change(run.folder / KEPT)
    assert problem(run) == {f"results/tiny/{KEPT} {words}"}


def test_a_set_that_is_gone_is_damage_of_its_job_alone(run, tmp_path):
    shutil.rmtree(tmp_path / "images")
    found, = verify.find(run)
    assert (found.job.kind, found.state) == ("data", "damaged")
    assert "images/test" in found.reason and str(found) == f"{found.job.title}: {found.reason}"


def test_a_run_reads_only_what_changed_and_verify_reads_every_image(run, monkeypatch):
    read, real = [], {"digest_all": folders.digest_all, "digest_anew": folders.digest_anew}
    for name in real:
        monkeypatch.setattr(folders, name, lambda *args, name=name: (
            read.append(name), real[name](*args))[1])
    verify.Records(run).find(run.data["tinyset"])
    assert set(read) == {"digest_all"}
    verify.find(run)
    assert set(read) == {"digest_all", "digest_anew"}


# -- the images and metrics of a cell --------------------------------------------------------------

def reseal(run, change):
    """Edit the cell's record, with digests that fit; return what is said of it now."""
    (job,) = run.cells.values()
    record = json.loads(job.record.read_text())
    change(record)
    files.write_json(job.record, seal(record))
    return [str(finding) for finding in verify.find(run)]


def named(*names):
    def change(record):
        first = record["result"]["images"][0]
        record["result"]["images"] = [
            {**(first if name == "img0" else {}), "name": name} for name in names]
    return change


@pytest.mark.parametrize(("change", "words"), [
    (named("img0", "img1"), "scored on 2 of 3 images"),
    (named("img0", "img1", "img2", "img3"), "scored on 4 of 3 images"),
    (named("img0", "img1", "other"), "the names of its images are not those of the set"),
    (named("img0", "img1", "img1"), "it holds an image twice"),
    (named(), "scored on 0 of 3 images"),
    (lambda record: record.update(metrics=[{"name": "ssim", "title": "SSIM",
                                            "direction": "lower"}]),
     "another definition of ssim: direction is lower, not higher"),
    (lambda record: (record["result"]["images"][0].update(ssim=2.0),
                     record["result"]["mean"].update(ssim=None)), "outside of the metric's range"),
])
def test_a_cell_has_exactly_the_images_and_metrics_that_the_plan_knows(run, change, words):
    (found,) = reseal(run, change)
    assert found.startswith("cell sr-x2@2 / tinyset / bicubic: ") and words in found
    assert verify.Records(run).find(*run.cells.values()).state == "damaged"


def test_the_order_of_the_images_does_not_matter(run):
    assert reseal(run, lambda record: record["result"]["images"].reverse()) == []


# -- the report ------------------------------------------------------------------------------------

@pytest.fixture
def reported(run):
    """The run with a report, and with the config and plan that the workflow writes."""
    folder = run.run_folder
    files.write_atomic(folder.report, "page")
    files.write_atomic(folder.tables / "sr.md", "table")
    files.write_json(folder.config, run.config)
    plan_file.write(run)
    verify.note_report(run, verify.report_inputs(run))
    return run


def is_current(run):
    return verify.find_report(run) == verify.ReportState("current", "")


def test_a_report_is_current_also_without_config_and_plan(reported):
    assert is_current(reported)
    reported.run_folder.config.unlink()         # made by hand
    assert is_current(reported)
    reported.run_folder.plan.unlink()
    assert is_current(reported)


@pytest.mark.parametrize(("change", "state", "reason"), [
    (lambda run: (run.run_folder.tables / "sr.md").write_text("other"), "damaged",
     "tables/sr.md was altered"),
    (lambda run: (run.run_folder.tables / "sr.md").unlink(), "missing", "tables/sr.md is missing"),
    (lambda run: run.run_folder.report.unlink(), "missing", "not made ("),
    (lambda run: next(iter(run.cells.values())).record.unlink(), "stale",
     "older than these records: cell "),
    (lambda run: files.write_json(run.run_folder.config, {**run.config, "title": "another"}),
     "stale", "config.json is that of another config"),
    (lambda run: run.run_folder.plan.write_text("{"), "stale", "plan.json is not this run's"),
    (lambda run: run.run_folder.report_note.unlink(), "stale", "a command that was interrupted"),
    (lambda run: run.run_folder.report_note.write_text("{"), "damaged", "does not say what"),
    (lambda run: run.run_folder.report_note.write_text("[1]"), "damaged", "does not say what"),
    (lambda run: files.write_json(run.run_folder.report_note, {
        "made_from": "0" * 64, "files": {}}), "damaged", "does not say what"),
    (lambda run: files.write_json(run.run_folder.report_note, {
        "made_from": {**verify.report_inputs(run), "plan": "0" * 64}, "files": {}}), "stale",
     "the config or irbench's code changed since"),
])
def test_a_report_is_outdated_once_something_of_it_changed(reported, change, state, reason):
    change(reported)
    found = verify.find_report(reported)
    assert found.state == state and reason in found.reason
    assert str(found) == f"report: {found.reason}"


def test_a_plan_with_other_jobs_outdates_the_report(reported, tmp_path):
    """The plan's file is of a run that also profiled a model."""
    more = plan.load(tiny.make(tmp_path, metrics=["ssim"], keep_images=True))
    plan_file.write(more)
    assert plan_file.is_of(more) and not plan_file.is_of(reported)
    assert verify.find_report(reported).state == "stale"
    more.run_folder.plan.unlink()
    assert not plan_file.is_of(more)
