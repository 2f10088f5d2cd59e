"""The report of trainings: cost beside score and gap, bundled weights, blind ones, paused ones."""

from __future__ import annotations

import pytest

from irbench import report
from irbench.core import headers
from irbench.present import text
from irbench.report import collect
from irbench.report.facts import verdict
from irbench.report.page import page, provenance
from irbench.report.plots import curves
from irbench.report.tables import paper, summary, trainings
from irbench.report.tables import tables as methods
from tests.helpers import report_fixtures as fixtures
from tests.helpers.report_fast import collected, edit, lines
from tests.helpers.report_trained import header, recipe, result, trained_run

X2, X4, BLIND = "sr-x2@1", "sr-x4@1", "denoise_color-blind@1"


@pytest.fixture(scope="module")
def builder(tmp_path_factory):
    return trained_run(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="module")
def run(builder):
    return collected(builder)


@pytest.fixture(scope="module")
def made(run):
    return trainings.sheet(run)


@pytest.fixture(scope="module")
def lines_by_key(made):
    """The CSV's lines by model, scope, protocol and dataset."""
    return {(one["model"], one["trained_for"], one["protocol"], one["dataset"]): one
            for one in lines(made)}


def test_cost_and_score_stand_in_one_row(made):
    heads = [" ".join((*one.over, one.title)) for one in made.all_columns]
    assert len(heads) == len(set(heads)) and all(
        len(row.values) == len(heads) for row in made.rows)
    row = dict(zip(heads, made.rows[0].values, strict=True))
    assert {name: value.shown for name, value in row.items()} == {
        "Weights": "Compacter", "Wall time": "100 s", "Steps": "400", "Scored under": X2,
        "Test set": "Set5", "PSNR (dB) measured": "35.20", "PSNR (dB) published": "38.24",
        "PSNR (dB) gap": "-3.04", "Computed on": "Some CPU, 1 thread",
        "Validation PSNR (dB) best": "33.00 at step 300", "Validation PSNR (dB) last": "32.90",
        "Final loss": "0.021", "Parameters": "392 K", "Patches seen": "3 200",
        "Waiting for data": "1.2 %", "Recipe": "short, loss l1_fft",
        "Trained on": "bsds500_train, bsds500_test: 391 images"}
    assert row["Weights"].sub == "trained in this run, for sr-x2@1"
    notes = {name: " / ".join(made.notes[mark] for mark in value.marks)
             for name, value in row.items()}
    assert notes["Trained on"] == (
        "left out: 302003 of bsds500_train; 8 images held out for validation")
    assert notes["Recipe"] == (
        "short: scaled to a CPU; settings by irbench, not from the paper of the method: steps, lr")
    assert notes["Validation PSNR (dB) best"] == "validation: PSNR on y, dB"
    assert made.caption.count("Of all validations: 8 images held out of training; at most 192x192 "
                              "pixels of the middle; degraded and scored under the protocol "
                              "trained for.") == 1
    # the other test set of the same
    second = dict(zip(heads, made.rows[1].values, strict=True))
    assert second["Weights"].shown == second["Wall time"].shown == ""
    assert second["Test set"].shown == "Photos" and second["PSNR (dB) gap"].shown == "n/a"


def test_the_header_of_a_bundled_file_holds_the_same_as_a_record(lines_by_key, made):
    mine, bundled = (lines_by_key[model, X2, X2, "set5"] for model in ("compacter", "bundled"))
    assert bundled["origin"] == "bundled with irbench" and mine["origin"] == "trained in this run"
    for field in ("recipe", "loss", "datasets", "left_out", "training_images", "held_out_images",
                  "device", "validation_of", "published_psnr_db", "published_method"):
        assert mine[field] == bundled[field] != "", field
    assert (bundled["steps"], bundled["seconds"], bundled["threads"]) == ("20000", "19080.0", "2")
    assert (bundled["validation_best_psnr_db"], bundled["validation_best_step"]) == (
        "33.9", "20000")
    assert float(bundled["gap_db"]) == pytest.approx(36.75 - 38.24)
    assert any(row.sub == "bundled with irbench, for sr-x2@1" for row in made.rows)


def test_a_blind_training_serves_the_levels_of_its_task(run, lines_by_key):
    for level, gap in (("sigma15", 30.4 - 34.22), ("sigma25", 30.4 - 31.57)):
        protocol = f"denoise_color-{level}@1"
        one = lines_by_key["compacter", BLIND, protocol, "cbsd68"]
        assert one["levels"] == "sigma 15 to 50" and one["steps"] == "800"
        # the paper's row of one model for all levels, not one made for this level
        assert one["published_method"] == "Compacter*"
        assert float(one["gap_db"]) == pytest.approx(gap)
        assert run.training_of(protocol, "compacter")["steps"] == 800
        assert run.parameters(protocol, "compacter") == 406_995
    assert lines_by_key["bundled", BLIND, "denoise_color-sigma25@1", "cbsd68"]["gap_db"] != ""
    assert run.training("denoise_color-sigma25@2", "compacter") is None
    assert run.training("denoise_gray-sigma25@1", "compacter") is None
    table = next(t for t in methods.build(run) if t.task == "denoise_color")
    origins = {row.key: row.origin for row in table.measured}
    assert origins["compacter"] == "trained here for 800 steps on a CPU"
    assert origins["bundled"] == "weights that come with irbench, trained for 20000 steps on a CPU"
    assert "much less data and time" in table.caption
    assert "counterpart above: Compacter" in next(
        row.sub for row in table.published if row.name == "Compacter*")


def test_blind_weights_are_judged_by_the_row_of_one_model(run):
    found = {(one.cell.model, one.cell.protocol): one for one in verdict.all_verdicts(run)
             if one.metric == "psnr"}
    assert found["compacter", "denoise_color-sigma25@1"].figure.method == "Compacter*"
    assert found["compacter", X2].figure.method == "Compacter"
    assert "bundled weights" in found["bundled", X2].reason
    spec = run.models["compacter"]
    assert not verdict.is_counterpart(spec, "Compacter", blind=True)
    assert not verdict.is_counterpart(spec, "Compacter*")


def test_a_row_of_the_other_kind_is_compared_with_a_note(tmp_path):
    build = fixtures.Builder(tmp_path)
    build.dataset("cbsd68", "CBSD68", 2)
    build.model("compacter", "Compacter", published_as="Compacter",
                checkpoint={"kind": "trained"}, training=recipe())
    noise = "denoise_color-sigma25@1"
    build.cell(noise, "cbsd68", "compacter", {"psnr": [30.0, 31.0], "ssim": [0.8, 0.8]})
    build.training(noise, "compacter")
    made = trainings.sheet(collected(build))
    assert made.rows[0].values[7].shown == "-1.07"
    assert "the weights here were trained for this level only" in made.notes.values()
    assert not any("in options or number type" in sentence for sentence in made.notes.values())
    build.plan["models"]["compacter"]["in_paper"] = False       # its options were changed
    made = trainings.sheet(collected(build))
    assert made.rows[0].values[7].shown == "-1.07"
    assert any("in options or number type" in sentence for sentence in made.notes.values())


def test_what_is_unknown_is_not_zero(lines_by_key, made):
    foreign = lines_by_key["foreign", X2, X2, "set5"]
    assert foreign["psnr_db"] == "36.1" and foreign["status"] == "unknown"
    assert {foreign[name] for name in ("steps", "seconds", "parameters", "final_loss",
                                       "training_images", "waiting_share", "device")} == {""}
    light = lines_by_key["light", X2, X2, "set5"]
    assert (light["steps"], light["seconds"], light["device"]) == ("20000", "", "")
    assert light["gap_db"] == "" and "no paper" in light["missing"]
    for model in ("Foreign file", "SemanIR light"):
        row = next(row for row in made.rows if row.name == model)
        assert row.entries[0].shown == "n/a" and row.entries[0].marks
        assert [value.shown for value in row.values].count("0") == 0


def test_a_paused_training_says_how_far_it_came(run, lines_by_key, builder):
    job = run.trainings[X4, "compacter"]
    assert job.unfinished == "stopped after step 120 of 400"
    warned = page.warnings(run, provenance.groups(run.cells))
    assert ("The training of Compacter for sr-x4@1 stopped after step 120 of 400. Its state is "
            "kept: run the workflow again to resume it.") in warned
    assert not any("for sr-x2@1 stopped" in sentence for sentence in warned)
    paused = lines_by_key["compacter", X4, X4, "set5"]
    assert (paused["steps"], paused["status"], paused["psnr_db"]) == ("", "unavailable", "")
    assert paused["published_psnr_db"] == "32.53" and paused["gap_db"] == ""
    sr = next(table for table in methods.build(run) if table.anchor == "sr_light-x4")
    assert "stopped after step 120 of 400" in next(
        row.origin for row in sr.measured if row.key == "compacter")


@pytest.mark.parametrize(("curve", "unfinished"), [
    ("step,loss\n10,0.5\n20,0.4\n", "stopped after step 20"), (None, "was interrupted"),
    ("loss\n0.5\n", "was interrupted"), ("step\nx\n", "was interrupted")])
def test_a_training_paused_by_hand_leaves_no_record(tmp_path, curve, unfinished):
    build = trained_run(tmp_path)
    place = tmp_path / "training" / X4
    (place / "compacter.json").unlink()
    if curve:
        (place / "compacter.csv").write_text(curve)
    assert collected(build).trainings[X4, "compacter"].unfinished == unfinished
    (place / "compacter.state").unlink()
    assert collected(build).trainings[X4, "compacter"].unfinished == ""


def test_a_training_that_ended_is_not_paused(tmp_path):
    build = trained_run(tmp_path)       # killed between the record and the removal of the state
    (tmp_path / "training" / X2 / "compacter.state").write_bytes(b"state")
    assert collected(build).trainings[X2, "compacter"].unfinished == ""


def test_a_teacher_and_the_first_weights_stand_beside_the_row(tmp_path):
    teacher = {"title": "DCTLSA", "sha256": "a" * 64, "weight": 0.5}
    init = {"sha256": "b" * 64, "of": "compacter for sr-x2@1", "taken": 8, "new": ["head"],
            "left": [], "data_known": True}
    began = "began with 8 of 9 tensors of compacter for sr-x2@1 (SHA-256 bbbbbbbbbbbb); new: head"
    build = trained_run(tmp_path)
    build.training(X2, "compacter", result(X2, 400, (30.1, 32.4), teacher=teacher))
    build.cell(X2, "set5", "bundled", {"psnr": [35, 36], "ssim": [0.9, 0.9]},
               weights=header(X2, teacher=teacher, init=init))
    build.cell(X2, "set5", "light", {"psnr": [35, 36], "ssim": [0.9, 0.9]},
               weights=header(X2, teacher={"title": 7}, init="x"))      # of another program
    run = collected(build)
    table = next(table for table in methods.build(run)
                 if any(column.protocol == X2 for column in table.columns))
    notes = {row.key: [table.notes[mark] for mark in row.heads[0].marks] for row in table.measured}
    assert "distilled from DCTLSA" in notes["compacter"]
    assert [note for note in notes["bundled"] if note in ("distilled from DCTLSA", began)] == [
        "distilled from DCTLSA", began]
    assert not any("distilled" in note or "began" in note for note in notes["light"])
    recipes = [note for note in trainings.sheet(run).notes.values() if note.startswith("short: ")]
    assert any(f"distilled from DCTLSA; {began}" in note for note in recipes)
    # of two levels, only one of which had a teacher
    both = paper.build(run, paper.Selection("sr"))
    row = next(row for row in both.measured if row.key == "compacter")
    level = text.level_label("x2")
    assert f"{level}: distilled from DCTLSA" in [both.notes[mark] for mark in row.heads[0].marks]


# -- leaks ---------------------------------------------------------------------------------------

def test_images_left_out_of_the_training_are_no_leak(run, tmp_path):
    assert not any(cell.leak for cell in run.cells)
    sentences = " ".join(page.warnings(run, []))
    assert "is in bsds500_train" in sentences and "left them out of their training" in sentences
    counts = [line.split(",") for line in summary.summary(run).splitlines()]
    at = counts[0].index("leaked_images")
    assert {line[at] for line in counts[1:] if line[5] == "compacter" and line[4] == "set5"
            and line[0] == X2} == {"0"}
    build = trained_run(tmp_path)
    for key, sets in build.plan["trained_on"].items():
        build.plan["trained_on"][key] = {**sets, "bsds500_train": []}
    leaking = collected(build)
    assert {cell.model for cell in leaking.cells if cell.leak} == {"compacter", "bundled", "light"}
    assert "marked and not ranked" in " ".join(page.warnings(leaking, []))
    made = trainings.sheet(leaking)
    gap = made.rows[0].values[7]
    assert gap.shown == "n/a" and "trained on images" in gap.reason


# -- the figure ----------------------------------------------------------------------------------

@pytest.mark.formats
def test_the_figure_has_a_column_for_each_scope(tmp_path):
    run = collected(trained_run(tmp_path))
    drawn, = curves.draw(run).figures
    for part in ("sr-x2@1: PSNR on y, dB; 8 images held out of training",
                 "denoise_color-blind@1: sigma 15 to 50", "learning rate"):
        assert part in drawn.caption
    assert "Compacter on sr-x2@1: 0.206 to" in drawn.alt
    assert "validation PSNR 30.10 to 32.90 dB" in drawn.alt and "sr-x4" not in drawn.alt
    assert (tmp_path / "figures/training.png").stat().st_size > 5000


def test_a_training_without_validation_has_no_row_for_it(tmp_path, monkeypatch):
    panels = []
    monkeypatch.setattr(curves, "_label", lambda here, **_: panels.append(list(here)))
    build = trained_run(tmp_path)
    curves.draw(collected(build))
    assert panels == [["loss", "validation", "rate"]] * 2
    for scope in (X2, BLIND):
        edit(build, f"training/{scope}/compacter.json", lambda found: found.update(validation=[]))
    panels.clear()
    drawn, = curves.draw(collected(build)).figures
    assert panels == [["loss", "rate"]] * 2 and "validation" not in drawn.caption.lower()


# -- the page ------------------------------------------------------------------------------------

@pytest.mark.slow
def test_the_page_says_which_weights_are_bundled(builder, tmp_path):
    source = report.build(builder.folder, builder.plan).read_text()
    assert "in a short training, 5.3 h at most on a CPU" in source
    assert 'id="table-training"' in source and "stopped after step 120 of 400" in source
    assert (builder.folder / "tables/training.tex").exists()
    small = fixtures.small_run(tmp_path)
    assert "Bundled weights" not in report.build(tmp_path, small.plan).read_text()


def test_a_run_without_trainings_has_no_such_table(tmp_path):
    build = fixtures.Builder(tmp_path)
    build.dataset("set5", "Set5", 1)
    build.model("bicubic", "Bicubic", learned=False)
    build.model("a", "A", checkpoint={"kind": "file"})
    for model in ("bicubic", "a"):
        build.cell(X2, "set5", model, {"psnr": [33.0], "ssim": [0.9]})
    source = report.build(tmp_path, build.plan).read_text()
    assert 'id="trainings"' not in source and not (tmp_path / "tables/training.md").exists()


@pytest.mark.parametrize("strange", [
    {"own": "fields"}, {"steps": "many", "seconds": -1, "hardware": {"threads": "two", "device": 3},
             "exclude": {"a": 7}, "validation": [["x", 1], 3, [1, 30.0]], "levels": {"sigma": 5},
             "datasets": ["a", {"sha256": 1}], "images": {"training": None}, "recipe": []}])
def test_a_header_of_somebodys_own_making_costs_no_report(tmp_path, strange):
    build = fixtures.Builder(tmp_path)
    build.dataset("set5", "Set5", 1)
    build.model("a", "A", checkpoint={"kind": "bundled"})
    build.cell(X2, "set5", "a", {"psnr": [33.0], "ssim": [0.9]}, weights=strange)
    run = collected(build)
    line, = lines(trainings.sheet(run))
    assert (line["steps"], line["seconds"], line["threads"]) == ("", "", "")
    assert report.build(tmp_path, build.plan).exists()


def test_facts_of_a_header_are_those_of_the_known_fields():
    found = headers.checked(header(X2, unknown=1, seconds=True))
    assert "unknown" not in found and "seconds" not in found and found["steps"] == 20_000
    assert headers.checked(None) == {}


def test_weights_of_a_variant_are_listed_once(tmp_path):
    build = fixtures.Builder(tmp_path)
    build.dataset("set5", "Set5", 1)
    build.model("a", "A", checkpoint={"kind": "trained"}, training=recipe())
    variant = build.variant("a", "bf16", "bfloat16", inference={"dtype": "bfloat16"})
    for model in ("a", variant):
        build.cell(X2, "set5", model, {"psnr": [33.0], "ssim": [0.9]})
    build.training(X2, "a", result(X2, 400, (30.0,)))
    run = collect.collect(tmp_path, build.plan)
    assert len(trainings.sheet(run).rows) == 1
    assert run.training_of(X2, variant)["steps"] == 400


def test_weights_of_another_task_say_so(tmp_path):
    build = fixtures.Builder(tmp_path)
    build.dataset("polyu", "PolyU", 2)
    build.dataset("cbsd68", "CBSD68", 2)
    build.model("input", "Input", learned=False)
    build.model("a", "A", checkpoint={"kind": "bundled"})
    blind = header(BLIND, levels={"sigma": [15, 50]})
    for protocol, dataset in (("denoise_real-polyu@1", "polyu"),
                              ("denoise_color-sigma25@1", "cbsd68")):
        build.cell(protocol, dataset, "input", {"psnr": [30.0, 31.0], "ssim": [0.9, 0.9]})
        build.cell(protocol, dataset, "a", {"psnr": [35.0, 36.0], "ssim": [0.9, 0.9]},
                   weights=blind)
    found = {(row.key, column.protocol): [table.notes[mark] for mark in value.marks]
             for table in methods.build(collected(build)) for row in table.measured
             for column, value in zip(table.columns, row.entries, strict=True)}
    assert found["a", "denoise_real-polyu@1"] == [
        "weights trained for another degradation (Colour denoising, sigma 15 to 50), run as they "
        "are"]
    assert not any(notes for key, notes in found.items() if key != ("a", "denoise_real-polyu@1"))
