"""Check that each result of a run belongs to the present config, code, data and weights.

The records contain all that this needs. The workflow uses the same check (``Records``): its next
run repeats exactly the jobs with a problem.

Reads the run; writes nothing.

Try: ``irbench verify``
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from irbench import plan as plans
from irbench.catalog.model import EXTERNAL, Checkpoint
from irbench.core import digests, files, messages, metrics, plugin_files, records
from irbench.core.errors import UserError
from irbench.core.run_folder import RunFolder, Stored
from irbench.data import outputs, pins, sets
from irbench.jobs import changes
from irbench.jobs.data import words_of_altered
from irbench.plan import Job, Plan
from irbench.plan import file as plan_file

AGAIN = "run the workflow again"
RESULTS = ("cell", "profile", "training")   # kinds of jobs whose records are shown and compared
CURRENT = "current"
STALE = "stale"     # it belongs to something else than the plan has now
# what makes the next run do a job: there is no record, it belongs to something else, it cannot be
# trusted, or it says that there is no result
TO_DO = ("missing", STALE, "damaged", "failed", "unavailable", "paused")
# a record is current, but a file that it was made from is not: no run can mend that
ALTERED = "altered"


@dataclass(frozen=True)
class RecordState:
    """What is to be said of a job's record.

    Attributes:
        job: the job.
        state: one of ``TO_DO``, ``ALTERED`` or ``CURRENT``.
        reason: one sentence; "" if the record is current.
    """

    job: Job
    state: str = CURRENT
    reason: str = ""

    def __str__(self) -> str:
        """Return the job and the sentence."""
        return f"{self.job.title}: {self.reason}"


@dataclass(frozen=True)
class ReportState:
    """What is to be said of a run's report: a state, as of a record, and the reason."""

    state: str
    reason: str

    def __str__(self) -> str:
        """Return the reason as a sentence on the report."""
        return f"report: {self.reason}"


class Records:
    """Compares the records of a run with its plan; each record is read once.

    Only this class decides what a run still has to do. The age of files and Snakemake's metadata
    do not matter.
    """

    def __init__(self, plan: Plan) -> None:
        """Keep the plan; nothing is read yet."""
        self.plan = plan
        self._stored: dict[Path, Stored] = {}
        self._findings: dict[Path, RecordState] = {}

    def stored(self, job: Job) -> Stored:
        """Return what is stored at the path of a job's record."""
        if job.record not in self._stored:
            self._stored[job.record] = self.plan.run_folder.load(job.kind, job.key)
        return self._stored[job.record]

    def problem(self, job: Job) -> str | None:
        """Return why a job must run (again), in one sentence; None if its record is current.
        """
        return self.find(job).reason or None

    def find(self, job: Job) -> RecordState:
        """Return what is to be said of a job's record, in as little time as possible.

        Files count by their known digests (``digests.known_digest``).
        """
        if job.record not in self._findings:
            self._findings[job.record] = RecordState(job, *self._find(job))
        return self._findings[job.record]

    def _find(self, job: Job) -> tuple[str, str]:
        stored = self.stored(job)
        if stored.missing:
            lacking = changes.lacking(job)
            return "missing", f"not computed ({job.record}){f'; {lacking}' if lacking else ''}"
        if stored.problem:
            return "damaged", f"{self.plan.folder}/{stored.problem}"
        record = stored.record
        if record["status"] != "ok":
            return record["status"], record["reason"] or "its record gives no reason"
        if not records.serves(record["spec"], job.spec):
            changed = changes.in_words(job, record, tuple(self.plan.config["plugins"]))
            return STALE, (f"its {changed} changed since{self._sizes(job, record)}; "
                           f"{changes.lacking(job) or AGAIN}")
        if job.kind == "cell" and (problem := self._of_another_kind(job, record)):
            return "damaged", f"{self.plan.folder}/{stored.place}: {problem}; {AGAIN}"
        if changed := plugin_files.changed(record["resolved"]):
            return STALE, (f"its Python code uses {messages.some(changed)}, which changed "
                           f"since; {AGAIN}")
        if problem := _check_outputs(self.plan, job, record, digests.known_digest):
            return "damaged", problem
        if job.kind == "data":
            problem = _check_images(self.plan, job.key["dataset"], anew=False)
            return ("damaged", problem) if problem else (CURRENT, "")
        trained = (self.plan.training_of(job.key["protocol"], job.key["model"])
                   if job.kind == "cell" else None)
        if trained and self.problem(trained):
            return STALE, f"its training is missing or not current; {AGAIN}"
        if trained and (self.stored(trained).record["result"]["checkpoint"]["sha256"]
                        != record["resolved"].get("checkpoint")):
            return STALE, f"computed with other weights than the training's record names; {AGAIN}"
        source = job.model.checkpoint if job.model else Checkpoint()
        if source.kind == EXTERNAL and source.url and not source.sha256:
            pin = pins.pinned(source.url, Path(self.plan.config["data_root"]) / "checkpoints")
            if pin and pin != record["resolved"].get("checkpoint"):
                return STALE, f"computed with other weights than those pinned today; {AGAIN}"
        return CURRENT, ""

    def _of_another_kind(self, job: Job, record: dict) -> str:
        """Return why a cell's record is not of the set's images and the run's metrics, else ""."""
        data = self.plan.data.get(job.key["dataset"])
        about = data.spec if data else {}
        rows = metrics.held(record.get("metrics") or (), "metrics")
        return (records.other_images(record, about.get("count"), about.get("names"))
                or "; ".join(metrics.otherwise(job.spec["metrics"], rows).values()))

    def _sizes(self, job: Job, record: dict) -> str:
        """Return how the number of a set's images changed, in parentheses; "" if it did not."""
        if record["spec"].get("dataset") == job.spec.get("dataset"):
            return ""
        data = self.plan.data.get(job.key.get("dataset", "")) if job.kind == "cell" else None
        now, before = data and data.spec["count"], len(record["result"].get("images", ()))
        return f" (the set has {now} images, then {before})" if now and now != before else ""


class Outdated(NamedTuple):
    """What is known of the results of a folder that were made from other inputs than its run has.

    Attributes:
        reasons: place of a record in the folder -> what changed since it was made.
        unknown: why this is not known; "" if it is, or if the folder has no present inputs.
    """

    reasons: dict[str, str]
    unknown: str = ""


def outdated(plan: Plan) -> dict[str, str]:
    """Return the place of each stale result of a plan's run, with what changed since."""
    known = Records(plan)
    states = [known.find(job) for job in plan.jobs() if job.kind in RESULTS]
    return {one.job.record.relative_to(plan.folder).as_posix():
            one.reason.removesuffix(f"; {AGAIN}") for one in states if one.state == STALE}


def outdated_of(folder: str | Path) -> Outdated:
    """Return which results of a run folder are stale, by the config that the run last had.

    A folder without a config, a copy and a run of another machine have no present inputs.
    """
    run = RunFolder(Path(folder))
    here = RunFolder.of_run(run.path.resolve().name)
    if not run.config.is_file() or run.path.resolve() != here.path.resolve():
        return Outdated({})
    try:
        plan = plans.load(run.config)
    except (UserError, OSError) as error:
        return Outdated({}, f"its config cannot be planned here: {error}")
    return Outdated(outdated(plan) if plan.folder.resolve() == run.path.resolve() else {})


def check(plan: Plan) -> list[str]:
    """Return one sentence per result that is missing, a failure, stale or altered; [] if none."""
    return [str(finding) for finding in find(plan)]


def find(plan: Plan) -> list[RecordState]:
    """Return what is wrong with a run's records and their files, in the order of the stages.

    Beyond what a run does again by itself (``Records``) all images and weights are hashed. A run
    sees what is found: the digests are known from now on.
    """
    found = []
    known = Records(plan)
    digest = functools.cache(digests.fresh_digest)  # of weights: read once, now
    for job in plan.jobs():
        finding = known.find(job)
        if finding.state == CURRENT:
            finding = _check_files(plan, job, known.stored(job).record, digest)
        if finding.state != CURRENT:
            found.append(finding)
    return found


def report_inputs(plan: Plan) -> dict:
    """Return what a run's report is made from: a digest of plan and code, and of each record."""
    found = {}
    for job in plan.jobs():
        with contextlib.suppress(OSError):
            found[job.title] = digests.file_digest(job.record)
    return {"plan": plan.report_fingerprint, "records": found}


def note_report(plan: Plan, made_from: dict) -> None:
    """Keep what the report was made from (``report_inputs``), and its files' digests."""
    folder = plan.run_folder
    files.write_json(folder.report_note, {"made_from": made_from, "files": {
        path.relative_to(folder.path).as_posix(): digests.file_digest(path)
        for path in folder.report_files()}})


def find_report(plan: Plan, digest: Callable[[Path], str | None] = digests.known_digest
                ) -> ReportState:
    """Return whether the report was made from the present plan, code and records, or why not.

    Its files must be unchanged. Its config and plan, which other commands read, must be those of
    the run; a run by hand has none. ``digest`` returns the digest of a file.
    """
    folder = plan.run_folder
    if not folder.report.exists():
        return ReportState("missing", f"not made ({folder.report})")
    if not folder.report_note.exists():
        return ReportState(STALE, "made with other options, or by a command that was "
                           f"interrupted; {AGAIN}")
    try:
        return ReportState(*_find_report(plan, files.read_json(folder.report_note), digest))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return ReportState("damaged", f"{folder.report_note} does not say what it was made from "
                           f"({error}); {AGAIN}")


def _find_report(plan: Plan, noted: dict, digest: Callable[[Path], str | None]) -> tuple[str, str]:
    folder, now, then = plan.run_folder, report_inputs(plan), noted["made_from"]
    if then["plan"] != now["plan"]:
        return STALE, f"the config or irbench's code changed since; {AGAIN}"
    changed = [title for title in {**now["records"], **then["records"]}
               if now["records"].get(title) != then["records"].get(title)]
    if changed:
        return STALE, f"older than these records: {messages.some(changed)}; {AGAIN}"
    for name, sha256 in noted["files"].items():
        path = folder.path / name
        if not path.is_file():
            return "missing", f"{path} is missing; {AGAIN}"
        if digest(path) != sha256:
            return "damaged", f"{path} was altered; {AGAIN}"
    if folder.config.exists() and plan.config != files.read_json(folder.config):
        return STALE, f"{folder.config} is that of another config; {AGAIN}"
    if folder.plan.exists() and not plan_file.is_of(plan):
        return STALE, f"{folder.plan} is not this run's; {AGAIN}"
    return CURRENT, ""


def _check_files(plan: Plan, job: Job, record: dict, digest: Callable[[Path], str]) -> RecordState:
    """Hash what the result of a current record was made from, or consists of."""
    source = job.model.checkpoint if job.model else Checkpoint()
    if job.kind == "data" and (problem := _check_images(plan, job.key["dataset"])):
        return RecordState(job, "damaged", problem)
    if problem := _check_outputs(plan, job, record, digest):
        return RecordState(job, "damaged", problem)
    if job.kind == "cell" and source.kind == "file" and source.sha256:
        # for bundled weights the plan has the digest of the catalog, not of the file
        path = Path(source.path)
        if not path.is_file() or digest(path) != source.sha256:
            return RecordState(job, ALTERED,
                           f"its weights, {path}, are missing or were altered; get the file again")
    if job.kind == "cell" and job.model.given and source.sha256:
        changed = outputs.altered(source.path, source.sha256, digest)
        if changed:
            return RecordState(job, ALTERED,
                               f"its result images, {source.path}, {changed}; {AGAIN}")
    return RecordState(job)


def _check_images(plan: Plan, name: str, anew: bool = True) -> str | None:
    """Hash the files of a set that are here; those that are gone can be fetched again."""
    try:
        changed = sets.altered(plan.entry(name), anew)
    except UserError as error:
        return str(error)
    return words_of_altered(name, changed) if changed else None


def _check_outputs(plan: Plan, job: Job, record: dict,
                   digest: Callable[[Path], str]) -> str | None:
    """Compare the files that a job wrote beside its record with those that the record names."""
    result, written = record["result"], {}
    if job.kind == "training":
        written = {result["checkpoint"]["file"]: result["checkpoint"]["sha256"]}
    elif job.kind == "cell" and job.spec["keep_images"]:
        for image in result["images"]:
            written |= image.get("kept") or {}
    for name, sha256 in written.items():
        path = plan.folder / name
        if not path.is_file():
            return f"{path} is missing; {AGAIN}"
        if digest(path) != sha256:
            return f"{path} was altered; {AGAIN}"
    return None
