"""One model, or one cell, without a config file: what ``irbench.evaluate`` and ``restore`` need.

The plan of a model that a config can name is made as for a config file with this one cell, so that
the job has the spec, and the result, that it has in a run. A torch module in memory is not in any
registry; its cell is put together here.

Reads the catalogs and the set; writes nothing.

Try: ``python -c "from irbench.plan import single
print(single.cell_of(single.settings(data_root='data'), 'bicubic', {}, 'sr-x2', 'photos')[1])"``
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from irbench.catalog import datasets as entries
from irbench.catalog.known import Known
from irbench.catalog.model import MODULE, Model
from irbench.catalog.protocols import Protocol
from irbench.core import records
from irbench.core.errors import UserError, unknown
from irbench.core.run_folder import RunFolder
from irbench.data import sets
from irbench.inference import options
from irbench.plan import compose, contents, scoring
from irbench.plan import config as configs
from irbench.plan import models as model_entries
from irbench.plan.compose import Plan
from irbench.plan.job import Job

ARGUMENTS = ("model", "dataset", "protocol", "metrics", "options", "inference")
RUN = "python"      # the run that a result belongs to if the caller names none; nothing is written
HERE = "irbench"    # the place of such a config in messages, which a caller does not see


def settings(**given: object) -> dict:
    """Return the settings of a config that do not belong to a model or cell, complete.

    Args:
        given: any of run, metrics, data_root, device, profile, catalog_paths, plugins; None: the
            default.

    Raises:
        UserError: an invalid value.
    """
    given = {name: list(value) if isinstance(value, tuple) else value
             for name, value in given.items() if value is not None}
    known = configs.check({"run": RUN, "models": {"input": None}, "cells": [
        {"protocol": "-", "datasets": ["-"], "models": ["input"]}], **given}, "settings")
    return {**known, "models": {}, "cells": []}


def model_of(config: dict, name: str, entry: dict, protocol: Protocol) -> tuple[Plan, Job]:
    """Return the plan of a model, and a cell without a dataset, to load the model and run it.

    Args:
        config: from ``settings``.
        name: the model's name.
        entry: its entry, as under ``models`` of a config. Of a variant it is the variant that is
            returned.
        protocol: what it is to be used for.

    Raises:
        UserError: an invalid entry, or a model that does not fit the protocol.
    """
    known = configs.check({**config, "models": {name: entry}, "cells": [
        {"protocol": protocol.id, "datasets": ["-"], "models": [name]}]}, "model")
    plugins = tuple(config["plugins"])
    catalogs = Known.of(tuple(config["catalog_paths"]))
    found = model_entries.resolve("model", known["models"], plugins, catalogs)
    last = [one for one in found.values() if not one.seed_of][-1]
    model = model_entries.fit(last, protocol, plugins, "model", catalogs, found)
    return _plan(known, model, protocol, {}), _job(
        model, protocol, "-", compose.cell_spec(known, model, protocol))


def cell_of(config: dict, name: str, entry: dict, protocol: str,
            dataset: str) -> tuple[Plan, Job]:
    """Return the plan and the cell of a model on a dataset, as from a config file with this cell.

    Raises UserError as ``compose.build``; a message names the argument, not a key of a config.
    """
    checked = configs.check({
        **config, "models": {name: {**entry, "profile": False}},
        "cells": [{"protocol": protocol, "datasets": [dataset], "models": [name]}]}, "cell")
    with _naming_arguments(name):
        plan = compose.build(checked, HERE)
    # a variant follows its base and the other seeds of its training
    return plan, [job for job in plan.cells.values() if not job.model.seed_of][-1]


def module_of(config: dict, name: str, title: str, protocol: Protocol, dataset: str | None = None,
              inference: dict | None = None, made_with: dict | None = None) -> tuple[Plan, Job]:
    """Return the plan and the cell of a torch module in memory; without a dataset, to run it.

    ``made_with`` are the arguments that the module was made with, which its weights need not show.

    Raises:
        UserError: an unknown dataset, one that does not fit the protocol, or bad ``inference``.
    """
    model = Model(name, MODULE, title, options=made_with or {},
                  inference=options.resolve(inference, "inference"))
    if dataset is None:
        return _plan(config, model, protocol, {}), _job(
            model, protocol, "-", compose.cell_spec(config, model, protocol))
    with _naming_arguments(name):
        scoring.resolve(config["metrics"], config.get("metric_plugins", ()), HERE)
    known = sets.catalog(config["catalog_paths"], config["data_root"])
    if dataset not in known:
        raise unknown("dataset", dataset, known, "dataset")
    entry = known[dataset]
    if entry.use != "test":
        raise UserError(f"{dataset!r} is a {entry.use} set, not a test set.")
    entries.check_pairs(entry, protocol, known)
    spec = {**compose.cell_spec(config, model, protocol),
            **compose.of_dataset(config, entry, contents.spec(
                entry, config["data_root"])["dataset"])}
    job = _job(model, protocol, dataset, spec, config["run"])
    return _plan(config, model, protocol, known), job


def profile_of(plan: Plan, cell: Job) -> Job:
    """Return the profile of a model, from what ``model_of`` or ``module_of`` returned.

    Raises UserError for a model without weights, which a run does not profile either.
    """
    model, protocol = cell.model, plan.protocols[cell.key["protocol"]]
    if not model.learned:
        raise UserError(f"model: {model.name} has no weights, so there is no profile of it.")
    key = {"protocol": protocol.id, "model": model.name}
    return Job("profile", key, records.decisive(
        model_entries.profile_spec(plan.config, model, protocol)),
        plan.run_folder.record("profile", key), model)


@contextlib.contextmanager
def _naming_arguments(name: str) -> Iterator[None]:
    """Name the arguments of a caller in an error, who wrote no config, instead of its keys."""
    try:
        yield
    except UserError as error:
        text = str(error)
        for key, argument in (("cells[0].datasets: ", "dataset: "), (f"models.{name}.", ""),
                              ("cells[0].models: ", "model: "), (f"models.{name}: ", "model: "),
                              ("cells[0]: ", "protocol: "), ("", "")):
            if text.startswith(f"{HERE}: {key}"):
                raise type(error)(argument + text.removeprefix(f"{HERE}: {key}")) from None
        raise


def _plan(config: dict, model: Model, protocol: Protocol, known: dict) -> Plan:
    return Plan(config, RunFolder.of_run(config["run"]).path, {protocol.id: protocol},
                {model.name: model}, known)


def _job(model: Model, protocol: Protocol, dataset: str, spec: dict, run: str = RUN) -> Job:
    key = {"protocol": protocol.id, "dataset": dataset, "model": model.name}
    return Job("cell", key, records.decisive(spec), Path(RunFolder.of_run(run).record("cell", key)),
               model)
