"""``irbench score``: score a folder of restored pictures against a folder of targets.

Reads   the pictures directly in both folders, matched by name. Writes only what ``--json`` and
        ``--csv`` name.

Try: ``irbench score results targets --protocol sr-x2``
     ``irbench score results targets --protocol sr-x4 --match '_x4$' --csv scores.csv``
"""

from __future__ import annotations

import argparse
import csv
import io
import json

from tabulate import tabulate

from irbench.api import scores
from irbench.api.scores import FolderScores
from irbench.catalog import patterns
from irbench.cli import common, output
from irbench.core import messages, metrics
from irbench.core.errors import UserError

NAME = "score"
HELP = ("score a folder of restored pictures against a folder of targets; exit 1 if a target has "
        "no result or a metric has no mean")
MEAN, NONE = "mean", "n/a"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("results", metavar="RESULTS", help="the folder of restored pictures")
    parser.add_argument("targets", metavar="TARGETS", help="the folder of clean pictures")
    common.add_protocol(parser)
    parser.add_argument("--metrics", nargs="+", metavar="NAME",
                        help=f"default: {' '.join(metrics.main())}")
    parser.add_argument("--match", metavar="REGEX", type=_pattern,
                        help="the part of a result's name that its target's name lacks, as '_x2$'")
    output.add_file(parser, "--json", "write all scores as JSON", (".json",))
    output.add_file(parser, "--csv", "write the scores of each image", (".csv",))


def _pattern(text: str) -> str:
    if why := patterns.problem(text):
        raise argparse.ArgumentTypeError(f"{text!r} is {why}")
    return text


def run(arguments: argparse.Namespace) -> int:
    """Score the folders, print the table; return the exit code."""
    found = scores.score(arguments.results, arguments.targets, arguments.protocol,
                         arguments.metrics, progress=True,
                         match={"input": arguments.match} if arguments.match else None)
    if not found.scores:
        raise UserError(f"no picture in {arguments.results} has the name of a target in "
                        f"{arguments.targets} (targets: {messages.some(found.without_result)}; "
                        f"results: {messages.some(found.ignored)}). "
                        + ("They differ only in how Unicode writes their letters (NFC and NFD). "
                           if found.alike else "") + "Rename them, or give --match.")
    for option, path, text in (
            ("--json", arguments.json, json.dumps(found.as_dict(), indent=1) + "\n"),
            ("--csv", arguments.csv, _csv(found))):
        if path:
            output.write_file(option, path, text)
    print(_table(found))
    for name, reason in found.missing.items():
        print(f"no mean of {metrics.get(name).title}: {reason}")
    if found.ignored:
        print(f"results without a target, ignored: {messages.some(found.ignored)}")
    if found.alike:
        print(f"target and result differ only in how Unicode writes their letters (NFC and NFD): "
              f"{messages.some(found.alike)}. Give both the same name")
    if found.left_out:
        print(f"not looked at, of another type or in a folder below: "
              f"{messages.some(found.left_out)}")
    print(json.dumps({"protocol": found.protocol, "count": len(found.scores), "mean": found.mean,
                      "without_result": list(found.without_result),
                      "left_out": list(found.left_out)}))
    return 1 if found.missing else 0


def _table(found: FolderScores) -> str:
    rows = [metrics.get(name) for name in found.mean]

    def line(title: str, values: dict[str, float | None]) -> list[str]:
        return [title, *(NONE if values.get(row.name) is None else
                         f"{values[row.name]:.{row.exact_decimals}f}" for row in rows)]

    lines = [line(name, values) for name, values in found.scores.items()]
    lines += [line(name, {}) for name in found.without_result]
    return tabulate([*lines, line(f"{MEAN} ({found.protocol})", found.mean)],
                    ["image", *(row.label for row in rows)], disable_numparse=True,
                    colalign=["left", *["right"] * len(rows)])


def _csv(found: FolderScores) -> str:
    """Return one line per image, and the mean; columns end in their unit. Unknown is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "protocol", *(metrics.get(name).column() for name in found.mean)])
    for name, values in [*found.scores.items(),
                         *((name, {}) for name in found.without_result), (MEAN, found.mean)]:
        writer.writerow([name, found.protocol, *(
            "" if values.get(metric) is None else repr(values[metric]) for metric in found.mean)])
    return text.getvalue()
