"""The run of a Snakefile: its jobs, which of them must run, and what they need.

Records decide which jobs run (``irbench.jobs.verify.Records``). Snakemake must run a job whose
record is not current even if its output exists, and no other job; the age of files and the metadata
in ``.snakemake`` do not count. The input functions of the rules pass this on while Snakemake builds
its graph of jobs. Nothing is written before the first job starts.

Reads a run and its records; writes ``config.json`` and ``plan.json`` when a run starts.

Try: ``snakemake -n``
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from snakemake.io import ancient, report
from snakemake.ioflags import update
from snakemake.settings.types import RerunTrigger
from snakemake.sourcecache import LocalSourceFile
from snakemake.utils import update_config

from irbench import plan as plans
from irbench.core import files, locks, records
from irbench.core.errors import UserError, refusal
from irbench.fidelity import anchor_run
from irbench.inference import gpus
from irbench.jobs import changes, life, needs, verify
from irbench.plan import Job, Plan
from irbench.plan import config as configs
from irbench.plan import file as plan_file
from irbench.plan import models as model_entries
from irbench.snakefile import batches as grouping
from irbench.snakefile import rows
from irbench.snakefile.batches import EVALUATE, PROFILE, Batches, Profiles, filled
from irbench.snakefile.leftovers import Leftovers
from irbench.snakefile.parts import PART, Parts
from irbench.weights import loading

if TYPE_CHECKING:
    from snakemake.io import Wildcards
    from snakemake.workflow import Workflow

# -- the run -----------------------------------------------------------------------------------

def start(workflow: Workflow) -> Workload:
    """Plan the run that Snakemake was asked for; end with exit code 2 if its config is wrong.

    A config file stands alone: config.yaml beside the Snakefile is read only when no other file was
    given, since Snakemake would merge the two. The files of ``--configfile`` are read here, because
    the paths in each are relative to it; those of ``--config`` are relative to the current folder.
    """
    paths = workflow.overwrite_configfiles or [Path(workflow.basedir) / configs.DEFAULT]
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
    if workflow.is_main_process:
        life.watch(at_once=lambda: not workflow.local_exec)     # it ends with `irbench run`
        model_entries.say_missing(planned.cells.values())
    else:
        life.start_anew()   # a cluster has started it, for one job
    os.environ.update(life.environment())   # its jobs end with it
    return Workload(workflow, planned)


class Workload:
    """The run of a Snakefile. A ``group`` is a group of jobs in the plan, e.g. cells."""

    def __init__(self, workflow: Workflow, plan: Plan) -> None:
        """Keep the plan; no record is read yet."""
        self.workflow, self.plan, self.folder = workflow, plan, plan.run_folder
        self.records, self.parts = verify.Records(plan), Parts(plan)
        self.leftovers = Leftovers(plan, self.records)
        if self._is_local:
            self._share_gpus()

    # -- what a job needs --------------------------------------------------------------------------

    @property
    def gpu(self) -> int:
        """The number of GPUs that a computing job requests: 1 if it may use one, else 0.

        It does not depend on the machine that the workflow is started on: jobs may run on others.
        """
        return int(self.plan.config["device"] != "cpu")

    @property
    def cores(self) -> int:
        """All cores here, for a job that runs alone; elsewhere 1: a profile gives it a node."""
        cores = self.workflow.resource_settings.cores if self._is_local else None
        return cores or 1   # `snakemake --report` runs no job and needs no --cores

    @property
    def _is_local(self) -> bool:
        """Whether this process runs the jobs itself, on this machine."""
        workflow = self.workflow
        # while rules are read Snakemake has no executor yet, but nodes only if it is a cluster's
        return workflow.is_main_process and workflow.local_exec and not (
            workflow.executor_plugin is None and workflow.resource_settings.nodes)

    def _share_gpus(self) -> None:
        """Let as many jobs at once use a GPU as there are GPUs here; without any, jobs do not wait.

        ``--resources gpu=N`` comes first.
        """
        count = len(gpus.find())
        if count and "gpu" not in self.workflow.resource_settings.resources:
            self.workflow.global_resources["gpu"] = count

    def memory(self, group: str, batch: Batches | Profiles | None = None) -> Callable[..., int]:
        """Return the resource function of a rule: the memory that its job needs, in MB.

        After a failure it is more; a pause is not one. Without a record Snakemake's attempts count.
        """
        def needed(wildcards: Wildcards, attempt: int) -> int:
            jobs = self.due(batch, wildcards) if batch else [self.job(group, wildcards)]
            return max(needs.memory(self.plan, job, records.next_attempt(job.record)
                                    if job.record.exists() else attempt - 1) for job in jobs)

        return needed

    # -- jobs --------------------------------------------------------------------------------------

    def record(self, kind: str, **key: str) -> str:
        """Return the output of a rule: the pattern of a kind's records, with some of its key.

        Snakemake neither removes a record before or after a job, nor brings back an older one
        (``_keep_records``): each command decides by the record what it does, and replaces it.
        """
        return update(filled(self.folder.pattern(kind), key))

    @functools.cached_property
    def batches(self) -> list[Batches]:
        """The cells of the run in groups of one model and protocol (``made_of``).

        A group has at most as many cells as the resource ``cells`` of the rule ``evaluate`` says
        (``--set-resources evaluate:cells=N``, or a profile), by default ``CELLS``. What is set for
        the rule ``evaluate`` holds for all rules of cells, and of parts of cells.
        """
        settings = self.workflow.resource_settings
        made = grouping.made_of(self.plan, grouping.most(
            settings, EVALUATE, "cells", grouping.CELLS), self.parts.counts)
        grouping.hold_for(settings, EVALUATE, [*(one.rule for one in made), PART])
        return made

    @functools.cached_property
    def profiles(self) -> list[Profiles]:
        """The profiles of the run in groups, of the size that ``profile:profiles=N`` says."""
        settings = self.workflow.resource_settings
        made = grouping.profiles_of(self.plan, grouping.most(
            settings, PROFILE, "profiles", grouping.PROFILES))
        grouping.hold_for(settings, PROFILE, [one.rule for one in made])
        return made

    def job(self, group: str, wildcards: Wildcards) -> Job:
        """Return a job by the wildcards of its rule; the rule of the search for leaks has none.

        Those of a part of a cell begin with the cell's key.
        """
        return getattr(self.plan, group)["/".join(wildcards[:3]) or self.plan.config["run"]]

    def due(self, batch: Batches | Profiles, wildcards: Wildcards) -> list[Job]:
        """Return what a job of Snakemake must compute; all of it if the records are current."""
        jobs = batch.jobs(self.plan, wildcards)
        return [job for job in jobs if self.records.problem(job)] or jobs

    def each(self, batch: Batches | Profiles, part: str) -> Callable[[Wildcards], list[str]]:
        """Return the parameter function of a rule: a part of the key of each result that is due."""
        return lambda wildcards: [job.key[part] for job in self.due(batch, wildcards)]

    def log_patterns(self, batch: Batches | Profiles) -> list[str]:
        """Return the logs of a rule: one for each of its results."""
        return [filled(self.folder.log(batch.kind), key) for key in batch.keys]

    def logs(self, batch: Batches | Profiles) -> Callable[[Wildcards], list[str]]:
        """Return the parameter function of a rule: the log of each result that is due."""
        return lambda wildcards: [self.folder.log(job.kind).format_map(job.key)
                                  for job in self.due(batch, wildcards)]

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
        return lambda wildcards: self._inputs([self.job(group, wildcards)])

    def inputs_of(self, batch: Batches | Profiles) -> Callable[[Wildcards], list[str]]:
        """Return the input function of a rule for several results."""
        return lambda wildcards: self._inputs(self.due(batch, wildcards))

    def _inputs(self, jobs: list[Job]) -> list[str]:
        """Return what the jobs of one job of Snakemake wait for."""
        found: dict[str, str] = {}
        for job in jobs:
            current = self.records.problem(job) is None
            self._decide(job.record, current)
            found |= {str(path): path for path in (
                *self._waited_for(self.waits_for(job), current),
                *(() if current else self.parts.notes(job)))}
        return list(found.values())

    def inputs_of_part(self, wildcards: Wildcards) -> list[str]:
        """Return the inputs of a part of a cell; it is looked at again until the cell is done."""
        self._decide(Path(self.parts.note.format(**dict(wildcards.items()))), current=False)
        return self._waited_for(self.waits_for(self.job("cells", wildcards)), current=False)

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
        self._keep_records()
        if self.workflow.is_main_process and not self.workflow.dryrun:
            self.leftovers.clear_if_idle()  # if nothing is to be done, `begin` is not called
        dag = self.workflow.dag
        for chosen in (dag.untilrules, dag.omitrules):      # of --until and --omit-from
            chosen.update([PART, *(one.rule for one in self.batches)] if EVALUATE in chosen else (),
                          (one.rule for one in self.profiles) if PROFILE in chosen else ())
        # current outputs have `ancient` inputs, so that this only trigger never fires
        self.workflow.dag_settings.rerun_triggers = frozenset({RerunTrigger.MTIME})
        # a process that runs one job, perhaps on another machine, decides nothing
        if not current and output.exists() and self.workflow.is_main_process:
            self.workflow.dag.forcefiles.add(str(output))

    def _keep_records(self) -> None:
        """Make Snakemake leave records alone, also when a job fails or is killed.

        Those that a job finished before its end count, and those of an earlier run that it
        replaced do not.
        """
        if self.workflow.execution_settings is None:    # `snakemake --report` runs no job
            return
        self.workflow.execution_settings.keep_incomplete = True
        persistence = self.workflow.persistence
        persistence.backup_output = lambda path: None
        persistence.restore_output = lambda path: False

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

    # -- before and after --------------------------------------------------------------------------

    def begin(self) -> None:
        """Before the first job, lock the run's folder and write its config and plan.

        This is not a rule, because whether a job must run depends on its spec, not on the age of
        these files.
        """
        try:
            life.handle_apart()     # Snakemake has set its handler
            locks.claim(self.folder.lock)
            for path in (*self.folder.files(), *(job.record for job in self.plan.jobs())):
                files.set_folder_aside(path)
            self.leftovers.clear()
            if not self._is_local or "data" in self.workflow.dag_settings.until:
                self._fetch_weights()
            for lacking in dict.fromkeys(map(changes.lacking, self.plan.cells.values())):
                if lacking:     # the report comes after all else
                    print(f"irbench: its rows will be n/a: {lacking}.", file=sys.stderr)
            # in the config's order, which is the order of the report's rows
            files.write_json(self.folder.config, self.plan.config)
            plan_file.write(self.plan)
        except UserError as error:
            print(f"irbench: {error}", file=sys.stderr)
            os._exit(2)  # no job has started; Snakemake would report an exception as a bug

    def _fetch_weights(self) -> None:
        """Fetch weights that have a URL, since the machines of jobs may have no internet."""
        for source in {one.url: one for job in self.plan.jobs() if job.model
                       if (one := job.model.checkpoint).url}.values():
            try:
                loading.fetch_ahead(source, Path(self.plan.config["data_root"]))
                print(f"irbench: weights are here: {source.url}", file=sys.stderr)
            except UserError as error:      # the cells that need it say so, too
                print(f"irbench: {error}", file=sys.stderr)

    def announce(self) -> None:
        """After the run, print the path of the report and the missing results."""
        self.leftovers.forget_states()
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

    def labels(self, group: str, **key: str) -> Callable[[Wildcards], dict[str, str]]:
        """Return the labels of a record in Snakemake's report: its job and its result.

        ``key`` is the part of the job's key that is no wildcard.
        """
        return lambda wildcards: rows.labels(self.plan, group, self._key(group, wildcards, key))

    def subcategory(self, group: str, **key: str) -> Callable[[Wildcards], str]:
        """Return the table of a record in Snakemake's report, which is that of its task."""
        return lambda one: rows.subcategory(self.plan, group, self._key(group, one, key))

    def _key(self, group: str, wildcards: Wildcards, key: dict[str, str]) -> list[str]:
        known = {"run": self.plan.config["run"], **dict(wildcards.items()), **key}
        return [known[name] for name in plan_file.GROUPS[group]]

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
            # one file per plot; PDF and SVG files, if they were asked for, are beside it
            self._shown(folder.figures, "figure", "Plots",
                        lambda one: rows.drawing(one.name), plots_, "{name}.{suffix,png}")]
        return [path for path in files_of if Path(path).exists()]

    def _shown(self, path: Path, caption: str, category: str, subcategory: object = None,
               labels: object = None, *patterns: str) -> str:
        """Mark a file or folder for Snakemake's report."""
        place = Path(self.workflow.basedir, f"workflow/report/{caption}.rst")
        return report(str(path), LocalSourceFile(str(place)), category, subcategory, labels,
                      list(patterns))

    def _file_labels(self, folder: Path) -> Callable[[Wildcards], dict[str, str]]:
        """Return the labels of a table or plot in Snakemake's report."""
        return lambda wildcards: rows.file_labels(self.plan, folder, wildcards.name,
                                                  wildcards.suffix)
