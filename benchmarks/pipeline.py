"""Whether the network of a cell waits: a stub of a set latency on real images of 2040x1356 pixels.

The stub enlarges by repeating pixels and then sleeps, as a CPU does while a GPU computes. The cell
runs in this process (``irbench.jobs.evaluate``) with as many worker threads as cores. Its wall time
is divided by what it cannot be below: the larger of the network's time (latency times images) and
the CPU work divided by the cores. The CPU work is what the same cell takes without threads and
without latency, in CPU time, so that other processes on the machine disturb it little; they do
disturb the wall time. For that reason the rows hold the CPU time with threads, too.

Cores share memory and caches, so that the same work takes more CPU time when all of them are busy,
whatever program runs. ``busy_s`` is that time: the same cell in as many processes as cores, each by
itself without threads, side by side. ``busy_ratio`` divides by this work over the cores.

Images are made from BSDS, Kodak or whatever ``--images`` names: files are tiled to the size. Writes
a table to stderr and one JSON document as the last line of stdout.

Try: ``python benchmarks/pipeline.py --images FOLDER --count 6``
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import fmean

import cv2
import numpy as np
import torch
import yaml
from torch import Tensor, nn

from irbench import plan
from irbench.core import machine
from irbench.imaging.images import read_image, to_rgb, write_png
from irbench.inference import allocator
from irbench.jobs import evaluate
from irbench.jobs.result import RunSettings
from irbench.plan import config

SIZE = (1356, 2040)
GOAL = 1.15


class Stub(nn.Module):
    """(1, C, h, w) to (1, C, 2h, 2w) in ``seconds``, in which no core is used."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def forward(self, x: Tensor) -> Tensor:
        begun = time.perf_counter()
        y = nn.functional.interpolate(x, scale_factor=2)
        time.sleep(max(0.0, self.seconds - (time.perf_counter() - begun)))
        return y


def prepare(folder: Path, source: Path, count: int) -> Path:
    """Write the images and a config; return its path."""
    files = sorted(p for p in source.rglob("*") if p.suffix.lower() in (".png", ".jpg"))
    if not files:
        raise SystemExit(f"{source}: no PNG or JPEG files are there")
    for k in range(count):
        rows, height, number = [], 0, k * 7
        while height < SIZE[0]:
            parts, width = [], 0
            while width < SIZE[1]:
                parts.append(to_rgb(read_image(files[number % len(files)])))
                width, number = width + parts[-1].shape[1], number + 1
            least = min(len(part) for part in parts)
            rows.append(np.concatenate([part[:least] for part in parts], 1)[:, :SIZE[1]])
            height += least
        write_png(folder / "images" / f"{k:02d}.png", np.concatenate(rows)[:SIZE[0]])
    (folder / "datasets.yaml").write_text(yaml.safe_dump({"datasets": {
        "images": {"title": "Images", "use": "test", "local": {"folder": "images"}}}}))
    settings = {
        "run": "benchmark", "catalog_paths": [str(folder / "datasets.yaml")],
        "data_root": str(folder / "data"), "metrics": ["psnr", "ssim"], "device": "cpu",
        "models": {"bicubic": {"inference": {"tile": "off"}}},
        "cells": [{"protocol": "sr-x2", "datasets": ["images"], "models": ["bicubic"]}]}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    return folder / "config.yaml"


def measure(settings: Path, latency: float, workers: int, keep: bool) -> tuple[float, float, dict]:
    """Run the cell; return wall seconds, CPU seconds and the result."""
    run = plan.build(config.check(yaml.safe_load(settings.read_text())))
    job = next(iter(run.cells.values()))
    wall, cpu = time.perf_counter(), time.process_time()
    found = evaluate.run(run, job, RunSettings(
        module=Stub(latency), workers=workers, keep_images=keep))
    return time.perf_counter() - wall, time.process_time() - cpu, found.result


def side_by_side(settings: Path, processes: int) -> float:
    """Run the cell in several processes at once; return the mean CPU seconds of one."""
    running = [subprocess.Popen([sys.executable, __file__, "--work", str(settings)],
                                stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    return fmean(float(one.communicate()[0].split()[-1]) for one in running)


def work(settings: Path) -> int:
    """Print the CPU seconds of the cell without threads and latency, after one as a warm-up."""
    print(*(measure(settings, 0, 0, False)[1] for _ in range(2)))
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="a folder of photographs")
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--latencies", type=float, nargs="+", default=[5, 20, 100],
                        metavar="MS")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="the least wall time of them counts")
    parser.add_argument("--keep", action="store_true", help="write pictures, too")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)    # see side_by_side
    arguments = parser.parse_args()
    if not (arguments.images or arguments.work):
        parser.error("--images FOLDER is missing")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    allocator.keep()
    if arguments.work:
        return work(arguments.work)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = prepare(folder, arguments.images, arguments.count)
        os.chdir(folder)
        measure(settings, 0, 0, False)      # warm-up: imports, digests of the files
        busy = side_by_side(settings, arguments.cores)
        for latency in arguments.latencies:
            for _ in range(arguments.rounds):
                _, alone, serial = measure(settings, 0, 0, arguments.keep)
                turn, _, _ = measure(settings, latency / 1000, 0, arguments.keep)
                wall, cpu, threaded = measure(settings, latency / 1000, arguments.cores,
                                              arguments.keep)
                if threaded != serial:
                    print("the values differ with threads", file=sys.stderr)
                    return 1
                network = arguments.count * latency / 1000
                bound = max(network, alone / arguments.cores)
                rows.append({"latency_ms": latency, "work_s": round(alone, 3),
                             "in_turn_s": round(turn, 3), "wall_s": round(wall, 3),
                             "cpu_s": round(cpu, 3), "bound_s": round(bound, 3),
                             "ratio": round(wall / bound, 3), "busy_s": round(busy, 3),
                             "busy_ratio": round(
                                 wall / max(network, busy / arguments.cores), 3)})
    print(f"{arguments.count} images of {SIZE[1]}x{SIZE[0]}, {arguments.cores} cores"
          f"{', pictures written' if arguments.keep else ''}; load "
          f"{os.getloadavg()[0]:.1f}", file=sys.stderr)
    print("".join(f"{key:>12}" for key in rows[0]), file=sys.stderr)
    for row in rows:
        print("".join(f"{value:>12}" for value in row.values()), file=sys.stderr)
    best = {latency: min(row["ratio"] for row in rows if row["latency_ms"] == latency)
            for latency in arguments.latencies}
    print(json.dumps({"best": best, "goal": GOAL, "rows": rows, "keep": arguments.keep,
                      "images": arguments.count, **machine.provenance(1)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
