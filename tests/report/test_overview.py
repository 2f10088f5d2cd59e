"""What the page opens with, the names it uses, and notes that are said once."""

import re

import numpy as np
import pytest

from irbench.present.table import with_common_notes
from irbench.report import collect
from irbench.report.page import comparisons, page
from irbench.report.plots import crops
from irbench.report.tables import sheets, tables
from tests.helpers import report_fixtures as fixtures
from tests.helpers.pages import Reader


def collected(builder):
    return collect.collect(builder.folder, builder.plan)


# -- the best networks ---------------------------------------------------------------------------

def found(builder):
    run = collected(builder)
    return {(one["column"].protocol, one["column"].dataset): one
            for one in page.headline(run, tables.build(run))}


@pytest.fixture
def builder(tmp_path):
    build = fixtures.Builder(tmp_path)
    build.dataset("photos", "Photos", 2)
    build.model("input", "Input", learned=False)
    build.model("bicubic", "Bicubic", learned=False)
    for name in ("a", "b"):
        build.model(name, name.upper(), in_paper=False)
    return build


def score(build, protocol, model, psnr, lpips=None):
    build.cell(protocol, "photos", model, {"psnr": psnr, "ssim": [0.9, 0.9],
                                           **({"lpips": lpips} if lpips else {})},
               metrics=("psnr", "ssim", *(["lpips"] if lpips else [])))


def test_a_set_without_a_network_has_no_best_row(builder):
    score(builder, "lowlight-synthetic@1", "input", [10.0, 11.0])
    score(builder, "sr-x2@1", "bicubic", [30.0, 31.0])
    assert found(builder) == {}


def test_the_best_row_is_a_network_even_where_the_input_is_better(builder):
    score(builder, "denoise_color-sigma25@1", "input", [30.0, 32.0])
    score(builder, "denoise_color-sigma25@1", "a", [29.0, 31.02])
    one = found(builder)["denoise_color-sigma25@1", "photos"]
    assert (one["row"].name, one["base"].name, one["gain"], one["of"]) == ("A", "Input", "-0.99", 1)
    assert one["alike"] == []       # the input is better: no rank to share


def test_the_best_row_has_the_gain_and_the_other_metrics_of_the_same_model(builder):
    score(builder, "sr-x2@1", "bicubic", [30.0, 31.0], [0.3, 0.3])
    score(builder, "sr-x2@1", "a", [33.0, 34.0], [0.2, 0.22])
    score(builder, "sr-x2@1", "b", [32.0, 32.5], [0.1, 0.12])
    one = found(builder)["sr-x2@1", "photos"]
    assert (one["row"].name, one["gain"], one["of"]) == ("A", "+3.00", 2)
    assert {name: entry.shown for name, (_, entry) in one["others"].items()} == {
        "ssim": "0.9000", "lpips": "0.2100"}       # of A, though B's is better


def test_a_metric_that_the_best_model_lacks_is_left_out(builder):
    score(builder, "sr-x2@1", "a", [33.0, 34.0])
    score(builder, "sr-x2@1", "b", [32.0, 32.5], [0.1, 0.12])
    one = found(builder)["sr-x2@1", "photos"]
    assert one["base"] is None and one["gain"] is None and list(one["others"]) == ["ssim"]


# -- the first comparison ------------------------------------------------------------------------

def test_the_slider_begins_where_a_network_gains_most(builder):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for protocol, gain in (("denoise_color-sigma15@1", 5.0), ("denoise_color-sigma50@1", 9.0),
                           ("jpeg_gray-q10@1", 2.0)):
        for model, psnr in (("input", 20.0), ("a", 20.0 + gain)):
            builder.cell(protocol, "photos", model, {"psnr": [psnr] * 2, "ssim": [0.9] * 2},
                         kept=True)
            for image in ("image0", "image1"):
                for part in ("_target", "_input", model):
                    builder.image(protocol, "photos", part, image, pixels)
    run = collected(builder)
    made, _, lead = comparisons.build(run, crops.comparisons(run))
    assert lead == "crops-denoise_color-sigma50@1-photos"
    assert [(one["task"], one["title"].partition(",")[0], one["lead"])
            for ones in made.values() for one in ones] == [
        ("Colour denoising", "\u03c3 = 15", False), ("Colour denoising", "\u03c3 = 50", True),
        ("JPEG artefact removal (gray)", "q = 10", False)]


# -- names ---------------------------------------------------------------------------------------

def test_a_title_of_two_models_stays_with_the_model_of_that_name(builder):
    builder.model("compacter", "Compacter")
    builder.model("compacter-demo", "Compacter")
    builder.model("mine", "Other")
    builder.model("yours", "Other")
    for name in ("compacter", "compacter-demo", "mine", "yours"):
        score(builder, "sr-x2@1", name, [33.0, 34.0])
    run = collected(builder)
    assert list(map(run.model_title, ("compacter", "compacter-demo", "mine", "yours"))) == [
        "Compacter", "Compacter (compacter-demo)", "Other (mine)", "Other (yours)"]


def test_plots_name_a_protocol_as_the_tables_do(builder):
    for protocol in ("sr-x2@1", "sr-x3@1", "sr-x3@2"):
        score(builder, protocol, "a", [33.0, 34.0])
    run = collected(builder)
    titles = {table.title for table in tables.build(run)}
    assert run.protocol_title("sr-x2@1") == "Super-resolution, \u00d72" in titles
    assert run.protocol_title("sr-x3@2") == "Super-resolution, \u00d73, version 2"
    assert run.protocol_title("of my own") == "of my own"


# -- notes once ----------------------------------------------------------------------------------

def test_the_tables_of_a_section_have_one_caption_and_each_note_once(tmp_path):
    built = [table for table in tables.build(collected(fixtures.small_run(tmp_path)))
             if table.task == "sr" and table.stem == "sr"]
    parts, whole = with_common_notes(built)
    assert len(parts) == 2 and len(set(whole.notes.values())) == len(whole.notes)
    for before, after in zip(built, parts, strict=True):
        for old, new in zip(before.rows, after.rows, strict=True):
            for one, other in zip(old.values, new.values, strict=True):
                assert ({before.notes[mark] for mark in one.marks}
                        == {whole.notes[mark] for mark in other.marks})
                assert other.marks == sorted(other.marks, key=lambda mark: (len(mark), mark))
    assert set(whole.terms) == {"sr-x2@1", "sr-x3@1"}
    assert whole.caption.startswith("Super-resolution, protocol version 1. ")


def test_the_caption_of_two_versions_names_none(builder):
    for protocol in ("sr-x2@1", "sr-x2@2"):
        score(builder, protocol, "a", [33.0, 34.0])
    parts, whole = with_common_notes(tables.build(collected(builder)))
    assert [part.version for part in parts] == [1, 2]
    assert "version" not in whole.caption.partition("The best value")[0]


def test_the_page_says_each_note_once(tmp_path):
    run = collected(fixtures.small_run(tmp_path))
    built = tables.build(run)
    drawings = {name: page.Drawing() for name in ("quality", "training", "ksweep", "scaling",
                                                  "attention")}
    source = page.render(run, built, sheets.build(run), drawings, [])
    section = source.partition('<section id="task-sr"')[2].partition("</section>")[0]
    assert section.count("≈: not the best, but no measured row") == 1
    notes = re.findall(r'<li id="sr-([a-z]+)">', section)
    assert notes == sorted(set(notes)) and len(notes) > 5
    assert section.count("trained here for 150 steps on a CPU") == 1
    assert section.count("trained here for 90 steps on a CPU") == 1
    # one link for all notes of a cell, named after each of them
    named = re.findall(r'href="#sr-([a-z]+)" aria-label="notes? ([a-z, ]+)"', section)
    assert {mark for _, marks in named for mark in marks.split(", ")} == set(notes)
    assert all(first == marks.split(", ")[0] for first, marks in named)
    reader = Reader(source)
    assert len(reader.ids) == len(set(reader.ids))


@pytest.mark.parametrize(("models", "said"), [
    ([], None), (["compacter"], "Compacter is a reproduction from its published description, "
                 "written for this project, because its authors released no usable code"),
    (["compacter", "semanir-light"], "SemanIR and Compacter are reproductions from their published "
     "descriptions, written for this project, because neither paper released usable code or")])
def test_the_page_speaks_of_the_rebuilt_methods_that_the_run_has(builder, models, said):
    for name in models:
        builder.model(name, name)
    builder.model("mine", "Mine", own=True, arch="compacter-mine")      # a card of a plugin
    for name in (*models, "a", "mine"):
        score(builder, "sr-x2@1", name, [33.0, 34.0])
    run = collected(builder)
    drawings = {name: page.Drawing() for name in ("quality", "training", "ksweep", "scaling",
                                                  "attention")}
    source = page.render(run, tables.build(run), sheets.build(run), drawings, [])
    assert ("Reproductions." in source) == bool(said)
    assert not said or said in source


# -- one table of lightweight models -------------------------------------------------------------

@pytest.mark.parametrize(("methods", "parameters", "stems"), [
    (["SMFANet", "bicubic"], 400_000, ["sr_light"]),
    (["SMFANet", "RCAN"], 400_000, ["sr", "sr_light"]),         # RCAN is printed with 15 M
    (["SMFANet", "bicubic"], 12_000_000, ["sr"])])
def test_lightweight_models_alone_have_one_table(tmp_path, methods, parameters, stems):
    build = fixtures.Builder(tmp_path, published=methods)
    build.dataset("set5", "Set5", 2)
    build.model("bicubic", "Bicubic", learned=False)
    build.model("a", "A", in_paper=False)
    for model, psnr in (("bicubic", 33.0), ("a", 38.0)):
        build.cell("sr-x2@2", "set5", model, {"psnr": [psnr] * 2, "ssim": [0.9] * 2})
    build.profile("sr-x2@2", "a", {"parameters": parameters})
    made = tables.build(collected(build))
    assert [table.stem for table in made] == stems
    assert ("The other methods are in" in made[-1].caption) == (stems == ["sr", "sr_light"])


# -- the efficiency table ------------------------------------------------------------------------

def test_efficiency_has_the_default_metrics_that_the_run_has(builder):
    builder.profile("sr-x2@1", "a")
    score(builder, "sr-x2@1", "a", [33.0, 34.0], [0.2, 0.22])
    made = sheets.build(collected(builder))["efficiency"]
    shown = dict(zip((column.title for column in made.columns),
                     (value.shown for value in made.rows[0].entries), strict=True))
    assert (shown["PSNR (dB)"], shown["SSIM"], shown["LPIPS"]) == ("33.50", "0.9000", "0.2100")
    assert dict(zip(made.fields, made.lines[0], strict=True))["lpips"] == pytest.approx(0.21)
