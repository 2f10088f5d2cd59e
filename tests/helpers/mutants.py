"""Records with a value of a wrong type at one leaf, made whole again: the digests fit."""

import copy

from irbench.core import records
from tests.helpers.sealed import seal

VALUES = (5, "x\ny", [1], {"a": 1}, None, True, -1.5)
SEALS = ("fingerprint", "result_digest")


def leaves(value, path=()):
    """The path of every value inside another; of lists only the first item, which is like all."""
    inner = value.items() if isinstance(value, dict) else list(enumerate(value))[:1] if isinstance(
        value, list) else ()
    for key, one in inner:
        yield (*path, key)
        yield from leaves(one, (*path, key))


def at(record, path):
    for key in path:
        record = record[key]
    return record


def mutant(record, path, value):
    changed = copy.deepcopy(record)
    at(changed, path[:-1])[path[-1]] = value
    try:
        return seal(changed)
    except (KeyError, TypeError, AttributeError, ValueError):
        return changed


def accepted(record, every=1):
    """Each leaf with each value of another type (of these each n-th): (path, value, the record).

    Only those that pass for a record, because no other reaches a reader.
    """
    changes = [(path, value) for path in leaves(record) for value in VALUES
               if path[0] not in SEALS and type(value) is not type(at(record, path))]
    made = ((path, value, mutant(record, path, value)) for path, value in changes[::every])
    return [one for one in made if records._problem(one[2]) is None]
