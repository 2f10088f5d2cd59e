"""Versions of a record: each older form is brought to the next, one step at a time, in memory.

Version 1 has no digest of the result: a value edited before it was migrated cannot be seen.
Version 2 adds ``result_digest``. Records of every older version lie in tests/core/records_v*.
Reads and writes no file. (Baselines have versions of their own: ``irbench.compare.migrate``.)

Try: ``python -c "from irbench.core import migrate; print(migrate.VERSION)"``
"""

from __future__ import annotations

import json

from irbench.core.digests import fingerprint

VERSION = 2


def to_current(record: object) -> object:
    """Return a record in the form of ``VERSION``.

    Anything else than a record of a known older version is returned as it is: the check of records
    says what is wrong with it.
    """
    if not isinstance(record, dict):
        return record
    while type(version := record.get("schema_version")) is int and version in STEPS:
        record = STEPS[version](record)
    return record


def result_digest(result: dict | None) -> str | None:
    """Return the SHA-256 (hex) of a result as it is stored, None for a record without a result.

    Raises ValueError for a value that JSON cannot hold.
    """
    # through JSON and back: keys that are numbers are stored as text, which sorts otherwise
    return None if result is None else fingerprint(json.loads(json.dumps(result)))


def _from_1(record: dict) -> dict:
    try:
        digest = result_digest(record.get("result"))
    except ValueError:      # NaN, say: the check of records names it
        digest = None
    return {**record, "schema_version": 2, "result_digest": digest}


STEPS = {1: _from_1}
