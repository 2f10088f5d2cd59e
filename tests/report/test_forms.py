"""Tables in the papers' form: blocks, colour beside gray, small models, differences, efficiency."""

import csv
import io
import re
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irbench import cli, plan, report
from irbench.core.metrics import METRICS
from irbench.core.run_folder import FORMATS
from irbench.plan import config as configs
from irbench.present import fitting, latex, text
from irbench.present.latex import to_latex
from irbench.present.notes import alike
from irbench.present.table import Column, Table, Value, joined
from irbench.present.tidy import to_csv
from irbench.report import collect
from irbench.report.run import MOST_PLOTS
from irbench.report.tables import costs, efficiency, files, sheets, tables
from tests.helpers import report_fixtures as fixtures
from tests.helpers import tiny
from tests.helpers.report_fast import collected, fast_run
from tests.helpers.report_papers import papers_run


@pytest.fixture(scope="module")
def builder(tmp_path_factory):
    return papers_run(tmp_path_factory.mktemp("papers"))


@pytest.fixture(scope="module")
def run(builder):
    return collect.collect(builder.folder, builder.plan)


@pytest.fixture(scope="module")
def built(run):
    return tables.build(run)


def table_of(built, stem):
    return [table for table in built if table.stem == stem]


def keys(table):
    return [row.key for row in table.measured]


def lines(source):
    return list(csv.DictReader(io.StringIO(source)))


# -- forms ---------------------------------------------------------------------------------------

def test_scales_are_blocks_with_the_same_columns(built):
    x2, x4 = table_of(built, "sr")
    assert (x2.part, x4.part) == ("×2", "×4")  # noqa: RUF001
    assert [(c.dataset, c.metric) for c in x2.columns] == [
        (c.dataset, c.metric) for c in x4.columns] == [
        (name, metric) for name in ("set5", "urban100") for metric in ("psnr", "ssim")]
    # Urban100 was not asked for at x4
    assert {row.entries[2].shown for row in x4.measured} == {text.NONE}
    assert x2.headings() == [[("Set5", 2), ("Urban100", 2)], [
        (text.metric_label(metric), 1) for metric in ("psnr", "ssim")] * 2]


def test_jpeg_has_a_block_per_set(built):
    live, bsds = table_of(built, "jpeg_color")
    assert (live.part, bsds.part) == ("LIVE1", "BSDS500 (test)")
    assert {c.dataset for c in live.columns} == {"live1_color"}
    assert live.headings()[0] == [("q = 10", 2), ("q = 40", 2)] and len(live.headings()) == 2
    assert keys(bsds) == ["input", "best"]      # the third one was planned on LIVE1 alone


def test_one_scale_or_one_set_has_no_blocks(tmp_path):
    build = fixtures.Builder(tmp_path)
    build.dataset("live1_color", "LIVE1", 1)
    build.model("a", "A", learned=False)
    for name in ("sr-x2@1", "jpeg_color-q10@1", "jpeg_color-q40@1"):
        build.cell(name, "live1_color", "a", {"psnr": [30.0], "ssim": [0.9]})
    found = tables.build(collect.collect(tmp_path, build.plan))
    assert [(t.stem, t.part, len(t.columns)) for t in found] == [
        ("sr", "", 2), ("jpeg_color", "", 4)]
    assert found[0].headings()[0] == [("LIVE1", 2)]


def test_colour_and_gray_stand_side_by_side(built):
    table, = table_of(built, "denoise")
    assert table.headings()[0] == [("Colour denoising", 4), ("Gray denoising", 4)]
    assert [label for label, _ in table.headings()[1]] == ["CBSD68", "Urban100", "Set12",
                                                          "Urban100"]
    assert {c.metric for c in table.columns} == {"psnr"} and "PSNR (dB)" in table.title
    swinir, = (row for row in table.published if row.name == "SwinIR")
    assert all(entry.number for entry in swinir.entries)        # printed for both: one row
    assert {t.stem for t in built} >= {"denoise_color", "denoise_gray"}     # with all metrics


def test_no_table_of_both_where_a_run_has_one(tmp_path):
    build = fixtures.small_run(tmp_path)
    assert not table_of(tables.build(collect.collect(tmp_path, build.plan)), "denoise")


def test_lightweight_models_beside_lightweight_methods(built):
    x2 = table_of(built, "sr_light")[0]
    assert keys(x2) == ["bicubic", "tie"]       # `best` has 11.75 M
    assert [row.name for row in x2.published] == ["Compacter", "bicubic"]
    assert "Lightweight: fewer than 2 M parameters" in x2.caption
    assert [row.name for row in table_of(built, "sr")[0].published] == ["SwinIR", "bicubic"]
    assert keys(table_of(built, "sr")[0]) == ["bicubic", "best", "tie"]


@pytest.mark.parametrize(("parameters", "name", "published", "expected"), [
    (1_999_999, "", "all", ["a"]), (2_000_000, "", "all", []),
    (None, "Compacter", "all", ["a"]),      # not known: as the printed method
    (None, "SwinIR", "all", []), (None, "", "all", []),
    (1_999_999, "", "none", []),            # the same table as without the class
])
def test_what_is_light(tmp_path, parameters, name, published, expected):
    build = fixtures.Builder(tmp_path, published=published)
    build.dataset("set5", "Set5", 1)
    build.model("a", "A", published_as=name)
    build.cell("sr-x2@1", "set5", "a", {"psnr": [33.0], "ssim": [0.9]})
    if parameters:
        build.profile("sr-x2@1", "a", {"parameters": parameters})
    found = table_of(tables.build(collect.collect(tmp_path, build.plan)), "sr_light")
    assert [key for table in found for key in keys(table)] == expected
    printed = table_of(tables.build(collect.collect(tmp_path, build.plan)), "sr")[0].published
    # no printed value is lost without a table of its class
    assert any(row.name == "Compacter" for row in printed) == (published == "all" and not expected)


# -- files ---------------------------------------------------------------------------------------

def test_blocks_are_one_table_in_a_file_and_share_their_notes(built):
    for stem in ("sr", "jpeg_color"):
        parts = table_of(built, stem)
        source = files.texts(parts)["md"]
        assert source.count("###") == 1 and source.count("|:--") == 1
        assert [line for line in source.splitlines() if line.startswith("| **")] == [
            line for line in source.splitlines()
            if any(line.startswith(f"| **{text.markdown(part.part)}**") for part in parts)]
        whole = joined(parts)
        before = [(part, row) for part in parts for row in part.rows]
        for (part, row), other in zip(before, whole.rows, strict=True):
            assert [part.notes[mark] for value in row.values for mark in value.marks] == [
                whole.notes[mark] for value in other.values for mark in value.marks]
        assert whole.coverage == ("coverage: 9 of 9 cells with a result" if stem == "sr" else
                                  "coverage: 8 of 9 cells with a result (1 unavailable)")
        assert whole.coverage in source and all(
            f"`{p}`: " in source for p in alike(whole.terms))


def test_a_table_longer_than_a_page_is_a_table_per_block(built, monkeypatch):
    parts = table_of(built, "sr")
    assert files.texts(parts)["tex"].count(r"\begin{table}") == 1
    monkeypatch.setattr(latex, "PAGE", 5)
    source = files.texts(parts)["tex"]
    assert source.count(r"\begin{table}") == source.count(r"\label{tab:sr-x") == 2


def test_every_figure_has_a_unit_a_protocol_and_a_source(built):
    printed = [line for stem in dict.fromkeys(table.stem for table in built)
            for line in lines(files.texts(table_of(built, stem))["csv"])]
    assert {line["unit"] for line in printed} == {"dB", "1"}
    for line in printed:
        assert line["protocol"] and line["source"]
        if line["block"] == "measured" and line["value"]:
            assert line["record"] == "/".join((
                "cells", line["protocol"], line["dataset"], line["model"])) + ".json"


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no pdflatex here")
def test_latex_compiles_with_booktabs_alone(tmp_path):
    body = "".join(path.read_text() + "\\clearpage\n"
                   for path in sorted(fixtures.GOLDEN.glob("*.tex")))
    page = (r"\setlength{\textwidth}{451pt}\setlength{\textheight}{697pt}"        # A4, inch margins
            r"\setlength{\oddsidemargin}{0pt}\setlength{\topmargin}{-37pt}")
    (tmp_path / "all.tex").write_text("\\documentclass{article}\\usepackage{booktabs}" + page +
                                      f"\\begin{{document}}\n{body}\\end{{document}}\n")
    done = subprocess.run(["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"],
                          cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout[-2000:]
    assert not re.findall("Overfull.*|Float too large.*", done.stdout)
    assert "! " not in done.stdout and (tmp_path / "all.pdf").stat().st_size > 10_000


# -- differences ---------------------------------------------------------------------------------

def test_a_difference_is_what_a_reader_would_compute(built):
    found = [(entry, column) for table in built for row in table.measured
            for column, entry in zip(table.columns, row.entries, strict=True) if entry.difference]
    assert len(found) > 20
    for entry, column in found:
        printed = next(e.number for table in built for row in table.published
                       for c, e in zip(table.columns, row.entries, strict=True)
                       if c == column and entry.against == f"{row.name} ({row.source})")
        places = METRICS[column.metric].decimals
        assert round(float(entry.shown) - printed, places) == pytest.approx(float(entry.difference))
        assert entry.apart == pytest.approx(float(entry.exact) - printed)


def test_differences_are_shown_on_request(builder, built):
    shown = files.texts(table_of(built, "sr"))["md"]
    assert "| **36.70** (-1.72) |" in re.sub(" +", " ", shown)
    assert r"\textbf{36.70} ($-$1.72)" in files.texts(table_of(built, "sr"))["tex"]
    assert "In brackets: the measured value minus" in shown
    without = tables.build(collect.collect(builder.folder, builder.plan | {"differences": False}))
    plain = files.texts(table_of(without, "sr"))["md"] + files.texts(table_of(without, "sr"))["tex"]
    assert "1.72" not in plain and "In brackets" not in plain
    # the CSV always has them
    assert files.texts(table_of(without, "sr"))["csv"] == files.texts(table_of(built, "sr"))["csv"]
    line = next(x for x in lines(files.texts(table_of(built, "sr"))["csv"]) if x["model"] == "best")
    assert (line["difference"], line["against"]) == ("-1.720000", "SwinIR (SemanIR repo figs)")


def test_only_counterparts_have_a_difference(built):
    """No paper prints DnCNN in SR, and Compacter's colour denoising is of blind weights."""
    table, = table_of(built, "denoise_color")
    row = next(row for row in table.measured if row.key == "tie")
    assert not any(entry.difference for entry in row.entries)


def test_the_config_and_the_command_line_ask_for_differences(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = tiny.make(tmp_path)
    full = configs.load(path)
    assert plan.build(full).report_spec["differences"] is False
    full["report"]["differences"] = True
    assert plan.build(full).report_spec["differences"] is True
    asked = []
    monkeypatch.setattr(report, "build", lambda folder, spec, progress: asked.append(
        spec["differences"]) or folder / "report.html")
    for more in ([], ["--differences"]):
        assert cli.main(["report", "--config", str(path), *more]) == 0
    assert asked == [False, True]


def test_the_config_and_the_command_line_choose_formats_and_plots(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = tiny.make(tmp_path)
    full = configs.load(path)
    spec = plan.build(full).report_spec
    assert spec["formats"] == list(FORMATS[:1]) and spec["plots"] == MOST_PLOTS
    run = collect.collect(tmp_path, spec)
    assert (run.formats, run.plots) == (FORMATS[:1], MOST_PLOTS)
    full["report"] |= {"formats": ["svg"], "plots": "all"}
    run = collect.collect(tmp_path, plan.build(full).report_spec)
    assert (run.formats, run.plots) == (("png", "svg"), None)       # the page is made of the PNGs
    asked = []
    monkeypatch.setattr(report, "build", lambda folder, spec, progress: asked.append(
        (spec["formats"], spec["plots"])) or folder / "report.html")
    for more in ([], ["--formats", "pdf", "svg"], ["--plots", "3"], ["--plots", "all"]):
        assert cli.main(["report", "--config", str(path), *more]) == 0
    assert asked == [(["png"], 8), (["pdf", "svg"], 8), (["png"], 3), (["png"], "all")]
    for wrong in (["--formats", "gif"], ["--plots", "0"], ["--plots", "many"]):
        with pytest.raises(SystemExit) as ended:
            cli.main(["report", "--config", str(path), *wrong])
        assert ended.value.code == 2
    assert "is not a whole number from 1 to 1000000000, nor 'all'" in capsys.readouterr().err
    path.write_text(path.read_text() + "\nreport: {plots: 0}\n")
    with pytest.raises(configs.UserError, match="report.plots"):
        configs.load(path)


def test_a_wrong_value_is_refused(tmp_path):
    path = tiny.make(tmp_path)
    path.write_text(path.read_text() + "\nreport: {differences: maybe}\n")
    with pytest.raises(configs.UserError, match="report.differences: expected boolean, found"):
        configs.load(path)


# -- coverage ------------------------------------------------------------------------------------

def test_coverage_counts_cells_and_says_what_the_others_are(tmp_path):
    build = fixtures.small_run(tmp_path)
    x2, x3 = (t for t in tables.build(collect.collect(tmp_path, build.plan)) if t.stem == "sr")
    assert x2.coverage == "coverage: 6 of 8 cells with a result (1 unavailable, 1 missing)"
    assert x3.coverage == "coverage: 2 of 2 cells with a result"
    source = files.texts([x2])["md"]
    assert source.index("coverage: 6 of 8") < source.index("- <sup>a</sup> ")


# -- efficiency ----------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def fast(tmp_path_factory):
    return collected(fast_run(tmp_path_factory.mktemp("fast")))


def test_efficiency_joins_what_a_model_costs_and_what_it_scores(run):
    made = efficiency.sheet(run)
    shown = {(row.name, row.entries[0].shown): [value.shown for value in row.entries[1:]]
            for row in made.rows}
    assert shown["SwinIR", "sr-x2@1"] == ["11.750", "1.60", "12.5", "128", "36.60", "0.9185",
                                         "Urban100"]
    assert shown["Bicubic", "sr-x2@1"][:4] == ["0", "n/a", "n/a", "n/a"]
    assert shown["SwinIR", "sr-x4@1"][4::2] == ["31.50", "Set5"]
    assert not any(protocol.startswith("denoise") for _, protocol in shown)      # no profiles
    assert all("(" in one.title for one in made.columns[1:6])                    # units
    assert "Measured on " in made.caption and "float32" in made.caption
    row = next(row for row in made.rows if row.name == "SwinIR")
    assert row.values[4].record == "profiles/sr-x2@1/best.json"
    assert row.values[6].record == "cells/sr-x2@1/urban100/best.json"
    assert efficiency.STEM in sheets.build(run)


def test_efficiency_in_csv_has_all_sets(run):
    printed = lines(to_csv(efficiency.sheet(run)))
    assert [(line["dataset"], line["psnr_db"]) for line in printed if line["model"] == "best"
            and line["protocol"] == "sr-x2@1"] == [("set5", "36.7"), ("urban100", "36.6")]
    bicubic = next(line for line in printed if line["model"] == "bicubic")
    assert bicubic["macs"] == bicubic["latency_p50_ms"] == "" and bicubic["parameters"] == "0"


def test_latencies_of_two_conditions_each_state_theirs(fast):
    made = efficiency.sheet(fast)
    dtypes = {made.notes[mark].split(", ")[1] for row in made.rows for mark in row.values[4].marks
              if made.notes[mark].startswith("measured on")}
    assert dtypes == {"float32", "bfloat16"} and "Measured on" not in made.caption
    reference, = (row for row in made.rows if row.sub.startswith("reference"))
    assert reference.values[6].shown == text.NA and reference.values[4].shown == "120.0"


@pytest.mark.parametrize(("numbers", "shown"), [
    ([8.7, 8.45], ["8.70", "8.45"]), ([39.0, 39.2, 9.68], ["39.00", "39.20", "9.68"]),
    ([0.0303, 0.141, 0], ["0.0303", "0.1410", "0.0000"]), ([116.4, 541], ["116", "541"]),
    ([0.5, 1230.4], ["0.50", "1230.40"]), ([0.00002], ["0.0000"]), ([0], ["0"])])
def test_the_numbers_of_a_column_have_the_same_decimals(numbers, shown):
    assert [*map(text.evenly(numbers), numbers)] == shown


def test_every_column_of_cost_has_the_same_decimals(fast):
    for made in (efficiency.sheet(fast), costs.speed(fast)):
        for index, column in enumerate(made.columns):
            if column.title in ("MACs (G)", "Latency, p50 (ms)", "Peak memory (MiB)", "images/s",
                                "input MP/s"):
                shown = [row.entries[index].shown for row in made.rows]
                assert len({one.partition(".")[2] and len(one.partition(".")[2])
                            for one in shown if one != text.NA}) == 1, (column.title, shown)


def test_a_column_that_is_alike_in_all_rows_is_in_the_caption(fast):
    operations = costs.operations(fast)
    assert not any(one.title == "Input" for one in operations.columns)
    assert "an input of 1×3×64×64 (batch" in operations.caption      # noqa: RUF001
    speed = costs.speed(fast)           # measured in two number types
    assert speed.columns[-1].title == "Measured on" and "Measured on" not in speed.caption


# -- wide sheets in LaTeX ------------------------------------------------------------------------

def wide_sheet(words, columns=2):
    made = Table("s", "S", [Column("Model", left=True)],
                 [Column(f"n{i}") for i in range(columns)])
    made.add([Value(words), *(Value("35.20") for _ in range(columns))])
    return to_latex([made])


def test_a_wide_sheet_is_set_smaller_and_its_words_get_broken_lines():
    assert r"\scriptsize" in wide_sheet("SwinIR") and r"{lrr}" in wide_sheet("SwinIR")
    assert r"\tiny" in wide_sheet("a word " * 14) and r"{lrr}" in wide_sheet("a word " * 14)
    broken = wide_sheet("a word " * 40)
    width = int(re.search(r"\\begin\{tabular\}\{p\{(\d+)pt\}rr\}", broken)[1])
    assert 300 < width < fitting.PAGE and r"{\raggedright a word" in broken
    # numbers are never broken: they go below, beside the words again
    parts = re.findall(r"\\begin\{tabular\}\{p\{\d+pt\}(r+)\}", wide_sheet("a word " * 20, 40))
    assert len(parts) > 1 and sum(map(len, parts)) == 40


def test_a_long_sheet_goes_on_in_another_table():
    made = Table("s", "S", [Column("Model", left=True)], [Column("n")])
    for i in range(130):
        made.add([Value(f"m{i}"), Value("35.20", [made.note("why")])])
    source = to_latex([made])
    assert source.count(r"\begin{table}") == source.count(r"\end{table}") == 3
    assert source.count(r"\label{") == 1 and source.count("S, continued.") == 2
    assert re.findall(r"\{\}(m\d+) &", source) == [f"m{i}" for i in range(130)]
    assert source.index("why") > source.index("m129")


@given(st.lists(st.integers(1, 60), min_size=2, max_size=30), st.data())
def test_parts_of_a_table_have_every_column_once_and_fit(widths, data):
    left = [data.draw(st.booleans()) for _ in widths]
    groups = []
    while sum(groups) < len(widths) - 1:
        groups.append(data.draw(st.integers(1, len(widths) - 1 - sum(groups))))
    parts = fitting.parts(widths, left, 1, groups)
    assert [column for part in parts for column in part[1:]] == list(range(1, len(widths)))
    assert all(part[0] == 0 for part in parts)
    starts = [1 + sum(groups[:i]) for i in range(len(groups))]
    assert {part[1] for part in parts} <= set(starts)
    for part in parts:
        layout = fitting.layout([widths[i] for i in part], [left[i] for i in part])
        small = layout.size == r"\tiny"
        set_wide = sum(int(kind[2:-3]) if kind.startswith("p") else widths[i] * (
            fitting.LETTER[small]) for i, kind in zip(part, re.findall(
                r"p\{\d+pt\}|[lr]", layout.kinds), strict=True)) + 2 * layout.gap * len(part)
        alone = part[1] in starts and sum(one in starts for one in part[1:]) == 1
        assert alone or set_wide <= fitting.PAGE + len(part)
