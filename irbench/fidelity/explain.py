"""Find the conventions that give a published figure: score a cell in the ways of other toolkits.

Two conventions may give the same figure. So the result is never one cause: it lists all that give
the figure within its rounding, the best known first.

Reads   the cell's saved outputs (results/RUN/images) and the targets of its dataset; or runs the
        model again, if the outputs were not kept or conventions of its input are requested.
Writes  nothing.

Try: ``irbench explain sr-x2/set5/bicubic --published 33.66``
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from irbench import plan as plans
from irbench.catalog.protocols import Protocol
from irbench.core import digests, metrics, records
from irbench.core.errors import UserError, unknown
from irbench.core.run_folder import RunFolder
from irbench.data import obtain
from irbench.fidelity import conventions, inputs
from irbench.fidelity.conventions import MOST, Choice, Picture
from irbench.imaging.images import read_image, to_rgb
from irbench.jobs import evaluate
from irbench.jobs.cells import items
from irbench.plan import Job, Plan

ITSELF = "the protocol itself"


@dataclass(frozen=True)
class Candidate:
    """A way to score, and the resulting mean.

    Attributes:
        value: the mean of the set.
        differences: in words; empty for the protocol itself.
        prints_as: whether the value gives the published figure within its rounding.
        order: the place among all ways to score, the best known first.
    """

    value: float
    differences: tuple[str, ...]
    prints_as: bool
    order: int = 0

    @property
    def text(self) -> str:
        """The conventions in words."""
        return " + ".join(self.differences) or ITSELF


@dataclass(frozen=True)
class Explanation:
    """All candidates, the nearest to the published figure first."""

    published: str
    metric: str
    outputs: str
    untried: str
    candidates: tuple[Candidate, ...]

    @property
    def protocol(self) -> Candidate:
        """The candidate without differences."""
        return next(c for c in self.candidates if not c.differences)

    @property
    def matches(self) -> tuple[Candidate, ...]:
        """All candidates that print as published: those with the fewest differences, best known
        first.
        """
        return tuple(sorted((c for c in self.candidates if c.prints_as),
                            key=lambda c: (len(c.differences), c.order)))

    @property
    def causes(self) -> tuple[Candidate, ...]:
        """The matches that count as causes: with at most one difference or, if there are none,
        with as few as possible.
        """
        most = max(1, min((len(c.differences) for c in self.matches), default=0))
        return tuple(c for c in self.matches if len(c.differences) <= most)

    @property
    def near(self) -> float:
        """The distance from the protocol's own figure within which ``chance`` counts figures.

        A match means little if many figures have one. The distance is ``Metric.near``, or that of
        the published figure, if it is larger.
        """
        return max(metrics.get(self.metric).near, self.distance(self.protocol))

    def chance(self, most: int) -> float:
        """Return the share of the figures within ``near`` that would have a match by chance.

        A figure has a match if some candidate with at most ``most`` differences prints the same:
        this is the union of intervals as wide as a step of the last printed digit.
        """
        own = self.protocol.value
        half = 0.5 * 10.0 ** -metrics.decimals(self.published)
        covered, reached = 0.0, own - self.near
        for value in sorted(c.value for c in self.candidates if len(c.differences) <= most):
            upper = min(value + half, own + self.near)
            covered += max(0.0, upper - max(value - half, reached))
            reached = max(reached, upper)
        return covered / (2 * self.near)

    @property
    def shares(self) -> dict[int, float]:
        """``chance`` by the number of differences, from 0 to the largest number tried."""
        most = max(len(c.differences) for c in self.candidates)
        return {count: self.chance(count) for count in range(most + 1)}

    @property
    def verdict(self) -> str:
        """The result, and how likely it is by chance."""
        shares = self.shares
        if self.causes:
            causes = "; ".join(c.text for c in self.causes)
            count = max(len(c.differences) for c in self.causes)
            more = len(self.matches) - len(self.causes)
            also = (f" ({more} combinations of more also give it)" if more > 1 else
                    " (1 combination of more also gives it)" if more else "")
            result = f"{self.published} is consistent with: {causes}{also}."
            counts = sorted({count, max(shares)})
        else:
            nearest = self.candidates[0]
            one = sum(len(c.differences) == 1 for c in self.candidates)
            more = sum(len(c.differences) > 1 for c in self.candidates)
            combined = (f", nor do {more} combinations of them" if more > 1 else
                        ", nor does 1 combination of them" if more else "")
            result = (f"None of the {one} conventions tried gives {self.published}{combined}. "
                      f"The nearest, {nearest.value:.6g}, is: {nearest.text}.")
            counts = [max(shares)]
        parts = " and ".join(
            f"{'under 1%' if shares[k] < 0.005 else format(shares[k], '.0%')} "
            + (f"with {k} difference{'s' if k > 1 else ''} at most" if k else
               "without a difference") for k in counts)
        return (f"{result} Matches by chance, among figures within {self.near:.2g} of the "
                f"protocol's own: {parts}.")

    def distance(self, candidate: Candidate) -> float:
        """The distance of a candidate from the published figure."""
        return abs(candidate.value - float(self.published))


def explain(plan: Plan, job: Job, published: str, metric: str = "psnr", *, rerun: bool = False,
            most: int = MOST, progress: Callable[[list], Iterable] = iter) -> Explanation:
    """Score a cell under all conventions and sort by the distance to a published figure.

    Args:
        plan: the cell's run.
        job: the cell.
        published: the figure as printed; the number of its decimals matters.
        metric: one of ``metrics.explained()``.
        rerun: run the model again even if its outputs were kept, also with padded inputs.
        most: the largest number of conventions that may differ at once.
        progress: wraps the list of images.

    Raises:
        UserError: a metric without conventions; a set without targets; a figure that is not a
            number; or saved images that do not match the record.
        Unavailable: data or weights are missing.
    """
    if metric not in metrics.explained():
        raise unknown("metric", metric, metrics.explained(), "explain")
    largest = metrics.get(metric).range[1]
    if not re.fullmatch(r"\d*\.\d+|\d+", published) or float(published) > largest:
        raise UserError(f"--published {published}: not a figure of this metric. Give it as "
                        "printed: PSNR in dB, e.g. 33.66, or with --metric ssim one up to 1, e.g. "
                        ".9299.")
    if "alone" in job.spec:
        raise UserError(f"{job.title}: the set has no targets, so no value of {metric} can be "
                        "explained.")
    protocol = plan.protocols[job.key["protocol"]]
    saved, why_not = (None, "asked to") if rerun else _saved(plan, job)
    found: list[Choice] = []
    scores = []
    for picture in _pictures(plan, job, protocol, saved, progress, padding=rerun):
        found = found or conventions.choices(protocol, metric, set(picture.restored), most)
        scores.append(conventions.score(picture, found, metric))
    means = {choice: conventions.mean([image[i] for image in scores], choice, metric)
             for i, choice in enumerate(found)}
    base = conventions.base(protocol)
    if saved is not None:
        _compare_with_record(plan, job, metric, means[base])
    outputs = ("the saved images" if saved is not None
               else f"computed again by running the model ({why_not})")
    untried = "" if rerun else inputs.untried(
        protocol, learned=job.model.learned, bicubic=_is_bicubic(job, protocol),
        ran=saved is None)
    return Explanation(published, metric, outputs, untried,
                       _candidates(means, base, published))


def plain(candidate: Candidate) -> dict:
    """Return a candidate as plain data."""
    return {"value": candidate.value, "prints_as": candidate.prints_as,
            "conventions": list(candidate.differences) or [ITSELF]}


def resolve(cell: str, config: str) -> tuple[Plan, Job]:
    """Find a cell by PROTOCOL/DATASET/MODEL in a config, or by the path of its record.

    The record's own run is read from the config.json beside it. Raises UserError if there is none.
    """
    path = Path(cell)
    if path.suffix == ".json":
        record = records.read(path)
        if record["kind"] != "cell":
            raise UserError(f"{path}: the record of a {record['kind']}, not of a cell. Give one of "
                            "results/RUN/cells.")
        own = RunFolder.of_record(path.resolve(), "cell")
        plan = replace(plans.load(own.config if own.config.is_file() else config), folder=own.path)
        return plan, plan.find("cell", **record["key"])
    parts = cell.split("/")
    if len(parts) != 3:
        raise UserError(f"{cell}: not a cell. Valid: PROTOCOL/DATASET/MODEL, e.g. "
                        "sr-x2/set5/bicubic, or the path of a record in results/RUN/cells.")
    plan = plans.load(config)
    return plan, plan.find("cell", **dict(zip(("protocol", "dataset", "model"), parts,
                                              strict=True)))


def _candidates(means: dict[Choice, float | None], base: Choice,
                published: str) -> tuple[Candidate, ...]:
    """Drop candidates whose differences have no effect; sort by distance, then by differences.

    ``means`` is in the order of ``conventions.choices``.
    """
    figure = float(published)
    half = 0.5 * 10.0 ** -metrics.decimals(published) + 1e-9
    found = []
    for order, (choice, value) in enumerate(means.items()):
        if value is None:
            continue
        # the figure is the same without one of its differences, which thus has no effect here
        parents = (replace(choice, **{f.name: getattr(base, f.name)}) for f in fields(Choice)
                   if getattr(choice, f.name) != getattr(base, f.name))
        if any(means.get(p) is not None and abs(means[p] - value) < 1e-9 for p in parents):
            continue
        found.append(Candidate(value, choice.words(base), abs(value - figure) <= half, order))
    if not any(not c.differences for c in found):
        raise UserError("the outputs are identical to their targets, PSNR is infinite: there is "
                        "nothing to explain.")
    return tuple(sorted(found, key=lambda c: (abs(c.value - figure), len(c.differences),
                                               c.order)))


# -- the outputs -------------------------------------------------------------------------------

def _saved(plan: Plan, job: Job) -> tuple[dict[str, Path] | None, str]:
    """Return the saved outputs by image, or None and the reason why they cannot be used."""
    # in the plan's folder, which may differ from results/RUN of the current folder
    stored = plan.run_folder.load(job.kind, job.key)
    if stored.missing:
        return None, "the cell has no record yet"
    record = stored.record
    if record is None:
        raise UserError(f"{plan.folder}/{stored.problem}")
    if record["status"] != "ok":
        return None, f"the status of the cell's record is {record['status']}"
    if digests.canonical(record["spec"]) != digests.canonical(job.spec):
        return None, "the cell's record belongs to another state of config, code or data"
    kept = {image["name"]: image["file"] and plan.folder / image["file"]
            for image in record["result"]["images"]}
    if not all(file and file.is_file() for file in kept.values()):
        return None, "its images were not kept"
    return kept, ""


def _pictures(plan: Plan, job: Job, protocol: Protocol, saved: dict[str, Path] | None,
              progress: Callable[[list], Iterable], *, padding: bool) -> Iterator[Picture]:
    """Yield each image with its outputs: the saved ones, or those of the model run again."""
    data_root = Path(plan.config["data_root"])
    data = obtain.obtain(plan.entry(job.key["dataset"]), data_root)
    network = None
    if saved is None and job.model.given:
        raise UserError(f"{job.title}: only its result images are given, so it cannot be run "
                        "again. Evaluate the cell with --keep-images, and explain it without "
                        "--rerun.")
    if saved is None:
        network, _ = evaluate.ready(plan, job)  # run in the same way as the cell
    for item in progress(items.list_items(data, protocol)):
        with items.named(item, data.name):
            degraded, target, gray_file = item.load(protocol)
            restored = {}
            if _is_bicubic(job, protocol):
                restored = inputs.bicubic_rows(target, degraded, protocol.scale, gray_file)
            if network is None:
                restored[inputs.OWN] = _read(saved, item.name, target)
            else:
                restored |= inputs.restore(network, protocol, degraded, target,
                                           evaluate.seed_for(protocol, item.name),
                                           padding=padding and job.model.learned)
        yield Picture(restored, target, gray_file)


def _is_bicubic(job: Job, protocol: Protocol) -> bool:
    """Return whether a cell is the bicubic baseline, which needs no network."""
    return (job.model.arch, protocol.task, protocol.kinds) == (
        "bicubic", "sr", ("matlab_bicubic",)) and protocol.unit == protocol.scale


def _read(saved: dict[str, Path], name: str, target: np.ndarray) -> np.ndarray:
    if name not in saved:
        raise UserError(f"the record has no image {name!r}: it belongs to another state of the "
                        "set. Evaluate the cell again, or use --rerun.")
    image = read_image(saved[name])
    image = to_rgb(image) if target.shape[-1] == 3 else image
    if image.shape != target.shape:
        raise UserError(f"{saved[name]}: {image.shape} (H, W, C), but its target is "
                        f"{target.shape}. Evaluate the cell again, or use --rerun.")
    return image


def _compare_with_record(plan: Plan, job: Job, metric: str, value: float | None) -> None:
    """Refuse saved images that do not give the record's score."""
    known = plan.run_folder.load(job.kind, job.key).record["result"]["mean"].get(metric)
    if known is not None and (value is None or abs(known - value) > 1e-4):
        raise UserError(f"{job.title}: the saved images give {metric} {value}, but the record has "
                        f"{known}: the images belong to another run. Evaluate the cell again, or "
                        "use --rerun.")
