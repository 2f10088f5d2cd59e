"""Recipes: how to train, read from ``catalog/recipes.yaml`` and overridden by the config.

Torch-free, since the plan resolves recipes before anything runs.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path

import yaml

from irbench.errors import UserError, unknown

CATALOG = Path(__file__).parent.parent / "catalog" / "recipes.yaml"
LOSSES = ("l1", "charbonnier", "l1_fft")
# field -> (smallest valid value, or None for no number, may it be null)
NUMBERS = {"patch": (8, False), "batch": (1, False), "steps": (1, True), "seconds": (1, True),
           "lr": (0, False), "warmup": (0, False), "weight_decay": (0, False),
           "grad_clip": (0, True), "fft_weight": (0, False), "save_every": (1, False)}
WHOLE = ("patch", "batch", "steps", "save_every")
FIELDS = {*NUMBERS, "betas", "loss", "note"}


@functools.cache
def catalog() -> dict[str, dict]:
    """Return the recipes by name."""
    return yaml.safe_load(CATALOG.read_text())


def resolve(training: dict, where: str) -> dict:
    """Return a recipe with a config's overrides applied.

    Args:
        training: the config's entry, with ``recipe``, ``data`` and any recipe field.
        where: the place named in errors.

    Returns:
        All fields of the catalog plus ``recipe`` (its name).

    Raises:
        UserError: unknown recipe or field, a value out of range, no or two budgets.
    """
    name = training["recipe"]
    if name not in catalog():
        raise unknown("recipe", name, catalog(), where)
    changes = {k: v for k, v in training.items() if k not in ("recipe", "data")}
    for key in changes:
        if key not in FIELDS:
            raise unknown("key", key, FIELDS | {"recipe", "data"}, where)
    recipe = {**catalog()[name], **changes}
    # a budget of one kind in the config replaces the recipe's of the other kind
    if "seconds" in changes and "steps" not in changes:
        recipe["steps"] = None
    if "steps" in changes and "seconds" not in changes:
        recipe["seconds"] = None
    if (recipe["steps"] is None) == (recipe["seconds"] is None):
        raise UserError(f"{where}: give either steps or seconds as the budget, not "
                        f"{'neither' if recipe['steps'] is None else 'both'}.")
    for field, (low, nullable) in NUMBERS.items():
        value = recipe[field]
        if value is None and nullable:
            continue
        kind = int if field in WHOLE else (int, float)
        # `not >=` also refuses NaN
        if (not isinstance(value, kind) or isinstance(value, bool) or not low <= value < math.inf
                or (field == "warmup" and value >= 1)):
            raise UserError(f"{where}: {field} is {value!r}; valid: "
                            f"{'a whole number' if field in WHOLE else 'a number'} >= {low}"
                            f"{' or null' if nullable else ''}"
                            f"{', below 1' if field == 'warmup' else ''}.")
    betas = recipe["betas"]
    if not (isinstance(betas, list) and len(betas) == 2 and all(
            isinstance(b, int | float) and 0 <= b < 1 for b in betas)):
        raise UserError(f"{where}: betas is {betas!r}; valid: two numbers from 0 to below 1.")
    if not isinstance(recipe["note"], str):
        raise UserError(f"{where}: note is {recipe['note']!r}; valid: a text.")
    if recipe["loss"] not in LOSSES:
        raise unknown("loss", recipe["loss"], LOSSES, where)
    return {"recipe": name, **recipe}
