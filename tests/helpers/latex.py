"""LaTeX checked without a compiler, and with one where it is installed."""

import re
import shutil
import subprocess

import pytest


def balanced(source):
    """Check braces and environments; return the source without escaped characters."""
    bare = re.sub(r"\\[\\&%$#_{}]", "", source)
    depth = 0
    for letter in bare:
        depth += (letter == "{") - (letter == "}")
        assert depth >= 0
    assert depth == 0
    assert bare.count("$") % 2 == 0
    opened = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", bare):
        if kind == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert not opened
    return bare


def columns_of(line):
    """Columns that a LaTeX row fills."""
    spans = [int(n) - 1 for n in re.findall(r"\\multicolumn\{(\d+)\}", line)]
    return len(re.findall(r"(?<!\\)&", line)) + 1 + sum(spans)


needs_latex = pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
# documents of the usual kinds: the class, and whether its pages have two columns
CLASSES = {
    "one column": r"\documentclass{article}", "11 pt": r"\documentclass[11pt]{article}",
    "12 pt": r"\documentclass[12pt]{article}",
    "two columns": r"\documentclass[twocolumn]{article}",
    "two columns, A4": r"\documentclass[twocolumn,a4paper]{article}",
    "IEEE journal": r"\documentclass[journal]{IEEEtran}",
    "IEEE conference": r"\documentclass[conference]{IEEEtran}"}
TWO_COLUMNS = [name for name in CLASSES if name.startswith(("two", "IEEE"))]
ONE_COLUMN = [name for name in CLASSES if name not in TWO_COLUMNS]


def problems(folder, kind, body):
    """Compile a document of a kind of ``CLASSES``; return its errors and boxes that are too wide.

    Skips the test if the class is not installed.
    """
    folder.mkdir(exist_ok=True)
    (folder / "paper.tex").write_text("\n".join([
        CLASSES[kind], r"\usepackage{booktabs}", r"\begin{document}", body, r"\end{document}"]))
    subprocess.run(["pdflatex", "-draftmode", "-interaction=nonstopmode", "paper.tex"], cwd=folder,
                   capture_output=True, timeout=60, check=False)
    log = (folder / "paper.log").read_text(errors="replace")
    if "IEEEtran.cls' not found" in log:
        pytest.skip("IEEEtran is not installed")
    return re.findall(r"^(?:!|Overfull \\hbox).*", log, re.M)
