"""What a cell costs beside its forward passes: ``irbench eval`` of Compacter x2 on BSD100.

The whole command is timed in a fresh process, from its start to its end, and divided by the phase
``forward`` of the record it writes. Weights are random (their values cost nothing), the metrics
PSNR and SSIM. Everything is written to a temporary folder. BSD100 comes from ``--data-root``, from
IRBENCH_MIRROR, or else synthetic images of the same size take its place, and the output says so.
Writes a table to stderr and one JSON document as the last line of stdout.

Try: ``python benchmarks/cell.py --images 4 --threads 1 2``
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml

from irbench import plan
from irbench.core import machine, records
from irbench.core.errors import Unavailable, UserError
from irbench.data import obtain, sets
from irbench.imaging.images import write_png
from irbench.plan import config
from irbench.weights import loading

SET, COUNT, SIZE = "bsd100", 100, (321, 480)
GOAL = 1.15


def synthetic(folder: Path, count: int) -> None:
    """Write images of BSD100's size into a folder, smooth with some noise."""
    y, x = np.mgrid[:SIZE[0], :SIZE[1]] / 20
    for i in range(count):
        rng = np.random.default_rng(i)
        waves = [np.sin(x * a + y * b + c) for a, b, c in rng.uniform(0.2, 2, (3, 3))]
        image = 127 + 90 * np.stack(waves, -1) + rng.normal(0, 5, (*SIZE, 3))
        write_png(folder / f"image{i:03d}.png", np.clip(image, 0, 255).astype(np.uint8))


def bsd100(folder: Path, data_root: str | None, count: int) -> str:
    """Put the first images of BSD100, or stand-ins, into a new folder; say what they are."""
    entry = sets.get(SET)
    folder.mkdir()
    try:
        if not data_root and not os.environ.get("IRBENCH_MIRROR"):
            raise Unavailable("neither --data-root nor IRBENCH_MIRROR is given")
        data = (sets.open_local(entry, data_root) if data_root
                else obtain.fetch(entry, folder.parent / "data"))
    except Unavailable as error:
        what = f"{count} synthetic images of {SIZE[0]}x{SIZE[1]}"
        print(f"BSD100 is not here ({error}); {what} take its place", file=sys.stderr)
        synthetic(folder, count)
        return what
    for item in data.role("hr")[:count]:
        shutil.copy(item.path, folder)
    return "BSD100" if count == COUNT else f"the first {count} images of BSD100"


def prepare(folder: Path, data_root: str | None, images: int) -> tuple[Path, str]:
    """Lay out a run in a folder; return its config and what the images are."""
    what = bsd100(folder / "images", data_root, images)
    catalog = folder / "datasets.yaml"
    catalog.write_text(yaml.safe_dump({"datasets": {
        "images": {"title": what, "use": "test", "local": {"folder": "images"}}}}))
    settings = {
        "run": "benchmark", "catalog_paths": [str(catalog)], "data_root": str(folder / "data"),
        "metrics": ["psnr", "ssim"], "keep_images": False, "device": "cpu",
        "models": {"compacter": {"checkpoint": str(folder / "compacter.safetensors")}},
        "cells": [{"protocol": "sr-x2", "datasets": ["images"], "models": ["compacter"]}]}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    run = plan.build(config.check(settings))
    job = next(iter(run.cells.values()))
    protocol, model = run.protocols[job.key["protocol"]], job.model
    network = loading.build(model, protocol)
    loading.save(folder / "compacter.safetensors", network.state_dict(), model, protocol)
    return folder / "config.yaml", what


def measure(settings: Path, threads: int) -> dict:
    """Run the command once; return the seconds of the whole, of each phase, and their ratio."""
    command = [sys.executable, "-m", "irbench", "eval", "--config", settings.name, "--protocol",
               "sr-x2", "--dataset", "images", "--model", "compacter", "--threads", str(threads)]
    start = time.perf_counter()
    done = subprocess.run(command, cwd=settings.parent, capture_output=True, text=True)
    wall = time.perf_counter() - start
    if done.returncode:
        raise UserError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    found = settings.parent / json.loads(done.stdout.splitlines()[-1])["record"]
    phases = records.read(found)["seconds"]
    found.unlink()
    return {"wall": round(wall, 3), **phases, "ratio": round(wall / phases["forward"], 4)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=COUNT, help="only the first N")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--repeats", type=int, default=1, help="the median ratio counts")
    parser.add_argument("--data-root", help="the folder that holds bsd100/; default: fetched "
                        "from IRBENCH_MIRROR into a temporary folder")
    arguments = parser.parse_args()
    if min([arguments.images, arguments.repeats, *arguments.threads]) < 1:
        parser.error("--images, --threads and --repeats must be at least 1")
    found = []
    try:
        with tempfile.TemporaryDirectory() as folder:
            settings, what = prepare(Path(folder), arguments.data_root, arguments.images)
            for _ in range(arguments.repeats):
                for threads in arguments.threads:
                    found.append({"threads": threads, **measure(settings, threads)})
    except UserError as error:
        parser.error(str(error))
    print(f"Compacter x2, random weights, CPU, {what}; goal: ratio at most {GOAL}",
          file=sys.stderr)
    names = list(found[0])
    print("".join(f"{name:>10}" for name in names), file=sys.stderr)
    for row in found:
        print("".join(f"{row[name]:>10}" for name in names), file=sys.stderr)
    about = machine.provenance()
    ratios = {n: statistics.median(row["ratio"] for row in found if row["threads"] == n)
              for n in arguments.threads}
    print(json.dumps({"images": what, "goal": GOAL, "ratio": ratios, "runs": found,
                      "hardware": about["hardware"], "time": about["time"],
                      "packages": machine.versions_of("torch", "numpy")}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
