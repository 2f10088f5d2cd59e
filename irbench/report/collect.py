"""Collect the records that the plan of a run asks for.

Reads the records of cells, trainings, profiles and benchmarks of a run folder. A planned record
that is missing, broken or outdated (computed from other inputs or code than the plan's) becomes an
entry without a result, with the reason. So one bad cell never makes a report fail, and a report
never shows a number that does not belong to the plan.

Try: ``irbench report``
"""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path

from irbench.catalog import degradations, published
from irbench.catalog.model import Model
from irbench.core import digests, metrics, plugin_files, records, run_folder
from irbench.core.errors import UserError
from irbench.core.run_folder import RunFolder
from irbench.present import text
from irbench.report.facts import family, leakage
from irbench.report.run import MISSING, MOST_PLOTS, NOT_COMPUTED, OUTDATED, Cell, Outcome, Run

CELL = ("protocol", "dataset", "model")
STOPPED = re.compile(r"stopped after step \d+(?: of \d+)?")     # the words of a paused training


def collect(folder: Path, plan: dict) -> Run:
    """Read every record that the plan names. Raises UserError if an entry of it lacks a key."""
    folder = Path(folder)
    protocols = dict(plan.get("protocols") or {})
    given = dict(plan.get("datasets") or {})
    # in the order of the cells, so that the order of the mapping in the plan does not matter
    used = dict.fromkeys(key["dataset"] for key in _keys(plan, "cells", CELL))
    datasets = {name: dict(given.get(name) or {})
                for name in [*used, *sorted(set(given) - set(used))]}
    cells = [_cell(folder, key, protocols, datasets, plan)
             for key in _keys(plan, "cells", CELL)]
    jobs = {kind: {(k["protocol"], k["model"]): _job(folder, one, k, protocols, plan)
                   for k in _keys(plan, kind, ("protocol", "model"))}
            for kind, one in (("trainings", "training"), ("profiles", "profile"))}
    jobs["profiles"] |= {tuple(name.split("/")): replace(jobs["profiles"][tuple(
        other.split("/"))], model=name.split("/")[1], shared=other.split("/")[1])
        for name, other in (plan.get("costs") or {}).items()}
    jobs["trainings"] = {key: _progressed(folder, job) for key, job in jobs["trainings"].items()}
    for cell in cells:              # if the plan has no definition, take that of the record
        if cell.record:
            protocols.setdefault(cell.protocol, cell.record["spec"].get("protocol") or {})
    benches = {k["bench"]: _job(folder, "bench", k, protocols, plan)
               for k in _keys(plan, "benches", ("bench",))}
    name = str(plan.get("run") or folder.name)
    models = _models(plan, cells, jobs)
    models = family.by_colour(models)
    found = leakage.read(folder, plan, {n: model.title for n, model in models.items()})
    sets = {(cell.protocol, cell.model): _training_sets(plan, cell, models) for cell in cells}
    cells = [replace(cell, synthetic=_synthetic(protocols.get(cell.protocol)),
                     leak=found.note(sets[cell.protocol, cell.model] or {}, cell.dataset),
                     same_pictures=_same_pictures(cell, cells))
             for cell in cells]
    return Run(folder, name, str(plan.get("title") or name), cells, jobs["trainings"],
               jobs["profiles"], protocols, datasets, models, plan.get("published", "all"),
               tuple(plan.get("metrics") or ()), found, sets, benches,
               dict(plan.get("profile") or {}), dict(plan.get("trained_as") or {}),
               (*published.load(), *map(published.Figure.from_dict, plan.get("figures") or ())),
               bool(plan.get("differences")),
               None if plan.get("plots") == "all" else plan.get("plots", MOST_PLOTS),
               tuple(dict.fromkeys([run_folder.FORMATS[0], *(plan.get("formats") or ())])),
               dict(plan.get("declared") or {}))


def _training_sets(plan: dict, cell: Cell,
                   models: dict[str, Model]) -> dict[str, list[str]] | None:
    """Return the training sets of the weights of a cell, None if unknown.

    They come from the plan, or else from the recipe of the model.
    """
    spec = models[cell.model]
    known = plan.get("trained_on") or {}
    for name in filter(None, (cell.model, spec.base)):
        if f"{cell.protocol}/{name}" in known:
            return known[f"{cell.protocol}/{name}"]
    recipe = spec.training
    return {name: recipe.exclude.get(name) or []
            for name in recipe.data or ()} if recipe else {}


def _same_pictures(cell: Cell, cells: list[Cell]) -> str:
    """Return a note if the given pictures of a cell are those of another level, too; else "".

    A folder whose path has no ``{level}`` serves every level of a config.
    """
    digest = _pictures(cell)
    levels = dict.fromkeys(text.level_label(other.level) for other in cells if digest and (
        other.task, other.dataset) == (cell.task, cell.dataset)
        and other.level != cell.level and _pictures(other) == digest)
    return f"the same pictures are scored as {' and as '.join(levels)}" if levels else ""


def _pictures(cell: Cell) -> str | None:
    """Return the digest of the given pictures of a cell; None for a model that was run."""
    resolved = cell.record["resolved"] if cell.record else {}
    return resolved.get("checkpoint") if resolved.get("outputs") else None


def _synthetic(protocol: dict | None) -> bool:
    return bool(set(degradations.kinds((protocol or {}).get("degradation")))
                & set(degradations.SYNTHETIC))


def _keys(plan: dict, kind: str, names: tuple[str, ...]) -> list[dict]:
    found = {}
    for entry in plan.get(kind) or []:
        if not isinstance(entry, dict) or not all(entry.get(name) for name in names):
            raise UserError(f"plan: an entry of {kind} is {entry!r}. Each needs "
                            f"{', '.join(names)}.")
        found[tuple(str(entry[name]) for name in names)] = {n: str(entry[n]) for n in names}
    return list(found.values())


def _models(plan: dict, cells: list[Cell], jobs: dict) -> dict[str, Model]:
    """Return every model in the order of the cells: from the plan, or else from a record."""
    planned = plan.get("models") or {}
    specs: dict[str, dict] = {}
    for job in [*cells, *jobs["trainings"].values(), *jobs["profiles"].values()]:
        spec = planned.get(job.model) or (job.record or {}).get("spec", {}).get("model")
        if not specs.get(job.model):
            specs[job.model] = spec if isinstance(spec, dict) else {}
    return {name: Model.from_dict({"name": name, "arch": name, **spec})
            for name, spec in specs.items()}


def _read(folder: Path, kind: str, key: dict, protocols: dict,
          plan: dict) -> tuple[str, str, dict | None]:
    """Return (status, reason, record); paths in reasons are relative to the run folder.

    An outdated record is not returned, not even its failure, because it is not part of this plan.
    """
    stored = RunFolder(folder).load(kind, key)
    if stored.missing:
        return MISSING, NOT_COMPUTED, None
    record = stored.record
    if record is None:
        return "failed", stored.problem, None
    if other := _other_definition(record, stored.place, key, protocols, plan):
        return OUTDATED, other, None
    return record["status"], str(record["reason"] or ""), record


def _other_definition(record: dict, path: str, key: dict, protocols: dict, plan: dict) -> str:
    """Return what differs between the inputs of a record and of the plan, "" if nothing."""
    protocol = record["spec"].get("protocol")
    protocol = protocol if isinstance(protocol, dict) else {}
    planned = protocols.get(key.get("protocol")) or {}
    if protocol.get("id", key.get("protocol")) != key.get("protocol"):
        return f"its record was computed under {protocol['id']}"
    differing = sorted(name for name in set(protocol) & set(planned) - records.PROSE
                       if digests.canonical(protocol[name]) != digests.canonical(planned[name]))
    if differing:
        return (f"its record was computed under another definition of {key['protocol']} "
                f"({', '.join(differing)}); run it again")
    dataset = record["spec"].get("dataset")
    digest = dataset.get("sha256") if isinstance(dataset, dict) else None
    wanted = ((plan.get("datasets") or {}).get(key.get("dataset")) or {}).get("sha256")
    if digest and wanted and digest != wanted:
        return f"its record was computed on another version of {key['dataset']}; run it again"
    expected = (plan.get("fingerprints") or {}).get(path)
    asked = records.restricted(record["spec"], plan.get("metrics"))
    if expected and digests.fingerprint(asked) != expected:
        return ("its record was computed from other inputs than the run has now (model, recipe, "
                "settings, code or package versions); run it again")
    if changed := plugin_files.changed(record["resolved"]):
        return (f"its record was computed with another {changed[0]}, which its Python code uses; "
                "run it again")
    return ""


def _job(folder: Path, kind: str, key: dict, protocols: dict, plan: dict) -> Outcome:
    status, reason, record = _read(folder, kind, key, protocols, plan)
    return Outcome(key.get("protocol", ""), key.get("model") or key["bench"],
                   run_folder.place(kind, key), status, reason, record)


def _progressed(folder: Path, job: Outcome) -> Outcome:
    """Add to an unfinished training how far it got, if its state is kept.

    A training does not resume from the state of an outdated training.
    """
    run, key = RunFolder(folder), {"protocol": job.protocol, "model": job.model}
    if job.result or job.status == OUTDATED or not run.beside(key, run_folder.STATE).exists():
        return job
    match = STOPPED.search(job.reason)
    return replace(job, unfinished=match[0] if match else _last_step(
        run.beside(key, run_folder.CURVE)))


def _last_step(path: Path) -> str:
    """Return after which step a training without a record stopped, from its curve."""
    try:
        with path.open(newline="", encoding="utf-8") as handle:
            steps = [int(row["step"]) for row in csv.DictReader(handle)]
    except (OSError, KeyError, TypeError, ValueError):  # killed before it was written
        steps = []
    return f"stopped after step {steps[-1]}" if steps else "was interrupted"


def _cell(folder: Path, key: dict, protocols: dict, datasets: dict, plan: dict) -> Cell:
    status, reason, record = _read(folder, "cell", key, protocols, plan)
    absent = (datasets.get(key["dataset"]) or {}).get("reason")
    if status in (MISSING, OUTDATED) and absent:    # the images are missing: that is the reason
        status, reason = "unavailable", str(absent)
    planned = protocols.get(key["protocol"]) or {}
    task, level, version = text.split_id(key["protocol"])
    means: dict[str, float] = {}
    missing: dict[str, str] = {}
    if status == "ok" and record:
        means, missing = _means(record, datasets.get(key["dataset"]) or {}, plan.get("metrics"))
    return Cell(key["protocol"], key["model"], run_folder.place("cell", key), status, reason,
                record,
                str(planned.get("task") or task), str(planned.get("level") or level), version,
                key["dataset"], means, missing)


def _means(record: dict, dataset: dict,
           asked: list[str] | None) -> tuple[dict[str, float], dict[str, str]]:
    """Return the means that may be shown, and the reasons why the others may not.

    A set with a missing image has no mean, even if the record holds one. ``asked`` are the metrics
    that the run asks for now, None for those of the record: it may hold more.
    """
    result, images = record["result"], record["result"].get("images") or []
    means: dict[str, float] = {}
    missing: dict[str, str] = {}
    spec = records.restricted(record["spec"], asked)
    other_images = records.other_images(record, dataset.get("count"), dataset.get("names"))
    redefined = metrics.otherwise(spec.get("metrics") or (), metrics.held(
        record.get("metrics") or (), "metrics"))
    for metric in metrics.ordered(spec.get("metrics") or ()):
        number = (result.get("mean") or {}).get(metric)
        without = sum(image.get(metric) is None for image in images)
        if other_images or metric in redefined:
            missing[metric] = other_images or f"not comparable: {redefined[metric]}"
        elif number is not None and not without and images:
            means[metric] = float(number)
        else:
            name = metrics.get(metric).title
            missing[metric] = str((result.get("missing") or {}).get(metric)
                                  or (f"{without} of {len(images)} images have no {name}"
                                      if without else f"the record holds no mean {name}"))
    return means, missing
