"""What ``irbench verify`` and the workflow make of records and files; no run of Snakemake."""

import hashlib
import json
import shutil
from dataclasses import replace

import pytest

from irbench import plan
from irbench.core import digests, files
from irbench.data import folders, pins
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


def test_what_known_digests_do_not_tell_is_found_by_reading(run, monkeypatch):
    """A file may change without a change of its size and times, as on a failing disk."""
    cell, data = *run.cells.values(), run.data["tinyset"]
    with monkeypatch.context() as patch:
        patch.setattr(digests, "fresh_digest", lambda path: "0" * 64)
        assert verify.check(run) == [
            f"{cell.title}: results/tiny/{KEPT} was altered; run the workflow again"]
    monkeypatch.setattr(folders, "digest_anew", lambda paths, name: ["0" * 64] * len(paths))
    found, = verify.find(run)
    assert (found.job, found.state) == (data, "damaged")
    assert "3 files changed after they were scored" in found.reason
    assert not any(verify.Records(run).problem(job) for job in run.jobs())


@pytest.mark.parametrize(("name", "sizes"), [("more", " (the set has 4 images, then 3)"),
                                             ("img0", "")])
def test_how_many_images_a_changed_set_has_is_told(run, tmp_path, name, sizes):
    shutil.copy(tmp_path / "images/test/img1.png", tmp_path / f"images/test/{name}.png")
    now = plan.load("config.yaml")
    (cell,) = now.cells.values()
    assert verify.Records(now).problem(cell) == (
        f"its dataset changed since{sizes}; run the workflow again")


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


# -- weights and given pictures ------------------------------------------------------------------

ONE_CELL = [{"protocol": "sr-x2", "datasets": ["tinyset"], "models": ["m"]}]


def planned_with(folder, entry, **changes):
    """Plan one cell of a model with this entry."""
    return plan.load(tiny.make(folder, models={"m": entry}, cells=ONE_CELL, keep_images=False,
                               **changes))


def store(job, result, **resolved):
    """Store a record of a result, as if the job had run."""
    write(job, record_of(job, Result(result, resolved)))


def said(run, job):
    """What both ways of checking say of a job; ``verify`` reads files anew and may say more."""
    known = verify.Records(run).find(job)
    found = [finding for finding in verify.find(run) if finding.job == job]
    assert known.state == verify.CURRENT or found == [known]
    return (found[0].state, found[0].reason) if found else (verify.CURRENT, "")


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A run of one training and one cell with its weights; both records are there."""
    monkeypatch.chdir(tmp_path)
    run = planned_with(tmp_path, {"arch": "tiny", "training": {
        "recipe": "demo", "data": ["tinytrain"], "patch": 16}})
    training, = run.trainings.values()
    cell, = run.cells.values()
    files.write_atomic(run.folder / "w.safetensors", "weights")
    digest = digests.file_digest(run.folder / "w.safetensors")
    store(training, {"checkpoint": {"file": "w.safetensors", "sha256": digest}})
    store(cell, {"images": tiny.IMAGES, "mean": {}}, checkpoint=digest)
    assert said(run, training) == said(run, cell) == (verify.CURRENT, "")
    return run, training, cell


NOT_CURRENT = ("stale", "its training is missing or not current; run the workflow again")


@pytest.mark.parametrize(("change", "of_training", "of_cell"), [
    (lambda run, training, cell: training.record.unlink(), ("missing", "not computed ("),
     NOT_CURRENT),
    (lambda run, training, cell: (run.folder / "w.safetensors").unlink(),
     ("damaged", "results/tiny/w.safetensors is missing;"), NOT_CURRENT),
    (lambda run, training, cell: (run.folder / "w.safetensors").write_text("x"),
     ("damaged", "results/tiny/w.safetensors was altered;"), NOT_CURRENT),
    (lambda run, training, cell: training.record.write_text("{"), ("damaged", "results/tiny/"),
     NOT_CURRENT),
    (lambda run, training, cell: write(training, record_of(training, Result(
        status="failed", reason="no memory"))), ("failed", "no memory"), NOT_CURRENT),
    (lambda run, training, cell: store(replace(training, spec={**training.spec, "seed": 7}),
                                       {"checkpoint": {"file": "w.safetensors", "sha256": "1"}}),
     ("stale", "its seed changed since; run the workflow again"), NOT_CURRENT),
    (lambda run, training, cell: store(cell, {"images": tiny.IMAGES, "mean": {}},
                                       checkpoint="1" * 64),
     (verify.CURRENT, ""), ("stale", "computed with other weights than the training's record")),
])
def test_a_cell_needs_the_weights_of_its_training(trained, change, of_training, of_cell):
    change(*trained)
    run, training, cell = trained
    for job, (state, words) in ((training, of_training), (cell, of_cell)):
        found = said(run, job)
        assert found[0] == state and found[1].startswith(words)
    assert len(verify.check(run)) >= 1
    known = verify.Records(run)
    assert known.find(training) is known.find(training)       # looked up once
    assert known.problem(cell) == known.find(cell).reason


def test_weights_without_a_published_digest_are_those_of_the_pin(tmp_path, monkeypatch):
    """A peer whose authors publish none: the first download counts (``irbench.data.pins``)."""
    monkeypatch.chdir(tmp_path)
    run = planned_with(tmp_path, {"arch": "swinir-s"})
    cell, = run.cells.values()
    source = cell.model.checkpoint
    assert source.url and not source.sha256
    store(cell, {"images": tiny.IMAGES, "mean": {}}, checkpoint="1" * 64)
    assert said(run, cell)[0] == verify.CURRENT        # nothing is pinned
    target = pins.place(source.url, tmp_path / "data" / "checkpoints")
    files.write_atomic(target, "weights")
    pins.keep(source.url, target.parent, "1" * 64)
    assert said(run, cell)[0] == verify.CURRENT
    store(cell, {"images": tiny.IMAGES, "mean": {}}, checkpoint="2" * 64)
    assert said(run, cell) == ("stale", "computed with other weights than those pinned today; "
                                        "run the workflow again")


def test_a_file_with_a_stated_digest_counts_whatever_is_pinned(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    url = "https://example.org/w.pth"
    run = planned_with(tmp_path, {"external": url, "sha256": "1" * 64})
    cell, = run.cells.values()
    store(cell, {"images": tiny.IMAGES, "mean": {}}, checkpoint="1" * 64)
    target = pins.place(url, tmp_path / "data" / "checkpoints")
    files.write_atomic(target, "weights")
    pins.keep(url, target.parent, "2" * 64)
    assert said(run, cell) == (verify.CURRENT, "")


@pytest.mark.parametrize("change", [lambda path: path.unlink(), lambda path: path.write_text("x")])
def test_an_altered_file_of_weights_is_no_run_away(tmp_path, monkeypatch, change):
    """No run can mend it, so only ``irbench verify`` says so."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.pt").write_text("weights")
    run = planned_with(tmp_path, {"arch": "tiny", "checkpoint": "w.pt"})
    cell, = run.cells.values()
    store(cell, {"images": tiny.IMAGES, "mean": {}}, checkpoint=cell.model.checkpoint.sha256)
    assert said(run, cell) == (verify.CURRENT, "")
    change(tmp_path / "w.pt")
    assert verify.Records(run).find(cell).state == verify.CURRENT
    assert said(run, cell) == (verify.ALTERED, "its weights, w.pt, are missing or were altered; "
                                               "get the file again")


def test_altered_result_images_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.make(tmp_path)
    shutil.copytree(tmp_path / "images" / "test", tmp_path / "own")
    run = planned_with(tmp_path, {"outputs": "own"})
    cell, = run.cells.values()
    store(cell, {"images": tiny.IMAGES, "mean": {}})
    assert said(run, cell) == (verify.CURRENT, "")
    shutil.copy(tmp_path / "own" / "img0.png", tmp_path / "own" / "img1.png")
    assert said(run, cell) == (verify.ALTERED, "its result images, own, were altered; run the "
                                               "workflow again")


def test_what_a_spec_lacks_or_has_otherwise_is_named(run):
    cell, = run.cells.values()
    other = {**cell.spec, "metrics": ["psnr"], "code": "0" * 64}
    store(replace(cell, spec=other), {"images": tiny.IMAGES, "mean": {}})
    assert said(run, cell) == (
        "stale", "its code (irbench's or a library's), metrics changed since; run the workflow "
                 "again")
