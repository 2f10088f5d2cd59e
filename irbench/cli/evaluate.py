"""``irbench eval``: one cell, a model on a dataset under a protocol; from a config, or without one.

Several sets of a run are evaluated one after another in one process, each with its own record.
With ``--part`` a process evaluates a part of the images; the command without it goes on there.

Reads   the config, the set and the weights. Writes the cell's record, and images if requested. A
        cell without a config, and one of a part of its set, is printed and not stored in a run.

Try: ``irbench eval --protocol sr-x2 --dataset photos --model bicubic --limit 2``
     ``irbench eval --protocol sr-x2 --dataset set5 --model my_model.py:Net --weights w.pth``
"""

from __future__ import annotations

import argparse
import contextlib
import json
from pathlib import Path

from irbench.api.evaluation import Evaluation, evaluate
from irbench.cli import alone, common, output, work
from irbench.core import files, messages, records
from irbench.core.errors import UserError
from irbench.jobs import outcome, parts
from irbench.jobs import run as jobs
from irbench.jobs.cells import reuse
from irbench.jobs.cells.parts import Part
from irbench.jobs.result import record_of
from irbench.plan import Job, Plan

NAME = "eval"
HELP = "evaluate one cell: model, dataset, protocol"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    common.add_run(parser, word=True)
    alone.add_no_config(parser)
    common.add_protocol(parser)
    parser.add_argument("--dataset", required=True, nargs="+", metavar="NAME",
                        help="a name (irbench data list); several, if a config names the model")
    parser.add_argument("--model", required=True, help="a name under `models` in the config; "
                        "without a config a name (irbench list models), FILE.py:NAME, or a file of "
                        f"weights; with a file {common.CONFIG} is not read")
    parser.add_argument("--limit", type=common.positive, metavar="N",
                        help="a quick look: only the first N images of the set; the result is "
                             "marked, and stored in no run")
    output.add_file(parser, "--output", "also write the record to this JSON file (with --limit or "
                    "without a config)", (".json",), content=output.json_or_record)
    parser.add_argument("--part", type=_part_named, metavar="K/N",
                        help="evaluate only part K of N of the images, and keep their scores in "
                             "the run; afterwards the same command without --part writes the "
                             "cell's record, and evaluates what the parts have not")
    parser.add_argument("--keep-images", action="store_true",
                        help="keep the restored images in the run")
    group = alone.add_options(parser, "weights for a name or FILE.py:NAME")
    group.add_argument("--metrics", nargs="+", metavar="NAME", help="default: those of a run")
    common.add_job(parser, several=True)


def _part_named(text: str) -> Part:
    try:
        return Part.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def run(arguments: argparse.Namespace) -> int:
    """Evaluate the cell; return the exit code."""
    without = alone.wanted(arguments)
    if arguments.part and (without or arguments.limit):
        raise UserError("--part needs a run to write to: it goes with a config, and without "
                        "--limit.")
    if not without and not arguments.limit:
        if arguments.output:
            raise UserError("--output goes with --limit, or without a config. The record of a cell "
                            "of a run is in the run's folder.")
        planned = common.load_plan(arguments)
        cells = [_cell(planned, arguments, name) for name in dict.fromkeys(arguments.dataset)]
        return work.run_jobs(arguments, planned, cells, common.settings(
            arguments, planned, keep_images=arguments.keep_images, part=arguments.part,
            load=reuse.LastNetwork()), do=parts.do if arguments.part else None)
    if arguments.keep_images or arguments.on_failure == "record":
        given = "--keep-images" if arguments.keep_images else "--on-failure record"
        raise UserError(f"{given} needs a run to write to: it goes with a config, and without "
                        "--limit.")
    if len(arguments.dataset) > 1 or len(arguments.log) > 1:
        raise UserError("several sets need a run to write to: they go with a config, and without "
                        "--limit. Give one --dataset, and one --log.")
    messages.log_to(arguments.log[0] if arguments.log else None)
    found = _alone(arguments) if without else _part(arguments)
    record = found.record
    data = record["spec"]["dataset"]
    messages.say(f"{found}, the set's SHA-256 begins with {str(data['sha256'])[:12]}")
    if arguments.output:
        _write(arguments.output, record)
    print(json.dumps({
        "record": str(arguments.output) if arguments.output else None, "status": record["status"],
        "reason": record["reason"], **record["key"], "mean": found.mean,
        "device": record["result"].get("device"),
        "count": len(record["result"]["images"]), "complete": found.complete,
        "dataset_sha256": data["sha256"]}))
    return 0


def _cell(planned: Plan, arguments: argparse.Namespace, dataset: str) -> Job:
    try:
        return planned.find("cell", protocol=arguments.protocol, dataset=dataset,
                            model=arguments.model)
    except UserError as error:
        raise UserError(f"{error} To evaluate without the config, give --no-config.") from None


def _alone(arguments: argparse.Namespace) -> Evaluation:
    try:
        return evaluate(arguments.model, arguments.dataset[0], arguments.protocol, arguments.limit,
                        arguments.device or "auto", metrics=arguments.metrics,
                        weights=arguments.weights, options=common.options_of(arguments.options),
                        threads=arguments.threads,
                        catalog_paths=tuple(arguments.catalog),
                        data_root=arguments.data_root or "data")
    except UserError as error:
        raise alone.explained(arguments, error) from None


def _part(arguments: argparse.Namespace) -> Evaluation:
    """Evaluate a part of the set of a run's cell; nothing of the run is changed."""
    planned = common.load_plan(arguments)
    job = _cell(planned, arguments, arguments.dataset[0])
    found = jobs.compute(planned, job, common.settings(arguments, planned, limit=arguments.limit))
    return Evaluation(record_of(job, found), complete=found.spec is None)


def _write(path: Path, record: dict) -> None:
    """Write the record; say if the file holds one of the same cell with another set."""
    with contextlib.suppress(UserError):
        if changed := outcome.of_another_set(records.read(path), record):
            messages.say(changed)
    output.write_file("--output", path, files.json_text(record))
