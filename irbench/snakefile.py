"""Snakemake's own report (``snakemake --report FILE.html``): the table and the row of each file.

Reads a plan and, when the report is made, the records and files of its run; writes nothing. The
rules name captions (workflow/report) and categories; a subcategory is one table of Snakemake's
page, and the labels are its columns.

Snakemake's page makes a switch of a column, the first excepted, that has two values, each in half
of the rows, and its script breaks where a row has no counterpart on the other side. It does so for
one column at most and never for two. Hence the rule of ``_row``: three columns or more, and a
no-break space behind the values of the last row. Then of two rows all columns would be switches,
and of more rows none has two values in equal parts: there are no switches, and nothing breaks.

Try: ``snakemake --cores 1 --report /tmp/photos.html``
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

from irbench.core import metrics
from irbench.core.run_folder import Stored
from irbench.plan import Job, Plan
from irbench.report import plots

LONGEST = 160  # characters of a value
ALL = "all"
MARK = "\u00a0"
UNFIT = str.maketrans("{}<>", "()()")


def subcategory(plan: Plan, kind: str, key: Sequence[str]) -> str:
    """Return the table of a job's record: its task, or what kind of a job it is.

    Args:
        plan: the run.
        kind: a name of a group of jobs in the plan: cells, trainings, profiles, data, benches,
            leaks.
        key: the values of the job's key.
    """
    return _table(plan, getattr(plan, kind)["/".join(key)])


def labels(plan: Plan, kind: str, key: Sequence[str]) -> dict[str, str]:
    """Return the row of a job's record: what it is, and what came out (or why nothing did)."""
    group = getattr(plan, kind)
    job = group["/".join(key)]
    stored = plan.run_folder.load(job.kind, job.key)
    table = [one for one in group.values() if _table(plan, one) == _table(plan, job)]
    columns = _columns(plan, job)
    last = max(list(_columns(plan, one).values()) for one in table)
    return _row({**columns, "result": outcome(stored)}, last=list(columns.values()) == last)


def drawing(name: str) -> str:
    """Return the table of a figure, by its name without suffix."""
    plot = plots.plot_of(name)
    return plot.kind if plot else "plots"


def file_labels(plan: Plan, folder: str | Path, name: str, suffix: str) -> dict[str, str]:
    """Return the row of a table or a figure: what it is about.

    Args:
        plan: the run.
        folder: where the file lies.
        name: of the file, without suffix. That of a visual comparison holds protocol and dataset,
            that of another file a task or none.
        suffix: of the file, without the dot.
    """
    beside = sorted(path.stem for path in Path(folder).glob(f"*.{suffix}")
                    if drawing(path.stem) == drawing(name))
    columns = {"file": name, "task": ALL, "level": ALL, "dataset": ALL}
    for protocol in plan.protocols.values():
        if name.startswith(f"crops-{protocol.id}-"):
            columns |= {"task": protocol.task, "level": protocol.level,
                        "dataset": name.removeprefix(f"crops-{protocol.id}-")}
        elif re.search(rf"(^|-){protocol.task}(-|$)", name):
            columns["task"] = protocol.task
    return _row(columns, last=not beside or name == beside[-1])


def outcome(stored: Stored) -> str:
    """Say in a few words what a job's record holds, in the units of the report."""
    record = stored.record
    if record is None:
        return f"n/a: {stored.problem}"
    if record["status"] != "ok":
        return f"n/a: {record['reason']}"
    return OUTCOMES[record["kind"]](record["result"])


def _cell(result: dict) -> str:
    # a metric of a plugin may be unknown here
    return ", ".join(metrics.METRICS.get(name, metrics.Metric(name, name)).worded(value)
                     for name, value in result["mean"].items() if value is not None) or "no metric"


def _profile(result: dict) -> str:
    known = [("{:.1f} k parameters", result.get("parameters"), 1e3),
             ("{:.2f} GMACs", result.get("macs"), 1e9)]
    return ", ".join(text.format(value / unit) for text, value, unit in known
                     if value is not None) or "neither parameters nor MACs are known"


def _training(result: dict) -> str:
    known = [("{} steps", result.get("steps")), ("final loss {:.4f}", result.get("final_loss"))]
    return ", ".join(text.format(value) for text, value in known if value is not None)


OUTCOMES: dict[str, Callable[[dict], str]] = {
    "cell": _cell, "profile": _profile,
    "training": _training,
    "data": lambda result: f"{result['count']} images",
    "bench": lambda result: f"{len(result.get('rows') or ())} rows",
    "leaks": lambda result: f"{len(result.get('pairs') or ())} pairs of equal or similar images",
}


def _table(plan: Plan, job: Job) -> str:
    return _protocol(plan, job).task if "protocol" in job.key else job.kind


def _protocol(plan: Plan, job: Job):
    name = job.key["protocol"]
    if name in plan.protocols:
        return plan.protocols[name]
    return plan.scopes["/".join(job.key.values())]  # a blind training's


def _columns(plan: Plan, job: Job) -> dict[str, str]:
    if "protocol" not in job.key:
        return {job.kind: next(iter(job.key.values())), "run": plan.config["run"]}
    protocol = _protocol(plan, job)
    return {"task": protocol.task, "level": protocol.level,
            **{name: value for name, value in job.key.items() if name != "protocol"}}


def _row(columns: dict[str, str], *, last: bool) -> dict[str, str]:
    """Make values fit for Snakemake: no braces (its wildcards), no tags; see the module's text."""
    plain = {name: textwrap.shorten(value, LONGEST, placeholder=" ...").translate(UNFIT)
             for name, value in columns.items()}
    return {name: value + MARK if last and place else value
            for place, (name, value) in enumerate(plain.items())}
