"""Recipes: how to train, read from ``catalog/recipes.yaml`` and overridden by the config.

Does not import torch, because the plan resolves recipes before anything runs. The head of the
catalog explains the fields.

Try: ``irbench info demo``
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import yaml

from irbench.catalog import reader
from irbench.catalog.manifest import NAME
from irbench.catalog.protocols import Protocol, version_of
from irbench.catalog.recipe import BLIND, BUNDLED, FIELDS, Recipe, check
from irbench.core.errors import UserError, unknown

CATALOG = Path(__file__).with_name("recipes.yaml")
BESIDE = {"recipe", "seeds"}    # keys of a config's `training` that are no fields of a recipe


def catalog(paths: Iterable[str | Path] = ()) -> dict[str, dict]:
    """Return all recipes by name, with missing fields filled in from their bases.

    Args:
        paths: users' files or folders with recipes of the same form; a recipe without a ``base``
            has the base ``defaults``.

    Raises:
        UserError: a recipe of a user that is defined twice, or is not of this form.
    """
    found, homes = dict(_builtin()), dict.fromkeys(_builtin(), CATALOG)
    for path in reader.files_of_users("recipes", paths):
        for name, entry in reader.section(path, "recipes").items():
            if name in found:
                raise reader.taken(path, "recipe", name, homes[name])
            _check_entry(f"{path}: recipe {name!r}", name, entry, found)
            found[name], homes[name] = _completed(
                {"base": "defaults", **_beside(entry, path.parent)}, found), path
    del found["defaults"]
    return found


@functools.cache
def _builtin() -> dict[str, dict]:
    found: dict[str, dict] = {}
    for name, entry in yaml.safe_load(CATALOG.read_text()).items():
        found[name] = _completed(entry, found)
    return found


def _completed(entry: dict, found: dict[str, dict]) -> dict:
    base = found.get(entry.get("base"), {})
    # a recipe inherits the cases of its base; its own cases come later and win
    return {key: value for key, value in {
        **base, **entry, "for": [*base.get("for", ()), *entry.get("for", ())]}.items()
        if key != "base"}


def _beside(entry: dict, folder: Path) -> dict:
    """Return a user's recipe with the path in ``init`` relative to its catalog's folder."""
    def placed(init: object) -> object:
        if isinstance(init, dict):
            return {**init, "path": placed(init["path"])} if "path" in init else init
        if not isinstance(init, str) or init in ("", BUNDLED) or "://" in init:
            return init
        # the folder's name is no template
        braces = str.maketrans({"{": "{{", "}": "}}"})
        return init if init.startswith("~") else str(Path(str(folder).translate(braces)) / init)

    def of(fields: dict) -> dict:
        return {**fields, "init": placed(fields["init"])} if "init" in fields else fields

    return of(entry) if "for" not in entry else {
        **of(entry), "for": [{**case, "set": of(case["set"])} for case in entry["for"]]}


def _check_entry(where: str, name: object, entry: object, found: dict[str, dict]) -> None:
    """Raise UserError unless a user's recipe has the form of the catalog; not its values."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise UserError(f"{where}: not a valid name. Valid: lower-case letters, digits and _ . -, "
                        "beginning with a letter or digit.")
    if not isinstance(entry, dict):
        raise UserError(f"{where}: valid is a mapping from fields to values.")
    for key in entry:
        if key not in FIELDS | {"base", "for"}:
            raise unknown("field", key, FIELDS | {"base", "for"}, where)
    if not isinstance(entry.get("base", "defaults"), str) or (
            entry.get("base", "defaults") not in found):
        raise unknown("recipe", entry["base"], found, f"{where}: base")
    form = "valid is a list of {models: [..], tasks: [..], at: [..levels], set: {..}}"
    if not isinstance(entry.get("for", []), list):
        raise UserError(f"{where}: for: {form}.")
    for case in entry.get("for", []):
        if not isinstance(case, dict) or not isinstance(case.get("set"), dict) or not all(
                isinstance(case[key], list) for key in set(case) - {"set"}):
            raise UserError(f"{where}: for: {form}.")
        for key in set(case) - {"models", "tasks", "at", "set"}:
            raise unknown("key", key, ("models", "tasks", "at", "set"), f"{where}: for")
        for key in set(case["set"]) - FIELDS:
            raise unknown("field", key, FIELDS, f"{where}: for: set")


def resolve(training: dict, where: str, known: dict[str, dict] | None = None) -> Recipe:
    """Return a recipe with a config's overrides applied.

    Args:
        training: the config's entry, with ``recipe`` and any field of recipes; ``seeds`` is
            not one, as each seed is trained by the same recipe.
        where: the place named in errors.
        known: all recipes, from ``catalog``; None: irbench's own.

    Returns:
        The complete recipe; its ``cases`` do not change fields that the config gives.

    Raises:
        UserError: unknown recipe or field, a value out of range, no budget or two budgets.
    """
    name = training["recipe"]
    known = catalog() if known is None else known
    if name not in known:
        raise unknown("recipe", name, known, where)
    changes = {k: v for k, v in training.items() if k not in BESIDE}
    for key in changes:
        if key not in FIELDS:
            raise unknown("key", key, FIELDS | BESIDE, where)
    if changes.get("precision") is False:  # YAML reads an unquoted `no` as false
        changes["precision"] = "no"
    settings = {**known[name], **changes, "recipe": name}
    budget = {"steps", "seconds"} if {"steps", "seconds"} & set(changes) else set()
    settings["for"] = [{**one, "set": {k: v for k, v in one["set"].items()
                                       if k not in {*changes, *budget}}}
                       for one in settings["for"]]
    # a budget in the config replaces a budget of the other kind in the recipe
    if "seconds" in changes and "steps" not in changes:
        settings["steps"] = None
    if "steps" in changes and "seconds" not in changes:
        settings["seconds"] = None
    recipe = Recipe.from_dict(settings)
    check(recipe, where)
    for one in recipe.cases:
        check(replace(recipe, **one["set"]), where)
    return recipe


def for_model(recipe: Recipe, arch: str, protocol: Protocol) -> Recipe:
    """Return a resolved recipe with its ``cases`` for a model and a protocol applied.

    Raises:
        UserError: neither the config nor the recipe names training sets.
    """
    fitted = replace(recipe, cases=None)
    for one in recipe.cases or ():
        if (arch in one.get("models", [arch]) and protocol.task in one.get("tasks", [protocol.task])
                and protocol.level in one.get("at", [protocol.level])):
            fitted = replace(fitted, **one["set"])
    if not fitted.data:
        raise UserError(f"recipe {recipe.recipe} names no training sets for {protocol.task}. "
                        "Give `data`, a list of datasets.")
    return fitted


def in_phase(recipe: Recipe, share: float) -> Recipe:
    """Return the recipe with the values of its phase after a share (0 to 1) of the budget."""
    now = recipe
    for phase in recipe.phases or ():
        if share >= phase["from"]:
            now = replace(recipe, **{k: v for k, v in phase.items() if k != "from"})
    return now


def learning_rate(recipe: Recipe, share: float) -> float:
    """Return the learning rate after a share (0 to 1) of the budget.

    A linear warm-up, then a half cosine down to 0, or halving at each milestone. A phase with its
    own ``lr`` sets the peak.
    """
    peak, warmup = in_phase(recipe, share).lr, recipe.warmup
    if share < warmup:
        # not zero, so that the first step has an effect
        return peak * max(share / warmup, 0.01)
    if recipe.schedule == "milestones":
        return peak * 0.5 ** sum(share >= stone for stone in recipe.milestones)
    fall = (min(share, 1.0) - warmup) / max(1 - warmup, 1e-9)
    return peak * 0.5 * (1 + math.cos(math.pi * fall))


# -- blind trainings -----------------------------------------------------------------------------

def scope(levels: dict | None, protocol: Protocol) -> str:
    """Return the name of a training's scope: its protocol, or the task of a blind training.

    Versions of a protocol that differ only in scoring share the scope of the first of them. One
    blind training serves every protocol of its task within its range (``levels``), so that these
    protocols share a scope: ``denoise_color-blind@1``.
    """
    if not levels:
        return protocol.training_id
    return f"{protocol.task}-blind@{version_of(protocol.training_id)}"


def trained_for(recipe: Recipe, protocol: Protocol) -> Protocol:
    """Return the protocol of a training; in a blind recipe a range replaces the level.

    Raises:
        UserError: the range belongs to another degradation or does not contain the protocol's
            level; or the protocol's scale does not divide a patch.
    """
    for patch in dict.fromkeys(recipe.patches):
        if patch % protocol.unit:
            why = (f"the scale {protocol.scale} of" if protocol.unit == protocol.scale else
                   f"{protocol.unit}, as the steps to scale {protocol.scale:g} ask in")
            raise UserError(f"patch {patch} is not divisible by {why} {protocol.id}.")
    if not recipe.levels:
        return replace(protocol, id=protocol.training_id, serves=(), trained_as="")
    (parameter, (low, high)), = recipe.levels.items()
    if not covers(recipe.levels, protocol):
        raise UserError(f"recipe {recipe.recipe} trains for {parameter} from {low:g} to "
                        f"{high:g} of {' and '.join(BLIND[parameter])}; {protocol.id} is not "
                        "among them. Choose a recipe for it, or other `levels`.")
    return replace(
        protocol, id=scope(recipe.levels, protocol), serves=(), trained_as="", level="blind",
        title=f"{protocol.task}, {parameter} {low:g} to {high:g}",
        degradation={**protocol.degradation, parameter: [low, high]})


def covers(levels: dict | None, protocol: Protocol) -> bool:
    """Whether a blind range contains a protocol's level."""
    if not levels:
        return False
    (parameter, (low, high)), = levels.items()
    level = protocol.degradation.get(parameter)
    return protocol.task in BLIND[parameter] and level is not None and low <= level <= high
