"""What every kind of job takes and returns, and how that becomes the job's record.

``run(plan, job, settings) -> Result`` is the shape of every kind (``irbench.jobs.run``). Here alone
records are made; they are written by ``write``.

Try: ``python -c "from irbench.jobs.result import failure; print(failure(OSError('disk full')))"``
"""

from __future__ import annotations

from dataclasses import dataclass, field

from irbench.core import files, records
from irbench.core.errors import Unavailable, UserError
from irbench.core.run_folder import RunFolder
from irbench.plan import Job

DECISIVE = ("status", "reason", "spec", "resolved", "result", "attempt")


@dataclass(frozen=True)
class RunSettings:
    """How a job runs, which is no part of its spec; a kind ignores what it does not need.

    Attributes:
        device: ``cpu`` or ``cuda``; ``irbench.jobs.run`` also takes ``auto``.
        threads: CPU threads for torch, in each process.
        progress: whether a cell shows how far it is.
        keep_images: whether a cell keeps its restored images though its config does not ask for it.
        max_minutes: of wall time, after which a training stops cleanly; None for no limit.
        tensorboard: whether a training also writes TensorBoard's files.
    """

    device: str = "cpu"
    threads: int = 1
    progress: bool = False
    keep_images: bool = False
    max_minutes: float | None = None
    tensorboard: bool = False


USUAL = RunSettings()


@dataclass(frozen=True)
class Result:
    """What a job found. See ``irbench.core.records.make`` for what a record holds.

    Attributes:
        result: the outcome, whose form depends on the kind; None unless the status is ``ok``.
        resolved: what was only known at run time and fixes the result (digests of weights).
        seconds: wall time per phase.
        threads: CPU threads used; None where they do not matter.
        status: ``ok``, ``unavailable`` or ``failed``.
        reason: why there is no result, one sentence for people.
        spec: replaces the job's spec where running the job made more of it known; else None.
    """

    result: dict | None = None
    resolved: dict = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    threads: int | None = None
    status: str = "ok"
    reason: str | None = None
    spec: dict | None = None


def expected(error: Exception) -> bool:
    """Return whether an error comes from input or machine; any other is a defect."""
    return isinstance(error, UserError | OSError | MemoryError)


def failure(error: Exception) -> Result:
    """Return the result of a job that ended with this error."""
    reason = (str(error) if expected(error) else "") or f"{type(error).__name__}: {error}"
    return Result(status="unavailable" if isinstance(error, Unavailable) else "failed",
                  reason=reason)


def record_of(job: Job, found: Result, attempt: int = 0) -> dict:
    """Return the record of a job.

    Args:
        job: what was done.
        found: its result.
        attempt: how often an earlier attempt had failed.

    Raises:
        UserError: the result is not one that a record can hold, such as NaN.
    """
    return records.make(
        job.kind, job.key, job.spec if found.spec is None else found.spec, status=found.status,
        reason=found.reason, resolved=found.resolved, result=found.result, seconds=found.seconds,
        attempt=attempt, threads=found.threads)


def write(job: Job, record: dict) -> None:
    """Store a job's record; one that says nothing new leaves the old one in place."""
    folder = RunFolder.of_record(job.record, job.kind)
    old = folder.load(job.kind, job.key).record or {}
    if any(old.get(name) != record[name] for name in DECISIVE):
        files.set_folder_aside(job.record)
        folder.write(record)
