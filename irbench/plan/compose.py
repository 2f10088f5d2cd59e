"""From a config to jobs: resolve every name, and give each job all that its result depends on.

A job's ``spec`` is plain data: protocol, model, recipe, digests of datasets and of the code it
runs. The record stores the spec, so that the workflow runs a job again exactly when one of its
inputs changed, and ``irbench verify`` can check it.

Planning is quick: this module does not import torch.

Try: ``irbench list --config config.yaml``
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from irbench.catalog import datasets as entries
from irbench.catalog import protocols, published, recipes
from irbench.catalog.known import Known
from irbench.catalog.model import Checkpoint, Model
from irbench.catalog.protocols import Protocol
from irbench.core import metrics as table
from irbench.core import records
from irbench.core.errors import Superseded, UserError, unknown
from irbench.core.run_folder import RunFolder
from irbench.data import sets as datasets
from irbench.imaging import metrics
from irbench.plan import config as configs
from irbench.plan import contents, external, scoring, sources, variants
from irbench.plan import job as jobs
from irbench.plan import models as model_entries
from irbench.plan import trained_on as training_sets
from irbench.plan.job import Job
from irbench.weights import loading


@dataclass(frozen=True)
class Plan:
    """All jobs of a run, in groups; a job is found by the values of its key, joined by '/'."""

    config: dict
    folder: Path
    protocols: dict[str, Protocol]
    models: dict[str, Model]
    known: dict[str, datasets.DatasetEntry]     # the whole catalog
    scopes: dict[str, Protocol] = field(default_factory=dict)  # the protocol of each training
    data: dict[str, Job] = field(default_factory=dict)
    trainings: dict[str, Job] = field(default_factory=dict)
    cells: dict[str, Job] = field(default_factory=dict)
    profiles: dict[str, Job] = field(default_factory=dict)
    benches: dict[str, Job] = field(default_factory=dict)   # of parts of models: attention
    leaks: dict[str, Job] = field(default_factory=dict)     # at most one
    references: list[str] = field(default_factory=list)     # models that are only profiled
    # protocol/model -> the sets its weights were trained on, each with the names of the images left
    # out; None if that is not known
    trained_on: dict[str, training_sets.Sets | None] = field(default_factory=dict)
    # protocol/model -> that of the model whose profile it shares; they differ in their weights only
    costs: dict[str, str] = field(default_factory=dict)
    profiled: dict[str, str] = field(default_factory=dict)  # digest of what a profile is of -> name
    figures: tuple[published.Figure, ...] = ()      # printed values of the user's catalogs
    # read once: _data_spec of a set by its name, training_sets.of_file of weights by their path
    contents: dict[str | Path, dict | None] = field(default_factory=dict)
    # whether the run still asks for a job; of a plan that was read from a file
    asks_for: Callable[[Job], bool] = field(default=lambda job: True, repr=False, compare=False)

    @property
    def run_folder(self) -> RunFolder:
        """The paths of the run's files."""
        return RunFolder(self.folder)

    def jobs(self) -> list[Job]:
        """Return every job of the run, in the order of the stages."""
        return [job for group in (self.data, self.trainings, self.cells, self.profiles,
                                  self.benches, self.leaks) for job in group.values()]

    def training_of(self, protocol: str, model: str) -> Job | None:
        """Return the training whose weights a model has under a protocol; None if it has none."""
        known = self.models.get(model)
        if not known or not known.training or protocol not in self.protocols:
            return None
        protocol = self.protocols[protocol]
        fitted = recipes.for_model(known.training, known.arch, protocol)
        return self.trainings.get(f"{recipes.scope(fitted.levels, protocol)}/{known.owner}")

    def find(self, kind: str, **key: str) -> Job:
        """Return a job by its kind and key; the version of the protocol may be omitted.

        A blind training is found by its scope, and by any protocol of the run that uses it.

        Raises:
            UserError: the config has no such job; the message lists the jobs it has.
        """
        group = {"data": self.data, "training": self.trainings, "cell": self.cells,
                 "profile": self.profiles, "bench": self.benches}[kind]
        wanted = key.get("protocol")
        scopes = [scope for scope in (name.partition("/")[0] for name in group)
                  if wanted in (scope, scope.rpartition("@")[0])] if kind == "training" else []
        if scopes:
            key["protocol"] = max(scopes, key=lambda scope: int(scope.rpartition("@")[2]))
        elif wanted:
            with contextlib.suppress(*[UserError] if kind == "training" else ()):
                key["protocol"] = wanted if wanted in self.protocols else protocols.get(
                    wanted, tuple(self.config["catalog_paths"])).id
            blind = self.training_of(**key) if kind == "training" else None
            if blind and blind.key["model"] == key["model"]:  # not the training of a variant's base
                return blind
        name = "/".join(key.values())
        name = self.costs.get(name, name) if kind == "profile" else name
        if name not in group:
            self._check_possible(kind, key.get("model"))
            if not group:
                raise UserError(f"run {self.config['run']!r}: its config asks for no {kind} jobs, "
                                f"so there is no {name!r}.")
            raise unknown(f"{kind} job", name, group, f"run {self.config['run']!r}")
        return group[name]

    def _check_possible(self, kind: str, name: str | None) -> None:
        """Raise UserError, with the reason, if a model of the run never has a job of this kind."""
        model = self.models.get(name)
        if model is None or kind not in ("training", "profile"):
            return
        entry = self.config["models"].get(model.entry) or {}
        if not model.learned:
            why = "has no weights"
        elif model.given:
            why = "is given by its result images"
        elif kind == "training" and not model.training:
            why = "takes its weights from a file"
        elif kind == "training" and model.base:
            why = f"has the weights of {model.base!r}"
        elif kind == "profile" and not entry.get("profile", True):
            why = "has `profile: false`"
        elif kind == "profile" and model.seed_of:
            why = f"is as fast as {model.seed_of!r}, another seed of the same training"
        else:
            return
        raise UserError(f"run {self.config['run']!r}: the model {name!r} {why}, so there is no "
                        f"{kind} job for it.")

    def entry(self, name: str) -> datasets.DatasetEntry:
        """Return the catalog entry of a dataset. Raises UserError if there is none."""
        if name not in self.known:
            raise unknown("dataset", name, self.known)
        return self.known[name]

    def check_asked(self, job: Job) -> None:
        """Raise Superseded if the run has been planned anew and asks for something else now."""
        if not self.asks_for(job):
            raise Superseded(f"{job.title}: the run's plan changed meanwhile and no longer asks "
                             "for this; nothing was written.")

    @functools.cached_property
    def report_spec(self) -> dict:
        """The report's input as plain data; see ``irbench.report.build``."""
        groups = {"cells": self.cells, "trainings": self.trainings, "profiles": self.profiles,
                  "benches": self.benches, "leaks": self.leaks}
        used = {job.key["dataset"] for job in self.cells.values()}
        about = {}
        for name in sorted(used):
            entry, spec = self.entry(name), self.data[name].spec
            about[name] = {"title": entry.title, "source": entry.source,
                           "count": spec["count"], "names": spec.get("names"),
                           "sha256": spec["dataset"]["sha256"],
                           "reason": spec["dataset"].get("reason", ""),
                           "supplied": entry.kind in ("manual", "archive"),
                           **({"differs": dict(entry.differs)} if entry.differs else {})}
        return {
            "run": self.config["run"], "title": self.config.get("title"),
            **self.config["report"],
            **{name: [job.key for job in group.values()] for name, group in groups.items()},
            # a record with another fingerprint does not belong to this run
            "fingerprints": {str(job.record.relative_to(self.folder)): job.fingerprint
                             for group in groups.values() for job in group.values()},
            "protocols": {p.id: p.definition() for p in self.protocols.values()},
            "trained_as": {p.id: p.trained_as for p in self.protocols.values() if p.trained_as},
            "datasets": about,
            "models": {name: model.as_dict() for name, model in self.models.items()},
            "references": self.references,
            "costs": self.costs,
            "trained_on": self.trained_on,
            "declared": training_sets.declared_of(self.config["models"], self.models.values()),
            "metrics": self.config["metrics"],
            # those of the user's; irbench's own are part of the report's code
            "figures": [figure.as_dict() for figure in self.figures],
            "profile": self.config["profile"],
        }

    @property
    def report_fingerprint(self) -> str:
        """The SHA-256 of the report's spec and code; with the records it determines the report."""
        return records.fingerprint({"spec": self.report_spec,
                                    "code": sources.stage("report")})


def load(path: str | Path) -> Plan:
    """Plan the run that a config file describes. Raises UserError if the config is invalid."""
    return build(configs.load(path), f"config {path}")


def build(config: dict, where: str = "config") -> Plan:
    """Plan a run from a checked, complete config."""
    catalogs, plugins = tuple(config["catalog_paths"]), tuple(config["plugins"])
    scoring.resolve(config["metrics"], config["metric_plugins"], where)
    others = Known.of(catalogs)
    models = model_entries.resolve(where, config["models"], plugins, others)
    choice = config["report"]["published"]
    configs.at(f"{where}: report.published",
               lambda: published.methods_wanted(choice, (*published.load(), *others.figures)))
    known = datasets.catalog(catalogs, config["data_root"])
    others.check_datasets(known)
    training_sets.check_declared(config["models"], models, known, where)
    plan = Plan(config, RunFolder.of_run(config["run"]).path, {}, models, known,
                figures=others.figures)
    possible = configs.at(f"{where}: cells[0]", lambda: protocols.catalog(catalogs))
    groups = [(f"{where}: cells[{i}]", group,
               configs.at(f"{where}: cells[{i}]", lambda g=group: protocols.choose(g["protocol"],
                                                                                   possible)))
              for i, group in enumerate(config["cells"])]
    wanted = {name: variants.under(where, config, model, [
        protocol.id for _, group, protocol in groups if model.entry in group["models"]])
        for name, model in models.items()}
    for place, group, protocol in groups:
        plan.protocols[protocol.id] = protocol
        for dataset in group["datasets"]:
            _add_data(plan, dataset, known, f"{place}.datasets", "test", protocol)
        for name in group["models"]:
            if name not in config["models"]:
                raise variants.not_a_model(name, models, f"{place}.models")
            for model in models.values():
                if name == model.entry and protocol.id in wanted[model.name]:
                    fitted = model_entries.fit(model, protocol, plugins, f"{place}.models",
                                               others, models)
                    _add_model(plan, training_sets.settled(fitted), protocol, group["datasets"],
                               known, where)
    training_sets.check_excluded(config["models"], plan.trainings.values(), where)
    _add_references(plan, f"{where}: profile.references")
    _add_benches(plan)
    _add_leaks(plan, known)
    return plan


def _add_model(plan: Plan, model: Model, protocol: Protocol, sets: list[str], known: dict,
               where: str) -> None:
    """Add a model's jobs under a protocol: training, profile, and one cell per dataset."""
    config, name = plan.config, model.name
    if model.training and not model.base:  # a variant has the weights of its base
        _add_training(plan, model, protocol, known, f"{where}: models.{model.entry}.training")
    plan.trained_on[f"{protocol.id}/{name}"] = _trained_on(plan, model, known, where)
    if (model.learned and not model.given and not model.seed_of
            and config["models"][model.entry].get("profile", True)):
        _add_profile(plan, model, protocol)
    spec = cell_spec(config, model, protocol)
    for dataset in sets:
        if model.given:
            model = external.fit_given(plan.models[name], protocol, dataset,
                                       f"{where}: models.{name}.outputs")
            spec["model"] = model_entries.scored(model)
        jobs.add(plan.cells, plan.run_folder, "cell",
             {"protocol": protocol.id, "dataset": dataset, "model": name},
             spec | of_dataset(config, known[dataset], plan.data[dataset].spec["dataset"]), model)


def cell_spec(config: dict, model: Model, protocol: Protocol) -> dict:
    """Return the spec of a model's cells under a protocol, without what is of a dataset."""
    return {"protocol": protocol.definition(), "dataset": None,
            "model": model_entries.scored(model), "metrics": config["metrics"],
            **metrics.weights_in_use(config["metrics"]), "keep_images": config["keep_images"],
            "code": sources.digest("cell", model, tuple(config["plugins"]))}


def of_dataset(config: dict, entry: datasets.DatasetEntry, found: dict) -> dict:
    """Return the part of a cell's spec that is of its dataset.

    ``alone``, only for a set without targets: the metrics that its restored images get.
    """
    without = {"alone": list(table.alone(config["metrics"]))} if entry.targetless else {}
    return {"dataset": found, **without}


def _add_profile(plan: Plan, model: Model, protocol: Protocol) -> None:
    """Add the profile of a model, or note the profile of an equal one, which it shares."""
    name = f"{protocol.id}/{model.name}"
    shared = plan.profiled.setdefault(model_entries.cost_of(model, protocol), name)
    if shared != name:
        plan.costs[name] = shared
        return
    key = {"protocol": protocol.id, "model": model.name}
    jobs.add(plan.profiles, plan.run_folder, "profile", key,
             model_entries.profile_spec(plan.config, model, protocol), model)


def _add_references(plan: Plan, where: str) -> None:
    """Profile each reference for every profiled protocol that it supports."""
    plugins = tuple(plan.config["plugins"])
    found = model_entries.references(where, plan.config["profile"]["references"], plan.models,
                                     plugins)
    profiled = list(dict.fromkeys(job.key["protocol"] for job in plan.profiles.values()))
    for name, model in found.items():
        for protocol in model_entries.supported(where, model, [
                plan.protocols[one] for one in profiled], plugins):
            _add_profile(plan, model, protocol)
        plan.models[name] = model
        plan.references.append(name)


def _add_benches(plan: Plan) -> None:
    """Add the attention benchmark if the config asks for it."""
    settings = plan.config["attention_bench"]
    if settings:
        jobs.add(plan.benches, plan.run_folder, "bench", {"bench": "attention"}, {
            "bench": settings, "device": plan.config["device"], "code": sources.stage("bench")})


def _add_leaks(plan: Plan, known: dict) -> None:
    """Add the search for leaks, which compares every training set with every test set.

    A leak does not stop the run; the report shows it. Sets that only a file of weights names, or
    the config for such a file, are compared if they are present; they are not fetched.
    """
    tests = list(dict.fromkeys(job.key["dataset"] for job in plan.cells.values()))
    sets = list(dict.fromkeys(name for names in plan.trained_on.values() for name in names or ()))
    if sets:
        digests = {name: plan.data[name].spec["dataset"] for name in (*sets, *tests)
                   if name in plan.data}
        for name in sets:
            if name not in digests:
                here = datasets.state(known[name], plan.config["data_root"])
                digests[name] = {**_data_spec(plan, known[name])["dataset"], "here": here}
        spec = {"pairs": [[digests[one], digests[other]] for one in sets for other in tests],
                "code": sources.stage("leaks")}
        key = {"run": plan.config["run"]}
        plan.leaks[plan.config["run"]] = Job("leaks", key, spec,
                                             plan.run_folder.record("leaks", key))


def _trained_on(plan: Plan, model: Model, known: dict, where: str) -> training_sets.Sets | None:
    """Return the sets that a model's weights were trained on; None if unknown."""
    def of_file(source: Checkpoint) -> training_sets.Sets | None:
        path = loading.on_disk(source, Path(plan.config["data_root"]))
        if path and path not in plan.contents:
            plan.contents[path] = training_sets.of_file(path, known, lambda entry: _data_spec(
                plan, entry)["dataset"]["sha256"])
        return plan.contents[path] if path else None

    return training_sets.of_model(model, known, of_file,
                                  f"{where}: models.{model.entry}",
                                  plan.config["models"].get(model.entry))


# -- jobs --------------------------------------------------------------------------------------

def _add_data(plan: Plan, name: str, known: dict, where: str, use: str,
              protocol: Protocol) -> None:
    if name not in known:
        raise unknown("dataset", name, known, where)
    entry = known[name]
    if entry.use not in ((use,) if use == "test" else ("train", "test")):
        raise UserError(f"{where}: {name!r} is a {entry.use} set, not a {use} set.")
    configs.at(where, lambda: entries.check_pairs(entry, protocol, known))
    if name not in plan.data:
        jobs.add(plan.data, plan.run_folder, "data", {"dataset": name},
             configs.at(where, lambda: _data_spec(plan, entry)))


def _data_spec(plan: Plan, entry: datasets.DatasetEntry) -> dict:
    """Return the spec of a set's job; it is computed once per plan."""
    if entry.name not in plan.contents:
        plan.contents[entry.name] = contents.spec(entry, plan.config["data_root"])
    return plan.contents[entry.name]


def _add_training(plan: Plan, model: Model, protocol: Protocol, known: dict, where: str) -> None:
    recipe = model.training
    for name in recipe.data:
        _add_data(plan, name, known, f"{where}.data", "train", protocol)
    trained_for = configs.at(where, lambda: recipes.trained_for(recipe, protocol))
    spec = {"protocol": trained_for.training_definition(), "model": model_entries.trained(model),
            "datasets": [plan.data[name].spec["dataset"] for name in recipe.data],
            "seed": plan.config["seed"] + (model.seed or 1) - 1,
            "code": sources.digest("training", model, tuple(plan.config["plugins"]))}
    name = f"{trained_for.id}/{model.name}"
    before = plan.trainings.get(name)
    jobs.add(plan.trainings, plan.run_folder, "training",
         {"protocol": trained_for.id, "model": model.name}, spec, model)
    if before and before.spec != plan.trainings[name].spec:
        now = plan.trainings[name].spec
        parts = [key for part in ("protocol", "model") for key in now[part]
                 if now[part][key] != before.spec[part].get(key)]
        raise UserError(f"{where}: one blind training {name} cannot serve {protocol.id} and the "
                        f"protocols before it: they differ in {', '.join(parts)}. Give them models "
                        "of their own, or `levels: null`.")
    plan.scopes[name] = trained_for
