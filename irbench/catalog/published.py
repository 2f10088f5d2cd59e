"""Figures printed in papers, read from ``catalog/published.csv``; none is measured by irbench.

A user's catalog may hold more of them, in a section ``published:``: a list of rows with the same
fields, of which ``params_m`` and ``versions`` may be omitted.

The printed text is kept (``38.24``, ``.9614``), because the number of decimals matters.
A row of the file is one figure: source, task, level, dataset, method, params_m, metric, value,
versions. ``versions`` names the versions of the protocol TASK-LEVEL under which the figure holds,
"1 2" for two; it is empty if that is not known.
``sr_light`` is the lightweight class of ``sr`` and shares its tables. A ``*`` at the end of a
method marks one model trained for all levels.

Try: ``python -c "from irbench.catalog import published;
print(published.methods(published.load()))"``
"""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from irbench.catalog import protocols, reader
from irbench.catalog.manifest import UNFIT
from irbench.core import forms, metrics
from irbench.core.errors import UserError, unknown

CATALOG = Path(__file__).with_name("published.csv")
PRINTED = re.compile(r"-?([0-9]+\.?[0-9]*|\.[0-9]+)")      # a number as papers print it
FIELDS = ("source", "task", "level", "dataset", "method", "params_m", "metric", "value",
          "versions")
# a class of methods that papers tabulate separately, but which uses the same protocol
TABLE_OF = {"sr_light": "sr"}
SEMANIR = "SemanIR repo figs"
SOURCES = {
    SEMANIR: "printed in the result tables (pictures) of SemanIR's public repository "
             "(arXiv 2405.20008)",
    "Compacter tables (reading notes)": "printed in the tables of the Compacter paper "
                                        "(ACM MM 2024), from reading notes",
    "SMFANet repo figs (tables 1 and 2)": "printed in the result tables (pictures) of SMFANet's "
                                          "repository (ECCV 2024), and for IMDN at x2 of its own",
    "SR literature (SRCNN/VDSR tables)": "bicubic rows printed in the SRCNN and VDSR papers",
}
ONE_MODEL = "one model for all levels (the asterisk is the source's)"
RENAMED = "the source calls this method KGT, written SemanIR here"
SEMANIR_SSIM = ("the authors' toolkit computes SSIM with zero padding, which gives about 0.003 "
                "more than the valid region; not ranked among the other rows")
DEBLUR_SSIM = ("published deblurring SSIM is MATLAB's ssim on H x W x 3 (a 3-D kernel), which is "
               "higher than the SSIM measured here")
URBAN_JPEG_SSIM = ("the published SSIM of gray JPEG tests on Urban100 follows no fixed convention: "
                   "for the same JPEG images, whose PSNR agrees, it is from .008 less to .013 more "
                   "than the SSIM measured here")
KODAK_SIZE = ("published demosaicking figures on Kodak24 use the full 768x512 photographs, not the "
              "500x500 crops")


@dataclass(frozen=True)
class Figure:
    """One printed figure, as ``text``; ``params_m`` (millions) is "" if it is not printed.

    ``versions`` are the versions of the protocol under which it holds, () if that is not known.
    """

    source: str
    task: str
    level: str
    dataset: str
    method: str
    params_m: str
    metric: str
    text: str
    versions: tuple[int, ...] = ()

    def as_dict(self) -> dict:
        """Return the figure as plain data; ``versions`` as a list."""
        return {**asdict(self), "versions": list(self.versions)}

    @classmethod
    def from_dict(cls, given: dict) -> Figure:
        """Return the figure that ``as_dict`` gave. Raises UserError for an unknown key."""
        return forms.make(cls, {**given, "versions": tuple(given.get("versions") or ())},
                          "published figure")

    @property
    def protocol(self) -> str:
        """The protocol that the figure belongs to, without its version."""
        return f"{TABLE_OF.get(self.task, self.task)}-{self.level}"

    @property
    def value(self) -> float:
        """The figure as a number, in the unit of its metric."""
        return float(self.text)

    @property
    def shown(self) -> str:
        """The printed figure, with a leading zero where the source omits it."""
        return metrics.leading_zero(self.text)


@dataclass
class Method:
    """One published method of one source, as a row of a table."""

    method: str
    source: str
    task: str
    params_m: dict[str, str] = field(default_factory=dict)      # level -> millions, as printed
    figures: dict[tuple[str, str, str], Figure] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The method without the asterisk."""
        return self.method.removesuffix("*")

    @property
    def one_model(self) -> bool:
        """Whether one model serves all levels, which sources mark with an asterisk."""
        return self.method.endswith("*")


@functools.cache
def load(path: Path = CATALOG) -> tuple[Figure, ...]:
    """Read all published figures. Raises UserError for a broken file, which names the line."""
    try:
        with Path(path).open(newline="", encoding="utf-8") as handle:
            reader = csv.DictReader(handle)
            if tuple(reader.fieldnames or ()) != FIELDS:
                raise UserError(f"{path}: the columns are {reader.fieldnames}. "
                                f"Needed: {', '.join(FIELDS)}.")
            found = [_figure(f"{path}: line {reader.line_num}", row) for row in reader]
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}. It belongs to the package: "
                        "install irbench again.") from None
    seen: dict[tuple, int] = {}
    for number, f in enumerate(found, start=2):
        key = _key(f)
        if key in seen:
            raise UserError(f"{path}: line {number} repeats line {seen[key]} "
                            f"({', '.join(key)}). Keep one.")
        seen[key] = number
    return tuple(found)


def of_users(paths: Iterable[str | Path]) -> tuple[Figure, ...]:
    """Return the figures of the sections ``published:`` of users' files or folders.

    Raises:
        UserError: a row of another form, of a protocol or metric that does not exist, or one that
            repeats another row; the message names the file and the row.
    """
    paths = tuple(paths)
    found: list[Figure] = []
    seen = {}
    names = None
    for path in reader.files_of_users("published", paths):
        for number, row in enumerate(reader.listed(path, "published"), start=1):
            where = f"{path}: published row {number}"
            names = names or {protocols.name_of(one) for one in protocols.catalog(paths)}
            figure = _row(where, row)
            if figure.protocol not in names:
                raise unknown("protocol", figure.protocol, names, f"{where}: task and level")
            seen = seen or {_key(one): f"irbench's own {CATALOG.name}" for one in load()}
            if (key := _key(figure)) in seen:
                raise UserError(f"{where} repeats {seen[key]} ({', '.join(key)}). Keep one.")
            seen[key] = f"row {number} of {path}"
            found.append(figure)
    return tuple(found)


def _key(figure: Figure) -> tuple[str, ...]:
    return (figure.source, figure.task, figure.level, figure.dataset, figure.method,
            figure.metric)


def _row(where: str, row: object) -> Figure:
    """Return the figure of a row in a user's catalog."""
    if not isinstance(row, dict):
        raise UserError(f"{where}: valid is a mapping with {', '.join(FIELDS)}.")
    for name in row:
        if name not in FIELDS:
            raise unknown("field", name, FIELDS, where)
    if missing := [name for name in FIELDS[:-1] if name not in row and name != "params_m"]:
        raise UserError(f"{where}: missing {', '.join(missing)}. Add it.")
    versions = row.get("versions") or []
    if not isinstance(versions, list) or not all(type(one) is int for one in versions):
        raise UserError(f"{where}: versions is {versions!r}; valid is a list of versions of the "
                        "protocol, as [1, 2].")
    texts = {name: row.get(name, "") for name in FIELDS[:-1]}
    for name, text in texts.items():
        if not isinstance(text, str):
            why = ", which keeps its decimals as printed" if name == "value" else ""
            raise UserError(f"{where}: {name} is {text!r}; valid is a text in quotes{why}.")
        if UNFIT.search(text) or not (text or name == "params_m"):
            raise UserError(f"{where}: {name} is {text!r}; valid is one line of text.")
    return _figure(where, {**texts, "versions": " ".join(map(str, versions))})


def _figure(where: str, row: dict) -> Figure:
    if None in row or None in row.values():
        raise UserError(f"{where}: expected {len(FIELDS)} fields: {', '.join(FIELDS)}.")
    metric = metrics.get(row["metric"], where)
    if not PRINTED.fullmatch(row["value"]):
        raise UserError(f"{where}: value is {row['value']!r}; it is a decimal number.")
    if not metric.holds(float(row["value"])):
        low, high = metric.range
        raise UserError(f"{where}: value is {row['value']!r}, but {metric.title} lies between "
                        f"{low:g} and {high:g}. Give it in irbench's unit.")
    if row["params_m"] and (row["params_m"].startswith("-")
                            or not PRINTED.fullmatch(row["params_m"])):
        raise UserError(f"{where}: params_m is {row['params_m']!r}; it is a decimal number or "
                        "empty.")
    versions = row["versions"].split()
    if not all(re.fullmatch("[0-9]{1,9}", version) and int(version) for version in versions):
        raise UserError(f"{where}: versions is {row['versions']!r}; valid: versions of the "
                        f"protocol {row['task']}-{row['level']}, as 2, or 1 2 for both, or empty "
                        "if that is not known.")
    return Figure(*(row[name] for name in FIELDS[:-2]), text=row["value"],
                  versions=tuple(map(int, versions)))


def methods(figures: Iterable[Figure]) -> list[str]:
    """Return the method names in the order of the file, each once."""
    return list(dict.fromkeys(figure.method for figure in figures))


def methods_wanted(choice: str | Collection[str], figures: Iterable[Figure]) -> set[str]:
    """Resolve a config's choice: ``"all"``, ``"none"`` or a list of method names.

    A name without the asterisk also selects the method's one-model row. Raises UserError with
    near names for a method that no source prints.
    """
    known = methods(figures)
    if isinstance(choice, str):
        if choice not in ("all", "none"):
            raise unknown("choice of published figures", choice, ("all", "none"),
                          "published (or give a list of methods)")
        return set(known) if choice == "all" else set()
    by_lower: dict[str, set[str]] = {}
    for name in known:
        by_lower.setdefault(name.lower(), set()).add(name)
        by_lower.setdefault(name.lower().removesuffix("*"), set()).add(name)
    found: set[str] = set()
    for name in choice:
        if str(name).lower() not in by_lower:
            raise unknown("published method", name, known, "published")
        found |= by_lower[str(name).lower()]
    return found


def rows(task: str, columns: Collection[tuple[str, str]], choice: str | Collection[str] = "all",
         figures: Iterable[Figure] | None = None) -> list[Method]:
    """Return the published rows of a task that have a figure in some (level, dataset) column.

    Rows are in the order of the file. Methods of two sources, or of the lightweight class, get
    separate rows. Raises UserError as ``methods_wanted`` does.
    """
    figures = load() if figures is None else tuple(figures)
    names = methods_wanted(choice, figures)
    found: dict[tuple[str, str, str], Method] = {}
    for figure in figures:
        if (TABLE_OF.get(figure.task, figure.task) != task or figure.method not in names
                or (figure.level, figure.dataset) not in columns):
            continue
        row = found.setdefault((figure.source, figure.task, figure.method),
                               Method(figure.method, figure.source, figure.task))
        row.figures[figure.level, figure.dataset, figure.metric] = figure
        if figure.params_m:
            row.params_m[figure.level] = figure.params_m
    return list(found.values())


def notes(row: Method) -> list[str]:
    """Return the notes that a table must show for a published row, its source first."""
    return [SOURCES.get(row.source, f"source: {row.source}"), *remarks(row)]


def remarks(row: Method) -> list[str]:
    """Return the notes on the name of a published row: one model for all levels, another name."""
    renamed = row.source == SEMANIR and row.name.partition("-")[0] == "SemanIR"
    return [ONE_MODEL] * row.one_model + [RENAMED] * renamed


def other_version(figure: Figure, protocol: str) -> str:
    """Return why a figure does not belong to a protocol's column, "" if it does.

    Only like is compared with like: a figure belongs to the versions it names. One that names none
    belongs to a protocol that has a single version.

    Args:
        figure: the printed figure.
        protocol: the id of the column's protocol, of the figure's task and level.
    """
    version = protocol.rpartition("@")[2]
    if figure.versions:
        if version in map(str, figure.versions):
            return ""
        own = " and ".join(f"{figure.protocol}@{one}" for one in figure.versions)
        return f"printed under the convention of {own}, which {protocol} does not follow"
    if all(known == version for known in _versions().get(figure.protocol, ())):
        return ""
    return f"it is not known under which version of {figure.protocol} it was printed"


@functools.cache
def _versions() -> dict[str, tuple[str, ...]]:
    """Return the versions of each protocol of the catalog, by its id without the version."""
    found: dict[str, tuple[str, ...]] = {}
    for one in protocols.catalog():
        name, _, version = one.rpartition("@")
        found[name] = (*found.get(name, ()), version)
    return found


def caveat(figure: Figure, ssim: str | None = None) -> str:
    """Return why a figure cannot be compared with others of its column, "" if it can.

    Such a figure is shown with this note and is not ranked. ``ssim`` is the variant that the
    column's protocol measures, None if it is not known.
    """
    if figure.metric == "ssim":
        if figure.source == SEMANIR and figure.method.startswith("SemanIR"):
            return SEMANIR_SSIM
        if figure.task == "deblur" and ssim != "gaussian11_3d":
            return DEBLUR_SSIM
        if (figure.task, figure.dataset) == ("jpeg_gray", "urban100"):
            return URBAN_JPEG_SSIM
    if (figure.task, figure.dataset) == ("demosaic", "kodak24"):
        return KODAK_SIZE
    return ""
