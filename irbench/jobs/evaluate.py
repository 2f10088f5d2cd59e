"""Evaluate one cell: one model on one dataset under one protocol.

file -> decoded uint8 -> degraded -> tensor -> model -> uint8 -> scores -> record

Sets of clean images and of pairs differ only in the source of the input. The network runs in this
thread, one image after another. Beside a GPU, and where no network runs, other threads load the
next images and score the last ones (``irbench.jobs.cells.pipeline``). A network on the CPU takes
its cores itself: there loading and scoring are 1 % of the time of Compacter's forward passes
(``benchmarks/cell.py``), and all happens in turn.

The model runs with its ``inference`` options (irbench/inference/options.py). By default it runs in
float32 on the whole image, or in tiles if memory does not suffice; the result states which.

Try: ``irbench eval --protocol sr-x2 --dataset photos --model bicubic``
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from irbench.catalog.protocols import Protocol
from irbench.core import messages, records
from irbench.core.errors import Unavailable, Unrepeatable
from irbench.data import obtain, outputs, sets
from irbench.imaging import degrade, metrics
from irbench.imaging.images import to_uint8
from irbench.jobs.cells.images import CellImages, Finished, Given
from irbench.jobs.cells.items import LARGE, Item, list_items
from irbench.jobs.result import USUAL, Result, RunSettings
from irbench.models import interface, registry
from irbench.plan import Job, Plan
from irbench.weights import loading, storage

if TYPE_CHECKING:
    from torch import nn

    from irbench.catalog.model import Model
    from irbench.inference.guard import Range
    from irbench.inference.tiling import Tiled

ROUNDED = 0.001     # share of an image's values that rounding may move by one level of 255


def run(plan: Plan, job: Job, settings: RunSettings = USUAL) -> Result:
    """Evaluate a cell; writes only the images to keep.

    Args:
        plan: the run the cell belongs to.
        job: the cell.
        settings: device, threads, whether to show progress, how many images to restore, whether to
            keep the restored images even if the config does not request it, the network of a model
            that is in memory only, and the part of the images to restore.

    Returns:
        Its ``result``: ``images`` (name, height, width, scores, ``tiles``: 1 is the
        whole image, ``file``, and for kept images ``kept``, the digests of their files), ``mean``,
        ``missing``, ``device``, ``inference`` (the options), ``tiling`` (``Tiled.record``, None if
        every image was restored whole) and ``dictionary`` (``interface.diagnose`` of the first
        image or its first tile; None for a network without this method, and for a compiled one,
        which cannot be observed). A model given by its result images (``Model.given``) has only
        ``images`` (with ``output`` and ``sha256`` of each given file), ``mean`` and ``missing``. A
        part has only its ``images``.

    Raises:
        Unavailable: weights or data are missing, a file is broken, memory ran out.
        UserError: the model does not fit the protocol, cannot run with its inference options,
            returns something else than an image, or gives other values each time.
    """
    import torch

    from irbench.inference import guard

    torch.set_num_threads(settings.threads)
    device = settings.device
    phases = records.Phases()
    protocol = plan.protocols[job.key["protocol"]]
    with phases("load"):
        data = obtain.obtain(plan.entry(job.key["dataset"]), Path(plan.config["data_root"]))
        items = list_items(data, protocol)
        limited = settings.limit is not None and settings.limit < len(items)
        items = items[:settings.limit]
        scorer = metrics.Scorer(protocol, tuple(job.spec.get("alone", job.spec["metrics"])))
        if job.model.given:
            given, resolved = _outputs(job.model, data)
        else:
            network, resolved = ready(plan, job, device, settings.module, settings.source,
                                      settings.load)
            foreign = guard.guarded(network.network)
            # to compile a second one would take minutes
            again = (None if settings.module is not None or job.model.inference.compile
                     else functools.partial(_anew, plan, job, device))
    if job.model.given:
        return _scored(plan, job, settings, items, given, resolved, scorer, phases)
    cell = Restored(plan, job, settings, protocol, data.name, scorer, phases, resolved,
                    network, foreign, again)
    images = cell.all(items, settings.workers_beside(device))
    if settings.part:
        return Result({"images": images})
    if facts := interface.diagnosis_in_words(network.network, network.observed):
        messages.say(f"{facts} (first image)")
    names = tuple(job.spec["metrics"])
    return Result(
        {"images": images, "mean": metrics.mean(images, names),
         "missing": _missing(scorer, images, names, "alone" in job.spec), "device": device,
         "inference": network.options.as_dict(), "tiling": network.record(),
         "dictionary": network.observed or None},
        resolved=resolved, seconds=phases.seconds, threads=settings.threads,
        spec={**job.spec, "limit": len(items)} if limited else None)


def _outputs(model: Model, data: sets.Dataset) -> tuple[dict[str, sets.ImageFile], dict]:
    """Return the given result image of each image of a set, and the record's ``resolved``.

    Raises Unavailable if there are none, or not one for each image.
    """
    where = model.checkpoint.path
    found = outputs.find(where)
    if found is None:
        raise Unavailable(f"{where}: no images there. Put the result images of {data.name!r} into "
                          f"this folder, or correct `outputs` of models.{model.name}.")
    given, suffix = outputs.match(found, data)
    return given, {"checkpoint": found.sha256, "outputs": {
        "path": where, "files": len(given), "suffix": suffix, **outputs.lossy(given.values())}}


def _scored(plan: Plan, job: Job, settings: RunSettings, items: list[Item],
            given: dict[str, sets.ImageFile], resolved: dict, scorer: metrics.Scorer,
            phases: records.Phases) -> Result:
    """Score result images that somebody else made; no network runs. See ``run``."""
    cell = Given(plan, job, settings, plan.protocols[job.key["protocol"]], job.key["dataset"],
                  scorer, phases, resolved, given)
    images = cell.all(items, settings.workers_beside("cpu", network=False))
    if settings.part:
        return Result({"images": images})
    names = tuple(job.spec["metrics"])
    return Result({"images": images, "mean": metrics.mean(images, names),
                   "missing": _missing(scorer, images, names, "alone" in job.spec)},
                  resolved=resolved, seconds=phases.seconds,
                  spec={**job.spec, "limit": len(items)} if len(given) > len(items) else None)


def load_network(plan: Plan, job: Job, device: str = "cpu", module: nn.Module | None = None,
                 source: Path | None = None) -> tuple[nn.Module, dict]:
    """Return the network of a cell, and the record's ``resolved``; see ``ready``."""
    from irbench.inference import guard
    from irbench.inference.prepare import prepare
    from irbench.inference.seeding import seeded

    model, plugins = job.model, tuple(plan.config["plugins"])
    protocol = plan.protocols[job.key["protocol"]]
    if module is not None:
        digest = storage.state_digest(module.state_dict())
        network = guard.guard(module, model.name, scale=protocol.scale,
                              channels=protocol.channels, plugin=source)
    else:
        with seeded(seed_for(protocol, model.arch)):  # of a network that draws what no file holds
            network, digest = loading.ready(model, protocol, plan.folder,
                                            Path(plan.config["data_root"]), plugins)
    resolved = loading.resolved(network, digest)
    # a third party's network has its own list of number types
    dtypes = (None if model.external or module is not None
              else registry.get(model.arch, plugins).dtypes)
    return prepare(network, model.inference, device, dtypes), resolved


def ready(plan: Plan, job: Job, device: str = "cpu", module: nn.Module | None = None,
          source: Path | None = None, load: Callable | None = None) -> tuple[Tiled, dict]:
    """Return the network of a cell, for use with ``forward``, and the record's ``resolved``.

    Its ``tiles``, ``observed`` and ``record()`` describe the forward passes, see ``Tiled``. For
    a model in memory, ``module`` is its network and ``source`` its Python file (``RunSettings``);
    without it the weights are loaded. Raises Unavailable without weights or compiler, and UserError
    if weights or inference options do not fit the model.
    """
    from irbench.inference.tiling import Tiled

    network, resolved = (load or load_network)(plan, job, device, module, source)
    watch = None if job.model.inference.compile else functools.partial(interface.diagnose, network)
    return Tiled(network, job.model.inference, device, watch), resolved


def _anew(plan: Plan, job: Job, device: str) -> Tiled:
    return ready(plan, job, device)[0]


@dataclass
class Restored(CellImages):
    """Images that a network restores.

    Attributes:
        network: the network.
        foreign: whether its code may do more than a network does. Then the first image is restored
            a second time after the next one: a network that adds up what it sees, such as a running
            mean, gives the first image the same result at once.
        again: builds the network of others' code anew; None if that cannot be done. The new one
            must give the same result: what it draws when it is built is not part of its weights.
    """

    network: Tiled
    foreign: bool
    again: Callable[[], Tiled] | None = None
    # the first image, its tiles, input and result
    first: tuple[Item, int, np.ndarray, np.ndarray] | None = None

    def load(self, item: Item) -> tuple[np.ndarray, np.ndarray | None, bool]:
        """Return what ``Item.load`` does; in any thread."""
        with self.named(item), self.phases("load"):
            return item.load(self.protocol)

    def restore(self, item: Item, loaded: tuple) -> tuple:
        """Run the network; return what was loaded, its values (H, W, C), and the tiles."""
        from irbench.inference import guard

        device, seed = self.settings.device, seed_for(self.protocol, item.name)
        with self.named(item):
            with self.phases("forward"):
                values = forward(self.network, loaded[0], device, seed)
            tiles, state = self.network.tiles, self.network.state()
            # what was trained here learned the range of the targets, perhaps badly
            given = None if self.job.model.training else guard.range_of(loaded[0])
        if self.foreign:
            self._check_first(item, loaded[0], values, given)
        degraded, *target = loaded
        if not self.settings.keeps(self.job.spec["keep_images"]):
            degraded = None     # of a large image every array counts
        return (degraded, *target, (values, given), tiles, state)

    def _check_first(self, item: Item, degraded: np.ndarray, values: np.ndarray,
                     given: Range | None) -> None:
        """Restore the first image again, once there is another one; at once if it is large."""
        if self.first is None:
            with self.named(item):
                self.first = (item, self.network.tiles, degraded, self.rounded(values, given))
            if item.name != self.last and degraded.size <= LARGE:
                return
            if item.name == self.last and self.other and self.other.name != item.name:
                self._look_at(self.other)   # of a part, or of what a stopped cell has left
        first, tiles, *pictures = self.first
        self.foreign, self.first = False, None
        seed = seed_for(self.protocol, first.name)
        with self.named(first), self.phases("check"):
            _check_repeatable(self.network, self.job.model.name, pictures, seed,
                              self.settings.device, tiles)
            if self.again:
                _check_built_again(self.again, self.job.model.name, pictures, seed,
                                   self.settings.device, tiles)

    def _look_at(self, item: Item) -> None:
        """Restore an image that is not asked for, so that the network has seen another one."""
        degraded, before = self.load(item)[0], self.network.images
        with self.named(item), self.phases("check"):
            forward(self.network, degraded, self.settings.device,
                    seed_for(self.protocol, item.name))
        self.network.images = before

    def finish(self, item: Item, found: tuple) -> Finished:
        """Round, score and write an image; in any thread."""
        degraded, target, gray_file, values, tiles, state = found
        with self.named(item):
            return self.scored(item, degraded, lambda: self.rounded(*values), target, gray_file,
                               {"tiles": tiles}, state)

    def continue_from(self, state: dict) -> None:
        """Give the network what it knows after an image that another process has restored."""
        self.network.continue_from(state)

    def rounded(self, values: np.ndarray, given: Range | None) -> np.ndarray:
        """Check what the network returned, and return it as uint8 (H, W, C).

        ``given``: what the input's values are like, if the output's are to be compared with it.
        """
        from irbench.inference import guard

        guard.check_values(values, self.job.model.name, self.network.options.dtype, given)
        return to_uint8(values)


def seed_for(protocol: Protocol, name: str) -> int:
    """Return the seed for everything that a network draws for an image: the same in every run."""
    return degrade.seed_of("inference", protocol.id, name)


def _check_repeatable(network: Tiled, name: str, pictures: Sequence[np.ndarray], seed: int,
                      device: str, tiles: int) -> None:
    """Restore an image a second time and compare; for code that may do more than a network does.

    ``pictures`` are input and restored image, ``tiles`` those of the first pass: if memory has
    become so short that there are more now, the results differ by right. Raises Unrepeatable if the
    network has left evaluation mode, or if the images differ (``_difference``).
    """
    degraded, restored = pictures
    before = network.images
    again = to_uint8(forward(network, degraded, device, seed))
    network.images = before
    if any(module.training for module in network.network.modules()):
        raise Unrepeatable(f"model {name}: its forward pass puts it into training mode, in which "
                           "dropout and batch normalisation change the result. Remove train() from "
                           "its forward pass.")
    difference = _difference(again, restored, device) if network.tiles == tiles else ""
    if difference:
        raise Unrepeatable(f"model {name}: two passes over one image differ {difference}, though "
                           "torch, numpy and random had the same seed. Its result must not depend "
                           "on earlier images, the time, or a generator of its own that is not "
                           "seeded.")


def _check_built_again(build: Callable[[], Tiled], name: str, pictures: Sequence[np.ndarray],
                       seed: int, device: str, tiles: int) -> None:
    """Restore an image with a network that is built anew. Raises Unrepeatable if it differs.

    Arguments as for ``_check_repeatable``. Two networks may need more memory than there is: then
    it is said that they were not compared.
    """
    from irbench.inference.memory import out_of_memory

    degraded, restored = pictures
    try:
        network = build()
        again = to_uint8(forward(network, degraded, device, seed))
    except (Unavailable, RuntimeError, MemoryError) as error:
        if not (isinstance(error, Unavailable) or out_of_memory(error)):
            raise
        messages.say(f"model {name}: a second network from its builder was not compared with the "
                     f"first: {' '.join(str(error).split())}")
        return
    difference = _difference(again, restored, device) if network.tiles == tiles else ""
    if difference:
        raise Unrepeatable(f"model {name}: built twice, it gives one image two results, which "
                           f"differ {difference}, though torch, numpy and random had the same "
                           "seed. What it is made of must not depend on the time, on earlier "
                           "networks, or on a generator of its own that is not seeded.")


def _difference(again: np.ndarray, restored: np.ndarray, device: str) -> str:
    """Say how much two results differ, both uint8; "" if that is rounding.

    On a GPU a value may differ by one level of 255. On the CPU the same sums are made in the same
    order: there at most ``ROUNDED`` of the values may.
    """
    levels = np.abs(again.astype(np.int16) - restored)
    most, share = int(levels.max()), np.count_nonzero(levels) / levels.size
    if most > 1 or (device == "cpu" and share > ROUNDED):
        return f"by up to {most} level{'s' * (most != 1)} of 255 ({share:.1%} of the values)"
    return ""


def forward(network, degraded: np.ndarray, device: str = "cpu", seed: int = 0) -> np.ndarray:
    """Run the model on one image: float32 (h, w, C) to float32 (H, W, C), not clipped or rounded.

    Args:
        network: from ``ready``, or any module on the device.
        degraded: the input, which stays as it is.
        device: where the network is.
        seed: of what the network draws (``seed_for``); other generators continue undisturbed.

    Raises:
        Unavailable: memory runs out.
    """
    import torch

    from irbench.inference.memory import out_of_memory
    from irbench.inference.seeding import seeded

    # a copy: a network may work in place
    x = torch.from_numpy(np.array(degraded, order="C")).permute(2, 0, 1)[None].to(device)
    try:
        with torch.inference_mode(), seeded(seed):
            return network(x)[0].detach().permute(1, 2, 0).float().cpu().numpy()
    except (RuntimeError, MemoryError) as error:
        if out_of_memory(error):
            raise Unavailable(f"out of memory at {degraded.shape[0]}x{degraded.shape[1]} "
                              "pixels.") from None
        raise


def _missing(scorer: metrics.Scorer, images: list[dict], names: tuple[str, ...],
             targetless: bool) -> dict:
    """Return metric -> reason for each metric without a mean."""
    reasons = dict(scorer.missing)
    for name in names if targetless else ():
        if name not in scorer.prepared:
            reasons[name] = "the set has no targets to compare with"
    for name in names:
        without = [image["name"] for image in images if image[name] is None]
        if without and name not in reasons:
            reasons[name] = f"{', '.join(without)}: {scorer.reason(name)}"
    return reasons
