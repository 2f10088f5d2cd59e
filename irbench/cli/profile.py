"""``irbench profile``: the cost of a model under a protocol.

The workflow measures several one after another, each in a process of its own.

Reads   the config. Writes the profiles' records.

Try: ``irbench profile --protocol sr-x2 --model compacter``
     ``irbench profile --protocol sr-x2 --model compacter --device cuda --wait-quiet``
"""

from __future__ import annotations

import argparse

from irbench.cli import common, work
from irbench.core.errors import UserError

NAME = "profile"
HELP = "measure parameters, MACs, latency, memory"
THREADS = ("those of the record that is replaced, else of most other profiles of the run on this "
           "kind of machine, else all cores, as in the workflow")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    common.add_run(parser, word=True)
    parser.add_argument("--protocol", required=True, nargs="+", metavar="PROTOCOL",
                        help="e.g. sr-x2, or sr-x2@1; one for all models, or one for each")
    parser.add_argument("--model", required=True, nargs="+", metavar="MODEL",
                        help="a name under `models` in the config")
    common.add_wait_quiet(parser)
    common.add_job(parser, several=True, threads=THREADS)


def run(arguments: argparse.Namespace) -> int:
    """Measure the models; return the exit code."""
    models, protocols = arguments.model, arguments.protocol
    if len(protocols) not in (1, len(models)):
        raise UserError(f"--protocol names {len(protocols)} protocols, --model {len(models)} "
                        "models. Give one protocol for all models, or one for each.")
    if len(models) > 1 and arguments.on_failure != "record":
        raise UserError("several models go with --on-failure record, which measures each in a "
                        "process of its own: what was done before would change the memory.")
    planned = common.load_plan(arguments)
    if len(protocols) == 1:
        protocols = protocols * len(models)
    jobs = [planned.find("profile", protocol=protocol, model=model)
            for protocol, model in zip(protocols, models, strict=True)]
    jobs = list({job.record: job for job in jobs}.values())     # models may share a profile
    return work.run_jobs(arguments, planned, jobs, common.settings(arguments, planned),
                         work.measured(arguments.threads))
