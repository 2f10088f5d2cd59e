"""Training samples: random patches of pairs, or of clean images that the protocol degrades.

Sample i of step s is a pure function of (seed, scope, names, s, i). So resuming needs no saved
state, and neither the order of samples nor the number of processes that prepare them matters.

Reads datasets; writes the decoded images (``irbench.jobs.training.decoded``).

Try: ``python -c "from irbench.jobs.training import data; help(data.Patches.sample)"``
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from irbench.catalog.protocols import Protocol
from irbench.catalog.recipes import Recipe, in_phase
from irbench.core import code
from irbench.core.errors import UserError
from irbench.data import obtain, sets
from irbench.imaging.degrade import align_pair, degrade, prepare_target, seed_of
from irbench.imaging.images import imresize, to_float
from irbench.jobs.training import decoded

if TYPE_CHECKING:
    from irbench.plan import Job, Plan

SIDE = 192   # of the crops that validation uses, in pixels of the target


@dataclasses.dataclass(frozen=True)
class Source:
    """The images of one set: targets, and inputs if they are known beforehand."""

    dataset: str
    targets: decoded.Images
    inputs: decoded.Images | None = None

    def name(self, i: int) -> str:
        """Return the name of image i, for people and for seeds."""
        return f"{self.dataset}/{self.targets.names[i]}"

    def pair(self, i: int) -> tuple[np.ndarray | None, np.ndarray]:
        """Return (input or None, target) of image i: uint8 (H, W, C)."""
        return None if self.inputs is None else self.inputs[i], self.targets[i]


class Patches:
    """All training images, the samples cut from them, and the images held out for validation."""

    def __init__(self, images: list[Source], protocol: Protocol, recipe: Recipe, seed: int) -> None:
        """Choose the images.

        Args:
            images: the decoded sets.
            protocol: determines colour, scale and degradation; a blind one has a range of levels.
            recipe: gives ``patch``, ``batch``, ``phases``, ``holdout`` and ``exclude``.
            seed: the run's seed.

        Raises:
            UserError: no image is left, an image is smaller than a patch, or an excluded image does
                not exist.
        """
        self.protocol, self.recipe, self.seed = protocol, recipe, seed
        # a teacher's images by the names of the training images, float (H, W, C)
        self.taught: Mapping[str, np.ndarray] | None = None
        every = [(source, i) for source in images for i in range(len(source.targets))]
        every = [one for one in every if not _excluded(*one, recipe.exclude)]
        _check_excluded(images, recipe.exclude)
        # chosen by a hash of their names, so that other images in the set do not matter
        order = sorted(every, key=lambda one: hashlib.sha256(one[0].name(one[1]).encode()).digest())
        self.held_out = order[:recipe.holdout]
        held = {(id(source), i) for source, i in self.held_out}
        self.images = [one for one in every if (id(one[0]), one[1]) not in held]
        patch = max(recipe.patches)
        small = [source.name(i) for source, i in every
                 if min(source.targets.shapes[i][:2]) < patch]
        if small or not self.images:
            raise UserError(
                f"training images smaller than the patch of {patch} pixels: "
                f"{', '.join(small[:5])}{' ...' if small[5:] else ''}. Lower `patch` or `exclude` "
                "them." if small else
                f"no training image is left of {len(every)}, {len(self.held_out)} of them held out "
                "for validation. Give more `data`, or lower `holdout`.")

    def sample(self, step: int, index: int, patch: int) -> tuple[np.ndarray, ...]:
        """Return input and target of a sample, and with a teacher the patch of its image.

        Args:
            step: the step of the training, from 0.
            index: the index within the step's batch.
            patch: side of the target in pixels.

        Returns:
            Input float32 (C, patch/scale, patch/scale), in [0, 1] except for noise; target
            float32 (C, patch, patch) in [0, 1]; and the teacher's image of the same patch, of the
            same shape, not clipped.
        """
        source, i = self._choose(step, index)
        rng = np.random.RandomState(seed_of(self.seed, self.protocol.id, source.name(i), step,
                                            index))
        given, target = source.pair(i)
        scale = self.protocol.scale if given is not None else 1
        # a corner that the scale divides, so that input and target are aligned
        top, left = (rng.randint(0, (n - patch) // scale + 1) * scale for n in target.shape[:2])
        turns, mirrored = rng.randint(4), rng.randint(2)
        place = (top, left, patch, turns, mirrored)
        more = [] if self.taught is None else [
            _cut(self.taught[source.name(i)], *place).astype(np.float32)]
        target = _cut(target, *place)
        if given is None:
            degraded = degrade(target, self._level(rng), rng)
        else:
            degraded = to_float(_cut(given, top // scale, left // scale, patch // scale, turns,
                                     mirrored))
        return tuple(np.ascontiguousarray(a.transpose(2, 0, 1))
                     for a in (degraded, to_float(target), *more))

    def names(self, step: int, batch: int) -> list[str]:
        """Return the names of the images in a step's batch."""
        found = (self._choose(step, index) for index in range(batch))
        return list(dict.fromkeys(source.name(i) for source, i in found))

    def _choose(self, step: int, index: int) -> tuple[Source, int]:
        # every image equally often, regardless of its size, as in the published toolkits
        picker = np.random.RandomState(seed_of(self.seed, self.protocol.id, step, index))
        return self.images[picker.randint(len(self.images))]

    def _level(self, rng: np.random.RandomState) -> Protocol:
        """Draw the level of a blind protocol; return any other protocol unchanged."""
        (parameter, (low, high)), = (self.recipe.levels or {None: (0, 0)}).items()
        if parameter is None:
            return self.protocol
        drawn = rng.randint(low, high + 1) if parameter == "quality" else rng.uniform(low, high)
        return at_level(self.protocol, parameter, drawn)

    def validation(self) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """Yield name, input float32 (H, W, C) and target uint8 (H, W, C) of the held-out images.

        Images are cropped to their middle, at most 192 pixels per side. The levels of a blind
        training are spread evenly over the images.
        """
        levels = self.recipe.levels
        for n, (source, i) in enumerate(self.held_out):
            given, target = source.pair(i)
            unit = self.protocol.unit * 2   # even in the input too, since a mosaic begins with red
            sides = [min(SIDE, side) // unit * unit for side in target.shape[:2]]
            top, left = ((side - cut) // 2 // unit * unit
                         for side, cut in zip(target.shape[:2], sides, strict=True))
            target = np.ascontiguousarray(target[top:top + sides[0], left:left + sides[1]])
            if given is not None:
                s = self.protocol.scale
                degraded = to_float(given[top // s:(top + sides[0]) // s,
                                          left // s:(left + sides[1]) // s])
            else:
                protocol = self.protocol
                if levels:
                    (parameter, (low, high)), = levels.items()
                    share = n / max(1, len(self.held_out) - 1)
                    protocol = at_level(protocol, parameter, round(low + share * (high - low)))
                degraded = degrade(target, protocol, np.random.RandomState(
                    seed_of(self.seed, "validation", source.name(i))))
            yield source.name(i), degraded, target


def at_level(protocol: Protocol, parameter: str, value: float) -> Protocol:
    """Return a blind protocol at one of its levels."""
    return dataclasses.replace(protocol, degradation={**protocol.degradation, parameter: value})


def _cut(image: np.ndarray, top: int, left: int, side: int, turns: int,
         mirrored: int) -> np.ndarray:
    """Cut a square and apply one of the eight symmetries of the square."""
    patch = np.rot90(image[top:top + side, left:left + side], turns)
    return np.ascontiguousarray(patch[:, ::-1] if mirrored else patch)


def _excluded(source: Source, i: int, exclude: dict[str, list[str]]) -> bool:
    return source.targets.names[i] in exclude.get(source.dataset, ())


def _check_excluded(images: list[Source], exclude: dict[str, list[str]]) -> None:
    """Raise UserError for a name that excludes no image: a typo would let a test image in."""
    for source in images:
        for name in exclude.get(source.dataset, ()):
            if name not in source.targets.names:
                raise UserError(f"exclude: dataset {source.dataset!r} has no image {name!r}. Give "
                                "file names without their extension.")


# -- from the sets -------------------------------------------------------------------------------

def load(plan: Plan, job: Job, protocol: Protocol) -> Patches:
    """Return the samples of a training; its sets are decoded once.

    With a teacher ``irbench.jobs.training.teacher.teach`` must follow.

    Raises:
        Unavailable: a set is missing.
        UserError: images and recipe do not fit together.
    """
    recipe, root = job.model.training, Path(plan.config["data_root"])
    found = []
    for name in recipe.data:
        data = obtain.obtain(plan.entry(name), root)
        key = {"set": sets.digest(plan.entry(name)), "color": protocol.color, "gray": protocol.gray,
               "unit": protocol.unit,
               "code": code.of_modules("irbench.imaging.degrade", "irbench.imaging.images")}
        folder = root / "decoded"
        if protocol.paired:
            key["degradation"] = protocol.degradation
            parts = [decoded.obtain(folder, f"{name}-{what}", [key, what],
                                    lambda d=data, k=k: _of_pairs(d, protocol, k))
                     for k, what in enumerate(("input", "target"))]
            found.append(Source(name, parts[1], parts[0]))
            continue
        targets = decoded.obtain(folder, name, key, lambda d=data: _targets(d, protocol))
        inputs = None
        if protocol.fixed_input:
            inputs = decoded.obtain(
                folder, f"{name}-x{protocol.scale}", [key, protocol.degradation],
                lambda t=targets: ((t.names[i], imresize(t[i], 1 / protocol.scale))
                                   for i in range(len(t))))
        found.append(Source(name, targets, inputs))
    return Patches(found, protocol, recipe, job.spec["seed"])


def _targets(data: sets.Dataset, protocol: Protocol) -> Iterator[tuple[str, np.ndarray]]:
    for item in data.role("hr"):
        yield item.name, _named(f"{data.name}/{item.name}",
                                lambda i=item: prepare_target(i.load(), protocol))


def _of_pairs(data: sets.Dataset, protocol: Protocol,
              which: int) -> Iterator[tuple[str, np.ndarray]]:
    for item, target in data.pairs():
        yield item.name, _named(
            f"{data.name}/{item.name}",
            lambda i=item, t=target: align_pair(i.load(), t.load(), protocol)[which])


def _named(name: str, work) -> np.ndarray:
    try:
        return work()
    except UserError as error:
        raise type(error)(f"{name}: {error}") from None


def positions(recipe: Recipe, share: float, step: int, rank: int,
              world: int) -> Iterator[list[tuple[int, int, int]]]:
    """Yield a process's parts of a step's batch: lists of (step, index, patch).

    Args:
        recipe: gives batch, patch and the number of parts for gradient accumulation.
        share: the spent share of the budget, which determines the phase.
        step: the step.
        rank: the number of this process, from 0.
        world: the number of processes that share the batch.
    """
    now = in_phase(recipe, share)
    size = now.batch // recipe.accumulate
    for part in range(recipe.accumulate):
        yield [(step, part * size + i, now.patch) for i in range(rank, size, world)]
