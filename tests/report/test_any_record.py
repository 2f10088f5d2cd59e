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


@pytest.mark.parametrize("path", [CELL, TRAINING, PROFILE, "leaks.json", "benches/attention.json"])
@pytest.mark.parametrize("text", ["", "[" * 10**5, '{"schema_version": 1}'])
def test_a_file_that_is_no_record_costs_its_own_place(tmp_path, path, text):
    builder = fixtures.small_run(tmp_path)
    builder.leaks()
    builder.bench({"rows": []})
    before = others(builder, path)
    (tmp_path / path).write_text(text)
    assert others(builder, path) == before
    page = report.build(tmp_path, builder.plan).read_text()
    assert f"{path}: " in page or path.startswith("benches")    # a bench has no place on the page
    assert "35.50" in page                                      # of photos, which is intact


@pytest.mark.parametrize(("path", "change"), [
    (CELL, {"images": [1]}), (CELL, {"mean": [1]}), (CELL, {"dictionary": 5}),
    (CELL, {"inference": "fast"}), (CELL, {"tiling": [2]}), (TRAINING, {"validation": 7}),
    (TRAINING, {"curve": [{"step": "one"}]}), (PROFILE, {"latency_ms": {"p50": "fast"}}),
    (PROFILE, {"macs_by_kind": [1]})])
def test_a_value_of_another_form_costs_its_own_record(tmp_path, path, change):
    builder = fixtures.small_run(tmp_path)
    before = others(builder, path)
    record = json.loads((tmp_path / path).read_text())
    record["result"] |= change
    (tmp_path / path).write_text(json.dumps(seal(record)))
    run = collect.collect(tmp_path, builder.plan)
    jobs = [*run.cells, *run.trainings.values(), *run.profiles.values()]
    (bad,) = [job for job in jobs if "in the form that irbench writes" in job.reason]
    assert (bad.path, bad.status) == (path, "failed") and bad.reason.startswith(f"{path}: ")
    assert others(builder, path) == before
    assert "35.50" in report.build(tmp_path, builder.plan).read_text()
