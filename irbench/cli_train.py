"""``irbench train``: one training, in one process or several.

More processes than one are started by accelerate's launcher, which runs the same command in each.

Try: ``irbench train --protocol sr-x2 --model compacter --max-minutes 10``
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys


def add_options(sub: argparse.ArgumentParser, positive) -> None:
    """Add the verb's own options."""
    sub.add_argument("--max-minutes", type=_minutes, metavar="M",
                     help="stop cleanly after so much wall time, with exit code 3; the same "
                          "command goes on")
    sub.add_argument("--processes", type=positive, default=1, metavar="N",
                     help="share each batch among N processes: one a GPU, or on the CPU")
    sub.add_argument("--tensorboard", action="store_true",
                     help="also write TensorBoard's files (needs the package tensorboard)")


def _minutes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of minutes above 0")
    return value


def run(arguments, run_job, device_of) -> int:
    """Do the training; ``run_job`` and ``device_of`` are the command line's own."""
    from irbench import plan
    from irbench.training import loop

    run = plan.load(arguments.config)
    job = run.find("training", protocol=arguments.protocol, model=arguments.model)
    if arguments.processes > 1 and "LOCAL_RANK" not in os.environ:
        return _launch(arguments, device_of(arguments, run))
    return run_job(arguments, job, lambda: loop.run(
        run, job, device=device_of(arguments, run), threads=arguments.threads,
        max_minutes=arguments.max_minutes, tensorboard=arguments.tensorboard))


def _launch(arguments, device: str) -> int:
    """Run this command once in each process; return the exit code."""
    command = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch",
               "--num_processes", str(arguments.processes), "--num_machines", "1",
               "--mixed_precision", "no", "--dynamo_backend", "no",
               "--num_cpu_threads_per_process", str(arguments.threads),
               *(["--cpu"] if device == "cpu" else ["--multi_gpu"]),
               "-m", "irbench", *arguments.argv]
    return subprocess.call(command)
