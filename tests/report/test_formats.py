"""Printed tables: golden files, and what each format does with strange text."""

import csv
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irbench.present import notes, text
from irbench.report import collect
from irbench.report.tables import files, tables
from tests.helpers import report_fixtures as fixtures
from tests.helpers.latex import balanced, columns_of


def build(builder):
    return tables.build(collect.collect(builder.folder, builder.plan))


@pytest.fixture(scope="module")
def sr(tmp_path_factory):
    small = fixtures.small_run(tmp_path_factory.mktemp("run"))
    return next(t for t in build(small) if t.task == "sr")


# -- golden --------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    return fixtures.golden_tables(tmp_path_factory.mktemp("golden"))


@pytest.mark.parametrize("name", [f"{stem}.{kind}" for stem in (
    *fixtures.GOLDEN_TABLES, *(f"papers_{stem}" for stem in fixtures.GOLDEN_FORMS), "verdicts",
    *fixtures.GOLDEN_SHEETS)
    for kind in ("md", "tex", "csv")])
def test_golden(printed, name):
    """After a wanted change: python -m tests.helpers.report_fixtures, then read the difference."""
    assert printed[name] == (fixtures.GOLDEN / name).read_text()


# -- formats -------------------------------------------------------------------------------------

NASTY = r"50% of \cost_{a}^2 & #1 ~ $x$ [b] <c> |d| *e* `f` " + "σ×–"  # noqa: RUF001


def strange(tmp_path):
    builder = fixtures.Builder(tmp_path)
    builder.dataset("set5", NASTY, 1)
    builder.model("a", NASTY, note=NASTY)
    builder.model("b", "*star")
    builder.model("c", "[bracket]")
    builder.cell("sr-x2@1", "set5", "a", status="failed", reason=NASTY)
    builder.cell("sr-x2@1", "set5", "b", {"psnr": [33.0], "ssim": [0.9]})
    builder.cell("sr-x2@1", "set5", "c", {"psnr": [34.0], "ssim": [0.8]})
    return build(builder)


def test_latex_is_escaped_balanced_and_aligned(tmp_path, sr):
    for built in (strange(tmp_path), [sr]):
        source = files.texts(built)["tex"]
        bare = balanced(source.partition("\n")[2])
        assert not re.search(r"[#~^_]", bare.replace("}~", "").replace(r"\_", ""))
        assert "%" not in bare
        commands = set(re.findall(r"\\([a-zA-Z]+)", source.partition("\n")[2]))
        assert {"toprule", "midrule", "bottomrule", "cmidrule", "multicolumn"} <= commands
        assert not commands & {"multirow", "resizebox", "cellcolor", "rowcolor", "rotatebox"}
        width = len(built[0].columns) + 2
        body = source.partition(r"\toprule")[2].partition(r"\bottomrule")[0]
        rows = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert rows and {columns_of(row) for row in rows} == {width}
        assert not any(re.match(r"\s*[*\[]", row) for row in rows)
        assert source.isascii()


def test_markdown_columns_survive_strange_text(tmp_path):
    source = files.texts(strange(tmp_path))["md"]
    lines = [line for line in source.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
    assert "<c>" not in source


def test_csv_is_tidy(sr):
    lines = list(csv.DictReader(io.StringIO(files.texts([sr])["csv"])))
    measured = next(r for r in lines if r["model"] == "semanir" and r["dataset"] == "set5"
                    and r["metric"] == "psnr")
    assert (measured["value"], measured["shown"], measured["unit"], measured["rank"]) == (
        "35.501", "35.50", "dB", "best")
    printed = next(r for r in lines if r["block"] == "published" and r["method"] == "SemanIR-S"
                   and r["level"] == "x2" and r["metric"] == "ssim")
    assert (printed["value"], printed["shown"], printed["protocol"]) == (
        ".9651", "0.9651", tables.PRINTED_PROTOCOL)
    assert "zero padding" in printed["notes"]
    gone = next(r for r in lines if r["status"] == "unavailable")
    assert (gone["value"], gone["shown"]) == ("", "") and gone["reason"]


@given(st.text(max_size=40))
def test_latex_of_any_text_is_balanced(anything):
    balanced(text.latex(anything))


@given(st.text(max_size=40))
def test_markdown_of_any_text_breaks_no_cell(anything):
    shown = text.markdown(anything)
    assert not re.search(r"(?<!\\)(\\\\)*\|", shown) or "|" not in anything
    assert "<" not in shown and "\n" not in shown


@pytest.mark.parametrize(("call", "shown"), [
    (lambda: text.parameters(392_200), "392 K"), (lambda: text.parameters(999_600), "1.00 M"),
    (lambda: text.parameters(11_870_000), "11.87 M"), (lambda: text.parameters(0), "0"),
    (lambda: text.published_parameters(".393"), "393 K"),
    (lambda: text.published_parameters("0.56"), "0.56 M"),
    (lambda: text.published_parameters("15.440"), "15.440 M"),
    (lambda: text.si(1.63e9), "1.63 G"), (lambda: text.si(999_960), "1 M"),
    (lambda: text.duration(41.3), "41 s"), (lambda: text.duration(712), "12 min"),
    (lambda: text.long_duration(9.97), "10 s"), (lambda: text.long_duration(59.7), "1 min"),
    (lambda: text.long_duration(137.2), "2 min 17 s"), (lambda: text.long_duration(4.26), "4.3 s"),
    (lambda: text.long_duration(7199.7), "2 h"), (lambda: text.long_duration(12340), "3 h 26 min"),
    (lambda: text.long_duration(7100), "118 min 20 s"), (lambda: text.long_duration(0), "0.0 s"),
    (lambda: text.duration(7300), "2.0 h"), (lambda: text.duration(4.26), "4.3 s"),
    (lambda: text.milliseconds(1519.4), "1519 ms"), (lambda: text.milliseconds(2.149), "2.15 ms"),
    (lambda: text.level_label("sigma25"), "σ = 25"),  # noqa: RUF001
    (lambda: text.level_label("fog"), "fog"),
    (lambda: text.level_label("synthetic_snow"), "synthetic snow"),
    (lambda: text.split_id("odd"), ("odd", "", 0)),
    (lambda: text.difference("psnr", -0.3149), "-0.315"),
    (lambda: text.difference("ssim", 0.00048), "+0.0005"),
    (lambda: text.split_id("denoise_color-sigma25@3"), ("denoise_color", "sigma25", 3)),
    (lambda: notes.letters(0) + notes.letters(25) + notes.letters(26), "azaa"),
])
def test_words(call, shown):
    assert call() == shown


def test_protocol_sentences():
    sentence = text.protocol_sentence(fixtures.protocol("sr-x2@1"))
    for part in ("MATLAB bicubic reduction (scale 2)", "Y (BT.601, limited range) unrounded",
                 "border of 2 px cut", "valid region"):
        assert part in sentence
    noise = text.protocol_sentence(fixtures.protocol("denoise_color-sigma25@1"))
    assert "seed 0" in noise and "no border cut" in noise and "unrounded" not in noise
    pairs = text.protocol_sentence(fixtures.protocol("weather-mixed@1"))
    assert "resized to sides that are multiples of 16; the longer side at most 1024 px" in pairs
    assert "sizes untouched" in text.protocol_sentence(fixtures.protocol("derain-streak@1"))
    snow = text.protocol_sentence(fixtures.protocol("weather-synthetic_snow@1"))
    assert "synthetic snow (" in snow and "seed 0 with its name" in snow
    odd = text.protocol_sentence({"id": "a-b@1", "degradation": {"kind": "fog", "depth": 3},
                                  "metric": {"color": "lab", "window": 7}})
    assert "fog (depth 3)" in odd and "lab" in odd and "window 7" in odd
    assert "not given" in text.protocol_sentence({})
