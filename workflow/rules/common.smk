# The plan of this run, and helpers for the other rules.
import os
import shutil
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import update_config

from irbench import plan as plans
from irbench import snakefile
from irbench.core import digests, files, locks, records
from irbench.core.errors import UserError
from irbench.plan import config as configs


def load_config(given):
    """A config file stands alone: config.yaml is read only when no other file was given, since
    Snakemake would merge the two. `--config key=value` changes single values of either."""
    if workflow.overwrite_configfiles:
        return given
    default = configs.read(Path(workflow.basedir) / "config.yaml")
    update_config(default, given)
    return default


FILES = workflow.overwrite_configfiles or [Path(workflow.basedir) / "config.yaml"]
WHERE = f"config {' + '.join(map(str, FILES))}"
try:
    for file in FILES:
        configs.read(file)  # Snakemake takes a key given twice without a word; this does not
    SETTINGS = configs.check(load_config(config), WHERE)
    PLAN = plans.build(SETTINGS, WHERE)
except UserError as error:
    print(f"irbench: {error}", file=sys.stderr)
    sys.exit(2)

RUN = str(PLAN.folder)
CONFIG = f"{RUN}/config.json"  # complete, as all jobs read it; written when a run starts
# a GPU serves one job at a time (profiles/default limits the resource); where none is, none waits
GPU = int(
    SETTINGS["device"] == "cuda"
    or (SETTINGS["device"] == "auto" and shutil.which("nvidia-smi") is not None)
)

try:
    CORES = workflow.cores
except WorkflowError:  # `snakemake --report` runs nothing, and need not be told any
    CORES = 1


wildcard_constraints:
    protocol=r"[^/]+",
    dataset=r"[^/]+",
    model=r"[^/]+",
    bench=r"[^/]+",


def attempt(kind):
    """A job runs again when this parameter changes: it rises when the stored record is a failure,
    or of another spec than the plan's. The spec holds everything the job depends on."""

    def number(wildcards):
        job = getattr(PLAN, kind)["/".join(wildcards)]
        return records.next_attempt(job.record, job.spec)

    return number


def training_data(wildcards):
    """The datasets a training waits for."""
    job = PLAN.trainings["/".join(wildcards)]
    return [str(PLAN.data[name].record) for name in job.model.training.data]


def leak_data(wildcards):
    """The datasets that the search for leaks waits for: none is fetched for it alone."""
    pairs = PLAN.leaks[SETTINGS["run"]].spec["pairs"]
    names = dict.fromkeys(entry["name"] for pair in pairs for entry in pair)
    return [str(PLAN.data[name].record) for name in names if name in PLAN.data]


def weights(wildcards):
    """The training a cell waits for, if its model is trained here; a variant's is its base's."""
    job = PLAN.training_of(wildcards.protocol, wildcards.model)
    return [str(job.record)] if job else []


def all_records(*kinds):
    """The records of all jobs of some kinds."""
    return [str(job.record) for kind in kinds for job in getattr(PLAN, kind).values()]


def told(kind):
    """What Snakemake's own report says of a record: its labels, with what came out."""
    run = [SETTINGS["run"]]  # names the one job of its kind
    return lambda wildcards: snakefile.labels(PLAN, kind, list(wildcards) or run)


def table_of(kind):
    """The subcategory of a record in Snakemake's own report: its task."""
    return lambda wildcards: snakefile.subcategory(PLAN, kind, list(wildcards))


def told_of_file(folder):
    """The labels of a table or a figure."""
    return lambda wildcards: snakefile.file_labels(
        PLAN, f"{RUN}/{folder}", wildcards.name, wildcards.suffix)


def begin():
    """Before the first job: claim the run's folder, then write down its configuration.

    Not a rule: whether a job must run depends on its own spec, not on this file's age.
    """
    try:
        locks.claim(PLAN.folder)
    except UserError as error:
        print(f"irbench: {error}", file=sys.stderr)
        os._exit(2)  # no job has begun; an exception would be reported as a defect
    files.write_atomic(CONFIG, digests.canonical(SETTINGS) + "\n")


def announce():
    """End by naming the report, and what is missing in it."""
    if not (PLAN.folder / "report.html").exists():
        return  # only a part of the run was asked for
    stored = [(job, records.read(job.record)) for job in PLAN.jobs() if job.record.exists()]
    missing = [(job, record) for job, record in stored if record["status"] != "ok"]
    reasons = {}
    for job, record in missing:
        reasons.setdefault(record["reason"], []).append(job.title)
    for reason, titles in reasons.items():
        more = f" and {len(titles) - 1} more" if len(titles) > 1 else ""
        print(f"n/a: {titles[0]}{more}: {reason}", file=sys.stderr)
    if missing:
        print(f"{len(missing)} of {len(stored)} jobs gave no result; the next run tries them again",
              file=sys.stderr)
    print(f"The report: {(PLAN.folder / 'report.html').resolve()}", file=sys.stderr)
