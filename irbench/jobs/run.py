"""Run any job of a plan: choose the device, turn errors into a status, write the record.

Reads   what the job reads.
Writes  the job's record; kinds write more (see their modules).

The workflow runs each job that computes in a separate process (``supervise``), so that a crashed or
killed job affects only its own record.

Try: ``python -c "from irbench import plan; from irbench.jobs import run
planned = plan.load('config.yaml')
print(run.do(planned, next(iter(planned.cells.values())))['result']['mean'])"``
"""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from irbench.core import messages
from irbench.core.errors import UserError
from irbench.inference import allocator
from irbench.jobs import bench, data, evaluate, leaks, profile, training
from irbench.jobs.result import Result, RunSettings, expected, failure, record_of, write
from irbench.plan import Job, Plan


@dataclass(frozen=True)
class Kind:
    """A kind of job.

    Attributes:
        run: runs a job; returns None in a process whose result another process reports.
        computes: whether it runs networks. Such a job needs a device and may crash or run out of
            memory, so the workflow runs it in a separate process.
    """

    run: Callable[[Plan, Job, RunSettings], Result | None]
    computes: bool = True


KINDS = {
    "data": Kind(data.run, computes=False),
    "training": Kind(training.run),
    "cell": Kind(evaluate.run),
    "profile": Kind(profile.run),
    "bench": Kind(bench.run),
    "leaks": Kind(leaks.run, computes=False),
}


def do(plan: Plan, job: Job, settings: RunSettings | None = None, *, on_failure: str = "stop",
       attempt: int = 0) -> dict | None:
    """Run a job in this process, write its record and return it.

    Args:
        plan: the run.
        job: one of its jobs.
        settings: how to run it; None for the config's device and one thread.
        on_failure: ``stop`` raises the error and writes nothing; ``record`` writes a record
            with status and reason.
        attempt: how often an earlier attempt had failed.

    Returns:
        The record; None if another process of the same training writes it.

    Raises:
        UserError: the job's error, with ``stop``. Any other error is a bug of irbench or a model.
    """
    allocator.keep()
    messages.say(f"{job.title}: started")
    try:
        found = compute(plan, job, settings)
        if found is None:
            return None
        record = record_of(job, found, attempt)
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # sys.exit in a model's code, too: it must not pass for success
        found = failure(error)
        if on_failure == "stop":
            if not isinstance(error, Exception) or (
                    expected(error) and not isinstance(error, UserError)):
                raise UserError(found.reason) from error
            raise
        if not expected(error):  # a bug of irbench or a model costs one cell, not the run
            messages.say(traceback.format_exc())
        record = record_of(job, found, attempt)
        messages.say(f"{job.title}: {found.status}: {found.reason}")
    write(job, record)
    if record["status"] == "ok":
        messages.say(f"{job.title}: done, {job.record}")
    return record


def compute(plan: Plan, job: Job, settings: RunSettings | None = None) -> Result | None:
    """Run a job and return the result, without making a record or catching errors."""
    kind = KINDS[job.kind]
    settings = settings or RunSettings(device=plan.config["device"], progress=True)
    if kind.computes:
        settings = dataclasses.replace(settings, device=pick_device(settings.device))
    return kind.run(plan, job, settings)


def pick_device(name: str) -> str:
    """Return ``cpu`` or ``cuda`` for ``cpu``, ``cuda`` or ``auto``, and print the reason.

    Raises:
        UserError: an unknown name, or ``cuda`` if torch finds no CUDA device.
    """
    from irbench.jobs.profiling import profile as profiling  # imports torch

    device, reason = profiling.pick_device(name)
    messages.say(f"device {device}: {reason}")
    return device


def supervise(job: Job, command: list[str], *, attempt: int = 0,
              log: str | None = None) -> tuple[int, dict | None]:
    """Run the command of a job in a separate process, which writes the job's record.

    If the process crashes or is killed (for example for lack of memory), this function writes the
    record. Signals reach the job: a training then saves its state.

    Args:
        job: the job that the command runs.
        command: the program and its arguments. It must run the job itself, not call this again.
        attempt: how often an earlier attempt had failed.
        log: the file with the command's messages; the reason of a failure names it.

    Returns:
        (0, None) if the command wrote a record, (130, None) if Ctrl-C ended it, otherwise 0 and
        the record that was written for it.
    """
    job.record.unlink(missing_ok=True)
    process = subprocess.Popen(command)
    # Ctrl-C reaches the job directly
    before = {number: signal.signal(number, handler) for number, handler in (
        (signal.SIGTERM, lambda *_: process.terminate()), (signal.SIGINT, signal.SIG_IGN))}
    try:
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if code == 130 or (code == 0 and job.record.exists()):
        return code, None
    ended = (f"was ended by signal {-code}{' (out of memory?)' if code == -9 else ''}"
             if code < 0 else f"ended with exit code {code}")
    reason = f"the process {ended} and left no result; see {log or 'its messages'}"
    messages.say(f"{job.title}: failed: {reason}")
    record = record_of(job, Result(status="failed", reason=reason), attempt)
    write(job, record)
    return 0, record
