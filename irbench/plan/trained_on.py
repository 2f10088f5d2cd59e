"""What weights were trained on: which sets, and which of their images were left out.

Of a training its recipe says it (``data`` and ``exclude``), of a file its header. Sets are given as
a mapping from their names to the images left out, by the names of the clean images: what the search
for leaks (``irbench data leak``) finds among these was not trained on.

Reads the heads of checkpoints and the lists of files of datasets; writes nothing.

Try: ``python -c "from irbench import plan; print(plan.load('config.yaml').trained_on)"``
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from irbench.catalog.model import Model
from irbench.catalog.recipes import Recipe
from irbench.core.errors import Unavailable, UserError
from irbench.data import folders, sets
from irbench.data.sets import DatasetEntry
from irbench.weights import storage

Sets = dict[str, list[str]]  # name -> names of images left out


def settled(model: Model) -> Model:
    """Return a model of the plan whose recipe, if any, leaves images out of its own ``data`` only.

    What a recipe of the catalog says of a set that is not trained on here fixes no result.
    """
    recipe = model.training
    if not recipe:
        return model
    exclude = {name: images for name, images in recipe.exclude.items() if name in recipe.data}
    return replace(model, training=replace(recipe, exclude=exclude))


def of_recipe(recipe: Recipe, known: dict[str, DatasetEntry], where: str) -> Sets:
    """Return what a training sees.

    Raises:
        UserError: an image to leave out is not in its set. A set that is not here is checked when
            it is trained on.
    """
    return {name: left_out(known[name], recipe.exclude.get(name, ()), f"{where}.exclude")
            for name in recipe.data}


def of_file(path: Path, known: dict[str, DatasetEntry],
            digest: Callable[[DatasetEntry], str | None]) -> Sets | None:
    """Return what the weights of a file have seen, None if that is not known for sure.

    What counts is a set as it was then: only if the catalog has that name with the same content is
    it known which images these were.

    Args:
        path: of the file, whose header is to name ``datasets`` and may name ``exclude``.
        known: the catalog.
        digest: says which content a set has today.
    """
    try:
        header = storage.read_header(path)
        then = {str(one["name"]): one["sha256"] for one in header.get("datasets") or ()}
        exclude = {name: list(header.get("exclude", {}).get(name, ())) for name in then}
        same = all(sha256 and name in known and digest(known[name]) == sha256
                   for name, sha256 in then.items())
        return {name: left_out(known[name], exclude[name], str(path))
                for name in then} if then and same else None
    except (UserError, AttributeError, KeyError, TypeError):  # no file of ours, or not quite
        return None


def left_out(entry: DatasetEntry, images: Iterable[str], where: str) -> list[str]:
    """Return the clean images of a set that a training does not see, by name, sorted.

    Of a paired set the names in ``exclude`` are those of the inputs; a target is left out with the
    last of its inputs.

    Raises:
        UserError: the set has no such image.
    """
    images = set(images)
    if not images:
        return []
    try:
        rows = sets.manifest(entry)
    except Unavailable:  # its files are not listed before they are here
        return sorted(images)
    targets = [row.name for row in rows if row.role == "hr"]
    inputs = [row.name for row in rows if row.role == "input"] if entry.paired else targets
    if missing := sorted(images - set(inputs)):
        raise UserError(f"{where}: dataset {entry.name!r} has no image {missing[0]!r}. "
                        "Give the names of its files without their ending.")
    pairs = (folders.pair(inputs, targets, entry.match)[0] if entry.paired
             else [(i, i) for i in range(len(targets))])
    return sorted(set(targets) - {targets[j] for i, j in pairs if inputs[i] not in images})
