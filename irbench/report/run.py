"""What a report shows: the cells, trainings, profiles and benchmarks of a run with their records.

``collect.collect`` makes a ``Run``; everything else of the report reads nothing but that. Reads and
writes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from irbench.catalog.model import Model
from irbench.core import headers, metrics
from irbench.present import text
from irbench.report.facts import kinds, leakage

NOT_COMPUTED = "not computed"
# what a status may be beside those of records: no record; one of other inputs than the plan's
MISSING, OUTDATED = "missing", "outdated"


@dataclass(frozen=True)
class Outcome:
    """What became of a planned training, profile or benchmark; of a benchmark the protocol is "".

    ``status`` is the record's, or one of ``MISSING`` and ``OUTDATED``.
    """

    protocol: str
    model: str
    path: str                       # of the record, relative to the run folder
    status: str
    reason: str = ""
    record: dict | None = None
    # of a training that has begun and not ended: how far it came, in words; "" otherwise
    unfinished: str = field(default="", kw_only=True)

    @property
    def result(self) -> dict:
        """The record's result, empty if there is none."""
        return (self.record or {}).get("result") or {}


@dataclass(frozen=True)
class Cell(Outcome):
    """One model on one dataset under one protocol, with the means that may be shown.

    ``means`` (in the units of the metrics) is empty unless status is "ok"; ``missing``
    says why a metric has none. ``leak`` says that the model was trained on images of the dataset.
    """

    task: str = ""
    level: str = ""
    version: int = 0
    dataset: str = ""
    means: dict[str, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    synthetic: bool = False         # a degradation of ours, which no published figure uses
    leak: str = ""

    @property
    def images(self) -> list[dict]:
        """Per-image scores, in the record's order."""
        return self.result.get("images") or []

    @property
    def header(self) -> dict:
        """What the file of the weights says of itself; {} for weights trained in this run."""
        return headers.checked(((self.record or {}).get("resolved") or {}).get("weights"))

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics asked for, in the order of tables; empty if there is no record."""
        asked = self.record["spec"].get("metrics") if self.record else ()
        return metrics.ordered(asked or ())


@dataclass(frozen=True)
class Run:
    """Everything a report shows. ``cells`` keeps the plan's order, ``models`` fixes colours."""

    folder: Path
    name: str
    title: str
    cells: list[Cell]
    trainings: dict[tuple[str, str], Outcome]
    profiles: dict[tuple[str, str], Outcome]
    protocols: dict[str, dict]
    datasets: dict[str, dict]
    models: dict[str, Model]
    published: str | list[str]
    metrics: tuple[str, ...] = ()   # asked for by the plan; records may ask for more
    leaks: leakage.Leakage = field(default_factory=leakage.Leakage)
    # (protocol, model) -> the sets its weights were trained on, each with the file stems of the
    # images left out; None if that is not known
    trained_on: dict[tuple[str, str], dict[str, list[str]] | None] = field(default_factory=dict)
    benches: dict[str, Outcome] = field(default_factory=dict)   # by the benchmark's name
    asked: dict = field(default_factory=dict)       # the config's `profile`, {} if not told
    differences: bool = False       # to printed figures: shown in the cells of tables

    def parameters(self, protocol: str, model: str) -> int | None:
        """Count of parameters as profiled or trained; 0 for a model without weights, else None."""
        spec = self.models[model]
        for name in (model, spec.base):     # a variant has its base's weights
            told = [job.result for job in (self.profiles.get((protocol, name)),
                                           self.training(protocol, name)) if job]
            for source in (*told, self.header(protocol, name)):
                if source.get("parameters") is not None:
                    return int(source["parameters"])
        return None if spec.learned or kinds.is_reference(spec) else 0

    def dataset_title(self, name: str) -> str:
        """Return the dataset's title, or its name."""
        return str(self.datasets.get(name, {}).get("title") or name)

    def model_title(self, name: str) -> str:
        """Return the model's title, with its name where two models share one."""
        titles = {n: m.title or n for n, m in self.models.items()}
        title = titles.get(name, name)
        twins = [n for n in titles if titles[n] == title]
        return f"{title} ({name})" if len(twins) > 1 else title

    def training(self, protocol: str | None, model: str | None) -> Outcome | None:
        """Return the training whose weights serve a model under a protocol, blind ones too."""
        name = self.models[model].owner if model in self.models else model
        task, _, version = text.split_id(str(protocol))
        return next((self.trainings[key] for key in (
            (protocol, name), (f"{task}-{text.BLIND}@{version}", name)) if key in self.trainings),
            None)

    def header(self, protocol: str, model: str) -> dict:
        """Return what the file of a model's weights says of its training, {} if it says nothing.

        Of weights that were not trained in this run.
        """
        return next((cell.header for cell in self.cells
                     if (cell.protocol, cell.model) == (protocol, model) and cell.header), {})

    def blind(self, protocol: str, model: str) -> bool:
        """Say whether the weights a model has under a protocol were trained for more levels."""
        job = self.training(protocol, model)
        return job.protocol != protocol if job else bool(self.header(protocol, model).get("levels"))

    def training_of(self, protocol: str, model: str) -> dict | None:
        """Say how a model's weights were trained: status, unfinished, steps, seconds, device.

        Of other weights than the run's own their file says it. Planned steps do not count: without
        a finished training the figures are None. Returns None if nothing is known.
        """
        spec = self.models[model]
        job, header = self.training(protocol, model), self.header(protocol, model)
        if job is None and spec.checkpoint.kind != "trained":
            result = {**header, "device": header.get("hardware", {}).get("device")}
            status, unfinished = "ok", ""
            if not header:
                return None
        else:
            result = job.result if job else {}
            status, unfinished = (job.status, job.unfinished) if job else (MISSING, "")
        return {"status": status, "unfinished": unfinished, "steps": result.get("steps"),
                "seconds": result.get("seconds"), "device": result.get("device")}
