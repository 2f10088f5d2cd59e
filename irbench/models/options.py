"""Options of models as a config gives them: known names, values of the kind of a card's defaults.

Reads and writes plain data. So that a wrong value ends a run before its first job: what a network
makes of a word or a number is known only to its code, which is imported when it is built.

Try: ``irbench list`` with ``options: {width: wide}`` under a model of config.yaml
"""

from __future__ import annotations

from irbench.core.errors import UserError, unknown
from irbench.models.registry import Card


def check(where: str, given: dict, card: Card) -> None:
    """Check options of a model against the defaults of its card.

    A value is of the default's type (a whole number does for one with a fraction, not the other
    way round), and at least 1 where the default is a whole number of at least 1. Where the default
    is null, any value goes.

    Args:
        where: the options' place in the config, for messages.
        given: some of the options, by name.
        card: of the architecture.

    Raises:
        UserError: an unknown name or such a value.
    """
    for name, value in given.items():
        if name not in card.options:
            raise unknown(f"option of {card.name}", name, card.options, where)
        usual = card.options[name]
        if not _alike(usual, value):
            raise UserError(f"{where}: {name} is {value!r}; it takes {_kind(usual)}, as "
                            f"{usual!r}.")
        if type(usual) is int and value < 1 <= usual:
            raise UserError(f"{where}: {name} is {value}; it must be at least 1.")


def _alike(usual: object, value: object) -> bool:
    if isinstance(usual, float):
        return type(value) in (int, float)
    return usual is None or type(value) is type(usual)


def _kind(usual: object) -> str:
    return {bool: "true or false", int: "a whole number", float: "a number", str: "a word",
            list: "a list"}.get(type(usual), f"a {type(usual).__name__}")
