"""Result images that somebody else's model made: find them, and match them with a set's images.

A model of the config with ``outputs: FOLDER`` is scored from such a folder instead of being run.
The last parts of the path may be a glob pattern (``results/*_x2_SwinIR.png``). A picture belongs to
an image of the set if it has the image's name, the target's name, or the part of them that the
set's ``match`` leaves, perhaps followed by a suffix that is the same for the whole set
(``baby_x2_SwinIR.png`` for ``baby``).

Reads   the pictures and the names in their folder. Writes nothing.

Try: ``python -c "from irbench.data import outputs; print(outputs.find('results/set5'))"``
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from irbench.catalog.datasets import WILDCARD
from irbench.core.digests import fingerprint
from irbench.core.errors import Unavailable
from irbench.core.files import expanded
from irbench.core.messages import some
from irbench.data import folders, tree
from irbench.data.sets import Dataset, ImageFile
from irbench.imaging import containers

ROLE = "output"
MOST = 100_000      # files below the folder that are looked at; a run's result images are fewer


@dataclass(frozen=True)
class Outputs:
    """The result images in a folder. ``files`` is sorted by name; ``sha256`` covers all of them."""

    where: str
    files: tuple[ImageFile, ...]

    @property
    def sha256(self) -> str:
        """The digest of the names and contents of all files."""
        return fingerprint([[file.name, file.path.suffix.lower(), file.sha256]
                            for file in self.files])


def split(where: str) -> tuple[Path, str | None]:
    """Split a path into its folder and the glob pattern below it; None: all images of the folder.
    """
    whole = expanded(where)
    if whole.is_dir():
        return whole, None
    parts = whole.parts
    first = next((i for i, part in enumerate(parts) if WILDCARD.search(part)), None)
    if first is None:
        return whole, None
    return Path(*parts[:first]), "/".join(parts[first:])


def find(where: str) -> Outputs | None:
    """Return the images that a path or pattern names, with their digests; None if there are none.

    If a folder holds no images, those of its sub-folders are taken; their names begin with those
    of the sub-folders.

    Raises Unavailable if the folder or a file cannot be read, or too many files lie below it.
    """
    folder, pattern = split(where)
    home = folder.absolute()
    try:
        paths = tree.find(home, [pattern], MOST)[0]
        if not paths and pattern is None:
            paths = tree.find(home, ["**/*"], MOST)[0]
    except OSError as error:
        raise Unavailable(f"{error.filename or folder}: {error.strerror}. Correct `outputs`."
                          ) from None
    if not paths:
        return None
    digests = folders.digest_all(paths, where)
    return Outputs(where, tuple(
        ImageFile(path.relative_to(home).with_suffix("").as_posix(), ROLE, path, sha256,
                  path.stat().st_size)
        for path, sha256 in zip(paths, digests, strict=True)))


def lossy(files: Iterable[ImageFile]) -> dict:
    """Return, as ``lossy``, how many pictures went through which lossy compression; {} if none.

    Raises Unavailable if a file cannot be read.
    """
    kinds = Counter(containers.lossy(file.read()) for file in files)
    del kinds[""]
    return {"lossy": dict(sorted(kinds.items()))} if kinds else {}


def altered(where: str, sha256: str, digest: Callable[[Path], str]) -> str:
    """Return how the images at a path differ from a digest that ``find`` gave; "" if not at all.

    All files are read again, by ``digest``.
    """
    try:
        found = find(where)
        if found is None:
            return "are missing"
        again = replace(found, files=tuple(replace(file, sha256=digest(file.path))
                                           for file in found.files))
    except (Unavailable, OSError) as error:
        return f"cannot be read ({error})"
    return "" if again.sha256 == sha256 else "were altered"


def match(found: Outputs, data: Dataset) -> tuple[dict[str, ImageFile], str]:
    """Return the picture of each image of a set (by the input's name), and the suffix of names.

    Args:
        found: the pictures.
        data: the set; every image (of a paired set: every input) needs one picture.

    Raises:
        Unavailable: an image has no picture, which is named, or more than one suffix fits.
    """
    files: dict[str, ImageFile] = {}
    for file in found.files:
        if (other := files.setdefault(file.name, file)) is not file:
            raise Unavailable(f"{found.where}: {other.path.name} and {file.path.name} have the "
                              "same name without suffix. Remove one of them.")
    best: list[str] | None = None
    for names in _namings(data):
        suffixes = [""] if set(names) <= set(files) else _suffixes(names, files)
        if len(suffixes) > 1:
            raise Unavailable(
                f"{found.where}: several pictures fit each image of {data.name!r}: the names end "
                f"with {some([repr(one) for one in suffixes])}. Give one of them in `outputs`, "
                f"such as {found.where.rstrip('/')}/*{suffixes[0]}.png")
        if suffixes:
            return {image: files[name + suffixes[0]] for name, image in names.items()}, suffixes[0]
        lacking = _lacking(names, files)
        best = lacking if best is None or len(lacking) < len(best) else best
    raise Unavailable(
        f"{found.where}: {len(best)} images of {data.name!r} have no picture ({some(best)}). Every "
        "image needs one, with its name and perhaps one suffix for all, such as NAME_x2.png. Add "
        "the missing pictures or correct `outputs`.")


def _namings(data: Dataset) -> list[dict[str, str]]:
    """Return the ways to name a set's pictures: name of a picture -> name of the image."""
    if "input" not in data.roles:
        return [{image.name: image.name for image in data.role("hr")}]
    if "hr" not in data.roles:  # without targets
        whole = {image.name: image.name for image in data.role("input")}
        reduced = _reduced(whole, data.match.get("input"))
        return [whole] + [reduced] * (len(reduced) == len(whole))
    pairs = [(source.name, target.name) for source, target in data.pairs()]
    ways = [{source: source for source, _ in pairs},
            {target: source for source, target in pairs},
            _reduced({source: source for source, _ in pairs}, data.match.get("input")),
            _reduced({target: source for source, target in pairs}, data.match.get("hr"))]
    # a target that several inputs share names none of their pictures
    return [names for names in ways if len(names) == len(pairs)]


def _reduced(names: Mapping[str, str], pattern: str | None) -> dict[str, str]:
    return {re.sub(pattern, "", name) if pattern else name: image for name, image in names.items()}


def _suffixes(names: Mapping[str, str], files: Mapping[str, ImageFile]) -> list[str]:
    """Return the suffixes with which every name has a file."""
    first = min(names)
    possible = [name.removeprefix(first) for name in files if name.startswith(first)]
    return sorted(suffix for suffix in possible if all(name + suffix in files for name in names))


def _lacking(names: Mapping[str, str], files: Mapping[str, ImageFile]) -> list[str]:
    """Return the names without a picture under the suffix that leaves the fewest."""
    found = {file.removeprefix(name) for name in names for file in files if file.startswith(name)}
    return min(([name for name in sorted(names) if name + suffix not in files]
                for suffix in sorted(found)), key=len, default=sorted(names))
