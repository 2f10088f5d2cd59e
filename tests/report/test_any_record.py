"""Records of older versions are shown; one that is malformed costs its own place and no other."""

import json
import shutil

import pytest

from irbench import report
from irbench.core.run_folder import RunFolder
from irbench.report import collect
from tests.helpers import report_fixtures as fixtures
from tests.helpers.paths import ROOT
from tests.helpers.sealed import seal

OLD = ROOT / "tests" / "core" / "records_v1"
GROUPS = {"cells": "cell", "trainings": "training", "profiles": "profile", "benches": "bench"}
CELL, TRAINING, PROFILE = (f"{place}/compacter.json" for place in (
    "cells/sr-x2@1/set5", "training/sr-x2@1", "profiles/sr-x2@1"))


@pytest.mark.slow
@pytest.mark.formats
def test_a_run_of_version_1_is_reported_whole(tmp_path):
    folder = RunFolder(shutil.copytree(OLD, tmp_path / "old"))
    plan = {"run": "old", "leaks": [{"run": "tiny"}],
            "datasets": {"tinyset": {"title": "Tiny", "count": 3, "source": "", "sha256": None}},
            **{group: folder.keys(kind) for group, kind in GROUPS.items()}}
    run = collect.collect(folder.path, plan)
    jobs = [*run.cells, *run.trainings.values(), *run.profiles.values(), *run.benches.values()]
    assert [(job.path, job.status) for job in jobs if job.status != "ok"] == [
        ("cells/sr-x2@1/tinyset/late.json", "unavailable")]
    cell = next(cell for cell in run.cells if cell.model == "tiny")
    assert cell.means["psnr"] == pytest.approx(33.7232, abs=1e-4)
    assert run.leaks.asked and not run.leaks.reason
    page = report.build(folder.path, plan).read_text()
    assert "33.72" in page and "does not fit" not in page


def others(builder, path):
    """The means of all cells but the one at a path."""
    run = collect.collect(builder.folder, builder.plan)
    return {cell.path: cell.means for cell in run.cells if cell.path != path}


PLACES = [CELL, TRAINING, PROFILE, "leaks.json", "benches/attention.json"]
NO_RECORD = ["", "[" * 10**5, '{"schema_version": 1}']


@pytest.fixture
def builder(tmp_path):
    """A run with a record at each of PLACES."""
    builder = fixtures.small_run(tmp_path)
    builder.leaks()
    builder.bench({"rows": []})
    return builder


@pytest.mark.parametrize("path", PLACES)
@pytest.mark.parametrize("text", NO_RECORD)
def test_a_file_that_is_no_record_costs_its_own_place(builder, path, text):
    before = others(builder, path)
    (builder.folder / path).write_text(text)
    assert others(builder, path) == before


@pytest.mark.slow
def test_the_page_names_each_file_that_is_no_record(builder):
    for number, path in enumerate(PLACES):
        (builder.folder / path).write_text(NO_RECORD[number % len(NO_RECORD)])
    page = report.build(builder.folder, builder.plan).read_text()
    for path in PLACES[:-1]:                                    # a bench has no place on the page
        assert f"{path}: " in page
    assert "35.50" in page                                      # of photos, which is intact


OTHER_FORMS = [
    (CELL, {"images": [1]}), (CELL, {"mean": [1]}), (CELL, {"dictionary": 5}),
    (CELL, {"inference": "fast"}), (CELL, {"tiling": [2]}), (TRAINING, {"validation": 7}),
    (TRAINING, {"curve": [{"step": "one"}]}), (PROFILE, {"latency_ms": {"p50": "fast"}}),
    (PROFILE, {"macs_by_kind": [1]})]


def misshape(builder, path, change):
    """Give a record's result values of another form, under a digest that fits them."""
    record = json.loads((builder.folder / path).read_text())
    record["result"] |= change
    (builder.folder / path).write_text(json.dumps(seal(record)))


@pytest.mark.parametrize(("path", "change"), OTHER_FORMS)
def test_a_value_of_another_form_costs_its_own_record(builder, path, change):
    before = others(builder, path)
    misshape(builder, path, change)
    run = collect.collect(builder.folder, builder.plan)
    jobs = [*run.cells, *run.trainings.values(), *run.profiles.values()]
    (bad,) = [job for job in jobs if "in the form that irbench writes" in job.reason]
    assert (bad.path, bad.status) == (path, "failed") and bad.reason.startswith(f"{path}: ")
    assert others(builder, path) == before


@pytest.mark.slow
def test_the_page_stands_beside_values_of_another_form(builder):
    for path, change in reversed(OTHER_FORMS):                  # of each record the first change
        misshape(builder, path, change)
    assert "35.50" in report.build(builder.folder, builder.plan).read_text()
