"""Recheck a finished run: does each result belong to the config, code, data and weights of today?

The records carry all that is needed to say it. The workflow asks the same (``Records``): what it
does in the next run is what is found here.

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
from irbench.data import pins, sets
from irbench.plan import Job, Plan

AGAIN = "run the workflow again"


class Records:
    """The records of a run held against its plan, each read once.

    This alone decides what a run still has to do: neither the age of a file nor any note of
    Snakemake's counts.
    """

    def __init__(self, plan: Plan) -> None:
        """Read nothing yet."""
        self.plan = plan
        self._stored: dict[Path, Stored] = {}
        self._problems: dict[Path, str | None] = {}

    def stored(self, job: Job) -> Stored:
        """Return what lies at the place of a job's record."""
        if job.record not in self._stored:
            self._stored[job.record] = self.plan.run_folder.load(job.kind, job.key)
        return self._stored[job.record]

    def problem(self, job: Job) -> str | None:
        """Return why a job is to be done (again), in one sentence; None if its record is current.

        Files of weights count by their known digests (``digests.known_digest``).
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

    Beyond what a run does again by itself (``Records``) all images and weights are hashed.
    """
    problems = []
    known = Records(plan)
    digest = functools.cache(digests.file_digest)  # of weights: read now, once for all their cells
    for job in plan.jobs():
        problem = known.problem(job) or _check_files(plan, job, known.stored(job).record, digest)
        if problem:
            problems.append(f"{job.title}: {problem}")
    return problems


def report_digest(plan: Plan) -> str:
    """Return the digest of all that the report of a run is made from: plan, code and records."""
    content = {}
    for job in plan.jobs():
        with contextlib.suppress(OSError):
            content["/".join((job.kind, *job.key.values()))] = digests.file_digest(job.record)
    return digests.fingerprint({"plan": plan.report_fingerprint, "records": content})


def report_is_current(plan: Plan) -> bool:
    """Return whether the report was made from today's plan and code and from these records."""
    try:
        return plan.run_folder.report_digest.read_text().strip() == report_digest(plan)
    except OSError:
        return False


def _check_files(plan: Plan, job: Job, record: dict, digest: Callable[[Path], str]) -> str | None:
    """Hash what the result of a current record was made from, or consists of."""
    if job.kind == "data":
        return _check_images(plan, job.key["dataset"])
    if job.kind == "training":
        return _check_weights(plan, record, digests.file_digest)
    source = job.model.checkpoint if job.model else Checkpoint()
    if job.kind == "cell" and source.kind == "file" and source.sha256:
        # of bundled weights the plan's digest is the catalog's, not the file's
        path = Path(source.path)
        if not path.is_file() or digest(path) != source.sha256:
            return f"its weights, {path}, are gone or were altered; get the file again"
    return None


def _check_images(plan: Plan, name: str) -> str | None:
    """Hash the files of a set that are here; those that are gone can be fetched again."""
    if changed := sets.altered(plan.entry(name)):
        return (f"{len(changed)} files are not those that were scored ({messages.some(changed)}); "
                f"irbench data check {name} says what to do")
    return None


def _check_weights(plan: Plan, record: dict, digest: Callable[[Path], str]) -> str | None:
    """Compare the weights of a training with its record."""
    kept = record["result"]["checkpoint"]
    path = plan.folder / kept["file"]
    if not path.is_file():
        return f"{path} is gone; {AGAIN}"
    if digest(path) != kept["sha256"]:
        return f"{path} was altered; {AGAIN}"
    return None
