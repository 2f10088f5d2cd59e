"""Run any job of a plan: choose the device, turn errors into a status, write the record.

Reads   what the job reads.
Writes  the job's record; kinds write more (see their modules).

The workflow runs each job that computes in a separate process (``supervise``), so that a crashed or
killed job affects only its own record. A job holds the lock of its record while it runs, ends with
its run (``irbench.jobs.life``), and writes only what the run's plan still asks for.

Try: ``python -c "from irbench import plan; from irbench.jobs import run
planned = plan.load('config.yaml')
print(run.do(planned, next(iter(planned.cells.values())))['result']['mean'])"``
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from irbench.core import files, locks, messages
from irbench.core.errors import Superseded, UserError
from irbench.core.run_folder import lock_of
from irbench.inference import allocator, devices
from irbench.jobs import bench, data, evaluate, leaks, life, outcome, profile, training, verify
from irbench.jobs.result import Result, RunSettings, expected, failure, record_of, write
from irbench.plan import Job, Plan
from irbench.plan import file as plan_file

LET_GO = 15.0   # seconds that a command by hand waits for another process that does the same job
REMIND = 60.0   # seconds between two messages that a job of a run waits


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
        Superseded: the run's plan changed meanwhile and asks for something else; nothing is
            written.
        UserError: of the job, with ``stop``; also if another process is doing the job. With
            ``record`` this one waits for it. Any other error is a bug of irbench or a model.
    """
    with _alone(plan, job, wait=on_failure == "record") as done:
        return done or _do(plan, job, settings, on_failure, attempt)


def _do(plan: Plan, job: Job, settings: RunSettings | None, on_failure: str,
        attempt: int) -> dict | None:
    allocator.keep()
    messages.say(f"{job.title}: started")
    try:
        found = compute(plan, job, settings, continues=True)
        if found is None:
            return None
        record = record_of(job, found, attempt)
    except (KeyboardInterrupt, GeneratorExit, Superseded):
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
    plan.check_asked(job)
    write(job, record)
    if record["status"] == "ok":
        messages.say(f"{job.title}: {outcome.with_time(record)}: {job.record}")
    return record


@contextlib.contextmanager
def _alone(plan: Plan, job: Job, wait: bool) -> Iterator[dict | None]:
    """Hold the lock of a job; yields its record if another process has done the job meanwhile."""
    lock, said = lock_of(job.record), [0]

    def waiting(seconds: float) -> None:
        if not wait and seconds > LET_GO:
            raise UserError(f"{job.title}: another process runs it ({lock}). Wait for that "
                            "process, or end it first.")
        if wait and seconds >= REMIND * said[0]:
            said[0] += 1
            messages.say(f"{job.title}: waiting for another process that does it ({lock})")

    with locks.hold(lock, waiting) as waited:
        yield _done(plan, plan_file.settled(plan, job)) if waited else None


def _done(plan: Plan, job: Job) -> dict | None:
    """Return the record of a job if it is current."""
    known = verify.Records(plan)
    return None if known.problem(job) else known.stored(job).record


def compute(plan: Plan, job: Job, settings: RunSettings | None = None, *,
            continues: bool = False) -> Result | None:
    """Run a job and return the result, without making a record or catching errors.

    ``continues``: see ``RunSettings``; for callers that store the record.
    """
    kind = KINDS[job.kind]
    settings = settings or RunSettings(
        device=plan.config["device"], progress=True, wait_quiet=plan.config.get("wait_quiet", 0))
    settings = dataclasses.replace(settings, continues=continues)
    if kind.computes:
        settings = dataclasses.replace(settings, device=pick_device(settings.device))
    return kind.run(plan, job, settings)


def pick_device(name: str) -> str:
    """Return ``cpu``, ``cuda`` or ``mps`` for a requested device, and print the reason.

    A CUDA device with a number becomes the current one of the process.

    Raises:
        UserError: an unknown name, or a device that is not there.
    """
    device, reason = devices.pick_device(name)
    messages.say(f"device {name if devices.number_of(name) is not None else device}: {reason}")
    if (number := devices.number_of(name)) is not None:
        import torch

        torch.cuda.set_device(number)
    return device


def supervise(plan: Plan, job: Job, command: list[str], *, attempt: int = 0,
              log: str | None = None) -> tuple[int, dict | None]:
    """Run the command of a job in a separate process, which writes the job's record.

    If the process crashes or is killed (for example for lack of memory), this function writes the
    record. Signals reach the job: a training then saves its state.

    Args:
        plan: the run.
        job: the job that the command runs.
        command: the program and its arguments. It must run the job itself, not call this again.
        attempt: how often an earlier attempt had failed.
        log: the file with the command's messages; the reason of a failure names it.

    Returns:
        (0, None) if the command wrote a record, or none is wanted, because the run has ended or
        asks for something else; (130, None) if Ctrl-C ended it; otherwise 0 and the record that was
        written for it, or by another process that did the same job.
    """
    with _alone(plan, job, wait=True) as done:
        return (0, done) if done else _supervise(plan, job, command, attempt, log)


def _supervise(plan: Plan, job: Job, command: list[str], attempt: int,
               log: str | None) -> tuple[int, dict | None]:
    files.set_folder_aside(job.record)
    job.record.unlink(missing_ok=True)
    lock, kept_open = locks.passed_on()
    process = subprocess.Popen(command, env={**os.environ, **lock, **life.environment()},
                               pass_fds=kept_open)
    code = life.wait(process)
    if code == 130 or (code == 0 and job.record.exists()):
        return code, None
    ended = (f"was ended by signal {-code}{' (out of memory?)' if code == -9 else ''}"
             if code < 0 else f"ended with exit code {code}")
    reason = f"the process {ended} and left no result; see {log or 'its messages'}"
    messages.say(f"{job.title}: failed: {reason}")
    if life.ended() or not plan.asks_for(job):
        return 0, None      # nobody waits for a record; the next run does the job
    record = record_of(job, Result(status="failed", reason=reason), attempt)
    write(job, record)
    return 0, record
