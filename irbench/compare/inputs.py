"""The inputs of a result, and the differences between the inputs of two results, in words.

Pure functions on records (``irbench.core.records``) and on the short form in a baseline file.
Inputs are nested plain data: protocol, data, model, weights, training, code, settings. Where a
baseline keeps only the digest of a part, this part of the other side is reduced to its digest too.

Try: ``python -c "from irbench.compare import inputs; print(inputs.changes({'a': 1}, {'a': 2}))"``
"""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Iterator
from pathlib import Path

from irbench.core import digests, plugin_files, records
from irbench.plan import sources

SHORT = 12                      # hex digits of a digest in files and messages
# fields of a model that are not separate inputs
NAMES = ("name", "checkpoint", "training", "base", "base_options", "learned", "variant")
RECIPE_PROSE = ("note", "unknown")      # prose in a recipe: a note, and what its paper omits
SHOWING = ("matplotlib", "pandas", "snakemake")     # packages that compute no score
# settings of a job that affect a result and belong to no other part; {} if not given
SETTINGS = ("seed", "profile", "device")
# where a training's steps were taken, if nothing else was asked for
USUAL = [{"device": "cpu", "processes": 1, "threads": 1}]
FILES = 6                       # number of files that a message lists
TITLES = {"protocol": "protocol", "data": "data", "model": "model", "weights": "weights",
          "training": "training", "settings": "settings"}


def of_record(record: dict, training: dict | None = None) -> dict:
    """Return the inputs of the record of a cell or profile.

    Args:
        record: the record as stored.
        training: the record of the training in this run that made its weights, if any.
    """
    spec, resolved = record["spec"], record["resolved"]
    model = spec.get("model") or {}      # plain data: the record may be of any version
    made = (training or {}).get("spec") or {}
    made_on = ((training or {}).get("resolved") or {}).get("made_on") or USUAL
    names = [*(name for name in spec if name.endswith(records.FILE_OF_METRIC)), *SETTINGS]
    settings = {name: spec[name] for name in names if spec.get(name) is not None}
    noted = resolved.get(plugin_files.NOTED)    # files that its Python code used
    known = (record.get("provenance") or {}).get("code")    # only with a network of the user's
    parts = {"parts": {"irbench": short(known["irbench"]), "files": {
        **{str(name): short(sha256) for name, sha256 in known["files"].items()},
        **{str(one["file"]): short(one["sha256"]) for one in noted or ()}}}} if known else {}
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
            if made else {}), **({"made_on": made_on} if made_on != USUAL else {})},
        "settings": settings,
        "code": digest([spec.get("code"), noted]) if noted else short(spec.get("code")),
        **parts}


def short(digest: str | None) -> str | None:
    """Return the first digits of a digest: enough to distinguish, short enough to read."""
    return digest[:SHORT] if digest else None


def digest(value: object) -> str:
    """Return the short digest of plain data."""
    return digests.fingerprint(value)[:SHORT]


# -- differences -------------------------------------------------------------------------------

def changes(base: dict, new: dict, before: dict | None = None,
            after: dict | None = None, kind: str = "cell") -> list[str]:
    """Return the differences between the inputs of two results, in words; [] if there are none.

    Args:
        base: the inputs of the first result (from ``of_record`` or a baseline). ``of`` names its
            model if two models are compared: then their own code differs in any case.
        new: the inputs of the second result.
        before: the provenance of the first (irbench, git, python, packages, hardware, threads).
        after: the provenance of the second.
        kind: the kind of job whose code is named, from ``irbench.plan.sources.ENTRIES``.
    """
    found, two_models = [], base.get("of") != new.get("of")
    for part, title in TITLES.items():
        one, other = base.get(part), new.get(part)
        if not one or not other:        # only one side has this part
            found += [f"{title}: {_say(one)} -> {_say(other)}"] if one or other else []
            continue
        if part == "model" and isinstance(one, dict) and isinstance(other, dict) and (
                one.get("arch") != other.get("arch")):      # whose options differ in any case
            one, other = ({"arch": side.get("arch")} for side in (one, other))
        found += [f"{title}{f' {path}' if path else ''}: {_say(a)} -> {_say(b)}"
                  for path, a, b in different(one, other)
                  if not (two_models and (part, path) == ("training", "code"))]
    if base.get("code") != new.get("code"):
        found.append(_code(before or {}, after or {}, kind, base.get("parts"), new.get("parts"),
                           two_models))
    return [*filter(None, found)]


def different(a: object, b: object, path: str = "") -> Iterator[tuple[str, object, object]]:
    """Yield what ``records.different`` does; a part that is known by its digest is reduced to it.
    """
    for place, one, other in records.different(a, b, path):
        if isinstance(one, dict) and one and isinstance(other, str):
            one = digest(one)
        elif isinstance(other, dict) and other and isinstance(one, str):
            other = digest(other)
        if one != other:
            yield place, one, other


def libraries(before: dict, after: dict) -> list[str]:
    """Return the differing versions of Python and of packages that compute, where both are known.
    """
    old, new = ({"python": side.get("python"), **{
        name: version for name, version in (side.get("packages") or {}).items()
        if name not in SHOWING}} for side in (before, after))
    return [f"{name} {old[name]} -> {new[name]}" for name in sorted({*old, *new})
            if old.get(name) and new.get(name) and old[name] != new[name]]


def machine(before: dict, after: dict) -> list[str]:
    """Return the differences between machines and settings that are not in the fingerprint."""
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


def _code(before: dict, after: dict, kind: str, one: dict | None, other: dict | None,
          two_models: bool) -> str:
    """Return what is known about a change of code: users' files, irbench's files, versions.

    Of two models "" if nothing but their own code, of which the records know nothing, may differ.

    ``one`` and ``other`` are the digests of the parts of the code (``sources.parts``), if known.
    The digest of a job covers all of its code and libraries together.
    """
    versions = [text for text in libraries(before, after)
                if text.split()[0] in sources.DISTRIBUTIONS]
    names = _edited(one, other) if one and other else []
    shown = f"code of {_listed(names)}"
    if names and not versions and one["irbench"] == other["irbench"]:
        return shown
    words = _words(before, after, kind, versions)
    if two_models and not (one and other) and not (versions or _commits(before, after)):
        return ""
    rest = f"code of {kind}s or libraries: "
    if names:       # irbench's code changed, too, or a library did
        return f"{shown}; {rest}{'; '.join(words) or 'irbench changed'}"
    plugin = next(iter((one or other or {"files": {}})["files"]), None)
    if plugin and not (one and other) and not two_models:
        side = "NEW" if one else "BASE"
        words.append(f"{side} does not tell {plugin} from irbench's code")
    return rest + ("; ".join(words) or "the records give no details")


def _edited(one: dict, other: dict) -> list[str]:
    """Return the files of the user that differ, and modules of irbench that both sides import."""
    old, new = one["files"], other["files"]
    return [name for name in {**old, **new} if old.get(name) != new.get(name)
            and not (name.startswith("irbench/") and not (name in old and name in new))]


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - FILES} more" if len(names) > FILES else ""
    return f"{', '.join(names[:FILES])}{more}"


def _commits(before: dict, after: dict) -> list[str]:
    """Return the commits of irbench on both sides if they differ, else []."""
    both = [(side.get("git") or {}).get("commit") for side in (before, after)]
    return both if None not in both and both[0] != both[1] else []


def _words(before: dict, after: dict, kind: str, versions: list[str]) -> list[str]:
    """Return what provenance tells about a change of irbench and libraries."""
    old, new = before.get("git") or {}, after.get("git") or {}
    words = []
    if commits := _commits(before, after):
        files = list(_files(*commits, kind))
        words.append(f"{_listed(files) if files else 'code'} "
                     f"(commit {commits[0][:7]} -> {commits[1][:7]})")
    if old.get("dirty") or new.get("dirty"):
        side = ("both sides" if old.get("dirty") and new.get("dirty")
                else "BASE" if old.get("dirty") else "NEW")
        words.append(f"uncommitted changes in {side}")
    if versions:
        words.append(f"library versions: {', '.join(versions)}")
    return words


@functools.cache
def _files(old: str, new: str, kind: str) -> tuple[str, ...]:
    """Return the files of irbench that a kind of job runs and that changed between two commits.

    () outside a git checkout, or if it lacks one of the commits.
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
