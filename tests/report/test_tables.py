"""Tables: who is best, what has no value and why, what a row and a column are."""

import csv
import io
import json

import pytest

from irbench.core import metrics, records
from irbench.core.errors import UserError
from irbench.present import text
from irbench.present.latex import to_latex
from irbench.present.markdown import to_markdown
from irbench.present.table import Column, Row, Value
from irbench.present.tidy import to_csv
from irbench.report import collect
from irbench.report.facts import ranking
from irbench.report.tables import files, summary, tables
from tests.helpers import report_fixtures as fixtures
from tests.helpers.sealed import seal


def build(builder):
    run = collect.collect(builder.folder, builder.plan)
    return run, tables.build(run)


def entry(table, model, column, block="measured"):
    """The entry of a row in the column LEVEL/DATASET/METRIC."""
    return next(r for r in getattr(table, block) if model in (r.key, r.name)).entries[
        at(table, column)]


def at(table, column):
    return [f"{c.level}/{c.dataset}/{c.metric}" for c in table.columns].index(column)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return fixtures.small_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def built(small):
    return {table.anchor: table for table in build(small)[1]}


@pytest.fixture(scope="module")
def sr(built):
    return built["sr-x2"]


@pytest.fixture(scope="module")
def x3(built):
    return built["sr-x3"]


# -- best and second, of published rows: by the printed figures ----------------------------------

def ranks(metric, *numbers):
    column = Column("PSNR", protocol="p@1", level="x2", dataset="set5", metric=metric)
    rows = [Row([Value(str(i))], [
        Value(text.NA) if n is None else Value(text.value(metric, n), number=n)], str(i))
        for i, n in enumerate(numbers)]
    ranking.printed(rows, [column])
    return [row.entries[0].rank for row in rows]


@pytest.mark.parametrize(("metric", "numbers", "expected"), [
    ("psnr", (30.0, 32.0, 31.0), ["", "best", "second"]),
    ("lpips", (0.3, 0.1, 0.2), ["", "best", "second"]),
    ("psnr", (9.5, 10.5), ["second", "best"]),                   # numbers, not texts
    ("psnr", (32.001, 32.004, 31.0), ["best", "best", "second"]),    # equal as shown
    ("psnr", (32.0, 31.0, 31.0, 30.0), ["best", "second", "second", ""]),
    ("ssim", (None, 0.9, 0.8), ["", "best", "second"]),
    ("psnr", (30.0,), [""]), ("psnr", (30.0, None), [""] * 2),       # no contest
    ("psnr", (30.0, 30.0), [""] * 2),
])
def test_ranks(metric, numbers, expected):
    assert ranks(metric, *numbers) == expected


def test_measured_and_published_are_ranked_apart(sr):
    assert entry(sr, "compacter", "x2/set5/ssim").rank == "best"
    assert entry(sr, "compacter", "x2/set5/psnr").rank == "best"     # 35.50, tied as shown
    assert entry(sr, "semanir", "x2/set5/psnr").rank == "best"
    best = [r.name for r in sr.published
            if r.entries[[c.dataset for c in sr.columns].index("set5")].rank == "best"]
    assert best == ["EDT"]
    assert "ranked separately" in sr.caption


def test_an_ssim_of_another_kind_is_shown_but_not_ranked(sr):
    odd = entry(sr, "SemanIR-B", "x2/set5/ssim", "published")
    assert (odd.shown, odd.rank) == ("0.9654", "")
    assert any("zero padding" in sr.notes[mark] for mark in odd.marks)
    assert entry(sr, "EDT", "x2/set5/ssim", "published").rank == "best"


# -- what has no value ---------------------------------------------------------------------------

def test_an_unavailable_cell_has_a_reason_and_no_mean(small, sr):
    cell = entry(sr, "tiny", "x2/photos/psnr")
    assert (cell.shown, cell.number, cell.exact) == ("n/a", None, "")
    assert sr.notes[cell.marks[0]] == "unavailable: weights tiny.pt: no such file"
    line = next(r for r in csv.DictReader(io.StringIO(summary.summary(build(small)[0])))
                if (r["model"], r["dataset"]) == ("tiny", "photos"))
    assert (line["status"], line["psnr_db"], line["n_images"]) == ("unavailable", "", "")


def test_a_failed_record_with_a_result_is_refused(tmp_path):
    """Should a record smuggle a mean past its status, nothing of it is shown."""
    builder = fixtures.Builder(tmp_path)
    builder.dataset("set5", "Set5", 1)
    builder.model("a", "A")
    builder.cell("sr-x2@1", "set5", "a", {"psnr": [33.33], "ssim": [0.9]})
    path = tmp_path / "cells/sr-x2@1/set5/a.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "status": "failed", "reason": "out of memory"}))
    run, built = build(builder)
    assert run.cells[0].means == {}
    assert "33.33" not in to_markdown(built[0]) + "".join(map(to_csv, built)) + summary.summary(
        run)


def test_a_missing_record(sr):
    cell = entry(sr, "tiny", "x2/set5/psnr")
    assert (cell.shown, cell.status) == ("n/a", "missing")
    assert sr.notes[cell.marks[0]] == "not computed"


def test_a_missing_metric_has_its_own_note(sr):
    cell = entry(sr, "semanir", "x2/set5/lpips")
    assert (cell.shown, sr.notes[cell.marks[0]]) == ("n/a", "no LPIPS weights here")
    assert entry(sr, "semanir", "x2/set5/psnr").shown == "35.50"
    # three models lack it for one reason: one note
    assert list(sr.notes.values()).count("no LPIPS weights here") == 1


def test_a_set_with_a_missing_image_has_no_mean(x3, tmp_path):
    cell = entry(x3, "compacter", "x3/set5/ssim")
    assert (cell.shown, cell.reason) == ("n/a", "1 of 2 images have no SSIM")
    builder = fixtures.Builder(tmp_path)
    builder.dataset("set5", "Set5", 2)
    builder.model("a", "A")
    builder.cell("sr-x2@1", "set5", "a", {"psnr": [33.0, 34.0], "ssim": [0.9, 0.9]})
    builder.plan["datasets"]["set5"]["count"] = 5
    assert build(builder)[0].cells[0].missing["psnr"] == "scored on 2 of 5 images"


def test_a_mean_with_a_hole_below_it_is_refused(tmp_path):
    """A record may claim a mean over what happened to succeed; the table does not repeat it."""
    builder = fixtures.Builder(tmp_path)
    builder.dataset("set5", "Set5", 2)
    builder.model("a", "A")
    builder.cell("sr-x2@1", "set5", "a", {"psnr": [33.0, None], "ssim": [0.9, 0.9]})
    path = tmp_path / "cells/sr-x2@1/set5/a.json"
    record = json.loads(path.read_text())
    record["result"]["mean"]["psnr"] = 33.0
    path.write_text(json.dumps(seal(record)))
    (cell,) = build(builder)[0].cells
    assert cell.status == "failed"
    assert "its mean psnr is 33.0, that of its images None" in cell.reason


def test_not_asked_for_is_a_dash(x3):
    assert entry(x3, "bicubic", "x3/set5/psnr").shown == "30.50"
    assert entry(x3, "bicubic", "x3/photos/psnr").shown == "–"  # noqa: RUF001
    assert "semanir" not in {row.key for row in x3.measured}
    assert "not requested" in x3.caption


@pytest.mark.parametrize(("damage", "reason"), [
    (lambda record: "{", "not readable as JSON"),
    (lambda record: json.dumps({**record, "schema_version": 99}), "schema_version is 99"),
    (lambda record: json.dumps({**record, "spec": {}}), "the file was edited"),
])
def test_a_broken_record_is_a_failure_with_a_relative_path(tmp_path, damage, reason):
    builder = fixtures.Builder(tmp_path)
    builder.dataset("set5", "Set5", 1)
    builder.model("a", "A")
    builder.cell("sr-x2@1", "set5", "a", {"psnr": [33.0], "ssim": [0.9]})
    path = tmp_path / "cells/sr-x2@1/set5/a.json"
    path.write_text(damage(json.loads(path.read_text())))
    cell = build(builder)[0].cells[0]
    assert cell.status == "failed" and reason in cell.reason
    assert cell.reason.startswith("cells/sr-x2@1") and str(tmp_path) not in cell.reason


def test_records_of_another_definition_or_dataset_are_not_shown(tmp_path):
    builder = fixtures.Builder(tmp_path)
    builder.dataset("set5", "Set5", 1)
    builder.model("a", "A")
    builder.cell("sr-x2@1", "set5", "a", {"psnr": [33.0], "ssim": [0.9]})
    definition = builder.plan["protocols"]["sr-x2@1"]
    changed = {**definition, "title": "only words",
               "metric": {**definition["metric"], "crop": 4}}
    builder.plan["protocols"]["sr-x2@1"] = changed
    assert "another definition of sr-x2@1 (metric)" in build(builder)[0].cells[0].reason
    builder.plan["protocols"]["sr-x2@1"] = {**definition, "title": "only words"}
    assert build(builder)[0].cells[0].status == "ok"
    builder.plan["datasets"]["set5"]["sha256"] = "other"
    assert "another version of set5" in build(builder)[0].cells[0].reason


def test_a_record_in_the_wrong_place(tmp_path):
    builder = fixtures.Builder(tmp_path)
    builder.dataset("set5", "Set5", 1)
    builder.model("a", "A")
    builder.model("b", "B")
    builder.cell("sr-x2@1", "set5", "a", {"psnr": [33.0], "ssim": [0.9]})
    builder.cell("sr-x2@1", "set5", "b", write=False)
    (tmp_path / "cells/sr-x2@1/set5/b.json").write_text(
        (tmp_path / "cells/sr-x2@1/set5/a.json").read_text())
    assert build(builder)[0].cells[1].status == "failed"


def test_a_plan_entry_without_its_keys(tmp_path):
    with pytest.raises(UserError, match="entry of cells"):
        collect.collect(tmp_path, {"cells": [{"protocol": "sr-x2@1", "model": "a"}]})


# -- rows and columns ----------------------------------------------------------------------------

def test_two_versions_never_meet(tmp_path):
    builder = fixtures.Builder(tmp_path)
    builder.dataset("set5", "Set5", 1)
    builder.model("a", "A")
    for name in ("sr-x2@1", "sr-x2@2", "sr-x3@1"):
        builder.cell(name, "set5", "a", {"psnr": [33.0], "ssim": [0.9]})
    found = {t.stem: {c.protocol for c in t.columns} for t in build(builder)[1]}
    assert found == {"sr@1": {"sr-x3@1"}, "sr@2": {"sr-x2@2"}}      # the last block of each
    assert [t.anchor for t in build(builder)[1]] == ["sr-v1-x2", "sr-v1-x3", "sr-v2"]


def test_many_columns_become_one_table_per_level(tmp_path):
    builder = fixtures.Builder(tmp_path)
    builder.model("a", "A")
    for n in range(4):
        builder.dataset(f"d{n}", f"D{n}", 1)
        for name in ("sr-x2@1", "sr-x4@1"):
            builder.cell(name, f"d{n}", "a", {"psnr": [33.0], "ssim": [0.9]})
    built = build(builder)[1]
    assert [(t.stem, t.anchor, len(t.columns)) for t in built] == [
        ("sr", "sr-x2", 8), ("sr", "sr-x4", 8)]
    assert files.texts(built)["tex"].count(r"\begin{table}") == 1


def test_rows_state_how_they_were_trained(sr, x3):
    origins = {row.key: row.origin for row in sr.measured}
    assert origins["bicubic"] == ""
    assert origins["semanir"] == "trained here for 90 steps on a CPU"
    assert origins["compacter"] == "trained here for 150 steps on a CPU"
    assert next(r.origin for r in x3.measured if r.key == "compacter").endswith("steps on a CPU")
    assert origins["tiny"] == "weights from a local file"
    # said once, in a note, and not below each name
    assert not any(row.sub for row in sr.measured)
    for row in sr.measured:
        assert row.origin in ["", *(sr.notes[mark] for mark in row.marks)]
    assert "reproductions" in sr.caption


def test_a_training_that_did_not_finish_states_no_length(tmp_path):
    builder = fixtures.Builder(tmp_path)
    builder.dataset("set5", "Set5", 1)
    builder.model("a", "A", checkpoint={"kind": "trained"})
    builder.cell("sr-x2@1", "set5", "a", status="unavailable", reason="not trained")
    assert build(builder)[1][0].measured[0].origin == "no training record"
    builder.training("sr-x2@1", "a", status="failed", reason="NaN")
    assert build(builder)[1][0].measured[0].origin == "training failed"
    for name in ("denoise_color-sigma15@1", "denoise_color-sigma50@1"):
        builder.cell(name, "set5", "a", {"psnr": [33.0], "ssim": [0.9]})
    builder.training("denoise_color-sigma15@1", "a", status="failed", reason="NaN")
    builder.training("denoise_color-sigma50@1", "a", {"parameters": 400_000})
    row = next(t for t in build(builder)[1] if t.task == "denoise_color").measured[0]
    assert row.origin == (
        "trained here: σ = 15: training failed; σ = 50: 150 steps; on a CPU")  # noqa: RUF001
    assert row.heads[1].shown == "n/a / 400 K"
    builder.training("denoise_color-sigma15@1", "a", {"steps": 90})
    row = next(t for t in build(builder)[1] if t.task == "denoise_color").measured[0]
    assert row.origin == (
        "trained here for 90 steps (σ = 15) and 150 steps (σ = 50) on a CPU")  # noqa: RUF001


def test_parameters(sr, built):
    shown = {row.key: row.heads[1].shown for row in sr.measured}
    assert shown == {"bicubic": "0", "semanir": "11.87 M", "compacter": "392 K", "tiny": "n/a"}
    light = next(row for row in built["sr_light-x2"].published if row.name == "Compacter")
    assert light.heads[1].shown == "393 K" and light.sub == "counterpart above: Compacter"


def test_a_variant_that_is_not_in_the_paper_says_so(sr):
    tiny = next(row for row in sr.measured if row.key == "tiny")
    assert [sr.notes[mark] for mark in tiny.marks] == [
        "a size that no paper has", "weights from a local file"]


def test_models_with_one_title_show_their_names(tmp_path):
    builder = fixtures.Builder(tmp_path)
    builder.dataset("set5", "Set5", 1)
    for name in ("dot", "cosine"):
        builder.model(name, "SemanIR-S")
        builder.cell("sr-x2@1", "set5", name, {"psnr": [33.0], "ssim": [0.9]})
    assert [r.name for r in build(builder)[1][0].measured] == ["SemanIR-S (dot)",
                                                               "SemanIR-S (cosine)"]


def test_no_published_rows_when_none_are_wanted(tmp_path):
    built = build(fixtures.small_run(tmp_path, "none"))[1]
    assert not any(t.published for t in built)
    for table in built:
        assert tables.PUBLISHED_RULE not in files.texts([table])["md"] + files.texts([table])["tex"]


def test_lpips_columns_only_where_asked_for(sr, small):
    assert "lpips" in {c.metric for c in sr.columns}
    noise = next(t for t in build(small)[1] if t.task == "denoise_color")
    assert {c.metric for c in noise.columns} == {"psnr", "ssim"}
    assert "LPIPS: lower is better" in sr.caption


def test_a_metric_that_no_cell_has_gets_no_column_and_one_note(tmp_path):
    def table(**given):
        builder = fixtures.Builder(tmp_path / str(len(given)))
        builder.dataset("mine", "Mine", 2)
        for name in ("bicubic", "input"):
            builder.model(name, name.title(), learned=False)
            builder.cell("sr-x2@1", "mine", name, {"psnr": [33.0, 34.0], **(
                {"lpips": [0.1, 0.2]} if name in given else {})}, metrics=("psnr", "lpips"),
                missing={} if name in given else {"lpips": "LPIPS needs weights: get them."})
        return build(builder)[1][0]

    without = table()
    assert {c.metric for c in without.columns} == {"psnr"}
    assert without.caption.count("No LPIPS: LPIPS needs weights: get them.") == 1
    assert "LPIPS" not in to_latex([without]).replace("No LPIPS: LPIPS", "")
    some = table(bicubic=True)
    assert {c.metric for c in some.columns} == {"psnr", "lpips"}
    assert "No LPIPS" not in some.caption


def test_a_metric_of_any_name_in_every_form_of_a_table(tmp_path, monkeypatch):
    row = metrics.Metric("pyiqa:a+_b", "A_b 50% & $c (pyiqa)", "", 3, metrics.LOWER)
    monkeypatch.setitem(metrics.METRICS, row.name, row)
    builder = fixtures.Builder(tmp_path)
    builder.dataset("mine", "Mine", 2)
    for name, scores in (("bicubic", [0.1, 0.2]), ("input", [0.5, 0.6])):
        builder.model(name, name.title(), learned=False)
        builder.cell("sr-x2@1", "mine", name, {"psnr": [33.0, 34.0], row.name: scores},
                   metrics=("psnr", row.name))
    table = build(builder)[1][0]
    assert "A\\_b 50\\% \\& \\$c (pyiqa)" in to_latex([table])
    assert "A\\_b 50% &amp; $c (pyiqa)" in to_markdown(table)
    ranked = {r.key: r.entries[-1] for r in table.measured}
    assert (ranked["bicubic"].shown, ranked["bicubic"].rank) == ("0.150", "best")
    assert row.column() == "pyiqa_a+_b"


def test_summary_has_one_line_per_cell_with_unrounded_numbers(small):
    run, _ = build(small)
    lines = list(csv.DictReader(io.StringIO(summary.summary(run))))
    assert len(lines) == len(small.plan["cells"])
    line = next(r for r in lines if (r["model"], r["level"], r["dataset"])
                == ("semanir", "x2", "set5"))
    assert line["psnr_db"] == "35.501" and line["lpips"] == ""
    assert line["missing"] == "lpips: no LPIPS weights here"
    assert (line["parameters"], line["macs"], line["macs_input"], line["latency_p50_ms"]) == (
        "11870000", "48000000000", "1×3×64×64", "210.0")  # noqa: RUF001
    assert line["training_steps"] == "90" and "training_seconds" not in line     # no wall time
    x3 = next(r for r in lines if (r["model"], r["level"]) == ("compacter", "x3"))
    assert (x3["macs"], x3["latency_p50_ms"]) == ("", "")       # its profile failed
    assert "0.0" not in (x3["macs"], x3["ssim"], x3["lpips"])


def test_records_module_is_what_wrote_these(small):
    """The fixtures are real records: they pass the check that the reader applies."""
    for path in small.folder.rglob("*.json"):
        records.read(path)
