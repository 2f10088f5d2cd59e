"""Find the convention that gives a published figure: score one cell in the ways of other toolkits.

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
from irbench.fidelity import conventions
from irbench.fidelity.conventions import INPUTS, MOST, Choice, Picture
from irbench.imaging.images import read_image, to_rgb, to_uint8
from irbench.jobs import evaluate
from irbench.plan import Job, Plan

ITSELF = "the protocol itself"
# The verdict is "explained by" only for at most one difference, and only if at most this share of
# figures has an equally simple match by chance; otherwise it is "consistent with".
LIKELY = 0.2


@dataclass(frozen=True)
class Candidate:
    """A way to score, and the resulting mean. ``differences`` is empty for the protocol itself."""

    value: float
    differences: tuple[str, ...]
    prints_as: bool

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
    def simplest(self) -> tuple[Candidate, ...]:
        """The candidates with the fewest differences that print as published, nearest first."""
        matches = [c for c in self.candidates if c.prints_as]
        least = min((len(c.differences) for c in matches), default=0)
        return tuple(sorted((c for c in matches if len(c.differences) == least),
                            key=self.distance))

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
        n, shares = len(self.candidates), self.shares
        if not self.simplest:
            nearest = self.candidates[0]
            result = (f"None of the {n} ways to score gives {self.published}; the nearest, "
                      f"{nearest.value:.6g}, is: {nearest.text}.")
            counts = [max(shares)]
        else:
            best, *others = self.simplest
            names = [c.text for c in others[:3]] + [f"{len(others) - 3} more"] * (len(others) > 3)
            also = f" (equally simple: {'; '.join(names)})" if others else ""
            count = len(best.differences)
            sure = count < 2 and shares[count] <= LIKELY
            result = (f"{self.published} is {'explained by' if sure else 'consistent with'}: "
                      f"{best.text}{also}.")
            counts = sorted({count, max(shares)})
        parts = " and ".join(
            f"{shares[k]:.0%} with {k} difference{'s' if k > 1 else ''} at most" if k else
            f"{shares[k]:.0%} without a difference" for k in counts)
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
        rerun: run the model again even if its outputs were kept.
        most: the largest number of conventions that may differ at once.
        progress: wraps the list of images.

    Raises:
        UserError: a metric without conventions; a figure that is not a number; or saved images that
            do not match the record.
        Unavailable: data or weights are missing.
    """
    if metric not in metrics.explained():
        raise unknown("metric", metric, metrics.explained(), "explain")
    largest = metrics.get(metric).range[1]
    if not re.fullmatch(r"\d*\.\d+|\d+", published) or float(published) > largest:
        raise UserError(f"--published {published}: not a figure of this metric. Give it as "
                        "printed: PSNR in dB, e.g. 33.66, or with --metric ssim one up to 1, e.g. "
                        ".9299.")
    protocol = plan.protocols[job.key["protocol"]]
    saved, why_not = (None, "asked to") if rerun else _saved(plan, job)
    found: list[Choice] = []
    scores = []
    for picture in _pictures(plan, job, protocol, saved, progress):
        found = found or conventions.choices(protocol, metric, set(picture.restored), most)
        scores.append(conventions.score(picture, found, metric))
    means = {choice: conventions.mean([image[i] for image in scores], choice, metric)
             for i, choice in enumerate(found)}
    base = conventions.base(protocol)
    if saved is not None:
        _compare_with_record(plan, job, metric, means[base])
    outputs = ("the saved images" if saved is not None
               else f"computed again by running the model ({why_not})")
    untried = "" if saved is None else _untried(protocol)
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
    """Drop candidates whose differences have no effect; sort by distance, then by differences."""
    figure = float(published)
    half = 0.5 * 10.0 ** -metrics.decimals(published) + 1e-9
    found = []
    for choice, value in means.items():
        if value is None:
            continue
        # the figure is the same without one of its differences, which thus has no effect here
        parents = (replace(choice, **{f.name: getattr(base, f.name)}) for f in fields(Choice)
                   if getattr(choice, f.name) != getattr(base, f.name))
        if any(means.get(p) is not None and abs(means[p] - value) < 1e-9 for p in parents):
            continue
        found.append(Candidate(value, choice.words(base), abs(value - figure) <= half))
    if not any(not c.differences for c in found):
        raise UserError("the outputs are identical to their targets, PSNR is infinite: there is "
                        "nothing to explain.")
    return tuple(sorted(found, key=lambda c: (abs(c.value - figure), len(c.differences))))


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
              progress: Callable[[list], Iterable]) -> Iterator[Picture]:
    """Yield each image with its outputs: the saved ones, or those of the model run again."""
    data_root = Path(plan.config["data_root"])
    data = obtain.obtain(plan.entry(job.key["dataset"]), data_root)
    network = None
    if saved is None:
        network, _ = evaluate.ready(plan, job)  # run in the same way as the cell
    for item in progress(evaluate.list_items(data, protocol)):
        with evaluate.named(item, data.name):
            degraded, target, gray_file = item.load(protocol)
            restored = {}
            if (job.model.arch, protocol.task) == ("bicubic", "sr"):
                restored["y_only", "uint8"] = conventions.y_only(target, protocol.scale, gray_file)
            if network is None:
                restored["protocol", "uint8"] = _read(saved, item.name, target)
            else:
                restored |= _restored(network, protocol, degraded, target,
                                      evaluate.seed_for(protocol, item.name))
        yield Picture(restored, target, gray_file)


def _restored(network, protocol: Protocol, degraded: np.ndarray, target: np.ndarray,
              seed: int) -> dict[tuple[str, str], np.ndarray]:
    """Run a model on all inputs of one image: (H, W, C) in [0, 255] by (input, outputs)."""
    found = {}
    inputs = {"protocol": degraded, **conventions.other_inputs(protocol, target, degraded)}
    for kind, x in inputs.items():
        y = evaluate.forward(network, x, seed=seed)
        found[kind, "uint8"] = to_uint8(y)
        found[kind, "float"] = np.clip(y, 0, 1) * np.float64(255)
    return found


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


def _untried(protocol: Protocol) -> str:
    """Return the conventions that can only be tested by running the model again."""
    names = {"matlab_bicubic": ["float"], "gaussian_noise": ["bgr", "rounded"]}.get(
        protocol.degradation["kind"], [])
    if protocol.channels == 1:
        names = [name for name in names if name != "bgr"]
    return "; ".join(["outputs not rounded to uint8", *(INPUTS[name] for name in names)])


def _compare_with_record(plan: Plan, job: Job, metric: str, value: float | None) -> None:
    """Refuse saved images that do not give the record's score."""
    known = plan.run_folder.load(job.kind, job.key).record["result"]["mean"].get(metric)
    if known is not None and (value is None or abs(known - value) > 1e-4):
        raise UserError(f"{job.title}: the saved images give {metric} {value}, but the record has "
                        f"{known}: the images belong to another run. Evaluate the cell again, or "
                        "use --rerun.")
