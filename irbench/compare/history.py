"""Many runs in order of time: a series of every metric of every cell and profile, and its steps.

Reads the runs in a folder: its subfolders that are run folders, and its baseline files
(``irbench.compare.runs``). Writes nothing. A missing value is left out of its series; it never
counts as zero. Quality is compared across machines, because it hardly depends on them. Latency is
compared only for the same device, dtype, input size and threads, so a model may have several
latency series. A latency that other work disturbed is shown, but is part of no step.

Try: ``irbench history results``
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from statistics import median, quantiles

from irbench.compare import inputs, loading, runs, steps
from irbench.core import metrics
from irbench.core.errors import UserError
from irbench.core.run_folder import RunFolder
from irbench.present.text import TIMES

RUN_FOLDER = ("A run folder is what a run writes: results/RUN with the records of its cells in "
              "cells/. A baseline is the JSON file that `irbench baseline write` makes")


@dataclass(frozen=True)
class Quantity:
    """What is measured: its title, its unit, which direction is better and its least noise.

    ``better`` is 1 (higher), -1 (lower) or 0 (neither). ``floor`` is the noise of a machine, in
    the unit of the quantity; for latency it is a share of the value; None for exact counts.
    """

    title: str
    unit: str
    better: int
    floor: float | None


PROFILED = {
    "parameters": Quantity("Parameters", "count", 0, None),
    "macs": Quantity("MACs", "count", 0, None),
    "latency": Quantity("Latency, median", "ms", -1, 0.05),
}


def quantities() -> dict[str, Quantity]:
    """Return every quantity that has a history: first the metrics, then those of profiles."""
    quality = {name: Quantity(one.title, one.unit, one.sign, one.noise)
               for name, one in metrics.METRICS.items()}
    return quality | PROFILED


def quantity(name: str) -> Quantity:
    """Return a quantity by name: a metric, or something that profiles measure."""
    return quantities()[name]


@dataclass(frozen=True)
class DatedRun:
    """A run with its time, which is the time of its latest record (UTC)."""

    name: str                   # of the folder or file
    time: datetime.datetime
    commit: str                 # of irbench, short, with a + for changes that were not committed
    data: runs.RunData


@dataclass(frozen=True)
class SeriesPoint:
    """One value of one run. For latency: the median of the samples, with their quartiles."""

    run: str
    time: datetime.datetime
    commit: str
    value: float
    low: float | None = None
    high: float | None = None
    samples: int = 1
    busy: float = 0.0           # cores that other processes used meanwhile, 0 if negligible
    inputs: dict = field(default_factory=dict, repr=False)     # ``irbench.compare.inputs``


@dataclass(frozen=True)
class Series:
    """A metric of one model over the runs that have it, in order of time.

    ``dataset`` is "" for values from profiles. ``condition`` describes how the value was measured;
    "" where that does not matter.
    """

    protocol: str
    dataset: str
    model: str
    metric: str
    condition: str
    points: list[SeriesPoint]
    steps: list[steps.Step]

    @property
    def key(self) -> str:
        """PROTOCOL/DATASET/MODEL, or PROTOCOL/MODEL of a profile."""
        return "/".join(filter(None, (self.protocol, self.dataset, self.model)))

    @property
    def change(self) -> float | None:
        """Last value minus first value, in the unit of the metric.

        None for a single run, and if other work disturbed one of the two.
        """
        first, last = self.points[0], self.points[-1]
        return None if first is last or first.busy or last.busy else last.value - first.value

    def word(self, step: steps.Step) -> str:
        """Return whether a step is ``better`` or ``worse``, or only ``changed``.

        Counts only change; so does any value whose data or protocol changed at the step.
        """
        better = quantity(self.metric).better
        if not better or {"data", "protocol"} & set(self.causes(step)):
            return "changed"
        return "better" if step.size * better > 0 else "worse"

    def causes(self, step: steps.Step) -> list[str]:
        """Return the inputs (data, weights, code, ...) that differ across a step; [] if none does.

        Compares the last run before the step with the first run after it, of undisturbed ones.
        """
        before = next(p for p in reversed(self.points[:step.at]) if not p.busy).inputs
        after = self.points[step.at].inputs
        if not before or not after:
            return []
        found = [title for part, title in inputs.TITLES.items()
                 if any(inputs.different(before.get(part), after.get(part)))]
        # one digest covers both
        return found + ["code or libraries"] * (before.get("code") != after.get("code"))


@dataclass(frozen=True)
class History:
    """The runs of a folder in order of time, what was left out with the reason, and the series."""

    folder: Path
    runs: list[DatedRun]
    skipped: list[tuple[str, str]]
    series: list[Series]


def read(folder: Path, filters: dict[str, list[str]] | None = None) -> History:
    """Read all runs of a folder.

    Args:
        folder: holds run folders and baseline files; other things in it are skipped.
        filters: for protocol, dataset, model or metric: a list of patterns (as for file names), of
            which one must match. Without an entry nothing is filtered. A filter on datasets
            excludes the profiles, which have none.

    Raises:
        UserError: the folder does not exist or holds no run, or a pattern matches nothing.
    """
    found, skipped = _runs(Path(folder))
    series = _series(found)
    for name, patterns in (filters or {}).items():
        for pattern in patterns:
            _fits_something(name, pattern, series)
    series = [one for one in series if all(
        any(fnmatchcase(getattr(one, name), pattern) for pattern in patterns)
        for name, patterns in (filters or {}).items() if patterns)]
    if not series and found:
        raise UserError("history: each pattern matches something, but nothing matches all of them "
                        f"together ({_as_options(filters)}). Leave one out.")
    return History(Path(folder), found, skipped, series)


def _as_options(filters: dict[str, list[str]] | None) -> str:
    return ", ".join(f"--{name} {' '.join(patterns)}"
                     for name, patterns in (filters or {}).items() if patterns)


def _fits_something(name: str, pattern: str, series: list[Series]) -> None:
    valid = list(dict.fromkeys(value for one in series if (value := getattr(one, name))))
    if not any(fnmatchcase(value, pattern) for value in valid):
        raise UserError(f"history: --{name} {pattern!r} matches nothing in these runs. "
                        f"Valid: {', '.join(valid) or 'none'}; * matches any characters.")


# -- the runs ----------------------------------------------------------------------------------

def _runs(folder: Path) -> tuple[list[DatedRun], list[tuple[str, str]]]:
    """Return the runs in order of time and (name, reason) of what was skipped."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder. Give the folder that holds the runs, for "
                        f"example results. {RUN_FOLDER}.")
    if RunFolder(folder).has("cell"):
        raise UserError(f"{folder}: this is one run, and a history needs the folder that holds "
                        f"several: {folder.parent}.")
    found, skipped = [], []
    for path in sorted(folder.iterdir()):
        if path.name.startswith((".", "_")) or not (path.is_dir() or path.suffix == ".json"):
            continue            # such a file or folder is never a run
        if path.is_dir() and not any(map(RunFolder(path).has, ("cell", "profile"))):
            skipped.append((path.name, "not a run folder: it has no cells/"))
            continue
        try:
            found.append(_placed(path, loading.load(path)))
        except UserError as error:
            skipped.append((path.name, str(error).removeprefix(f"{path}: ")))
    if not found:
        why = "; ".join(f"{name}: {reason}" for name, reason in skipped)
        raise UserError(f"{folder}: no run in it{f' ({why})' if why else ''}. {RUN_FOLDER}.")
    # the table of metrics is complete now
    found = [replace(run, data=runs.judged(run.data)) for run in found]
    skipped += [(run.name, f"no value of {metric}: {note}") for run in found
                for metric, note in _redefined(run.data).items()]
    found, twins = _once(sorted(found, key=lambda run: (run.time, run.name)))
    return found, sorted([*skipped, *twins])


def _redefined(data: runs.RunData) -> dict[str, str]:
    """Return metric -> how the run defines it otherwise than the runs before it."""
    return {metric: note for cell in data.cells.values() for metric, note in cell.missing.items()
            if note.startswith(metrics.REDEFINED)}


def _placed(path: Path, data: runs.RunData) -> DatedRun:
    times = [time for one in _all(data) if (time := _time(one.time))]
    if not times:
        raise UserError("none of its records holds a time, so it has no place in a history")
    return DatedRun(path.name, max(times), _commit(data.provenance), data)


def _all(data: runs.RunData) -> Iterator[runs.CellData | runs.ProfileData]:
    yield from data.cells.values()
    yield from data.profiles.values()


def _time(written: str | None) -> datetime.datetime | None:
    """Return the time of a record in UTC, to the second; None if it holds none."""
    try:
        time = datetime.datetime.fromisoformat(str(written))
    except ValueError:
        return None
    return time.replace(tzinfo=time.tzinfo or datetime.UTC).astimezone(datetime.UTC)


def _commit(provenance: dict | None) -> str:
    """Return the first 7 digits of a commit, with + for uncommitted changes; "" if unknown."""
    git = (provenance or {}).get("git") or {}
    return str(git.get("commit") or "")[:7] + "+" * bool(git.get("commit") and git.get("dirty"))


def _once(found: list[DatedRun]) -> tuple[list[DatedRun], list[tuple[str, str]]]:
    """Leave out each run whose records are all in another run: a copy, or a baseline of it."""
    kept, twins = list(found), []
    for run in sorted(found, key=lambda run: not run.data.baseline):
        twin = next((other for other in kept if other is not run and _within(run, other)), None)
        if twin:
            kept.remove(run)
            twins.append((run.name, twin.name))
    kept_as = dict(twins)
    for name, twin in twins:    # follow the chain to the run that is kept
        while twin in kept_as:
            twin = kept_as[twin]
        kept_as[name] = twin
    return kept, [(name, f"the same results as {twin}") for name, twin in kept_as.items()]


def _within(run: DatedRun, other: DatedRun) -> bool:
    """Whether another run of the same time holds all records of a run."""
    if (run.time, run.commit) != (other.time, other.commit):
        return False
    theirs = {(type(one), one.key): one for one in _all(other.data)}
    return all((twin := theirs.get((type(one), one.key))) is not None
               and _same(one, twin, run.data.baseline) for one in _all(run.data))


def _same(one, other, baseline: bool) -> bool:
    """Whether two results come from one record.

    A baseline keeps one time for all results, and its values may be those of an earlier file.
    """
    a, b = _figures(one), _figures(other)
    if not baseline:
        return one.time == other.time and a == b
    return all(metric in b and abs(a[metric] - b[metric]) <= 2 * (quantity(metric).floor or 0)
               for metric in a if metric != "latency")


# -- the series --------------------------------------------------------------------------------

def _figures(one: runs.CellData | runs.ProfileData) -> dict[str, float]:
    """Return metric -> value of a cell or profile, without unknown values."""
    if isinstance(one, runs.CellData):
        values = ({name: one.means.get(name) for name in metrics.METRICS} if one.status == "ok"
                  else {})
    else:
        values = {"parameters": one.parameters, "macs": one.macs,
                  "latency": median(one.latency) if one.latency else None}
    return {name: value for name, value in values.items() if value is not None}


def _series(found: list[DatedRun]) -> list[Series]:
    """Return all series by protocol, dataset and model; those of profiles come last."""
    points: dict[tuple, list[SeriesPoint]] = {}
    for run in found:
        for one in _all(run.data):
            for metric, value in _figures(one).items():
                key = (one.protocol, getattr(one, "dataset", ""), one.model, metric,
                       _condition(one, metric))
                point = SeriesPoint(run.name, _time(one.time) or run.time,
                              _commit(one.provenance) or run.commit, float(value),
                              inputs=one.inputs)
                if metric == "latency":
                    low, high = quartiles(one.latency)
                    point = replace(point, low=low, high=high, samples=len(one.latency),
                                    busy=one.disturbed)
                points.setdefault(key, []).append(point)
    order = list(quantities())
    made = []
    for key in sorted(points, key=lambda k: (not k[1], *k[:3], order.index(k[3]), k[4])):
        # for records of the same second the order of the runs decides
        held = sorted(points[key], key=lambda point: point.time)
        made.append(Series(*key, held, _found(key[3], held)))
    return made


def _condition(one: runs.CellData | runs.ProfileData, metric: str) -> str:
    """Return the measuring condition of a value; values of different conditions do not compare.

    Parameters and quality have none. MACs depend on the size of the input.
    """
    if metric not in ("macs", "latency"):
        return ""
    held = one.condition
    size = TIMES.join(str(held.get(k) or "?") for k in ("channels", "height", "width"))
    if metric == "macs":
        return f"batch {held.get('batch') or '?'}, {size}"
    threads = held.get("threads")
    return ", ".join(filter(None, [
        str(held.get("device_name") or held.get("device") or "unknown device"),
        str(held.get("dtype") or "dtype unknown"), size, f"batch {held.get('batch') or '?'}",
        # on a GPU the number of CPU threads does not matter
        f"{threads} thread{'s' * (threads != 1)}" if threads and held.get("device") != "cuda"
        else ""]))


def quartiles(samples: Iterable[float]) -> tuple[float, float]:
    """Return the first and third quartile (linear between samples), in the samples' unit."""
    samples = list(samples)
    if len(samples) < 2:
        return samples[0], samples[0]
    first, _, third = quantiles(samples, n=4, method="inclusive")
    return first, third


def _found(metric: str, points: list[SeriesPoint]) -> list[steps.Step]:
    """Find the steps of a series that the machine noise of its metric does not explain.

    Values that other work disturbed are left out.
    """
    at = [index for index, point in enumerate(points) if not point.busy]
    points = [points[index] for index in at]
    if not points:
        return []
    values = [point.value for point in points]
    floor = quantity(metric).floor
    if floor is None:
        return steps.exact(values)
    if metric == "latency":
        floor = max(floor * median(values), median(map(_standard_error, points)))
    return [replace(step, at=at[step.at]) for step in steps.find(values, floor)]


def _standard_error(point: SeriesPoint) -> float:
    """Return the standard error of a median of normal samples, estimated from their quartiles."""
    return math.sqrt(math.pi / 2) * (point.high - point.low) / 1.349 / math.sqrt(point.samples)
