"""Records of other inputs than the plan's are outdated: neither shown nor called failures."""

import csv
import io

import pytest

from irbench import report
from irbench.report import collect
from irbench.report.tables import costs, summary, tables, trainings
from tests.helpers import report_fixtures as fixtures
from tests.helpers.report_trained import trained_run

X2, X4 = "sr-x2@1", "sr-x4@1"
OTHER = "its record was computed from other inputs than the run has now"


def stale(builder, *paths):
    """Plan the records at these paths with other inputs than they have."""
    builder.plan["fingerprints"] = dict.fromkeys(paths, "0" * 64)
    return collect.collect(builder.folder, builder.plan)


def sources(table):
    return {row.key: row.origin for row in table.measured}


def test_an_outdated_training_did_not_fail(tmp_path):
    builder = trained_run(tmp_path)
    run = stale(builder, f"training/{X2}/compacter.json")
    job = run.trainings[X2, "compacter"]
    assert (job.status, job.record, job.result) == ("outdated", None, {})
    assert job.reason.startswith(OTHER) and job.reason.endswith("run it again")
    assert run.training_of(X2, "compacter")["status"] == "outdated"
    table = next(table for table in tables.build(run) if table.task == "sr")
    assert "outdated" in sources(table)["compacter"]
    assert "failed" not in sources(table)["compacter"]
    sheet = trainings.sheet(run)
    assert any(note.startswith(f"outdated: {OTHER}") for note in sheet.notes.values())


def test_the_state_of_an_outdated_training_is_not_offered(tmp_path):
    builder = trained_run(tmp_path)
    path = f"training/{X4}/compacter"
    assert (tmp_path / f"{path}.state").exists()
    job = stale(builder, f"{path}.json").trainings[X4, "compacter"]
    assert (job.status, job.unfinished) == ("outdated", "")


@pytest.fixture
def builder(tmp_path):
    builder = fixtures.Builder(tmp_path)
    builder.dataset("set5", "Set5", 1)
    builder.model("a", "A")
    builder.cell("sr-x2@1", "set5", "a", {"psnr": [33.0], "ssim": [0.9]})
    builder.profile("sr-x2@1", "a")
    return builder


CELL = "cells/sr-x2@1/set5/a.json"


def test_an_outdated_cell_has_no_figure_and_says_why(builder):
    run = stale(builder, CELL)
    line, = csv.DictReader(io.StringIO(summary.summary(run)))
    assert (line["status"], line["psnr_db"]) == ("outdated", "")
    assert line["reason"].startswith(OTHER)
    table = tables.build(run)[0]
    note, = (note for note in table.notes.values() if note.startswith("outdated: "))
    assert "package versions); run it again" in note
    assert {entry.shown for entry in table.measured[0].entries} == {"n/a"}


def test_other_definitions_and_datasets_are_outdated_too(builder):
    definition = builder.plan["protocols"]["sr-x2@1"]
    builder.plan["protocols"]["sr-x2@1"] = {**definition,
                                            "metric": {**definition["metric"], "crop": 4}}
    run = stale(builder)
    assert {job.status for job in (*run.cells, *run.profiles.values())} == {"outdated"}
    builder.plan["protocols"]["sr-x2@1"] = definition
    builder.plan["datasets"]["set5"]["sha256"] = "other"
    run = stale(builder)
    assert run.cells[0].status == "outdated" and run.profiles["sr-x2@1", "a"].status == "ok"


def test_an_outdated_profile_says_so(builder):
    run = stale(builder, "profiles/sr-x2@1/a.json")
    made = costs.speed(run)
    assert any(note.startswith(f"outdated: {OTHER}") for note in made.notes.values())


def test_an_outdated_failure_is_outdated(builder):
    builder.training("sr-x2@1", "a", status="failed", reason="the loss is nan")
    run = stale(builder, "training/sr-x2@1/a.json")
    assert run.trainings["sr-x2@1", "a"].status == "outdated"
    assert "nan" not in run.trainings["sr-x2@1", "a"].reason


def test_a_set_that_is_gone_is_the_reason_not_its_old_record(builder):
    builder.plan["datasets"]["set5"].update(sha256=None, reason="Set5 is not here.")
    cell, = stale(builder, CELL).cells
    assert (cell.status, cell.reason) == ("unavailable", "Set5 is not here.")


@pytest.mark.formats
def test_the_page_shows_what_is_outdated(builder):
    builder.plan["fingerprints"] = {CELL: "0" * 64}
    page = report.build(builder.folder, builder.plan).read_text()
    assert 'class="status outdated"' in page and OTHER.replace("'", "&#39;") in page
