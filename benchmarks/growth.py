"""How the commands grow with the number of cells: plan, verify, status, report, compare, history.

Makes finished runs of many trivial cells in a temporary folder, with records written from the plan:
sets of ``IMAGES`` images of 16x16 pixels, times five protocols, times ten models without weights,
so 50 cells a set. No picture is kept. Measured is CPU time (user and system) of whole process
trees, once each:

    plan       ``plan.load`` in a fresh process
    dry        ``snakemake -n`` of the same run without records: all jobs would run
    status     ``irbench status``, verify ``irbench verify``, report ``irbench report``
    compare    ``irbench compare`` of the run with one whose scores differ by a little
    history    ``irbench history`` of the folder with both runs
    page_mb    size of ``report.html`` in MB

Each row of the table is a size. ``exponent``: the power of the number of cells that the CPU seconds
grow with, without the start of a process that only imports the planner; ``last``: the same of the
two largest sizes alone, which shows what dominates in the end. Writes the table to stderr, and one
JSON document as the last line of stdout.

Try: ``python benchmarks/growth.py --cells 100 500 --what plan status report``
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np
import yaml
from planning import (
    PROTOCOLS,
    SIDE,
    cpu_seconds,
    exponent,
    pretend_report,
    python,
    snakemake,
)

from irbench import plan
from irbench.core import files, machine, records
from irbench.core.errors import UserError
from irbench.core.run_folder import RESULTS, RunFolder
from irbench.imaging import metrics
from irbench.imaging.images import write_png

WHAT = ("plan", "dry", "status", "verify", "report", "compare", "history")
CELLS = (100, 300, 1000)
IMAGES = 10             # of a set
MODELS = 10             # of a protocol
EACH = MODELS * len(PROTOCOLS)
GOALS = {"report": 20.0, "page_mb": 5.0}        # for 1,000 cells
SCORES = ("psnr", "ssim")


def write_run(folder: Path, sets: int) -> None:
    """Write images, catalog and config of a run of ``EACH`` cells for each set."""
    random = np.random.default_rng(0)
    names = [f"set{i:04d}" for i in range(sets)]
    for name in names:
        (folder / name).mkdir(parents=True)
        for number in range(IMAGES):
            write_png(folder / name / f"image{number:02d}.png",
                      random.integers(0, 256, (SIDE, SIDE, 3), np.uint8))
    (folder / "datasets.yaml").write_text(yaml.safe_dump({"datasets": {
        name: {"title": name.capitalize(), "use": "test", "local": {"folder": name}}
        for name in names}}))
    models = {arch: [f"{arch}{i}" for i in range(MODELS)] for arch in set(PROTOCOLS.values())}
    (folder / "config.yaml").write_text(yaml.safe_dump({
        "run": "growth", "catalog_paths": ["datasets.yaml"], "metrics": list(SCORES),
        "keep_images": False, "device": "cpu",
        "models": {name: {"arch": arch, "title": f"Method {name}"}
                   for arch, several in models.items() for name in several},
        "cells": [{"protocol": protocol, "datasets": names, "models": models[arch]}
                  for protocol, arch in PROTOCOLS.items()]}))


def finish(folder: Path) -> None:
    """Write the record of every job and a report, and beside them a run with other scores."""
    os.chdir(folder)
    run = plan.load("config.yaml")
    for job in run.jobs():
        files.write_json(job.record, records.make(job.kind, job.key, job.spec,
                                                  result=result(job, 0.0)))
    pretend_report(run)
    other = RunFolder.of_run("other")
    for source in (run.run_folder.config, run.run_folder.plan):
        if source.is_file():
            other.path.mkdir(exist_ok=True)
            shutil.copy(source, other.path)
    for job in run.jobs():
        files.write_json(other.record(job.kind, job.key), records.make(
            job.kind, job.key, job.spec, result=result(job, 0.01)))


def result(job: plan.Job, shift: float) -> dict:
    """Return a made-up result of a job; ``shift`` is added to some PSNR values (dB)."""
    if job.kind == "data":
        return {"count": IMAGES}
    noise = np.random.default_rng(zlib.crc32("/".join(job.key.values()).encode()))
    level = 28 + 4 * noise.random() + shift * (noise.random() < 0.5)
    images = [{"name": f"image{i:02d}", "height": SIDE, "width": SIDE, "tiles": 1, "file": None,
               "psnr": level + i / 7 + 0.3 * noise.random(), "ssim": 0.9 + 0.01 * noise.random()}
              for i in range(IMAGES)]
    return {"images": images, "mean": metrics.mean(images, SCORES), "missing": {},
            "device": "cpu", "inference": {}, "tiling": None, "dictionary": None}


def measure(folder: Path, what: list[str]) -> dict[str, float]:
    """Return the CPU seconds of each part, and the size of the page in MB."""
    found = {"start": python(folder, "from irbench import plan; plan.load")}
    if "plan" in what:
        found["plan"] = python(folder, "from irbench import plan; plan.load('config.yaml')")
    if "dry" in what:
        found["dry"] = snakemake(folder, "-n")[0]
    finish(folder)
    runs = RESULTS / "growth", RESULTS / "other"
    commands = {"status": ["status"], "verify": ["verify"], "report": ["report"],
                "compare": ["compare", *map(str, runs)], "history": ["history", str(RESULTS)]}
    for name, words in commands.items():
        if name in what:
            found[name], _ = cpu_seconds([sys.executable, "-m", "irbench", *words], folder)
    if "report" in what:
        page = RunFolder(folder / runs[0]).report
        found["page_mb"] = page.stat().st_size / 1e6
    return {name: round(value, 2) for name, value in found.items()}


def grown(found: list[dict], name: str) -> float | None:
    """Return the exponent of a part over rows, without what a start costs."""
    start = 0.0 if name == "page_mb" else min(row["start"] for row in found)
    return exponent([row["cells"] for row in found], [row[name] - start for row in found])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, nargs="+", default=CELLS,
                        help=f"sizes of runs, multiples of {EACH}; default: %(default)s; 10000 "
                             "takes some minutes")
    parser.add_argument("--what", nargs="+", choices=WHAT, default=WHAT)
    arguments = parser.parse_args()
    if any(n < EACH or n % EACH for n in arguments.cells):
        parser.error(f"--cells takes multiples of {EACH}")
    found: list[dict] = []
    home = Path.cwd()
    try:
        for cells in sorted(arguments.cells):
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name).resolve()
                os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
                write_run(folder, cells // EACH)
                found.append({"cells": cells, **measure(folder, arguments.what)})
                os.chdir(home)
            if len(found) == 1:
                print("".join(f"{name:>10}" for name in found[0]), file=sys.stderr)
            print("".join(f"{value:>10}" for value in found[-1].values()), file=sys.stderr,
                  flush=True)
    except UserError as error:
        parser.error(str(error))
    names = [name for name in found[0] if name not in ("cells", "start")]
    powers = {"exponent": {name: grown(found, name) for name in names},
              "last": {name: grown(found[-2:], name) for name in names}}
    for label, row in powers.items():
        print(f"{label:>20}" + "".join(f"{'-' if row[name] is None else row[name]:>10}"
                                       for name in names), file=sys.stderr)
    about = machine.provenance()
    print(json.dumps({"goals": GOALS, **powers, "runs": found, "hardware": about["hardware"],
                      "time": about["time"], "packages": machine.versions_of("snakemake")}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
