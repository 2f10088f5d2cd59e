"""Stored results: one JSON record per cell, training, profile and dataset.

A record states what was computed (``key``), from what (``spec``, ``resolved`` and their
``fingerprint``), with what outcome (``status``, ``reason``, ``result`` and its
``result_digest``), how long each phase took (``seconds``) and where (``provenance``). Time, git
state and paths are provenance: they never enter the fingerprint, so that two runs with the same
inputs have the same fingerprint. Reading a record checks both digests, so that an edited or damaged
value is noticed. ``metrics``, where it is there, holds the rows of the metrics that are not
irbench's own; reading a record adds them to the table (``irbench.core.metrics``).

Records of older versions are migrated in memory when they are read, one version at a time.
Version 1 has no digest of the result, so an edit made before the migration goes unnoticed.
Version 2 adds ``result_digest``. Records of every older version lie in tests/core/records_v*.

Where records lie in a run: ``irbench.core.run_folder``.

Try: ``python -c "from irbench.core import records; print(records.STATUSES)"``
"""

from __future__ import annotations

import contextlib
import json
import math
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from irbench.core import files, forms, metrics
from irbench.core.digests import canonical, fingerprint
from irbench.core.errors import UserError
from irbench.core.machine import provenance
from irbench.core.metrics import METRICS, Metric

SCHEMA_VERSION = 2
# paused: ended early on request, with a saved state; the next attempt goes on
STATUSES = ("ok", "unavailable", "failed", "paused")
# the form of the fields that every kind of record has
FORM = {
    "kind": forms.text, "key": forms.values(forms.text), "resolved": forms.RESOLVED,
    "spec": forms.SPEC,
    "reason": forms.or_none(forms.text), "attempt": forms.count,
    "metrics": forms.or_none(forms.every(forms.mapping)),
    "seconds": forms.values(forms.number), "provenance": forms.PROVENANCE}


# descriptions of a protocol or model, which do not affect results; the report reads the plan's
PROSE = {"title", "source", "description", "note", "published_as", "in_paper", "own"}
# NAME_weights in a spec: what a metric needs (imaging.metrics.weights_in_use)
FILE_OF_METRIC = "_weights"
ORIGIN = ("path", "url", "peer")    # where weights come from: their digest says what they are


def decisive(spec: dict) -> dict:
    """Return the part of a job's spec that determines its result.

    Left out are descriptions of protocol and model, and the origin of weights with known digest:
    those of the model, those that its training begins with, and those of its teacher.
    """
    spec = {key: {k: v for k, v in value.items() if k not in PROSE}
            if key in ("protocol", "model") else value for key, value in spec.items()}
    model = spec.get("model") or {}
    if (model.get("checkpoint") or {}).get("sha256"):
        model["checkpoint"] = _of_digest(model["checkpoint"])
    recipe = model.get("training") or {}
    if isinstance(init := recipe.get("init"), dict):
        recipe = {**recipe, "init": _of_digest(init)}
    if teacher := recipe.get("teacher"):
        recipe = {**recipe, "teacher": {name: _of_digest(value) if name == "checkpoint" else value
                                        for name, value in teacher.items()
                                        if name not in ("model", "title")}}
    if recipe:
        model["training"] = recipe
    return spec


def _of_digest(source: dict) -> dict:
    """Return a source of weights with a known digest without its place."""
    return {k: v for k, v in source.items() if k not in ORIGIN} if source.get("sha256") else source


def restricted(spec: dict, metrics: Iterable[str] | None) -> dict:
    """Return the spec of a cell as if it had been asked for these metrics only.

    It is returned as it is if it lacks one of them, and if ``metrics`` is None, as for a job that
    scores nothing.
    """
    held = spec.get("metrics")
    if not isinstance(held, list) or metrics is None or not set(metrics) <= set(held):
        return spec
    dropped = {f"{name}{FILE_OF_METRIC}" for name in set(held) - set(metrics)}
    return {**{name: value for name, value in spec.items() if name not in dropped},
            "metrics": list(metrics)}


def different(a: object, b: object, path: str = "") -> Iterator[tuple[str, object, object]]:
    """Yield (path, one, other) of every leaf in which two specs differ; {} equals None."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted({*a, *b}):
            yield from different(a.get(key), b.get(key), f"{path}.{key}" if path else key)
    elif a != b and not (a in (None, {}) and b in (None, {})):
        yield path, a, b


def serves(spec: dict, wanted: dict) -> bool:
    """Return whether the result for one spec is that for another, which may want fewer metrics."""
    return restricted(spec, wanted.get("metrics")) == wanted


# -- records -----------------------------------------------------------------------------------

class Phases:
    """Adds up the wall time of named phases; entering one phase twice adds to it.

    Threads may share it; phases that run at the same time then add up to more than the wall time.
    """

    def __init__(self) -> None:
        """Start with no phase."""
        self.seconds: dict[str, float] = {}
        self._told: dict[str, float] = {}   # those that ``lap`` has returned
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Count the time of a ``with`` block towards phase ``name``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            with self._lock:
                self.seconds[name] = self.seconds.get(name, 0.0) + spent

    def lap(self) -> dict[str, float]:
        """Return the seconds of each phase since the last call."""
        with self._lock:
            before, self._told = self._told, dict(self.seconds)
        return {name: spent for name, total in self._told.items()
                if (spent := total - before.get(name, 0.0))}

    def add(self, seconds: dict[str, float]) -> None:
        """Count the seconds of a lap that another process has told; they are in no lap here."""
        with self._lock:
            for totals in (self.seconds, self._told):
                for name, spent in seconds.items():
                    totals[name] = totals.get(name, 0.0) + spent


def make(kind: str, key: dict, spec: dict, *, status: str = "ok", reason: str | None = None,
         resolved: dict | None = None, result: dict | None = None,
         seconds: dict[str, float] | None = None, attempt: int = 0,
         threads: int | None = None, code: dict | None = None) -> dict:
    """Build a record of the current schema version and check it.

    Args:
        kind: ``cell``, ``training``, ``profile`` or ``data``.
        key: names the job within a run, for example by protocol, dataset and model.
        spec: everything known beforehand that determines the result.
        status: one of ``STATUSES``; anything but ``ok`` needs a reason and has no result.
        reason: one sentence for people that explains why the result is missing.
        resolved: facts known only at run time that determine the result (digests of weights, data).
        result: the outcome; its form depends on the kind.
        seconds: wall time per phase.
        attempt: how often an earlier attempt had failed.
        threads: CPU threads used.
        code: digests of the parts of the code, where they are known apart; kept as provenance,
            because the spec has the digest of all of it.
    """
    record = {
        "schema_version": SCHEMA_VERSION, "kind": kind, "status": status, "reason": reason,
        "key": key, "result": result, "result_digest": None, "spec": spec,
        "resolved": resolved or {},
        "fingerprint": fingerprint({"spec": spec, "resolved": resolved or {}}),
        "attempt": attempt,
        "seconds": {name: round(value, 4) for name, value in (seconds or {}).items()},
        "provenance": provenance(threads) | ({"code": code} if code else {}),
    }
    if rows := metrics.described(spec.get("metrics") or ()):
        record["metrics"] = rows
    if not _not_finite(result):     # else the check says where
        record["result_digest"] = result_digest(result)
    check(record, "a new record")
    return record


def result_digest(result: dict | None) -> str | None:
    """Return the SHA-256 (hex) of a result as it is stored, None for a record without a result.

    Raises ValueError for a value that JSON cannot hold.
    """
    # through JSON and back: keys that are numbers are stored as text, which sorts otherwise
    return None if result is None else fingerprint(json.loads(json.dumps(result)))


def check(record: object, where: str) -> None:
    """Raise UserError unless a record has the current version and a valid form, and is unedited."""
    problem = _problem(record)
    if problem:
        raise UserError(f"{where}: not a valid irbench record: {problem}. "
                        "To replace the file, run again.")


def _problem(record: object) -> str | None:
    if not isinstance(record, dict):
        return "it is not a JSON object"
    if record.get("schema_version") != SCHEMA_VERSION:
        return (f"schema_version is {record.get('schema_version')!r}, "
                f"this irbench reads 1 to {SCHEMA_VERSION}")
    for name, test in FORM.items():
        if not test(record.get(name)):
            return f"{name!r} is missing or not in the form that irbench writes"
    if record.get("status") not in STATUSES:
        return f"status {record.get('status')!r} is not one of {', '.join(STATUSES)}"
    if record["status"] == "ok" and not isinstance(record.get("result"), dict):
        return "status is ok but there is no result"
    if record["status"] != "ok" and not (record.get("reason") and record.get("result") is None):
        return "a record without success needs a reason and no result"
    if problem := _not_finite(record):
        return problem
    expected = fingerprint({"spec": record["spec"], "resolved": record["resolved"]})
    if record.get("fingerprint") != expected:
        return "the fingerprint does not match the inputs; the file was edited"
    if record.get("result_digest") != result_digest(record["result"]):
        return "the result does not match its digest; the file was edited or damaged"
    try:
        rows = metrics.held(record.get("metrics") or (), "its metrics")
    except UserError as error:
        return str(error)
    if record["status"] == "ok":
        return (forms.wrong(record["kind"], record["result"])
                or (_wrong_scores(record["result"], rows) if record["kind"] == "cell" else None))
    return None


def _wrong_scores(result: dict, rows: dict[str, Metric]) -> str | None:
    """Return what cannot be true of a cell's images and means, if anything.

    ``rows``: the metrics that the record defines.
    """
    images = result["images"]
    if len({image["name"] for image in images}) < len(images):
        return "it holds an image twice; the file was edited or damaged"
    for name in {*result["mean"], *(images[0] if images else ())}:
        metric = rows.get(name) or METRICS.get(name)
        if bad := next((image for image in images if metric and image.get(name) is not None
                        and not metric.holds(image[name])), None):
            return (f"{name} of {bad['name']!r} is {bad[name]}, which is outside of the metric's "
                    f"range {list(metric.range)}; the file was edited, or computed wrongly")
    return _wrong_mean(result)


def _wrong_mean(result: dict) -> str | None:
    """Return which mean of a cell is not that of its images, if any."""
    for name, mean in result["mean"].items():
        values = [image.get(name) for image in result["images"]]
        if not all(map(forms.or_none(forms.number), values)):
            return f"{name!r} of an image is not a number"
        known = None if not values or None in values else math.fsum(values) / len(values)
        if (mean is None) != (known is None) or (
                known is not None and not math.isclose(mean, known, rel_tol=1e-9, abs_tol=1e-12)):
            return (f"its mean {name} is {mean}, that of its images {known}; the file was edited "
                    "or damaged")
    return None


def _not_finite(value: object) -> str | None:
    """Return which number of a record is not finite, if any; the usual record is quickly seen."""
    try:
        canonical(value)
    except (ValueError, TypeError):
        return _where_not_finite(value)
    return None


def _where_not_finite(value: object, where: str = "record") -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return f"{where} is {value}; an unknown figure is null"
    items = (value.items() if isinstance(value, dict)
             else enumerate(value) if isinstance(value, list) else ())
    return next((p for k, v in items if (p := _where_not_finite(v, f"{where}.{k}"))), None)


def read(path: Path, where: str = "") -> dict:
    """Read and check a record; a record of an older version is migrated in memory.

    Args:
        path: its file.
        where: the file's name in messages; default: the path.

    Raises:
        UserError: the file is missing, broken or edited, or of a newer version.
    """
    where = where or str(path)
    try:
        record = to_current(files.read_json(path))
        check(record, where)
        metrics.adopt_all(record.get("metrics") or (), f"{where}: metrics")
    except FileNotFoundError:
        raise UserError(f"{where}: no such record. Run the stage that writes it.") from None
    except ValueError as error:
        raise UserError(f"{where}: not readable as JSON ({error}). "
                        "To replace the file, run again.") from None
    return record


def digest_of_names(names: Iterable[str]) -> str:
    """Return the SHA-256 (hex) of the names of a set's images, in any order.

    A set's own job states it (``names`` of its spec), so that a cell's record must have exactly the
    images of its set.
    """
    return fingerprint(sorted(names))


def other_images(record: dict, count: int | None, names: str | None) -> str:
    """Return how a cell's images are not those of its set, as a phrase; "" if they are.

    Args:
        record: the record of the cell, with a result.
        count: the number of the set's images; None: not known.
        names: their ``digest_of_names``; None: not known.
    """
    images = [image["name"] for image in record["result"]["images"]]
    if count not in (None, len(images)):
        return f"scored on {len(images)} of {count} images"
    if names not in (None, digest_of_names(images)):
        return "the names of its images are not those of the set"
    return ""


def next_attempt(path: Path, spec: dict | None = None) -> int:
    """Return the attempt number of a job's next run: one more than that of a stale record.

    It changes only when the stored record is a failure, was edited, or was made from another spec;
    a pause is not a failure.
    """
    try:
        attempt = int(files.read_json(path)["attempt"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0
    try:
        record = read(path)
    except UserError:
        return attempt + 1
    return attempt + (record["status"] not in ("ok", "paused") or (
        spec is not None and not serves(record["spec"], spec)))


# -- older versions ------------------------------------------------------------------------------

def to_current(record: object) -> object:
    """Return a record in the form of ``SCHEMA_VERSION``.

    Anything else than a record of a known older version is returned as it is: the check of records
    says what is wrong with it.
    """
    if not isinstance(record, dict):
        return record
    while type(version := record.get("schema_version")) is int and version in STEPS:
        record = STEPS[version](record)
    return record


def _from_1(record: dict) -> dict:
    try:
        digest = result_digest(record.get("result"))
    except ValueError:      # NaN, say: the check of records names it
        digest = None
    return {**record, "schema_version": 2, "result_digest": digest}


STEPS = {1: _from_1}
