"""One table in all formats: common heads, blocks, ranks, footnotes, second lines, reasons."""

import csv
import io

import pytest

from irbench.core import forms, messages
from irbench.present import html, plain, tidy
from irbench.present.latex import to_latex, to_paper
from irbench.present.markdown import COMMENT, PAGE, pipes, to_markdown
from irbench.present.notes import alike
from irbench.present.table import BEST, SECOND, Block, Column, Row, Table, Value, joined


@pytest.fixture
def table():
    """Two sets with two metrics each, a column beside them, and rows that are copied from print."""
    made = Table("sr", "Super_resolution", [Column("Method", left=True)], [
        Column("PSNR", ("Set5",)), Column("SSIM", ("Set5",)), Column("PSNR", ("Set14",)),
        Column("Note", left=True)], ("model", "psnr", "reason"))
    made.add([Value("A|B", [made.note("why & how")], "trained here"),
              Value("36.70", rank=BEST, difference="-1.72"), Value("0.95", rank=SECOND),
              made.absent("not run"), Value("*")], key="a")
    made.blocks.append(Block("Published", [], strong=False))
    made.add([Value("*C"), *(Value("1") for _ in range(4))], source="a paper")
    made.lines = [["a", 36.7, None], ["b", None, "not run"]]
    made.sentences = ["A sentence.", ""]
    return made


def test_columns_share_the_heads_above_them(table):
    assert table.headings() == [[("Set5", 2), ("Set14", 1), ("", 1)],
                                [("PSNR", 1), ("SSIM", 1), ("PSNR", 1), ("Note", 1)]]
    assert table.headings(heads=True)[0][:2] == [("", 1), ("Set5", 2)]
    # of one name, but below different heads
    deep = Table("t", "T", [Column("a")], [Column("x", ("A", "same")), Column("y", ("B", "same")),
                                           Column("z", ("B", "same"))])
    assert deep.headings() == [[("A", 1), ("B", 2)], [("same", 1), ("same", 2)],
                               [("x", 1), ("y", 1), ("z", 1)]]


def test_rows_know_where_they_come_from(table):
    assert [row.name for row in table.measured] == ["A|B"]
    assert [row.name for row in table.published] == ["*C"]
    assert table.measured[0].key == "a" and len(table.measured[0].entries) == len(table.columns)


def test_a_caption_begins_with_title_and_version_where_there_is_one(table):
    assert table.caption == "A sentence."
    assert table.full_caption == "Super_resolution. A sentence."
    table.version = 2
    assert table.caption == table.full_caption == (
        "Super_resolution, protocol version 2. A sentence.")


def test_markdown(table):
    source = to_markdown(table)
    title, _, head, marks, first, block, second, *_ = source.splitlines()
    assert title == r"### Super\_resolution"
    assert [cell.strip() for cell in head.split("|")[1:-1]] == [
        "Method", "Set5<br>PSNR", "Set5<br>SSIM", "Set14<br>PSNR", "Note"]
    assert marks.startswith("|:--") and "--:|" in marks
    assert r"A\|B<sup>a</sup><br>trained here" in first and "**36.70**" in first
    assert "<u>0.95</u>" in first and "n/a<sup>b</sup>" in first and "(-1.72)" not in first
    assert "*Published*" in block and r"\*C" in second
    assert "- <sup>a</sup> why &amp; how\n- <sup>b</sup> not run" in source
    table.differences = True
    assert "**36.70** (-1.72)" in to_markdown(table)


def test_latex(table):
    source = to_latex([table])
    assert r" & \multicolumn{2}{c}{Set5} & \multicolumn{1}{c}{Set14} &  \\" in source
    assert r"\cmidrule(lr){2-3} \cmidrule(lr){4-4}" in source
    assert r"\textbf{36.70} & \underline{0.95}" in source
    assert r"\caption{Super\_resolution. A sentence.}" in source
    table.cut = False
    assert r"\emph{Published}" in to_latex([table])
    table.differences = True
    assert r"\textbf{36.70} ($-$1.72)" in to_latex([table])


def test_csv_has_its_own_lines_and_every_digit(table):
    table.lines.append(["c", 0.1 + 0.2, ""])
    lines = list(csv.DictReader(io.StringIO(tidy.to_csv(table))))
    assert [line["psnr"] for line in lines] == ["36.7", "", "0.30000000000000004"]
    assert lines[1]["reason"] == "not run"


def test_text_stands_in_columns_and_cells_have_lines():
    made = Table("t", "T", [Column("cell", left=True)], [
        Column("PSNR"), Column("steps", left=True)])
    made.add([Value("a"), Value("33.25"), Value("first", lines=("second", "third"))])
    made.add([Value("longer", ["a"]), Value("1"), Value("")])
    assert plain.to_text(made) == (
        "cell         PSNR  steps\n"
        "----------  -----  ------\n"
        "a           33.25  first\n"
        "                   second\n"
        "                   third\n"
        "longer [a]      1")
    assert plain.to_text(made, room=2).splitlines()[1] == "----------  ------  -------"


def test_bare_tables_escape_what_they_hold():
    made = Table("t", "T", [Column("cell", left=True)], [Column("n")])
    made.add([Value("a|`b`"), Value("x_<y", lines=("z",))])
    assert pipes(made, PAGE).splitlines() == [
        "| cell | n |", "|:--|--:|", r"| a\|\`b\` | x\_&lt;y<br>z |"]
    assert pipes(made, COMMENT).splitlines() == [
        "| cell | n |", "| :-- | --: |", r"| `a\|'b'` | x\_\<y<br>z |"]


def test_tables_of_one_stem_are_the_blocks_of_one_with_common_notes():
    parts = []
    for name, reasons in (("x2", ["one", "two"]), ("x4", ["two", "three"])):
        made = Table("sr", f"SR, {name}", [Column("Method", left=True)], [Column("PSNR")],
                     anchor=f"sr-{name}", part=name, common_title="SR",
                     terms={f"sr-{name}@1": name}, cells=["ok", "failed"])
        for reason in reasons:
            made.add([Value(reason), made.absent(reason)])
        made.sentences, made.lines = ["The same."], [[name]]
        parts.append(made)
    whole = joined(parts)
    assert (whole.title, whole.anchor, whole.caption) == ("SR", "sr", "The same.")
    assert whole.notes == {"a": "one", "b": "two", "c": "three"}
    assert [(block.title, [row.entries[0].marks for row in block.rows])
            for block in whole.blocks] == [("x2", [["a"], ["b"]]), ("x4", [["b"], ["c"]])]
    assert whole.coverage == "coverage: 2 of 4 cells with a result (2 failed)"
    assert whole.lines == [["x2"], ["x4"]] and list(whole.terms) == ["sr-x2@1", "sr-x4@1"]
    # the parts keep their own marks
    assert parts[1].rows[0].entries[0].marks == ["a"]


def test_a_table_can_be_had_with_some_of_its_columns(table):
    some = table.only([2, 0])
    assert [(c.over, c.title) for c in some.columns] == [(("Set14",), "PSNR"), (("Set5",), "PSNR")]
    assert [value.shown for value in some.rows[0].values] == ["A|B", "n/a", "36.70"]
    assert len(table.columns) == 4


def test_a_row_names_itself():
    row = Row([Value("A", ["a"], "below")], [Value("1")])
    assert (row.name, row.sub, row.marks, len(row.values)) == ("A", "below", ["a"], 2)


@pytest.mark.parametrize("text", [
    "=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(1)", "\t=1", "\r=1", " =1", "-x",
    '=HYPERLINK("a")', "\uff1d1+1", "\n=1", "+-1", "--1", "-1-"])
def test_a_text_in_csv_is_never_a_formula(text):
    written = tidy.csv_text(["a", "b"], [[text, "x"]])
    (_, _), (shown, _) = csv.reader(io.StringIO(written, newline=""))
    lines = {"\t=1": "\\t=1", "\r=1": "' =1", "\n=1": "' =1"}
    assert shown == lines.get(text, f"'{text}")


@pytest.mark.parametrize("cell", [
    -1.5, 1e-9, -3, 0, True, "-0.25", "+1", "-1e-3", "+.5", "-", "x=1", "n/a", "a@b",
    "sr-x2@1", ""])
def test_numbers_and_other_texts_stay_as_they_are_in_csv(cell):
    text = tidy.csv_text(["a"], [[cell]]).splitlines()[1]
    assert text.strip('"') == (repr(cell) if isinstance(cell, float) else str(cell))


# -- columns without a value ---------------------------------------------------------------------

def test_a_column_without_any_value_goes_and_the_caption_says_why():
    made = Table("t", "T", [Column("Model", left=True)],
                 [Column("ms"), Column("J", ("Energy",)), Column("W", ("Energy",)), Column("MiB")])
    for name, memory in (("A", "3"), ("B", "n/a")):
        made.add([Value(name), Value("1"), made.absent("no counter."), made.absent("no counter"),
                  made.absent("no memory") if memory == "n/a" else Value(memory)])
    lines = list(made.lines)
    made.leave_out_unknown([column for column in made.columns if column.title != "ms"])
    assert [column.title for column in made.columns] == ["ms", "MiB"]
    assert [[value.shown for value in row.values] for row in made.rows] == [
        ["A", "1", "3"], ["B", "1", "n/a"]]
    assert made.caption == "No column Energy J, Energy W: no counter."
    # the note of a column that went is gone, and the one that stayed is the first
    assert made.notes == {"a": "no memory"} and made.rows[1].entries[1].marks == ["a"]
    assert made.lines == lines


def test_a_column_that_was_not_named_stays_and_so_does_an_empty_table():
    made = Table("t", "T", [Column("Model", left=True)], [Column("ms")])
    made.leave_out_unknown(made.columns)
    assert len(made.columns) == 1 and not made.caption
    made.add([Value("A"), made.absent("failed")])
    made.leave_out_unknown([Column("other")])
    assert len(made.columns) == 1 and made.notes == {"a": "failed"}


# -- texts of any origin -------------------------------------------------------------------------

HOSTILE = "a\n| forged | 99.99 |\r\x1b[31m\u202eb\x00\u2028c\x85d"


@pytest.mark.parametrize("printer", [
    plain.to_text, to_markdown, lambda one: pipes(one, COMMENT), lambda one: pipes(one, PAGE),
    html.to_html, lambda one: to_latex([one]), to_paper, tidy.to_csv])
def test_no_printer_lets_a_text_forge_a_row_or_steer_a_terminal(printer):
    def table(words):
        made = Table("t", words, [Column("Model", left=True)], [Column(words)], ("name", "note"))
        made.add([Value(words, sub=words), Value("1", [made.note(words)], lines=(words,))])
        made.sentences.append(words)
        made.lines.append([words, words])
        return printer(made)

    hostile = table(HOSTILE)
    assert hostile.count("\n") == table("a harmless text").count("\n")
    assert not forms.HIDDEN.search(hostile.replace("\n", ""))


def test_a_text_that_hides_nothing_stays_as_it_is():
    for text in ("", "PSNR (dB) \u2191", "SwinIR\u2020", "\u00e9 \u0645\u062b\u0627\u0644", "a  b"):
        assert forms.line(text) and forms.shown(text) == text
    assert forms.shown("a\tb\nc") == "a\\tb c" and forms.shown("\ud800") == "\\ud800"


def test_a_message_has_its_own_lines_and_steers_no_terminal():
    assert messages.readable("one\ntwo\x1b[2J\x07") == "one\ntwo\\x1b[2J\\x07"


def test_notes_that_differ_in_numbers_alone_are_one():
    same = "files supplied by the user"
    assert alike({"a-x2@1": "scale 2, 11x11; BT.601.", "set": same, "a-x3@1": "no scale.",
                  "a-x4@1": "scale 4, 11x11; BT.601.", "other": same}) == {
        "a-x2@1 / a-x4@1": "scale 2 / 4, 11x11; BT.601.", "set / other": same,
        "a-x3@1": "no scale."}
    three = alike({"x2": "x2: 1.5 px", "x3": "x3: 3 px", "x4": "x4: 3 px"})
    assert three == {"x2 / x3 / x4": "x2 / x3 / x4: 1.5 / 3 / 3 px"}    # in the order of the names
    assert alike({}) == {} and alike({"a": "7"}) == {"a": "7"}
