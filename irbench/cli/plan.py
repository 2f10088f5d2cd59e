"""``irbench plan``: the jobs of a run; with ``--cost`` what they will need before it is started.

``--cost`` estimates hours of the device, disk and memory of the jobs that are left, from what
finished jobs took: their records in the run itself and in the folders of ``--profiles``. What was
not measured is named, never guessed: then totals say "at least".

Reads   the config, records, and which files are here. Writes nothing, imports no torch.

Try: ``irbench plan config.yaml``
     ``irbench plan paper --cost --profiles results/photos``
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable

from tabulate import tabulate

from irbench import plan as plans
from irbench.cli import common
from irbench.core import messages
from irbench.core.errors import UserError
from irbench.jobs import verify
from irbench.jobs.costs import estimate, hours, measured
from irbench.jobs.costs.estimate import Estimate, JobsOfModel
from irbench.plan import Plan, models
from irbench.present import plain, text

NAME = "plan"
HELP = ("list the jobs of a run; with --cost estimate the hours, disk and memory that they will "
        "need, from measured profiles")
# a kind of record -> its word in tables; that of the command and of Snakemake's rule
WORDS = {"training": "train", "cell": "evaluate"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    common.add_config_or_run_word(parser)
    parser.add_argument("--cost", action="store_true",
                        help="what the run will need, beside its jobs")
    parser.add_argument("--profiles", nargs="+", default=[], metavar="RESULTS",
                        help="with --cost: folders of runs, or of several runs such as results, "
                             "whose records tell how long something takes")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def run(arguments: argparse.Namespace) -> int:
    """Print the jobs, or what they will need; return the exit code."""
    if arguments.profiles and not arguments.cost:
        raise UserError("--profiles is for --cost: irbench plan --cost --profiles "
                        f"{' '.join(arguments.profiles)}")
    config, folder = common.config_of(arguments.run)
    planned = plans.load(config)
    common.check_place(planned, folder, arguments.run)
    models.say_missing(planned.cells.values())
    if arguments.cost:
        found = estimate.estimate(planned, config, measured.run_folders(arguments.profiles))
        print(plain.pretty(found.as_dict()) if arguments.json else "\n".join(_cost(found)))
        return 0
    listed = _jobs(planned)
    print(plain.pretty({"run": planned.config["run"], "jobs": listed}) if arguments.json
          else _list(planned, listed))
    return 0


# -- the jobs ------------------------------------------------------------------------------------

def _jobs(planned: Plan) -> list[dict]:
    """Return kind, protocol, model and number of a run's jobs, and how many have a state."""
    known, found = verify.Records(planned), {}
    for job in planned.jobs():
        key = (job.kind, job.key.get("protocol"), job.key.get("model"))
        found.setdefault(key, []).append(known.find(job).state)
    return [{"kind": kind, "protocol": protocol, "model": model, "jobs": len(states),
             "states": dict(Counter(states))} for (kind, protocol, model), states in found.items()]


def _list(planned: Plan, listed: list[dict]) -> str:
    rows = [[_word(one["kind"]), one["protocol"] or "", one["model"] or "", one["jobs"],
             ", ".join(f"{number} {state}" for state, number in one["states"].items())]
            for one in listed]
    total = sum(one["jobs"] for one in listed)
    return "\n".join([
        _table(rows, ["job", "protocol", "model", "jobs", "state"], numbers=(3,)), "",
        f"{planned.config['run']}: {plain.many(total, 'job')}, and the report. --cost estimates "
        "what they will need."])


# -- what they need ------------------------------------------------------------------------------

def _cost(found: Estimate) -> Iterable[str]:
    yield f"{found.run}: what is left to do. All of this is estimated from measurements."
    yield _where(found)
    yield ""
    yield _table([*_kinds(found), ["total", sum(row.jobs for row in found.rows),
                                   sum(row.left for row in found.rows),
                                   _time(found.timed, _sum_of_kinds(found.timed)), ""]],
                 ["job", "jobs", "left", "device time", "memory each, MB"], numbers=(1, 2, 3, 4))
    yield ""
    if left := [row for row in found.timed if row.left]:
        on_gpu = ["GPU memory"] * (found.device == "cuda")
        yield _table([[_word(row.kind), row.what, row.left, _time([row]),
                       *(_gpu_memory(row) for _ in on_gpu), _from(row)] for row in left],
                     ["job", "model", "left", "device time", *on_gpu, "from"],
                     numbers=(2, 3, *(4 for _ in on_gpu)))
        yield ""
    yield from _disk(found)
    if unknown := list(_unknown(found)):
        yield from ("", "Unknown, and not in the totals:", *unknown)
    yield from ("", "How this was estimated:")
    yield from (f"- {rule}" for rule in found.rules)


def _where(found: Estimate) -> str:
    cards = "the cards of the bundled weights"
    read = f"the records in {messages.some(found.folders)} and {cards}" if found.folders else cards
    where = f"Times are those of {found.machine} ({found.device}), from {read}."
    if not found.machine:
        of = f" on {found.device} (`device` of the config)" if found.device else ""
        where = f"Times are unknown: no measurement{of} in {read}. Name runs: --profiles RESULTS."
    elif found.asked == "auto":
        where += f" `device: auto` of the config is taken as {found.device}."
    others = "; ".join(f"{plain.many(count, 'measurement')} of {place}"
                       for place, count in found.others.items())
    return where + (f" Not used: {others}." if others else "")


def _kinds(found: Estimate) -> Iterable[list]:
    for kind in dict.fromkeys(row.kind for row in found.rows):
        rows = [row for row in found.rows if row.kind == kind]
        yield [_word(kind), sum(row.jobs for row in rows), sum(row.left for row in rows),
               _time(rows) if kind in hours.ON_DEVICE else "", found.memory.get(kind, "")]


def _disk(found: Estimate) -> Iterable[str]:
    if not found.disk:
        yield "Disk: nothing beside records and report (some kB a job)."
        return
    yield _table([*([need.what, _size(need.bytes, bool(need.unknown)), need.source]
                    for need in found.disk),
                  ["total", _size(found.bytes, found.bytes_at_least), ""]],
                 ["disk", "size", "from"], numbers=(1,))


def _unknown(found: Estimate) -> Iterable[str]:
    lacking: dict[str, Counter[str]] = {}
    measure: dict[str, str] = {}
    for row in found.timed:
        for reason, count in row.unknown.items():
            lacking.setdefault(reason, Counter())[_word(row.kind)] += count
            measure.setdefault(reason, row.measure[reason])
    for reason, kinds in lacking.items():
        of = ", ".join(plain.many(count, f"{kind} job") for kind, count in kinds.items())
        yield f"- {reason}: {of}. To know it: {measure[reason]}"
    if without := sum(row.lacks_beside for row in found.timed):
        yield (f"- loading and scoring, for lack of a finished cell of the protocol with the same "
               f"metrics: {plain.many(without, 'evaluate job')}")
    for need in found.disk:
        if need.unknown:
            yield f"- size of {need.what}: {messages.some(need.unknown)}"


def _sum_of_kinds(rows: list[JobsOfModel]) -> float:
    """Return the seconds of all rows as the table of kinds shows them."""
    return sum(text.shown_duration(_sum([row for row in rows if row.kind == kind]))
               for kind in hours.ON_DEVICE)


def _sum(rows: list[JobsOfModel]) -> float:
    """Return the seconds of rows as shown: a total agrees with what stands above it."""
    return sum(text.shown_duration(row.seconds) for row in rows)


def _time(rows: list[JobsOfModel], seconds: float | None = None) -> str:
    if not any(row.known or not row.left for row in rows):
        return "unknown" if rows else "none"
    at_least = any(row.at_least for row in rows)
    spent = text.long_duration(_sum(rows) if seconds is None else seconds)
    return f"{'at least ' * at_least}{spent}"


def _size(count: int, at_least: bool) -> str:
    if at_least and not count:
        return "unknown"
    return f"{'at least ' * at_least}{text.size(count)}"


def _gpu_memory(row: JobsOfModel) -> str:
    return "" if row.gpu_memory is None else text.size(round(row.gpu_memory))


def _from(row: JobsOfModel) -> str:
    first = [source for source, _ in row.sources.most_common(1)]
    return "".join(first) + f" and {len(row.sources) - 1} more" * (len(row.sources) > 1)


def _word(kind: str) -> str:
    return WORDS.get(kind, kind)


def _table(rows: list[list], heads: list[str], numbers: tuple[int, ...]) -> str:
    return tabulate(rows, heads, disable_numparse=True, colalign=[
        "right" if at in numbers else "left" for at in range(len(heads))])
