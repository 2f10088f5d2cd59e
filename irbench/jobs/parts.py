"""Evaluate a part of the images of a cell, so that several jobs share the work of one cell.

A part writes what it has done into a file of its own (``irbench.jobs.cells.partial``). The job for
the cell waits for the parts, takes over every image that they have done, evaluates the others, and
writes the one record. So a part that failed or was killed costs only its unfinished images, the
number of parts may change between two runs, and the record is that of a cell in one piece: only
``seconds`` (those of all processes together) and ``provenance`` (of the job for the cell) tell.

Reads   what a cell reads. Writes ``cells/PROTOCOL/DATASET/MODEL.partial-2-of-4``, and the images to
        keep.

Try: ``irbench eval --protocol sr-x2 --dataset photos --model bicubic --part 1/2``
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator

from irbench.core import locks, messages
from irbench.core.run_folder import lock_of, part_lock_of
from irbench.inference import allocator
from irbench.jobs import run
from irbench.jobs.cells.parts import Part
from irbench.jobs.result import RunSettings, expected, failure
from irbench.plan import Job, Plan
from irbench.plan import file as plan_file


def do(plan: Plan, job: Job, settings: RunSettings, *, on_failure: str = "stop") -> dict:
    """Evaluate a part of a cell in this process; no record is written.

    Args:
        plan: the run.
        job: the cell.
        settings: how to run it; ``part`` says which part.
        on_failure: ``stop`` raises the error; ``record`` says the error, and the job for the cell
            meets and records it.

    Returns:
        ``status`` and ``reason``, as in a record, and ``result``: ``part``, and ``count``, the
        number of its images; None if it failed, or had nothing to do: the cell has its record.

    Raises:
        UserError: of the cell, with ``stop``; also if another process is doing this part or the
            whole cell. With ``record`` this one waits for it.
    """
    part = settings.part
    named = f"{part.number}/{part.count}"
    title = f"{job.title}, part {part.number} of {part.count}"
    with _alone(plan, job, part, title, wait=on_failure == "record") as done:
        if done:
            messages.say(f"{title}: the cell is done: {job.record}")
            return {"status": "ok", "reason": None, "result": {"part": named, "count": None}}
        messages.say(f"{title}: started")
        allocator.keep()
        try:
            run.take_gpus(job, settings.device, wait=on_failure == "record")
            found = run.compute(plan, job, settings, continues=True)
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # sys.exit in a model's code, too
            found = failure(error)
            if on_failure == "stop":
                run.stop(error, found)
            if not expected(error):
                messages.say(traceback.format_exc())
            messages.say(f"{title}: {found.status}: {found.reason}")
            return {"status": found.status, "reason": found.reason,
                    "result": {"part": named, "count": None}}
        count = len(found.result["images"])
        messages.say(f"{title}: {count} image{'s' * (count != 1)} done")
        return {"status": "ok", "reason": None, "result": {"part": named, "count": count}}


@contextlib.contextmanager
def _alone(plan: Plan, job: Job, part: Part, title: str, wait: bool) -> Iterator[bool]:
    """Hold the lock of a part; yields whether the cell has a current record.

    The job for the cell holds the cell's lock and waits for those of its parts. So a part never
    waits for the cell's lock while it holds its own.
    """
    own, whole = part_lock_of(job.record, part), lock_of(job.record)
    while True:
        with locks.hold(own, run.waiting(title, own, wait)):
            try:
                with locks.hold(whole, _give_up):
                    done = run.is_done(plan, plan_file.settled(plan, job)) is not None
            except _Held:
                pass
            else:
                yield done
                return
        with locks.hold(whole, run.waiting(job.title, whole, wait)):
            pass


class _Held(Exception):
    """Another process holds a lock."""


def _give_up(seconds: float) -> None:
    raise _Held
