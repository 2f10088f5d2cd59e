"""Dataclasses from plain JSON data; a key that is not a field is refused by name.

Reads and writes nothing.

Try: ``python -c "from irbench.core import typed; help(typed.make)"``
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import TypeVar

from irbench.core.errors import UserError, unknown

T = TypeVar("T")


def make(kind: type[T], given: dict, where: str) -> T:
    """Return an instance of a dataclass with the given fields; missing fields get their defaults.

    Args:
        kind: a dataclass.
        given: field -> value, in the types of the fields.
        where: the beginning of error messages.

    Raises:
        UserError: not a mapping, an unknown field, or a missing field without a default.
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
