"""Migration of records: each older version is converted to the next, step by step, in memory.

Version 1 has no digest of the result, so an edit made before the migration goes unnoticed.
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

    Anything other than a record of a known older version is returned unchanged; the check of
    records then reports what is wrong with it.
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
    # through JSON and back: numeric keys are stored as text, which sorts in another order
    return None if result is None else fingerprint(json.loads(json.dumps(result)))


def _from_1(record: dict) -> dict:
    try:
        digest = result_digest(record.get("result"))
    except ValueError:      # such as NaN; the check of records names it
        digest = None
    return {**record, "schema_version": 2, "result_digest": digest}


STEPS = {1: _from_1}
