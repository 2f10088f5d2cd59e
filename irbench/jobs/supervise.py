"""Run jobs in a process of their own, so that a crash costs only the job that was in work.

A command of the workflow starts one child process for its jobs. The child says which job it begins.
If the child dies (a crash in native code, lack of memory), this process writes the record of that
job, and another child does the rest; but a signal from outside never replaces the record of a
result. Signals reach the child: a training then saves its state.

On Linux the child is a fork, so that Python, irbench and the plan are loaded once; torch is
imported in the child only. Elsewhere, and once torch has been used, a fork is not safe: the child
is then a new Python that runs the same command.

Jobs that measure the memory of their process have a child each (``apart``), since what an earlier
job leaves there would change the result. This process then imports torch for all of them, and does
nothing else with it: an import starts no thread, and a fork is safe while nothing was computed.

Writes the records of jobs whose process died.

Try: ``irbench eval --protocol sr-x2 --dataset photos --model bicubic --on-failure record``
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence

from irbench.core import locks, messages, records
from irbench.core.run_folder import lock_of
from irbench.jobs import life, run
from irbench.jobs.result import Result, record_of, write
from irbench.plan import Job, Plan
from irbench.plan import file as plan_file

AGAIN = 3           # exit code of jobs that ended early, which another attempt may finish
INTERRUPTED = 130   # by Ctrl-C
# how a process ends that its own code brought down; any other signal was sent from outside
CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL,
           signal.SIGSYS, signal.SIGTRAP)
STOPPED = "it was interrupted (SIGTERM, as by hand); the next run does it again"
# of a child: the numbers of its open pipe, of its first job, and of the first that is not its own
CHILD = "IRBENCH_CHILD"
_imported = False   # whether this process has imported torch only for its children


def supervise(plan: Plan, jobs: Sequence[Job], work: Callable[[], int], argv: Sequence[str], *,
              logs: Sequence[str] = (), resubmit: bool = False, records: bool = True,
              apart: Callable[[], None] | None = None) -> int:
    """Do jobs in child processes; write the record of each job that a child died of.

    Args:
        plan: the run.
        jobs: the jobs, in the order in which they are done.
        work: does the jobs in a child, from the one that ``child`` names on. It writes records, and
            returns an exit code; it raises no error.
        argv: the command line that calls this function, without the program.
        logs: the file with the messages of each job; the reason of a failure names it.
        resubmit: whether the workflow starts a job again that was killed for lack of memory.
        records: whether the jobs have records. A part of a cell has none: after its death the job
            for the cell does the rest, and says what became of it.
        apart: imports torch. If it is given, each job has a child of its own, and it is called
            before the first.

    Returns:
        0 if every job has its record, or none is wanted, because the run has ended or asks for
        something else; ``AGAIN`` if jobs should be started again; ``INTERRUPTED`` after Ctrl-C;
        128 + the signal if this process was told to end before the jobs were done, or if a signal
        from outside ended a job whose earlier result stays.
    """
    first, result = 0, 0
    if apart and len(jobs) > 1:
        _import(apart)
    while first < len(jobs):
        end = first + 1 if apart else len(jobs)
        code, told, began = _child(first, end, work, argv)
        if began == end:            # whatever happened afterwards costs no job
            first, result = end, AGAIN if code == AGAIN else result
            if first == len(jobs) or not (told or code == INTERRUPTED or life.ended()):
                continue
        if code == INTERRUPTED:
            return code
        if life.ended():
            return result   # nobody waits for a record; the next run does the job
        if told:
            return 128 + told
        job, stopped = jobs[began], code == AGAIN or (code < 0 and -code not in CRASHES)
        if not records:
            messages.say(f"{job.title}: the process {_ended(code)}")
        elif stopped and run.has_result(job):
            if not run.is_done(plan, plan_file.settled(plan, job)):  # by another process meanwhile
                messages.say(f"{job.title}: stopped{f' by signal {-code}' if code < 0 else ''}; "
                             f"the result computed before stays: {job.record}")
                result = result or (code if code > 0 else 128 - code)
        else:
            _record_death(plan, job, code, logs[began] if logs else "its messages")
        if resubmit and code == -signal.SIGKILL:
            result = AGAIN
        first = began + 1
    return result


def child(count: int) -> tuple[range, Callable[[int], None]]:
    """Return which jobs a child does, and the function that says which job it begins.

    The child calls it with the job's number, and with the next one when its jobs are done. Outside
    of a child: all ``count`` jobs, and a function that does nothing.
    """
    pipe, _, numbers = os.environ.pop(CHILD, "").partition(":")
    if not pipe:
        return range(count), lambda number: None
    return (range(*map(int, numbers.split(":"))),
            lambda number: os.write(int(pipe), f"{number}\n".encode()))


def _import(torch: Callable[[], None]) -> None:
    """Import torch in this process, if a child can be a fork."""
    global _imported
    if _can_fork():
        torch()
        _imported = True


def _child(first: int, end: int, work: Callable[[], int],
           argv: Sequence[str]) -> tuple[int, int | None, int]:
    """Run one child; return its exit code, the signal that came, and what it began last."""
    here, there = os.pipe()
    os.set_blocking(here, False)    # processes of a child that was killed may keep it open
    given = {CHILD: f"{there}:{first}:{end}", **life.environment()}
    with os.fdopen(here) as pipe:
        if _can_fork():
            life.rest()     # a fork of a process with threads is not safe
            process = multiprocessing.get_context("fork").Process(
                target=_forked, args=(work, given))
            process.start()
            life.watch()
            code, told = life.wait(lambda: process.join() or process.exitcode, process.terminate)
        else:
            process = subprocess.Popen(
                [sys.executable, "-m", "irbench", *argv, "--supervised"], pass_fds=(there,),
                env={**os.environ, **given})
            code, told = life.wait(process.wait, process.terminate)
        os.close(there)
        numbers = (pipe.read() or "").split()
    return code, told, int(numbers[-1]) if numbers else first


def _can_fork() -> bool:
    return sys.platform == "linux" and (_imported or "torch" not in sys.modules)


def _forked(work: Callable[[], int], given: dict[str, str]) -> None:
    os.environ.update(given)
    life.watch()
    sys.exit(work())


def _ended(code: int) -> str:
    """Return how a process ended, in words."""
    return (f"was ended by signal {-code}{' (out of memory?)' if code == -signal.SIGKILL else ''}"
            if code < 0 else f"ended with exit code {code}")


def _record_death(plan: Plan, job: Job, code: int, log: str) -> None:
    """Write the record of a job whose process ended without one."""
    if not plan.asks_for(job):
        return
    if code == -signal.SIGTERM:     # no fault of the model
        found = Result(status="unavailable", reason=STOPPED)
    else:
        found = Result(status="failed",
                       reason=f"the process {_ended(code)} and left no result; see {log}")
    messages.say(f"{job.title}: {found.status}: {found.reason}")
    with locks.hold(lock_of(job.record), lambda seconds: None):
        if run.is_done(plan, plan_file.settled(plan, job)):     # by another process meanwhile
            return
        write(job, record_of(job, found, records.next_attempt(job.record, job.spec)))

