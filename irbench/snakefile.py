"""The Python code behind the Snakefile: the run, the jobs that must run, and labels for reports.

Records decide which jobs run (``irbench.jobs.verify.Records``). Snakemake must run a job whose
record is not current even if its output exists, and no other job; the age of files and the metadata
in ``.snakemake`` do not count. The input functions of the rules pass this on while Snakemake builds
its graph of jobs. Nothing is written before the first job starts.

The labels are for Snakemake's own report (``snakemake --report FILE.html``). The rules name
captions (workflow/report) and categories. A subcategory is one table of Snakemake's page, and the
labels are its columns. The page turns a column (except the first) into a switch if it has two
values, each in half of the rows, and its script fails if a row has no counterpart on the other
side. It does this for at most one column, never for two. ``_row`` therefore gives three or more
columns, and adds a no-break space to the values of the last row. With two rows all columns would
then be switches; with more rows no column has two values in equal parts. So there are no switches,
and nothing fails.

Reads a run and its records; writes ``config.json`` and ``plan.json`` when a run starts.

Try: ``snakemake --cores 1 --report /tmp/photos.html``
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from snakemake.exceptions import WorkflowError
from snakemake.io import ancient, report
from snakemake.settings.types import RerunTrigger
from snakemake.sourcecache import LocalSourceFile
from snakemake.utils import update_config

from irbench import plan as plans
from irbench.core import files, locks, records
from irbench.core.errors import UserError, refusal
from irbench.core.run_folder import Stored, lock_of
from irbench.fidelity import anchor_run
from irbench.jobs import life, verify
from irbench.jobs import outcome as outcomes
from irbench.plan import Job, Plan
from irbench.plan import config as configs
from irbench.plan import file as plan_file
from irbench.report import plots

if TYPE_CHECKING:
    from snakemake.io import Wildcards
    from snakemake.workflow import Workflow

LONGEST = 160  # largest number of characters of a value
ALL = "all"
MARK = "\u00a0"
UNFIT = str.maketrans("{}<>", "()()")

# -- the run -----------------------------------------------------------------------------------

def start(workflow: Workflow) -> Workload:
    """Plan the run that Snakemake was asked for; end with exit code 2 if its config is wrong.

    A config file stands alone: config.yaml beside the Snakefile is read only when no other file was
    given, since Snakemake would merge the two. The files of ``--configfile`` are read here, because
    the paths in each are relative to it; those of ``--config`` are relative to the current folder.
    """
    default = Path(workflow.basedir) / configs.DEFAULT
    paths = workflow.overwrite_configfiles or [default]
    where = f"config {' + '.join(map(str, paths))}"
    try:
        # unlike Snakemake, this rejects a duplicate key
        given, *changes = [configs.read(path) for path in paths]
        if isinstance(given, dict):
            for more in (*changes, workflow.config_settings.config):
                update_config(given, more)
        planned = plans.build(configs.check(given, where), where)
    except UserError as error:
        print(f"irbench: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(f"irbench: {error.filename or where}: {refusal(error)}", file=sys.stderr)
        sys.exit(2)
    life.watch()    # it ends with `irbench run`
    os.environ.update(life.environment())   # its jobs end with it
    return Workload(workflow, planned)


class Workload:
    """The run of a Snakefile. A ``group`` is a group of jobs in the plan, e.g. cells."""

    def __init__(self, workflow: Workflow, plan: Plan) -> None:
        """Keep the plan; no record is read yet."""
        self.workflow, self.plan, self.folder = workflow, plan, plan.run_folder
        self.records = verify.Records(plan)

    @property
    def gpu(self) -> int:
        """The number of GPUs that a computing job requests: 1 if it may use one, else 0."""
        # a GPU runs one job at a time (profiles/default limits the resource); without a GPU no
        # job waits for one
        device = self.plan.config["device"]
        return int(device.startswith(("cuda", "mps"))
                   or (device == "auto" and shutil.which("nvidia-smi") is not None))

    @property
    def cores(self) -> int:
        """All cores, for a job that must run alone."""
        try:
            return self.workflow.cores
        except WorkflowError:  # `snakemake --report` runs no job and needs no --cores
            return 1

    def job(self, group: str, wildcards: Wildcards) -> Job:
        """Return a job by the wildcards of its rule; the rule of the search for leaks has none."""
        return getattr(self.plan, group)["/".join(wildcards) or self.plan.config["run"]]

    def waits_for(self, job: Job) -> list[Job]:
        """Return the jobs whose results a job reads; sets are never fetched only for leaks."""
        plan = self.plan
        if job.kind == "training":
            return [plan.data[name] for name in job.model.training.data]
        if job.kind == "cell":
            training = plan.training_of(job.key["protocol"], job.key["model"])
            return [plan.data[job.key["dataset"]], *([training] if training else [])]
        if job.kind == "leaks":
            names = dict.fromkeys(one["name"] for pair in job.spec["pairs"] for one in pair)
            return [plan.data[name] for name in names if name in plan.data]
        return []

    # -- what must run -----------------------------------------------------------------------------

    def inputs(self, group: str) -> Callable[[Wildcards], list[str]]:
        """Return the input function of a rule: the records that a job waits for."""
        def of_job(wildcards: Wildcards) -> list[str]:
            job = self.job(group, wildcards)
            current = self.records.problem(job) is None
            self._decide(job.record, current)
            return self._waited_for(self.waits_for(job), current)

        return of_job

    def targets(self, wildcards: Wildcards) -> list[str]:
        """Return the targets of the run: every record that is not current, and the report."""
        return [*(str(job.record) for job in self.plan.jobs() if self.records.problem(job)),
                str(self.folder.report_note)]

    def inputs_of_report(self, wildcards: Wildcards) -> list[str]:
        """Return the inputs of the report: all records."""
        jobs = self.plan.jobs()
        current = (not any(self.records.problem(job) for job in jobs)
                   and verify.find_report(self.plan).state == verify.CURRENT)
        self._decide(self.folder.report_note, current)
        return self._waited_for(jobs, current)

    def inputs_of_anchors(self, wildcards: Wildcards) -> list[str]:
        """Return no file, because the comparison with known values fetches what it needs."""
        self._decide(anchor_run.FOLDER.anchors_note, anchor_run.is_current())
        return []

    def _decide(self, output: Path, current: bool) -> None:
        """Make Snakemake run the rule of an output if the output is not current, and only then."""
        # current outputs have `ancient` inputs, so that this only trigger never fires
        self.workflow.dag_settings.rerun_triggers = frozenset({RerunTrigger.MTIME})
        # a process that runs one job, perhaps on another machine, decides nothing
        if not current and output.exists() and self.workflow.is_main_process:
            self.workflow.dag.forcefiles.add(str(output))

    def _waited_for(self, jobs: Iterable[Job], current: bool) -> list[str]:
        """Return the records of jobs as inputs of an output.

        A current output does not wait for jobs that must run, nor for jobs after these. Otherwise
        Snakemake would regard all of them as affected, and miss those that must run again.
        """
        if not current:
            return [str(job.record) for job in jobs]
        return [ancient(str(job.record)) for job in jobs if self._rests(job)]

    def _rests(self, job: Job) -> bool:
        """Return whether a job and all jobs that it waits for are current."""
        return self.records.problem(job) is None and all(map(self._rests, self.waits_for(job)))

    def attempt(self, group: str) -> Callable[[Wildcards], int]:
        """Return the parameter function of a rule: how often a job has failed before."""
        def number(wildcards: Wildcards) -> int:
            job = self.job(group, wildcards)
            if self.records.problem(job) is None:
                return self.records.stored(job).record["attempt"]
            return records.next_attempt(job.record, job.spec)

        return number

    # -- before and after --------------------------------------------------------------------------

    def begin(self) -> None:
        """Before the first job, lock the run's folder and write its config and plan.

        This is not a rule, because whether a job must run depends on its spec, not on the age of
        these files.
        """
        try:
            locks.claim(self.folder.lock)
            for path in (*self.folder.files(), *(job.record for job in self.plan.jobs())):
                files.set_folder_aside(path)
            for job in self.plan.jobs():
                locks.clear(lock_of(job.record))
            # in the config's order, which is the order of the report's rows
            files.write_json(self.folder.config, self.plan.config)
            plan_file.write(self.plan)
        except UserError as error:
            print(f"irbench: {error}", file=sys.stderr)
            os._exit(2)  # no job has started; Snakemake would report an exception as a bug

    def announce(self) -> None:
        """After the run, print the path of the report and the missing results."""
        targets = self.workflow.dag_settings.targets
        if not self.folder.report.exists() or set(targets) == {"anchors"}:
            return  # only a part of the run was requested, or only the anchors
        stored = [(job, self.folder.load(job.kind, job.key)) for job in self.plan.jobs()
                  if job.record.exists()]
        missing = [(job, one.problem or one.record["reason"]) for job, one in stored
                   if one.problem or one.record["status"] != "ok"]
        reasons: dict[str, list[str]] = {}
        for job, reason in missing:
            reasons.setdefault(reason, []).append(job.title)
        for reason, titles in reasons.items():
            more = f" and {len(titles) - 1} more" if len(titles) > 1 else ""
            print(f"n/a: {titles[0]}{more}: {reason}", file=sys.stderr)
        if missing:
            print(f"{len(missing)} of {len(stored)} jobs gave no result; the next run tries them "
                  "again", file=sys.stderr)
        print(f"The report: {self.folder.report.resolve()}", file=sys.stderr)

    # -- Snakemake's own report --------------------------------------------------------------------

    def labels(self, group: str) -> Callable[[Wildcards], dict[str, str]]:
        """Return the labels of a record in Snakemake's report: its job and its result."""
        return lambda wildcards: labels(
            self.plan, group, list(wildcards) or [self.plan.config["run"]])

    def subcategory(self, group: str) -> Callable[[Wildcards], str]:
        """Return the table of a record in Snakemake's report, which is that of its task."""
        return lambda wildcards: subcategory(self.plan, group, list(wildcards))

    def shown(self, wildcards: Wildcards) -> list[str]:
        """Return the files of irbench's report that are here, to be shown in Snakemake's.

        They are inputs of the last rule, and outputs of none (see workflow/rules/report.smk).
        """
        folder = self.folder
        tables, plots_ = (self._file_labels(one) for one in (folder.tables, folder.figures))
        files_of = [
            self._shown(folder.report, "page", "Overview", labels={
                "file": folder.report.name, "what": "the report", "format": "HTML"}),
            self._shown(folder.summary, "summary", "Overview", labels={
                "file": folder.summary.name, "what": "every value", "format": "CSV"}),
            self._shown(folder.tables, "table", "Tables", "{suffix}", tables, "{name}.{suffix}"),
            # one file per plot; the PDF and SVG files are beside it
            self._shown(folder.figures, "figure", "Plots", lambda one: drawing(one.name), plots_,
                        "{name}.{suffix,png}")]
        return [path for path in files_of if Path(path).exists()]

    def _shown(self, path: Path, caption: str, category: str, subcategory: object = None,
               labels: object = None, *patterns: str) -> str:
        """Mark a file or folder for Snakemake's report."""
        place = Path(self.workflow.basedir, f"workflow/report/{caption}.rst")
        return report(str(path), LocalSourceFile(str(place)), category, subcategory, labels,
                      list(patterns))

    def _file_labels(self, folder: Path) -> Callable[[Wildcards], dict[str, str]]:
        """Return the labels of a table or plot in Snakemake's report."""
        return lambda wildcards: file_labels(self.plan, folder, wildcards.name, wildcards.suffix)


# -- Snakemake's own report --------------------------------------------------------------------

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
