"""Variants: the same model with the same weights, run with other settings.

Reads and writes plain data. A config's ``models.BASE.variants.NAME`` sets options that do not
change the weights (a card's ``free``) and inference options (``irbench.inference.options``). It
becomes the model ``BASE.NAME`` of the plan. It is evaluated and profiled wherever BASE is (or only
under its own ``protocols``), is never trained, and uses the weights of BASE.

Try: ``irbench eval --protocol sr-x2 --dataset photos --model semanir-light.k8`` with
``variants: {k8: {options: {k: 8}}}`` under ``models.semanir-light`` of config.yaml
"""

from __future__ import annotations

from dataclasses import replace

from irbench.catalog.model import SELF_ENSEMBLE, Model
from irbench.core.errors import UserError, unknown
from irbench.inference import options as inference
from irbench.models.registry import Card


def variants_of(where: str, base: Model, plain: Model, given: dict[str, dict],
                card: Card | None) -> list[Model]:
    """Return the variants of a model of the plan, in the config's order.

    Args:
        where: the base's place in the config, for messages.
        base: the base, complete.
        plain: the base as its card describes it: its title and note without the parts about its
            own options and inference.
        given: the config's ``variants``.
        card: the card of its architecture; None for third-party weights (options are in the file).

    Raises:
        UserError: an option that is unknown, changes weights or has a value of the wrong type; bad
            inference; a variant equal to its base.
    """
    return [_variant(f"{where}.variants.{name}", name, base, plain, entry or {}, card)
            for name, entry in given.items()]


def _variant(where: str, name: str, base: Model, plain: Model, entry: dict,
             card: Card | None) -> Model:
    asked = entry.get("options") or {}
    _check_options(f"{where}.options", asked, base, card)
    chosen = {**base.options, **asked}
    way = inference.resolve({**base.inference.as_dict(), **(entry.get("inference") or {})},
                            f"{where}.inference")
    if card:
        inference.check_dtype(way.dtype, card.dtypes, f"{where}.inference")
    difference = {"options": changed(base.options, chosen),
                  "inference": way.unlike(base.inference)}
    if not any(difference.values()):
        raise UserError(f"{where}: it is equal to {base.name}. Give `options` or `inference` "
                        f"with another value. {_free(base, card)}")
    words = [f"{option} = {value}" for option, value in difference["options"].items()]
    title = ensembled(plain.title) if way.self_ensemble else plain.title
    if difference["inference"]:     # the + in the title says it is a self-ensemble
        described = inference.describe(replace(way, self_ensemble=False))
        words += ([described] if described
                  else [] if way.self_ensemble else ["default inference"])
    unlike = changed(card.options if card else {}, chosen) | way.unlike(inference.DEFAULT)
    return replace(
        base, name=f"{base.name}.{name}", title=titled(title, words),
        in_paper=False, published_as="",    # no published value is compared with a variant
        note=note(plain.note, unlike, base.name), options=chosen, inference=way, base=base.name,
        base_options=base.options, variant=difference)


def titled(base: str, words: list[str]) -> str:
    """Add the differences in parentheses; use the pair at the end of the title if there is one."""
    joined = ", ".join(words)
    if not joined:
        return base
    return f"{base[:-1]}; {joined})" if base.endswith(")") else f"{base} ({joined})"


def ensembled(title: str) -> str:
    """Return the title of a model that is run as a self-ensemble: its name with a + behind it."""
    name, space, beside = title.partition(" (")
    return f"{name}+{space}{beside}"


def changed(usual: dict, values: dict) -> dict:
    """Return the values that differ from the usual values."""
    return {name: value for name, value in values.items() if value != usual.get(name)}


def note(plain: str, unlike: dict, base: str = "") -> str:
    """Return the note of a model in tables: how it differs from its card.

    Args:
        plain: the note of its card.
        unlike: options that differ from the card's, and inference that differs from the default.
        base: the model whose weights it uses, if it is a variant.
    """
    ensemble = [SELF_ENSEMBLE] if unlike.get("self_ensemble") else []
    words = [f"{name} = {value}" for name, value in unlike.items()
             if not (name == "self_ensemble" and value)]
    if base:
        return "; ".join(filter(None, [plain, "variant: " + ", ".join(
            [*words, *ensemble, f"weights of {base}"])]))
    # a model with other options than its card's is not a variant: it has weights of its own
    return "; ".join(filter(None, [
        plain.rstrip(".") if unlike else plain,
        words and f"option{'s' * (len(words) > 1)} {', '.join(words)}",
        *(f"with {one}" for one in ensemble)]))


def _check_options(where: str, asked: dict, base: Model, card: Card | None) -> None:
    if asked and card is None:
        raise UserError(f"{where}: {base.name} has third-party weights, whose options are "
                        f"in their file. {_free(base, card)}")
    for option in asked:
        if option in card.options and option not in card.free:
            raise UserError(f"{where}: {option!r} changes the weights of {card.name}, but a "
                            f"variant uses those of {base.name}. {_free(base, card)}")
    if card:
        card.check(where, asked)


def _free(base: Model, card: Card | None) -> str:
    """Return a sentence on what can be varied."""
    if card is None or not card.free:
        return f"Only `inference` of {base.name} can be varied."
    return f"Free options of {card.name}: {', '.join(card.free)}."


def under(where: str, settings: dict, model: Model, own: list[str]) -> set[str]:
    """Return the ids of the protocols under which a model of the plan has cells.

    Args:
        where: the config, for messages.
        settings: the config, checked.
        model: a model of the plan; a variant may be limited to some protocols of its base, named
            with or without their version.
        own: the ids of the protocols under which the config lists the model or its base.

    Raises:
        UserError: a protocol under which the base has no cell.
    """
    if model.base is None:      # other seeds, too
        return set(own)
    name = model.name.removeprefix(f"{model.base}.")
    wanted = (settings["models"][model.base]["variants"][name] or {}).get("protocols")
    if wanted is None:
        return set(own)
    for given in wanted:
        if given not in own and given not in map(_unversioned, own):
            raise UserError(f"{where}: models.{model.base}.variants.{name}.protocols: "
                            f"{model.base} has no cell under {given!r}. Its protocols: "
                            f"{', '.join(sorted(own)) or 'none'}.")
    return {one for one in own if one in wanted or _unversioned(one) in wanted}


def _unversioned(protocol: str) -> str:
    return protocol.rpartition("@")[0]


def not_a_model(name: str, models: dict[str, Model], where: str) -> UserError:
    """Return the error for a name among a cell's models that is a variant, or nothing."""
    if name in models:
        kind = "another seed" if models[name].seed_of else "a variant"
        only = "" if models[name].seed_of else " (or under its `protocols`)"
        return UserError(f"{where}: {name} is {kind}; it runs wherever {models[name].entry} "
                         f"does{only}. Name {models[name].entry}.")
    return unknown("model", name, [n for n, m in models.items() if m.entry == n], where)
