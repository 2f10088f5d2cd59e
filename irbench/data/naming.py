"""Names of images: how results name a file, which files a list names, and who belongs to whom.

Reads   the list of a set (``list`` in the catalog). Writes nothing.

Try: ``python -c "from irbench.data.naming import pair; print(pair(['1_lq'], ['1'],
{'input': '_lq$'}))"``
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from irbench.catalog.datasets import DatasetEntry
from irbench.core.errors import Unavailable
from irbench.core.files import read_text
from irbench.core.messages import some
from irbench.data import tree


def names(entry: DatasetEntry, found: Mapping[str, Iterable[Path]]) -> dict[Path, str]:
    """Return the name of each file in results: that of the file, with its suffix.

    If files of one role in different folders share a name, every name has the folders in front
    that differ (``tree.distinct``): ``GOPR0384_11_00/000001.png``.
    """
    found = {role: list(paths) for role, paths in found.items()}
    if all(len({path.name for path in paths}) == len(paths) for paths in found.values()):
        return {path: path.name for paths in found.values() for path in paths}
    home, patterns = entry.home.absolute(), {"hr": entry.hr, "input": entry.input}
    return {path: tree.distinct(home, patterns[role], path)
            for role, paths in found.items() for path in paths}


def stem(name: str) -> str:
    """Return a name without its suffix."""
    return PurePosixPath(name).with_suffix("").as_posix()


def listed(entry: DatasetEntry, found: dict[str, list[Path]],
           label: str) -> dict[str, list[Path]]:
    """Return the images that a set's ``list`` names, and the targets of named inputs.

    A line is a path below the set's folder, or a file's name, with or without suffix. Empty lines
    and lines that begin with # do not count; lines may end as on Windows.

    Args:
        entry: the set.
        found: role to the paths that its patterns choose.
        label: the set's name for messages.

    Raises Unavailable if the list cannot be read, or a line names no image or several.
    """
    home, leading = entry.home.absolute(), "input" if entry.paired else "hr"
    if not entry.list or not found[leading]:
        return found
    try:
        text = read_text(home / entry.list)
    except (OSError, ValueError) as error:
        raise Unavailable(f"{label}: the list {home / entry.list} cannot be read "
                          f"({getattr(error, 'strerror', None) or error}). Correct 'list' in "
                          "the catalog.") from None
    known: dict[str, set[Path]] = {}
    for path in found[leading]:
        below = path.relative_to(home).as_posix()
        for name in {below, stem(below), path.name, path.stem}:
            known.setdefault(name, set()).add(path)
    taken = set()
    for number, line in enumerate(text.splitlines(), 1):
        wanted = line.strip().replace("\\", "/").removeprefix("./")
        if not wanted or wanted.startswith("#"):
            continue
        fitting = known.get(wanted, set())
        if len(fitting) != 1:
            first = min(path.relative_to(home).as_posix() for path in found[leading])
            raise Unavailable(f"{label}: {entry.list}, line {number}: {wanted!r} names "
                              f"{'several images' if fitting else 'no image'} of the set. Valid: "
                              f"paths below {entry.home}, such as {first}.")
        taken |= fitting
    chosen = {**found, leading: [path for path in found[leading] if path in taken]}
    if leading == "input" and not entry.targetless:
        labels = names(entry, found)
        pairs, _ = pair(*([stem(labels[path]) for path in found[role]] for role in ("input", "hr")),
                        entry.match)
        targets = {found["hr"][j] for i, j in pairs if found["input"][i] in taken}
        chosen["hr"] = [path for path in found["hr"] if path in targets]
    return chosen


# -- pairs -------------------------------------------------------------------------------------

def pair(inputs: Sequence[str], targets: Sequence[str],
         match: Mapping[str, str]) -> tuple[list[tuple[int, int]], list[str]]:
    """Match inputs with targets by name, never by order.

    Two images belong together if they have the same name; otherwise, if they have the same name
    after removal of the parts that ``match`` describes. Several inputs may share a target.

    Args:
        inputs: names (without suffix) of the degraded images.
        targets: names of the clean images.
        match: role (``input``, ``hr``) to a regular expression.

    Returns:
        Indices (input, target) in the order of the inputs' names, and one phrase for each kind of
        unmatched images.
    """
    exact = {name: i for i, name in enumerate(targets)}
    reduced: dict[str, list[int]] = {}
    for i, name in enumerate(targets):
        reduced.setdefault(_reduce(name, match.get("hr")), []).append(i)
    pairs, lonely, unsure = [], [], []
    for i in sorted(range(len(inputs)), key=inputs.__getitem__):
        name = inputs[i]
        partners = ([exact[name]] if name in exact else
                    reduced.get(_reduce(name, match.get("input")), []))
        if len(partners) == 1:
            pairs.append((i, partners[0]))
        else:
            (unsure if partners else lonely).append(name)
    taken = {j for _, j in pairs}
    unused = sorted(name for j, name in enumerate(targets) if j not in taken)
    problems = [f"{len(names)} {what} ({some(names)})"
                for what, names in (("inputs without a target of that name", lonely),
                                    ("inputs with several targets", unsure),
                                    ("targets without an input", unused)) if names]
    return pairs, problems


def _reduce(name: str, pattern: str | None) -> str:
    return re.sub(pattern, "", name) if pattern else name
