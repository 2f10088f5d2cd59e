"""Which convention gives a published figure: one cell scored in the ways toolkits differ in.

Reads   the cell's saved outputs (results/RUN/images) and the targets of its dataset; or runs the
        model again, where the outputs were not kept or conventions of its input are asked for.
Writes  nothing.

Try: ``irbench explain sr-x2/set5/bicubic --published 33.66``
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from irbench import conventions, degrade, records
from irbench.anchors import decimals
from irbench.conventions import INPUTS, MOST, Choice, Picture
from irbench.errors import UserError
from irbench.images import to_uint8
from irbench.plan import Job, Plan
from irbench.protocols import Protocol

ITSELF = "the protocol itself"


@dataclass(frozen=True)
class Candidate:
    """A way to score and the mean it gives. ``differences`` is empty for the protocol itself."""

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
        """The candidate without any difference."""
        return next(c for c in self.candidates if not c.differences)

    @property
    def simplest(self) -> Candidate | None:
        """The fewest differences among those that print as published; None if none does."""
        return min((c for c in self.candidates if c.prints_as), default=None,
                   key=lambda c: (len(c.differences), self.distance(c)))

    @property
    def verdict(self) -> str:
        """The answer in one sentence."""
        best, n = self.simplest, len(self.candidates)
        if best is None:
            near = self.candidates[0]
            return (f"No way to score that was tried ({n}) gives {self.published}; the nearest, "
                    f"{near.value:.6g}, is: {near.text}.")
        others = [c.text for c in self.candidates if c is not best and c.prints_as
                  and len(c.differences) == len(best.differences)]
        also = f" (as simple: {'; '.join(others[:3])})" if others else ""
        return f"{self.published} is explained by: {best.text}{also}."

    def distance(self, candidate: Candidate) -> float:
        """How far a candidate is from the published figure."""
        return abs(candidate.value - float(self.published))


def explain(plan: Plan, job: Job, published: str, metric: str = "psnr", *, rerun: bool = False,
            most: int = MOST, progress: Callable[[list], Iterable] = iter) -> Explanation:
    """Score a cell under all conventions and sort by the distance to a published figure.

    Args:
        plan: the cell's run.
        job: the cell.
        published: the figure as printed; its decimals are part of the statement.
        metric: psnr or ssim.
        rerun: run the model again even where its outputs were kept.
        most: how many conventions may differ at once.
        progress: wraps the list of images.

    Raises:
        UserError: the figure is no number; saved images that are not those of the record.
        Unavailable: data or weights are not here.
    """
    try:
        if not math.isfinite(float(published)):
            raise ValueError
    except ValueError:
        raise UserError(f"--published {published}: not a figure. Give it as printed, e.g. 33.66 "
                        "or .9299.") from None
    protocol = plan.protocols[job.key["protocol"]]
    saved, why_not = (None, "asked to") if rerun else _saved(plan, job)
    items = _items(plan, job, protocol)
    found: list[Choice] = []
    scores = []
    for picture in _pictures(plan, job, protocol, items, saved, progress):
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
    from irbench import plan as plans

    path = Path(cell)
    if path.suffix == ".json":
        record = records.read(path)
        if record["kind"] != "cell":
            raise UserError(f"{path}: the record of a {record['kind']}, not of a cell. Give one of "
                            "results/RUN/cells.")
        own = path.resolve().parents[3]
        given = own / "config.json"
        plan = replace(plans.load(given if given.is_file() else config), folder=own)
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
    """Leave out what changes nothing, and sort by distance, then by the number of differences."""
    figure = float(published)
    half = 0.5 * 10.0 ** -decimals(published) + 1e-9
    found = []
    for choice, value in means.items():
        if value is None:
            continue
        # the same figure without one of its differences: that one has no effect here
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

def _items(plan: Plan, job: Job, protocol: Protocol) -> list[tuple]:
    """Return (input file or None, file of the clean image) for each image of the set."""
    from irbench import datasets

    data = datasets.obtain(plan.entry(job.key["dataset"]), Path(plan.config["data_root"]))
    if protocol.paired:
        return list(data.pairs())
    return [(None, item) for item in data.role("hr")]


def _record(plan: Plan, job: Job) -> Path:
    # in the plan's folder, which need not be results/RUN of the folder we are in
    return plan.folder / "cells" / Path(*job.key.values()).with_name(job.record.name)


def _saved(plan: Plan, job: Job) -> tuple[dict[str, Path] | None, str]:
    """Return the saved outputs by image, or None and why there are none that can be used."""
    path = _record(plan, job)
    if not path.is_file():
        return None, "the cell has no record yet"
    record = records.read(path)
    if record["status"] != "ok":
        return None, f"the cell's record says {record['status']}"
    if records.canonical(record["spec"]) != records.canonical(job.spec):
        return None, "the cell's record is of another state of config, code or data"
    kept = {image["name"]: image["file"] and plan.folder / image["file"]
            for image in record["result"]["images"]}
    if not all(file and file.is_file() for file in kept.values()):
        return None, "its images were not kept"
    return kept, ""


def _pictures(plan: Plan, job: Job, protocol: Protocol, items: list[tuple],
              saved: dict[str, Path] | None,
              progress: Callable[[list], Iterable]) -> Iterator[Picture]:
    """Yield each image with its outputs: the saved ones, or those of the model run again."""
    network = None
    if saved is None:
        from irbench import checkpoints

        network, _ = checkpoints.ready(job.spec["model"], protocol, plan.folder,
                                       Path(plan.config["data_root"]),
                                       tuple(plan.config["plugins"]))
    for source, clean in progress(items):
        image = clean.load()
        if source is None:
            target = degrade.prepare_target(image, protocol)
            degraded = None if network is None else degrade.degrade(target, protocol,
                                                                    name=clean.name)
        else:
            degraded, target = degrade.prepare_pair(source.load(), image, protocol)
        restored = {}
        gray_file = image.shape[-1] == 1
        if (job.spec["model"]["arch"], protocol.task) == ("bicubic", "sr"):
            restored["y_only", "uint8"] = conventions.y_only(target, protocol.scale, gray_file)
        if network is None:
            restored["protocol", "uint8"] = _read(saved, (source or clean).name, target)
        else:
            inputs = {"protocol": degraded, **conventions.other_inputs(protocol, target, degraded)}
            for kind, x in inputs.items():
                y = _forward(network, x)
                restored[kind, "uint8"] = to_uint8(y)
                restored[kind, "float"] = np.clip(y, 0, 1) * np.float64(255)
        yield Picture(restored, target, gray_file)


def _read(saved: dict[str, Path], name: str, target: np.ndarray) -> np.ndarray:
    from irbench.images import read_image, to_rgb

    if name not in saved:
        raise UserError(f"the record has no image {name!r}: it is of another state of the set. "
                        "Evaluate the cell again, or use --rerun.")
    image = read_image(saved[name])
    image = to_rgb(image) if target.shape[-1] == 3 else image
    if image.shape != target.shape:
        raise UserError(f"{saved[name]}: {image.shape} (H, W, C), but its target is "
                        f"{target.shape}. Evaluate the cell again, or use --rerun.")
    return image


def _forward(network, x: np.ndarray) -> np.ndarray:
    """Run a model: float32 (h, w, C) to float32 (H, W, C), neither clipped nor rounded."""
    import torch

    with torch.inference_mode():
        y = network(torch.from_numpy(np.ascontiguousarray(x)).permute(2, 0, 1)[None])
    return y[0].permute(1, 2, 0).float().numpy()


def _untried(protocol: Protocol) -> str:
    """Name what only running the model again can show."""
    names = {"matlab_bicubic": ["float"], "gaussian_noise": ["bgr", "rounded"]}.get(
        protocol.degradation["kind"], [])
    if protocol.channels == 1:
        names = [name for name in names if name != "bgr"]
    return "; ".join(["outputs not rounded to uint8", *(INPUTS[name] for name in names)])


def _compare_with_record(plan: Plan, job: Job, metric: str, value: float | None) -> None:
    """Refuse saved images that do not give what the record says."""
    known = records.read(_record(plan, job))["result"]["mean"].get(metric)
    if known is not None and (value is None or abs(known - value) > 1e-4):
        raise UserError(f"{job.title}: the saved images give {metric} {value}, its record says "
                        f"{known}: they are of another run. Evaluate the cell again, or use "
                        "--rerun.")
