"""``irbench compare``: what moved between two runs, and whether it is more than noise.

Reads   two run folders or baseline files. Writes only what ``--output`` names. Neither torch nor
pandas is imported.

Try: ``irbench compare results/photos results/photos``
     ``irbench compare baselines/photos.json results/photos --all --output moved.md``
"""

from __future__ import annotations

import argparse

from irbench.cli import output
from irbench.compare import differences, formats, loading

NAME = "compare"
HELP = ("compare two runs: what moved, whether it is more than noise, and what changed in the "
        "inputs; exit 3 if nothing could be compared")
FORMATS = ("text", "markdown", "json", "junit")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("base", metavar="BASE", help=output.RUN)
    parser.add_argument("new", metavar="NEW", help="the same")
    parser.add_argument("--all", action="store_true", help="show figures that did not change, too")
    output.add_output(parser, FORMATS)


def run(arguments: argparse.Namespace) -> int:
    """Compare the two and print what moved; return the exit code."""
    found = differences.compare(loading.load(arguments.base), loading.load(arguments.new))
    printers = dict(formats.FORMATS)
    for name in ("text", "markdown"):
        printers[name] = lambda one, call=printers[name]: call(one, arguments.all)
    output.write(arguments, printers, found, formats.counts(found))
    return 0 if found.compared else 3
