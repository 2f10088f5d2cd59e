"""``irbench bench``: time and memory of parts of models, without the rest of the model.

``irbench bench attention`` measures the attention implementations. Sizes come from the command line
(defaults: those of ``attention_bench`` in catalog/config.schema.json), or from a config. With a
config the command writes the same record as the workflow (RUN/benches/attention.json).

Try: ``irbench bench attention --n 64 --k 16 32 --samples 3``
     ``irbench bench attention --config workflow/configs/benchmark.yaml``
"""

from __future__ import annotations

import argparse
import json

from irbench.cli import common, work
from irbench.core import messages
from irbench.core.errors import UserError
from irbench.inference import allocator
from irbench.jobs import bench
from irbench.jobs import run as jobs
from irbench.jobs.result import RunSettings
from irbench.plan import config as configs

NAME = "bench"
HELP = "measure time and memory of the attention implementations"
SECTION = "attention_bench"
THREADS = ("1; with --config those of the record that is replaced, else of the run's profiles, "
           "else all cores, as in the workflow")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("what", choices=["attention"])
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--config", help="take all sizes from `attention_bench` of this config, "
                       "and write the record of its run")
    common.add_plan(group)
    usual = configs.section(SECTION)
    choices = configs.choices(SECTION)
    for name, text in (("n", "tokens per window"), ("k", "keys per token")):
        parser.add_argument(f"--{name}", type=common.positive, nargs="+", metavar=name.upper(),
                            help=f"{text}, default: {' '.join(map(str, usual[name]))}")
    for name in ("windows", "heads", "head_dim", "warmup", "samples"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=common.positive,
                            help=f"default: {usual[name]}")
    parser.add_argument("--dtype", choices=choices["dtype"], help=f"default: {usual['dtype']}")
    parser.add_argument("--implementations", nargs="+", choices=choices["implementations"],
                        metavar="NAME", help="in addition to dense attention, default: "
                        f"{' '.join(usual['implementations'])}")
    common.add_wait_quiet(parser)
    common.add_job(parser, threads=THREADS)


def run(arguments: argparse.Namespace) -> int:
    """Measure what the command line or a config asks for; return the exit code."""
    given = {name: value for name in configs.section(SECTION)
             if (value := getattr(arguments, name)) is not None}
    if not (arguments.config or arguments.plan):
        return _by_hand(arguments, configs.section(SECTION, given))
    if given:
        raise UserError(f"bench {arguments.what}: the sizes come from `{SECTION}` of --config. "
                        f"Omit either --config or {_flags(given)}.")
    planned = common.load_plan(arguments)
    if not planned.benches:
        raise UserError(f"{arguments.plan or arguments.config}: no benchmark is configured. "
                        f"Add `{SECTION}: {{}}` to it, or omit --config.")
    job = planned.find("bench", bench=arguments.what)
    return work.run_job(arguments, planned, job, common.settings(arguments, planned),
                        work.measured(arguments.threads))


def _by_hand(arguments: argparse.Namespace, sizes: dict) -> int:
    """Measure without a run: write no record, print the complete result on stdout."""
    if arguments.on_failure == "record":
        raise UserError("bench: --on-failure record needs a run to write to; add --config.")
    allocator.keep()
    messages.log_to(arguments.log)
    how = RunSettings(device=jobs.pick_device(arguments.device or "auto"),
                      threads=arguments.threads or 1, wait_quiet=arguments.wait_quiet or 0)
    print(json.dumps(bench.measure(sizes, how)))
    return 0


def _flags(given: dict) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in given)
