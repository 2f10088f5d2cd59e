"""Published figures: the printed text survives, and only what fits a table is in it."""

import pytest

from irbench.catalog import published
from irbench.core.errors import UserError

HEAD = ",".join(published.FIELDS) + "\n"


def row(task, columns, method, choice="all"):
    return next(r for r in published.rows(task, columns, choice) if r.method == method)


def test_the_printed_decimals_are_kept():
    rcan = row("sr", {("x2", "set5")}, "RCAN")
    assert rcan.figures["x2", "set5", "psnr"].text == "38.27"
    ssim = rcan.figures["x2", "set5", "ssim"]
    assert (ssim.text, ssim.shown, ssim.value) == (".9614", "0.9614", 0.9614)
    assert row("sr", {("x2", "set5")}, "SAN").figures["x2", "set5", "ssim"].shown == "0.9620"


def test_every_line_of_the_file_is_one_figure():
    lines = published.CATALOG.read_text().splitlines()
    assert len(published.load()) == len(lines) - 1 > 1000


def test_the_lightweight_class_shares_the_tables_of_sr():
    compacter = row("sr", {("x2", "set5")}, "Compacter")
    assert compacter.task == "sr_light"
    assert compacter.figures["x2", "set5", "psnr"].shown == "38.24"
    assert compacter.params_m == {"x2": ".393"}
    assert not published.rows("sr_light", {("x2", "set5")})


def test_only_the_columns_of_the_table_count():
    assert not published.rows("sr", {("x2", "photos")})
    both = row("sr", {("x2", "set5"), ("x4", "urban100")}, "SwinIR")
    assert {key[:2] for key in both.figures} == {("x2", "set5"), ("x4", "urban100")}
    assert not any(r.method == "ESRT" for r in published.rows("sr", {("x2", "set5")}))


def test_two_sources_of_one_method_stay_apart(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text(HEAD + "one,sr,x2,set5,A,1,psnr,30.0,\ntwo,sr,x2,set5,A,1,psnr,31.0,\n")
    assert [r.source for r in published.rows("sr", {("x2", "set5")},
                                             figures=published.load(path))] == ["one", "two"]


def test_choosing_methods():
    columns = {("sigma25", "cbsd68")}
    assert published.rows("denoise_color", columns, "none") == []
    found = published.rows("denoise_color", columns, ["semanir"])
    assert [(r.method, r.one_model) for r in found] == [("SemanIR*", True), ("SemanIR", False)]
    starred = published.rows("denoise_color", columns, ["SemanIR*"])
    assert [r.method for r in starred] == ["SemanIR*"]
    with pytest.raises(UserError, match=r"unknown published method 'SwimIR'.*'SwinIR'"):
        published.rows("sr", {("x2", "set5")}, ["SwimIR"])
    with pytest.raises(UserError, match="Valid: all, none"):
        published.methods_wanted("some", published.load())


def test_notes_name_the_source_and_the_asterisk():
    columns = {("sigma25", "cbsd68")}
    assert published.ONE_MODEL in published.notes(row("denoise_color", columns, "SemanIR*"))
    notes = published.notes(row("denoise_color", columns, "SemanIR"))
    assert len(notes) == 2 and "SemanIR's public repository" in notes[0]
    assert notes[1] == published.RENAMED
    assert len(published.notes(row("denoise_color", columns, "Restormer"))) == 1


def test_what_does_not_compare_has_a_caveat():
    figures = row("sr", {("x2", "set5")}, "SemanIR-S").figures
    assert "zero padding" in published.caveat(figures["x2", "set5", "ssim"])
    assert published.caveat(figures["x2", "set5", "psnr"]) == ""
    peer = row("sr", {("x2", "set5")}, "RCAN").figures
    assert published.caveat(peer["x2", "set5", "ssim"]) == ""
    kodak = row("demosaic", {("rggb", "kodak24")}, "SemanIR").figures
    assert "768x512" in published.caveat(kodak["rggb", "kodak24", "psnr"])


@pytest.mark.parametrize(("task", "column", "method", "fits", "wording"), [
    # Set14 has a gray file: old bicubic rows take it as Y, learned methods convert it
    ("sr", ("x4", "set14"), "bicubic", [True, False], "printed under the convention of sr-x4@1"),
    ("sr", ("x4", "set14"), "SwinIR", [False, True], "printed under the convention of sr-x4@2"),
    ("sr", ("x4", "set14"), "RAMiT", [False, True], "printed under the convention of sr-x4@2"),
    ("sr", ("x4", "set5"), "bicubic", [True, True], ""),
    ("sr", ("x4", "set5"), "SwinIR", [True, True], ""),
    # Urban100 is in colour, Set12 in gray
    ("denoise_gray", ("sigma25", "urban100"), "DnCNN", [False, True], "denoise_gray-sigma25@2"),
    ("denoise_gray", ("sigma25", "set12"), "DnCNN", [True, True], ""),
    # nothing is known, but there is one version
    ("jpeg_gray", ("q10", "classic5"), "input", [True, False], "it is not known under which"),
])
def test_only_like_is_compared_with_like(task, column, method, fits, wording):
    figure = row(task, {column}, method).figures[*column, "psnr"]
    name = f"{task}-{column[0]}"
    reasons = [published.other_version(figure, f"{name}@{version}") for version in (1, 2)]
    assert [not one for one in reasons] == fits
    assert all(wording in one for one in reasons if one)
    assert published.other_version(figure, f"{name}@3")     # of no known convention


def test_a_printed_figure_of_unknown_version_meets_neither_of_two():
    figure = published.Figure("a paper", "sr", "x2", "set14", "A", "", "psnr", "33.50")
    assert all("not known" in published.other_version(figure, f"sr-x2@{n}") for n in (1, 2))


def test_the_printed_ssim_of_jpeg_on_urban100_is_no_reference():
    figures = row("jpeg_gray", {("q10", "urban100")}, "input").figures
    assert "no fixed convention" in published.caveat(figures["q10", "urban100", "ssim"])
    assert published.caveat(figures["q10", "urban100", "psnr"]) == ""


@pytest.mark.parametrize(("line", "wording"), [
    ("s,sr,x2,set5,A,1,psnr,thirty,", "line 2: value is 'thirty'"),
    ("s,sr,x2,set5,A,1,psnr,nan,", "value is 'nan'"),
    ("s,sr,x2,set5,A,1,psnr,3e1,", "value is '3e1'"),
    ("s,sr,x2,set5,A,1,ssim,94.60,", "value is '94.60', but SSIM lies between -1 and 1"),
    ("s,sr,x2,set5,A,-1,psnr,30,", "params_m is '-1'; it is a decimal number or empty"),
    ("s,sr,x2,set5,A,big,psnr,30,", "params_m is 'big'; it is a decimal number or empty"),
    ("s,sr,x2,set5,A,1,pnsr,30,", "unknown metric 'pnsr'. Did you mean 'psnr'"),
    ("s,sr,x2,set5,A,1,psnr,30,x", "versions is 'x'; valid: versions of the protocol sr-x2"),
    ("s,sr,x2,set5,A,1,psnr,30,0", "versions is '0'"),
    ("s,sr,x2,set5,A,1,psnr,30", "expected 9 fields"),
    ("s,sr,x2,set5,A,1,psnr,30,\ns,sr,x2,set5,A,1,psnr,31,", "line 3 repeats line 2"),
])
def test_a_broken_file_is_named_with_its_line(tmp_path, line, wording):
    path = tmp_path / "p.csv"
    path.write_text(HEAD + line + "\n")
    with pytest.raises(UserError) as error:
        published.load(path)
    assert wording in str(error.value) and str(path) in str(error.value)


def test_wrong_columns(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("method,value\nA,30\n")
    with pytest.raises(UserError, match="Needed: source, task"):
        published.load(path)
