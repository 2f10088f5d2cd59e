"""Dataclasses from plain data, as JSON holds it: every key is a field, or it is refused by name.

Reads and writes nothing.

Try: ``python -c "from irbench.core import typed; help(typed.make)"``
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import TypeVar

from irbench.core.errors import UserError, unknown

T = TypeVar("T")


def make(kind: type[T], given: dict, where: str) -> T:
    """Return a dataclass of a kind with the given fields; those left out get their defaults.

    Args:
        kind: a dataclass.
        given: field -> value, values as the fields hold them.
        where: begins the message of an error.

    Raises:
        UserError: no mapping, an unknown field, or a missing one that has no default.
    """
    if not isinstance(given, dict):
        raise UserError(f"{where}: {given!r} is not a mapping from fields to values.")
    known = {field.name: field for field in fields(kind)}
    for name in given:
        if name not in known:
            raise unknown("key", name, known, where)
    for name, field in known.items():
        if name not in given and field.default is MISSING and field.default_factory is MISSING:
            raise UserError(f"{where}: missing key {name!r}.")
    return kind(**given)
