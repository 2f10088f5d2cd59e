"""One cell: one model on one dataset under one protocol, image by image, to one record.

file -> decoded uint8 -> degraded -> tensor -> model -> uint8 -> scores -> record

Try: ``irbench eval --protocol sr-x2 --dataset photos --model bicubic``
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from irbench import checkpoints, datasets, degrade, metrics, records
from irbench.errors import Unavailable, UserError
from irbench.images import to_float, to_uint8, write_png
from irbench.plan import Job, Plan
from irbench.protocols import Protocol

INPUT, TARGET = "_input", "_target"


def run(plan: Plan, job: Job, *, device: str = "cpu", threads: int = 1,
        keep_images: bool = False, progress=None) -> dict:
    """Evaluate a cell and return its record; nothing is written but images that are to be kept.

    Args:
        plan: the run the cell belongs to.
        job: the cell.
        device: ``cpu`` or ``cuda``.
        threads: CPU threads for torch.
        keep_images: whether to write the restored images.
        progress: wraps the list of images, e.g. tqdm.

    Raises:
        Unavailable: weights or data are missing, a file is broken, memory ran out.
        UserError: the model does not fit.
    """
    import torch

    torch.set_num_threads(threads)
    phases = records.Phases()
    protocol = plan.protocols[job.key["protocol"]]
    model = job.spec["model"]
    with phases("load"):
        data = datasets.obtain(plan.entry(job.key["dataset"]), Path(plan.config["data_root"]))
        network = checkpoints.build(model, protocol, tuple(plan.config["plugins"]))
        digest = None
        if model["learned"]:
            path, expected = checkpoints.locate(model, protocol, plan.folder,
                                                Path(plan.config["data_root"]))
            digest = checkpoints.load(network, path, model, protocol, expected)
        network.to(device)
        scorer = metrics.Scorer(protocol, tuple(job.spec["metrics"]))
    images = []
    for item in (progress or iter)(data.role("hr")):
        try:
            scores, pictures = _image(item, network, protocol, scorer, device, phases)
        except UserError as error:
            # an error of an image names the image
            named = item.path.name in str(error)
            raise type(error)(f"{error}" if named else f"{item.path}: {error}") from None
        kept = None
        if keep_images:
            with phases("write"):
                kept = _keep(plan.folder, job, item.name, *pictures)
        images.append({"name": item.name, **scores, "file": kept})
    names = tuple(job.spec["metrics"])
    return records.make(
        "cell", job.key, job.spec, resolved={"checkpoint": digest}, seconds=phases.seconds,
        threads=threads,
        result={"images": images, "mean": metrics.mean(images, names),
                "missing": _missing(scorer, images, names), "device": device})


def _image(item: datasets.ImageFile, network, protocol: Protocol, scorer: metrics.Scorer,
           device: str, phases: records.Phases) -> tuple[dict, tuple[np.ndarray, ...]]:
    """Follow one image from its file to its scores; also return input, restored and target."""
    with phases("load"):
        image = item.load()
        target = degrade.prepare_target(image, protocol)
        degraded = degrade.degrade(target, protocol)
    with phases("forward"):
        restored = _restore(network, degraded, device)
    with phases("score"):
        scores = scorer(restored, target, gray_file=image.shape[-1] == 1)
    size = {"height": target.shape[0], "width": target.shape[1]}
    return {**size, **scores}, (degraded, restored, target)


def _restore(network, degraded: np.ndarray, device: str) -> np.ndarray:
    """Run the model on one image: float32 (h, w, C) to uint8 (H, W, C)."""
    import torch

    from irbench.profiling import out_of_memory

    x = torch.from_numpy(np.ascontiguousarray(degraded)).permute(2, 0, 1)[None].to(device)
    try:
        with torch.inference_mode():
            y = network(x)[0].permute(1, 2, 0).float().cpu().numpy()
    except RuntimeError as error:
        if out_of_memory(error):
            raise Unavailable(f"out of memory at {degraded.shape[0]}x{degraded.shape[1]} "
                              "pixels.") from None
        raise
    return to_uint8(y)


def _keep(folder: Path, job: Job, name: str, degraded: np.ndarray, restored: np.ndarray,
          target: np.ndarray) -> str:
    """Write the restored image, and once per set the input (rounded) and the target."""
    base = folder / "images" / job.key["protocol"] / job.key["dataset"]
    path = base / job.key["model"] / f"{name}.png"
    write_png(path, restored)
    for reserved, image in ((INPUT, degraded), (TARGET, to_float(target))):
        # always written: a set's file may have changed since an earlier run
        write_png(base / reserved / f"{name}.png", to_uint8(image))
    return path.relative_to(folder).as_posix()


def _missing(scorer: metrics.Scorer, images: list[dict], names: tuple[str, ...]) -> dict:
    """Say for each metric without a mean why it has none."""
    reasons = dict(scorer.missing)
    for name in names:
        without = [image["name"] for image in images if image[name] is None]
        if without and name not in reasons:
            reasons[name] = f"{', '.join(without)}: identical to the target, {name} is infinite"
    return reasons
