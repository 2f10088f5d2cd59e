"""Check whether a dataset is complete and unchanged: counts, pairs, sizes, every file decoded.

Reads   every file of a set.
Writes  the list that pins a set (see ``irbench.data.folders``), once the set is found complete.

Try: ``irbench data check photos``
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from irbench.catalog.manifest import ManifestRow
from irbench.core import messages
from irbench.core.errors import Unavailable, UserError
from irbench.core.files import read_bytes
from irbench.data import blocks, folders, sets
from irbench.data.sets import DatasetEntry
from irbench.imaging.images import decode

LARGEST_SCALE = 8   # of super-resolution from given images


@dataclass
class SetCheck:
    """The result of a check of a set.

    Attributes:
        name: the set's name.
        found: role to the number of files that are present.
        expected: the required number of images or pairs; None if it is not known.
        problems: one phrase each; empty if the set is complete.
        get: how to get the set; "" if the problems say what to do.
        held: the list of files that pins the set, for sets without a manifest of the catalog.
    """

    name: str
    found: dict[str, int] = field(default_factory=dict)
    expected: int | None = None
    problems: list[str] = field(default_factory=list)
    get: str = ""
    held: Path | None = None

    def as_dict(self) -> dict:
        """Return the result as plain data."""
        return {"dataset": self.name, "complete": not self.problems, "found": self.found,
                "expected": self.expected, "problems": self.problems,
                "manifest": self.held and str(self.held)}


@dataclass(frozen=True)
class _Seen:
    """A file in its present state. ``shape`` is (height, width) of an image."""

    held: folders.Held | None
    shape: tuple[int, int] | None = None
    problem: str | None = None


def check(entry: DatasetEntry, data_root: str | Path, accept: bool = False) -> SetCheck:
    """Check every file of a set.

    Args:
        entry: the set.
        data_root: the folder of all data.
        accept: for a set that is pinned to its first state: pin its present state instead, if it
            is complete. This makes all results that depend on the set outdated.

    Raises:
        UserError: ``accept`` for a set with a manifest of the catalog, or for the user's own
            folder; or a manifest that cannot be read.
    """
    entry = sets.at(entry, data_root)
    if accept and not entry.frozen:
        raise UserError(f"{entry}: --accept is for sets that are pinned to their first state. "
                        + ("This one is pinned by its manifest." if entry.manifest else
                           "A folder of your own is not pinned."))
    result = SetCheck(entry.name, get=folders.advice(entry))
    if entry.manifest is not None:
        rows = sets.manifest(entry)
        places = [sets.place(entry, row) for row in rows]
        _compare(result, entry, rows, _look(entry, [(row.role, place) for row, place in
                                                    zip(rows, places, strict=True)]))
        return result
    result.expected = entry.count
    try:
        if entry.blocks:
            blocks.unpack(entry)
        found = folders.look_up(entry)
    except UserError as error:
        result.problems.append(str(error))
        return result
    result.problems += folders.shortcomings(entry, found)
    if result.problems and result.problems == folders.left_out(entry):
        result.get = ""     # what to do about these images is part of the problem
    seen = _look(entry, [(role, path) for role, paths in found.items() for path in paths])
    known = None
    if entry.frozen:
        try:
            known = folders.frozen(entry)
        except Unavailable as error:
            if not accept:
                result.problems.append(str(error))
        result.held = folders.frozen_path(entry)
    _compare(result, entry, None if accept else known, seen)
    if entry.frozen and not result.problems and (known is None or accept):
        folders.freeze(entry, [one.held for one in seen])
    if known is None and result.problems:
        result.held = None
    return result


def unit(entry: DatasetEntry) -> str:
    """Return the unit of a set's count: pairs, images, or files (of weights)."""
    if entry.paired:
        return "images" if entry.targetless else "pairs"
    return "files" if entry.use == "weights" else "images"


def _look(entry: DatasetEntry, files: Sequence[tuple[str, Path]]) -> list[_Seen]:
    """Read and decode every file, several at once."""
    images = entry.use != "weights"
    with ThreadPoolExecutor(folders.THREADS) as pool:
        seen = pool.map(lambda file: _look_at(*file, images), files)
        return list(messages.track(seen, f"checking {entry.name}", len(files)))


def _look_at(role: str, path: Path, is_image: bool) -> _Seen:
    try:
        data = read_bytes(path)
    except FileNotFoundError:
        return _Seen(None)
    except OSError as error:
        return _Seen(None, problem=f"{path}: {error.strerror}")
    held = folders.Held(role, path, hashlib.sha256(data).hexdigest(), len(data))
    try:
        return _Seen(held, decode(data, str(path)).shape[:2] if is_image else None)
    except UserError as error:
        return _Seen(held, problem=str(error))


def _compare(result: SetCheck, entry: DatasetEntry, rows: Sequence[ManifestRow] | None,
             seen: Sequence[_Seen]) -> None:
    """Add the problems of the files, and their differences from the pinned list."""
    here = {one.held.path: one for one in seen if one.held}
    for one in here.values():
        result.found[one.held.role] = result.found.get(one.held.role, 0) + 1
    if rows is not None:
        expected = {sets.place(entry, row): row for row in rows}
        role = "input" if entry.paired else "weights" if entry.use == "weights" else "hr"
        if result.expected is None:
            result.expected = sum(row.role == role for row in rows)
        changed = [f"{row.role}/{row.file}" for path, row in expected.items()
                   if path in here and here[path].held.sha256 != row.sha256]
        missing = [f"{row.role}/{row.file}" for path, row in expected.items() if path not in here]
        new = [f"{one.held.role}/{path.name}" for path, one in here.items() if path not in expected]
        since = f" since {folders.frozen_path(entry)} was written" if entry.frozen else ""
        result.problems += [f"{len(names)} files {what}{since} ({messages.some(names)})"
                            for what, names in (("changed", changed), ("new", new)) if names]
        if entry.frozen and (changed or new):
            result.get += f" If the change is meant: {entry.command('check NAME --accept')}"
        if missing:
            result.problems.append(f"{len(missing)} of {len(rows)} files are missing "
                                   f"({messages.some(missing)})")
    broken = [one.problem for one in seen if one.problem]
    if broken:
        result.problems.append(f"{len(broken)} files cannot be read: {'; '.join(broken[:3])}"
                               + (" ..." if len(broken) > 3 else ""))
    result.problems += _sizes(entry, list(here.values()))


def _fit(entry: DatasetEntry, given: tuple[int, int], target: tuple[int, int]) -> bool:
    """Whether the size of an input fits that of its target; in super-resolution at any scale."""
    whole = tuple(side - 2 * entry.target_crop for side in target)
    scales = range(1, LARGEST_SCALE + 1) if "sr" in entry.tasks else (1,)
    return any(given == tuple(side // scale for side in whole) for scale in scales)


def _sizes(entry: DatasetEntry, seen: Sequence[_Seen]) -> list[str]:
    """Describe the pairs of unequal size, and for a manifest the images without partner."""
    inputs, targets = ([one for one in seen if one.held.role == role] for role in ("input", "hr"))
    if not inputs:
        return []
    labels = folders.names(entry, {"input": [one.held.path for one in inputs],
                                   "hr": [one.held.path for one in targets]})
    pairs, lonely = folders.pair(*([folders.stem(labels[one.held.path]) for one in role]
                                   for role in (inputs, targets)), entry.match)
    differ = [f"{a.held.path.name}: {a.shape[0]}x{a.shape[1]} against {b.shape[0]}x{b.shape[1]}"
              for a, b in ((inputs[i], targets[j]) for i, j in pairs)
              if a.shape and b.shape and not _fit(entry, a.shape, b.shape)]
    problems = lonely if entry.manifest is not None else []
    if differ:
        problems = [*problems, f"{len(differ)} pairs whose input and target differ in height x "
                               f"width ({messages.some(differ)})"]
    return problems
