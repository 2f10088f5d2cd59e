"""The kind of a model: a model from a paper, a variant of one, or a reference.

A variant (``BASE.NAME``) is a base model with the same weights that is run differently: with
options that change no weight, or with another dtype, layout or compiler. A reference is a network
with random weights that is only timed. Variants and references are not ranked and have no verdict,
because no paper describes them. A model that is run as a self-ensemble is not ranked either: its
rows are not compared with rows that took one forward pass.

Pure functions of a model of the plan.
"""

from __future__ import annotations

from irbench.catalog.model import Model


def changed(spec: Model) -> tuple[dict, dict]:
    """Return the options and the inference settings that a variant changes from its base."""
    variant = spec.variant or {}
    return dict(variant.get("options") or {}), dict(variant.get("inference") or {})


def is_variant(spec: Model) -> bool:
    """Return whether a model is a variant: another model run differently."""
    return bool(spec.base) and any(changed(spec))


def is_reference(spec: Model) -> bool:
    """Return whether a model is a reference: included for its speed only."""
    return spec.reference


def is_repeat(spec: Model) -> bool:
    """Return whether a model is another seed of the training of a model of the run."""
    return bool(spec.seed_of)


def competes(spec: Model) -> bool:
    """Return whether the scores of a model are ranked."""
    return not (is_variant(spec) or is_reference(spec) or spec.inference.self_ensemble)
