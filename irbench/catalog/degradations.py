"""How a protocol makes its inputs, as data: one kind of degradation, or a list of steps.

In a catalog, ``degradation`` is a mapping (``{kind: jpeg, quality: 10}``) or a list of such
mappings, which are applied in this order. Here a list is ``{kind: steps, steps: [...]}``, and a
list of one step is that step. What the kinds compute is in ``irbench.imaging.degrade``.

Reads and writes nothing.

Try: ``python -c "from irbench.catalog import degradations as d; print(d.scale(d.complete(
[{'kind': 'gaussian_blur', 'sigma': 1.6, 'size': 7}, {'kind': 'subsample', 'scale': 3}])))"``
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from fractions import Fraction

from irbench.catalog import reader
from irbench.core.errors import UserError, unknown

# kind -> parameters: (name, smallest, largest valid value). What they mean:
# irbench/imaging/degrade.py, irbench/imaging/mosaic.py and, for the synthetic kinds,
# irbench/imaging/synthetic.py.
DEGRADATIONS = {
    "matlab_bicubic": (("scale", 1.1, 8),),
    "gaussian_noise": (("sigma", 0, 255),),
    "jpeg": (("quality", 1, 100),),
    "mosaic": (("pattern", None, None),),
    "paired": (("multiple", 1, 256), ("longest", 16, 65536), ("scale", 1, 8)),
    "motion_blur": (("length", 1, 100), ("bend", 0, 1), ("gamma", 1, 3)),
    "rain_streaks": (("density", 0, 20), ("length", 2, 200), ("angle", 0, 60), ("opacity", 0, 1),
                     ("layers", 1, 6)),
    "low_light": (("exposure", 0.001, 1), ("gamma", 1, 3), ("photons", 10, 1e6),
                  ("read_noise", 0, 1000)),
    "snow": (("density", 0, 20), ("size", 1, 50), ("motion", 0, 50), ("opacity", 0, 1),
             ("haze", 0, 0.9)),
    "drops": (("count", 0, 1000), ("radius", 2, 200), ("magnification", 1, 20), ("blur", 0, 20),
              ("opacity", 0, 1)),
    "gaussian_blur": (("sigma", 0.1, 50), ("size", 3, 201)),
    "subsample": (("scale", 2, 8),),
    "round": (),
}
SYNTHETIC = ("motion_blur", "rain_streaks", "low_light", "snow", "drops")
RANDOM = ("gaussian_noise", *SYNTHETIC)
STEPS = "steps"                 # the kind of a list
STEP_KINDS = tuple(kind for kind in DEGRADATIONS if kind != "paired")
MOST_STEPS = 10
LARGEST_SCALE = 16              # of all steps together
LARGEST_UNIT = 128              # pixels of a target that may have to be cut off
# parameters that need not be whole numbers: (kind, name), or the name for all kinds
FRACTIONS = ("sigma", "length", "bend", "gamma", "density", "angle", "opacity", "exposure",
             "photons", "read_noise", ("snow", "size"), "motion", "haze", "count", "radius",
             "magnification", "blur")
TENTHS = (("matlab_bicubic", "scale"),)     # parameters with at most one decimal
ODD = (("gaussian_blur", "size"),)
NULLABLE = ("longest",)
CHOICES = {"pattern": ("rggb",)}


# -- reading what a catalog holds ----------------------------------------------------------------

def complete(given: object, task: str = "", level: str = "") -> object:
    """Return a degradation in the form of this module: a list as a mapping, pairs with defaults.

    The scale of super-resolution from given images is that of its level: 2 for ``realsr_x2``.
    What is malformed is returned as it is, for ``check``.
    """
    if isinstance(given, dict) and given.get("kind") == STEPS and set(given) == {"kind", STEPS}:
        given = given[STEPS]
    if isinstance(given, list):
        return given[0] if len(given) == 1 else {"kind": STEPS, STEPS: given}
    if not isinstance(given, dict) or given.get("kind") != "paired":
        return given
    named = re.search(r"x([1-8])$", level) if task == "sr" else None
    whole = {"multiple": 1, "longest": None, "scale": int(named[1]) if named else 1, **given}
    if whole["scale"] == 1:
        del whole["scale"]
    return whole


def check(where: str, value: object) -> None:
    """Raise UserError, which says where, for a degradation (``complete``) that is not valid."""
    if not isinstance(value, dict) or "kind" not in value:
        raise UserError(f"{where}: degradation needs a kind, or is a list of steps that have one. "
                        f"Valid: {', '.join(DEGRADATIONS)}.")
    if value["kind"] != STEPS:
        _check_one(where, "degradation", value, DEGRADATIONS)
        return
    reader.check_keys(f"{where}: degradation", value, {"kind", STEPS})
    given = value[STEPS]
    if not isinstance(given, list) or not 1 <= len(given) <= MOST_STEPS:
        raise UserError(f"{where}: degradation: valid is a list of 1 to {MOST_STEPS} steps, such "
                        "as [{kind: gaussian_blur, sigma: 1.6, size: 7}, {kind: subsample, "
                        "scale: 3}].")
    for number, step in enumerate(given, 1):
        place = f"{where}: degradation: step {number}"
        if not isinstance(step, dict) or "kind" not in step:
            raise UserError(f"{place}: valid is a mapping with a kind and its parameters, such as "
                            "{kind: jpeg, quality: 40}, not "
                            f"{step!r}.")
        _check_one(place, f"step {number}", step, STEP_KINDS)
        if step["kind"] == "mosaic" and number < len(given):
            raise UserError(f"{place}: a mosaic is the last step: what networks take is its "
                            "interpolation. Move the other steps before it.")
    if not scale(value) <= LARGEST_SCALE:
        raise UserError(f"{where}: degradation: all steps together reduce the sides by "
                        f"{scale(value):g}; valid: at most {LARGEST_SCALE}.")
    if unit(value) > LARGEST_UNIT:
        raise UserError(f"{where}: degradation: these scales leave whole sides only if the "
                        f"target's are multiples of {unit(value)}; valid: at most {LARGEST_UNIT}. "
                        "Choose other scales.")


def _check_one(where: str, name: str, value: dict, kinds: Collection[str]) -> None:
    kind = value["kind"]
    if not isinstance(kind, str) or kind not in kinds:
        raise unknown("degradation", kind, kinds, where)
    optional = {"scale"} if kind == "paired" else set()
    reader.check_keys(f"{where}: {name}" if name == "degradation" else f"{where} ({kind})", value,
                      {"kind", *(one for one, _, _ in DEGRADATIONS[kind])} - optional, optional)
    for parameter, low, high in DEGRADATIONS[kind]:
        if parameter not in optional - set(value):
            _check_parameter(where, kind, parameter, value[parameter], low, high)
    if "scale" in optional & set(value) and (value["multiple"], value["longest"]) != (1, None):
        raise UserError(f"{where}: pairs of scale {value['scale']} are never resized. Valid with "
                        "a scale: multiple 1, longest null.")


def _check_parameter(where: str, kind: str, name: str, given: object, low: float,
                     high: float) -> None:
    if name in CHOICES:
        if given not in CHOICES[name]:
            raise unknown(name, given, CHOICES[name], where)
        return
    if given is None and name in NULLABLE:
        return
    tenths, odd = (kind, name) in TENTHS, (kind, name) in ODD
    fraction = tenths or name in FRACTIONS or (kind, name) in FRACTIONS
    valid = type(given) is int or (isinstance(given, float) and fraction)
    # this comparison also refuses NaN
    if not (valid and low <= given <= high and (not tenths or round(given, 1) == given)
            and (not odd or given % 2)):
        raise UserError(f"{where}: {name} is {given!r}; valid: "
                        f"{'' if fraction else 'odd numbers ' if odd else 'whole numbers '}"
                        f"{low:g} to {high:g}{' with at most one decimal' if tenths else ''}"
                        f"{' or null' if name in NULLABLE else ''}.")


# -- what follows from it --------------------------------------------------------------------------

def steps(degradation: Mapping) -> tuple[dict, ...]:
    """Return the steps in their order; a degradation of one kind is one step."""
    return tuple(degradation[STEPS]) if degradation.get("kind") == STEPS else (degradation,)


def kinds(degradation: Mapping | None) -> tuple[str, ...]:
    """Return the kinds of all steps; () for None, of a record without one."""
    return tuple(step.get("kind", "") for step in steps(degradation)) if degradation else ()


def scale(degradation: Mapping) -> int | float:
    """Return side of the target / side of the input; an int if it is whole."""
    total = math.prod(_scales(degradation))
    return int(total) if total.denominator == 1 else float(total)


def unit(degradation: Mapping) -> int:
    """Return of what number the target's sides are multiples, so that each step leaves whole sides.

    5 for a scale of 2.5: five pixels become two.
    """
    total, found = Fraction(1), 1
    for one in _scales(degradation):
        total *= one
        found = math.lcm(found, total.numerator)
    return found


def _scales(degradation: Mapping) -> list[Fraction]:
    return [Fraction(step.get("scale", 1)).limit_denominator(10) for step in steps(degradation)]
