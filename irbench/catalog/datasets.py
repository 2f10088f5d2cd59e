"""Entries of the dataset catalog: what a set is and where its files are.

Reads   ``catalog/datasets.yaml`` and users' own catalogs of the same form.
Writes  nothing.

An entry gives the place of its files in one of four ways:
``manifest``  a CSV file beside the catalog: URL, sha256 and size of every file;
``archive``   addresses of zip or tar files, unpacked below ``data_root``;
``manual``    a folder below ``data_root`` that the user fills or links, for sets that are behind a
              form or a service that programs may not use;
``local``     a folder of the user's own, anywhere.

Try: ``irbench info gopro``
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING

from irbench.catalog import blocks, patterns, reader
from irbench.catalog.archives import Archive, parse_archives
from irbench.catalog.blocks import Blocks
from irbench.catalog.manifest import NAME, UNFIT, read_manifest
from irbench.core import forms, metrics
from irbench.core.errors import UserError, unknown
from irbench.core.files import expanded

if TYPE_CHECKING:
    from irbench.catalog.protocols import Protocol

USES = ("test", "train", "weights")
TASKS = ("sr", "denoise_gray", "denoise_color", "jpeg_gray", "jpeg_color", "demosaic", "deblur",
         "derain", "lowlight", "weather", "denoise_real", "dehaze")
KINDS = ("manifest", "archive", "manual", "local")
WILDCARD = re.compile(r"[*?\[]")    # in a glob pattern
PATHS = ("catalog", "manifest", "folder", "root")    # fields of an entry
REQUIRED = {"title", "use"}
OPTIONAL = {"tasks", "source", "terms", "notes", "match", "differs", "target_crop", "pixels",
            *KINDS}
KEYS = {"local": {"folder", "pattern", "hr", "input", "leave_out", "list", "boxes"},
        "manual": {"folder", "hr", "input", "leave_out", "list", "count", "get", "boxes"},
        "archive": {"files", "hr", "input", "leave_out", "list", "count"}}
FORMS = {"local": "{folder: path, pattern: '*.png'}, or with hr and input for pairs, or with input "
                  "alone for images without targets",
         "manual": "{folder: name, hr: 'target/*', input: 'input/*', count: 100, get: how to "
                   "get it}",
         "archive": "{files: [{url: https://..., sha256: null, bytes: null}], hr: '**/*.png', "
                    "count: 100}"}


@dataclass(frozen=True)
class DatasetEntry:
    """One entry of a catalog: either ``manifest`` or ``folder`` is set.

    Attributes:
        name: its name in configs and files.
        title: its name in tables.
        use: test, train or weights.
        catalog: the file that defines it.
        tasks: the tasks that the set is customarily used for.
        manifest: the CSV file that lists its files.
        folder: the folder of its files; a relative path lies below ``root``.
        hr: a glob pattern below ``folder`` for the clean images; None: all images directly in it.
        input: a glob pattern for the degraded images of pairs; None: the set has no pairs. With
            ``input`` and without ``hr`` it is a set without targets (``targetless``).
        leave_out: glob patterns for images in the same folders that do not belong to the set; an
            image that no pattern names makes the set incomplete.
        list: a text file below ``folder`` that names the images to take, one on a line: inputs of
            pairs, or images; None: all.
        target_crop: pixels that are cut from each side of the clean images of pairs.
        match: role to the part of a name (a regular expression) that is ignored when the names
            of a pair are compared.
        count: how many images (of a paired set: pairs) it must have; None: not known.
        get: how a user gets the set, if no program can fetch it.
        archives: the archives that are unpacked to ``folder``.
        blocks: the MATLAB files whose images are unpacked to ``folder``; None: there are none.
        root: the folder of all data (``data_root``).
        differs: metric to how far a mean may be from the published one because the files are not
            quite those of the papers, with the ``reason``; {} if they are the same.
        pixels: of its images (of pairs: the inputs): ``all`` together, and of the ``largest``; {}
            if that is not known before the files are here.
    """

    name: str
    title: str
    use: str
    catalog: Path
    tasks: tuple[str, ...] = ()
    manifest: Path | None = None
    folder: Path | None = None
    hr: str | None = None
    input: str | None = None
    leave_out: tuple[str, ...] = ()
    list: str | None = None
    match: Mapping[str, str] = field(default_factory=dict, hash=False)
    target_crop: int = 0
    count: int | None = None
    get: str = ""
    archives: tuple[Archive, ...] = ()
    blocks: Blocks | None = None
    source: str = ""
    terms: str = ""
    notes: str = ""
    root: Path = Path("data")
    differs: Mapping[str, float | str] = field(default_factory=dict, hash=False)
    pixels: Mapping[str, int] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        """Return the name with the place of its definition, for messages."""
        return f"dataset {self.name!r} ({self.catalog})"

    def command(self, words: str) -> str:
        """Return ``irbench data ...`` on this set; only a config names the catalog of a user."""
        words = f"irbench data {words.replace('NAME', self.name)}"
        return words if self.catalog.parent == reader.BUILTIN else f"{words} --config CONFIG"

    @property
    def kind(self) -> str:
        """One of ``KINDS``."""
        if self.manifest is not None:
            return "manifest"
        if self.archives:
            return "archive"
        return "manual" if self.get else "local"

    @property
    def frozen(self) -> bool:
        """Whether its files are pinned: listed and hashed at the first check, then compared."""
        return self.kind in ("archive", "manual")

    @property
    def home(self) -> Path:
        """The folder of its files; for sets without a manifest."""
        return self.root / self.folder

    @functools.cached_property
    def paired(self) -> bool:
        """Whether it has degraded images (role ``input``), each with a clean one.

        Raises UserError if its manifest cannot be read.
        """
        if self.manifest is None:
            return self.input is not None
        return any(row.role == "input" for row in read_manifest(self.manifest))

    @property
    def targetless(self) -> bool:
        """Whether it has degraded images without clean ones: real photographs to restore."""
        return self.input is not None and self.hr is None

    def definition(self) -> dict:
        """The fields that decide which files belong to a set without manifest, as plain data."""
        return {"hr": self.hr, "input": self.input, "match": dict(self.match), "count": self.count,
                **({"list": self.list} if self.list else {})}

    def as_dict(self) -> dict:
        """Return all fields as plain data; paths with forward slashes."""
        plain = {one.name: getattr(self, one.name) for one in fields(self)}
        plain |= {name: plain[name] and plain[name].as_posix() for name in PATHS}
        return plain | {"tasks": list(self.tasks), "match": dict(self.match),
                        "leave_out": list(self.leave_out),
                        "differs": dict(self.differs), "pixels": dict(self.pixels),
                        "blocks": self.blocks and self.blocks.as_dict(),
                        "archives": [asdict(archive) for archive in self.archives]}

    @classmethod
    def from_dict(cls, given: dict) -> DatasetEntry:
        """Return the entry that ``as_dict`` gave, unchecked. Raises UserError for an unknown key.
        """
        where = f"dataset {given.get('name', '')}".strip()
        paths = {name: given[name] and Path(given[name]) for name in PATHS}
        return forms.make(cls, {
            **given, **paths, "tasks": tuple(given["tasks"]),
            "blocks": given.get("blocks") and Blocks.from_dict(given["blocks"]),
            "leave_out": tuple(given["leave_out"]), "archives": tuple(
                forms.make(Archive, archive, where) for archive in given["archives"])}, where)


# -- one entry ---------------------------------------------------------------------------------

def parse(path: Path, name: object, fields: object, root: Path,
          known_tasks: Collection[str] = TASKS) -> DatasetEntry:
    """Turn one item of a catalog's section ``datasets:`` into an entry.

    Args:
        path: the catalog file; paths in it are relative to its folder.
        name: the item's key.
        fields: the item's value.
        root: the folder of all data.
        known_tasks: the tasks that it may be for.

    Raises:
        UserError: an invalid item; the message states what would be valid.
    """
    where = f"{path}: dataset {name!r}"
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise UserError(f"{where}: not a valid name; it is used as a folder's name. Valid: "
                        "lower-case letters, digits and _ . -, beginning with a letter or digit, "
                        "at most 100 of them, in quotes if it is a number.")
    if not isinstance(fields, dict):
        raise UserError(f"{where}: valid is a mapping with {', '.join(sorted(REQUIRED))}, ...")
    for key in fields:
        if key not in REQUIRED | OPTIONAL:
            raise unknown("key", key, REQUIRED | OPTIONAL, where)
    if missing := REQUIRED - set(fields):
        raise UserError(f"{where}: missing {', '.join(sorted(missing))}. Add it.")
    kinds = [kind for kind in KINDS if kind in fields]
    if len(kinds) != 1:
        raise UserError(f"{where}: needs either 'manifest' (a CSV file) or 'local' (a folder) or "
                        "'manual' (a folder below data_root) or 'archive' (addresses of zip or "
                        f"tar files); found {' and '.join(kinds) or 'none of them'}.")
    if fields["use"] not in USES:
        raise unknown("use", fields["use"], USES, where)
    tasks = fields.get("tasks") or []
    if not isinstance(tasks, list):
        raise UserError(f"{where}: tasks: valid is a list, such as [sr, jpeg_gray].")
    for task in tasks:
        if task not in known_tasks:
            raise unknown("task", task, known_tasks, where)
    if isinstance(fields["title"], str) and not forms.line(fields["title"]):
        raise UserError(f"{where}: title: {fields['title']!r}: valid is one line of text.")
    texts = {key: _text(where, key, fields.get(key))
             for key in ("title", "source", "terms", "notes")}
    entry = DatasetEntry(
        name=name, use=fields["use"], catalog=path, tasks=tuple(tasks), root=root,
        match=_match(where, fields.get("match")),
        differs=_differs(f"{where}: differs", fields.get("differs")), **texts,
        pixels=_pixels(f"{where}: pixels", fields.get("pixels")),
        target_crop=_target_crop(where, fields.get("target_crop", 0)),
        **_files_of(path, where, name, kinds[0], fields[kinds[0]]))
    if entry.targetless and entry.use != "test":
        raise UserError(f"{where}: 'input' without 'hr' is a set without targets, which can only "
                        f"be used for tests, not for {entry.use}. Give 'hr', or use: test.")
    if fields.get("match") and not entry.manifest and not entry.input:
        raise UserError(f"{where}: match: only a set with 'input:' images has pairs. Add 'input:' "
                        "or remove 'match'.")
    if entry.target_crop and not entry.manifest and not entry.input:
        raise UserError(f"{where}: target_crop: only a set with 'input:' images has targets that "
                        "are larger than their inputs. Add 'input:' or remove 'target_crop'.")
    return entry


def _target_crop(where: str, value: object) -> int:
    if type(value) is not int or not 0 <= value <= 1000:
        raise UserError(f"{where}: target_crop: {value!r} is not valid. Valid: how many pixels are "
                        "cut from each side of the targets, 0 to 1000.")
    return value


def _pixels(where: str, value: object) -> dict[str, int]:
    if value is None:
        return {}
    if not isinstance(value, dict) or set(value) != {"all", "largest"} or not all(
            forms.count(one) for one in value.values()) or not 0 < value["largest"] <= value["all"]:
        raise UserError(f"{where}: valid is {{all: 567456, largest: 262144}}, the pixels of all "
                        "images together and of the largest.")
    return dict(value)


def _text(where: str, key: str, value: object) -> str:
    text = value or ""
    if not isinstance(text, str):
        raise UserError(f"{where}: {key}: valid is a text; put {text!r} in quotes.")
    return text


def _match(where: str, value: object) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UserError(f"{where}: match: valid is {{input: REGEX, hr: REGEX}}, the part of a name "
                        "that is ignored when the names of a pair are compared.")
    for role, pattern in value.items():
        if role not in ("input", "hr"):
            raise unknown("role", role, ("input", "hr"), f"{where}: match")
        if why := patterns.problem(pattern):
            raise UserError(f"{where}: match: {role}: {pattern!r} is {why}.")
    return dict(value)


def _differs(where: str, value: object) -> dict[str, float | str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not isinstance(value.get("reason"), str) or len(value) < 2:
        raise UserError(f"{where}: valid is {{psnr: 0.006, reason: why}}, with a number for one "
                        "metric or more.")
    for name, most in value.items():
        if name == "reason":
            continue
        metrics.get(name, where)
        if isinstance(most, bool) or not isinstance(most, int | float) or not 0 < most < math.inf:
            raise UserError(f"{where}: {name} is {most!r}; valid: a number above 0.")
    return dict(value)


def _files_of(path: Path, where: str, name: str, kind: str, value: object) -> dict:
    """Return the fields of an entry that give the place of its files."""
    if kind == "manifest":
        return {"manifest": _relative(path, f"{where}: manifest", value)}
    if not isinstance(value, dict):
        raise UserError(f"{where}: {kind}: valid is {FORMS[kind]}.")
    for key in value:
        if key not in KEYS[kind]:
            raise unknown("key", key, KEYS[kind], f"{where}: {kind}")
    where = f"{where}: {kind}"
    needed = {"local": {"folder"}, "manual": {"folder", "get"}, "archive": {"files"}}[kind]
    if missing := needed - {key for key, given in value.items() if given}:
        raise UserError(f"{where}: missing {', '.join(sorted(missing))}. Valid is {FORMS[kind]}.")
    if "pattern" in value and "hr" in value:
        raise UserError(f"{where}: 'pattern' and 'hr' mean the same; give one of them.")
    hr = _pattern(where, "pattern" if "pattern" in value else "hr", value)
    found = {"hr": hr, "input": _pattern(where, "input", value), "count": _count(where, value),
             "leave_out": _leave_out(where, value.get("leave_out")), "list": _list(where, value)}
    boxes = _pattern(where, "boxes", value)
    packed = (found["input"] or "").lower().endswith(blocks.SUFFIX)
    if found["input"] and not hr and kind != "local" and not packed:
        raise UserError(f"{where}: 'input' needs 'hr' beside it: which files are the targets. (A "
                        "set without targets is 'local'.)")
    if kind == "local":
        folder = _relative(path, f"{where}: folder", value["folder"])
        return blocks.split(where, name, found | {"folder": folder}, boxes)
    if kind == "archive":
        return found | {"folder": Path(name), "archives": parse_archives(where, value["files"])}
    folder = value["folder"]
    if not isinstance(folder, str) or not re.fullmatch(r"[^/\\.][^\\]*", folder) or (
            ".." in folder.split("/")) or UNFIT.search(folder):
        raise UserError(f"{where}: folder: {folder!r} is not valid. Valid: a path below data_root, "
                        "such as gopro.")
    return blocks.split(where, name, found | {
        "folder": Path(folder), "get": _text(where, "get", value["get"])}, boxes)


def _relative(path: Path, where: str, value: object) -> Path:
    if not isinstance(value, str) or not value or UNFIT.search(value):
        raise UserError(f"{where}: valid is a path, relative to the catalog file or absolute, "
                        "without control characters.")
    return path.parent / expanded(value)


def _leave_out(where: str, value: object) -> tuple[str, ...]:
    patterns = [] if value is None else value if isinstance(value, list) else [value]
    return tuple(_pattern(where, "leave_out", {"leave_out": one or ""}) for one in patterns)


def _list(where: str, value: dict) -> str | None:
    name = _pattern(where, "list", value)
    if name and WILDCARD.search(name):
        raise UserError(f"{where}: list: {name!r} is not valid. Valid: the path of one text file "
                        "below the folder, such as test.txt.")
    return name


def _pattern(where: str, key: str, value: dict) -> str | None:
    pattern = value.get(key)
    if pattern is not None and (not isinstance(pattern, str) or pattern.startswith("/")
                                or ".." in pattern.split("/") or not pattern
                                or UNFIT.search(pattern)):
        raise UserError(f"{where}: {key}: {pattern!r} is not valid. Valid: such as "
                        "'*.png' or '**/*.png', inside the folder.")
    return pattern


def _count(where: str, value: dict) -> int | None:
    count = value.get("count")
    if count is not None and (type(count) is not int or count < 1):
        raise UserError(f"{where}: count: {count!r} is not valid. Valid: how many images (or "
                        "pairs) the set has, or null if that is not known.")
    return count


def check_pairs(entry: DatasetEntry, protocol: Protocol, known: Mapping[str, DatasetEntry]) -> None:
    """Refuse a set without pairs for a paired protocol, and a paired set for any other protocol.

    Raises UserError, which names the sets in the catalog ``known`` that fit the protocol.
    """
    paired = entry.paired
    if paired == protocol.paired and not (paired and entry.tasks
                                          and protocol.task not in entry.tasks):
        return
    fitting = sorted(e.name for e in known.values()
                     if e.paired == protocol.paired and protocol.task in e.tasks)
    valid = f"Sets for it: {', '.join(fitting) or 'none in the catalog'}."
    if paired == protocol.paired:
        raise UserError(f"{protocol.id} is of task {protocol.task}; the pairs of "
                        f"{entry.name!r} are for {', '.join(entry.tasks)}. {valid}")
    if protocol.paired:
        raise UserError(f"{protocol.id} scores real pairs, and {entry.name!r} has clean "
                        f"images only. {valid}")
    raise UserError(f"{protocol.id} makes its inputs from clean images, and "
                    f"{entry.name!r} has its own degraded images: the two are never mixed. "
                    f"{valid}")
