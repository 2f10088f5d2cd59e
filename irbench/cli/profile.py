"""``irbench profile``: the cost of a model under a protocol.

The workflow measures several one after another, each in a process of its own.

Reads   the config. Writes the profiles' records; a profile without a config is printed only.

Try: ``irbench profile --protocol sr-x2 --model compacter``
     ``irbench profile --protocol sr-x2 --model my_model.py:Net --height 256 --width 256``
"""

from __future__ import annotations

import argparse
import json

from irbench.api.profiling import profile
from irbench.cli import alone, common, work
from irbench.core import messages
from irbench.core.errors import UserError
from irbench.jobs import outcome
from irbench.plan import config as configs

NAME = "profile"
HELP = "measure parameters, MACs, latency, memory"
THREADS = ("those of the record that is replaced, else of most other profiles of the run on this "
           "kind of machine, else all cores, as in the workflow")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    common.add_run(parser, word=True)
    alone.add_no_config(parser)
    parser.add_argument("--protocol", required=True, nargs="+", metavar="PROTOCOL",
                        help="e.g. sr-x2, or sr-x2@1; one for all models, or one for each")
    parser.add_argument("--model", required=True, nargs="+", metavar="MODEL",
                        help="a name under `models` in the config; without a config a name "
                        "(irbench list models), FILE.py:NAME, or a file of weights")
    common.add_wait_quiet(parser)
    group = alone.add_options(parser, "weights for a name or FILE.py:NAME; cost does not depend on "
                              "them")
    size = configs.section("profile")
    for name in ("height", "width"):
        group.add_argument(f"--{name}", type=common.positive, metavar="PIXELS",
                           help=f"of the input (default: {size[name]}); in a config: `profile`")
    common.add_job(parser, several=True, threads=THREADS)


def run(arguments: argparse.Namespace) -> int:
    """Measure the models; return the exit code."""
    models, protocols = arguments.model, arguments.protocol
    if len(protocols) not in (1, len(models)):
        raise UserError(f"--protocol names {len(protocols)} protocols, --model {len(models)} "
                        "models. Give one protocol for all models, or one for each.")
    if alone.wanted(arguments):
        return _alone(arguments)
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


def _alone(arguments: argparse.Namespace) -> int:
    """Measure one model without a config; return the exit code."""
    if arguments.on_failure == "record" or max(len(arguments.model), len(arguments.log)) > 1:
        raise UserError("--on-failure record and several models or logs need a run to write to: "
                        "they go with a config.")
    messages.log_to(arguments.log[0] if arguments.log else None)
    try:
        found = profile(
            arguments.model[0], arguments.protocol[0], arguments.device or "auto",
            weights=arguments.weights, options=common.options_of(arguments.options),
            height=arguments.height, width=arguments.width, threads=arguments.threads,
            wait_quiet=arguments.wait_quiet or 0, data_root=arguments.data_root or "data",
            catalog_paths=tuple(arguments.catalog))
    except UserError as error:
        raise alone.explained(arguments, error) from None
    messages.say(str(found))
    record = found.record
    print(json.dumps({"record": None, "status": record["status"], "reason": record["reason"],
                      **record["key"], **outcome.summary(record)}))
    return 0
