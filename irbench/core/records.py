"""Stored results: one JSON record per cell, training, profile and dataset.

A record says what was computed (``key``), from what (``spec``, ``resolved`` and their
``fingerprint``), with what outcome (``status``, ``reason``, ``result``), how long each phase took
(``seconds``) and where (``provenance``). Time, git state and paths are provenance: they never
enter the fingerprint, so that two runs with the same inputs have the same one.

Try: ``python -c "from irbench.core import records; print(records.provenance())"``
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

from irbench.core.digests import fingerprint
from irbench.core.errors import UserError
from irbench.core.machine import provenance

SCHEMA_VERSION = 1
STATUSES = ("ok", "unavailable", "failed")


# What is told of a protocol or model and fixes no number; the report takes it from the plan.
PROSE = {"title", "source", "description", "note", "published_as", "in_paper"}


def decisive(spec: dict) -> dict:
    """Return what of a job's spec fixes its result.

    Left out are the prose of protocol and model, and where weights come from whose digest is known.
    """
    spec = {key: {k: v for k, v in value.items() if k not in PROSE}
            if key in ("protocol", "model") else value for key, value in spec.items()}
    source = (spec.get("model") or {}).get("checkpoint") or {}
    if source.get("sha256"):
        spec["model"]["checkpoint"] = {k: v for k, v in source.items()
                                       if k not in ("path", "url", "peer")}
    return spec


# -- records -----------------------------------------------------------------------------------

class Phases:
    """Adds up the wall time of named phases; entering one phase twice adds to it."""

    def __init__(self) -> None:
        """Start with no phase."""
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Count the time of a ``with`` block towards phase ``name``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + spent


def make(kind: str, key: dict, spec: dict, *, status: str = "ok", reason: str | None = None,
         resolved: dict | None = None, result: dict | None = None,
         seconds: dict[str, float] | None = None, attempt: int = 0,
         threads: int | None = None) -> dict:
    """Build a record of the current schema version and check it.

    Args:
        kind: ``cell``, ``training``, ``profile`` or ``data``.
        key: what names it within a run, for example protocol, dataset and model.
        spec: everything known beforehand that fixes the result.
        status: one of ``STATUSES``; anything but ``ok`` needs a reason and has no result.
        reason: why there is no result, one sentence for people.
        resolved: what was only known at run time and fixes the result (digests of weights, data).
        result: the outcome; its form depends on the kind.
        seconds: wall time per phase.
        attempt: how often an earlier attempt had failed.
        threads: CPU threads used.
    """
    record = {
        "schema_version": SCHEMA_VERSION, "kind": kind, "status": status, "reason": reason,
        "key": key, "result": result, "spec": spec, "resolved": resolved or {},
        "fingerprint": fingerprint({"spec": spec, "resolved": resolved or {}}),
        "attempt": attempt,
        "seconds": {name: round(value, 4) for name, value in (seconds or {}).items()},
        "provenance": provenance(threads),
    }
    check(record, "a new record")
    return record


def check(record: dict, where: str) -> None:
    """Raise UserError unless a record follows the schema of its version."""
    problem = _problem(record)
    if problem:
        raise UserError(f"{where}: not a valid irbench record: {problem}. "
                        "Delete the file and run again.")


def _problem(record: object) -> str | None:
    if not isinstance(record, dict):
        return "it is not a JSON object"
    if record.get("schema_version") != SCHEMA_VERSION:
        return (f"schema_version is {record.get('schema_version')!r}, "
                f"this irbench reads {SCHEMA_VERSION}")
    for name, kinds in (("kind", str), ("key", dict), ("spec", dict), ("resolved", dict),
                        ("seconds", dict), ("provenance", dict), ("attempt", int)):
        if not isinstance(record.get(name), kinds):
            return f"{name!r} is missing or of the wrong type"
    if record.get("status") not in STATUSES:
        return f"status {record.get('status')!r} is not one of {', '.join(STATUSES)}"
    if record["status"] == "ok" and not isinstance(record.get("result"), dict):
        return "status is ok but there is no result"
    if record["status"] != "ok" and not (record.get("reason") and record.get("result") is None):
        return "a record without success needs a reason and no result"
    expected = fingerprint({"spec": record["spec"], "resolved": record["resolved"]})
    if record.get("fingerprint") != expected:
        return "the fingerprint does not fit the inputs it names; the file was edited"
    return _not_finite(record)


def _not_finite(value: object, where: str = "record") -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return f"{where} is {value}; an unknown figure is null"
    items = (value.items() if isinstance(value, dict)
             else enumerate(value) if isinstance(value, list) else ())
    return next((p for k, v in items if (p := _not_finite(v, f"{where}.{k}"))), None)


def read(path: Path) -> dict:
    """Read and check a record. Raises UserError for a missing, broken or edited file."""
    try:
        record = json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no such record. Run the stage that writes it.") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as JSON ({error}). "
                        "Delete the file and run again.") from None
    check(record, str(path))
    return record


def next_attempt(path: Path, spec: dict | None = None) -> int:
    """Return the attempt number the next run of a job has: one more than that of a stale record.

    The number is a parameter of the rule. It changes exactly when the stored record is a failure
    or was made from another spec, so that such a job runs again in the next run and a finished one
    never does. The spec itself is no parameter: that of a set which the run fetches is known only
    after the rules' parameters are fixed.
    """
    try:
        record = json.loads(Path(path).read_text())
        stale = record["status"] != "ok" or (spec is not None and record["spec"] != spec)
        return int(record["attempt"]) + stale
    except (OSError, ValueError, KeyError, TypeError):
        return 0
