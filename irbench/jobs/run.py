"""Run any job of a plan: choose the device, turn errors into a status, write the record.

Reads   what the job reads.
Writes  the job's record; kinds write more (see their modules).

The workflow runs jobs that compute in a separate process (``irbench.jobs.supervise``), so that a
crashed or killed job affects only its own record. A job holds the lock of its record while it runs,
ends with its run (``irbench.jobs.life``), and writes only what the run's plan still asks for.

Try: ``python -c "from irbench import plan; from irbench.jobs import run
planned = plan.load('config.yaml')
print(run.do(planned, next(iter(planned.cells.values())))['result']['mean'])"``
"""

from __future__ import annotations

import contextlib
import dataclasses
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from irbench.core import locks, messages, records
from irbench.core.errors import Paused, Superseded, UserError
from irbench.core.run_folder import RunFolder, lock_of, part_locks_of
from irbench.inference import allocator, devices, gpus
from irbench.jobs import bench, data, evaluate, leaks, outcome, profile, training, verify
from irbench.jobs.result import (
    Result,
    RunSettings,
    expected,
    failure,
    forget_partials,
    record_of,
    with_plugin_files,
    write,
)
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
        apart: of a kind whose result depends on what its process did before: imports what its
            processes have in common (``supervise``). Of other kinds several share a process.
    """

    run: Callable[[Plan, Job, RunSettings], Result | None]
    computes: bool = True
    apart: Callable[[], None] | None = None


KINDS = {
    "data": Kind(data.run, computes=False),
    "training": Kind(training.run),
    "cell": Kind(evaluate.run),
    "profile": Kind(profile.run, apart=profile.load),
    "bench": Kind(bench.run),
    "leaks": Kind(leaks.run, computes=False),
}


def do(plan: Plan, job: Job, settings: RunSettings | None = None, *,
       on_failure: str = "stop") -> dict | None:
    """Run a job in this process, write its record and return it.

    Args:
        plan: the run.
        job: one of its jobs.
        settings: how to run it; None for the config's device and one thread.
        on_failure: ``stop`` raises the error and writes nothing; ``record``, as the workflow asks
            for, writes a record with status and reason, and does nothing if the record is current
            by now, because another process has done the job.

    Returns:
        The record; None if another process of the same training writes it.

    Raises:
        Superseded: the run's plan changed meanwhile and asks for something else; nothing is
            written.
        UserError: of the job, with ``stop``; also if another process is doing the job. With
            ``record`` this one waits for it. Any other error is a bug of irbench or a model.
    """
    with alone(plan, job, wait=on_failure == "record") as done:
        if done:
            forget_partials(job)    # of a part that began after the record was stored
        return done or _do(plan, job, settings, on_failure)


def _do(plan: Plan, job: Job, settings: RunSettings | None, on_failure: str) -> dict | None:
    allocator.keep()
    attempt = records.next_attempt(job.record, job.spec) if on_failure == "record" else 0
    if settings and on_failure == "record":
        settings = dataclasses.replace(settings, keep_state=True)
    messages.say(f"{job.title}: started")
    earlier = _stored(job)
    try:
        if KINDS[job.kind].computes and settings is not None:
            take_gpus(job, settings.device, wait=on_failure == "record")
        found = compute(plan, job, settings, continues=True)
        if found is None:
            return None
        record = record_of(job, found, attempt)
    except (KeyboardInterrupt, GeneratorExit, Superseded):
        raise
    except BaseException as error:  # sys.exit in a model's code, too: it must not pass for success
        found = failure(error)
        if on_failure == "stop":
            stop(error, found)
        if isinstance(error, Paused) and has_result(job):
            raise       # an interruption never takes the place of a result
        if not expected(error):  # a bug of irbench or a model costs one cell, not the run
            messages.say(traceback.format_exc())
        found = dataclasses.replace(found, reason=found.reason.removeprefix(f"{job.title}: "))
        record = record_of(job, found, attempt)
        messages.say(f"{job.title}: {found.status}: {found.reason}")
    plan.check_asked(job)
    if earlier and (changed := outcome.of_another_set(earlier, record)):
        messages.say(changed)
    write(job, record)
    if record["status"] == "ok":
        messages.say(f"{job.title}: {outcome.with_time(record)}: {job.record}")
    return record


def stop(error: BaseException, found: Result) -> NoReturn:
    """Raise the error of a job, whose result is ``found``; what people can mend as UserError."""
    if not isinstance(error, Exception) or (
            expected(error) and not isinstance(error, UserError)):
        raise UserError(found.reason) from error
    raise error


@contextlib.contextmanager
def alone(plan: Plan, job: Job, wait: bool) -> Iterator[dict | None]:
    """Hold the lock of a job; yields its record if another process has done the job meanwhile.

    Args:
        plan: the run.
        job: the job.
        wait: whether to wait for another process that does it, and to look at the record in any
            case. Otherwise UserError is raised after ``LET_GO`` seconds.
    """
    lock = lock_of(job.record)
    with locks.hold(lock, waiting(job.title, lock, wait)) as waited:
        for part in part_locks_of(job.record) if job.kind == "cell" else ():
            # its images are taken over, and it must not write pictures afterwards
            with locks.hold(part, waiting(f"{job.title}: a part of it", part, wait)):
                pass
        yield is_done(plan, plan_file.settled(plan, job)) if wait or waited else None


def waiting(title: str, lock: Path, wait: bool) -> Callable[[float], None]:
    """Return what is called while another process holds the lock of a job; see ``locks.hold``.

    With ``wait`` it says so now and then; without, it raises UserError after ``LET_GO`` seconds.
    """
    said = [0]

    def still(seconds: float) -> None:
        if not wait and seconds > LET_GO:
            raise UserError(f"{title}: another process runs it ({lock}). Wait for that "
                            "process, or end it first.")
        if wait and seconds >= REMIND * said[0]:
            said[0] += 1
            messages.say(f"{title}: waiting for another process that does it ({lock})")

    return still


def is_done(plan: Plan, job: Job) -> dict | None:
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
    found = kind.run(plan, job, settings)
    return found and with_plugin_files(found, plan, job)


def take_gpus(job: Job, device: str, count: int = 1, *, wait: bool) -> None:
    """Take free GPUs for a job, if it may use CUDA; a numbered device is the user's own choice.

    With ``wait`` it waits for GPUs that other jobs use; without, it goes on and shares them.
    """
    if device not in ("auto", "cuda"):
        return
    said = [0]

    def waiting(seconds: float) -> None:
        if seconds >= REMIND * said[0]:
            said[0] += 1
            messages.say(f"{job.title}: waiting for a free GPU")

    if taken := gpus.claim(count, waiting if wait else None):
        messages.say(f"{job.title}: has {', '.join(taken)}")


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



def has_result(job: Job) -> bool:
    """Return whether the record of a job holds a result, perhaps one of older inputs."""
    return (_stored(job) or {}).get("status") == "ok"


def _stored(job: Job) -> dict | None:
    """Return the record that is stored for a job, None if it cannot be used."""
    return RunFolder.of_record(job.record, job.kind).load(job.kind, job.key).record
