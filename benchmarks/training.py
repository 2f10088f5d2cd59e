"""Images per second of irbench's training, next to a plain training loop.

All train in this process, in turns: a block of steps of the engine
(``irbench.jobs.training.loop.run``
itself, held up at the end of a block while the others have theirs), as many steps of each plain
loop, and so on. A ratio is taken between the blocks of one turn: above 1 the engine is faster. The
first turn warms up and does not count.

The plain loop is what one writes without a thought of speed. A torch Dataset decodes the PNG of an
image for each sample, computes the input of the whole image by the exact bicubic
(``irbench.imaging.images.imresize``; other degradations are made of the patch alone), cuts, turns
and mirrors; a DataLoader without workers; then the same loss, torch optimisers, clipping and
running mean of the weights, all eager. Batch, patch, device, threads and allocator are
the engine's. There are two of them:

plain loop           around irbench's own network, so that only data and loop differ
plain loop, network  around a network written straight from the paper (``plain_compacter.py``: three
                     nn.Linear for Q, K and V, maps permuted around each, ...) with the same initial
                     weights; for Compacter only

The images are those of bsds500_train, from ``--data-root`` or IRBENCH_MIRROR; without either the
photographs of a package (photos_train) take their place, and the output says so. Writes a table to
stderr and one JSON document as the last line of stdout.

Try: ``python benchmarks/training.py --pairs 3 --steps 2``
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import plain_compacter
import torch
from torch import nn
from torch.utils.data import DataLoader

from irbench import plan
from irbench.catalog import protocols
from irbench.catalog.recipes import Recipe, learning_rate
from irbench.core import machine
from irbench.core.errors import Paused, Unavailable, UserError
from irbench.data import obtain, sets
from irbench.imaging import degrade, images
from irbench.inference import allocator
from irbench.jobs.profiling.profile import DEVICES, device_name, pick_device
from irbench.jobs.training import engine, loop, losses, state
from irbench.plan import config
from irbench.weights import loading

ENGINE, PLAIN, NETWORK = "engine", "plain loop", "plain loop, network"
GOAL = 1.5


# -- the plain loop ------------------------------------------------------------------------------

class PlainImages:
    """A Dataset: every sample begins with a file. ``seconds`` says where its time went."""

    def __init__(self, files: list[Path], protocol, patch: int):
        self.files, self.protocol, self.patch = files, protocol, patch
        self.rng = np.random.RandomState(0)
        self.seconds, self.samples = {"decode": 0.0, "degrade": 0.0, "rest": 0.0}, 0

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        clock = [time.perf_counter()]
        image = images.read_image(self.files[i])
        clock.append(time.perf_counter())
        target = degrade.prepare_target(image, self.protocol)
        scale, patch = self.protocol.scale, self.patch
        if scale > 1:  # whole images, as a patch's own border would show in its input
            small = degrade.degrade(target, self.protocol)
        clock.append(time.perf_counter())
        top, left = (self.rng.randint(0, (n - patch) // scale + 1) for n in target.shape[:2])
        target = target[scale * top:scale * top + patch, scale * left:scale * left + patch]
        if scale > 1:
            degraded = small[top:top + patch // scale, left:left + patch // scale]
        turns, mirrored = self.rng.randint(4), self.rng.randint(2)
        target = symmetry(target, turns, mirrored)
        clock.append(time.perf_counter())
        degraded = (symmetry(degraded, turns, mirrored) if scale > 1
                    else degrade.degrade(target, self.protocol, self.rng))
        clock.append(time.perf_counter())
        pair = tuple(torch.from_numpy(np.ascontiguousarray(a.transpose(2, 0, 1)))
                     for a in (degraded, images.to_float(target)))
        clock.append(time.perf_counter())
        spent = np.diff(clock)
        for name, seconds in zip(("decode", "degrade", "rest"),
                                 (spent[0], spent[1] + spent[3], spent[2] + spent[4]), strict=True):
            self.seconds[name] += float(seconds)
        self.samples += 1
        return pair


def symmetry(image: np.ndarray, turns: int, mirrored: int) -> np.ndarray:
    image = np.rot90(image, turns)
    return np.ascontiguousarray(image[:, ::-1] if mirrored else image)


class PlainLoop:
    """A training loop as most repositories have it. ``take`` makes steps."""

    def __init__(self, network: nn.Module, data: PlainImages, recipe: Recipe, device: str):
        self.network, self.recipe, self.device = network.to(device).train(), recipe, device
        self.data = data
        self.loader = DataLoader(data, recipe.batch, shuffle=True, drop_last=True,
                                 num_workers=0, pin_memory=device == "cuda",
                                 generator=torch.Generator().manual_seed(0))
        self.batches = self.epochs()
        self.loss_of = losses.make(recipe)
        self.optimisers = state.optimisers(self.network, recipe)
        self.averaged = copy.deepcopy(self.network) if recipe.ema else None
        self.step, self.waited, self.loss = 0, 0.0, 0.0

    def epochs(self) -> Iterator:
        while True:
            yield from self.loader

    def take(self, steps: int) -> None:
        for _ in range(steps):
            asked = time.perf_counter()
            inputs, targets = (t.to(self.device, non_blocking=True) for t in next(self.batches))
            self.waited += time.perf_counter() - asked
            rate = learning_rate(self.recipe, self.step / self.recipe.steps)
            for optimiser in self.optimisers:
                for group in optimiser.param_groups:
                    group["lr"] = rate * group["share"]
                optimiser.zero_grad()
            loss = self.loss_of(self.network(inputs), targets)
            loss.backward()
            if self.recipe.grad_clip is not None:
                nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.grad_clip)
            for optimiser in self.optimisers:
                optimiser.step()
            if self.averaged is not None:
                self.average()
            self.loss = loss.item()
            self.step += 1

    @torch.no_grad()
    def average(self) -> None:
        decay = min(self.recipe.ema, (1 + self.step) / (10 + self.step))
        for mean, now in zip(self.averaged.parameters(), self.network.parameters(), strict=True):
            mean.mul_(decay).add_(now, alpha=1 - decay)


# -- the engine's run ----------------------------------------------------------------------------

def prepare(arguments: argparse.Namespace, folder: Path) -> tuple[plan.Plan, plan.Job, list[Path]]:
    """Plan the training; return run, job, and the same images as PNG files."""
    root, name = Path(arguments.data_root or folder / "data").resolve(), "bsds500_train"
    if arguments.data_root is None and not os.environ.get("IRBENCH_MIRROR"):
        name = "photos_train"
        print(f"neither --data-root nor IRBENCH_MIRROR is given; {name} takes the place of "
              "BSDS500", file=sys.stderr)
    entry = sets.get(name)
    data = (sets.open_local(entry, root) if arguments.data_root
            else obtain.fetch(entry, root))
    training = {"recipe": arguments.recipe, "data": [name], "exclude": {}, "levels": None,
                "steps": (arguments.pairs + 1) * arguments.steps + 1,  # one that is not taken
                "holdout": 0, "validate_every": None}
    training |= {key: value for key in ("batch", "patch")
                 if (value := getattr(arguments, key)) is not None}
    settings = {"run": "benchmark", "data_root": str(root), "device": arguments.device,
                "models": {arguments.model: {"options": arguments.options, "training": training}},
                "cells": [{"protocol": arguments.protocol, "datasets": ["photos"],
                           "models": [arguments.model]}]}
    run = plan.build(config.check(settings))
    job, = run.trainings.values()
    files = []
    for i, item in enumerate(data.role("hr")):
        files.append(folder / "png" / f"{i:04d}.png")
        images.write_png(files[-1], item.load())
    return run, job, files


def plain_loops(job: plan.Job, files: list[Path], device: str) -> dict[str, PlainLoop]:
    """Build the plain loops by name."""
    protocol, model = protocols.get(job.key["protocol"]), job.model
    recipe = job.model.training
    torch.manual_seed(0)
    network = loading.build(model, protocol, ())
    networks = {PLAIN: network}
    if model.arch == "compacter":
        channels = 1 if protocol.color == "gray" else 3
        networks[NETWORK] = plain_compacter.load(
            plain_compacter.plain(protocol.scale, channels, **model.options),
            network.state_dict())
    return {name: PlainLoop(n, PlainImages(files, protocol, recipe.patch), recipe, device)
            for name, n in networks.items()}


def measure(run: plan.Plan, job: plan.Job, plain: dict[str, PlainLoop], *, pairs: int, steps: int,
            device: str, threads: int) -> tuple[dict[str, np.ndarray], float]:
    """Let all train in turns.

    Returns:
        Name to the seconds of its blocks, wall and CPU (1 + pairs, 2), the first of which warms up;
        the wall seconds the engine waited for data, in all of its blocks together.
    """
    spent: dict[str, list[np.ndarray]] = {name: [] for name in (ENGINE, *plain)}
    begun, taken = clocks(device), 0

    def after_step() -> bool:
        """Be asked by the engine after each of its steps whether to stop."""
        nonlocal begun, taken
        taken += 1
        if taken % steps == 0:
            spent[ENGINE].append(clocks(device) - begun)
            for name, one in plain.items():
                begun = clocks(device)
                one.take(steps)
                spent[name].append(clocks(device) - begun)
            begun = clocks(device)
        return len(spent[ENGINE]) > pairs

    @contextlib.contextmanager
    def turns() -> Iterator[Callable[[], bool]]:
        nonlocal begun
        begun = clocks(device)  # decoding and building are no part of the first block
        yield after_step

    with mock.patch.object(engine, "gentle_end", turns), contextlib.suppress(Paused):
        loop.run(run, job, device=device, threads=threads)
    waited = state.read(job.record.with_suffix(".state"))["waited"]
    return {name: np.array(blocks) for name, blocks in spent.items()}, waited


def clocks(device: str) -> np.ndarray:
    """Return wall and CPU seconds, with the device's work done."""
    if device == "cuda":
        torch.cuda.synchronize()
    return np.array([time.perf_counter(), time.process_time()])


# -- what is shown -------------------------------------------------------------------------------

def summary(spent: dict[str, np.ndarray], waited: dict[str, float], seen: int) -> dict[str, dict]:
    """Summarise blocks of ``seen`` images; a ratio is of two blocks of one turn."""
    found = {}
    for name, seconds in spent.items():
        wall, cpu = (seconds[1:] / spent[ENGINE][1:]).T
        row = {"ratio": np.median(wall), "ratio_min": wall.min(), "ratio_max": wall.max(),
               "cpu_ratio": np.median(cpu), "images_per_s": seen / np.median(seconds[1:, 0]),
               "waiting": waited[name] / seconds[:, 0].sum()}
        found[name] = {key: round(float(value), 4) for key, value in row.items()}
    return found


def show(found: dict[str, dict], samples: dict[str, float]) -> None:
    """Print the table to stderr."""
    columns = {"images/s": ("images_per_s", 1), "waiting %": ("waiting", 100),
               "ratio": ("ratio", 1),
               "min": ("ratio_min", 1), "max": ("ratio_max", 1), "CPU time": ("cpu_ratio", 1)}
    print(f"{'':<21}" + "".join(f"{title:>10}" for title in columns), file=sys.stderr)
    for name, row in found.items():
        print(f"{name:<21}" + "".join(f"{factor * row[key]:>10.2f}"
                                      for key, factor in columns.values()), file=sys.stderr)
    print("ratio: how many times as fast the engine is. A sample of the plain loop takes, ms: " +
          ", ".join(f"{name} {ms:.2f}" for name, ms in samples.items()), file=sys.stderr)


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="compacter")
    parser.add_argument("--options", type=json.loads, default={}, help="JSON, of the model")
    parser.add_argument("--protocol", default="sr-x2")
    parser.add_argument("--recipe", default="short")
    parser.add_argument("--batch", type=int, help="default: the recipe's")
    parser.add_argument("--patch", type=int, help="side of the target; default: the recipe's")
    parser.add_argument("--pairs", type=int, default=10, help="turns that count")
    parser.add_argument("--steps", type=int, default=5, help="of each in a turn")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=DEVICES, default="auto")
    parser.add_argument("--data-root", help="the folder that holds bsds500_train/; default: "
                        "fetched from IRBENCH_MIRROR into a temporary folder")
    arguments = parser.parse_args(words)
    for name in ("pairs", "steps", "threads"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name} must be at least 1")
    allocator.keep()
    with tempfile.TemporaryDirectory() as folder:
        try:
            arguments.device, _ = pick_device(arguments.device)
            run, job, files = prepare(arguments, Path(folder))
            plain = plain_loops(job, files, arguments.device)
            with contextlib.chdir(folder):
                spent, waited = measure(run, job, plain, pairs=arguments.pairs,
                                        steps=arguments.steps, device=arguments.device,
                                        threads=arguments.threads)
        except (UserError, Unavailable) as error:
            parser.error(str(error))
    recipe = job.model.training
    found = summary(spent, {ENGINE: waited, **{n: one.waited for n, one in plain.items()}},
                    arguments.steps * recipe.batch)
    samples = {part: round(1000 * seconds / plain[PLAIN].data.samples, 3)
               for part, seconds in plain[PLAIN].data.seconds.items()}
    name = device_name(arguments.device)
    print(f"{arguments.model}, {arguments.protocol}, {recipe.batch} patches of "
          f"{recipe.patch}x{recipe.patch}, {arguments.device} ({name}), "
          f"{arguments.threads} threads, torch {torch.__version__}; {len(files)} images; "
          f"goal {GOAL}", file=sys.stderr)
    show(found, samples)
    about = machine.provenance(arguments.threads)
    print(json.dumps({
        "model": arguments.model, "options": arguments.options, "protocol": arguments.protocol,
        "recipe": arguments.recipe, "batch": recipe.batch, "patch": recipe.patch,
        "images": {"set": recipe.data[0], "count": len(files)}, "pairs": arguments.pairs,
        "steps": arguments.steps, "device": arguments.device, "device_name": name,
        "threads": arguments.threads, "goal": GOAL, "loops": found, "plain_sample_ms": samples,
        "hardware": about["hardware"], "time": about["time"],
        "packages": machine.versions_of("torch", "numpy", "pillow", "accelerate")}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
