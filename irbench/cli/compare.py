"""``irbench compare``: what changed between two runs, and whether it exceeds noise.

Reads   two run folders or baseline files. Writes only what ``--output`` names. Imports
neither torch nor pandas.

Try: ``irbench compare results/photos results/photos``
     ``irbench compare baselines/photos.json results/photos --all --output moved.md``
"""

from __future__ import annotations

import argparse

from irbench.cli import output
from irbench.compare import differences, formats, loading

NAME = "compare"
HELP = ("compare two runs: which values changed, whether this exceeds noise, and which inputs "
        "changed; exit 3 if nothing could be compared")
FORMATS = ("text", "markdown", "json", "junit")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("base", metavar="BASE", help=output.RUN)
    parser.add_argument("new", metavar="NEW", help="the same")
    parser.add_argument("--all", action="store_true", help="also show values that did not change")
    output.add_output(parser, FORMATS)


def run(arguments: argparse.Namespace) -> int:
    """Compare the two and print what changed; return the exit code."""
    found = differences.compare(loading.load(arguments.base), loading.load(arguments.new))
    printers = dict(formats.FORMATS)
    for name in ("text", "markdown"):
        printers[name] = lambda one, call=printers[name]: call(one, arguments.all)
    output.write(arguments, printers, found, formats.counts(found))
    return 0 if found.compared else 3
