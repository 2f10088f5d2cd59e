"""From a config to jobs: every name resolved, every job with all that its result depends on.

A job is one dataset to fetch, one training, one cell or one profile. Its ``spec`` is plain data:
protocol, model, recipe, digests of datasets and of the code it runs. The workflow passes the
spec's fingerprint as a parameter of the rule, so that a job runs again exactly when something it
depends on changed; the record stores the spec, so that ``irbench verify`` can recheck it.

Importing this module imports no torch: planning is quick.

Try: ``irbench list --config config.yaml``
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path

from irbench import config as configs
from irbench import datasets, metrics, protocols, published, records
from irbench.errors import UserError, unknown
from irbench.models import registry
from irbench.protocols import Protocol
from irbench.training import recipe

RESULTS = Path("results")
MODEL_CODE = ("irbench.checkpoints", "irbench.degrade", "irbench.images")
# a new version of these may change a number
PACKAGES = ("fvcore", "lpips", "numpy", "pillow", "pyiqa", "torch")
CODE = {
    "cell": ("irbench.evaluate", "irbench.metrics", *MODEL_CODE),
    "training": ("irbench.training.data", "irbench.training.losses", "irbench.training.loop",
                 *MODEL_CODE),
    "profile": ("irbench.profiling", "irbench.macs"),
    "report": ("irbench.published", "irbench.report", "catalog/published.csv"),
}


@dataclass(frozen=True)
class Job:
    """One unit of work and of caching.

    Attributes:
        kind: data, training, cell or profile.
        key: what names it: dataset; or protocol, model; or protocol, dataset, model.
        spec: everything known beforehand that fixes its result.
        record: where its record goes.
    """

    kind: str
    key: dict[str, str]
    spec: dict
    record: Path

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the spec."""
        return records.fingerprint(self.spec)

    @property
    def title(self) -> str:
        """The job in words, for messages."""
        return f"{self.kind} {' / '.join(self.key.values())}"


@dataclass(frozen=True)
class Plan:
    """All jobs of a run, by their keys' values joined with '/'."""

    config: dict
    folder: Path
    protocols: dict[str, Protocol]
    models: dict[str, dict]
    data: dict[str, Job] = field(default_factory=dict)
    trainings: dict[str, Job] = field(default_factory=dict)
    cells: dict[str, Job] = field(default_factory=dict)
    profiles: dict[str, Job] = field(default_factory=dict)

    def jobs(self) -> list[Job]:
        """Return every job of the run, in the order of the stages."""
        return [job for group in (self.data, self.trainings, self.cells, self.profiles)
                for job in group.values()]

    def find(self, kind: str, **key: str) -> Job:
        """Return the job of a kind with the key given by hand; a protocol may lack its version.

        Raises:
            UserError: the config has no such job, with the ones it has.
        """
        if "protocol" in key:
            key["protocol"] = protocols.get(
                key["protocol"], tuple(self.config["catalog_paths"])).id
        group = {"data": self.data, "training": self.trainings, "cell": self.cells,
                 "profile": self.profiles}[kind]
        name = "/".join(key.values())
        if name not in group:
            raise unknown(f"{kind} job", name, group, f"run {self.config['run']!r}")
        return group[name]

    def entry(self, name: str) -> datasets.DatasetEntry:
        """Return the catalog entry of a dataset of this run."""
        return datasets.get(name, tuple(self.config["catalog_paths"]))

    @functools.cached_property
    def report_spec(self) -> dict:
        """What the report is made from, as plain data; see ``irbench.report.build``."""
        groups = {"cells": self.cells, "trainings": self.trainings, "profiles": self.profiles}
        used = {job.key["dataset"] for job in self.cells.values()}
        about = {}
        for name in sorted(used):
            entry = self.entry(name)
            about[name] = {"title": entry.title, "source": entry.source,
                           "count": self.data[name].spec["count"],
                           "sha256": self.data[name].spec["dataset"]["sha256"]}
        return {
            "run": self.config["run"], "title": self.config.get("title"),
            "published": self.config["report"]["published"],
            **{name: [job.key for job in group.values()] for name, group in groups.items()},
            # a record computed from anything else is no result of this run
            "fingerprints": {str(job.record.relative_to(self.folder)): job.fingerprint
                             for group in groups.values() for job in group.values()},
            "protocols": {p.id: p.definition() for p in self.protocols.values()},
            "datasets": about, "models": self.models, "metrics": self.config["metrics"],
            "profile": self.config["profile"],
        }

    @property
    def report_fingerprint(self) -> str:
        """Fixes the report together with the records it reads."""
        return records.fingerprint({"spec": self.report_spec,
                                    "code": records.code_digest(*_modules("report"))})


def load(path: str | Path) -> Plan:
    """Plan the run a config file describes. Raises UserError for anything wrong in it."""
    return build(configs.load(path), f"config {path}")


def build(config: dict, where: str = "config") -> Plan:
    """Plan a run from a checked, complete config."""
    catalogs, plugins = tuple(config["catalog_paths"]), tuple(config["plugins"])
    models = {name: _model(f"{where}: models.{name}", name, entry, plugins)
              for name, entry in config["models"].items()}
    choice = config["report"]["published"]
    _at(f"{where}: report.published", lambda: published.wanted(choice, published.load()))
    plan = Plan(config, RESULTS / config["run"], {}, models)
    known = datasets.catalog(catalogs)
    for i, group in enumerate(config["cells"]):
        place = f"{where}: cells[{i}]"
        protocol = _at(place, lambda g=group: protocols.get(g["protocol"], catalogs))
        plan.protocols[protocol.id] = protocol
        for dataset in group["datasets"]:
            _add_data(plan, dataset, known, f"{place}.datasets", "test")
        for name in group["models"]:
            if name not in models:
                raise unknown("model", name, models, f"{place}.models")
            model = _fit(models[name], protocol, config, plugins, f"{place}.models")
            if model["training"]:
                _add_training(plan, model, protocol, known, f"{where}: models.{name}.training")
            if model["learned"] and config["models"][name].get("profile", True):
                _add(plan, plan.profiles, "profile", {"protocol": protocol.id, "model": name}, {
                    "protocol": protocol.definition(), "model": _untrained(model),
                    "profile": config["profile"], "device": config["device"],
                    "code": _code("profile", model, plugins)})
            for dataset in group["datasets"]:
                key = {"protocol": protocol.id, "dataset": dataset, "model": name}
                _add(plan, plan.cells, "cell", key, {
                    "protocol": protocol.definition(),
                    "dataset": plan.data[dataset].spec["dataset"], "model": model,
                    "metrics": config["metrics"], "lpips_weights": _lpips(config),
                    "keep_images": config["keep_images"],
                    "code": _code("cell", model, plugins)})
    _refuse_leaks(plan, known, where)
    return plan


def _refuse_leaks(plan: Plan, known: dict, where: str) -> None:
    """Refuse to score on images that a model of this run is trained on."""
    tests = {job.key["dataset"] for job in plan.cells.values()}
    trained = {(name, model["name"]) for model in plan.models.values() if model["training"]
               for name in model["training"]["data"]}
    for name, model in sorted(trained):
        for test in sorted(tests):
            shared = datasets.overlap(known[name], known[test]) if name in known else []
            if shared:
                raise UserError(
                    f"{where}: models.{model}.training.data: {name!r} holds images of the test set "
                    f"{test!r} ({', '.join(shared[:3])}{', ...' if len(shared) > 3 else ''}). "
                    "Train on other images.")


# -- models ------------------------------------------------------------------------------------

def _model(where: str, name: str, entry: dict, plugins: tuple[str, ...]) -> dict:
    """Resolve a config's model entry against the registry into plain data."""
    card = _at(where, lambda: registry.get(entry.get("arch", name), plugins))
    for option in entry.get("options", {}):
        if option not in card.options:
            raise unknown(f"option of {card.name}", option, card.options, where)
    training, checkpoint = entry.get("training"), entry.get("checkpoint")
    if card.learned and (training is None) == (checkpoint is None):
        raise UserError(f"{where}: {card.name} has weights, so the entry needs either `training` "
                        "(train them here) or `checkpoint` (take them from a file).")
    if not card.learned and (training or checkpoint):
        raise UserError(f"{where}: {card.name} has no weights; remove "
                        f"{'training' if training else 'checkpoint'}.")
    resolved = recipe.resolve(training, f"{where}.training") if training else None
    # a variant the paper does not describe says so in its row
    changed = [f"{option} = {value}" for option, value in entry.get("options", {}).items()
               if value != card.options[option]]
    note = "; ".join(filter(None, [card.note, changed and f"variant: {', '.join(changed)}"]))
    return {
        "name": name, "arch": card.name, "title": card.title,
        "in_paper": card.in_paper and not changed, "note": note,
        "published_as": card.published_as, "learned": card.learned,
        "options": {**card.options, **entry.get("options", {})},
        "checkpoint": _checkpoint(checkpoint, bool(training)),
        "training": {**resolved, "data": training["data"]} if training else None,
    }


def _checkpoint(value: str | dict | None, trained: bool) -> dict:
    if isinstance(value, dict):
        return {"kind": "url", **value}
    if value is not None:
        return {"kind": "file", "path": value}
    return {"kind": "trained" if trained else "none"}


def _fit(model: dict, protocol: Protocol, config: dict, plugins: tuple[str, ...],
         where: str) -> dict:
    """Check that a model can do a protocol; a path of its checkpoint may name the protocol."""
    card = registry.get(model["arch"], plugins)
    if not card.can(protocol.task, protocol.level):
        levels = card.levels.get(protocol.task)
        can = (f"it does {protocol.task} at {', '.join(levels)}" if levels
               else f"it does {', '.join(card.tasks)}")
        raise UserError(f"{where}: {model['name']} ({card.name}) cannot do {protocol.id}: {can}.")
    if model["checkpoint"]["kind"] != "file":
        return model
    try:
        path = str(Path(model["checkpoint"]["path"].format(
            protocol=protocol.id, task=protocol.task, level=protocol.level)).expanduser())
    except (KeyError, IndexError, ValueError):
        raise UserError(f"{where}: the checkpoint path {model['checkpoint']['path']!r} may only "
                        "hold {protocol}, {task} and {level}.") from None
    # the digest is what counts; a file that is not there yet makes the cell unavailable
    digest = records.file_digest(path) if Path(path).is_file() else None
    return {**model, "checkpoint": {"kind": "file", "path": path, "sha256": digest}}


def _untrained(model: dict) -> dict:
    """What speed and size depend on: the architecture, not the weights."""
    return {k: v for k, v in model.items() if k not in ("checkpoint", "training")}


# -- jobs --------------------------------------------------------------------------------------

def _add(plan: Plan, group: dict, kind: str, key: dict, spec: dict) -> None:
    folder = {"training": "training", "cell": "cells", "profile": "profiles", "data": "data"}[kind]
    path = plan.folder.joinpath(folder, *key.values())
    group["/".join(key.values())] = Job(kind, key, spec, path.with_name(f"{path.name}.json"))


def _add_data(plan: Plan, name: str, known: dict, where: str, use: str) -> None:
    if name not in known:
        raise unknown("dataset", name, known, where)
    entry = known[name]
    if entry.use not in ((use,) if use == "test" else ("train", "test")):
        raise UserError(f"{where}: {name!r} is a {entry.use} set, not a {use} set.")
    if name not in plan.data:
        spec = {"dataset": {"name": name, "sha256": _at(where, lambda: datasets.digest(entry))},
                "count": sum(row.role == "hr" for row in datasets.manifest(entry)),
                "data_root": plan.config["data_root"]}
        _add(plan, plan.data, "data", {"dataset": name}, spec)


def _add_training(plan: Plan, model: dict, protocol: Protocol, known: dict, where: str) -> None:
    for name in model["training"]["data"]:
        _add_data(plan, name, known, f"{where}.data", "train")
    if model["training"]["patch"] % protocol.scale:
        raise UserError(f"{where}: patch {model['training']['patch']} is not divisible by the "
                        f"scale {protocol.scale} of {protocol.id}.")
    spec = {"protocol": protocol.definition(), "model": model,
            "datasets": [plan.data[name].spec["dataset"] for name in model["training"]["data"]],
            "seed": plan.config["seed"],
            "code": _code("training", model, tuple(plan.config["plugins"]))}
    _add(plan, plan.trainings, "training", {"protocol": protocol.id, "model": model["name"]}, spec)


def _code(kind: str, model: dict, plugins: tuple[str, ...]) -> str:
    """Digest what a job runs: the stage's modules, the model's, what models share, packages."""
    card = registry.get(model["arch"], plugins)
    digest = records.code_digest(*_modules(kind), *_shared_model_modules(), str(card.path))
    return records.fingerprint([digest, records.versions_of(*PACKAGES)])


@functools.cache
def _shared_model_modules() -> tuple[str, ...]:
    """Modules under models/ that hold no card: padding, attention and the like."""
    own = {card.path for card in registry.cards().values()}
    return tuple(str(p) for p in sorted(Path(registry.__file__).parent.rglob("*.py"))
                 if p not in own and p.name != "registry.py")


@functools.cache
def _modules(kind: str) -> tuple[str, ...]:
    names = []
    for name in CODE[kind]:
        if "/" in name:
            names.append(str(Path(__file__).parent / name))
            continue
        folder = Path(__file__).parent.joinpath(*name.split(".")[1:])
        names += [str(p) for p in sorted(folder.glob("*"))
                  if p.suffix in (".py", ".j2", ".css", ".js")] if folder.is_dir() else [name]
    return tuple(names)


def _lpips(config: dict) -> str | None:
    """Name the LPIPS weights in use, so that cells run again once they become available."""
    if "lpips" not in config["metrics"]:
        return None
    path, _ = metrics.lpips_weights()
    return path and path.name


def _at(where: str, call):
    """Run a look-up and put the place in the config before its error."""
    try:
        return call()
    except UserError as error:
        raise type(error)(f"{where}: {error}") from None
