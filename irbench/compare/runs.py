"""A run as comparing needs it, loaded from its folder.

Reads the config and the records of cells, profiles, trainings and data of a run folder; writes
nothing. A broken record becomes a cell without a result, with the reason. A committed baseline file
gives the same types (``irbench.compare.baseline``).

Try: ``python -c "from irbench.compare import loading; print(loading.load('results/photos').name)"``
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from irbench.catalog.model import Inference
from irbench.compare import inputs, planned
from irbench.core import files, machine, metrics, records, run_folder
from irbench.core.errors import UserError
from irbench.core.metrics import Metric
from irbench.core.run_folder import RunFolder, Stored

OUTDATED = "outdated"           # made from other inputs than its run has now
PARTIAL = "partial"             # a cell whose record is ok, but lacks images or means
PROVENANCE = ("irbench", "git", "python", "packages", "hardware", "threads", "time")


@dataclass(frozen=True)
class CellData:
    """One model on one dataset under one protocol.

    Attributes:
        status: ok, unavailable, failed, paused, partial or outdated; only an ok cell counts.
        reason: why it is not ok.
        means: metric -> mean over all images, in the unit of the metric.
        images: name -> metric -> score; a metric without a score is left out.
        missing: metric -> why it has no mean.
        inputs: the inputs of the result (``irbench.compare.inputs``).
        time: time of the record, ISO 8601 in UTC; "" if unknown.
        provenance: code and machine that made the result.
        path: path of the record, relative to the run folder; "" for a baseline.
        rows: how the record defines metrics that are not irbench's own, by name.
    """

    protocol: str
    dataset: str
    model: str
    status: str
    reason: str = ""
    means: dict[str, float] = field(default_factory=dict)
    images: dict[str, dict[str, float]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    inputs: dict = field(default_factory=dict)
    time: str = ""
    provenance: dict = field(default_factory=dict)
    path: str = ""
    rows: dict[str, Metric] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The name within a run: protocol/dataset/model."""
        return f"{self.protocol}/{self.dataset}/{self.model}"


@dataclass(frozen=True)
class ProfileData:
    """Size and speed of one model under one protocol.

    Attributes:
        parameters: number of parameters; None if unknown, like all values.
        macs: multiply-accumulates of one input of ``condition``.
        latency: the samples, in ms.
        busy_elsewhere: how many cores other processes used meanwhile; None if unknown.
        condition: device, device_name, dtype, batch, channels, height, width, threads, and
            the inference settings that are not the default.
        peak_memory: peak memory in bytes.
        peak_memory_of: what the peak memory covers.
    """

    protocol: str
    model: str
    status: str
    reason: str = ""
    parameters: int | None = None
    macs: int | None = None
    latency: tuple[float, ...] = ()
    condition: dict = field(default_factory=dict)
    peak_memory: int | None = None
    peak_memory_of: str = ""
    inputs: dict = field(default_factory=dict)
    time: str = ""
    provenance: dict = field(default_factory=dict)
    path: str = ""
    busy_elsewhere: float | None = None

    @property
    def key(self) -> str:
        """The name within a run: protocol/model."""
        return f"{self.protocol}/{self.model}"

    @property
    def disturbed(self) -> float:
        """How many cores other processes used while the latency was measured, 0 if negligible."""
        return machine.busy(self.busy_elsewhere) if self.latency else 0.0


@dataclass(frozen=True)
class RunData:
    """All cells and profiles, by key in sorted order.

    Attributes:
        name: name of the run.
        title: title of the run, or its name.
        provenance: of the newest record: irbench, git, python, packages, hardware, threads, time.
        where: the folder or file, as given.
        planned: what its config asks for; None without a config, and for a baseline.
        from_earlier: keys of records from an earlier config; they are not among the cells.
        baseline: whether it is a baseline file, whose scores are rounded.
    """

    name: str
    title: str
    cells: dict[str, CellData]
    profiles: dict[str, ProfileData]
    provenance: dict
    where: str
    planned: planned.Planned | None = None
    from_earlier: tuple[str, ...] = ()
    baseline: bool = False


def judged(run: RunData) -> RunData:
    """Return a run without the values of metrics that its records define otherwise than the table.

    ``missing`` says so: such values cannot be compared with those of other records. The table
    depends on what was read, so this comes last, before values are compared.
    """
    return replace(run, cells={key: _judged(cell) for key, cell in run.cells.items()})


def without(run: RunData, outdated: Mapping[str, str]) -> RunData:
    """Return a run in which outdated results do not count.

    ``outdated``: place of a record in the run's folder -> what changed since it was made.
    """
    def status(one):
        return replace(one, status=OUTDATED, reason=outdated[one.path]) if (
            one.path in outdated and one.status in ("ok", PARTIAL)) else one

    cells, profiles = ({key: status(one) for key, one in group.items()}
                       for group in (run.cells, run.profiles))
    return replace(run, cells=cells, profiles=profiles)


def _judged(cell: CellData) -> CellData:
    named = {*cell.means, *(name for scores in cell.images.values() for name in scores)}
    other = metrics.otherwise(metrics.ordered(named), cell.rows)
    if not other:
        return cell
    return replace(
        cell, means={m: v for m, v in cell.means.items() if m not in other},
        images={name: {m: v for m, v in scores.items() if m not in other}
                for name, scores in cell.images.items()},
        missing={**cell.missing, **other})


def near(path: Path) -> str:
    """Return which run folders are here, in brackets for a message; "" if there are none."""
    try:
        runs = [run.path.name for run in run_folder.runs() if run.has("cell")]
    except OSError:
        return ""
    return f" (here: {', '.join(runs)})" if runs else ""


def of_folder(folder: Path, asked: planned.Planned | None = None) -> RunData:
    """Return the run that a folder holds.

    Args:
        folder: the run folder, with cells/ and profiles/.
        asked: what its config asks for; default: read from its config.json.

    Raises:
        UserError: it holds no record, or its config is invalid.
    """
    wanted, run = asked or planned.read(folder), RunFolder(folder)
    trainings = {tuple(one.key.values()): one.record for one in run.each("training") if one.record}
    sets = {one.key["dataset"]: one.record for one in run.each("data")
              if one.record and one.record["status"] == "ok"}
    cells, profiles, from_earlier = {}, {}, []
    for stored in run.each("cell"):
        key = tuple(stored.key.values())
        if wanted and not wanted.cell(*key):
            from_earlier.append("/".join(key))
            continue
        cells["/".join(key)] = _formed(CellData, key, _cell, stored, trainings, sets)
    for stored in run.each("profile"):
        key = tuple(stored.key.values())
        if wanted and not wanted.profile(*key):
            from_earlier.append("/".join(key))
            continue
        profiles["/".join(key)] = _formed(ProfileData, key, _profile, stored)
    for name, other in _shared(run):
        if other in profiles and (not wanted or wanted.profile(*name.split("/"))):
            profiles[name] = replace(profiles[other], model=name.partition("/")[2])
    profiles = dict(sorted(profiles.items()))
    if not cells and not profiles and not from_earlier:
        raise UserError(f"{folder}: not a run folder: it holds no record under cells/ or "
                        f"profiles/. Give the folder of a run{near(folder)}.")
    known = [one.provenance for one in (*cells.values(), *profiles.values()) if one.provenance]
    newest = max(known, key=lambda p: str(p.get("time")), default={})
    return RunData(_name(folder), _title(folder), cells, profiles, newest, str(folder), wanted,
                   tuple(from_earlier))


def _shared(run: RunFolder) -> list[tuple[str, str]]:
    """Return the profiles that a run measured once for several models: (name, measured name)."""
    try:
        return [(name, other) for name, other in files.read_json(run.plan)["costs"].items()
                if name.count("/") == 1 and isinstance(other, str)]
    except (OSError, *FORM):    # made by hand, by an older version, or damaged
        return []


def _name(folder: Path) -> str:
    return folder.resolve().name


def _title(folder: Path) -> str:
    try:
        config = files.read_json(RunFolder(folder).config)
        return str(config.get("title") or _name(folder))
    except (OSError, ValueError, AttributeError):
        return _name(folder)


FORM = (KeyError, TypeError, ValueError, AttributeError, IndexError)
EDITED = "the record is not in the form that irbench writes (edited?). To replace it, run again"


def _formed(kind: type, key: tuple[str, ...], make, *arguments: object):
    """Return ``make(...)`` for a record; a failed result if the record has an invalid form."""
    try:
        one = make(key, *arguments)
        inputs.digest(one.inputs)
        for count in (getattr(one, "parameters", 0), getattr(one, "macs", 0),
                      getattr(one, "peak_memory", 0)):
            if count is not None and type(count) not in (int, float):
                raise TypeError(f"{count!r} is not a count")
        for part in ("git", "hardware", "packages"):
            dict(one.provenance.get(part) or {})
        return one
    except FORM as error:
        return kind(*key, "failed", _line(f"{EDITED} ({error!r})"))


def _line(text: object) -> str:
    """Return a reason on one line, without control characters for a terminal or XML."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())


def _cell(key: tuple[str, ...], stored: Stored, trainings: dict, sets: dict) -> CellData:
    record, path = stored.record, stored.place
    if record is None:
        return CellData(*key, "failed", _line(stored.problem), path=path)
    provenance = {k: record["provenance"].get(k) for k in PROVENANCE}
    about = {"rows": metrics.held(record.get("metrics") or (), "metrics"),
             "inputs": inputs.of_record(record, _training(record, trainings)),
             "time": str(provenance["time"] or ""), "provenance": provenance, "path": path}
    if record["status"] != "ok":
        return CellData(*key, record["status"], _line(record["reason"]), **about)
    result = record["result"]
    provenance["device"] = result.get("device")
    images = {image["name"]: {m: float(image[m]) for m in metrics.METRICS
                              if image.get(m) is not None}
              for image in result.get("images") or ()}
    means = {m: float(v) for m, v in (result.get("mean") or {}).items()
             if m in metrics.METRICS and v is not None}
    asked = metrics.ordered(record["spec"].get("metrics") or ())
    missing = {m: _line((result.get("missing") or {}).get(m) or "no mean")
               for m in asked if m not in means}
    wrong = _wrong(images, means, record, sets.get(key[1]))
    return CellData(*key, PARTIAL if wrong else "ok", wrong, {} if wrong else means, images,
                    missing, **about)


def _wrong(images: dict, means: dict, record: dict, of_set: dict | None) -> str:
    """Return why the scores of a record are not a complete result, "" if they are.

    ``of_set``: the record of its set, if there is one.
    """
    if not images:
        return "the record holds no image"
    made = (of_set or {}).get("spec") or {}
    # of another version of the set the names do not matter: its digest differs
    same = made.get("dataset") == record["spec"].get("dataset")
    if other := records.other_images(record, of_set and of_set["result"]["count"],
                                     made.get("names") if same else None):
        return other
    for metric in means:
        scores = [scores[metric] for scores in images.values() if metric in scores]
        if len(scores) < len(images):
            return f"{len(images) - len(scores)} of {len(images)} images have no {metric}"
    return ""


def _training(record: dict, trainings: dict) -> dict | None:
    """Return the record of the training (maybe a blind one) that made the weights of a cell."""
    model = record["spec"].get("model") or {}    # plain data: the record may be of any version
    if not model.get("training"):
        return None
    protocol, _, version = str(record["key"].get("protocol")).rpartition("@")
    names = (protocol, f"{protocol.rpartition('-')[0]}-blind")
    base = model.get("base") or record["key"]["model"]
    for name in names:
        if made := trainings.get((f"{name}@{version}", base)):
            return made
    # versions that differ only in scoring share a training, which is named after the first of them
    used = (record.get("resolved") or {}).get("checkpoint")
    return next((made for (scope, model), made in trainings.items()
                 if used and model == base and scope.rpartition("@")[0] in names
                 and ((made.get("result") or {}).get("checkpoint") or {}).get("sha256") == used),
                None)


def _profile(key: tuple[str, ...], stored: Stored) -> ProfileData:
    record, path = stored.record, stored.place
    if record is None:
        return ProfileData(*key, "failed", _line(stored.problem), path=path)
    provenance = {k: record["provenance"].get(k) for k in PROVENANCE}
    about = {"inputs": inputs.of_record(record), "time": str(provenance["time"] or ""),
             "provenance": provenance, "path": path}
    if record["status"] != "ok":
        return ProfileData(*key, record["status"], _line(record["reason"]), **about)
    result = record["result"]
    provenance["device"] = result.get("device")
    condition = {k: result.get(k) for k in ("device", "device_name", "dtype")}
    condition |= {k: (result.get("input") or {}).get(k)
                  for k in ("batch", "channels", "height", "width")}
    condition["threads"] = result.get("threads")
    usual = Inference().as_dict()
    condition |= {k: v for k, v in (result.get("inference") or {}).items()
                  if k != "dtype" and v != usual.get(k)}
    times = result.get("latency_ms") or {}
    cores = times.get("busy_elsewhere")
    return ProfileData(
        *key, "ok", "", result.get("parameters"), result.get("macs"),
        tuple(map(float, times.get("samples") or ())), condition, result.get("peak_memory_bytes"),
        str(result.get("peak_memory_of") or ""),
        busy_elsewhere=None if cores is None else float(cores), **about)
