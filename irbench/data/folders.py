"""Sets in folders, provided by users or unpacked from archives: find, pair, count and pin files.

Reads   images below a set's folder, by the patterns of its entry (see
        ``irbench.catalog.datasets``).
Writes  ``<data_root>/manifests/NAME.csv`` when a ``manual`` or ``archive`` set has passed its first
        check (``irbench data check`` or ``fetch``): role, path below the set's folder, sha256 and
        bytes of every file. From then on this list pins the set, until a change is accepted by
        hand.

Try: ``irbench data check lol_v1``
"""

from __future__ import annotations

import csv
import functools
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from irbench.catalog.datasets import DatasetEntry
from irbench.catalog.manifest import UNFIT, ManifestRow
from irbench.core import messages
from irbench.core.digests import canonical, fresh_digests, known_digests
from irbench.core.errors import Damaged, Unavailable, UserError
from irbench.core.files import read_text, write_atomic
from irbench.core.messages import some
from irbench.data import blocks, tree
from irbench.data.fetch import location
from irbench.data.naming import listed, names, pair, stem

T = TypeVar("T")
COLUMNS = ["role", "path", "sha256", "bytes"]
THREADS = min(8, os.cpu_count() or 1)


# -- looking up --------------------------------------------------------------------------------

def look_up(entry: DatasetEntry) -> dict[str, list[Path]]:
    """Return the paths of each role's images, sorted by name; a role may have none.

    With a ``list``, only the images that it names, and the targets of those.

    The patterns are those of ``irbench.data.tree``: suffixes are compared without case, links are
    followed, hidden files are ignored, and a pattern without a suffix (``input/*``) matches images
    only.

    Raises:
        UserError: two files of one role have the same name (``names``), or one file has two roles
            (Unavailable for a ``manual`` or ``archive`` set, whose folder is then wrong).
        Unavailable: a folder cannot be read, a link leads to nothing, or a name cannot be written
            to a record.
    """
    patterns = _patterns(entry)
    wrong = Unavailable if entry.frozen else UserError
    try:
        found = dict(zip(patterns, tree.find(entry.home.absolute(), list(patterns.values())),
                         strict=True))
    except OSError as error:
        raise _unreadable(entry, error) from None
    found = listed(entry, found, title(entry))
    known = names(entry, found)
    for paths in found.values():
        seen: dict[str, Path] = {}
        for path in paths:
            _check_name(entry, path)
            if (first := seen.setdefault(stem(known[path]).casefold(), path)) != path:
                raise wrong(f"{entry}: {first} and {path} have the same name without suffix, which "
                            "names an image in every result. Rename or remove one of them.")
            if not path.exists():
                raise Unavailable(f"{title(entry)}: {path} is a link to a file that does not "
                                  "exist. Correct or remove it.")
    found.setdefault("hr", [])
    if both := set(found["hr"]) & set(found.get("input", [])):
        raise wrong(f"{entry}: {min(both)} is both an input and a target. Correct the patterns "
                    "'hr' and 'input', or the folders. A set without targets has no 'hr'.")
    return found


def _patterns(entry: DatasetEntry) -> dict[str, str | None]:
    """Return role -> the pattern of its files; None chooses all images directly in the folder."""
    targets = {} if entry.targetless else {"hr": entry.hr}
    return targets | ({} if entry.input is None else {"input": entry.input})


def _check_name(entry: DatasetEntry, path: Path) -> None:
    """Refuse a name that cannot stand in a record or a table."""
    if bad := UNFIT.search(str(path)):
        what = ("holds bytes that are not UTF-8" if bad.group() >= "\ud800" else
                f"holds the control character {bad.group()!a}")
        raise Unavailable(f"{title(entry)}: the name {str(path)!a} {what}, so that no record can "
                          "hold it. Rename the file or its folder.")


def _unreadable(entry: DatasetEntry, error: OSError) -> Unavailable:
    return Unavailable(f"{title(entry)}: the folder {_shown(str(error.filename or entry.home))} "
                       f"cannot be read: {error.strerror}. Correct its path or permissions.")


def _shown(name: str) -> str:
    """Return a name that any message can hold."""
    return ascii(name) if UNFIT.search(name) else name


def require(entry: DatasetEntry) -> dict[str, list[Path]]:
    """Return the result of ``look_up``, if it is the complete set.

    Raises Unavailable, with the reason and how to get the set, if the folder is missing, a count
    is not the expected one or an image has no partner.
    """
    found = look_up(entry)
    if reasons := shortcomings(entry, found):
        # what to do about images that no pattern takes is part of that reason
        more = "" if reasons == left_out(entry) else f" {advice(entry)}"
        raise Unavailable(f"{title(entry)}: {'; '.join(reasons)}.{more}")
    return found


def shortcomings(entry: DatasetEntry, found: Mapping[str, Sequence[Path]]) -> list[str]:
    """Return why a set is not complete, one phrase each; [] if it is complete."""
    if not entry.home.is_dir():
        return [f"the folder {entry.home} does not exist"]
    if not any(found.values()):
        patterns = " or ".join(filter(None, [entry.hr or ", ".join(tree.SUFFIXES), entry.input]))
        return [f"no image matches {patterns} in {entry.home}"]
    reasons = []
    leading = found.get("input", found["hr"])
    if entry.count is not None and len(leading) != entry.count:
        what = "inputs" if entry.paired else "images"
        reasons.append(f"{len(leading)} {what} in {entry.home}, expected {entry.count}")
    if entry.paired and not entry.targetless:
        labels = names(entry, found)
        reasons += pair([stem(labels[path]) for path in found["input"]],
                        [stem(labels[path]) for path in found["hr"]], entry.match)[1]
    return reasons + left_out(entry)


def left_out(entry: DatasetEntry) -> list[str]:
    """Describe the images beside the set's that no pattern takes and the entry does not name.

    In a folder of the user's own all folders below it count, too, unless every pattern names
    folders (``sharp/*.png``), which says where the set's images are. An archive, or a set that many
    people have, holds other images by nature. Returns [] if there are none. Raises Unavailable if a
    folder cannot be read.
    """
    home, patterns = entry.home.absolute(), list(_patterns(entry).values())
    below = entry.kind == "local" and not all("/" in (pattern or "") for pattern in patterns)
    try:
        left = tree.left_out(home, patterns, entry.leave_out, below)
    except OSError as error:
        raise _unreadable(entry, error) from None
    if not left:
        return []
    names = [_shown(path.relative_to(home).as_posix()) for path in left]
    one, (*folders, _) = len(left) == 1, left[0].relative_to(home).parts
    count = f"more than {tree.MOST_LEFT}" if len(left) > tree.MOST_LEFT else len(left)
    such = f"{folders[0]}/**" if folders and below else names[0]
    return [f"{count} image file{'s' * (not one)} in {entry.home} match{'es' * one} no pattern "
            f"({some(names)}). In the catalog, widen the pattern, or name what does not belong to "
            f"the set, such as leave_out: {such!r}"]


def title(entry: DatasetEntry) -> str:
    """Return a set's name for messages, with its catalog only if the definition may be wrong.

    The message enters records, which must not depend on the folder that irbench is installed in.
    """
    return f"dataset {entry.name!r}" if entry.frozen else str(entry)


def advice(entry: DatasetEntry) -> str:
    """Return how to get a set."""
    if entry.kind == "manual":
        place = entry.root / entry.blocks.folder if entry.blocks else entry.home
        return (f"How to get it: {entry.get.rstrip('.')}. Put or link it as {place}; "
                f"{entry.command('check NAME')} shows what is still missing.")
    if entry.kind in ("archive", "manifest"):
        return f"Run: {entry.command('fetch NAME')}"
    return f"Add what is missing to {entry.home}, or correct 'local' in the catalog."


# -- files and their checksums -----------------------------------------------------------------

def rows(entry: DatasetEntry) -> list[ManifestRow]:
    """Return the files of a set without a manifest of its own, hashed.

    For a ``manual`` or ``archive`` set that was checked, returns the files listed then; any other
    set is looked up now. Writes nothing.

    Raises:
        Unavailable: the set is missing or not complete; or the written list is damaged.
        Damaged: the size of a file has changed since the set was checked.
        UserError: see ``look_up``.
    """
    if entry.blocks and (why := blocks.outdated(entry)):
        raise Unavailable(f"{title(entry)}: {why}. Run: {entry.command('fetch NAME')}")
    if entry.frozen and (known := frozen(entry)) is not None:
        _still_here(entry, known)
        return known
    found = require(entry)
    listed = [(role, path) for role, paths in found.items() for path in paths]
    digests = digest_all([path for _, path in listed], entry.name)
    labels = names(entry, found)
    return [ManifestRow(role, labels[path], path.absolute().as_uri(), sha256, path.stat().st_size)
            for (role, path), sha256 in zip(listed, digests, strict=True)]


def _still_here(entry: DatasetEntry, known: Sequence[ManifestRow]) -> None:
    """Refuse a set if files are missing, have another size or were left out, since the check."""
    gone, other = [], []
    for row in known:
        path = location(row.url)
        try:
            if path.stat().st_size != row.bytes:
                other.append(f"{row.role}/{row.file}")
        except OSError:
            gone.append(f"{row.role}/{row.file}")
    if left := left_out(entry):
        raise Unavailable(f"{title(entry)}: {left[0]}.")
    if gone or other:
        what = "; ".join(f"{len(names)} of {len(known)} files {how} ({some(names)})"
                         for names, how in ((gone, "are missing"), (other, "have another size"))
                         if names)
        raise (Damaged if other else Unavailable)(
            f"{title(entry)}: since {frozen_path(entry)} was written, {what}. {advice(entry)} If "
            f"the change is meant: {entry.command('check NAME --accept')}")


def _rows(entry: DatasetEntry, held: Sequence[Held]) -> list[ManifestRow]:
    """Return the rows of pinned files."""
    found: dict[str, list[Path]] = {}
    for file in held:
        found.setdefault(file.role, []).append(file.path)
    labels = names(entry, found)
    return [ManifestRow(file.role, labels[file.path], file.path.absolute().as_uri(), file.sha256,
                        file.bytes) for file in held]


def digest_all(paths: Sequence[Path], title: str) -> list[str]:
    """Return the SHA-256 of each file, in order. Unchanged files are not read again."""
    try:
        return known_digests(paths, functools.partial(_several, title))
    except OSError as error:
        raise Unavailable(f"{error.filename}: {error.strerror}.") from None


def digest_anew(paths: Sequence[Path], title: str) -> list[str]:
    """Return the SHA-256 of each file, in order; all files are read again."""
    try:
        return fresh_digests(paths, functools.partial(_several, title))
    except OSError as error:
        raise Unavailable(f"{error.filename}: {error.strerror}.") from None


def _several(title: str, digest: Callable[[Path], T], paths: Sequence[Path]) -> Iterator[T]:
    """Yield a function's result for each file; several at once, with progress on stderr."""
    with ThreadPoolExecutor(THREADS) as pool:
        yield from messages.track(pool.map(digest, paths), f"checksums of {title}", len(paths))


# -- pinned ------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Held:
    """A file in its present state, or in the state when its set was pinned."""

    role: str
    path: Path
    sha256: str
    bytes: int


def frozen_path(entry: DatasetEntry) -> Path:
    """Return the path of the list that pins a set."""
    return entry.root / "manifests" / f"{entry.name}.csv"


def freeze(entry: DatasetEntry, files: Iterable[Held]) -> list[ManifestRow]:
    """Write the list that pins a set's files, and return it as rows."""
    files = sorted(files, key=lambda file: (file.role, file.path.name))
    home = entry.home.absolute()
    text = io.StringIO()
    # the first line holds the patterns: a list made with other patterns does not count
    text.write(f"# {canonical(entry.definition())}\n")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([f.role, f.path.relative_to(home).as_posix(), f.sha256, f.bytes]
                     for f in files)
    path = frozen_path(entry)
    try:
        write_atomic(path, text.getvalue())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}. Choose a data_root that is writable."
                        ) from None
    messages.say(f"{entry.name}: {len(files)} files, now pinned by {path}")
    return _rows(entry, files)


def frozen(entry: DatasetEntry) -> list[ManifestRow] | None:
    """Return the pinned files of a set; None if it is not pinned, or was with another definition.

    Raises Unavailable if the list is damaged.
    """
    path = frozen_path(entry)
    try:
        first, _, rest = read_text(path).partition("\n")
        if json.loads(first.removeprefix("# ")) != entry.definition():
            return None
        lines = list(csv.DictReader(io.StringIO(rest)))
        home = entry.home.absolute()
        rows = _rows(entry, [Held(line["role"], home / line["path"], line["sha256"],
                                  int(line["bytes"])) for line in lines])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise Unavailable(f"{path}: not a list of files written by irbench ({error}). To "
                          "write it anew from the files that are here: "
                          f"{entry.command('check NAME --accept')}") from None
    if not rows:
        raise Unavailable(f"{path}: lists no files. To write it anew from the files that are here: "
                          f"{entry.command('check NAME --accept')}")
    return rows
