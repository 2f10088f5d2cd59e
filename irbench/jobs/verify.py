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
from pathlib import Path

from irbench.catalog.model import EXTERNAL, Checkpoint
from irbench.core import digests, messages
from irbench.core.run_folder import Stored
from irbench.data import outputs, pins, sets
from irbench.plan import Job, Plan

AGAIN = "run the workflow again"


class Records:
    """Compares the records of a run with its plan; each record is read once.

    Only this class decides what a run still has to do. The age of files and Snakemake's metadata
    do not matter.
    """

    def __init__(self, plan: Plan) -> None:
        """Keep the plan; nothing is read yet."""
        self.plan = plan
        self._stored: dict[Path, Stored] = {}
        self._problems: dict[Path, str | None] = {}

    def stored(self, job: Job) -> Stored:
        """Return what is stored at the path of a job's record."""
        if job.record not in self._stored:
            self._stored[job.record] = self.plan.run_folder.load(job.kind, job.key)
        return self._stored[job.record]

    def problem(self, job: Job) -> str | None:
        """Return why a job must run (again), in one sentence; None if its record is current.

        Files of weights are compared by their known digests (``digests.known_digest``).
        """
        if job.record not in self._problems:
            self._problems[job.record] = self._problem(job)
        return self._problems[job.record]

    def _problem(self, job: Job) -> str | None:
        stored = self.stored(job)
        if stored.missing:
            return f"not computed ({job.record})"
        if stored.problem:
            return f"{self.plan.folder}/{stored.problem}"
        record = stored.record
        if record["status"] != "ok":
            return f"{record['status']}: {record['reason']}"
        if record["spec"] != job.spec:
            changed = sorted(key for key in job.spec if record["spec"].get(key) != job.spec[key])
            return f"stale: its {', '.join(changed) or 'spec'} changed since; {AGAIN}"
        if job.kind == "training":
            return _check_weights(self.plan, record, digests.known_digest)
        trained = (self.plan.training_of(job.key["protocol"], job.key["model"])
                   if job.kind == "cell" else None)
        if trained and self.problem(trained):
            return f"its training is missing or not current; {AGAIN}"
        if trained and (self.stored(trained).record["result"]["checkpoint"]["sha256"]
                        != record["resolved"].get("checkpoint")):
            return f"computed with other weights than the training's record names; {AGAIN}"
        source = job.model.checkpoint if job.model else Checkpoint()
        if source.kind == EXTERNAL and source.url and not source.sha256:
            pin = pins.pinned(source.url, Path(self.plan.config["data_root"]) / "checkpoints")
            if pin and pin != record["resolved"].get("checkpoint"):
                return f"computed with other weights than those pinned today; {AGAIN}"
        return None


def check(plan: Plan) -> list[str]:
    """Return one sentence per result that is missing, a failure, stale or altered; [] if none.

    In addition to the checks of ``Records``, all images and weights are hashed.
    """
    problems = []
    known = Records(plan)
    digest = functools.cache(digests.file_digest)  # reads each file of weights once
    for job in plan.jobs():
        problem = known.problem(job) or _check_files(plan, job, known.stored(job).record, digest)
        if problem:
            problems.append(f"{job.title}: {problem}")
    return problems


def report_digest(plan: Plan) -> str:
    """Return the digest of all inputs of a run's report: plan, code and records."""
    content = {}
    for job in plan.jobs():
        with contextlib.suppress(OSError):
            content["/".join((job.kind, *job.key.values()))] = digests.file_digest(job.record)
    return digests.fingerprint({"plan": plan.report_fingerprint, "records": content})


def report_is_current(plan: Plan) -> bool:
    """Return whether the report was made from the present plan, code and records."""
    try:
        return plan.run_folder.report_digest.read_text().strip() == report_digest(plan)
    except OSError:
        return False


def _check_files(plan: Plan, job: Job, record: dict, digest: Callable[[Path], str]) -> str | None:
    """Hash the files that a current record was made from, and the files it describes."""
    if job.kind == "data":
        return _check_images(plan, job.key["dataset"])
    if job.kind == "training":
        return _check_weights(plan, record, digests.file_digest)
    source = job.model.checkpoint if job.model else Checkpoint()
    if job.kind == "cell" and source.kind == "file" and source.sha256:
        # for bundled weights the plan has the digest of the catalog, not of the file
        path = Path(source.path)
        if not path.is_file() or digest(path) != source.sha256:
            return f"its weights, {path}, are missing or were altered; get the file again"
    if job.kind == "cell" and job.model.given and source.sha256:
        changed = outputs.altered(source.path, source.sha256, digest)
        return f"its result images, {source.path}, {changed}; {AGAIN}" if changed else None
    return None


def _check_images(plan: Plan, name: str) -> str | None:
    """Hash the present files of a set; missing files can be fetched again."""
    if changed := sets.altered(plan.entry(name)):
        return (f"{len(changed)} files changed after they were scored ({messages.some(changed)}); "
                f"irbench data check {name} shows what to do")
    return None


def _check_weights(plan: Plan, record: dict, digest: Callable[[Path], str]) -> str | None:
    """Compare the weights of a training with its record."""
    kept = record["result"]["checkpoint"]
    path = plan.folder / kept["file"]
    if not path.is_file():
        return f"{path} is missing; {AGAIN}"
    if digest(path) != kept["sha256"]:
        return f"{path} was altered; {AGAIN}"
    return None
