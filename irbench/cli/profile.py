"""``irbench profile``: the cost of one model under a protocol.

Reads   the config. Writes the profile's record.

Try: ``irbench profile --protocol sr-x2 --model compacter``
     ``irbench profile --protocol sr-x2 --model compacter --device cuda --wait-quiet``
"""

from __future__ import annotations

import argparse

from irbench.cli import common, work

NAME = "profile"
HELP = "measure parameters, MACs, latency, memory"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    common.add_run(parser)
    common.add_protocol(parser)
    common.add_model(parser)
    common.add_wait_quiet(parser)
    common.add_job(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measure the model; return the exit code."""
    planned = common.load_plan(arguments)
    job = planned.find("profile", protocol=arguments.protocol, model=arguments.model)
    return work.run_job(arguments, planned, job, common.settings(arguments, planned))
