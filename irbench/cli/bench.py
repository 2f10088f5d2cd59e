"""The verb ``bench``: time and memory of parts of models, apart from any model.

``irbench bench attention`` measures the attention implementations. Sizes come from the command line
(defaults: those of ``attention_bench`` in catalog/config.schema.json), or from a config, whose run
then gets the record that the workflow would write (RUN/benches/attention.json).

Try: ``irbench bench attention --n 64 --k 16 32 --samples 3``
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable

from irbench.core.errors import UserError
from irbench.plan import config as configs

SECTION = "attention_bench"


def add(verb: Callable[..., argparse.ArgumentParser], job_options: Callable, positive: Callable,
        run: Callable) -> None:
    """Add the verb to the command line.

    Args:
        verb: makes a parser (see ``irbench.cli``).
        job_options: adds the options of a job.
        positive: the type of a whole number of at least 1.
        run: does a job and writes its record.
    """
    sub = verb("bench", lambda arguments: _bench(arguments, run),
               "measure time and memory of the attention implementations", config=False)
    sub.add_argument("what", choices=["attention"])
    sub.add_argument("--config", help="take all sizes from `attention_bench` of this config, and "
                     "write the record of its run")
    usual = configs.section(SECTION)
    choices = configs.choices(SECTION)
    for name, text in (("n", "tokens of a window"), ("k", "keys of a token")):
        sub.add_argument(f"--{name}", type=positive, nargs="+", metavar=name.upper(),
                         help=f"{text}, default: {' '.join(map(str, usual[name]))}")
    for name in ("windows", "heads", "head_dim", "warmup", "samples"):
        sub.add_argument(f"--{name.replace('_', '-')}", type=positive,
                         help=f"default: {usual[name]}")
    sub.add_argument("--dtype", choices=choices["dtype"], help=f"default: {usual['dtype']}")
    sub.add_argument("--implementations", nargs="+", choices=choices["implementations"],
                     metavar="NAME", help="beside dense attention, default: "
                     f"{' '.join(usual['implementations'])}")
    job_options(sub)


def _bench(arguments: argparse.Namespace, run: Callable) -> int:
    given = {name: value for name in configs.section(SECTION)
             if (value := getattr(arguments, name)) is not None}
    if arguments.config is None:
        return _by_hand(arguments, configs.section(SECTION, given))
    if given:
        raise UserError(f"bench {arguments.what}: with --config its `{SECTION}` gives the sizes, "
                        f"so {_flags(given)} cannot be given, too. Leave one out.")
    from irbench import plan

    planned = plan.load(arguments.config)
    if not planned.benches:
        raise UserError(f"config {arguments.config}: it asks for no benchmark. Add "
                        f"`{SECTION}: {{}}` to it, or leave --config out.")
    job = planned.find("bench", bench=arguments.what)
    return run(arguments, job, lambda: _record(arguments, planned, job))


def _record(arguments: argparse.Namespace, planned, job) -> dict:
    from irbench.core import records

    phases = records.Phases()
    with phases("measure"):
        result = _measure(arguments, job.spec["bench"], planned.config["device"])
    return records.make("bench", job.key, job.spec, result=result, seconds=phases.seconds,
                        threads=arguments.threads)


def _by_hand(arguments: argparse.Namespace, settings: dict) -> int:
    """Measure without a run: no record, the whole result on stdout."""
    from irbench.core import messages
    from irbench.inference import allocator

    if arguments.on_failure == "record":
        raise UserError("bench: --on-failure record writes a record of a run; give its --config.")
    allocator.keep()
    messages.log_to(arguments.log)
    print(json.dumps(_measure(arguments, settings, "auto")))
    return 0


def _measure(arguments: argparse.Namespace, settings: dict, device: str) -> dict:
    from irbench.core import messages
    from irbench.jobs.profiling import attention, profile

    device, reason = profile.pick_device(arguments.device or device)
    messages.say(f"device {device}: {reason}")
    result = attention.run(**settings, device=device, threads=arguments.threads)
    print(attention.table(result), file=sys.stderr)
    return result


def _flags(given: dict) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in given)
