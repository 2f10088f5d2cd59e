"""Protocols: everything that determines a score, read from ``catalog/protocols.yaml``.

Try: ``irbench info sr-x2``
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace

from irbench.catalog import degradations, reader
from irbench.core import forms
from irbench.core.errors import UserError, unknown

ID = re.compile(r"(?P<name>[a-z_]+-[A-Za-z0-9_]+)@(?P<version>[1-9][0-9]*)")
METRIC_COLORS = ("y", "rgb", "gray")
# gray files of a colour set: their values are Y already, or they are converted like RGB files
GRAY_FILES = ("y", "converted")
# gray of a colour source: MATLAB's rounded Y (16 to 235), or full-range BT.601 luma (0 to 255)
GRAY_SOURCES = ("matlab_y", "full_range")
SSIM_VARIANTS = ("gaussian11_valid", "gaussian11_same", "gaussian11_3d", "uniform7")


@dataclass(frozen=True)
class Scoring:
    """How a restored image is compared with its target; see the head of the catalog file."""

    color: str
    y_rounded: bool
    crop: int
    ssim: str
    gray_files: str = "y"


@dataclass(frozen=True)
class Protocol:
    """One task at one level with all conventions; immutable once its id is published.

    ``serves`` and ``trained_as`` follow from the other versions in the catalog (``catalog``):
    ``serves`` are the other ids with the same task, level and degradation, whose weights serve this
    protocol. ``trained_as`` is the id that trainings have: that of the first version that trains on
    the same inputs and targets. So versions that differ only in scoring share one training.
    ``borrows`` is another task whose blind weights serve this protocol, too.
    """

    id: str
    title: str
    task: str
    level: str
    degradation: dict
    color: str
    seed: int | None
    metric: Scoring
    source: str
    gray: str = "matlab_y"
    borrows: str = ""
    serves: tuple[str, ...] = ()
    trained_as: str = ""

    @property
    def scale(self) -> int | float:
        """The factor between the sides of target and input; an int if it is whole."""
        return degradations.scale(self.degradation)

    @property
    def unit(self) -> int:
        """The number of which the sides of a target are multiples, see ``degradations.unit``."""
        return degradations.unit(self.degradation)

    @property
    def steps(self) -> tuple[dict, ...]:
        """The steps that make an input from a target, in their order; most protocols have one."""
        return degradations.steps(self.degradation)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of these steps."""
        return degradations.kinds(self.degradation)

    @property
    def paired(self) -> bool:
        """Whether the inputs are images of the dataset, instead of being made from the targets."""
        return self.degradation["kind"] == "paired"

    @property
    def fixed_input(self) -> bool:
        """Whether all patches of a training image are cut from one input of the whole image.

        That is so for pairs, and for images shrunk by a whole number, where corners of patches lie
        on whole pixels of the input. Otherwise each patch is degraded by itself, noise drawn anew.
        """
        return self.paired or (self.kinds == ("matlab_bicubic",) and self.unit == self.scale)

    @property
    def synthetic(self) -> bool:
        """Whether the input is made by irbench's own degradation, which no paper uses."""
        return bool(set(self.kinds) & set(degradations.SYNTHETIC))

    @property
    def channels(self) -> int:
        """Channels of input and target: 1 or 3."""
        return 1 if self.color == "gray" else 3

    @property
    def training_id(self) -> str:
        """The id that a training for this protocol has."""
        return self.trained_as or self.id

    def definition(self) -> dict:
        """Return the fields that fix a score as plain data, for fingerprints and reports.

        A field that came later is left out while it has the value that all earlier protocols had:
        a published id keeps its definition.
        """
        plain = {k: v for k, v in asdict(self).items() if k not in ("serves", "trained_as")}
        if self.gray == GRAY_SOURCES[0]:
            del plain["gray"]
        if not self.borrows:
            del plain["borrows"]
        if self.metric.gray_files == GRAY_FILES[0]:
            del plain["metric"]["gray_files"]
        return plain

    def training_definition(self) -> dict:
        """Return the fields that a training depends on: how inputs and targets are made."""
        known = self.definition()
        names = ("id", "task", "level", "degradation", "color", "gray")
        return {name: known[name] for name in names if name in known}

    def as_dict(self) -> dict:
        """Return all fields as plain data, for the file of a plan."""
        return {**self.definition(), "serves": list(self.serves), "trained_as": self.trained_as}

    @classmethod
    def from_dict(cls, given: dict) -> Protocol:
        """Return the protocol that ``as_dict`` or ``definition`` gave.

        Raises UserError for an unknown key.
        """
        where = f"protocol {given.get('id', '')}".strip()
        return forms.make(cls, {**given, "serves": tuple(given.get("serves") or ()),
                                "metric": forms.make(Scoring, given.get("metric"), where)}, where)


def catalog(paths: tuple[str, ...] = ()) -> dict[str, Protocol]:
    """Return all protocols by id: irbench's own and those of the given files or folders.

    Raises UserError for a broken entry or an id defined twice.
    """
    found: dict[str, Protocol] = {}
    homes = {}
    for path in reader.files("protocols", paths):
        for key, entry in reader.section(path, "protocols").items():
            protocol = _protocol(f"catalog {path}: protocol {key!r}", key, entry)
            if protocol.id in found:
                raise UserError(f"{path}: protocol {protocol.id!r} is already defined in "
                                f"{homes[protocol.id]}. A changed convention is a new version: "
                                "raise the number after @.")
            found[protocol.id], homes[protocol.id] = protocol, path
    return _related(found)


def _related(known: dict[str, Protocol]) -> dict[str, Protocol]:
    """Return the protocols with ``serves`` and ``trained_as``, see ``Protocol``."""
    names: dict[str, list[Protocol]] = {}
    for one in sorted(known.values(), key=lambda one: version_of(one.id)):
        names.setdefault(name_of(one.id), []).append(one)
    found = {}
    for one in known.values():
        versions = [other for other in names[name_of(one.id)]
                    if other.degradation == one.degradation]
        first = next(other for other in versions
                     if (other.color, other.gray) == (one.color, one.gray))
        found[one.id] = replace(
            one, serves=tuple(other.id for other in versions if other.id != one.id),
            trained_as="" if first.id == one.id else first.id)
    return found


def name_of(protocol: str) -> str:
    """Return an id without its version: ``sr-x2``."""
    return protocol.rpartition("@")[0]


def version_of(protocol: str) -> int:
    """Return the version in an id."""
    return int(protocol.rpartition("@")[2])


def get(name: str, paths: tuple[str, ...] = ()) -> Protocol:
    """Return a protocol by id (``sr-x2@1``), or the newest version of a name (``sr-x2``)."""
    return choose(name, catalog(paths))


def choose(name: str, known: dict[str, Protocol]) -> Protocol:
    """Return the protocol that a name means in a given catalog; see ``get``."""
    if name in known:
        return known[name]
    versions = [p for p in known.values() if name_of(p.id) == name]
    if not versions:
        raise _unknown(name, known)
    return max(versions, key=lambda p: version_of(p.id))


def _unknown(name: str, known: dict[str, Protocol]) -> UserError:
    """Build the error for a protocol that there is none of: each is listed once, by its name.

    For a known name with another version these are its versions. If several tasks begin with the
    name, such as denoise, the first protocol of each is suggested.
    """
    if versions := [one for one in known if name_of(one) == name_of(str(name))]:
        return unknown("protocol", name, versions)
    first: dict[str, str] = {}
    for key, one in known.items():
        if name and one.task.startswith(str(name)):
            first.setdefault(one.task, name_of(key))
    return unknown("protocol", name, set(map(name_of, known)),
                   near=list(first.values())[:3] if len(first) > 1 else ())


def _protocol(where: str, key: str, entry: object) -> Protocol:
    match = ID.fullmatch(str(key))
    if not match:
        raise UserError(f"{where}: an id has the form TASK-LEVEL@VERSION, e.g. sr-x2@1.")
    reader.check_keys(where, entry, {"title", "task", "level", "degradation", "color", "seed",
                                     "metric", "source"}, {"gray", "borrows"})
    entry = {**entry, "degradation": degradations.complete(
        entry["degradation"], str(entry["task"]), str(entry["level"]))}
    if match["name"] != f"{entry['task']}-{entry['level']}":
        raise UserError(f"{where}: the id must begin with {entry['task']}-{entry['level']}, "
                        "its task and level.")
    reader.check_keys(f"{where}: metric", entry["metric"],
                      {"color", "y_rounded", "crop", "ssim"}, {"gray_files"})
    metric, gray = Scoring(**entry["metric"]), entry.get("gray", GRAY_SOURCES[0])
    for value, valid, name in ((entry["color"], ("rgb", "gray"), "color"),
                               (gray, GRAY_SOURCES, "gray"),
                               (metric.color, METRIC_COLORS, "metric color"),
                               (metric.gray_files, GRAY_FILES, "metric gray_files"),
                               (metric.ssim, SSIM_VARIANTS, "ssim variant")):
        if value not in valid:
            raise unknown(name, value, valid, where)
    if not (_whole(metric.crop) and metric.crop >= 0):
        raise UserError(f"{where}: metric.crop is {metric.crop!r}; it is a border in pixels, >= 0.")
    if not isinstance(metric.y_rounded, bool):
        raise UserError(f"{where}: y_rounded is {metric.y_rounded!r}; valid: true, false.")
    if (metric.color == "gray") != (entry["color"] == "gray"):
        raise UserError(f"{where}: metric color {metric.color!r} does not fit color "
                        f"{entry['color']!r}: gray images are scored as gray, others as y or rgb.")
    if metric.gray_files != GRAY_FILES[0] and metric.color != "y":
        raise UserError(f"{where}: metric gray_files is {metric.gray_files!r}, but only metric "
                        f"color y treats gray files differently, not {metric.color!r}. Omit it.")
    if gray != GRAY_SOURCES[0] and entry["color"] != "gray":
        raise UserError(f"{where}: gray is {gray!r}, but only color gray converts "
                        f"colour sources to gray, not {entry['color']!r}. Omit it.")
    degradations.check(where, entry["degradation"])
    kinds = degradations.kinds(entry["degradation"])
    if "mosaic" in kinds and entry["color"] != "rgb":
        raise UserError(f"{where}: color is {entry['color']!r}; a mosaic is of colours: rgb.")
    if metric.ssim == "gaussian11_3d" and metric.color != "rgb":
        raise UserError(f"{where}: ssim gaussian11_3d runs over the three colours; it needs "
                        f"metric color rgb, not {metric.color!r}.")
    random = bool(set(kinds) & set(degradations.RANDOM))
    if not (_whole(entry["seed"]) and 0 <= entry["seed"] < 2**32 if random
            else entry["seed"] is None):
        raise UserError(f"{where}: seed is {entry['seed']!r}; valid for "
                        f"{', '.join(kinds)}: "
                        f"{'a whole number from 0' if random else 'null, nothing is random'}.")
    for field in ("title", "source", "borrows"):
        if not isinstance(entry.get(field, ""), str):
            raise UserError(f"{where}: {field} is {entry[field]!r}; valid: a text.")
    if not forms.line(entry["title"]):
        raise UserError(f"{where}: title is {entry['title']!r}; valid: one line of text.")
    return Protocol(id=key, **{**entry, "metric": metric})


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
