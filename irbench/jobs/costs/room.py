"""How much disk and memory a run will need, each with where the number comes from.

Sizes of downloads are those of the catalog; pixels count one byte per channel. Reads which files
are here and the sizes of images; writes nothing.

Try: ``irbench plan --cost``
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from irbench.catalog.protocols import Protocol
from irbench.data import sets
from irbench.jobs import needs
from irbench.jobs.costs.hours import Hours
from irbench.plan import Job, Plan
from irbench.weights import loading

FLOAT = 4           # bytes of a parameter
# copies of a network on the disk: last and best weights; and two saved states, each with the
# network, its running mean and two moments, until the training has ended
WEIGHTS, STATES = 2, 8
PARAMETERS = "parameters in records and cards"      # the source of sizes of weights
RULES = (
    "downloads: the sizes that the catalog states; archives need about as much again unpacked",
    "decoded training images: one byte per pixel and channel, in DATA_ROOT/decoded",
    f"a training: {WEIGHTS} files of weights, and states of {STATES} times the parameters until "
    f"it ends, {FLOAT} bytes each",
    "pictures (`keep_images`): at most one byte per pixel and channel; PNG files are smaller",
    "memory: what the workflow asks a scheduler for, by the largest image (irbench/jobs/needs.py); "
    "a network that does not fit runs in tiles")
GPU_RULES = ("memory of a GPU: the profile's peak, in proportion to the pixels of the largest "
             "image",)


@dataclass(frozen=True)
class DiskNeed:
    """What something needs on the disk.

    Attributes:
        what: in words.
        bytes: of those parts whose size is known.
        source: where the number comes from.
        unknown: the parts whose size is not known.
    """

    what: str
    bytes: int
    source: str
    unknown: tuple[str, ...] = ()


def disk(plan: Plan, hours: Hours, left: Iterable[Job]) -> list[DiskNeed]:
    """Return what the jobs that are left need on the disk; what needs nothing is left out.

    ``hours`` knows the sizes of images and the numbers of parameters.
    """
    left = list(left)
    trainings = [job for job in left if job.kind == "training"]
    cells = [job for job in left if job.kind == "cell"]
    parts = (("sets to download", "the catalog", _downloads(plan, left)),
             ("weights to download", PARAMETERS, _weights(plan, hours, cells)),
             ("decoded training images", "image sizes", _decoded(plan, hours, trainings)),
             ("weights and states", PARAMETERS, _states(plan, hours, trainings)),
             ("pictures, at most", "image sizes",
              _pictures(plan, hours, cells) if plan.config["keep_images"] else ()))
    found = []
    for what, source, several in parts:
        counted = dict(several)
        known = sum(size for size in counted.values() if size is not None)
        unknown = tuple(name for name, size in counted.items() if size is None)
        if known or unknown:
            found.append(DiskNeed(what, round(known), source, unknown))
    return found


def memory(plan: Plan, jobs: Iterable[Job]) -> dict[str, int]:
    """Return kind of job -> the most memory in MB that one of these jobs asks for."""
    alike: dict[tuple, Job] = {}    # jobs that need the same
    for job in jobs:
        model = job.model and (job.model.arch, job.model.learned)
        alike[job.kind, job.key.get("dataset") if model else None, model] = job
    found: dict[str, int] = {}
    for job in alike.values():
        found[job.kind] = max(found.get(job.kind, 0), needs.memory(plan, job))
    return found


def on_gpu(hours: Hours, job: Job) -> float | None:
    """Return the bytes of GPU memory that a cell or a profile needs; None if that is not known."""
    known = hours.latency(job) if job.kind in ("cell", "profile") and job.model.learned else None
    if known is None or known.memory is None or known.at.device != "cuda":
        return None
    if job.kind == "profile":
        how = job.spec["profile"]
        largest = how["height"] * how["width"] * how["batch"]
    else:
        images = hours.images(job)
        largest = images and images[-1]
    pixels, size = known.memory
    return largest and size * max(1.0, largest / pixels)


def _downloads(plan: Plan, left: list[Job]) -> Iterator[tuple[str, int | None]]:
    root = plan.config["data_root"]
    for job in left:
        if job.kind != "data":
            continue
        entry = plan.entry(job.key["dataset"])
        if sets.state(entry, root) == "complete":
            continue
        size = sets.extent(entry, root)[1] if entry.kind in ("manifest", "archive") else None
        how = "" if entry.kind in ("manifest", "archive") else " (you supply it)"
        yield f"{entry.name}{how}", size


def _weights(plan: Plan, hours: Hours, cells: list[Job]) -> Iterator[tuple[str, float | None]]:
    for job in cells:
        source = job.model.checkpoint
        if loading.to_fetch(source, Path(plan.config["data_root"])):
            known = hours.parameters(job.model, plan.protocols[job.key["protocol"]])
            yield source.url.rpartition("/")[2], known and FLOAT * known


def _decoded(plan: Plan, hours: Hours, trainings: list[Job]
             ) -> Iterator[tuple[str, float | None]]:
    for job in trainings:
        protocol = plan.scopes["/".join(job.key.values())]
        for name in job.model.training.data:
            found = hours.sizes(name)
            yield _decoded_as(name, protocol), found and found.total * protocol.channels * (
                2 if protocol.paired else
                1 + protocol.scale ** -2 if protocol.fixed_input else 1)


def _decoded_as(name: str, protocol: Protocol) -> str:
    """Return a name that is the same for trainings that read the same decoded files."""
    inputs = f", x{protocol.scale}" if protocol.fixed_input and not protocol.paired else ""
    return f"{name} ({protocol.color}{inputs})"


def _states(plan: Plan, hours: Hours, trainings: list[Job]
            ) -> Iterator[tuple[str, int | None]]:
    for job in trainings:
        known = hours.parameters(job.model, plan.scopes["/".join(job.key.values())])
        yield " / ".join(job.key.values()), known and FLOAT * (WEIGHTS + STATES) * known


def _pictures(plan: Plan, hours: Hours, cells: list[Job]
              ) -> Iterator[tuple[str, float | None]]:
    for job in cells:
        protocol, name = plan.protocols[job.key["protocol"]], job.key["dataset"]
        entry = plan.entry(name)
        found = hours.sizes(name)
        results = found and found.total * protocol.channels * (
            protocol.scale**2 if entry.paired else 1)
        yield f"{job.title}", results
        # input and target lie there once for all models
        yield f"{name} under {protocol.id}", results and results * (
            1 - entry.targetless + protocol.scale ** -2)

