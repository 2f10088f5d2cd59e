"""The plan of a run as a file, ``results/RUN/plan.json``: written once, read by each job.

A job reads its own entry instead of planning the run, so it starts as fast in a run of 10,000 cells
as in one of 10. Values that jobs share (protocols, models, digests, settings) are stored once, as
one of the ``parts``, and are referred to by number. Objects are created only when requested.

Writes and reads that file; ``settled`` also looks at the sets and the sources of one job.

Try: ``python -c "from irbench import plan; from irbench.plan import file
print(file.read(file.write(plan.load('config.yaml'))).jobs()[0])"``
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Generic, TypeVar

from irbench.catalog.datasets import DatasetEntry
from irbench.catalog.model import Model
from irbench.catalog.protocols import Protocol
from irbench.catalog.published import Figure
from irbench.core import digests, files, records
from irbench.core.errors import UserError
from irbench.core.run_folder import RunFolder
from irbench.imaging import metrics
from irbench.plan import compose, contents, scoring, sources
from irbench.plan.compose import Plan
from irbench.plan.job import Job

SCHEMA_VERSION = 3
# the groups of jobs in a plan -> the names of the parts of their keys
GROUPS = {"data": ("dataset",), "trainings": ("protocol", "model"),
          "cells": ("protocol", "dataset", "model"), "profiles": ("protocol", "model"),
          "benches": ("bench",), "leaks": ("run",)}
KINDS = {"data": "data", "trainings": "training", "cells": "cell", "profiles": "profile",
         "benches": "bench", "leaks": "leaks"}
T = TypeVar("T")


# -- writing -----------------------------------------------------------------------------------

class _Parts:
    """Values that are written once, no matter how often they occur."""

    def __init__(self) -> None:
        self.values: list[object] = []
        self._numbers: dict[str, int] = {}

    def number(self, value: object) -> int:
        """Return the number of a value; a new value gets a new number."""
        text = digests.canonical(value)
        if text not in self._numbers:
            self._numbers[text] = len(self.values)
            self.values.append(value)
        return self._numbers[text]


def write(plan: Plan) -> Path:
    """Write a plan into its run's folder atomically; return the path of the file.

    Raises:
        UserError: the disk is full.
    """
    parts = _Parts()
    named = {name for job in plan.leaks.values() for pair in job.spec["pairs"]
             for name in (one["name"] for one in pair)}
    used = dict.fromkeys([*plan.data, *sorted(named)])
    value = {
        "schema_version": SCHEMA_VERSION,
        "config": plan.config,
        "protocols": {name: parts.number(one.as_dict()) for name, one in plan.protocols.items()},
        "scopes": {name: parts.number(one.as_dict()) for name, one in plan.scopes.items()},
        "models": {name: parts.number(one.as_dict()) for name, one in plan.models.items()},
        "sets": {name: plan.known[name].as_dict() for name in used},
        "references": plan.references,
        "costs": plan.costs,
        "figures": [figure.as_dict() for figure in plan.figures],
        "trained_on": {name: parts.number(one) for name, one in plan.trained_on.items()},
        "jobs": {group: {name: _job(parts, job) for name, job in getattr(plan, group).items()}
                 for group in GROUPS},
        "parts": parts.values,
    }
    path = plan.run_folder.plan
    files.write_atomic(path, json.dumps(value, separators=(",", ":"), ensure_ascii=False,
                                        allow_nan=False) + "\n")
    return path


def _job(parts: _Parts, job: Job) -> list:
    """Return a job's spec with part numbers as values, and the part number of its model."""
    model = None if job.model is None else parts.number(job.model.as_dict())
    return [{name: parts.number(value) for name, value in job.spec.items()}, model]


# -- reading -----------------------------------------------------------------------------------

class _Lazy(Mapping, Generic[T]):
    """A mapping that creates each value from stored data on first access."""

    def __init__(self, path: Path, stored: dict[str, object],
                 make: Callable[[str, object], T]) -> None:
        self._path, self._stored, self._make, self._made = path, dict(stored), make, {}

    def __getitem__(self, name: str) -> T:
        if name not in self._made:
            stored = self._stored[name]
            with _plan(self._path):
                self._made[name] = self._make(name, stored)
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._stored

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)


@contextlib.contextmanager
def _plan(path: Path) -> Iterator[None]:
    """Raise UserError for what is not in the form that ``write`` gives it."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError):
        raise UserError(f"{path}: not a plan. Run the workflow again, which writes it anew."
                        ) from None


def read(path: str | Path) -> Plan:
    """Return the plan in a file; the run's folder is the file's folder.

    Of the catalog it contains only the run's sets. Its jobs are as they were when planned; see
    ``settled``.

    Raises:
        UserError: the file is missing, was not made by ``write``, or has another version.
    """
    path = Path(path)
    try:
        state = _state(path)
        with _plan(path):
            value = files.read_json(path)
            version = value["schema_version"]
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}. The workflow writes it when a run starts; "
                        "by hand give --config instead.") from None
    if version != SCHEMA_VERSION:
        raise UserError(f"{path}: schema_version is {version!r}, this irbench reads "
                        f"{SCHEMA_VERSION}. Run the workflow again, which writes it anew.")
    with _plan(path):
        return _made(path, value, value["parts"], state)


def _made(path: Path, value: dict, parts: list, state: tuple | None) -> Plan:
    folder = RunFolder(path.parent)
    config = dict(value["config"])
    scoring.resolve(config["metrics"], config.get("metric_plugins", ()), str(path))

    def asks_for(job: Job) -> bool:
        return _state(path) == state or _same_job(found, path, job)

    def protocol(_: str, number: int) -> Protocol:
        return Protocol.from_dict(parts[number])

    def job(group: str) -> Callable[[str, list], Job]:
        def make(name: str, stored: list) -> Job:
            key = dict(zip(GROUPS[group], name.split("/"), strict=True))
            spec, model = stored
            return Job(KINDS[group], key, {name: parts[number] for name, number in spec.items()},
                       folder.record(KINDS[group], key),
                       None if model is None else Model.from_dict(parts[model]))
        return make

    def lazy(stored: dict, make: Callable) -> _Lazy:
        return _Lazy(path, stored, make)

    found = Plan(
        config, folder.path, lazy(value["protocols"], protocol),
        lazy(value["models"], lambda _, number: Model.from_dict(parts[number])),
        lazy(value["sets"], lambda _, stored: DatasetEntry.from_dict(stored)),
        scopes=lazy(value["scopes"], protocol), references=value["references"],
        costs=value["costs"],
        figures=tuple(map(Figure.from_dict, value["figures"])),
        trained_on=lazy(value["trained_on"], lambda _, number: parts[number]),
        asks_for=asks_for,
        **{group: lazy(value["jobs"][group], job(group)) for group in GROUPS})
    return found


def is_of(plan: Plan) -> bool:
    """Return whether the file of a plan's run can be read and has the same jobs, by their names."""
    try:
        stored = read(plan.run_folder.plan)
    except UserError:
        return False
    return all(list(getattr(stored, group)) == list(getattr(plan, group)) for group in GROUPS)


def _state(path: Path) -> tuple[int, int, int] | None:
    """Return what changes when a file is written anew; None if there is none."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def _same_job(before: Plan, path: Path, job: Job) -> bool:
    """Return whether the plan that a file holds now asks for a job as an earlier plan did."""
    group = next(group for group, kind in KINDS.items() if kind == job.kind)
    name = "/".join(job.key.values())
    try:
        plan = read(path)
        old, new = (getattr(one, group).get(name) for one in (before, plan))
        return None not in (old, new) and (
            records.serves(old.spec, new.spec)
            or records.serves(settled(before, old).spec, settled(plan, new).spec))
    except UserError:
        return False


def settled(plan: Plan, job: Job) -> Job:
    """Return a job of an older plan with the spec that planning would give it now.

    The digest of a set is unknown until the run has fetched it, and source files may have been
    edited since planning. A record must state what was really computed, so these digests are
    updated; nothing else is. The search for leaks is planned again, but only if a set was missing:
    the content of the set also decides which weights are known to be trained on it.

    Raises:
        UserError: a manifest cannot be read.
    """
    root = plan.config["data_root"]

    def now(dataset: dict) -> dict:
        return dataset if dataset["sha256"] else contents.spec(
            plan.entry(dataset["name"]), root)["dataset"]

    spec = dict(job.spec)
    if job.kind == "data":
        spec = spec if spec["dataset"]["sha256"] else contents.spec(
            plan.entry(job.key["dataset"]), root)
    elif job.kind == "leaks":
        sets = [*(one for pair in spec["pairs"] for one in pair),
                *(one.spec["dataset"] for one in plan.data.values())]
        if not all(one["sha256"] for one in sets):
            again = compose.build(plan.config).leaks.get("/".join(job.key.values()))
            spec = dict(again.spec) if again else spec
    elif job.kind == "cell":
        spec["dataset"] = now(spec["dataset"])
        spec |= metrics.weights_in_use(spec["metrics"])
    elif job.kind == "training":
        spec["datasets"] = [now(one) for one in spec["datasets"]]
    if "code" in spec:
        plugins = tuple(plan.config["plugins"])
        spec["code"] = (sources.stage(job.kind) if job.model is None
                        else sources.digest(job.kind, job.model, plugins))
    return replace(job, spec=spec)
