"""How long the jobs of a run will take on a machine, from what finished jobs took there.

A job is estimated from the first of these that is known; ``RULES`` says the same to users:

    cell      a finished cell of the same network on the same images; a profile of the network,
              scaled to the sizes of the set's images; finished cells of the network, by pixels.
              Loading and scoring come from finished cells of the protocol
    profile   an earlier profile of the network, times the number of passes
    training  the seconds of its recipe; finished trainings of the network, by pixels of patches
    bench     a benchmark with the same settings

Reads the sizes of images; writes nothing.

Try: ``irbench plan --cost --profiles results/photos``
"""

from __future__ import annotations

import shlex
import statistics
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from irbench.catalog.datasets import DatasetEntry
from irbench.catalog.model import Model
from irbench.catalog.protocols import Protocol, name_of
from irbench.data import sizes
from irbench.data.sizes import ImageSizes
from irbench.jobs.costs import measured
from irbench.jobs.costs.measured import LatencyCurve, Measurements
from irbench.plan import Job, Plan

ON_DEVICE = ("training", "cell", "profile", "bench")    # the kinds whose time is estimated
BEYOND = 2      # passes of a profile that are not timed: of memory and of multiply-adds
RULES = (
    "cells: the time of the same network on the same images, if a finished cell has it; otherwise "
    "the profile's latency, image by image of mean size: between measured sizes interpolated (log "
    "of time over log of pixels), beyond them in proportion to the pixels, or to their power if "
    "the profile's sweep shows clearly more than that; otherwise the seconds per pixel of "
    "finished cells",
    "loading and scoring of a cell: the median seconds per pixel of finished cells of the "
    "protocol, added to the time in the network",
    "trainings: the seconds of the recipe, or steps x patches x their pixels, at the seconds per "
    "pixel of a finished training; several processes count several times",
    "a profile that other work disturbed is used if there is no other, the least disturbed of "
    "several, and marked: the times from it are too long",
    "profiles: (warm-up + samples + 2) passes; waiting for a quiet machine is not included")
GPU_RULES = ("beside a GPU, loading and scoring overlap with the network: cells take less",)


@dataclass(frozen=True)
class Share:
    """What is known of a job's time.

    Attributes:
        seconds: None if it is not known.
        source: what was measured.
        unknown: why it is not known, "" if it is.
        measure: the command that would measure it, "" if there is none.
        lacks_beside: whether loading and scoring are not included.
    """

    seconds: float | None
    source: str = ""
    unknown: str = ""
    measure: str = ""
    lacks_beside: bool = False


class Speeds:
    """What is known of a device of a machine."""

    def __init__(self, found: Measurements, place: tuple[str, str]) -> None:
        """Select what was measured there; ``place`` is that of ``MeasuredOn``."""
        self.place, self.parameters = place, found.parameters
        self.latencies: dict[str, list[LatencyCurve]] = {}
        for network, several in found.latencies.items():
            if here := [one for one in several if one.at.place == place]:
                self.latencies[network] = here
        # the first one counts: the records of runs come before the cards of bundled weights
        self.trainings = {one.network: one for one in reversed(found.trainings)
                          if one.at.place == place}
        self.benches = [one for one in found.benches if one.at.place == place]
        self.cells, self.of_network = {}, defaultdict(list)
        rates: dict[tuple, list[float]] = defaultdict(list)
        for cell in (one for one in found.cells if one.at.place == place):
            if cell.dataset:
                self.cells[cell.network, cell.dataset, cell.metrics] = cell
            self.of_network[cell.network].append(cell)
            rates[cell.protocol, cell.metrics].append(cell.beside / cell.pixels)
        self.beside = {key: statistics.median(several) for key, several in rates.items()}

    def latency(self, network: str, protocol: Protocol) -> LatencyCurve | None:
        """Return the profile of a network: the least disturbed, of the protocol, of many sizes."""
        return max(self.latencies.get(network, ()), default=None, key=lambda one: (
            -one.busy, one.protocol == name_of(protocol.id), len(one.points)))


class Hours:
    """Estimates the seconds of a run's jobs on one device of a machine."""

    def __init__(self, plan: Plan, speeds: Speeds, config: str) -> None:
        """Keep the run; ``config`` names its file in commands."""
        self.plan, self.speeds, self.config = plan, speeds, shlex.quote(str(config))
        self._sizes: dict[str, ImageSizes | None] = {}

    def of(self, job: Job) -> Share:
        """Return what is known of a job's time; ``ON_DEVICE`` names the kinds it is for."""
        return {"cell": self._cell, "profile": self._profile, "training": self._training,
                "bench": self._bench}[job.kind](job)

    def latency(self, job: Job) -> LatencyCurve | None:
        """Return the profile that tells about the network of a cell or a profile."""
        protocol = self.plan.protocols[job.key["protocol"]]
        return self.speeds.latency(measured.network_of(job.model.as_dict(), protocol), protocol)

    def parameters(self, model: Model, protocol: Protocol) -> int | None:
        """Return how many parameters a model has, as any machine tells; None if none does."""
        return self.speeds.parameters.get(measured.weights_of(model.as_dict(), protocol))

    def sizes(self, dataset: str) -> ImageSizes | None:
        """Return how large the images of a set are, None if that is not known."""
        if dataset not in self._sizes:
            self._sizes[dataset] = sizes.known(self.plan.entry(dataset),
                                               self.plan.config["data_root"])
        return self._sizes[dataset]

    def images(self, job: Job) -> tuple[int, float, float] | None:
        """Return how many images a cell has, and the mean and largest pixels of their inputs."""
        found = self.sizes(job.key["dataset"])
        paired = self.plan.entry(job.key["dataset"]).paired
        area = 1 if paired else self.plan.protocols[job.key["protocol"]].scale ** 2
        return found and (found.count, found.total / found.count / area, found.largest / area)

    def _cell(self, job: Job) -> Share:
        protocol = self.plan.protocols[job.key["protocol"]]
        network = measured.network_of(job.model.as_dict(), protocol)
        metrics = tuple(job.spec["metrics"])
        same = self.speeds.cells.get((network, job.spec["dataset"]["sha256"], metrics))
        if same:
            return Share(same.forward + same.beside, same.at.source)
        forward, source = self._forward(job, network, protocol)
        if forward is None:
            what, verb = (("profile", "profile") if job.model.learned else
                          ("finished cell", "eval"))
            of_set = f" --dataset {job.key['dataset']}" if verb == "eval" else ""
            return Share(None, unknown=f"no {what} of {job.key['model']}", measure=(
                f"irbench {verb} --config {self.config} --protocol {job.key['protocol']}{of_set} "
                f"--model {job.key['model']}"))
        images = self.images(job)
        if images is None:
            return Share(None, unknown=f"the image sizes of {job.key['dataset']}",
                         measure=_how_to_get(self.plan.entry(job.key["dataset"])))
        count, mean, _ = images
        beside = self.speeds.beside.get((name_of(protocol.id), metrics))
        pixels = count * mean * protocol.scale**2       # of the results
        return Share(count * forward(mean) + (beside or 0) * pixels, source,
                     lacks_beside=beside is None)

    def _forward(self, job: Job, network: str, protocol: Protocol
                 ) -> tuple[Callable[[float], float] | None, str]:
        """Return the seconds in the network for an input of so many pixels, and their source."""
        if job.model.given:     # no network runs
            return lambda pixels: 0.0, "no network runs"
        if known := self.speeds.latency(network, protocol):
            return known.seconds, _source(known)
        cells = self.speeds.of_network.get(network)
        if not cells:
            return None, ""
        rate = protocol.scale**2 * statistics.median(one.forward / one.pixels for one in cells)
        return lambda pixels: rate * pixels, cells[-1].at.source

    def _profile(self, job: Job) -> Share:
        known, how = self.latency(job), job.spec["profile"]
        if known is None:
            return Share(None, unknown=f"no profile of {job.key['model']}", measure=(
                f"irbench profile --config {self.config} --protocol {job.key['protocol']} "
                f"--model {job.key['model']}"))
        once = how["batch"] * known.seconds(how["height"] * how["width"])
        seconds = (how["warmup"] + how["samples"] + BEYOND) * once
        if sweep := how.get("sweep"):
            passes = sweep["samples"] + BEYOND
            seconds += passes * sum(how["batch"] * known.seconds(side**2)
                                    for side in sweep["sizes"])
            seconds += passes * sum(sweep["batches"]) * once / how["batch"]
        return Share(seconds, _source(known))

    def _training(self, job: Job) -> Share:
        recipe, protocol = job.model.training, self.plan.scopes["/".join(job.key.values())]
        if recipe.seconds:
            return Share(recipe.seconds, f"the budget of the recipe {recipe.recipe}")
        known = self.speeds.trainings.get(measured.trained_network(
            job.model.arch, job.model.options, recipe, protocol))
        if known is None:
            return Share(None, unknown=f"no finished training of {job.key['model']}", measure=(
                f"irbench train --protocol {job.key['protocol']} --model {job.key['model']}, with "
                "`steps: 100` in a config of another `run`"))
        return Share(recipe.steps * measured.pixels_a_step(recipe, protocol) * known.per_pixel,
                     known.at.source)

    def _bench(self, job: Job) -> Share:
        known = next((one for one in self.speeds.benches if one.settings == job.spec["bench"]),
                     None)
        if known is None:
            return Share(None, unknown=f"no benchmark of {job.key['bench']} with these settings",
                         measure=f"irbench bench {job.key['bench']} --config {self.config}")
        return Share(known.seconds, known.at.source)


def _source(known: LatencyCurve) -> str:
    return f"{known.at.source}{', disturbed by other work' * bool(known.busy)}"


def _how_to_get(entry: DatasetEntry) -> str:
    """Return the command that brings a set, or that says how to get it."""
    verb = "data fetch" if entry.kind in ("manifest", "archive") else "info"
    return f"irbench {verb} {entry.name}"
