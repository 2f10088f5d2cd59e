"""``irbench table``: a table for a paper from a run's records: the rows and columns you name.

Reads   a config or a run, and the run's records. Prints the table; ``--output`` writes it instead.
        The notes of a bare table go to stderr, so that they are not lost.

Try: ``irbench table sr --rows SwinIR compacter --columns set5 --metrics psnr ssim --latex --bare``
     ``irbench table sr --protocol x2 x4 --stack --bold best --output table.tex --cite refs.bib``
"""

from __future__ import annotations

import argparse
import json
import re

from irbench.cli import common, output
from irbench.core import messages
from irbench.core.errors import UserError
from irbench.present import fitting, plain
from irbench.present.html import to_html
from irbench.present.latex import paper_width, to_paper
from irbench.present.markdown import PAGE, pipes, to_markdown
from irbench.present.table import CLOSE, Table
from irbench.present.tidy import to_csv
from irbench.report.facts import citing
from irbench.report.tables import paper

NAME = "table"
HELP = ("print a table for a paper: chosen models and published methods, in LaTeX, Markdown, HTML "
        "or CSV")
SUFFIXES = {".tex": "latex", ".md": "markdown", ".html": "html", ".csv": "csv", ".txt": "text"}
FITS = "column, page, text or a width in points"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("task", metavar="TASK", help="a task of the run, e.g. sr")
    common.add_config_or_run(parser)
    parser.add_argument("--rows", nargs="+", default=[], metavar="NAME",
                        help="models of the run and published methods, in this order; "
                             f"{paper.PRINTED}NAME is the published one if a model has the same "
                             "name (default: all models)")
    parser.add_argument("--columns", nargs="+", default=[], metavar="DATASET",
                        help="default: those of the run")
    parser.add_argument("--metrics", nargs="+", default=[], metavar="METRIC",
                        help="default: those of the run")
    parser.add_argument("--protocol", nargs="+", default=[], metavar="PROTOCOL",
                        help="sr-x2, sr-x2@1 or only x2; several stand side by side, or with "
                             "--stack below each other (default: all of the task)")
    parser.add_argument("--stack", action="store_true",
                        help="a block of rows for each protocol, all in the same columns")
    parser.add_argument("--bold", default=paper.NO_BOLD, metavar="WHAT",
                        help="best: the best value of each column; none; or a row by its name "
                             "(default: %(default)s)")
    parser.add_argument("--significance", action="store_true",
                        help=f"mark ({CLOSE}) measured values that are not the best of their "
                             "column, but that none exceeds significantly")
    parser.add_argument("--parameters", action="store_true",
                        help="add a column with the number of parameters")
    formats = parser.add_mutually_exclusive_group()
    for name in dict.fromkeys(SUFFIXES.values()):
        formats.add_argument(f"--{name}", dest="format", action="store_const", const=name,
                             help=argparse.SUPPRESS if name == "text" else f"print {name}")
    parser.add_argument("--bare", action="store_true",
                        help="neither caption nor notes; in LaTeX the tabular alone")
    parser.add_argument("--fit", default="column", type=_room, metavar="ROOM",
                        help="LaTeX: where the table must fit: column (of two; a wide table gets "
                             "both, as table*), page (both columns), text (a page with one "
                             "column), or a width in points (default: %(default)s)")
    parser.add_argument("--label", type=_label, metavar="NAME",
                        help=r"LaTeX: the name for \ref, of letters, digits and :._- "
                             "(default: tab:TASK)")
    output.add_file(parser, "--output", f"write this file; its suffix ({', '.join(SUFFIXES)}) "
                    "chooses the format", tuple(SUFFIXES))
    output.add_file(parser, "--cite", "also write the BibTeX entries of all that the table shows",
                    output.CITATIONS, content=output.bibtex)
    parser.add_argument("--cite-rows", action="store_true",
                        help=r"LaTeX: \cite the paper of each method after its name, with the keys "
                             "of --cite")


def _room(given: str) -> str | float:
    """Parse a place of a table, or its width in points."""
    if given in fitting.ROOMS:
        return given
    try:
        points = float(given)
    except ValueError:
        points = -1.0
    if not 20 <= points <= 10_000:
        raise argparse.ArgumentTypeError(f"{given!r} is not valid: {FITS} (20 or more)")
    return points


def _label(given: str) -> str:
    r"""Parse a name for ``\label``, which other characters could end or change."""
    if not re.fullmatch(r"[A-Za-z0-9:._-]+", given):
        raise argparse.ArgumentTypeError(f"{given!r} is not valid: give letters, digits and any of "
                                         ":._- such as tab:main")
    return given


def run(arguments: argparse.Namespace) -> int:
    """Print or write the table; return the exit code."""
    form = _format(arguments)
    if arguments.cite_rows and form != "latex":
        raise UserError(f"--cite-rows is for LaTeX, and this table is {form}. Add --latex or an "
                        "--output that ends in .tex, or leave out --cite-rows.")
    found = common.collected(arguments.run or arguments.config)
    table = paper.build(found, paper.Selection(
        arguments.task, tuple(arguments.rows), tuple(arguments.columns), tuple(arguments.metrics),
        tuple(arguments.protocol), arguments.bold, arguments.parameters, arguments.stack,
        arguments.significance))
    uncited = citing.in_rows(found, table) if arguments.cite_rows else []
    content = _printed(table, form, arguments)
    width = _width(table, arguments) if form == "latex" else None
    files = {}
    if arguments.cite:
        cited = citing.of_table(found, table)
        files["--cite", arguments.cite] = cited.bibtex
        if cited.unknown:
            messages.say(cited.remark)
    if arguments.output:
        files["--output", arguments.output] = content
    for (option, path), text in files.items():
        output.write_file(option, path, text)
    if uncited:
        messages.say(f"--cite-rows: no citation after {', '.join(uncited)}: a row of your own, or "
                     "irbench knows no paper of the method.")
    if arguments.bare:
        for remark in paper.remarks(table):
            messages.say(remark)
    if arguments.output:
        print(json.dumps({"table": str(arguments.output), "rows": len(table.rows),
                          "width_pt": width}))
    else:
        print(content, end="")
    return 0


def _width(table: Table, arguments: argparse.Namespace) -> float:
    """Return the width of a LaTeX table in points; say that it needs more than was asked for."""
    points = paper_width(table.bare() if arguments.bare else table, arguments.fit)
    asked = fitting.ROOMS.get(arguments.fit, arguments.fit)
    if points > asked:
        stacked = "" if arguments.stack or len(table.terms) == 1 else ", or --stack,"
        messages.say(f"The table is too wide for a column ({asked:g} pt): it is made for both "
                     f"({points:g} pt, a table*). Fewer --columns or --metrics{stacked} make it "
                     "narrower.")
    return points


def _format(arguments: argparse.Namespace) -> str:
    """Return the format that is asked for. Raises UserError for a suffix that tells none."""
    if arguments.format or not arguments.output:
        return arguments.format or "text"
    suffix = arguments.output.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"--output {arguments.output}: unknown format. Give --latex, --markdown, "
                        f"--html or --csv, or a name ending in {', '.join(SUFFIXES)}.")
    return SUFFIXES[suffix]


def _printed(table: Table, form: str, arguments: argparse.Namespace) -> str:
    """Return the table in a format."""
    bare = arguments.bare
    if form == "latex":
        return to_paper(table.bare() if bare else table, arguments.fit, bare=bare,
                        remarks=paper.remarks(table), label=arguments.label)
    if form == "csv":
        return to_csv(table)
    if form == "html":
        return to_html(table.bare() if bare else table)
    if form == "markdown":
        return pipes(table.bare(), PAGE) + "\n" if bare else to_markdown(table)
    return plain.to_text(table.bare()) + "\n" if bare else plain.to_paper(table)
