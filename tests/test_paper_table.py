"""The guide docs/paper-table.md works as printed: ``irbench table`` and ``irbench cite``."""

import csv
import json
import re
import shlex
import shutil
import subprocess

import pytest

from irbench import cli, plan
from irbench.core import files
from irbench.data import sets
from irbench.jobs.result import Result, record_of, write
from tests.helpers.latex import needs_latex
from tests.helpers.paths import ROOT

TEXT = (ROOT / "docs" / "paper-table.md").read_text()
CONFIG, = re.findall(r"```yaml\n(.*?)```", TEXT, re.S)
PAPER, = re.findall(r"```latex\n(.*?)```", TEXT, re.S)
COMMANDS = [line for block in re.findall(r"```console\n(.*?)```", TEXT, re.S)
            for line in block.replace("\\\n", "").splitlines()]
VALUES = {"bicubic": 30.0, "imdn": 36.0, "compacter": 37.0, "mine": 39.0}
ROWS = ["--rows", "SwinIR", "mine", "--columns", "set5", "--metrics", "psnr"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The guide's run, with made-up scores."""
    folder = tmp_path_factory.mktemp("paper")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (folder / "config.yaml").write_text(CONFIG)
        planned = plan.load("config.yaml")
        for job in planned.cells.values():
            score = {"psnr": VALUES[job.key["model"]], "ssim": VALUES[job.key["model"]] / 40}
            images = [{"name": row.name, "height": 8, "width": 8, **score, "file": None}
                      for row in sets.manifest(planned.entry(job.key["dataset"]))
                      if row.role == "hr"]
            write(job, record_of(job, Result({"images": images, "mean": score, "missing": {}})))
        files.write_json(planned.run_folder.config, planned.config)
    return folder


@pytest.fixture
def world(made, tmp_path, monkeypatch):
    """A copy of it, in which the current folder is."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def irbench(line, capsys, code=0):
    """Run a command; return what it printed."""
    words = shlex.split(line) if isinstance(line, str) else line
    assert cli.main(words[words[0] == "irbench":]) == code
    return capsys.readouterr()


def test_the_commands_of_the_guide_work(world, capsys):
    printed = [irbench(line, capsys) for line in COMMANDS]
    assert all(line.startswith("irbench ") for line in COMMANDS) and len(COMMANDS) == 9
    table = (world / "table.tex").read_text()
    rows = [line.partition(" &")[0] for line in table.splitlines() if line.endswith(r"\\")]
    assert rows[2:] == [*(rf"{name}\textsuperscript{{$\dagger$}}" for name in ("SwinIR", "EDT")),
                        "IMDN", "Compacter", "Ours"]
    assert "n/a" not in table
    assert r"Ours & \textbf{39.00} & \textbf{0.9750} & \textbf{39.00} & \textbf{0.9750}" in table
    assert json.loads(printed[0].out) == {"table": "table.tex", "rows": 5, "width_pt": 220}
    keys = re.findall(r"^@\w+\{(\w+),", (world / "refs.bib").read_text(), re.M)
    assert {"liang2021swinir", "hui2019imdn", "wu2024compacter", "bevilacqua2012set5",
            "zeyde2010set14", "wang2004ssim"} <= set(keys) and "keys1981cubic" not in keys
    bib = (world / "refs.bib").read_text()
    assert "% for: SwinIR (published method)\n@inproceedings{liang2021swinir," in bib
    assert "(printed values of SwinIR, EDT); Ours (model)\n@inproceedings{ren2024semanir," in bib
    assert "% for: IMDN (model)\n" in bib
    example, = re.findall(r"`% for: (.*?)`", " ".join(TEXT.split()))
    assert f"{example}\n@" in bib
    stacked = (world / "stacked.tex").read_text()
    assert r"\begin{table}[t]" in stacked
    assert stacked.count("& 39.00 & 0.9750 & 39.00 & 0.9750 ") == 2
    assert stacked.index(r"\textbf{$\times$2}") < stacked.index(r"\textbf{$\times$4}")
    wide = (world / "wide.tex").read_text()
    assert r"\begin{table*}" in wide and "$\\times$4" in wide
    assert "| Compacter<sup>†</sup> | 38.24 | 0.9619 |" in printed[3].out
    assert "<td align=\"right\">39.00</td>" in (world / "table.html").read_text()
    lines = list(csv.DictReader((world / "table.csv").open()))
    assert {line["model"] for line in lines} == set(VALUES) and lines[0]["value"] == "30.0"
    assert "@inproceedings{bevilacqua2012set5," in printed[6].out
    assert "keys1981cubic" in printed[6].out
    assert (world / "all.bib").read_text().count("\n@") > 90


@needs_latex
def test_the_paper_of_the_guide_compiles_without_a_box_too_wide(world, capsys):
    irbench(COMMANDS[0], capsys)
    (world / "paper.tex").write_text(PAPER)
    for step in ("pdflatex", "bibtex", "pdflatex"):
        if shutil.which(step):
            words = ["paper"] if step == "bibtex" else ["-draftmode", "-interaction=nonstopmode",
                                                        "paper"]
            subprocess.run([step, *words], cwd=world, capture_output=True, timeout=60, check=False)
    log = (world / "paper.log").read_text(errors="replace")
    assert not re.findall(r"^(?:!|Overfull).*", log, re.M)
    assert not shutil.which("bibtex") or "Liang" in (world / "paper.bbl").read_text()


NAMES = ["SwinIR", "published:EDT", "imdn", "compacter", "bicubic", "mine"]


@needs_latex
@pytest.mark.parametrize("more", [["--bare"], ["--bare", "--stack"], ["--stack"],
                                  ["--protocol", "x2", "--bold", "best"]])
def test_rows_cite_the_papers_of_their_methods(world, more, capsys):
    """A whole paper compiles, and each key of a row is in the file of entries."""
    said = irbench(["table", "sr", "--rows", *NAMES, "--columns", "set5", "--latex", "--cite-rows",
                    "--fit", "text", *more, "--output", "table.tex", "--cite", "refs.bib"],
                   capsys).err
    assert "--cite-rows: no citation after Ours: a row of your own" in said
    table = (world / "table.tex").read_text()
    blocks = 2 if "--stack" in more else 1
    for name, key in {"SwinIR": "liang2021swinir", "EDT": "li2021edt", "IMDN": "hui2019imdn",
                      "Compacter": "wu2024compacter", "Bicubic": "keys1981cubic"}.items():
        assert table.count(rf"{name}~\cite{{{key}}}") == blocks
    assert table.count(r"\cite") == 5 * blocks
    assert re.search(r"^(\\textbf\{)?Ours\}?(\\textsuperscript\{[a-z,]+\})? &", table, re.M)
    body = table if "--bare" not in more else rf"\begin{{table}}{table}\end{{table}}"
    (world / "paper.tex").write_text(
        "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n" + body +
        "\\bibliographystyle{plain}\n\\bibliography{refs}\n\\end{document}\n")
    if not shutil.which("bibtex"):
        return
    for step in ("pdflatex", "bibtex", "pdflatex", "pdflatex"):
        words = ["paper"] if step == "bibtex" else ["-draftmode", "-interaction=nonstopmode",
                                                    "paper"]
        subprocess.run([step, *words], cwd=world, capture_output=True, timeout=60, check=False)
    log = (world / "paper.log").read_text(errors="replace")
    assert not re.findall(r"^(?:!|Overfull|LaTeX Warning: (?:Citation|There were)).*", log, re.M)
    assert (world / "paper.bbl").read_text().count(r"\bibitem") >= 5


def test_rows_are_cited_only_if_asked_for_and_in_latex(world, capsys):
    words = ["table", "sr", "--rows", "SwinIR", "imdn", "--columns", "set5"]
    assert r"\cite" not in irbench([*words, "--latex", "--cite", "refs.bib"], capsys).out
    for form in ("--markdown", "--html", "--csv", "--text"):
        refused = irbench([*words, form, "--cite-rows", "--cite", "new.bib"], capsys, code=2)
        assert refused.err.startswith("irbench: --cite-rows is for LaTeX, and this table is "
                                      f"{form[2:]}. Add --latex") and not refused.out
    assert not (world / "new.bib").exists()
    cited = irbench([*words, "--latex", "--cite-rows"], capsys)
    assert r"SwinIR~\cite{liang2021swinir}\textsuperscript{$\dagger$} &" in cited.out
    assert not cited.err.startswith("--cite-rows")


def test_a_row_is_named_by_the_title_that_the_table_shows(world, capsys):
    words = ["table", "sr", "--columns", "set5", "--metrics", "psnr", "--protocol", "x2", "--csv",
             "--rows"]
    assert irbench([*words, "Ours"], capsys).out == irbench([*words, "mine"], capsys).out
    assert "Ours and mine are one row, mine" in irbench([*words, "Ours", "mine"], capsys, 2).err
    assert "unknown row 'ours'. Did you mean 'Ours'?" in irbench([*words, "ours"], capsys, 2).err
    assert "unknown row 'published:Ours'" in irbench([*words, "published:Ours"], capsys, 2).err
    assert "38.24" in irbench([*words, "Compacter"], capsys).out     # as printed: it comes first


def test_the_caption_of_the_guide_names_the_source_of_the_copied_rows(world, capsys):
    """The example's attribution is that of the dagger's note, and no row of it is empty."""
    irbench(COMMANDS[0], capsys)
    note, = re.findall(r"% † (.*)", (world / "table.tex").read_text())
    assert "SwinIR, EDT: printed in the result tables (pictures) of SemanIR's public repo" in note
    caption = " ".join(re.search(r"\\caption\{(.*?)\}\n *\\label", PAPER, re.S)[1].split())
    assert r"copied from the tables in the repository of SemanIR~\cite{ren2024semanir}" in caption
    assert "ren2024semanir" in (world / "refs.bib").read_text()
    assert r"\smallskip" in PAPER


def test_a_table_that_became_wider_than_asked_for_says_so(world, capsys):
    wide = ["table", "sr", "--columns", "set5", "set14", "--protocol", "x2", "x4", "--output",
            "t.tex"]
    printed = irbench(wide, capsys)
    assert printed.err.startswith("The table is too wide for a column (220 pt): it is made for "
                                  "both (450 pt, a table*). Fewer --columns or --metrics, or "
                                  "--stack, make it")
    assert json.loads(printed.out)["width_pt"] == 450 and printed.err.count("\n") == 1
    for more, width in ((["--stack"], 220), (["--fit", "page"], 450), (["--fit", "460"], 460)):
        printed = irbench([*wide, *more], capsys)
        assert json.loads(printed.out)["width_pt"] == width and not printed.err
    printed = irbench([*wide[:-1], "t.csv"], capsys)
    assert json.loads(printed.out)["width_pt"] is None and not printed.err
    refused = irbench([*wide, "--fit", "220"], capsys, code=2).err
    assert "stack the levels as blocks of rows (--stack), or make several" in refused
    assert "--stack" not in irbench([*wide, "--stack", "--fit", "60"], capsys, code=2).err


def test_an_earlier_file_of_entries_is_replaced_and_anything_else_is_not(world, capsys):
    irbench(["cite", "--output", "refs.bib"], capsys)
    assert (world / "refs.bib").read_text().startswith("% for: ")
    irbench(["cite", "--output", "refs.bib"], capsys)
    (world / "refs.bib").write_text("% my own words\n" + (world / "refs.bib").read_text())
    assert "is not BibTeX" in irbench(["cite", "--output", "refs.bib"], capsys, code=2).err


def test_reasons_of_a_bare_table_are_messages(world, capsys):
    (world / "results/mypaper/cells/sr-x2@2/set5/mine.json").unlink()
    printed = irbench(["table", "sr", *ROWS, "--protocol", "x2", "x4", "--bare"], capsys)
    assert printed.out.splitlines()[3].split() == ["Ours", "n/a", "39.00"]
    assert "Ours ×2 Set5 PSNR: not computed" in printed.err     # noqa: RUF001
    assert "† published values, not measured here. SwinIR: printed in" in printed.err


@pytest.mark.parametrize("to_file", [False, True])
def test_plain_text_has_the_note_of_each_mark_below_the_table(world, to_file, capsys):
    (world / "results/mypaper/cells/sr-x2@2/set5/mine.json").unlink()
    printed = irbench(["table", "sr", *ROWS, "--protocol", "x2", "x4", "--bold", "best",
                       *["--output", "mine.txt"] * to_file], capsys)
    text = (world / "mine.txt").read_text() if to_file else printed.out
    table, caption, notes = text.split("\n\n")
    used = {mark for marks in re.findall(r"\[([^\]]+)\]", table) for mark in marks.split(",")}
    assert used == set(re.findall(r"^\[(.+?)\] \S", notes, re.M)) and len(used) > 2
    assert re.search(r"^\[.\] not computed", notes, re.M) and "\nsr-x2@2 / sr-x4@2: " in notes
    assert "n/a: see the note." in caption and "Bold" not in caption and not printed.err


def test_notes_below_a_table_are_for_readers_of_a_paper(world, capsys):
    """Only what a shown row has, and the conventions of several scales once."""
    words = ["table", "sr", "--columns", "set5", "--protocol", "x2", "x4", "--rows"]
    plain = irbench([*words, "SwinIR", "compacter"], capsys).out
    assert "public repository (arXiv 2405.20008)\n" in plain and "KGT" not in plain
    assert "] option skip = input\n" in plain
    assert "] weights that come with irbench" in plain and "bundled" not in plain
    protocols = [line for line in plain.splitlines() if line.startswith("sr-x")]
    assert len(protocols) == 1 and protocols[0].startswith(
        "sr-x2@2 / sr-x4@2: Super-resolution x2 / x4, bicubic; degradation: MATLAB bicubic "
        "reduction (scale 2 / 4); scored on Y (BT.601, limited range) unrounded;")
    assert "border of 2 / 4 px cut; SSIM with a Gaussian 11x11 window" in protocols[0]
    for more in ([], ["--bare"]):
        renamed = irbench([*words, "SwinIR", "SemanIR-S", "mine", *more], capsys)
        said = renamed.err if more else renamed.out
        assert said.count("the source calls this method KGT, written SemanIR here") == 1
        assert said.count("Super-resolution x2 / x4") == 1
    both = "sr-x2@2 / sr-x4@2"
    for form, name in {"--latex": rf"\texttt{{{both}}}", "--markdown": f"`{both}`",
                       "--html": f"<code>{both}</code>"}.items():
        made = irbench([*words, "SwinIR", "mine", form], capsys).out
        assert made.count("Super-resolution x2 / x4") == 1 and name in made


@pytest.mark.parametrize("place", ["mypaper", "results/mypaper", "elsewhere/copied"])
def test_a_run_is_named_by_its_name_or_folder(world, place, capsys):
    if place.startswith("elsewhere"):
        (world / "elsewhere").mkdir()
        (world / "results/mypaper").rename(world / place)
    (world / "config.yaml").unlink()
    printed = irbench(["table", "sr", *ROWS, "--protocol", "x2", "--bare", "--run", place],
                      capsys)
    assert printed.out.splitlines()[-1].split()[-1] == "39.00"
    assert "bevilacqua2012set5" in irbench(["cite", place], capsys).out


def test_a_set_that_the_run_does_not_use_has_its_title_and_published_values(world, capsys):
    printed = irbench(["table", "sr", "--rows", "SwinIR", "mine", "--columns", "urban100",
                       "--metrics", "psnr", "--protocol", "x2", "--markdown", "--bare"], capsys)
    assert printed.out.splitlines()[0] == "| Method | Urban100 PSNR |"
    assert printed.out.splitlines()[2:] == ["| SwinIR<sup>†</sup> | 33.81 |", "| Ours | n/a |"]


def test_the_users_own_model_has_no_entry_and_that_is_said(world, capsys):
    (world / "mine.py").write_text(
        'from torch import nn\nCARDS = {"net": {"title": "Net", "builder": "build", '
        '"tasks": ["sr"], "in_paper": False, "source": "mine", "learned": False}}\n'
        "def build(task, scale, channels):\n    return nn.Upsample(scale_factor=scale)\n")
    (world / "config.yaml").write_text(
        CONFIG.replace("run: mypaper", "run: mypaper\nplugins: [mine.py]").replace(
            "  bicubic:\n", "  bicubic:\n  net:\n").replace("[bicubic, ", "[net, bicubic, "))
    printed = irbench(["cite"], capsys)
    assert printed.err == "irbench has no BibTeX entry for Net.\n"


@pytest.mark.parametrize(("words", "message"), [
    (["table", "sr", "--rows", "swinr"], "--rows: unknown row 'swinr'. Did you mean 'SwinIR'"),
    (["table", "sr", "--output", "a.docx"], "--output a.docx: unknown format. Give --latex"),
    (["table", "sr", "--latex", "--fit", "40"], "does not fit 40 pt even in"),
    (["table", "sr", "--run", "mypapr"], "unknown run or config 'mypapr'. Did you mean 'mypaper'"),
    (["table", "sr", "--output", "no/file/here/t.tex", "--cite", "config.yaml/x"], "not written"),
    (["table", "denoise"], "table: unknown task 'denoise'"),
    (["cite", "nothing.yaml"], "config nothing.yaml: no such file"),
])
def test_mistakes_are_explained_and_nothing_is_written(world, words, message, capsys):
    before = sorted(path.name for path in world.iterdir())
    printed = irbench(words, capsys, code=2)
    assert message in printed.err and "Traceback" not in printed.err and not printed.out
    assert sorted(path.name for path in world.iterdir()) == before


def test_two_tables_of_a_task_can_have_different_labels(world, capsys):
    words = ["table", "sr", *ROWS, "--protocol", "x2", "--latex"]
    assert r"\label{tab:sr}" in irbench(words, capsys).out
    named = irbench([*words, "--label", "tab:my_2.b-c"], capsys).out
    assert r"\label{tab:my_2.b-c}" in named and named.count(r"\label") == 1
    assert r"\label" not in irbench([*words, "--bare", "--label", "tab:a"], capsys).out


@pytest.mark.parametrize("label", ["a b", "a}", "a%", "tab:ä", r"\x", "a\n"])
def test_a_label_that_latex_could_misread_is_refused(label, capsys):
    with pytest.raises(SystemExit):
        cli.main(["table", "sr", "--label", label])
    assert "is not valid: give letters, digits and any of :._-" in capsys.readouterr().err


@pytest.mark.parametrize("room", ["wide", "5", "nan", "-3"])
def test_a_place_that_is_none_is_refused(room, capsys):
    with pytest.raises(SystemExit):
        cli.main(["table", "sr", "--fit", room])
    assert "is not valid: column, page, text or a width in points" in capsys.readouterr().err


def test_the_exact_spelling_comes_first_and_a_row_named_twice_is_refused(world, capsys):
    words = ["table", "sr", "--columns", "set5", "--metrics", "psnr", "--protocol", "x2", "--csv"]
    printed = irbench([*words, "--rows", "imdn", "IMDN", "mine"], capsys).out
    assert "36.00" in printed and "38.00" in printed        # measured (made up), and as printed
    for rows, message in {
            ("imdn", "Imdn"): "imdn and Imdn are one row, imdn. Name it once. The published method "
                              "of that name is published:Imdn.",
            ("mine", "mine"): "mine and mine are one row, mine. Name it once.",
            ("IMDN", "published:imdn"): "IMDN and published:imdn are one row, "}.items():
        assert message in irbench([*words, "--rows", *rows], capsys, code=2).err
