"""``irbench train``: one training, in one process or several.

Try: ``irbench train --protocol sr-x2 --model compacter --max-minutes 10``
"""

from __future__ import annotations

import argparse
import sys


def add_options(sub: argparse.ArgumentParser, positive) -> None:
    """Add the verb's own options."""
    sub.add_argument("--max-minutes", type=_minutes, default=0, metavar="M",
                     help="stop cleanly after so much wall time (0, the default: no limit), with "
                          "exit code 3; the same command goes on")
    sub.add_argument("--processes", type=positive, default=1, metavar="N",
                     help="share each batch among N processes of this machine: one a GPU, or on "
                          "the CPU. Across machines: torchrun -m irbench train ...")
    sub.add_argument("--tensorboard", action="store_true",
                     help="also write TensorBoard's files (needs the package tensorboard)")


def _minutes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of minutes from 0 on")
    return value


def run(arguments, run_job, device_of) -> int:
    """Do the training; ``run_job`` and ``device_of`` are the command line's own."""
    from irbench import plan
    from irbench.core import messages
    from irbench.core.errors import Paused, UserError
    from irbench.jobs.training import loop, processes

    if processes.rank():
        messages.mute()
    run = plan.load(arguments.config)
    job = run.find("training", protocol=arguments.protocol, model=arguments.model)

    def train() -> dict | None:
        return loop.run(run, job, device=device_of(arguments, run), threads=arguments.threads,
                        max_minutes=arguments.max_minutes or None,
                        tensorboard=arguments.tensorboard)

    recorded = arguments.on_failure == "record"
    if processes.rank():  # the first process reports, and records what goes wrong
        try:
            train()
        except Paused:
            return 0 if recorded else 3
        except UserError as error:
            print(f"irbench: process {processes.rank()}: {error}", file=sys.stderr)
            return 0 if recorded else 2
        return 0
    several = arguments.processes > 1 and not processes.started()
    if several and (arguments.supervised or not recorded):
        return processes.launch([sys.executable, "-m", "irbench", *arguments.argv],
                                arguments.processes, arguments.threads)
    return run_job(arguments, job, train)
