"""What a result was made from, and what of it differs between two: in words, by name.

Pure functions on records (``irbench.core.records``) and on the short form that a baseline file
keeps.
Inputs are nested plain data: protocol, data, model, weights, training, code, settings. Wherever a
baseline keeps only a digest of a part, the other side's part is reduced to its digest as well.

Try: ``python -c "from irbench.compare import inputs; print(inputs.changes({'a': 1}, {'a': 2}))"``
"""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Iterator
from pathlib import Path

from irbench.core import digests, metrics, records
from irbench.plan import sources

SHORT = 12                      # hex digits of a digest that files and messages hold
# a model's fields that are no inputs of their own
NAMES = ("name", "checkpoint", "training", "base", "base_options", "learned", "variant")
RECIPE_PROSE = ("note", "unknown")      # of a recipe: prose, and what its paper does not tell
SHOWING = ("matplotlib", "pandas", "snakemake")     # packages that compute no score
# settings of a job that fix a result and belong to no other part; of one not told, {}
SETTINGS = (*(f"{name}_weights" for name, metric in metrics.METRICS.items() if metric.weights),
            "seed", "profile", "device")
FILES = 6                       # that a message names
TITLES = {"protocol": "protocol", "data": "data", "model": "model", "weights": "weights",
          "training": "training", "settings": "settings"}


def of_record(record: dict, training: dict | None = None) -> dict:
    """Return the inputs of a cell's or profile's record.

    Args:
        record: as stored.
        training: the record of the training in its run that its weights come from.
    """
    spec, resolved = record["spec"], record["resolved"]
    model = spec.get("model") or {}      # plain data: the record may be of any version
    made = (training or {}).get("spec") or {}
    settings = {name: spec[name] for name in SETTINGS if spec.get(name) is not None}
    return {
        "protocol": {k: v for k, v in (spec.get("protocol") or {}).items()
                     if k not in records.PROSE},
        "data": short((spec.get("dataset") or {}).get("sha256")),
        "model": {k: v for k, v in model.items() if k not in {*NAMES, *records.PROSE}},
        "weights": short(resolved.get("checkpoint")),
        "training": {**{k: v for k, v in (model.get("training") or {}).items()
                        if k not in RECIPE_PROSE}, **(
            {"seed": made.get("seed"), "code": short(made.get("code")),
             "sets": {str(d["name"]): short(d["sha256"]) for d in made.get("datasets") or ()}}
            if made else {})},
        "settings": settings,
        "code": short(spec.get("code"))}


def short(digest: str | None) -> str | None:
    """Return the first digits of a digest: enough to tell two apart, short enough to read."""
    return digest[:SHORT] if digest else None


def digest(value: object) -> str:
    """Return the short digest of plain data."""
    return digests.fingerprint(value)[:SHORT]


# -- differences -------------------------------------------------------------------------------

def changes(base: dict, new: dict, before: dict | None = None,
            after: dict | None = None, kind: str = "cell") -> list[str]:
    """Say what differs between two results' inputs, a sentence part each; [] if nothing does.

    Args:
        base: the inputs of one (``of_record``, or as a baseline has them).
        new: of the other.
        before: the provenance of one (irbench, git, python, packages, hardware, threads).
        after: of the other.
        kind: whose code is named: a kind of ``irbench.plan.sources.ENTRIES``.
    """
    found = []
    for part, title in TITLES.items():
        one, other = base.get(part), new.get(part)
        if not one or not other:        # a whole part that only one side has
            found += [f"{title}: {_say(one)} -> {_say(other)}"] if one or other else []
            continue
        found += [f"{title}{f' {path}' if path else ''}: {_say(a)} -> {_say(b)}"
                  for path, a, b in different(one, other)]
    if base.get("code") != new.get("code"):
        found.append(_code(before or {}, after or {}, kind))
    return found


def different(a: object, b: object, path: str = "") -> Iterator[tuple[str, object, object]]:
    """Yield (path, one, other) of every leaf in which two values differ; {} is like None."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted({*a, *b}):
            yield from different(a.get(key), b.get(key), f"{path}.{key}" if path else key)
    elif isinstance(a, dict) and a and isinstance(b, str):
        yield from different(digest(a), b, path)
    elif isinstance(b, dict) and b and isinstance(a, str):
        yield from different(a, digest(b), path)
    elif a != b and not (a in (None, {}) and b in (None, {})):
        yield path, a, b


def libraries(before: dict, after: dict) -> list[str]:
    """Say which versions of Python and of packages that compute differ, as far as both are told."""
    old, new = ({"python": side.get("python"), **{
        name: version for name, version in (side.get("packages") or {}).items()
        if name not in SHOWING}} for side in (before, after))
    return [f"{name} {old[name]} -> {new[name]}" for name in sorted({*old, *new})
            if old.get(name) and new.get(name) and old[name] != new[name]]


def machine(before: dict, after: dict) -> list[str]:
    """Say in what the machines and the ways of running differ that no fingerprint holds."""
    old, new = before.get("hardware") or {}, after.get("hardware") or {}
    found = [f"{name} {old.get(name)} -> {new.get(name)}" for name in ("platform", "cpu", "gpu")
             if old.get(name) != new.get(name) and old and new]
    for name in ("device", "threads"):
        a, b = before.get(name), after.get(name)
        if a != b and a is not None and b is not None:
            found.append(f"{name} {a} -> {b}")
    return found


def _say(value: object) -> str:
    if value in (None, {}):
        return "absent"
    if isinstance(value, dict) and "recipe" in value:
        value = f"recipe {value['recipe']}"
    text = value if isinstance(value, str) else digests.canonical(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _code(before: dict, after: dict, kind: str) -> str:
    """Say what is known of a change of code: versions of libraries, files, commits.

    The digest is of both, code and libraries; records keep no digest of each.
    """
    versions = [text for text in libraries(before, after)
                if text.split()[0] in sources.DISTRIBUTIONS]
    old, new = before.get("git") or {}, after.get("git") or {}
    commits = [side.get("commit") for side in (old, new)]
    words = []
    if None not in commits and commits[0] != commits[1]:
        files = _files(*commits, kind)
        more = f" and {len(files) - FILES} more" if len(files) > FILES else ""
        words.append(f"{', '.join(files[:FILES]) if files else 'code'}{more} "
                     f"(commit {commits[0][:7]} -> {commits[1][:7]})")
    if old.get("dirty") or new.get("dirty"):
        side = ("both sides" if old.get("dirty") and new.get("dirty")
                else "BASE" if old.get("dirty") else "NEW")
        words.append(f"changes not committed in {side}")
    if versions:
        words.append(f"library versions: {', '.join(versions)}")
    return f"code of {kind}s or libraries: {'; '.join(words) or 'the records tell no more'}"


@functools.cache
def _files(old: str, new: str, kind: str) -> tuple[str, ...]:
    """Name the files of irbench that changed between commits and that a kind of job runs.

    () if this is no checkout that has both commits.
    """
    root = Path(__file__).parents[2]
    try:
        out = subprocess.run(["git", "diff", "--name-only", old, new, "--", "irbench"], cwd=root,
                             check=True, text=True, capture_output=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    used = {str(path.relative_to(root)) for path in sources.closure(kind).files.values()}
    return tuple(line for line in out.split()
                 if line in used or line.startswith("irbench/models/"))
