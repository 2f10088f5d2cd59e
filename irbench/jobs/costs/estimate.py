"""What a run will need: jobs, hours of a device, disk and memory, each with its source.

Everything here is an estimate from measurements, and what was not measured stays unknown: it is
named, with the command that would measure it, and totals then say "at least". What is done already
is counted apart.

Reads the run, the records of other runs, and which files are here; writes nothing.

Try: ``irbench plan --cost``
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from irbench.core.run_folder import RunFolder
from irbench.inference import devices
from irbench.jobs import verify
from irbench.jobs.costs import hours, measured, room
from irbench.jobs.costs.hours import ON_DEVICE, Hours, Share, Speeds
from irbench.jobs.costs.room import DiskNeed
from irbench.plan import Job, Plan

KINDS = ("data", "training", "cell", "profile", "bench", "leaks", "report")
DONE = (verify.CURRENT, verify.ALTERED)


@dataclass
class JobsOfModel:
    """The jobs of one kind and one model.

    Attributes:
        kind: of the jobs.
        what: the model; of other jobs the kind itself.
        jobs: how many there are; ``done`` of them are finished.
        known: how many of the others have a known time: ``seconds`` together.
        sources: what was measured, with how many jobs rest on it.
        unknown: why a time is not known, with how many jobs lack it for this reason.
        measure: reason -> the command that would measure it.
        lacks_beside: how many of the known times lack loading and scoring.
        gpu_memory: bytes, the most of any job; None if it is not known.
    """

    kind: str
    what: str
    jobs: int = 0
    done: int = 0
    known: int = 0
    seconds: float = 0.0
    sources: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    measure: dict[str, str] = field(default_factory=dict)
    lacks_beside: int = 0
    gpu_memory: float | None = None

    @property
    def left(self) -> int:
        """How many jobs are not finished."""
        return self.jobs - self.done

    @property
    def at_least(self) -> bool:
        """Whether the time is only a lower limit."""
        return bool(self.unknown or self.lacks_beside)

    def add(self, share: Share) -> None:
        """Count a job that is left."""
        if share.seconds is None:
            self.unknown[share.unknown] += 1
            self.measure.setdefault(share.unknown, share.measure)
            return
        self.known += 1
        self.seconds += share.seconds
        self.sources[share.source] += 1
        self.lacks_beside += share.lacks_beside


@dataclass(frozen=True)
class Estimate:
    """What a run will need.

    Attributes:
        run: its name.
        folders: the folders whose records were read.
        asked: the kind of device that the config asks for: auto, cpu, cuda or mps.
        machine: on what the times were measured; "" if nothing was.
        device: the kind of device that they are of, as asked for; for ``auto`` that of the
            measurements, "" without any.
        others: other machines with their devices -> how many measurements were not used.
        rows: the jobs by kind and model; ``report`` is the last.
        memory: kind of job -> MB that one job asks for.
        disk: what is needed on the disk.
    """

    run: str
    folders: tuple[str, ...]
    asked: str
    machine: str
    device: str
    others: dict[str, int]
    rows: tuple[JobsOfModel, ...]
    memory: dict[str, int]
    disk: tuple[DiskNeed, ...]

    @property
    def timed(self) -> list[JobsOfModel]:
        """The rows of kinds that take time of the device."""
        return [row for row in self.rows if row.kind in ON_DEVICE]

    @property
    def seconds(self) -> float:
        """The known seconds of all jobs that are left."""
        return sum(row.seconds for row in self.timed)

    @property
    def at_least(self) -> bool:
        """Whether ``seconds`` is only a lower limit."""
        return any(row.at_least for row in self.timed)

    @property
    def rules(self) -> tuple[str, ...]:
        """How this was estimated, in words; nothing about GPUs where none is used."""
        return (*hours.RULES, *(hours.GPU_RULES if self.device in ("cuda", "mps") else ()),
                *room.RULES, *(room.GPU_RULES if self.device == "cuda" else ()))

    @property
    def bytes(self) -> int:
        """The known bytes on the disk."""
        return sum(need.bytes for need in self.disk)

    @property
    def bytes_at_least(self) -> bool:
        """Whether ``bytes`` is only a lower limit."""
        return any(need.unknown for need in self.disk)

    def as_dict(self) -> dict:
        """Return the estimate as plain data; unknown values are null."""
        return {
            "run": self.run, "estimate": True, "measured_in": list(self.folders),
            "device_asked": self.asked, "machine": self.machine or None,
            "device": self.device or None, "not_used": self.others,
            "jobs": sum(row.jobs for row in self.rows),
            "left": sum(row.left for row in self.rows),
            "hours": _hours(self.timed), "hours_at_least": self.at_least,
            "disk_bytes": _known(self.bytes, self.bytes_at_least),
            "disk_at_least": self.bytes_at_least,
            "memory_mb": self.memory, "rows": [_plain(row) for row in self.rows],
            "disk": [{"what": need.what, "bytes": _known(need.bytes, bool(need.unknown)),
                      "source": need.source, "unknown": list(need.unknown)}
                     for need in self.disk],
            "rules": list(self.rules)}


def _hours(rows: Sequence[JobsOfModel]) -> float | None:
    """Return the hours of rows, None if jobs are left of which none is known."""
    if not any(row.known or not row.left for row in rows):
        return None
    return round(sum(row.seconds for row in rows) / 3600, 4)


def _known(count: int, at_least: bool) -> int | None:
    """Return a number of bytes, None if no part of it is known."""
    return None if at_least and not count else count


def _plain(row: JobsOfModel) -> dict:
    return {"kind": row.kind, "what": row.what, "jobs": row.jobs, "done": row.done,
            "left": row.left, "hours": _hours([row]) if row.kind in ON_DEVICE else None,
            "at_least": row.at_least, "sources": dict(row.sources),
            "unknown": [{"reason": reason, "jobs": count, "measure": row.measure[reason] or None}
                        for reason, count in row.unknown.items()],
            "without_loading_and_scoring": row.lacks_beside,
            "gpu_memory_bytes": row.gpu_memory and round(row.gpu_memory)}


def estimate(plan: Plan, config: str | Path, folders: list[RunFolder]) -> Estimate:
    """Return what a run will need.

    Args:
        plan: the run.
        config: its file, as commands name it.
        folders: runs whose records tell how long something takes, beside the run's own.
    """
    own = [plan.run_folder] if measured.has_records(plan.run_folder) else []
    found = measured.read(dict.fromkeys([*own, *folders]), tuple(plan.config["catalog_paths"]))
    known = verify.Records(plan)
    states = {job.title: known.find(job).state for job in plan.jobs()}
    left = [job for job in plan.jobs() if states[job.title] not in DONE]
    best = _best(plan, found, left, str(config))
    rows: dict[tuple[str, str], JobsOfModel] = {}
    for job in plan.jobs():
        row = rows.setdefault((job.kind, what := _what(job)), JobsOfModel(job.kind, what))
        row.jobs += 1
        if states[job.title] in DONE:
            row.done += 1
            continue
        if job.kind in ON_DEVICE:
            row.add(best.of(job))
            row.gpu_memory = max(filter(None, (row.gpu_memory, room.on_gpu(best, job))),
                                 default=None)
    made = not left and verify.find_report(plan).state == verify.CURRENT
    rows["report", ""] = JobsOfModel("report", "report", jobs=1, done=int(made))
    machine, device = best.speeds.place
    return Estimate(
        plan.config["run"], tuple(map(str, found.folders)), _asked(plan), machine, device,
        dict(Counter(f"{one.machine} ({one.device})" for one in found.all()
                     if one.place != best.speeds.place)),
        tuple(sorted(rows.values(), key=lambda row: KINDS.index(row.kind))),
        room.memory(plan, plan.jobs()), tuple(room.disk(plan, best, left)))


def _best(plan: Plan, found: measured.Measurements, left: list[Job], config: str) -> Hours:
    """Return the estimates for the machine that tells the most about the jobs that are left.

    A measurement of another device than the config asks for tells nothing about the run.
    """
    asked = _asked(plan)
    counted = Counter(one.place for one in found.all() if asked in ("auto", one.device))
    nothing = ("", "" if asked == "auto" else asked)
    candidates = [Hours(plan, Speeds(found, place), config) for place in counted or [nothing]]
    if len(candidates) == 1:
        return candidates[0]
    return max(candidates, key=lambda one: (
        sum(one.of(job).seconds is not None for job in left if job.kind in ON_DEVICE),
        counted[one.speeds.place]))


def _asked(plan: Plan) -> str:
    return devices.kind_of(plan.config["device"])


def _what(job: Job) -> str:
    return job.key.get("model") or job.key.get("bench") or job.kind
