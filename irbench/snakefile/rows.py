"""The tables and rows of records and files in Snakemake's own report (``snakemake --report FILE``).

The page takes captions (workflow/report) and categories from the rules. A subcategory is one table
of Snakemake's page, and the labels are its columns. The page turns a column (except the first) into
a switch if it has two values, each in half of the rows, and its script fails if a row has no
counterpart on the other side. It does this for at most one column, never for two. ``_row``
therefore gives three or more columns, and adds a no-break space to the values of the last row. With
two rows all columns would then be switches; with more rows no column has two values in equal parts.
So there are no switches, and nothing fails.

Reads a run's records; writes nothing.

Try: ``snakemake --cores 1 --report /tmp/photos.html``
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

from irbench.core.run_folder import Stored
from irbench.jobs import outcome as outcomes
from irbench.plan import Job, Plan
from irbench.report import plots

LONGEST = 160  # largest number of characters of a value
ALL = "all"
MARK = "\u00a0"
UNFIT = str.maketrans("{}<>", "()()")


def subcategory(plan: Plan, kind: str, key: Sequence[str]) -> str:
    """Return the table of a job's record: its task, or the kind of the job.

    Args:
        plan: the run.
        kind: the name of a group of jobs in the plan: cells, trainings, profiles, data, benches,
            leaks.
        key: the values of the job's key.
    """
    return _table(plan, getattr(plan, kind)["/".join(key)])


def labels(plan: Plan, kind: str, key: Sequence[str]) -> dict[str, str]:
    """Return the row of a job's record: its job, and its result or the reason for n/a."""
    group = getattr(plan, kind)
    job = group["/".join(key)]
    stored = plan.run_folder.load(job.kind, job.key)
    table = [one for one in group.values() if _table(plan, one) == _table(plan, job)]
    columns = _columns(plan, job)
    last = max(list(_columns(plan, one).values()) for one in table)
    return _row({**columns, "result": outcome(stored)}, last=list(columns.values()) == last)


def drawing(name: str) -> str:
    """Return the table of a plot, by its name without suffix."""
    plot = plots.plot_of(name)
    return plot.kind if plot else "plots"


def file_labels(plan: Plan, folder: str | Path, name: str, suffix: str) -> dict[str, str]:
    """Return the row of a table or plot: its task, level and dataset.

    Args:
        plan: the run.
        folder: the folder of the file.
        name: the file's name without suffix. The name of a visual comparison contains protocol and
            dataset; other names may contain a task.
        suffix: the file's suffix without the dot.
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
    """Return the result of a job's record in a few words, in the units of the report."""
    record = stored.record
    if record is None:
        return f"n/a: {stored.problem}"
    return outcomes.in_words(record)


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
    """Make values fit for Snakemake: no braces (its wildcards), no tags (see above)."""
    plain = {name: textwrap.shorten(value, LONGEST, placeholder=" ...").translate(UNFIT)
             for name, value in columns.items()}
    return {name: value + MARK if last and place else value
            for place, (name, value) in enumerate(plain.items())}
