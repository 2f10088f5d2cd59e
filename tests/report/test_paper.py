"""Tables for papers: chosen rows in their order, published ones marked, fit for a column."""

import csv
import io
import re
from dataclasses import replace

import pytest

from irbench.core.errors import UserError
from irbench.present import fitting, plain, tidy
from irbench.present.html import to_html
from irbench.present.latex import to_latex, to_paper
from irbench.present.markdown import PAGE, pipes
from irbench.present.table import BEST, CLOSE, DAGGER
from irbench.report import collect
from irbench.report.facts import citing
from irbench.report.tables import paper
from tests.helpers.latex import ONE_COLUMN, TWO_COLUMNS, balanced, needs_latex, problems
from tests.helpers.report_fixtures import Builder

ROWS = ("rcan", "published:SwinIR", "tie", "best")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two scales; a cell without a result; a protocol in two versions."""
    build = Builder(tmp_path_factory.mktemp("papers"), "papers",
                    published=["SwinIR", "ESRT", "Compacter", "bicubic", "DnCNN", "FBCNN"])
    for name, title in (("set5", "Set5"), ("urban100", "Urban100"), ("cbsd68", "CBSD68"),
                        ("set12", "Set12"), ("live1_color", "LIVE1")):
        build.dataset(name, title, 2)
    build.model("bicubic", "Bicubic", learned=False, published_as="bicubic")
    build.model("best", "SwinIR", published_as="SwinIR", checkpoint={"kind": "file"})
    build.model("tie", "Compacter", published_as="Compacter", checkpoint={"kind": "file"})

    def cell(name, dataset, model, psnr):
        build.cell(name, dataset, model, {"psnr": [psnr - 1, psnr + 1], "ssim": [psnr / 40] * 2})

    for model, more in (("bicubic", 0.0), ("best", 3.1), ("tie", 2.8)):
        cell("sr-x2@1", "set5", model, 33.6 + more)
        cell("sr-x2@1", "urban100", model, 33.6 + more)
        cell("sr-x4@1", "set5", model, 28.4 + more)
    build.profile("sr-x2@1", "best", {"parameters": 11_750_000})
    build.profile("sr-x4@1", "best", {"parameters": 11_900_199})
    cell("denoise_color-sigma15@1", "cbsd68", "tie", 33.9)
    build.cell("jpeg_color-q40@1", "live1_color", "tie", status="unavailable",
               reason="weights: no such file")
    for version in (1, 2):
        cell(f"denoise_gray-sigma15@{version}", "set12", "tie", 32.4)
    return collect.collect(build.folder, build.plan)


def made(run, task="sr", **choice):
    return paper.build(run, paper.Selection(task, **{
        name: value if isinstance(value, str | bool) else tuple(value)
        for name, value in choice.items()}))


def shown(table):
    return {row.key or row.name: [value.shown for value in row.entries] for row in table.rows}


def test_rows_and_columns_are_those_named_in_their_order(run):
    table = made(run, rows=ROWS, columns=["Urban100", "set5"], metrics=["ssim", "psnr"],
                 protocols=["x2"])
    assert [row.name for row in table.rows] == ["RCAN", "SwinIR", "Compacter", "SwinIR"]
    assert [(c.dataset, c.metric) for c in table.columns] == [
        ("urban100", "ssim"), ("urban100", "psnr"), ("set5", "ssim"), ("set5", "psnr")]
    assert shown(table)["tie"] == ["0.9100", "36.40", "0.9100", "36.40"]
    assert [value.shown for value in table.rows[0].entries] == ["0.9384", "33.34", "0.9614",
                                                                "38.27"]
    assert [head.title for head in table.heads] == ["Method"]
    assert len(made(run, parameters=True).heads) == 2


def test_numbers_of_parameters_that_differ_by_level_say_so(run):
    table = made(run, rows=["best", "published:Compacter"], columns=["set5"], metrics=["psnr"],
                 parameters=True)
    assert [row.heads[1].shown for row in table.rows] == ["11.75 / 11.90 M", "393 / 408 K"]
    for row in table.rows:
        note, = (table.notes[mark] for mark in row.heads[1].marks)
        assert note == "numbers of parameters at ×2 / ×4"       # noqa: RUF001
    assert any("numbers of parameters at" in remark for remark in paper.remarks(table))
    stacked = made(run, rows=["best"], parameters=True, stack=True)
    assert [row.heads[1].shown for row in stacked.rows] == ["11.75 M", "11.90 M"]
    assert not any(row.heads[1].marks for row in stacked.rows)


def test_the_csv_has_the_number_of_parameters_of_the_level_of_each_line(run):
    for stack in (False, True):
        table = made(run, rows=["best", "published:Compacter", "tie"], columns=["set5"],
                     metrics=["psnr"], stack=stack)
        lines = csv.DictReader(io.StringIO(tidy.to_csv(table)))
        found = {(line["level"], line["model"] or line["source"]): line["parameters"]
                 for line in lines}
        assert sorted(found.values()) == ["", "", "11750000", "11900199", "393000", "408000"]
        assert found["x4", "best"] == "11900199" and found["x2", "tie"] == ""


def test_without_names_it_has_the_models_and_sets_of_the_run(run):
    table = made(run)
    assert [row.key for row in table.rows] == ["bicubic", "best", "tie"]
    assert [(c.level, c.dataset, c.metric) for c in table.columns] == [
        (level, dataset, metric) for level, dataset in (
            ("x2", "set5"), ("x2", "urban100"), ("x4", "set5")) for metric in ("psnr", "ssim")]
    assert table.headings()[0] == [("×2", 4), ("×4", 2)]        # noqa: RUF001
    assert not table.published and DAGGER not in table.notes


def test_published_rows_have_a_dagger_among_measured_ones_only(run):
    table = made(run, rows=ROWS, columns=["set5"], protocols=["sr-x2@1"])
    assert [DAGGER in row.marks for row in table.rows] == [True, True, False, False]
    assert "RCAN, SwinIR: printed in the result tables" in table.notes[DAGGER]
    alone = made(run, rows=["rcan", "swinir"], columns=["set5"])
    assert DAGGER not in alone.notes and not any(row.marks for row in alone.rows)
    assert "Published values, not measured here. RCAN, SwinIR: printed" in alone.caption
    assert paper.remarks(alone)[0].startswith("Published values, not measured here. RCAN, SwinIR")
    assert paper.remarks(table)[-1].startswith("sr-x2@1: ")
    bare = table.bare()
    assert [row.marks for row in bare.rows] == [[DAGGER], [DAGGER], [], []]
    assert not bare.notes and not bare.terms and not bare.sentences


def test_the_exact_spelling_comes_first_then_a_model_of_the_run(run):
    run.models["swinir"] = run.models["best"]
    try:
        cells = [cell for cell in run.cells if cell.model == "best"]
        names = paper._Names(run, [type(cells[0])(**{**vars(cells[0]), "model": "swinir"})])
        assert names.find("swinir", "") == names.find("SWINIR", "") == ["swinir"]
        assert names.find("SwinIR", "")[0][2] == "SwinIR"
        assert names.find("published:swinir", "")[0][2] == "SwinIR"
    finally:
        del run.models["swinir"]


def test_a_title_stands_for_a_row_if_one_alone_has_it(run, monkeypatch):
    for key, title in {"best": "TinyNet", "tie": "Twin", "bicubic": "Twin"}.items():
        monkeypatch.setitem(run.models, key, replace(run.models[key], title=title))
    table = made(run, rows=["TinyNet", "Twin (tie)"], columns=["set5"], bold="TinyNet")
    assert [row.key for row in table.rows] == ["best", "tie"]
    assert [row.heads[0].rank for row in table.rows] == [BEST, ""]
    for wrong, message in {"Twin": "--rows: 'Twin' is the title of several rows. Name one of them "
                           "by its key: bicubic, tie.", "tinynet": "unknown row 'tinynet'",
                           "published:TinyNet": "unknown row 'published:TinyNet'"}.items():
        with pytest.raises(UserError) as raised:
            made(run, rows=[wrong])
        assert message in str(raised.value)


def test_a_row_has_a_citation_where_its_own_paper_is_known(run, monkeypatch):
    """Not the paper that printed the value, and none for a name that only the user gave."""
    own = replace(run.models["tie"], arch="compacter", title="Ours")
    monkeypatch.setitem(run.models, "tie", own)
    table = made(run, rows=["RCAN", "bicubic", "published:bicubic", "tie"], columns=["set5"],
                 stack=True)
    table.blocks[0].rows[0].source = "nobody knows it"      # the method's key is what counts
    assert citing.in_rows(run, table) == ["Ours"]
    assert [row.heads[0].cite for row in table.rows] == 2 * [
        ("zhang2018rcan",), ("keys1981cubic",), ("keys1981cubic",), ()]
    monkeypatch.setitem(run.models, "tie", replace(own, title="Compacter, longer"))
    assert citing.in_rows(run, table) == []
    table.rows[0].heads[0].shown = "NewNet"     # of a user's catalog
    assert citing.in_rows(run, table) == ["NewNet"] and table.rows[0].heads[0].cite == ()
    assert r"RCAN~\cite{zhang2018rcan}\textsuperscript{$\dagger$} &" in to_paper(
        table.bare(), bare=True)


def test_a_citation_takes_its_width(run):
    table = made(run, rows=["RCAN", "tie"], columns=["set5"], protocols=["x2"]).bare()
    assert r"\small%" in to_paper(table, 130, bare=True)
    citing.in_rows(run, table)
    assert r"\footnotesize%" in to_paper(table, 130, bare=True)


def test_the_asterisk_of_a_method_may_be_left_out(run):
    table = made(run, "denoise_color", rows=["ffdnet", "dncnn", "DnCNN*", "tie"],
                 columns=["cbsd68"], protocols=["sigma15"])
    assert [row.name for row in table.rows] == ["FFDNet*", "DnCNN", "DnCNN*", "Compacter"]
    starred = table.rows[0]
    assert [table.notes[mark] for mark in starred.marks[1:]] == [
        "one model for all levels (the asterisk is the source's)"]


def test_a_missing_value_is_na_with_its_reason_and_never_a_number(run):
    table = made(run, rows=["SwinIR", "best"], columns=["set5", "set14", "bsd100"],
                 metrics=["psnr", "lpips"], protocols=["x2"])
    by_column = {(c.dataset, c.metric): i for i, c in enumerate(table.columns)}
    for row, dataset, metric, why in (
            (0, "set14", "psnr", "printed under the convention of sr-x2@2"),
            (0, "set5", "lpips", "not printed in the source"),
            (1, "set14", "psnr", "the run has no cell for it"),
            (1, "set5", "lpips", "the run does not score this metric here")):
        value = table.rows[row].entries[by_column[dataset, metric]]
        assert value.shown == "n/a" and why in value.reason and value.number is None
        assert why in table.notes[value.marks[0]]
        assert any(why in remark for remark in paper.remarks(table))
    failed = made(run, "jpeg_color", rows=["tie"], columns=["live1_color"], protocols=["q40"])
    assert [value.reason for value in failed.rows[0].entries] == [
        "unavailable: weights: no such file"] * 2
    lines = list(csv.DictReader(io.StringIO(tidy.to_csv(table))))
    assert {line["value"] for line in lines if line["status"] == "missing"} == {""}
    assert len(lines) == len(table.rows) * len(table.columns)


def test_bold_is_the_best_of_all_rows_or_one_row_or_nothing(run):
    def bold(table):
        return [[value.rank == BEST for value in row.values] for row in table.rows]

    choice = {"rows": ROWS, "columns": ["set5"], "metrics": ["psnr"], "protocols": ["x2"]}
    assert bold(made(run, **choice)) == [[False, False]] * 4
    assert bold(made(run, **choice, bold="best")) == [
        [False, False], [False, True], [False, False], [False, False]]     # 38.42, as printed
    assert bold(made(run, **choice, bold="best")) == bold(made(run, **choice, bold="best"))
    assert bold(made(run, **choice, bold="tie")) == [
        [False, False], [False, False], [True, True], [False, False]]
    with pytest.raises(UserError, match="--bold bicubic: the table has no such row. Valid: best, "
                       "none, RCAN, SwinIR"):
        made(run, **choice, bold="bicubic")


def test_equal_values_share_the_bold_and_a_value_alone_is_not_best(run):
    table = made(run, rows=["best", "tie"], columns=["set5"], metrics=["psnr"], protocols=["x2"],
                 bold="none")
    for row in table.rows:
        row.entries[0].shown = "36.70"
    table.rows[1].entries[0].number = None      # of a leak
    paper._bold_best(table)
    assert not any(row.entries[0].rank for row in table.rows)
    third = made(run, rows=["bicubic"], columns=["set5"], metrics=["psnr"], protocols=["x2"])
    table.rows[1].entries[0].number = 36.7
    table.blocks[0].rows += third.rows
    paper._bold_best(table)
    assert [row.entries[0].rank for row in table.rows] == [BEST, BEST, ""]


@pytest.mark.parametrize(("choice", "message"), [
    ({"task": "srr"}, "unknown task 'srr'. Did you mean 'sr'"),
    ({"rows": ["swinr"]}, "--rows: unknown row 'swinr'. Did you mean 'SwinIR'.*Valid: .*tie"),
    ({"rows": ["published:tie"]}, "unknown row 'published:tie'"),
    ({"columns": ["set55"]}, "--columns: unknown dataset 'set55'. Did you mean 'set5'"),
    ({"metrics": ["psnrr"]}, "--metrics: unknown metric 'psnrr'"),
    ({"protocols": ["x3"]}, "--protocol: unknown protocol 'x3'.*Valid: sr-x2@1, sr-x4@1"),
    ({"bold": "bset"}, "--bold best, none, or a row: unknown row 'bset'. Did you mean 'best'"),
])
def test_a_wrong_name_gets_the_valid_ones(run, choice, message):
    with pytest.raises(UserError, match=message):
        made(run, **choice)


def test_two_versions_of_a_protocol_never_meet(run):
    with pytest.raises(UserError, match="denoise_gray-sigma15@1 and denoise_gray-sigma15@2 follow "
                       "different conventions.*--protocol denoise_gray-sigma15@2"):
        made(run, "denoise_gray", protocols=["sigma15"])
    for version in (1, 2):
        table = made(run, "denoise_gray", protocols=[f"denoise_gray-sigma15@{version}"])
        assert table.version == version and len(table.columns) == 2


def test_bare_formats_hold_the_same_values_without_notes(run):
    table = made(run, rows=ROWS, columns=["set5", "set14"], protocols=["x2"], bold="tie")
    latex = to_paper(table.bare(), bare=True, remarks=["a\nremark"])
    balanced(latex)
    assert "% a remark\n" in latex and r"\begin{table}" not in latex and r"\caption" not in latex
    assert r"RCAN\textsuperscript{$\dagger$} & 38.27 & 0.9614 & n/a & n/a \\" in latex
    assert r"\textbf{Compacter} & \textbf{36.40} & \textbf{0.9100} & \textbf{n/a}" in latex
    html = to_html(table.bare())
    assert '<th scope="row" align="left"><strong>Compacter</strong></th>' in html
    assert "<caption>" not in html and "<ul>" not in html
    assert '<th scope="colgroup" colspan="2">Set5</th>' in html
    assert "| RCAN<sup>†</sup> | 38.27 | 0.9614 | n/a | n/a |" in pipes(table.bare(), PAGE)


def test_the_whole_formats_have_caption_and_notes(run):
    table = made(run, rows=ROWS, columns=["set5"], protocols=["x2"], bold="best")
    latex = to_paper(table)
    balanced(latex)
    assert (r"\caption{Super-resolution, $\times$2, protocol version 1. PSNR in dB, SSIM: "
            "higher is better. Bold:") in latex
    assert latex.count("is better") == 1
    assert r"\textsuperscript{$\dagger$}~published values, not measured here." in latex
    html = to_html(table)
    assert "<caption>Super-resolution" in html and "<li><sup>†</sup> published values" in html


@pytest.mark.parametrize("parameters", [False, True])
def test_the_caption_explains_only_what_the_table_shows(run, parameters):
    """Printed methods without a count of parameters: n/a is in the column, if it is shown."""
    table = made(run, rows=ROWS, columns=["set5"], protocols=["x2"], parameters=parameters)
    shown = [value.shown for row in table.rows for value in row.values]
    assert ("n/a: see the note" in table.caption) == ("n/a" in shown)
    assert table.caption.count("higher is better") == 1


def test_text_of_users_is_escaped_in_html(run):
    table = made(run, rows=["best"], columns=["set5"], protocols=["x2"])
    table.rows[0].heads[0].shown = "<b> & \"mine\""
    assert "&lt;b&gt; &amp; &quot;mine&quot;" in to_html(table)


# -- fitting -------------------------------------------------------------------------------------

def test_letters_are_as_large_as_the_place_allows(run):
    table = made(run, rows=ROWS, columns=["set5", "urban100"], protocols=["x2"]).bare()
    sizes = [step[0] for step in fitting.STEPS]
    found = [re.search(r"^(\\\w+)%$", to_paper(table, room, bare=True), re.M)[1]
             for room in (150, 180, 220, 300)]
    assert [sizes.index(size) for size in found] == sorted(
        (sizes.index(size) for size in found), reverse=True)
    assert found[-1] == r"\normalsize" and found[0] == r"\scriptsize"
    with pytest.raises(UserError, match="has 5 columns and does not fit 100 pt even in"):
        to_paper(table, 100)


def test_a_table_too_wide_for_a_column_gets_both(run):
    wide = made(run, rows=ROWS, columns=["set5", "set14", "urban100"])
    assert r"\begin{table*}" in to_paper(wide) and "table* in two columns" in to_paper(
        wide.bare(), bare=True)
    assert r"\begin{table*}" in to_paper(wide, 516) and r"\begin{table}" in to_paper(
        made(run, rows=ROWS, columns=["set5"]), "text")
    with pytest.raises(UserError, match="does not fit 450 pt even in"):
        to_paper(made(run, rows=ROWS, columns=["set5", "set14", "bsd100", "urban100"]))
    narrow = made(run, rows=ROWS, columns=["set5"], protocols=["x2"])
    assert r"\begin{table}" in to_paper(narrow)


def test_a_wide_common_head_counts(run):
    table = made(run, rows=ROWS, columns=["set5"], protocols=["x2"])
    left = [True, False, False]
    assert fitting.fitted([5, 3, 3], left, [[(0, 1), (2, 2)]], 145).size == r"\normalsize"
    assert fitting.fitted([5, 3, 3], left, [[(0, 1), (9, 2)]], 145).size == r"\small"
    assert table.headings(heads=True)[0] == [("", 1), ("Set5", 2)]


@needs_latex
@pytest.mark.parametrize("kind", TWO_COLUMNS)
def test_columns_of_usual_papers_hold_the_tables(run, kind, tmp_path):
    choices = [
        {"rows": ROWS, "columns": ["set5"], "protocols": ["x2"], "bold": "best"},
        {"rows": ROWS, "columns": ["set5", "urban100"], "protocols": ["x2"], "bold": "tie"},
        {"rows": [*ROWS, "CAT-A"], "columns": ["set5", "set14", "urban100"], "protocols": ["x2"],
         "bold": "best"},
        {"rows": ROWS, "columns": ["set5", "set14", "urban100"], "bold": "tie"},
        {"rows": ROWS, "columns": ["set5"], "parameters": True, "bold": "best"}]
    body = [to_paper(one, bare=False) for one in (made(run, **choice) for choice in choices)]
    for choice in choices[:3]:
        table = made(run, **choice)
        body += [r"\begin{table}\centering\caption{Bare.}", to_paper(
            table.bare(), bare=True, remarks=paper.remarks(table)), r"\end{table}"]
    assert problems(tmp_path / "latex", kind, "Words.\n\n" + "\n".join(body)) == []


@needs_latex
@pytest.mark.parametrize("kind", ONE_COLUMN)
def test_a_page_with_one_column_holds_the_tables(run, kind, tmp_path):
    body = [to_paper(made(run, rows=ROWS, columns=columns, bold="best", parameters=True,
                          protocols=levels), "text")
            for columns, levels in ((["set5"], []), (["set5", "urban100"], ["x2"]),
                                    (["set5", "set14", "urban100"], ["x2"]))]
    assert problems(tmp_path / "latex", kind, "Words.\n\n" + "\n".join(body)) == []


# -- what to cite --------------------------------------------------------------------------------

def test_a_table_cites_what_it_shows_and_no_more(run):
    table = made(run, rows=["RCAN", "tie", "bicubic"], columns=["set5"], protocols=["x2"])
    cited = citing.of_table(run, table)
    assert cited.keys == ("bevilacqua2012set5", "keys1981cubic", "ren2024semanir", "wang2004ssim",
                          "wu2024compacter", "zhang2018rcan")
    assert not cited.unknown and not cited.remark
    assert re.findall(r"^@\w+\{(\w+),$", cited.bibtex, re.M) == list(cited.keys)


def test_a_run_cites_models_methods_sets_and_metrics(run):
    cited = citing.of_run(run)
    assert {"lu2022esrt", "jiang2021fbcnn", "zhang2017dncnn", "sheikh2005live", "wang2004ssim",
            "liang2021swinir"} <= set(cited.keys)
    assert "zhang2018rcan" not in cited.keys        # its report shows other methods


# -- levels as blocks of rows --------------------------------------------------------------------

def test_stacked_levels_are_blocks_of_the_same_columns(run):
    choice = {"rows": ROWS, "columns": ["set5", "urban100"], "metrics": ["psnr"], "bold": "best"}
    table, beside = made(run, **choice, stack=True), made(run, **choice)
    assert [block.title for block in table.blocks] == ["×2", "×4"]      # noqa: RUF001
    assert [(c.dataset, c.metric) for c in table.columns] == [("set5", "psnr"),
                                                              ("urban100", "psnr")]
    assert table.headings() == [[("Set5", 1), ("Urban100", 1)]] or len(table.columns) == 2
    for at, block in enumerate(table.blocks):       # the values, and which are bold, as beside
        for row, same in zip(block.rows, beside.rows, strict=True):
            assert [(value.shown, value.rank) for value in row.entries] == [
                (value.shown, value.rank) for value in same.entries[2 * at:2 * at + 2]]
    assert set(table.terms) == set(beside.terms) == {"sr-x2@1", "sr-x4@1"}
    assert "Super-resolution, ×2 and ×4" in table.full_caption      # noqa: RUF001
    assert table.notes[DAGGER].count("RCAN") == 1
    assert any("Compacter ×4 Urban100" in one for one in paper.remarks(table))  # noqa: RUF001


def test_stacked_levels_have_the_lines_and_the_entries_of_levels_side_by_side(run):
    choice = {"rows": ROWS, "columns": ["set5", "urban100"]}
    table, beside = made(run, **choice, stack=True), made(run, **choice)

    def lines(one):
        return sorted((line["protocol"], line["level"], line["dataset"], line["model"],
                       line["method"], line["metric"], line["value"], line["reason"])
                      for line in csv.DictReader(io.StringIO(tidy.to_csv(one))))

    assert lines(table) == lines(beside)
    assert citing.of_table(run, table) == citing.of_table(run, beside)


def test_stacked_levels_are_printed_in_every_format(run):
    table = made(run, rows=ROWS, columns=["set5"], stack=True, bold="tie")
    latex = to_paper(table)
    balanced(latex)
    assert latex.count(r"\midrule") == 4 and r"{3}{@{}l}{\textbf{$\times$4}} \\" in latex
    assert latex.index(r"\textbf{$\times$2}") < latex.index(r"\textbf{$\times$4}")
    assert to_html(table).count('<th scope="rowgroup"') == 2
    assert pipes(table.bare(), PAGE).count("**×") == 2      # noqa: RUF001
    lines = plain.to_text(table.bare()).splitlines()
    assert [line for line in lines if line.startswith("×")] == ["×2", "×4"]     # noqa: RUF001


def test_a_caption_speaks_of_na_only_where_it_is_shown(run):
    choice = {"rows": ["SwinIR", "tie"], "columns": ["set5"], "protocols": ["x2"]}
    assert "n/a" not in made(run, **choice).caption         # tie has no number of parameters
    assert "n/a: see the note." in made(run, **choice, parameters=True).caption
    assert "n/a: see the note." in made(run, **{**choice, "columns": ["set14"]}).caption


def test_without_names_stacked_levels_have_all_sets_of_the_run(run):
    table = made(run, metrics=["psnr"], stack=True)
    assert [c.dataset for c in table.columns] == ["set5", "urban100"]
    assert [block.rows[0].entries[1].shown for block in table.blocks] == ["33.60", "n/a"]
    alone = made(run, metrics=["psnr"], protocols=["x2"], stack=True)
    assert [block.title for block in alone.blocks] == [""] and len(alone.rows) == 3


@needs_latex
def test_below_a_caption_is_space(run, tmp_path):
    """In class article a caption ends where the next line begins."""
    for source in (to_paper(made(run, columns=["set5"])), to_latex([made(run, columns=["set5"])])):
        after = source.partition(r"\label")[2].splitlines()
        assert after[1] == r"\smallskip"
        assert problems(tmp_path / "latex", "two columns", source) == []


def test_significance_marks_what_no_measured_row_exceeds(tmp_path):
    """Two scales are one family: six images suffice for one comparison, and not for two."""
    scores = [30.0, 31.0, 29.5, 33.0, 28.0, 32.0]
    build = Builder(tmp_path, published=["SwinIR"])
    build.dataset("set5", "Set5", 6)
    for name, more in (("low", 0.0), ("high", 0.5)):
        build.model(name, name.upper())
        for protocol in ("sr-x2@1", "sr-x4@1"):
            build.cell(protocol, "set5", name, {
                "psnr": [one + more * (1 + 0.1 * i) for i, one in enumerate(scores)],
                "ssim": [0.9] * 6})
    found = collect.collect(build.folder, build.plan)
    rows = ["published:SwinIR", "low", "high"]

    def close(**choice):
        table = made(found, rows=rows, metrics=["psnr"], significance=True, **choice)
        return table, [(row.name, value.close, value.rank) for row in table.rows
                       for value in row.entries]

    _, single = close(protocols=["x2"])
    assert single == [("SwinIR", False, ""), ("LOW", False, ""), ("HIGH", False, "")]
    for stack in (False, True):
        table, both = close(bold="best", stack=stack)
        assert [name for name, mark, _ in both if mark] == ["LOW", "LOW"]
        assert all(rank != "second" for *_, rank in both)
        assert table.notes[CLOSE].startswith("not the best, but no measured row is significantly")
        assert "This table makes 2 comparisons" in table.notes[CLOSE]
        assert any(one.startswith(f"{CLOSE} not the best") for one in paper.remarks(table))
        latex = to_paper(table, "text")
        assert latex.count(r"\rlap{\textsuperscript{$\approx$}}") == 2
        assert r"\textsuperscript{$\approx$}~not the best" in latex
        assert CLOSE in plain.to_paper(table)
    assert CLOSE not in made(found, rows=rows, metrics=["psnr"]).notes
