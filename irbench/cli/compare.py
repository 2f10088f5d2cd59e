"""``irbench compare``: what changed between two runs or two models, and whether it exceeds noise.

Reads   two run folders or baseline files. Writes only what ``--output`` names. Imports
neither torch nor pandas.

Try: ``irbench compare results/photos results/photos``
     ``irbench compare results/photos --models bicubic compacter --output models.md``
"""

from __future__ import annotations

import argparse

from irbench.cli import output, results
from irbench.compare import differences, formats, loading
from irbench.compare.runs import RunData
from irbench.core.errors import UserError

NAME = "compare"
HELP = ("compare two runs, or two models of a run: which values differ, whether this exceeds "
        "noise, and which inputs differ; exit 3 if nothing could be compared")
FORMATS = ("text", "markdown", "json", "junit")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("base", metavar="BASE", help=output.RUN)
    parser.add_argument("new", metavar="NEW", nargs="?",
                        help="the same; with --models default: BASE")
    parser.add_argument("--models", nargs=2, metavar=("A", "B"),
                        help="compare the model A of BASE with the model B of NEW")
    parser.add_argument("--all", action="store_true", help="also show values that did not change")
    output.add_output(parser, FORMATS)


def run(arguments: argparse.Namespace) -> int:
    """Compare the two and print what changed; return the exit code."""
    found = differences.compare(*_sides(arguments))
    printers = dict(formats.FORMATS)
    for name in ("text", "markdown"):
        printers[name] = lambda one, call=printers[name]: call(one, arguments.all)
    output.write(arguments, printers, found, formats.counts(found))
    return 0 if found.compared else 3


def _sides(arguments: argparse.Namespace) -> tuple[RunData, RunData]:
    """Return what is compared: two runs, or a model of each."""
    if not arguments.new and not arguments.models:
        raise UserError("compare needs two runs, or one run and --models with two of its models.")
    base = results.of_folder(arguments.base, stored=True)
    new = results.of_folder(arguments.new, stored=True) if arguments.new else base
    if not arguments.models:
        return base, new
    named = " -> ".join(arguments.models)
    first, second = arguments.models
    return loading.of_model(base, first, named), loading.of_model(new, second, named)
