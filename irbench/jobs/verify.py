"""Recheck a finished run: does each result belong to the config, code, data and weights of today?

Snakemake knows this only from its own notes in ``.snakemake``; the records carry it themselves.

Try: ``irbench verify``
"""

from __future__ import annotations

from pathlib import Path

from irbench.catalog.model import EXTERNAL, Checkpoint
from irbench.core import digests, messages, records
from irbench.core.errors import UserError
from irbench.data import pins, sets
from irbench.plan import Job, Plan


def check(plan: Plan) -> list[str]:
    """Return one sentence per result that is missing, a failure, stale or altered; [] if none."""
    problems = []
    for job in plan.jobs():
        problem = _check_job(plan, job)
        if problem:
            problems.append(f"{job.title}: {problem}")
    return problems


def _check_job(plan: Plan, job: Job) -> str | None:
    if not job.record.exists():
        return f"not computed ({job.record})"
    try:
        record = records.read(job.record)
    except UserError as error:
        return str(error)
    if record["status"] != "ok":
        return f"{record['status']}: {record['reason']}"
    if record["spec"] != job.spec:
        changed = sorted(key for key in job.spec if record["spec"].get(key) != job.spec[key])
        return f"stale: its {', '.join(changed) or 'spec'} changed since; run the workflow again"
    if job.kind == "data":
        return _check_images(plan, job.key["dataset"])
    if job.kind == "training":
        kept = record["result"]["checkpoint"]
        return _check_file(plan.folder / kept["file"], kept["sha256"])
    trained = (plan.training_of(job.key["protocol"], job.key["model"]) if job.kind == "cell"
               else None)
    if trained:
        try:
            training = records.read(trained.record)
        except UserError:
            return "its training's record is missing or broken; run the workflow again"
        if (training["result"] or {}).get("checkpoint", {}).get("sha256") != (
                record["resolved"]["checkpoint"]):
            return "computed with other weights than the training's record names; run again"
    source = job.model.checkpoint if job.model else Checkpoint()
    if job.kind == "cell" and source.kind == "file" and source.sha256:
        # of bundled weights the plan's digest is the catalog's, not the file's
        path = Path(source.path)
        if not path.is_file() or digests.known_digest(path) != source.sha256:
            return f"its weights, {path}, are gone or were altered; get the file again"
    if source.kind == EXTERNAL and source.url and not source.sha256:
        pin = pins.pinned(source.url, Path(plan.config["data_root"]) / "checkpoints")
        if pin and pin != record["resolved"].get("checkpoint"):
            return "computed with other weights than those pinned today; delete it and run again"
    return None


def _check_images(plan: Plan, name: str) -> str | None:
    """Hash the files of a set that are here; those that are gone can be fetched again."""
    if changed := sets.altered(plan.entry(name)):
        return (f"{len(changed)} files are not those that were scored ({messages.some(changed)}); "
                f"irbench data check {name} says what to do")
    return None


def _check_file(path, sha256: str) -> str | None:
    if not path.is_file():
        return f"{path} is gone; delete the record and run again"
    if digests.file_digest(path) != sha256:
        return f"{path} was altered; delete it with the record and run again"
    return None
