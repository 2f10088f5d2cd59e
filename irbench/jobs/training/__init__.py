"""A training: its data, losses, loop and state. ``run`` is the entry point.

Try: ``irbench train --protocol sr-x2 --model compacter``
"""

from __future__ import annotations

from irbench.core import digests, run_folder
from irbench.core.run_folder import RunFolder
from irbench.jobs.result import USUAL, Result, RunSettings
from irbench.plan import Job, Plan


def run(plan: Plan, job: Job, settings: RunSettings = USUAL) -> Result | None:
    """Train a model; see ``irbench.jobs.training.loop.run``. Returns None except in process 0."""
    from irbench.jobs.training import loop  # imports torch

    return loop.run(plan, job, device=settings.device, threads=settings.threads,
                    max_minutes=settings.max_minutes, tensorboard=settings.tensorboard,
                    compile=settings.compile, channels_last=settings.channels_last,
                    graph=settings.graph, keep_state=settings.keep_state)


def forget(folder: RunFolder, record: dict) -> None:
    """Remove the saved state of a finished training, once its record has been seen.

    Until then the record may get lost, for example when a scheduler counts the job as failed; the
    same command then writes it again, without training.
    """
    state = folder.beside(record["key"], run_folder.STATE)
    run_folder.aside(state, digests.fingerprint(record["spec"])).unlink(missing_ok=True)
