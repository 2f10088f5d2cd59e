"""Run jobs for a verb: in a child process where the workflow asks for that, with a summary.

``answer`` turns errors into messages and exit codes.

Try: ``irbench eval --protocol sr-x2 --dataset photos --model bicubic``
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import locale
import sys
from collections.abc import Callable, Iterator, Sequence

from irbench.core import messages
from irbench.core.errors import Paused, Superseded, UserError, refusal
from irbench.jobs import outcome, supervise, threads
from irbench.jobs import run as jobs
from irbench.jobs.result import RunSettings
from irbench.plan import Job, Plan
from irbench.plan import file as plan_file

Do = Callable[..., dict | None]     # as ``jobs.do``


def settled(arguments: argparse.Namespace, plan: Plan, job: Job) -> Job:
    """Return a job; if its plan was read from a file, its spec is updated."""
    return plan_file.settled(plan, job) if arguments.plan else job


def run_jobs(arguments: argparse.Namespace, plan: Plan, chosen: Sequence[Job],
             how: RunSettings | None = None, do: Do | None = None) -> int:
    """Run jobs one after another, write their records, print a summary; return the exit code.

    With ``--on-failure record`` jobs that compute run in a separate process (``jobs.supervise``),
    and exit code 3 asks for another attempt, if the workflow makes one (``--resubmit``).

    Args:
        arguments: of the command line; see ``add_job``.
        plan: the run.
        chosen: its jobs, all of one kind.
        how: how to run them; None for the config's device and one thread.
        do: runs one of them; None: ``jobs.do``.
    """
    logs = arguments.log if isinstance(arguments.log, list) else [arguments.log]
    logs = [path for path in logs if path]
    if logs and len(logs) != len(chosen):
        raise UserError(f"--log: {len(logs)} files for {len(chosen)} jobs. Give one file for each.")

    def work() -> int:
        numbers, begin = supervise.child(len(chosen))
        written = []
        for number in numbers:
            begin(number)
            messages.log_to(logs[number] if logs else None)
            with _superseded(len(chosen) > 1):
                job = settled(arguments, plan, chosen[number])
                written.append((job, (do or jobs.do)(plan, job, how,
                                                     on_failure=arguments.on_failure)))
        begin(numbers.stop)
        _print_summary([(job, record) for job, record in written if record])
        paused = any(record and record["status"] == "paused" for _, record in written)
        return supervise.AGAIN if paused and getattr(arguments, "resubmit", 0) else 0

    kind = jobs.KINDS[chosen[0].kind]
    if arguments.on_failure == "record" and not arguments.supervised and kind.computes:
        return supervise.supervise(plan, chosen, lambda: answer(work), arguments.argv, logs=logs,
                                   resubmit=bool(arguments.resubmit),
                                   records=not (how and how.part), apart=kind.apart)
    return work()


def measured(given: int | None) -> Do:
    """Return what runs a job that measures time: it says how many threads it takes, and why.

    Args:
        given: the threads that were asked for; None for those of ``irbench.jobs.threads``.
    """
    def do(plan: Plan, job: Job, how: RunSettings, on_failure: str) -> dict | None:
        if given is None:
            count, why = threads.usual(plan, job)
            messages.say(f"{job.title}: {threads.in_words(count)}, {why} (another number: "
                         "--threads)")
            return jobs.do(plan, job, dataclasses.replace(how, threads=count),
                           on_failure=on_failure)
        by_hand = on_failure == "stop"

        def warn() -> None:
            if text := threads.differing(plan, job, given, how.device):
                messages.say(f"{job.title}: warning: {text}")

        # of the workflow it comes last: what a process did before may show in the peak of memory
        if by_hand:
            warn()
        record = jobs.do(plan, job, how, on_failure=on_failure)
        if not by_hand:
            warn()
        return record

    return do


def run_job(arguments: argparse.Namespace, plan: Plan, job: Job,
            how: RunSettings | None = None, do: Do | None = None) -> int:
    """Run one job; see ``run_jobs``."""
    return run_jobs(arguments, plan, [job], how, do)


@contextlib.contextmanager
def _superseded(several: bool) -> Iterator[None]:
    """Go on with the next of several jobs if the plan no longer asks for one."""
    try:
        yield
    except Superseded as error:
        if not several:
            raise
        messages.say(str(error))


def _print_summary(written: list[tuple[Job, dict]]) -> None:
    """Print one JSON document; a job whose record another process wrote is left out."""
    found = []
    for job, record in written:
        result = record["result"] or {}
        found.append({
            "record": None if "part" in result else str(job.record),
            "status": record["status"], "reason": record["reason"],
            **outcome.summary(record)})
    if found:
        print(json.dumps(found[0] if len(found) == 1 else {"records": found}))


def answer(call: Callable[[], int | None]) -> int:
    """Call a function; return its exit code, or that of an error, which is printed for people."""
    try:
        code = call() or 0
        sys.stdout.flush()      # a full disk shows here, not when Python has ended
        return code
    except Paused as error:
        print(f"irbench: {messages.readable(error)}", file=sys.stderr)
        return 3
    except UserError as error:
        print(f"irbench: {messages.readable(error)}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # the reader of our output has closed the pipe (| head): nobody reads a message
        sys.stderr.close()
        return 0
    except UnicodeEncodeError as error:
        if error.encoding.startswith("utf"):
            raise
        print(f"irbench: {messages.readable(error.object)}: a name of a file that the locale "
              f"{locale.setlocale(locale.LC_CTYPE)} cannot express. Set LC_ALL=C.UTF-8, or "
              "PYTHONUTF8=1.", file=sys.stderr)
        return 2
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"irbench: {where}{refusal(error)}", file=sys.stderr)
        if error.filename is None:      # of stdout, which Python would try to write again
            with contextlib.suppress(OSError):
                sys.stdout.close()
        return 2
    except KeyboardInterrupt:
        print("irbench: interrupted; the same command continues", file=sys.stderr)
        return 130
