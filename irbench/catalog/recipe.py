"""One recipe: its fields, and which values are valid.

Reads and writes nothing; ``irbench.catalog.recipes`` reads the catalog.

Try: ``irbench info demo``
"""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass, fields

from irbench.catalog import peers
from irbench.core import forms
from irbench.core.errors import UserError, unknown

CHOICES = {"loss": ("l1", "charbonnier", "l1_fft"), "optimiser": ("adamw", "adam", "muon"),
           "schedule": ("cosine", "milestones"), "precision": ("no", "bf16", "fp16")}
# field -> (smallest valid value, may it be null)
NUMBERS = {"patch": (8, False), "batch": (1, False), "accumulate": (1, False),
           "steps": (1, True), "seconds": (1, True),
           "lr": (0, False), "matrix_lr": (0, False), "warmup": (0, False),
           "weight_decay": (0, False),
           "grad_clip": (0, True), "ema": (0, True), "fft_weight": (0, False),
           "save_every": (1, False), "save_minutes": (0, False), "spike": (1, True),
           "holdout": (0, False), "validate_every": (1, True), "workers": (0, False)}
WHOLE = ("patch", "batch", "accumulate", "steps", "save_every", "holdout", "validate_every",
         "workers")
BELOW_ONE = ("warmup", "ema")
ABOVE = ("lr", "matrix_lr", "grad_clip")  # must be larger than their limit, 0
# fields that a phase may set for its share of the budget
OF_A_PHASE = ("patch", "batch", "lr")
# fields that most recipes do not have; a recipe without them keeps the plain data it always had
OF_FEW = ("init", "teacher")
BUNDLED = "bundled"     # value of `init`: the weights that irbench includes
# parameters of a degradation that may have a blind range -> the tasks that have the parameter
BLIND = {"sigma": ("denoise_gray", "denoise_color"), "quality": ("jpeg_gray", "jpeg_color")}
HIGHEST = {"sigma": 255, "quality": 100}


@dataclass(frozen=True)
class Recipe:
    """How a model is trained; the head of ``recipes.yaml`` explains every field.

    ``recipe`` is its name in the catalog. ``cases`` is the catalog's ``for``: the changes that
    ``for_model`` applies for some models, tasks and levels; None in its result. ``init`` and
    ``teacher`` are as written in the config; the plan replaces them by the files that they mean
    (``irbench.plan.training_inputs``).
    """

    recipe: str
    steps: int | None
    seconds: float | None
    data: list[str] | None
    patch: int
    batch: int
    accumulate: int
    phases: list[dict] | None
    optimiser: str
    lr: float
    matrix_lr: float
    warmup: float
    schedule: str
    milestones: list[float]
    weight_decay: float
    betas: list[float]
    grad_clip: float | None
    ema: float | None
    loss: str
    fft_weight: float
    precision: str
    levels: dict[str, list[float]] | None
    exclude: dict[str, list[str]]
    holdout: int
    validate_every: int | None
    save_every: int
    save_minutes: float
    spike: float | None
    workers: int
    unknown: list[str]
    note: str
    cases: list[dict] | None = None
    init: str | dict | None = None
    teacher: dict | None = None

    @property
    def patches(self) -> list[int]:
        """The sides of the target patches in pixels: the recipe's own, then those of its phases."""
        return [self.patch, *(p["patch"] for p in self.phases or () if "patch" in p)]

    @property
    def batches(self) -> list[int]:
        """The patches per step: the recipe's own, then those of its phases."""
        return [self.batch, *(p["batch"] for p in self.phases or () if "batch" in p)]

    def as_dict(self) -> dict:
        """Return the recipe as plain data, without ``for``, ``init`` and ``teacher`` if not set."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        plain = {name: value for name, value in plain.items()
                 if name not in OF_FEW or value is not None}
        cases = plain.pop("cases")
        return plain if cases is None else {**plain, "for": cases}

    @classmethod
    def from_dict(cls, given: dict) -> Recipe:
        """Return the recipe from ``as_dict``'s data; its values are not checked.

        Raises UserError for an unknown or a missing key.
        """
        plain = dict(given)
        if "for" in plain:
            plain["cases"] = plain.pop("for")
        return forms.make(cls, plain, f"recipe {given.get('recipe', '')}".strip())


# the fields that a config may override
FIELDS = {field.name for field in fields(Recipe)} - {"recipe", "cases"}


def check(recipe: Recipe, where: str) -> None:
    """Raise UserError for any bad value."""
    if (recipe.steps is None) == (recipe.seconds is None):
        raise UserError(f"{where}: give either steps or seconds as the budget, not "
                        f"{'neither' if recipe.steps is None else 'both'}.")
    for field in NUMBERS:
        _check_number(field, getattr(recipe, field), where)
    for field, valid in CHOICES.items():
        if (value := getattr(recipe, field)) not in valid:
            raise unknown(field, value, valid, where)
    betas = recipe.betas
    if not (isinstance(betas, list) and len(betas) == 2 and all(
            _number(b) and 0 <= b < 1 for b in betas)):
        raise UserError(f"{where}: betas is {betas!r}; valid: two numbers from 0 to below 1.")
    if not isinstance(recipe.note, str):
        raise UserError(f"{where}: note is {recipe.note!r}; valid: a text.")
    if not isinstance(recipe.unknown, list):
        raise UserError(f"{where}: unknown is {recipe.unknown!r}; valid: a list of fields.")
    for name in recipe.unknown:
        if not isinstance(name, str) or name not in FIELDS:
            raise unknown("field", name, FIELDS, f"{where}: unknown")
    _check_plan(recipe, where)
    _check_choice_of_data(recipe, where)
    _check_init(recipe.init, f"{where}: init")
    _check_teacher(recipe.teacher, f"{where}: teacher")


def _check_number(field: str, value: object, where: str) -> None:
    low, nullable = NUMBERS[field]
    if value is None and nullable:
        return
    kind = int if field in WHOLE else (int, float)
    # `not >=` also refuses NaN
    if (not isinstance(value, kind) or isinstance(value, bool) or not low <= value < math.inf
            or (field in BELOW_ONE and value >= 1) or (field in ABOVE and value == low)):
        raise UserError(f"{where}: {field} is {value!r}; valid: "
                        f"{'a whole number' if field in WHOLE else 'a number'} "
                        f"{'>' if field in ABOVE else '>='} {low}"
                        f"{' or null' if nullable else ''}"
                        f"{', below 1' if field in BELOW_ONE else ''}.{_as_number(value)}")


def _as_number(value: object) -> str:
    """Return how to write a number that YAML reads as text: with a point and a signed exponent."""
    parts = re.fullmatch(r"([+-]?\d+)(\.\d*)?e([+-]?)(\d+)", str(value), re.IGNORECASE)
    if not isinstance(value, str) or not parts:
        return ""
    whole, point, sign, power = parts.groups()
    return f" YAML reads it as a text: write {whole}{point or '.0'}e{sign or '+'}{power}."


def _check_plan(recipe: Recipe, where: str) -> None:
    """Check the fields that refer to the budget: batches, milestones, phases."""
    if recipe.batch % recipe.accumulate:
        raise UserError(f"{where}: a batch of {recipe.batch} cannot be made in "
                        f"{recipe.accumulate} equal parts; choose an `accumulate` that divides "
                        "it.")
    stones = recipe.milestones
    if not (isinstance(stones, list) and all(_number(s) and 0 < s < 1 for s in stones)
            and stones == sorted(stones)):
        raise UserError(f"{where}: milestones is {stones!r}; valid: shares of the budget between "
                        "0 and 1, in rising order.")
    phases = recipe.phases
    if phases is None:
        return
    if not isinstance(phases, list) or len(phases) < 2:
        raise UserError(f"{where}: phases is {phases!r}; valid: null, or a list of at least two.")
    for i, phase in enumerate(phases):
        place = f"{where}: phases[{i}]"
        if not isinstance(phase, dict) or "from" not in phase:
            raise UserError(f"{place} is {phase!r}; valid: a mapping with `from` (share of the "
                            f"budget) and any of {', '.join(OF_A_PHASE)}.")
        for key, value in phase.items():
            if key == "from":
                continue
            if key not in OF_A_PHASE:
                raise unknown("key", key, {"from", *OF_A_PHASE}, place)
            _check_number(key, value, place)
        if phase.get("batch", recipe.batch) % recipe.accumulate:
            raise UserError(f"{place}: a batch of {phase['batch']} cannot be made in "
                            f"{recipe.accumulate} equal parts.")
    begins = [phase["from"] for phase in phases]
    if begins[0] != 0 or any(not _number(b) or b >= 1 for b in begins) \
            or any(b <= a for a, b in itertools.pairwise(begins)):
        raise UserError(f"{where}: the phases begin at {begins}; valid: shares of the budget, the "
                        "first 0, each larger than the one before, below 1.")


def _number(value: object) -> bool:
    """Whether a value is a finite number; true and false are not."""
    return (isinstance(value, int | float) and not isinstance(value, bool)
            and math.isfinite(value))


def _check_choice_of_data(recipe: Recipe, where: str) -> None:
    """Check the sets, the blind range and the images to leave out."""
    sets = recipe.data
    if sets is not None and not (isinstance(sets, list) and sets
                                 and all(isinstance(name, str) for name in sets)
                                 and len(sets) == len(set(sets))):
        raise UserError(f"{where}: data is {sets!r}; valid: a list of datasets, each once.")
    levels = recipe.levels
    if levels is not None and not (isinstance(levels, dict) and len(levels) == 1 and all(
            key in BLIND and _range(pair, HIGHEST[key], whole=key == "quality")
            for key, pair in levels.items())):
        raise UserError(f"{where}: levels is {levels!r}; valid: null, or one range: "
                        "{sigma: [15, 50]}, above 0 to 255, or {quality: [10, 40]}, whole "
                        "numbers from 1 to 100; the lower end first.")
    exclude = recipe.exclude
    if not (isinstance(exclude, dict) and all(
            isinstance(names, list) and all(isinstance(n, str) for n in names)
            for names in exclude.values())):
        raise UserError(f"{where}: exclude is {exclude!r}; valid: a mapping from a dataset to a "
                        'list of file names without ending, as {bsds500_train: ["302003"]}.')


def _range(pair: object, highest: float, whole: bool) -> bool:
    return (isinstance(pair, list) and len(pair) == 2 and all(map(_number, pair))
            and 0 < pair[0] < pair[1] <= highest
            and not (whole and any(isinstance(v, float) for v in pair)))


# -- what a training begins with and learns from --------------------------------------------------

def _check_init(init: object, where: str) -> None:
    """Check the form of `init`; whether there is such a file is the plan's question."""
    if init is None:
        return
    if isinstance(init, str):
        if peers.is_url(init):
            raise UserError(f"{where}: a URL needs the digest of its file: "
                            f"{{url: {init}, sha256: 64 hexadecimal digits (sha256sum FILE)}}.")
        if init:
            return
    keys = {BUNDLED, "path", "url", "sha256", "weights_key"}
    if not isinstance(init, dict) or not all(
            isinstance(value, str) and value for key, value in init.items() if key != "sha256") or (
            len({BUNDLED, "path", "url"} & set(init)) != 1):
        raise UserError(f"{where} is {init!r}; valid: null, bundled, a path, {{bundled: NAME}}, "
                        "{path: PATH} or {url: URL, sha256: DIGEST}.")
    for key in init:
        if key not in keys:
            raise unknown("key", key, keys, where)
    if BUNDLED in init and len(init) > 1:
        raise UserError(f"{where}: bundled weights need nothing beside their name.")
    digest = init.get("sha256")
    for level in digest if isinstance(digest, dict) else [""]:
        peers.digest_for(where, digest, level)
    if "url" in init and not digest:
        raise UserError(f"{where}: `url` needs `sha256`, the digest of the file (sha256sum FILE), "
                        "or a mapping from levels to digests.")
    if "url" in init and not peers.is_url(init["url"]):
        raise UserError(f"{where}: {init['url']!r} is not a URL. Give a file with `path`.")


def _check_teacher(teacher: object, where: str) -> None:
    """Check the form of `teacher`; whether there is such a model is the plan's question."""
    if teacher is None:
        return
    form = ("valid: null, or {model: NAME, weight: 0.5}, with the name of a peer or of a model of "
            "the config that has weights, and a weight above 0, at most 1")
    if not isinstance(teacher, dict) or set(teacher) - {"model", "weight"} or not isinstance(
            teacher.get("model"), str) or not _number(teacher.get("weight")) or not (
            0 < teacher["weight"] <= 1):
        raise UserError(f"{where} is {teacher!r}; {form}.")
