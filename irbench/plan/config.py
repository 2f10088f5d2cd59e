"""Read a run's config, check it against ``catalog/config.schema.json``, and fill in defaults.

The schema checks keys and types; the plan checks whether the names in the config exist.
Paths in a config are relative to the config's file (``irbench.plan.places``).

Try: ``irbench list --config config.yaml``
"""

from __future__ import annotations

import difflib
import functools
import json
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TypeVar

from irbench.catalog import reader
from irbench.core import forms, metrics
from irbench.core.errors import UserError
from irbench.core.run_folder import RESERVED, RESULTS
from irbench.plan import places

T = TypeVar("T")
DEFAULT = "config.yaml"
MEANT = {"weights": "checkpoint"}       # a key that people write -> the config's own
FILE = re.compile(r"(.*\.py)(:.*)?", re.IGNORECASE | re.DOTALL)     # FILE.py, FILE.py:NAME
SCHEMA = Path(__file__).parents[1] / "catalog" / "config.schema.json"


def load(path: str | Path) -> dict:
    """Read a YAML or JSON config and return it checked and complete.

    Raises:
        UserError: no such file, not YAML, an unknown key, a value of the wrong kind.
    """
    return check(read(path), f"config {path}")


def complete(value: dict) -> dict:
    """Return a config that a program made, with the defaults filled in. It is not checked."""
    return _complete(value, _schema())


def at(where: str, call: Callable[[], T]) -> T:
    """Call a function; prefix its UserError with the place in the config."""
    try:
        return call()
    except UserError as error:
        raise type(error)(f"{where}: {error}") from None


def read(path: str | Path) -> object:
    """Read a YAML or JSON file, unchecked, with its paths made valid in the current folder.

    Raises UserError if it is missing or neither.
    """
    try:
        return places.resolve(reader.parse(path), _schema(), path)
    except FileNotFoundError as error:
        raise UserError(f"config {path}: {error.strerror}. Give a file with --config, "
                        "or run in a folder that contains config.yaml.") from None
    except ValueError as error:
        raise UserError(f"config {path}: {error}. Correct it.") from None


def check(value: object, where: str = "config", reserved: Collection[str] = RESERVED) -> dict:
    """Check a config against the schema and return a copy with the defaults filled in.

    Args:
        value: what a file or a program gives.
        where: the place named in errors.
        reserved: names that the run may not have.

    Raises:
        UserError: an unknown key, a value of the wrong kind, a reserved name.
    """
    schema = _schema()
    unprofiled = isinstance(value, dict) and value.get("profile") is False
    if unprofiled:
        value = {key: part for key, part in value.items() if key != "profile"}
    errors = sorted(_validator(schema).iter_errors(value),
                    key=lambda e: [str(p) for p in e.absolute_path])
    if errors:
        raise UserError("\n".join(f"{where}: {_explain(error)}" for error in errors[:5]))
    if value["run"] in reserved:
        raise UserError(f"{where}: run: the name {value['run']!r} is reserved, because irbench "
                        f"uses {RESULTS / value['run']} itself. Choose another name.")
    titles = {"title": value, **{f"models.{name}.title": entry or {}
                                 for name, entry in value["models"].items()}}
    for place, entry in titles.items():
        if not forms.line(entry.get("title") or ""):
            raise UserError(f"{where}: {place}: {entry['title']!r}: valid is one line of text.")
    full = _complete(value, schema)
    if unprofiled:      # as if every model said so
        full["models"] = {name: {**entry, "profile": False}
                          for name, entry in full["models"].items()}
    return full


@functools.cache
def _schema() -> dict:
    schema = json.loads(SCHEMA.read_text())
    schema["properties"]["metrics"]["default"] = list(metrics.default())
    return schema


def _validator(schema: dict):
    """Return a validator that is strict where JSON Schema is not.

    2.0 is no whole number, as in options and recipes: it would count as another value than 2 where
    jobs are told apart, and is no count in Python. A pattern must match the whole text: in Python
    ``$`` also matches before a newline at the end.
    """
    import jsonschema

    strict = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: type(value) is int)
    return jsonschema.validators.extend(jsonschema.Draft202012Validator, {"pattern": _pattern},
                                        type_checker=strict)(schema)


def _pattern(_, pattern: str, value: object, __) -> Iterator[Exception]:
    from jsonschema import ValidationError

    if isinstance(value, str) and not re.fullmatch(pattern.removeprefix("^").removesuffix("$"),
                                                   value):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


def section(name: str, value: dict | None = None) -> dict:
    """Return one top-level section, checked and complete, e.g. from options of a command line.

    Raises UserError for an unknown key or a bad value, naming the section.
    """
    part = {**_schema()["properties"][name], "$defs": _schema()["$defs"]}
    error = next(_validator(part).iter_errors(value or {}), None)
    if error:
        error.path.appendleft(name)
        raise UserError(_explain(error))
    return _complete(value or {}, part)


def choices(name: str) -> dict[str, list]:
    """Return key -> valid words, for the keys of a top-level section that take one of several."""
    parts = {key: part.get("items", part) for key, part in
             _schema()["properties"][name]["properties"].items()}
    return {key: part["enum"] for key, part in parts.items() if "enum" in part}


def _complete(value: dict, schema: dict) -> dict:
    full = {}
    for key, part in schema["properties"].items():
        given = value.get(key)
        # a section whose default is null gets its defaults only if the config contains it
        if "properties" in part and (given is not None or "default" not in part):
            full[key] = _complete(given or {}, part)
        elif key in value:
            full[key] = given
        elif "default" in part:
            full[key] = part["default"]
    if "models" in full:
        full["models"] = {name: entry or {} for name, entry in full["models"].items()}
    return full


def _explain(error) -> str:
    """Describe a schema violation in one sentence: where, what, what is valid."""
    place = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" if i else str(p)
                    for i, p in enumerate(error.absolute_path)) or "top level"
    if error.validator == "additionalProperties":
        valid = sorted(error.schema.get("properties", {}))
        extra = sorted(set(error.instance) - set(valid), key=str)
        near = [one for one in [MEANT.get(str(extra[0]))] if one in valid]
        near += difflib.get_close_matches(str(extra[0]), valid, n=1, cutoff=0.5)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        return f"{place}: unknown key {extra[0]!r}.{hint} Valid keys: {', '.join(valid)}."
    if error.validator == "required":
        missing = [k for k in error.validator_value if k not in error.instance]
        return f"{place}: missing key {missing[0]!r}."
    if error.validator == "enum":
        return (f"{place}: {error.instance!r} is not valid. "
                f"Valid: {', '.join(map(str, error.validator_value))}.")
    if error.validator in ("minItems", "minProperties"):
        return f"{place}: it is empty; give at least {error.validator_value}."
    if error.validator == "uniqueItems":
        return f"{place}: {error.instance!r} contains a duplicate."
    if error.validator in ("minimum", "maximum"):
        word = "least" if error.validator == "minimum" else "most"
        return (f"{place}: {error.instance!r} is not valid; it takes a number of at {word} "
                f"{error.validator_value}.")
    if error.validator == "pattern" and place == "device":
        return (f"{place}: {error.instance!r} is not valid. Valid: auto, cpu, cuda, cuda:1 (a GPU "
                "by its number, from 0), mps.")
    if (error.validator == "pattern" and "models" in place
            and (file := FILE.fullmatch(str(error.instance)))):
        return (f"{place}: {error.instance!r} is not a model's name. A class of a file goes into a "
                f"config by `plugins: [{file[1]}]` and a card of it in the file, whose name stands "
                "here (docs/my-model.md).")
    if error.validator == "pattern":
        return (f"{place}: the name {error.instance!r} is not valid. Names hold lower-case "
                "letters, digits, '.', '_' and '-', and begin with a letter or digit.")
    if error.validator == "oneOf":
        if place.endswith("checkpoint"):
            return (f"{place}: give bundled, a path, or a mapping with path or url, sha256 (64 "
                    "hex digits, or a mapping from levels to such), weights_key and trained_on "
                    "(a list of datasets, or a mapping with data and exclude).")
        if place.endswith("trained_on"):
            return (f"{place}: {error.instance!r} is not valid. Valid: a list of datasets, "
                    "[SET, ...], or a mapping with data (that list) and exclude (names of images "
                    "in quotes: {SET: [IMAGE, ...]}).")
        if place.endswith("shards"):
            return (f"{place}: {error.instance!r} is not valid. Valid: a whole number of parts "
                    "from 1 to 1000, or {images: N} for a part for every N images.")
        return f"{place}: {error.instance!r} is not valid. Valid: all, none, or a list of names."
    if error.validator == "type":
        wanted = error.validator_value
        if wanted == "array" and isinstance(error.instance, str):
            return f"{place}: expected a list, found {error.instance!r}. Write [{error.instance}]."
        wanted = " or ".join(wanted) if isinstance(wanted, list) else wanted
        return f"{place}: expected {wanted}, found {error.instance!r}."
    return f"{place}: {error.message}."
