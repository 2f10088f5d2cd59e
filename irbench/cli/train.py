"""``irbench train``: one training, in one process or several.

Reads   the config and the training's sets. Writes what ``irbench.jobs.training.loop`` does.

Try: ``irbench train --protocol sr-x2 --model compacter --max-minutes 10``
     ``irbench train --protocol sr-x2 --model compacter --processes 2``
"""

from __future__ import annotations

import argparse
import sys

from irbench.cli import common, work
from irbench.core import messages
from irbench.core.errors import Paused, UserError
from irbench.inference import devices
from irbench.jobs import run as jobs
from irbench.jobs import supervise
from irbench.jobs.result import RunSettings
from irbench.jobs.training import processes
from irbench.plan import Job, Plan

NAME = "train"
HELP = "train one model for one protocol"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    common.add_run(parser, word=True)
    common.add_protocol(parser)
    common.add_model(parser)
    parser.add_argument("--max-minutes", type=common.minutes, default=0, metavar="M",
                        help="stop cleanly after this wall time (0, the default: no limit), "
                             "with exit code 3; the same command continues")
    parser.add_argument("--processes", type=common.workers, default=1, metavar="N",
                        help="share each batch among N processes of this machine: one per GPU, or "
                             "on the CPU. Across machines: torchrun -m irbench train ...")
    parser.add_argument("--tensorboard", action="store_true",
                        help="also write TensorBoard's files (needs the package tensorboard)")
    parser.add_argument("--graph", action="store_true",
                        help="replay the network as a CUDA graph: faster for small networks "
                             "(one NVIDIA GPU, float32)")
    common.add_job(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the training, or one process's part of it; return the exit code."""
    if processes.rank():
        messages.mute()
    planned = common.load_plan(arguments)
    job = planned.find("training", protocol=arguments.protocol, model=arguments.model)
    how = common.settings(arguments, planned, max_minutes=arguments.max_minutes or None,
                          tensorboard=arguments.tensorboard, graph=arguments.graph)
    recorded = arguments.on_failure == "record"
    if processes.rank():  # the first process reports and records errors
        try:
            jobs.compute(planned, work.settled(arguments, planned, job), how)
        except Paused:
            return 0 if recorded else 3
        except UserError as error:
            print(f"irbench: process {processes.rank()}: {error}", file=sys.stderr)
            return 0 if recorded else 2
        return 0
    if arguments.processes > 1 and devices.number_of(how.device) is not None:
        raise UserError(f"--device {how.device} is one GPU, but --processes {arguments.processes} "
                        "gives each process its own. Give --device cuda, and choose GPUs with "
                        "CUDA_VISIBLE_DEVICES.")
    several = arguments.processes > 1 and not processes.started()
    return work.run_job(arguments, planned, job, how, _launch(arguments) if several else None)


def _launch(arguments: argparse.Namespace) -> common.Do:
    """Return what runs a training in several processes; this one holds the lock of its record."""
    def do(plan: Plan, job: Job, how: RunSettings, on_failure: str) -> dict | None:
        with jobs.alone(plan, job, wait=on_failure == "record") as done:
            if done:
                return done
            jobs.take_gpus(job, how.device, arguments.processes, wait=on_failure == "record")
            code = processes.launch([sys.executable, "-m", "irbench", *arguments.argv,
                                     "--supervised"], arguments.processes, arguments.threads)
        if on_failure == "record" and code in (0, supervise.AGAIN):
            return plan.run_folder.load(job.kind, job.key).record
        if code:
            raise SystemExit(code)
        return None     # the first of the processes has printed it

    return do
