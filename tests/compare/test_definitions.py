"""A value counts under the definition of its metric only, and only within its range."""

import json
import shutil

import pytest

from irbench import cli
from irbench.compare import baseline, differences, history, loading, runs
from irbench.core import files, metrics, records
from irbench.core.errors import UserError
from irbench.report import collect
from tests.helpers import compare_fixtures as fixtures
from tests.helpers.sealed import seal

ROW = {"name": "mine", "title": "Mine", "unit": "levels", "decimals": 3, "direction": "higher",
       "range": [0, 100], "noise": 0.01, "tolerance": {"mean": 0.1, "image": 1, "exact": 0.05}}
OTHER = {"direction": "lower", "range": [0, 50], "unit": "dB", "noise": 0.5, "reference": False,
         "tolerance": {"mean": 9, "image": 9, "exact": 9}}


def give(folder, value, row=ROW, path=fixtures.CELL):
    """Let a record of a run hold the metric, with one value for all images."""
    record = json.loads((folder / path).read_text())
    record["spec"]["metrics"] = [*record["spec"]["metrics"], "mine"]
    for image in record["result"]["images"]:
        image["mine"] = value
    record["result"]["mean"]["mine"] = value
    record["metrics"] = [row] if row else []
    files.write_json(folder / path, seal(record))


@pytest.fixture
def pair(tmp_path):
    """Two runs whose cell has another definition of the metric; a function makes them."""
    def make(**change):
        metrics.METRICS.pop("mine", None)
        for name, value, row in (("base", 10.0, ROW), ("new", 12.0, {**ROW, **change})):
            shutil.rmtree(tmp_path / name, ignore_errors=True)
            give(fixtures.make(tmp_path, name), value, row)
        return tmp_path / "base", tmp_path / "new"
    return make


def found(base, new):
    cells = {cell.key: cell for cell in differences.compare(*map(loading.load, (base, new))).cells}
    return next(one for one in cells[fixtures.KEY].metrics if one.name == "mine")


@pytest.mark.parametrize("field", sorted(OTHER))
@pytest.mark.parametrize("swapped", [False, True])
def test_two_definitions_are_named_and_never_compared(pair, field, swapped):
    sides = pair(**{field: OTHER[field]})
    one = found(*(reversed(sides) if swapped else sides))
    assert (one.word, one.direction, one.difference) == (differences.NOT_COMPARED, "", None)
    assert f"no mean in NEW: another definition of mine: {field} is " in one.note
    assert "psnr" in loading.load(sides[1]).cells[fixtures.KEY].means     # the others are compared


def test_one_definition_is_compared_also_under_another_title(pair):
    one = found(*pair(title="My own", decimals=3))
    assert (one.word, one.direction, one.difference) == ("real", "better", 2.0)


def test_a_record_without_its_definition_is_not_compared(tmp_path):
    give(fixtures.make(tmp_path, "base"), 10.0)
    give(fixtures.make(tmp_path, "new"), 12.0, None)
    assert found(tmp_path / "base", tmp_path / "new").note.endswith("the record has none")


def test_irbenchs_own_metrics_cannot_be_redefined_by_a_record(tmp_path):
    base, new = (fixtures.make(tmp_path, name) for name in ("base", "new"))
    fixtures.edit(new, fixtures.CELL, lambda record: record.update(metrics=[
        {"name": "psnr", "title": "PSNR", "direction": "lower"}]))
    cell = differences.compare(loading.load(base), loading.load(new)).cells
    (psnr,) = [m for one in cell if one.key == fixtures.KEY for m in one.metrics
               if m.name == "psnr"]
    assert psnr.word == differences.NOT_COMPARED and "direction is lower" in psnr.note


@pytest.mark.parametrize("as_baseline", [False, True])
def test_the_gate_fails_by_name(pair, tmp_path, capsys, as_baseline):
    base, new = map(str, pair(direction="lower"))
    if as_baseline:
        assert cli.main(["baseline", "write", base, "--partial", "--output",
                         str(tmp_path / "b.json")]) == 0
        metrics.METRICS.pop("mine")
        base = str(tmp_path / "b.json")
    assert cli.main(["check", new, "--baseline", base]) == 1
    assert ("no Mine: another definition of mine: direction is lower, not higher"
            in capsys.readouterr().out)


def test_a_cell_with_nothing_else_is_not_compared(pair):
    base, new = (loading.load(folder) for folder in pair(direction="lower"))
    alone = [runs.replace(run, cells={fixtures.KEY: runs.replace(
        run.cells[fixtures.KEY], means={"mine": 10.0}, missing={}, images={
            "image0": {"mine": 10.0}})}) for run in (base, new)]
    (cell,) = differences.compare(*alone).cells
    assert "another definition of mine" in cell.reason and not cell.metrics


def test_a_history_leaves_the_later_definition_out_and_says_so(pair, tmp_path):
    pair(direction="lower")
    read = history.read(tmp_path)
    points = [point.run for one in read.series if one.metric == "mine" for point in one.points]
    assert points == ["base"]
    assert any(name == "new" and "no value of mine: another definition" in reason
               for name, reason in read.skipped)


def test_the_report_shows_no_value_of_another_definition(tmp_path):
    folder = fixtures.make(tmp_path, "base")
    give(folder, 10.0, {**ROW, "direction": "lower"})
    metrics.METRICS["mine"] = metrics.row(ROW)      # as the config says
    _, dataset, model = fixtures.KEY.split("/")
    run = collect.collect(folder, {"run": "base", "cells": [
        {"protocol": fixtures.X2, "dataset": dataset, "model": model}]})
    (cell,) = run.cells
    assert "mine" not in cell.means and "psnr" in cell.means
    assert cell.missing["mine"].startswith("not comparable: another definition of mine: direction")


# -- ranges ------------------------------------------------------------------------------------

@pytest.mark.parametrize(("metric", "value", "message"), [
    ("psnr", 1000.0, "psnr of 'image0' is 1000.0, which is outside of the metric's range"),
    ("psnr", -1.0, "outside"), ("ssim", 2.0, "outside"), ("lpips", -0.5, "outside"),
    ("ssim", True, "not in the form"), ("psnr", "33", "not in the form")])
def test_a_record_with_an_impossible_value_is_damaged(tmp_path, metric, value, message):
    folder = fixtures.make(tmp_path, "base")
    record = json.loads((folder / fixtures.CELL).read_text())
    record["result"]["images"][0][metric] = value
    scores = [image[metric] for image in record["result"]["images"]]
    record["result"]["mean"][metric] = sum(map(float, scores)) / len(scores)
    files.write_json(folder / fixtures.CELL, seal(record))
    with pytest.raises(UserError, match=message):
        records.read(folder / fixtures.CELL)
    cell = loading.load(folder).cells[fixtures.KEY]
    assert cell.status == "failed" and not cell.means


def test_the_range_of_a_users_metric_is_the_records_own(tmp_path):
    folder = fixtures.make(tmp_path, "base")
    give(folder, 101.0)
    with pytest.raises(UserError, match=r"mine of 'image0' is 101.0, which is outside"):
        records.read(folder / fixtures.CELL)
    give(folder, 100.005)       # by less than its noise
    assert records.read(folder / fixtures.CELL)["result"]["mean"]["mine"] == 100.005


def test_a_baseline_with_an_impossible_value_is_damaged(tmp_path):
    folder = fixtures.make(tmp_path, "base")
    content = baseline.form(loading.load(folder))
    cell = content["cells"][fixtures.KEY]
    cell["ssim"] = [2.0] * len(cell["ssim"])
    cell["mean"]["ssim"] = 2.0
    path = tmp_path / "b.json"
    path.write_text(baseline.text(content))
    with pytest.raises(UserError, match="ssim of image0 is 2.0, outside of its range"):
        baseline.load(path)
