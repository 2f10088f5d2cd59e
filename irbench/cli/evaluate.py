"""``irbench eval``: one cell, a model on a dataset under a protocol.

Reads   the config, the set and the weights. Writes the cell's record, and images if requested.

Try: ``irbench eval --protocol sr-x2 --dataset photos --model bicubic``
     ``irbench eval --protocol sr-x2 --dataset photos --model bicubic --keep-images``
"""

from __future__ import annotations

import argparse

from irbench.cli import common

NAME = "eval"
HELP = "evaluate one cell: model, dataset, protocol"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    common.add_run(parser)
    common.add_protocol(parser)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--keep-images", action="store_true", help="keep restored images")
    common.add_model(parser)
    common.add_job(parser)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate the cell; return the exit code."""
    planned = common.load_plan(arguments)
    job = planned.find("cell", protocol=arguments.protocol, dataset=arguments.dataset,
                       model=arguments.model)
    return common.run_job(arguments, planned, job, common.settings(
        arguments, planned, keep_images=arguments.keep_images))
