"""One cell: one model on one dataset under one protocol, image by image, to one result.

file -> decoded uint8 -> degraded -> tensor -> model -> uint8 -> scores -> record

Sets of clean images and of pairs take the same way; they differ in where the input comes from. It
is one image after the other, on purpose: on a CPU decoding, degrading and scoring take 1 % of the
time of Compacter's forward passes (``benchmarks/cell.py``), so a thread for them would gain little.

The model runs as its ``inference`` options say (irbench/inference/options.py), float32 and the
whole image unless asked otherwise or memory does not suffice; what was done is part of the result.

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
from irbench.data import obtain, sets
from irbench.imaging import degrade, metrics
from irbench.imaging.images import to_float, to_uint8, write_png
from irbench.jobs.result import USUAL, Result, RunSettings
from irbench.models import interface, registry
from irbench.plan import Job, Plan
from irbench.weights import loading

if TYPE_CHECKING:
    from irbench.inference.tiling import Tiled


def run(plan: Plan, job: Job, settings: RunSettings = USUAL) -> Result:
    """Evaluate a cell; nothing is written but images that are to be kept.

    Args:
        plan: the run the cell belongs to.
        job: the cell.
        settings: device, threads, whether to show progress, and whether to keep the restored
            images though the config does not ask for it.

    Returns:
        Its ``result``: ``images`` (name, height, width, scores, ``tiles``: 1 is the
        whole image, ``file``), ``mean``, ``missing``, ``device``, ``inference`` (the options),
        ``tiling`` (``Tiled.record``, None if every image was restored whole) and ``dictionary``
        (``interface.diagnose`` of the first image, of its first tile if it was tiled; None for a
        network that offers none, and for a compiled one, into which nothing can look).

    Raises:
        Unavailable: weights or data are missing, a file is broken, memory ran out.
        UserError: the model does not fit, or cannot run as its inference options say.
    """
    import torch

    torch.set_num_threads(settings.threads)
    device = settings.device
    phases = records.Phases()
    protocol = plan.protocols[job.key["protocol"]]
    with phases("load"):
        data = obtain.obtain(plan.entry(job.key["dataset"]), Path(plan.config["data_root"]))
        items = list_items(data, protocol)
        network, resolved = ready(plan, job, device)
        scorer = metrics.Scorer(protocol, tuple(job.spec["metrics"]))
    images = []
    for item in messages.track(items, job.title, len(items)) if settings.progress else items:
        with named(item, data.name):
            scores, pictures = _image(item, network, protocol, scorer, device, phases)
        kept = None
        if settings.keep_images or job.spec["keep_images"]:
            with phases("write"):
                kept = _keep(plan.folder, job, item.name, *pictures)
        images.append({"name": item.name, **scores, "tiles": network.tiles, "file": kept})
    if said := interface.diagnosis_in_words(network.network, network.observed):
        messages.say(f"{said} (first image)")
    names = tuple(job.spec["metrics"])
    return Result(
        {"images": images, "mean": metrics.mean(images, names),
         "missing": _missing(scorer, images, names), "device": device,
         "inference": network.options.as_dict(), "tiling": network.record(),
         "dictionary": network.observed or None},
        resolved=resolved, seconds=phases.seconds, threads=settings.threads)


def ready(plan: Plan, job: Job, device: str = "cpu") -> tuple[Tiled, dict]:
    """Return the network of a cell, to be given to ``forward``, and the record's ``resolved``.

    Its attributes ``tiles``, ``observed`` and ``record()`` tell what happened, see ``Tiled``.

    Raises:
        Unavailable: no weights, or nothing to compile with.
        UserError: weights or inference options do not fit the model.
    """
    from irbench.inference.prepare import prepare
    from irbench.inference.tiling import Tiled

    model, plugins = job.model, tuple(plan.config["plugins"])
    network, digest = loading.ready(model, plan.protocols[job.key["protocol"]], plan.folder,
                                        Path(plan.config["data_root"]), plugins)
    resolved = loading.resolved(network, digest)
    # a third party's network tells its number types itself
    dtypes = None if model.external else registry.get(model.arch, plugins).dtypes
    network = prepare(network, model.inference, device, dtypes)
    watch = (None if model.inference.compile
             else functools.partial(interface.diagnose, network))
    return Tiled(network, model.inference, device, watch), resolved


@dataclass(frozen=True)
class Item:
    """One image of a cell: its files. ``source`` is None where the input is made from the target.

    The name is the input's: of pairs, several inputs may share one target.
    """

    name: str
    target: sets.ImageFile
    source: sets.ImageFile | None = None

    def load(self, protocol: Protocol) -> tuple[np.ndarray, np.ndarray, bool]:
        """Return the input float32 (h, w, C), the target uint8 (H, W, C), is its file gray?

        Raises Unavailable for a missing file, Damaged for a broken one and for a pair that does
        not fit: the data are at fault, the command is not.
        """
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
    if protocol.paired:
        return [Item(source.name, target, source) for source, target in data.pairs()]
    return [Item(target.name, target) for target in data.role("hr")]


@contextlib.contextmanager
def named(item: Item, dataset: str) -> Iterator[None]:
    """Have every error of an image name it; a defect's traceback does so in a note.

    An absolute path is of this machine, and the message is kept in the cell's record: there it is
    ``DATASET/FOLDER/FILE``.
    """
    paths = [file.path for file in (item.source, item.target) if file]
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


def _image(item: Item, network, protocol: Protocol, scorer: metrics.Scorer, device: str,
           phases: records.Phases) -> tuple[dict, tuple[np.ndarray, ...]]:
    """Follow one image from its file to its scores; also return input, restored and target."""
    with phases("load"):
        degraded, target, gray_file = item.load(protocol)
    with phases("forward"):
        restored = to_uint8(forward(network, degraded, device))
    with phases("score"):
        scores = scorer(restored, target, gray_file=gray_file)
    size = {"height": target.shape[0], "width": target.shape[1]}
    return {**size, **scores}, (degraded, restored, target)


def forward(network, degraded: np.ndarray, device: str = "cpu") -> np.ndarray:
    """Run the model on one image: float32 (h, w, C) to float32 (H, W, C), not clipped or rounded.

    Args:
        network: of ``ready``, or any module on the device.
        degraded: the input.
        device: where the network is.

    Raises:
        Unavailable: memory runs out.
    """
    import torch

    from irbench.inference.memory import out_of_memory

    x = torch.from_numpy(np.ascontiguousarray(degraded)).permute(2, 0, 1)[None].to(device)
    try:
        with torch.inference_mode():
            return network(x)[0].permute(1, 2, 0).float().cpu().numpy()
    except (RuntimeError, MemoryError) as error:
        if out_of_memory(error):
            raise Unavailable(f"out of memory at {degraded.shape[0]}x{degraded.shape[1]} "
                              "pixels.") from None
        raise


def _keep(folder: Path, job: Job, name: str, degraded: np.ndarray, restored: np.ndarray,
          target: np.ndarray) -> str:
    """Write the restored image, and once per set the input (rounded) and the target."""
    run, of = RunFolder(folder), (job.key["protocol"], job.key["dataset"])
    path = run.image(*of, job.key["model"], name)
    write_png(path, restored)
    for reserved, image in ((INPUT, degraded), (TARGET, to_float(target))):
        # always written: a set's file may have changed since an earlier run
        write_png(run.image(*of, reserved, name), to_uint8(image))
    return path.relative_to(folder).as_posix()


def _missing(scorer: metrics.Scorer, images: list[dict], names: tuple[str, ...]) -> dict:
    """Say for each metric without a mean why it has none."""
    reasons = dict(scorer.missing)
    for name in names:
        without = [image["name"] for image in images if image[name] is None]
        if without and name not in reasons:
            why = scorer.failed.get(name, f"identical to the target, {name} is infinite")
            reasons[name] = f"{', '.join(without)}: {why}"
    return reasons
