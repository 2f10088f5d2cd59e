"""``irbench anchors``: check this pipeline against values that need no training.

Reads   the anchors of irbench's catalog, or those of a file; sets are fetched.
Writes  results/anchors, see ``irbench.fidelity.anchor_run``.

Try: ``irbench anchors --list``
     ``irbench anchors --only set5``
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from irbench.cli import common
from irbench.core import messages
from irbench.fidelity import anchor_run, anchors

NAME = "anchors"
HELP = ("check this pipeline against values that need no training: exit 1 if one fails, 3 if none "
        "could be compared")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("--list", action="store_true",
                        help="show rows and references without computing anything")
    parser.add_argument("--only", metavar="PATTERN",
                        help="rows whose PROTOCOL/DATASET/MODEL contains this (* matches anything)")
    parser.add_argument("--file", type=Path, help="your own anchors, in the format of irbench's "
                        "catalog/anchors.yaml")
    add_compute(parser)


def add_compute(parser: argparse.ArgumentParser) -> None:
    """Add the options for computing rows."""
    parser.add_argument("--jobs", type=common.workers, help="processes; default: one per CPU")
    parser.add_argument("--data-root", default="data",
                        help="folder for fetched sets and weights, default: %(default)s")
    # of the workflow: how many earlier attempts left rows out
    parser.add_argument("--attempt", type=int, default=0, help=argparse.SUPPRESS)
    common.add_log(parser)


def run(arguments: argparse.Namespace) -> int:
    """Compare the selected rows, or list them; return the exit code."""
    messages.log_to(arguments.log)
    catalog = anchors.load(arguments.file or anchors.CATALOG)
    if arguments.list:
        rows = catalog.select(arguments.only)
        for row in rows:
            known = (f"{r.metric} {r.text or 'computed'} ({r.source}), within {r.tolerance:g}"
                     f"{'' if r.text else ' standard errors'}: {r.reason}" for r in row.references)
            print(f"{row.name}: {'; '.join(known)}")
        print(json.dumps({"rows": len(rows)}))
        return 0
    return compare(catalog, arguments, arguments.only)


def compare(catalog: anchors.Anchors, arguments: argparse.Namespace,
            only: str | None = None) -> int:
    """Compute the rows of a catalog, print the comparison, and return the exit code.

    ``arguments`` are those of ``add_compute``; ``only`` selects rows.
    """
    compared = anchor_run.run(catalog, data_root=arguments.data_root, only=only,
                              jobs=arguments.jobs or anchor_run.processes(),
                              attempt=arguments.attempt)
    print(anchor_run.table(compared))
    print("reasons for the tolerances: irbench anchors --list")
    number = anchors.counts(compared)
    number["compared"] = sum(c.verdict != "SKIP" for c in compared)
    print(json.dumps(number))
    if number["fail"]:
        return 1
    return 0 if number["compared"] else 3
