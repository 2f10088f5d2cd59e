"""What kind of model a row is of: one that a paper describes, a variant of one, or a reference.

A variant (``BASE.NAME``) is a base model with the same weights run otherwise: options that change
no weight, or another dtype, layout or compiler. A reference is a network with random weights that
is only timed. Neither is what a paper describes, so neither is ranked with the models that are,
and neither is judged by a printed figure.

Pure functions of a model's dictionary (``base``, ``variant``, ``reference``; older plans have none
of these keys).
"""

from __future__ import annotations


def changed(spec: dict) -> tuple[dict, dict]:
    """Return the options and the inference settings in which a variant differs from its base."""
    variant = spec.get("variant") or {}
    return dict(variant.get("options") or {}), dict(variant.get("inference") or {})


def is_variant(spec: dict) -> bool:
    """Say whether a model is another one run otherwise."""
    return bool(spec.get("base")) and any(changed(spec))


def is_reference(spec: dict) -> bool:
    """Say whether a model is there for its speed alone."""
    return bool(spec.get("reference"))


def competes(spec: dict) -> bool:
    """Say whether a model's figures are ranked among the others'."""
    return not is_variant(spec) and not is_reference(spec)
