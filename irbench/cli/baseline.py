"""``irbench baseline``: write a run's results to one small file, or show such a file.

Reads   a run folder or a baseline file. ``write`` writes the file that ``--output`` names.

Try: ``irbench baseline write results/photos --output baselines/photos.json``
     ``irbench baseline show baselines/photos.json``
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from irbench.cli import output, results
from irbench.compare import baseline, formats, loading
from irbench.core import machine
from irbench.core.errors import UserError
from irbench.present import plain

NAME = "baseline"
HELP = "write or show a baseline file"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's actions."""
    what = parser.add_subparsers(dest="what", metavar="write|show", required=True)
    write = what.add_parser("write", help="record a run's results in one small file to commit")
    write.add_argument("run", metavar="RUN", help="a run folder, such as results/photos")
    write.add_argument("--output", required=True, metavar="FILE", type=Path)
    write.add_argument("--partial", action="store_true",
                       help="leave out cells and profiles without a complete result")
    results.add_stored(write)
    show = what.add_parser("show", help="show the content of a baseline file")
    show.add_argument("file", metavar="FILE", help=output.RUN)


def run(arguments: argparse.Namespace) -> int:
    """Do the action; return the exit code."""
    return {"write": _write, "show": _show}[arguments.what](arguments)


def _write(arguments: argparse.Namespace) -> int:
    try:
        content = baseline.write(arguments.output,
                                 results.of_folder(arguments.run, arguments.stored),
                                 partial=arguments.partial)
    except OSError as error:
        raise UserError(f"--output {arguments.output}: not written: "
                        f"{error.strerror}.") from None
    for key, reason in content["left_out"].items():
        print(f"left out: {key}: {reason}", file=sys.stderr)
    for key, profile in content["profiles"].items():
        if machine.busy(profile.get("busy_elsewhere")):
            print(f"disturbed: {key}: other processes kept {profile['busy_elsewhere']:.1f} cores "
                  "busy, so no latency will be compared with this one", file=sys.stderr)
    print(plain.compact({
        "baseline": str(arguments.output), "cells": len(content["cells"]),
        "profiles": len(content["profiles"]), "left_out": len(content["left_out"])}))
    return 0


def _show(arguments: argparse.Namespace) -> int:
    found = loading.load(arguments.file)
    print(plain.about(found))
    for table in formats.held(found):
        print()
        print(plain.to_text(table))
    print(plain.compact({"cells": len(found.cells), "profiles": len(found.profiles),
                          "baseline": found.baseline}))
    return 0
