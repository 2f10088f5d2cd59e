"""What kind of model a row is of: one that a paper describes, a variant of one, or a reference.

A variant (``BASE.NAME``) is a base model with the same weights run otherwise: options that change
no weight, or another dtype, layout or compiler. A reference is a network with random weights that
is only timed. Neither is what a paper describes, so neither is ranked with the models that are,
and neither is judged by a printed figure.

Pure functions of a model of the plan.
"""

from __future__ import annotations

from irbench.catalog.model import Model


def changed(spec: Model) -> tuple[dict, dict]:
    """Return the options and the inference settings in which a variant differs from its base."""
    variant = spec.variant or {}
    return dict(variant.get("options") or {}), dict(variant.get("inference") or {})


def is_variant(spec: Model) -> bool:
    """Say whether a model is another one run otherwise."""
    return bool(spec.base) and any(changed(spec))


def is_reference(spec: Model) -> bool:
    """Say whether a model is there for its speed alone."""
    return spec.reference


def competes(spec: Model) -> bool:
    """Say whether a model's figures are ranked among the others'."""
    return not is_variant(spec) and not is_reference(spec)
