"""The verbs that compare runs: ``compare``, ``check`` and ``baseline``.

They read run folders and baseline files, and write only what ``--output`` names. Neither torch nor
pandas is imported.

Try: ``irbench compare results/photos results/photos``
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from irbench.core.errors import UserError

SUFFIXES = {".md": "markdown", ".json": "json", ".xml": "junit", ".txt": "text"}
COMPARE = ("text", "markdown", "json", "junit")
CHECK = (*COMPARE, "github")
RUN = "a run folder, such as results/photos, or a baseline file"
EXIT_CODES = ("exit codes: 0 no regression, 1 regression, 2 misuse (a bad file or argument), "
              "3 nothing was compared")


def add(verb: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the verbs to the command line; ``verb`` makes a parser (see ``irbench.cli``)."""
    sub = verb("compare", _compare, "compare two runs: what moved, whether it is more than noise, "
               "and what changed in the inputs; exit 3 if nothing could be compared", config=False)
    sub.add_argument("base", metavar="BASE", help=RUN)
    sub.add_argument("new", metavar="NEW", help="the same")
    sub.add_argument("--all", action="store_true", help="show figures that did not change, too")
    _output(sub, COMPARE)
    sub = verb("check", _check, "hold a run against a baseline: the gate of a continuous "
               "integration")
    sub.epilog = EXIT_CODES
    sub.add_argument("run", metavar="RUN", nargs="?", help="a run folder; default: that of the "
                     "config, whose results must be of today's code and inputs")
    sub.add_argument("--baseline", required=True, metavar="FILE",
                     help="as irbench baseline write makes it; or another run folder")
    sub.add_argument("--tolerances", metavar="FILE",
                     help="YAML; default: irbench's catalog/tolerances.yaml, which it changes")
    sub.add_argument("--speed", action="store_true", help="slower or larger in memory than the "
                     "tolerances let pass is a regression, not advice")
    sub.add_argument("--exact", action="store_true", help="pictures that changed though weights, "
                     "model, data and protocol did not are a regression, not advice")
    sub.add_argument("--complete", action="store_true", help="a cell of the baseline that the run "
                     "does not ask for is a regression, not a note")
    _output(sub, CHECK)
    sub = verb("baseline", _baseline, "write or show a baseline file", config=False)
    what = sub.add_subparsers(dest="what", metavar="write|show", required=True)
    write = what.add_parser("write", help="record a run's results in one small file to commit")
    write.add_argument("run", metavar="RUN", help="a run folder, such as results/photos")
    write.add_argument("--output", required=True, metavar="FILE", type=Path)
    write.add_argument("--partial", action="store_true",
                       help="leave out cells and profiles without a whole result")
    show = what.add_parser("show", help="list what a baseline file holds")
    show.add_argument("file", metavar="FILE", help=RUN)


def _output(sub: argparse.ArgumentParser, formats: tuple[str, ...]) -> None:
    sub.add_argument("--format", choices=formats, help="default: text, on stdout; of a file by its "
                     "suffix (.md, .json, .xml, .txt)")
    sub.add_argument("--output", metavar="FILE", type=Path, action="append", default=[],
                     help="write a file; may be given more than once")


def _compare(arguments: argparse.Namespace) -> int:
    from irbench.compare import differences, formats, runs

    found = differences.compare(runs.load(arguments.base), runs.load(arguments.new))
    printers = dict(formats.FORMATS)
    for name in ("text", "markdown"):
        printers[name] = lambda one, call=printers[name]: call(one, arguments.all)
    _print(arguments, printers, found, formats.counts(found))
    return 0 if found.compared else 3


def _check(arguments: argparse.Namespace) -> int:
    try:
        return _gate(arguments)
    except UserError:
        raise
    except Exception:           # a defect of ours is no regression: exit code 1 is taken
        traceback.print_exc()
        return 2


def _gate(arguments: argparse.Namespace) -> int:
    from irbench.compare import current, gate, gate_formats, runs, tolerances

    limits = tolerances.load(arguments.tolerances)
    base = runs.load(arguments.baseline)
    new = runs.load(arguments.run) if arguments.run else current.load(arguments.config)
    if Path(base.where).resolve() == Path(new.where).resolve():
        raise UserError(f"{base.where}: the run and its baseline are the same, which shows "
                        "nothing. Give --baseline a file that irbench baseline write made earlier.")
    result = gate.check(base, new, limits, speed=arguments.speed,
                        exact=arguments.exact, complete=arguments.complete)
    _print(arguments, gate_formats.FORMATS, result, gate_formats.counts(result))
    return result.code


def _print(arguments: argparse.Namespace, printers: dict, found: object, counts: dict) -> None:
    """Write the files asked for; print in the format asked for, or text and one line of JSON."""
    from irbench.core.files import write_atomic
    from irbench.present import plain

    files, asked = arguments.output, arguments.format
    formats = {}
    for path in files:                  # all are known before the first is written
        if path.is_dir():
            raise UserError(f"--output {path}: this is a folder; name a file.")
        name = SUFFIXES.get(path.suffix.lower())
        if asked and (name is None or (len(files) == 1 and asked != "github")):
            name = asked
        if name is None:
            raise UserError(f"--output {path}: what format? Give --format, or a name that ends in "
                            f"{', '.join(SUFFIXES)}.")
        formats[path] = name
    for path, name in formats.items():
        try:
            write_atomic(path, printers[name](found).rstrip("\n") + "\n")
        except OSError as error:
            raise UserError(f"--output {path}: not written: {error.strerror}.") from None
    # annotations are read from stdout, wherever the files go
    name = asked if asked and (not files or asked == "github") else "text"
    text = printers[name](found)
    if name == "json":
        text = plain.compact(_plain(text))
    try:
        print(text)
        if name == "text":
            print(plain.compact(counts))
        sys.stdout.flush()
    except BrokenPipeError:     # | head: no one to tell, but the exit code stays what it is
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _plain(text: str) -> object:
    import json

    return json.loads(text)


def _baseline(arguments: argparse.Namespace) -> int:
    from irbench.compare import baseline, runs
    from irbench.compare.formats import filled
    from irbench.present import plain
    from irbench.present.table import Column, Table

    if arguments.what == "write":
        try:
            content = baseline.write(arguments.output, runs.load(arguments.run),
                                     partial=arguments.partial)
        except OSError as error:
            raise UserError(f"--output {arguments.output}: not written: "
                            f"{error.strerror}.") from None
        for key, reason in content["left_out"].items():
            print(f"left out: {key}: {reason}", file=sys.stderr)
        print(plain.compact({
            "baseline": str(arguments.output), "cells": len(content["cells"]),
            "profiles": len(content["profiles"]), "left_out": len(content["left_out"])}))
        return 0
    run = runs.load(arguments.file)
    print(plain.about(run))
    print()
    print(plain.to_text(filled(Table("cells", "Cells", [Column("cell", left=True)], [
        Column("images"), *map(Column, map(plain.metric, plain.METRICS)),
        Column("weights", left=True)]), [
        [key, str(len(cell.images)), *(plain.score(m, cell.means.get(m)) for m in plain.METRICS),
         (cell.inputs.get("weights") or "none") if cell.status == "ok" else cell.status]
        for key, cell in run.cells.items()])))
    if run.profiles:
        print()
        print(plain.to_text(filled(Table("profiles", "Profiles", [Column("profile", left=True)], [
            Column("parameters"), Column("MACs"), Column("device", left=True)]), [
            [key, *(plain.NA if value is None else f"{value:,}"
                    for value in (one.parameters, one.macs)),
             str(one.condition.get("device") or plain.NA)] for key, one in run.profiles.items()])))
    print(plain.compact({"cells": len(run.cells), "profiles": len(run.profiles),
                          "baseline": run.baseline}))
    return 0
