"""The tolerances of the gate by cell: irbench's defaults, and those of a user's file.

Reads ``catalog/tolerances.yaml`` and a user's file of the same form, both checked against
``catalog/tolerances.schema.json`` and the table of metrics; writes nothing. A metric that
tolerances.yaml does not name has the tolerance of its row in the table, or is not gated.

Try: ``python -c "from irbench.compare.tolerances import load; print(load().for_key('a/b/c'))"``
"""

from __future__ import annotations

import difflib
import fnmatch
import json
from dataclasses import dataclass
from pathlib import Path

from irbench.catalog import reader
from irbench.compare import inputs
from irbench.core import metrics, statistics
from irbench.core.errors import UserError
from irbench.present import plain

DEFAULTS = reader.BUILTIN / "tolerances.yaml"
SCHEMA = reader.BUILTIN / "tolerances.schema.json"
SECTIONS = ("quality", "exact", "weights", "size", "speed")


@dataclass(frozen=True)
class Tolerances:
    """Tolerances: ``common`` for all cells, ``overrides`` in the order of their files."""

    common: dict
    overrides: tuple[dict, ...] = ()
    notes: tuple[str, ...] = ()         # how a user's file differs from irbench's defaults

    def for_key(self, key: str) -> dict:
        """Return the sections for a cell, PROTOCOL/DATASET/MODEL, or a profile, PROTOCOL/*/MODEL.

        The last matching override counts.
        """
        found = self.common
        for override in self.overrides:
            if fits(override["match"], key):
                found = _merged(found, {k: override[k] for k in SECTIONS if k in override})
        return found

    def unused(self, keys: list[str]) -> list[str]:
        """Return the patterns that match none of the keys: probably typing errors."""
        return [one["match"] for one in self.overrides
                if not any(fits(one["match"], key) for key in keys)]


def fits(pattern: str, key: str) -> bool:
    """Whether each part of PROTOCOL/DATASET/MODEL matches its pattern; case matters."""
    return all(fnmatch.fnmatchcase(part, wanted) for part, wanted
               in zip(key.split("/"), pattern.split("/"), strict=True))


def load(path: str | Path | None = None) -> Tolerances:
    """Return irbench's tolerances with the changes of a user's file.

    Raises:
        UserError: the file does not exist, is not YAML, or has an unknown key or invalid value.
    """
    ours = _merged(_of_table(), _read(DEFAULTS))
    theirs = _read(Path(path)) if path else {}
    common = _merged({k: ours[k] for k in SECTIONS}, {k: theirs[k] for k in SECTIONS
                                                      if k in theirs})
    parts = [f"{place} {_as_json(a)} -> {_as_json(b)}" for place, a, b in inputs.different(
        {k: ours[k] for k in SECTIONS}, common)]
    own = theirs.get("overrides", ())
    notes = [f"{path} changes irbench's tolerances: {', '.join(parts)}."] if parts else []
    notes += [f"{path} has other tolerances for {one['match']}: {' '.join(one['reason'].split())}"
             .rstrip(".") + "." for one in own]
    return Tolerances(common, (*ours["overrides"], *own), tuple(notes))


def _of_table() -> dict:
    """Return the tolerances in the table of metrics; null means not gated."""
    known = {name: metric.tolerance for name, metric in metrics.METRICS.items()}
    return {"quality": {name: one and {"mean": one.mean, "image": one.image}
                        for name, one in known.items()},
            "exact": {name: one and one.exact for name, one in known.items()}}


def _as_json(value: object) -> str:
    return "none" if value is None else json.dumps(value)


def _merged(base: dict, other: dict) -> dict:
    """Return base updated with other, mapping by mapping; null replaces a whole mapping."""
    return {key: _merged(base.get(key) or {}, other[key])
            if isinstance(other.get(key), dict) and isinstance(base.get(key), dict | None)
            else other.get(key, base.get(key)) for key in {**base, **other}}


def _read(path: Path) -> dict:
    where = f"tolerances {path}"
    try:
        value = reader.parse(path)
    except FileNotFoundError:
        raise UserError(f"{where}: no such file. Leave --tolerances out to use the defaults "
                        f"({DEFAULTS}).") from None
    except ValueError as error:
        raise UserError(f"{where}: {error}. Correct it.") from None
    value = {} if value is None else value
    _check(value, where)
    return value


def _schema() -> dict:
    """Return the schema, with the metrics of the table as the only valid ones."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    for section in ("quality", "exact"):
        known = schema["$defs"][section]
        known["properties"] |= dict.fromkeys(metrics.METRICS, known["additionalProperties"])
        known["additionalProperties"] = False
    return schema


def _check(value: object, where: str) -> None:
    import jsonschema

    errors = sorted(jsonschema.Draft202012Validator(_schema()).iter_errors(value),
                    key=lambda e: [str(p) for p in e.absolute_path])
    if errors:
        raise UserError("\n".join(f"{where}: {_explain(error)}" for error in errors[:5]))


def _explain(error) -> str:
    """Describe a schema violation in one sentence: place, problem, valid values."""
    place = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" if i else str(p)
                    for i, p in enumerate(error.absolute_path)) or "top level"
    if error.validator == "additionalProperties":
        valid = sorted(error.schema["properties"])
        extra = sorted(set(map(str, error.instance)) - set(valid))[0]
        near = difflib.get_close_matches(extra, valid, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return f"{place}: unknown key {extra!r}.{hint} Valid keys: {', '.join(valid)}."
    if error.validator == "required":
        missing = [k for k in error.validator_value if k not in error.instance]
        return f"{place}: missing key {missing[0]!r}."
    if error.validator == "pattern":
        return (f"{place}: {error.instance!r} is not PROTOCOL/DATASET/MODEL. * matches anything "
                "within a part, as in 'sr-*/*/compacter'.")
    if error.validator == "minimum":
        return f"{place}: {error.instance!r} is less than {error.validator_value}."
    if error.validator == "type":
        wanted = error.validator_value
        wanted = " or ".join(wanted) if isinstance(wanted, list) else wanted
        return f"{place}: expected {wanted}, found {error.instance!r}."
    return f"{place}: {error.message}."


def limit_text(word: str, paired: statistics.Paired | None) -> str:
    """Say what decided that a mean fell too far, and what a test of significance says of it.

    Args:
        word: the verdict of the test, one of ``core.statistics``.
        paired: the test; None if there was none.
    """
    images = paired.n if paired else 0
    verdict = f"{word} over {plain.many(images, 'image')}"
    few = ", too few to show significance" * (images < statistics.FEWEST)
    return f" ({verdict})" if word == statistics.REAL else f" (the limit decides; {verdict}{few})"
