"""What weights were trained on: which sets, and which of their images were left out.

A training has this in its recipe (``data`` and ``exclude``), a file in its header; a training that
begins with the weights of a file (``init``) has both. Of weights from elsewhere the config may say
it (``trained_on``). The result maps the names of sets to the names of the clean images that were
left out. If the search for leaks (``irbench data leak``) finds one of these images in a test set,
it is not a leak.

Reads the headers of checkpoints and the file lists of datasets; writes nothing.

Try: ``python -c "from irbench import plan; print(plan.load('config.yaml').trained_on)"``
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from irbench.catalog.model import Checkpoint, Model
from irbench.catalog.recipes import Recipe
from irbench.core.errors import Unavailable, UserError, unknown
from irbench.data import folders, sets
from irbench.data.sets import DatasetEntry
from irbench.plan.job import Job
from irbench.weights import first, storage

Sets = dict[str, list[str]]  # name -> names of images left out
DECLARED = "trained_on"     # the key of a config
USES = ("train", "test")    # of sets that one can train on


def settled(model: Model) -> Model:
    """Return the model with a recipe whose ``exclude`` names only sets in its ``data``.

    A recipe of the catalog may exclude images of other sets too; they do not affect the result.
    """
    recipe = model.training
    if not recipe:
        return model
    exclude = {name: images for name, images in recipe.exclude.items() if name in recipe.data}
    return replace(model, training=replace(recipe, exclude=exclude))


def of_model(model: Model, known: dict[str, DatasetEntry],
             of_weights: Callable[[Checkpoint], Sets | None], where: str,
             entry: dict | None = None) -> Sets | None:
    """Return the sets that a model's weights were trained on; None if unknown.

    Args:
        model: a model of the plan, fitted to a protocol.
        known: the catalog.
        of_weights: returns the sets of a file of weights, None if unknown. Weights that irbench
            trained name their sets in the header, and so do the bundled weights. Sets that the
            config declares are added, so that none that a file names is lost.
        where: the model's place in the config, named in errors.
        entry: the config's entry of the model, which may declare sets; None if it has none.

    Raises:
        UserError: as ``of_recipe``, also for declared sets.
    """
    if not model.learned:
        return {}
    recipe = model.training
    if not recipe:
        named = of_weights(model.checkpoint)
        said = {name: left_out(known[name], images, f"{where}: {DECLARED}.exclude")
                for name, images in (declared(entry) or {}).items()}
        return first.joined(said, named or {}) if said else named
    own = of_recipe(recipe, known, f"{where}.training")
    if not recipe.init:
        return own
    before = of_weights(Checkpoint.from_dict(recipe.init))
    return None if before is None else first.joined(own, before)


def of_recipe(recipe: Recipe, known: dict[str, DatasetEntry], where: str) -> Sets:
    """Return the sets of a training, each with the images left out.

    Raises:
        UserError: an excluded image is not in its set. A missing set is checked when the training
            reads it.
    """
    return {name: left_out(known[name], recipe.exclude.get(name, ()), f"{where}.exclude")
            for name in recipe.data}


def of_file(path: Path, known: dict[str, DatasetEntry],
            digest: Callable[[DatasetEntry], str | None]) -> Sets | None:
    """Return the sets that the weights in a file were trained on; None if this is uncertain.

    The result is certain only if the catalog has a set with the same name and the same content as
    the training used.

    Args:
        path: the file; its header should have ``datasets`` and may have ``exclude``.
        known: the catalog.
        digest: returns the present digest of a set.
    """
    try:
        header = storage.read_header(path)
        if not (header.get("init") or {"data_known": True})["data_known"]:
            return None
        then = {str(one["name"]): one["sha256"] for one in header.get("datasets") or ()}
        exclude = {name: list(header.get("exclude", {}).get(name, ())) for name in then}
        same = all(sha256 and name in known and digest(known[name]) == sha256
                   for name, sha256 in then.items())
        return {name: left_out(known[name], exclude[name], str(path))
                for name in then} if then and same else None
    except (UserError, AttributeError, KeyError, TypeError):  # foreign or malformed
        return None


def left_out(entry: DatasetEntry, images: Iterable[str], where: str) -> list[str]:
    """Return the sorted names of a set's clean images that a training leaves out.

    In a paired set ``exclude`` names inputs; a target is left out if all its inputs are.

    Raises:
        UserError: the set has no such image.
    """
    images = set(images)
    if not images:
        return []
    try:
        rows = sets.manifest(entry)
    except Unavailable:  # the files of a missing set are unknown
        return sorted(images)
    targets = [row.name for row in rows if row.role == "hr"]
    inputs = [row.name for row in rows if row.role == "input"] if entry.paired else targets
    if missing := sorted(images - set(inputs)):
        raise UserError(f"{where}: dataset {entry.name!r} has no image {missing[0]!r}. "
                        "Give file names without their extension.")
    pairs = (folders.pair(inputs, targets, entry.match)[0] if entry.paired
             else [(i, i) for i in range(len(targets))])
    return sorted(set(targets) - {targets[j] for i, j in pairs if inputs[i] not in images})


def undeclared(entry: dict) -> dict:
    """Return a config's entry of a model without ``trained_on``, also in its ``checkpoint``."""
    return {key: {k: v for k, v in value.items() if k != DECLARED}
            if key == "checkpoint" and isinstance(value, dict) else value
            for key, value in entry.items() if key != DECLARED}


def declared(entry: dict | None) -> Sets | None:
    """Return the sets that a config's entry says its weights were trained on, with images left out.

    None if it says nothing.
    """
    given = next(iter(_said(entry or {})), None)
    if given is None:
        return None
    said = given if isinstance(given, dict) else {"data": given}
    return {name: list(said.get("exclude", {}).get(name, ())) for name in said["data"]}


def declared_of(entries: dict[str, dict], models: Iterable[Model]) -> dict[str, Sets]:
    """Return the declared sets of all models that have such, by name; a variant's are its base's.

    ``entries`` are the config's models, ``models`` the run's.
    """
    found = {model.name: declared(entries.get(model.entry)) for model in models}
    return {name: sets for name, sets in found.items() if sets}


def check_declared(entries: dict[str, dict], models: dict[str, Model],
                   known: dict[str, DatasetEntry], where: str) -> None:
    """Check what the entries of a config declare; see ``declared``.

    Raises:
        UserError: it is said twice, or of weights that need no such key: none, those of a training
            of the run, bundled ones; a set is not in the catalog, or holds no images; an image is
            left out of a set that is not named.
    """
    for name, entry in entries.items():
        place, said, model = f"{where}: models.{name}", _said(entry), models[name]
        if not said:
            continue
        why = ("is given twice, the second time in `checkpoint`; remove one" if len(said) > 1 else
               f"does not apply: {name} has no weights; remove it" if not model.learned else
               "does not apply to a training, whose sets are its `data`; remove it"
               if model.training else "does not apply to bundled weights, whose files name their "
               "sets; remove it" if model.checkpoint.kind == "bundled" else "")
        if why:
            raise UserError(f"{place}: {DECLARED!r} {why}.")
        sets = declared(entry)
        for one in sets:
            if one not in known:
                raise unknown("dataset", one, known, f"{place}: {DECLARED}")
            if known[one].use not in USES:
                raise UserError(f"{place}: {DECLARED}: {one!r} is a {known[one].use} set, not a "
                                "set of images.")
        for one in said[0].get("exclude", ()) if isinstance(said[0], dict) else ():
            if one not in sets:
                raise unknown("dataset", one, sets, f"{place}: {DECLARED}.exclude")


def _said(entry: dict) -> list:
    """Return the values of the key in an entry: beside `checkpoint`, and in it."""
    return [one[DECLARED] for one in (entry, entry.get("checkpoint"))
            if isinstance(one, dict) and DECLARED in one]


def check_excluded(entries: dict[str, dict], trainings: Iterable[Job], where: str) -> None:
    """Raise UserError if `exclude` in the config names a set that its model is not trained on.

    ``entries`` are the config's models, ``trainings`` the run's.
    """
    trainings = list(trainings)
    for name, entry in entries.items():
        data = {one for job in trainings if job.key["model"] == name
                for one in job.model.training.data}
        for dataset in ((entry.get("training") or {}).get("exclude") or ()) if data else ():
            if dataset not in data:
                raise unknown("dataset", dataset, data, f"{where}: models.{name}.training.exclude")
