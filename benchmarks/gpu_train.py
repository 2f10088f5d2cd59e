"""The training of ``gpu.py train``: a recipe that fits into the minutes, and its files.

Reads   ``--data``, and the state of an earlier call.
Writes  the weights, the curve and the record to ``out``; the state, if it was stopped early.

Try: ``benchmarks/gpu.sh train compacter sr-x2 1 --device cpu --tiny --data IMAGES --out /tmp/gpu``
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import gpu_data
import torch
from gpu_findings import Findings

from irbench.catalog import protocols
from irbench.catalog.protocols import Protocol
from irbench.core import run_folder
from irbench.inference.prepare import check_compiler
from irbench.jobs import run
from irbench.plan import Job, Plan

END = 10.0      # seconds before the end at which a training that is not done stops and saves


def recipe_for(settings: dict, protocol: Protocol, device: str, smallest: int) -> dict:
    """Return the recipe for the time, as a config's ``training`` without the data.

    It is ``short``, whose rates were chosen for trainings of this length, with four times its
    patches per step, larger patches, and a budget in seconds: the learning rate falls to zero at
    the end of the time. ``--set`` overrides any field.

    Args:
        settings: of the command.
        protocol: the protocol to train for.
        device: ``cpu`` or ``cuda``.
        smallest: the smallest side of an image in pixels, which a patch must not exceed.
    """
    seconds = 60 * settings["minutes"]
    patch = min(48 * protocol.scale if protocol.scale > 1 else 96,
                smallest // (8 * protocol.scale) * 8 * protocol.scale)
    half = device == "cuda" and torch.cuda.is_bf16_supported()
    recipe = {
        "recipe": "short",
        # the start, the decoding of the images and the end take their time, too
        "seconds": seconds - min(60.0, 0.25 * seconds),
        "patch": max(patch, 8 * protocol.scale), "batch": 32, "precision": "bf16" if half else "no",
        "workers": max(0, min(8, settings["cores"] - 2)), "validate_every": 500, "save_minutes": 1}
    if not hasattr(torch.optim, "Muon"):    # torch before 2.9
        recipe["optimiser"] = "adamw"
    if settings["tiny"]:
        recipe |= {"patch": 16 * protocol.scale, "batch": 2, "workers": 0, "holdout": 1,
                   "validate_every": 2, "steps": 4}
        del recipe["seconds"]
    return recipe | settings["recipe"]


def train(found: Findings) -> None:
    """Train, and put the files into ``out``, also those of a training that was stopped."""
    settings, device = found.settings, found.device()
    if settings["compile"]:
        check_compiler(device)
    protocol = protocols.get(settings["protocol"])
    sides = [side for path in gpu_data.find_images(Path(settings["data"]))
             if (side := gpu_data.side(path))]
    recipe = recipe_for(settings, protocol, device, min(sides, default=0))
    planned, job = gpu_data.own_training(settings, protocol, recipe)
    state = planned.run_folder.beside(job.key, run_folder.STATE)
    if settings["state"]:
        state.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(settings["state"], state)
    found.put(recipe=job.model.training.as_dict(), protocol=job.key["protocol"],
              options=job.model.options)
    print(f"recipe: {recipe}", flush=True)
    minutes = min(settings["minutes"], settings["stop_after"] or settings["minutes"])
    left = max(5.0, settings["began"] + 60 * minutes - END - time.time())
    if settings["tiny"] and not settings["stop_after"]:
        left = None     # a few steps, however long the start took
    try:
        record = run.do(planned, job, found.run_settings(
            max_minutes=left and left / 60, compile=settings["compile"],
            channels_last=settings["channels_last"], graph=settings["graph"]))
        result = record["result"]
        best = result["best"]
        found.put(result={name: value for name, value in result.items() if name != "curve"},
                  images_per_s=round(result["images_seen"] / result["seconds"], 2),
                  short=f"{result['steps']} steps in {result['seconds']:.0f} s, loss "
                        f"{result['final_loss']:.5f}" + (
                            f", validation {best['psnr']:.2f} dB" if best else ""))
    finally:
        found.put(files=copy_files(planned, job, Path(settings["out"])))


def copy_files(planned: Plan, job: Job, out: Path) -> list[str]:
    """Copy what a training left to ``out``, under short names; return the names."""
    folder, (scope, model) = planned.run_folder, job.key.values()
    stem, copied = f"{model}-{scope.partition('@')[0]}", []
    wanted = {
        ".safetensors": folder.weights(scope, model),
        ".best.safetensors": folder.weights(scope, model, best=True),
        ".csv": folder.beside(job.key, run_folder.CURVE),
        ".state": folder.beside(job.key, run_folder.STATE),
        ".record.json": job.record}
    for suffix, path in wanted.items():
        target = out / f"{stem}{suffix}"
        target.unlink(missing_ok=True)  # of an earlier call
        if path.is_file():
            shutil.copyfile(path, target)
            copied.append(target.name)
    return copied
