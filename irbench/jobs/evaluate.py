"""Evaluate one cell: one model on one dataset under one protocol.

file -> decoded uint8 -> degraded -> tensor -> model -> uint8 -> scores -> record

Sets of clean images and of pairs differ only in the source of the input. Images are processed one
after another on purpose: on a CPU decoding, degrading and scoring take 1 % of the time of
Compacter's forward passes (``benchmarks/cell.py``), so a thread for them would gain little.

The model runs with its ``inference`` options (irbench/inference/options.py). By default it runs in
float32 on the whole image, or in tiles if memory does not suffice; the result states which.

Try: ``irbench eval --protocol sr-x2 --dataset photos --model bicubic``
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from irbench.catalog.protocols import Protocol
from irbench.core import messages, records
from irbench.core.errors import Damaged, Unavailable, UserError
from irbench.core.run_folder import INPUT, TARGET, RunFolder
from irbench.data import obtain, outputs, sets
from irbench.imaging import degrade, metrics
from irbench.imaging.images import as_channels, put_png, to_float, to_rgb, to_uint8
from irbench.jobs.result import USUAL, Result, RunSettings
from irbench.models import interface, registry
from irbench.plan import Job, Plan
from irbench.weights import loading, storage

if TYPE_CHECKING:
    from torch import nn

    from irbench.catalog.model import Model
    from irbench.inference.tiling import Tiled


def run(plan: Plan, job: Job, settings: RunSettings = USUAL) -> Result:
    """Evaluate a cell; writes only the images to keep.

    Args:
        plan: the run the cell belongs to.
        job: the cell.
        settings: device, threads, whether to show progress, how many images to restore, whether to
            keep the restored images even if the config does not request it, and the network of a
            model that is in memory only.

    Returns:
        Its ``result``: ``images`` (name, height, width, scores, ``tiles``: 1 is the
        whole image, ``file``, and for kept images ``kept``, the digests of their files), ``mean``,
        ``missing``, ``device``, ``inference`` (the options), ``tiling`` (``Tiled.record``, None if
        every image was restored whole) and ``dictionary`` (``interface.diagnose`` of the first
        image or its first tile; None for a network without this method, and for a compiled one,
        which cannot be observed). A model given by its result images (``Model.given``) has only
        ``images`` (with ``output`` and ``sha256`` of each given file), ``mean`` and ``missing``.

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
        part = settings.limit is not None and settings.limit < len(items)
        items = items[:settings.limit]
        scorer = metrics.Scorer(protocol, tuple(job.spec.get("alone", job.spec["metrics"])))
        if job.model.given:
            given, resolved = _outputs(job.model, data)
        else:
            network, resolved = ready(plan, job, device, settings.module)
            foreign = guard.guarded(network.network)
    if job.model.given:
        return _scored(plan, job, settings, items, given, resolved, scorer, phases)
    images = []
    for item in messages.track(items, job.title, len(items)) if settings.progress else items:
        with named(item, data.name):
            scores, pictures = _image(item, network, job, protocol, scorer, device, phases)
            if foreign and not images:
                with phases("check"):
                    _check_repeatable(network, job.model.name, pictures, seed_for(
                        protocol, item.name), device)
        kept = {}
        if settings.keeps(job.spec["keep_images"]):
            with phases("write"):
                kept = _keep(plan.folder, job, item.name, *pictures)
        images.append({"name": item.name, **scores, "tiles": network.tiles,
                       "file": next(iter(kept), None), **({"kept": kept} if kept else {})})
    if facts := interface.diagnosis_in_words(network.network, network.observed):
        messages.say(f"{facts} (first image)")
    names = tuple(job.spec["metrics"])
    return Result(
        {"images": images, "mean": metrics.mean(images, names),
         "missing": _missing(scorer, images, names, "alone" in job.spec), "device": device,
         "inference": network.options.as_dict(), "tiling": network.record(),
         "dictionary": network.observed or None},
        resolved=resolved, seconds=phases.seconds, threads=settings.threads,
        spec={**job.spec, "limit": len(items)} if part else None)


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
    return given, {"checkpoint": found.sha256,
                   "outputs": {"path": where, "files": len(given), "suffix": suffix}}


def _scored(plan: Plan, job: Job, settings: RunSettings, items: list[Item],
            given: dict[str, sets.ImageFile], resolved: dict, scorer: metrics.Scorer,
            phases: records.Phases) -> Result:
    """Score result images that somebody else made; no network runs. See ``run``."""
    protocol = plan.protocols[job.key["protocol"]]
    images = []
    for item in messages.track(items, job.title, len(items)) if settings.progress else items:
        file = given[item.name]
        with named(item, job.key["dataset"], file):
            with phases("load"):
                degraded, target, gray = item.load(protocol)
                size = [round(protocol.scale * side) for side in degraded.shape[:2]]
                restored = _fitting(file.load(), (*size, degraded.shape[-1]))
            with phases("score"):
                found = scorer(restored, restored if target is None else target, gray_file=gray)
        kept = {}
        if settings.keeps(job.spec["keep_images"]):
            with phases("write"):
                kept = _keep(plan.folder, job, item.name, degraded, restored, target)
        images.append({"name": item.name, "height": size[0], "width": size[1],
                       **{name: found.get(name) for name in job.spec["metrics"]},
                       "output": f"{file.path.parent.name}/{file.path.name}",
                       "sha256": file.sha256, "file": next(iter(kept), None),
                       **({"kept": kept} if kept else {})})
    names = tuple(job.spec["metrics"])
    return Result({"images": images, "mean": metrics.mean(images, names),
                   "missing": _missing(scorer, images, names, "alone" in job.spec)},
                  resolved=resolved, seconds=phases.seconds,
                  spec={**job.spec, "limit": len(items)} if len(given) > len(items) else None)


def _fitting(picture: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Return a given picture, uint8 (H, W, 1 or 3), in the colours of ``shape`` (H, W, C).

    A gray picture of a colour target has its value in all channels, and a colour file with three
    equal channels is a gray picture. Raises Damaged for another size, or colours without need.
    """
    (h, w), (th, tw) = picture.shape[:2], shape[:2]
    if (h, w) != (th, tw):
        raise Damaged(f"the result image is {h}x{w} pixels (height x width), its target {th}x{tw} "
                      "(cropped as the protocol asks). They must have the same size.")
    if shape[-1] == 3:
        return to_rgb(picture)
    if (picture != picture[..., :1]).any():
        raise Damaged("the result image has colours, but the protocol scores gray images. Give "
                      "the gray results.")
    return np.ascontiguousarray(picture[..., :1])


def ready(plan: Plan, job: Job, device: str = "cpu",
          module: nn.Module | None = None) -> tuple[Tiled, dict]:
    """Return the network of a cell, for use with ``forward``, and the record's ``resolved``.

    Its ``tiles``, ``observed`` and ``record()`` describe the forward passes, see ``Tiled``. For
    ``module`` is the network of a model in memory (``RunSettings``); without it the weights are
    loaded.

    Raises:
        Unavailable: no weights, or no compiler.
        UserError: weights or inference options do not fit the model.
    """
    from irbench.inference import guard
    from irbench.inference.prepare import prepare
    from irbench.inference.seeding import seeded
    from irbench.inference.tiling import Tiled

    model, plugins = job.model, tuple(plan.config["plugins"])
    protocol = plan.protocols[job.key["protocol"]]
    if module is not None:
        digest = storage.state_digest(module.state_dict())
        network = guard.guard(module, model.name, scale=protocol.scale,
                              channels=protocol.channels)
    else:
        with seeded(seed_for(protocol, model.arch)):  # of a network that draws what no file holds
            network, digest = loading.ready(model, protocol, plan.folder,
                                            Path(plan.config["data_root"]), plugins)
    resolved = loading.resolved(network, digest)
    # a third party's network has its own list of number types
    dtypes = (None if model.external or module is not None
              else registry.get(model.arch, plugins).dtypes)
    network = prepare(network, model.inference, device, dtypes)
    watch = (None if model.inference.compile
             else functools.partial(interface.diagnose, network))
    return Tiled(network, model.inference, device, watch), resolved


@dataclass(frozen=True)
class Item:
    """The files of one image of a cell. ``source`` is None if the input is made from the target.

    ``target`` is None in a set without targets. The name is that of the input, because several
    inputs may share one target.
    """

    name: str
    target: sets.ImageFile | None
    source: sets.ImageFile | None = None

    def load(self, protocol: Protocol) -> tuple[np.ndarray, np.ndarray | None, bool]:
        """Return the input float32 (h, w, C), the target uint8 (H, W, C), whether its file is gray.

        Without a target the second is None, and the third says whether the input's file is gray.

        Raises Unavailable for a missing file, and Damaged for a broken file or a pair whose images
        do not fit together: these are errors of the data, not of the command.
        """
        if self.target is None:
            given = self.source.load()
            try:
                degraded = to_float(
                    as_channels(given, protocol.color, protocol.gray) if protocol.scale > 1
                    else degrade.scored_target(given, protocol))
            except UserError as error:
                raise Damaged(str(error)) from None
            return degraded, None, given.shape[-1] == 1
        image = self.target.load()
        if self.source:
            given = self.source.load()
            try:
                degraded, target = degrade.prepare_pair(given, image, protocol)
            except UserError as error:
                raise Damaged(str(error)) from None
        else:
            target = degrade.prepare_target(image, protocol)
            degraded = degrade.degrade(target, protocol, name=self.name)
        return degraded, target, image.shape[-1] == 1


def list_items(data: sets.Dataset, protocol: Protocol) -> list[Item]:
    """List the images of a set, sorted by name."""
    if protocol.paired and "hr" not in data.roles:
        return [Item(source.name, None, source) for source in data.role("input")]
    if protocol.paired:
        return [Item(source.name, target, source) for source, target in data.pairs()]
    return [Item(target.name, target) for target in data.role("hr")]


@contextlib.contextmanager
def named(item: Item, dataset: str, output: sets.ImageFile | None = None) -> Iterator[None]:
    """Add the image's name to every error; to the traceback of a bug as a note.

    The message is stored in the cell's record, so absolute paths, which are specific to this
    machine, are replaced by ``DATASET/FOLDER/FILE``.
    """
    paths = [file.path for file in (output, item.source, item.target) if file]
    names = {str(path): f"{dataset}/{path.parent.name}/{path.name}" if path.is_absolute()
             else str(path) for path in paths}
    try:
        yield
    except UserError as error:
        text = str(error)
        if not any(path in text for path in names):
            text = f"{' with '.join(names)}: {text}"
        for path, name in names.items():
            text = text.replace(path, name)
        raise type(error)(text) from None
    except Exception as error:
        error.add_note(f"at the image {' with '.join(names)}")
        raise


def _image(item: Item, network: Tiled, job: Job, protocol: Protocol, scorer: metrics.Scorer,
           device: str, phases: records.Phases) -> tuple[dict, tuple[np.ndarray, ...]]:
    """Process one image; return its scores, and (input, restored, target or None)."""
    from irbench.inference.guard import check_values

    with phases("load"):
        degraded, target, gray_file = item.load(protocol)
    with phases("forward"):
        values = forward(network, degraded, device, seed_for(protocol, item.name))
        check_values(values, job.model.name, network.options.dtype)
        restored = to_uint8(values)
    with phases("score"):
        # without a target only metrics that do not look at one are prepared
        found = scorer(restored, restored if target is None else target, gray_file=gray_file)
        scores = {name: found.get(name) for name in job.spec["metrics"]}
    size = {"height": restored.shape[0], "width": restored.shape[1]}
    return {**size, **scores}, (degraded, restored, target)


def seed_for(protocol: Protocol, name: str) -> int:
    """Return the seed for everything that a network draws for an image: the same in every run."""
    return degrade.seed_of("inference", protocol.id, name)


def _check_repeatable(network: Tiled, name: str, pictures: tuple[np.ndarray, ...], seed: int,
                      device: str) -> None:
    """Restore an image a second time and compare; for code that may do more than a network does.

    ``pictures`` are input, restored image and target. Raises UserError if a value differs by more
    than one level of 255 (rounding on a GPU), or if the network has left evaluation mode.
    """
    degraded, restored, _ = pictures
    before = network.images
    again = to_uint8(forward(network, degraded, device, seed))
    network.images = before
    if any(module.training for module in network.network.modules()):
        raise UserError(f"model {name}: its forward pass puts it into training mode, in which "
                        "dropout and batch normalisation change the result. Remove train() from "
                        "its forward pass.")
    levels = np.abs(again.astype(int) - restored).max()
    if levels > 1:
        raise UserError(f"model {name}: two passes over one image differ by up to {levels} levels "
                        "of 255, though torch, numpy and random had the same seed. Its result must "
                        "not depend on earlier images, the time, or a generator of its own that is "
                        "not seeded.")


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


def _keep(folder: Path, job: Job, name: str, degraded: np.ndarray, restored: np.ndarray,
          target: np.ndarray | None) -> dict[str, str]:
    """Write the restored image, the input (rounded) and the target, if there is one.

    Returns their paths, relative to the run folder, with the SHA-256 of each.
    """
    run, place = RunFolder(folder), (job.key["protocol"], job.key["dataset"])
    kept = {}
    # input and target are always compared: the set's files may have changed since an earlier run
    for owner, image in ((job.key["model"], restored), (INPUT, to_uint8(degraded)),
                         (TARGET, target)):
        if image is None:
            continue
        path = run.image(*place, owner, name)
        kept[path.relative_to(folder).as_posix()] = put_png(path, image)
    return kept


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
            why = scorer.failed.get(name, f"identical to the target, {name} is infinite")
            reasons[name] = f"{', '.join(without)}: {why}"
    return reasons
