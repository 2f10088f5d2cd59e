"""What finished jobs took: latency by size, seconds of cells, trainings and benchmarks.

Reads the records of runs, and the headers of the weights that come with irbench; writes nothing.
``irbench.jobs.costs.hours`` estimates from it how long a run will take. Records without a result,
and those that cannot be read, are left out.

Try: ``irbench plan --cost --profiles results/photos``
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from irbench.catalog import protocols
from irbench.catalog.model import EXTERNAL, Inference
from irbench.catalog.protocols import Protocol
from irbench.catalog.recipes import Recipe, in_phase
from irbench.core import digests, machine
from irbench.core.errors import UserError
from irbench.core.run_folder import RunFolder, runs
from irbench.weights import bundled, storage

SHARES = 200        # of a training's budget, at which its phase is looked up
BROKEN = (UserError, LookupError, TypeError, ValueError, AttributeError,
          ArithmeticError)      # in a record of any origin
BESIDE = ("load", "score", "write", "check")    # phases of a cell without the network


@dataclass(frozen=True)
class MeasuredOn:
    """Where and on what something was measured.

    Attributes:
        device: ``cpu``, ``cuda`` or ``mps``.
        machine: the name of the GPU or of the processor.
        source: the record or file, in words.
    """

    device: str
    machine: str
    source: str

    @property
    def place(self) -> tuple[str, str]:
        """Machine and device. On a Mac both devices have the name of the processor."""
        return self.machine, self.device


@dataclass(frozen=True)
class LatencyCurve:
    """The latency of a network by the size of its input, from a profile.

    Attributes:
        at: of the measurement.
        protocol: the name of the protocol, without version.
        points: (pixels of one input, milliseconds) from small to large, each size once; those
            that other work disturbed are left out if there are others.
        growth: the power of the pixels that it grows with beyond the largest size: 1, or the
            fitted exponent of the sweep if its 95 % interval lies above 1.
        memory: (pixels, bytes) of the largest size whose peak memory is known; None: unknown.
        busy: how many cores other work used, if it slowed all of these measurements down: the most
            during any of them; otherwise 0.
    """

    at: MeasuredOn
    protocol: str
    points: tuple[tuple[float, float], ...]
    growth: float = 1.0
    memory: tuple[float, float] | None = None
    busy: float = 0.0

    def seconds(self, pixels: float) -> float:
        """Return the seconds of a forward pass of one image.

        Between two measured sizes the logarithms are interpolated. Smaller images take as long as
        the smallest, larger ones as ``growth`` says.
        """
        below = [point for point in self.points if point[0] <= pixels]
        above = [point for point in self.points if point[0] > pixels]
        if not below:
            return above[0][1] / 1000
        (size, spent) = below[-1]
        power = self.growth
        if above:
            power = math.log(above[0][1] / spent) / math.log(above[0][0] / size)
        return spent * (pixels / size) ** power / 1000


@dataclass(frozen=True)
class CellTime:
    """What a finished cell took, in seconds of wall time, for ``pixels`` of all its results."""

    at: MeasuredOn
    protocol: str
    dataset: str | None         # the digest of the set
    network: str
    metrics: tuple[str, ...]
    pixels: int
    forward: float
    beside: float


@dataclass(frozen=True)
class TrainingTime:
    """What a training took: seconds for each pixel of its inputs."""

    at: MeasuredOn
    network: str
    per_pixel: float


@dataclass(frozen=True)
class BenchTime:
    """What a benchmark of parts took, with its settings."""

    at: MeasuredOn
    settings: dict
    seconds: float


@dataclass
class Measurements:
    """All that was measured, in the order of the folders.

    ``parameters`` are the numbers of parameters by ``weights_of``: they hold on every machine.
    """

    folders: list[Path] = field(default_factory=list)
    latencies: dict[str, list[LatencyCurve]] = field(default_factory=dict)
    cells: list[CellTime] = field(default_factory=list)
    trainings: list[TrainingTime] = field(default_factory=list)
    benches: list[BenchTime] = field(default_factory=list)
    parameters: dict[str, int] = field(default_factory=dict)

    def all(self) -> Iterator[MeasuredOn]:
        """Yield where each of them was measured."""
        profiles = (one for several in self.latencies.values() for one in several)
        for one in (*profiles, *self.cells, *self.trainings, *self.benches):
            yield one.at


# -- what is compared ----------------------------------------------------------------------------

def network_of(model: Mapping, protocol: Protocol) -> str:
    """Return a digest that is equal for networks whose forward passes cost the same per pixel.

    Architecture, options, inference, scale and channels count. What a file of other people's
    weights holds is not known before it is read: there the model's name counts.

    Args:
        model: of a plan or of a record, as plain data.
        protocol: what it is run for.
    """
    how = Inference.from_dict(model.get("inference") or {}).as_dict()
    return digests.fingerprint([*_who(model), how, float(protocol.scale), protocol.channels])


def weights_of(model: Mapping, protocol: Protocol) -> str:
    """Return a digest that is equal for networks with the same number of parameters.

    That is ``network_of`` without how the network is run; ``model`` needs no inference here.
    """
    return digests.fingerprint([*_who(model), float(protocol.scale), protocol.channels])


def _who(model: Mapping) -> list:
    return [model["name"]] if model["arch"] == EXTERNAL else [model["arch"], model["options"]]


def trained_network(arch: str, options: Mapping, recipe: Recipe, protocol: Protocol) -> str:
    """Return a digest that is equal for trainings which cost the same per pixel of their inputs."""
    teacher = recipe.teacher or {}
    return digests.fingerprint([arch, options, recipe.precision, teacher.get("arch"),
                                teacher.get("options"), float(protocol.scale), protocol.channels])


def pixels_a_step(recipe: Recipe, protocol: Protocol) -> float:
    """Return the pixels of the inputs of a training step, on average over its phases."""
    phases = [in_phase(recipe, (i + 0.5) / SHARES) for i in range(SHARES)]
    return sum(one.batch * (one.patch / protocol.scale) ** 2 for one in phases) / SHARES


# -- reading -------------------------------------------------------------------------------------

def run_folders(given: Iterable[str | Path]) -> list[RunFolder]:
    """Return the folders of runs that are named; a folder of runs, as ``results``, names them all.

    Raises UserError for a folder without records.
    """
    found = []
    for name in given:
        one = RunFolder(Path(name))
        here = [one] if has_records(one) else list(filter(has_records, runs(one.path)))
        if not here:
            raise UserError(f"--profiles {name}: no records there. Name the folder of a run, such "
                            "as results/photos, or a folder of such folders.")
        found += [one for one in here if one not in found]
    return found


def has_records(folder: RunFolder) -> bool:
    """Whether a folder holds records of jobs that take time."""
    return any(map(folder.has, ("profile", "cell", "training", "bench")))


def read(folders: Iterable[RunFolder], catalogs: tuple[str, ...] = ()) -> Measurements:
    """Return what the records of runs and the cards of the bundled weights tell about time.

    Args:
        folders: of the runs.
        catalogs: the user's catalogs, for protocols of their own.
    """
    found, known = Measurements(), protocols.catalog(catalogs)
    for folder in folders:
        found.folders.append(folder.path)
        for kind, note in (("profile", _profile), ("cell", _cell), ("bench", _bench)):
            for record in _results(folder, kind):
                _try(note, found, record, f"{kind} {_named(record)} of {folder.path}")
        for record in _results(folder, "training"):
            _try(_training, found, known, {
                **record["spec"]["model"], "protocol": record["key"]["protocol"],
                "recipe": record["spec"]["model"]["training"], "hardware": record["result"],
                **{name: record["result"].get(name)
                   for name in ("steps", "seconds", "parameters")}},
                f"training {_named(record)} of {folder.path}")
    for one in bundled.catalog().values():
        _try(lambda one: _training(found, known, storage.read_header(one.path),
                                   f"the card of {one.name}"), one)
    return found


def _results(folder: RunFolder, kind: str) -> Iterator[dict]:
    for stored in folder.each(kind):
        if stored.record and stored.record["status"] == "ok":
            yield stored.record


def _try(note, *arguments: object) -> None:
    """Take over what a record says, unless it is not of the form that irbench writes."""
    try:
        note(*arguments)
    except BROKEN:
        return


def _named(record: dict) -> str:
    return " / ".join(record["key"].values())


def _protocol(record: dict) -> Protocol:
    """Return the protocol of a record; the words that describe it are not in a record."""
    return Protocol.from_dict({"title": "", "source": "", **record["spec"]["protocol"]})


def _profile(found: Measurements, record: dict, source: str) -> None:
    result, protocol = record["result"], _protocol(record)
    _parameters(found, record["spec"]["model"], protocol, result)
    sweep = result.get("sweep") or {}
    series = [(sweep.get(name) or {}).get("points") or [] for name in ("batch", "size")]
    found_at = [one for one in (*series[0], *series[1], {**result, **result["input"]})
                if one.get("latency_ms") and one["latency_ms"]["p50"] > 0
                and one["height"] * one["width"] * one["batch"] > 0]
    quiet = [one for one in found_at if not _busy(one)]
    if not found_at:
        return
    # of several measurements of a size the one with the fewest images at once counts
    points = {one["height"] * one["width"]: one["latency_ms"]["p50"] / one["batch"]
              for one in sorted(quiet or found_at, key=lambda one: -one["batch"])}
    memory = [(one["height"] * one["width"] * one["batch"], one["peak_memory_bytes"])
              for one in found_at if one.get("peak_memory_bytes")]
    exponent = (sweep.get("size") or {}).get("exponent") or {}
    steep = (exponent.get("low") or 0) > 1
    curve = LatencyCurve(
        MeasuredOn(result["device"], result["device_name"], source),
        protocols.name_of(protocol.id), tuple(sorted(points.items())),
        exponent["value"] if steep else 1.0, max(memory, default=None),
        busy=0.0 if quiet else max(map(_busy, found_at)))
    network = network_of(record["spec"]["model"], protocol)
    found.latencies.setdefault(network, []).append(curve)


def _busy(point: Mapping) -> float:
    return machine.busy(point["latency_ms"].get("busy_elsewhere"))


def _cell(found: Measurements, record: dict, source: str) -> None:
    result, spec, hardware = record["result"], record["spec"], record["provenance"]["hardware"]
    protocol, device = _protocol(record), result.get("device", "cpu")
    pixels = sum(image["height"] * image["width"] for image in result["images"])
    name = hardware["gpu"] if device == "cuda" else hardware["cpu"]
    if name and pixels:
        found.cells.append(CellTime(
            MeasuredOn(device, name, source), protocols.name_of(protocol.id),
            spec["dataset"]["sha256"], network_of(spec["model"], protocol),
            tuple(spec["metrics"]), pixels, record["seconds"].get("forward", 0.0),
            sum(record["seconds"].get(name, 0.0) for name in BESIDE)))


def _training(found: Measurements, known: Mapping[str, Protocol], about: Mapping,
              source: str) -> None:
    """Note a training from its record or from the header of its weights."""
    name, where = about["protocol"], about["hardware"]
    protocol = known.get(name) or next(one for one in known.values()    # blind: any of its task
                                       if one.task == name.rpartition("-")[0])
    _parameters(found, about, protocol, about)
    recipe = Recipe.from_dict(about["recipe"])
    steps, seconds, processes = about["steps"], about["seconds"], where.get("processes") or 1
    if steps and seconds:
        found.trainings.append(TrainingTime(
            MeasuredOn(where["device"], where["device_name"], source),
            trained_network(about["arch"], about["options"], recipe, protocol),
            seconds * processes / steps / pixels_a_step(recipe, protocol)))


def _parameters(found: Measurements, model: Mapping, protocol: Protocol, about: Mapping) -> None:
    """Note how many parameters a network has; what comes first counts."""
    if count := about.get("parameters"):
        found.parameters.setdefault(weights_of(model, protocol), count)


def _bench(found: Measurements, record: dict, source: str) -> None:
    result = record["result"]
    found.benches.append(BenchTime(MeasuredOn(result["device"], result["device_name"], source),
                                   record["spec"]["bench"], sum(record["seconds"].values())))
