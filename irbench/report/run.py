"""What a report shows: the cells, trainings, profiles and benchmarks of a run with their records.

``collect.collect`` makes a ``Run``; all other modules of the report read only this object. Reads
and writes nothing.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean

from irbench.catalog import published
from irbench.catalog.model import Model
from irbench.core import headers, metrics, statistics
from irbench.core.run_folder import FORMATS
from irbench.present import text
from irbench.report.facts import kinds, leakage

MOST_PLOTS = 8                  # config.schema.json has it, too
NOT_COMPUTED = "not computed"
# statuses beside those of records: there is no record; the record has other inputs than the plan
MISSING, OUTDATED = "missing", "outdated"


@dataclass(frozen=True)
class Outcome:
    """The outcome of a planned training, profile or benchmark (which has the protocol "").

    ``status`` is the status of the record, or ``MISSING`` or ``OUTDATED``.
    """

    protocol: str
    model: str
    path: str                       # of the record, relative to the run folder
    status: str
    reason: str = ""
    record: dict | None = None
    # for a training that began and did not end: how far it got, in words; "" otherwise
    unfinished: str = field(default="", kw_only=True)
    # of a profile: the model whose record it is, if that has the same architecture and options
    shared: str = field(default="", kw_only=True)

    @property
    def result(self) -> dict:
        """The record's result, empty if there is none."""
        return (self.record or {}).get("result") or {}


@dataclass(frozen=True)
class Cell(Outcome):
    """One model on one dataset under one protocol, with the means that may be shown.

    ``means`` (in the units of the metrics) is empty unless status is "ok"; ``missing``
    holds the reason for each metric without a mean. ``leak`` is a note if the model was trained on
    images of the dataset.
    """

    task: str = ""
    level: str = ""
    version: int = 0
    dataset: str = ""
    means: dict[str, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    synthetic: bool = False         # our own degradation; there are no published values for it
    leak: str = ""
    same_pictures: str = ""         # a note if it is scored from the pictures of another level, too
    # of a cell that stands for several seeds of a training (``Run.rows``): the cells of all seeds,
    # in order, and the sample standard deviation of each mean over those with a result
    seeds: tuple[Cell, ...] = ()
    spread: dict[str, float] = field(default_factory=dict)

    @property
    def images(self) -> list[dict]:
        """Per-image scores, in the record's order."""
        return self.result.get("images") or []

    def scores(self, metric: str) -> dict[str, float]:
        """Return the score of each image by its name, in the record's order.

        Of several seeds it is their mean, over those with a mean.
        """
        if not self.seeds:
            return {str(image["name"]): image[metric] for image in self.images}
        found = [one.scores(metric) for one in self.of(metric)]
        return {name: fmean(scores[name] for scores in found)
                for name in (found[0] if found else ()) if all(name in one for one in found)}

    def of(self, metric: str) -> list[Cell]:
        """Return the seeds that have a mean of a metric; the cell itself if there is only one."""
        return [one for one in self.seeds or (self,) if metric in one.means]

    @property
    def header(self) -> dict:
        """The header of the weights file; {} for weights trained in this run."""
        return headers.checked(((self.record or {}).get("resolved") or {}).get("weights"))

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that the record asks for, in the order of tables; () without a record."""
        asked = self.record["spec"].get("metrics") if self.record else ()
        return metrics.ordered(asked or ())


def _together(seeds: list[Cell]) -> Cell:
    """Return one cell for all seeds of a training: the first with a result, with their means."""
    if len(seeds) == 1:
        return seeds[0]
    first = next((one for one in seeds if one.means), seeds[0])
    found = {metric: [one.means[metric] for one in seeds if metric in one.means]
             for metric in metrics.ordered({name for one in seeds for name in one.means})}
    return replace(
        first, model=seeds[0].model, seeds=tuple(seeds),
        means={metric: fmean(values) for metric, values in found.items()},
        missing={metric: why for metric, why in first.missing.items() if metric not in found},
        spread={metric: statistics.spread(values) for metric, values in found.items()
                if len(values) > 1})


@dataclass(frozen=True)
class Run:
    """Everything a report shows. ``cells`` has the order of the plan, ``models`` fixes colours."""

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
    asked: dict = field(default_factory=dict)       # the config's `profile`, {} if not given
    # protocol -> the id of its trainings, where that is another version of it
    trained_as: dict[str, str] = field(default_factory=dict)
    figures: tuple[published.Figure, ...] = field(default_factory=published.load)  # printed
    differences: bool = False       # show differences to published values in the cells of tables
    plots: int | None = MOST_PLOTS  # how many figures of one kind are drawn at most; None: all
    formats: tuple[str, ...] = FORMATS[:1]  # of the plots' files; the page is made of the PNGs
    # model -> the sets that the config says its weights were trained on, each with images left out
    declared: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    @functools.cached_property
    def rows(self) -> list[Cell]:
        """The cells as rows of methods: the seeds of one training are one cell, their mean."""
        others: dict[tuple[str, str, str], list[Cell]] = {}
        for cell in self.cells:
            if first := self.models[cell.model].seed_of:
                others.setdefault((cell.protocol, cell.dataset, first), []).append(cell)
        return [_together([cell, *others.get((cell.protocol, cell.dataset, cell.model), ())])
                for cell in self.cells if not self.models[cell.model].seed_of]

    def parameters(self, protocol: str, model: str) -> int | None:
        """Return the number of parameters; 0 for a model without weights, None if unknown."""
        spec = self.models[model]
        for name in (model, spec.base):     # a variant has its base's weights
            results = [job.result for job in (self.profiles.get((protocol, name)),
                                           self.training(protocol, name)) if job]
            for source in (*results, self.header(protocol, name)):
                if source.get("parameters") is not None:
                    return int(source["parameters"])
        return None if spec.learned or kinds.is_reference(spec) else 0

    def dataset_title(self, name: str) -> str:
        """Return the title of a dataset, or its name."""
        return str(self.datasets.get(name, {}).get("title") or name)

    def protocol_title(self, protocol: str) -> str:
        """Return task and level as the tables name them, with the version if there are several."""
        task, level, version = text.split_id(protocol)
        title = ", ".join(filter(None, [text.task_title(task) if level else task,
                                        text.level_label(level)]))
        several = len([one for one in self.protocols if text.split_id(one)[:2] == (task, level)])
        return title + f", version {version}" * (several > 1)

    def model_title(self, name: str) -> str:
        """Return the title of a model, with its name if two models share a title.

        The model whose name is the title, in small letters, keeps the title alone.
        """
        titles = {n: m.title or n for n, m in self.models.items()}
        title = titles.get(name, name)
        twins = [n for n in titles if titles[n] == title]
        return title if len(twins) < 2 or name == title.lower() else f"{title} ({name})"

    def training(self, protocol: str | None, model: str | None) -> Outcome | None:
        """Return the training whose weights a model uses under a protocol; it may be blind."""
        name = self.models[model].owner if model in self.models else model
        scope = self.trained_as.get(protocol, protocol)
        task, _, version = text.split_id(str(scope))
        return next((self.trainings[key] for key in (
            (scope, name), (f"{task}-{text.BLIND}@{version}", name)) if key in self.trainings),
            None)

    def header(self, protocol: str, model: str) -> dict:
        """Return the header of a model's weights file, {} if it is empty.

        Only for weights that were not trained in this run.
        """
        return self._headers.get((protocol, model), {})

    @functools.cached_property
    def _headers(self) -> dict[tuple[str, str], dict]:
        found: dict[tuple[str, str], dict] = {}
        for cell in self.cells:
            if header := cell.header:
                found.setdefault((cell.protocol, cell.model), header)
        return found

    def blind(self, protocol: str, model: str) -> bool:
        """Return whether a model's weights under a protocol were trained for several levels."""
        job = self.training(protocol, model)
        if job is None:
            return bool(self.header(protocol, model).get("levels"))
        return job.protocol != self.trained_as.get(protocol, protocol)

    def training_of(self, protocol: str, model: str) -> dict | None:
        """Return how a model's weights were trained: status, unfinished, steps, device, and, if
        they had any, the teacher and the weights they began with (``init``).

        For weights that were not trained in this run the header of their file is used. Planned
        steps do not count: without a finished training the values are None. Returns None if
        nothing is known.
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
                "device": result.get("device"), "teacher": result.get("teacher"),
                "init": result.get("init")}
