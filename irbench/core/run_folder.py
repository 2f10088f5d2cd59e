"""The folder of a run, ``results/RUN``: where each file lies, and the reading of its records.

All other modules get the path of a run's file from here; a test checks that none builds one itself.
A run folder holds::

    config.json  plan.json  .lock            what the run asks for; the workflow's lock
    .report                                  the digests of the report's inputs and files
    data/DATASET.json                        the records, one a job
    training/SCOPE/MODEL.json                beside it .csv (the curve) and .state
    cells/PROTOCOL/DATASET/MODEL.json        beside it .partial, the images done so far; those of a
                                             part: .partial-2-of-4, its lock: .lock-2-of-4
    profiles/PROTOCOL/MODEL.json
    benches/BENCH.json
    leaks.json                               beside a record, while its job runs: .lock
    checkpoints/SCOPE/MODEL.safetensors      the weights, and .best.safetensors
    images/PROTOCOL/DATASET/MODEL/IMAGE.png  beside the models' _input and _target
    tensorboard/SCOPE/MODEL/
    logs/                                    in the same places as the records
    summary.csv  tables/  figures/  report.html

Try: ``python -c "from irbench.core.run_folder import RunFolder;
print(*RunFolder('results/photos').keys('cell'))"``
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from irbench.core import files, locks, records
from irbench.core.errors import UserError

RESULTS = Path("results")
# names that no run of a config may have: the folder of ``irbench anchors``; results/README.md, on
# disks that do not tell upper from lower case
RESERVED = ("anchors", "readme.md")
INPUT, TARGET = "_input", "_target"     # used in place of a model's name in images/
# kind of record -> its place in a run folder, without suffix; the parts of its key are in braces
PLACES = {
    "data": "data/{dataset}",
    "training": "training/{protocol}/{model}",
    "cell": "cells/{protocol}/{dataset}/{model}",
    "profile": "profiles/{protocol}/{model}",
    "bench": "benches/{bench}",
    "leaks": "leaks",
}
FORMATS = ("png", "pdf", "svg")         # files of a plot; config.schema.json names them, too
RECORD, STATE, CURVE, LOCK, PARTIAL = ".json", ".state", ".csv", ".lock", ".partial"
BEST = ".best"      # behind a model's name: the weights of its best validation
# of a part of a cell: its log, and the note that Snakemake keeps until the cell is done
PART = PLACES["cell"] + PARTIAL + "-{part}-of-{parts}"
NOTE = ".note"
NUMBERS = r"-\d+-of-\d+"


def place(kind: str, key: Mapping[str, str]) -> str:
    """Return where the record of a job lies, relative to the run folder, with forward slashes."""
    return PLACES[kind].format_map(key) + RECORD


def kind_of(place: str) -> str:
    """Return the kind of the record at a path that ``place`` returned."""
    first = place.removesuffix(RECORD).partition("/")[0]
    return next(kind for kind, pattern in PLACES.items() if pattern.partition("/")[0] == first)


def parts(kind: str) -> tuple[str, ...]:
    """Return the key parts in the path of a kind of record; () if a run has only one."""
    return tuple(re.findall(r"\{(\w+)\}", PLACES[kind]))


def lock_of(record: Path) -> Path:
    """Return the file that is locked while a process does the job of a record."""
    return record.with_name(record.name.removesuffix(RECORD) + LOCK)


def partial_of(record: Path, part: object = "") -> Path:
    """Return the file of the images that an unfinished cell has done, or a part of it, ``2-of-4``.
    """
    return _beside(record, PARTIAL, part)


def part_lock_of(record: Path, part: object) -> Path:
    """Return the file that is locked while a process does a part of a cell."""
    return _beside(record, LOCK, part)


def partials_of(record: Path) -> list[Path]:
    """Return the files of images of an unfinished cell that are here: its own, then the parts'."""
    return _all_beside(record, PARTIAL)


def part_locks_of(record: Path) -> list[Path]:
    """Return the lock files of a cell's parts that are here."""
    return [path for path in _all_beside(record, LOCK) if path != lock_of(record)]


def worked_at(records: Iterable[Path]) -> set[Path]:
    """Return those records whose jobs, or parts of them, a process does now.

    Each folder is listed once.
    """
    found, left = set(), {}
    for record in records:
        if record.parent not in left:
            left[record.parent] = [path for path in record.parent.glob("*") if LOCK in path.name]
        own = lock_of(record).name
        if any((path.name == own or path.name.startswith(f"{own}-")) and locks.held(path)
               for path in left[record.parent]):
            found.add(record)
    return found


def _beside(record: Path, suffix: str, part: object = "") -> Path:
    return record.with_name(
        record.name.removesuffix(RECORD) + suffix + (f"-{part}" if part else ""))


def _all_beside(record: Path, suffix: str) -> list[Path]:
    name = re.escape(_beside(record, suffix).name)
    return [path for path in sorted(record.parent.glob("*"))
            if re.fullmatch(rf"{name}({NUMBERS})?", path.name)]


def previous(state: Path) -> Path:
    """Return the file of a training's previous saved state."""
    return state.with_name(f"{state.name}.previous")


def aside(state: Path, fingerprint: str) -> Path:
    """Return where a training's state is moved when another training takes its place."""
    return state.with_name(f"{state.name}.{fingerprint[:8]}")


@dataclass(frozen=True)
class Stored:
    """The record stored at a place, or the reason why it cannot be used.

    Attributes:
        key: the parts of the key that determine the place.
        place: its file, relative to the run folder.
        record: the result of ``records.read``; None if the record cannot be used.
        problem: why it cannot be used, beginning with the place; "" if it can.
        missing: whether the file does not exist.
    """

    key: dict[str, str]
    place: str
    record: dict | None
    problem: str = ""
    missing: bool = False


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run; neither the folder nor its files need to exist."""

    path: Path

    def __post_init__(self) -> None:
        """Accept the path as text, too."""
        object.__setattr__(self, "path", Path(self.path))

    @classmethod
    def of_run(cls, name: str) -> RunFolder:
        """Return the folder of a run by its name, below the current folder."""
        return cls(RESULTS / name)

    @classmethod
    def working_folder(cls, config: Path) -> Path | None:
        """Return the folder in which a run was made, from the path of the config that it keeps.

        None if the path is not that of a run's config.
        """
        whole = Path(config).absolute()
        kept = whole == cls(whole.parent).config and whole.parent.parent.name == RESULTS.name
        return whole.parents[2] if kept else None

    @classmethod
    def of_record(cls, path: Path, kind: str) -> RunFolder:
        """Return the folder in which a record of a kind lies."""
        return cls(Path(path).parents[PLACES[kind].count("/")])

    # -- files of the run --------------------------------------------------------------------------

    config = property(lambda self: self.path / "config.json", doc="What the run was asked for.")
    plan = property(lambda self: self.path / "plan.json", doc="Its jobs.")
    lock = property(lambda self: self.path / ".lock", doc="Held by the workflow at work in it.")
    report = property(lambda self: self.path / "report.html", doc="The page.")
    report_note = property(lambda self: self.path / ".report",
                           doc="Holds the digests of what the report was made from, and of its "
                               "files; written after them.")
    anchors_note = property(lambda self: self.path / ".anchors",
                            doc="Written after the tables of the run of anchors.")
    summary = property(lambda self: self.path / "summary.csv", doc="Every value of the report.")
    tables = property(lambda self: self.path / "tables", doc="The folder of tables.")
    figures = property(lambda self: self.path / "figures", doc="The folder of plots.")

    def log(self, step: str) -> str:
        """Return the log of a step, or the pattern of the logs of a kind, with {key parts}.

        A ``part`` of a cell has a log of its own.
        """
        return str(self.path / "logs" / f"{(PLACES | {'part': PART}).get(step, step)}.log")

    def anchors(self, suffix: str) -> Path:
        """Return a table of the run of anchors, or its log."""
        return self.path / f"anchors.{suffix}"

    def image(self, protocol: str, dataset: str, model: str, name: str) -> Path:
        """Return the path of a kept image; ``model`` may also be ``INPUT`` or ``TARGET``."""
        return self.path / "images" / protocol / dataset / model / f"{name}.png"

    def files(self) -> tuple[Path, ...]:
        """Return the files that lie in the run folder itself, but no records."""
        return self.config, self.plan, self.report, self.report_note, self.summary

    def report_files(self) -> list[Path]:
        """Return the files of the report that are here: page, summary, tables and plots."""
        found = [self.report, self.summary, *self.tables.glob("*"), *self.figures.glob("*")]
        return sorted(path for path in found if path.is_file() and not path.name.startswith("."))

    # -- files of a training -----------------------------------------------------------------------

    def weights(self, scope: str, model: str, *, best: bool = False) -> Path:
        """Return the last weights of a training, or those of its best validation."""
        return self.path / "checkpoints" / scope / f"{model}{BEST * best}.safetensors"

    def all_weights(self) -> list[Path]:
        """Return all files of weights, sorted; their folders are their scopes."""
        return [path for path in sorted(self.path.glob("checkpoints/*/*.safetensors"))
                if not path.name.startswith(".")]

    def board(self, scope: str, model: str) -> Path:
        """Return the folder of a training's TensorBoard files."""
        return self.path / "tensorboard" / scope / model

    def beside(self, key: Mapping[str, str], suffix: str) -> Path:
        """Return a file beside the record of a training: ``STATE`` or ``CURVE``."""
        return self.path / f"{PLACES['training'].format_map(key)}{suffix}"

    # -- cells in work -----------------------------------------------------------------------------

    part_note = property(lambda self: str(self.path / (PART + NOTE)),
                         doc="The pattern of the notes of parts of cells, with {key parts}.")

    def partials(self) -> list[tuple[dict[str, str], Path]]:
        """Return the files of images of unfinished cells, and of their parts, with the cell's key.
        """
        return self._in_work(rf"{re.escape(PARTIAL)}({NUMBERS})?")

    def part_notes(self) -> list[tuple[dict[str, str], Path]]:
        """Return the notes of parts of cells that are here, with the cell's key."""
        return self._in_work(re.escape(PARTIAL) + NUMBERS + re.escape(NOTE))

    def part_locks(self) -> list[Path]:
        """Return the lock files of parts of cells that are here."""
        return [path for _, path in self._in_work(re.escape(LOCK) + NUMBERS)]

    def _in_work(self, suffix: str) -> list[tuple[dict[str, str], Path]]:
        found = []
        for path in sorted(self.path.glob(re.sub(r"\{\w+\}", "*", PLACES["cell"]))):
            if match := re.fullmatch(rf"(.+){suffix}", path.name):
                names = (*path.relative_to(self.path).parts[1:-1], match[1])
                found.append((dict(zip(parts("cell"), names, strict=True)), path))
        return found

    # -- records -----------------------------------------------------------------------------------

    def record(self, kind: str, key: Mapping[str, str]) -> Path:
        """Return the path of a job's record."""
        return self.path / place(kind, key)

    def pattern(self, kind: str) -> str:
        """Return the path pattern of the records of a kind, with {key parts}."""
        return str(self.path / (PLACES[kind] + RECORD))

    def has(self, kind: str) -> bool:
        """Whether there is a folder for records of a kind."""
        return (self.path / PLACES[kind].partition("/")[0]).is_dir()

    def keys(self, kind: str, suffix: str = RECORD) -> list[dict[str, str]]:
        """Return the keys of all records of a kind, taken from their paths, sorted by path.

        With another suffix, the keys of such files beside the records. No file is read.
        """
        found = sorted(self.path.glob(re.sub(r"\{\w+\}", "*", PLACES[kind]) + suffix))
        names, depth = parts(kind), len(self.path.parts) + 1
        return [dict(zip(names, [*path.parts[depth:-1], path.name.removesuffix(suffix)],
                         strict=False))
                for path in found if not path.name.startswith(".")]     # "." is still being written

    def load(self, kind: str, key: Mapping[str, str]) -> Stored:
        """Return the record of a job, or why it cannot be used, without raising an error."""
        wanted, where = {name: key[name] for name in parts(kind)}, place(kind, key)
        path = self.path / where
        try:
            record = records.read(path, where)
        except UserError as error:
            return Stored(wanted, where, None, str(error), not path.exists())
        if record["kind"] != kind or (wanted and record["key"] != wanted):
            found, other = " / ".join(record["key"].values()), " / ".join(wanted.values())
            return Stored(wanted, where, None, f"{where}: the record is of {record['kind']} "
                          f"{found}, not of {kind} {other}. To replace the file, run again.")
        if "limit" in record["spec"]:
            return Stored(wanted, where, None, f"{where}: the record is of the first images of the "
                          "set only (--limit). To replace the file, run again.")
        return Stored(wanted, where, record)

    def each(self, kind: str) -> Iterator[Stored]:
        """Yield every record of a kind, or why it cannot be used, sorted by path."""
        for key in self.keys(kind):
            yield self.load(kind, key)

    def write(self, record: dict) -> Path:
        """Write a record to its place atomically, and return its path."""
        path = self.record(record["kind"], record["key"])
        files.write_json(path, record)
        return path


def runs(results: Path = RESULTS) -> list[RunFolder]:
    """Return the folders below ``results``, sorted by name."""
    return [RunFolder(path) for path in sorted(Path(results).glob("*")) if path.is_dir()]
