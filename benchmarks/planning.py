"""What a run costs beside its work: planning, ``snakemake -n``, a rerun without work, one cell.

Makes runs of many trivial cells in a temporary folder: sets of one 16x16 image, times protocols,
times models without weights. ``--sets`` adds runs of many sets with one cell each. Measured is CPU
time (user and system) of whole process trees, the median of ``--repeats``:

    planning   ``plan.load`` in a fresh process, minus the start of one that only imports it; the
               column ``first`` is the first call, which hashes every image
    dry        ``snakemake -n`` before anything is done: all jobs would run
    noop       ``snakemake`` when every record is there: nothing runs
    cell       the command of one cell, as the rule of the workflow runs it

The records of ``noop`` are written here, from the plan; Snakemake has never seen that run.
Reads nothing but the repository's Snakefile and profile. Writes a table with the fitted exponents
(CPU seconds as a power of the number of cells) to stderr, and one JSON document as the last line
of stdout.

Try: ``python benchmarks/planning.py --cells 100 500 --sets --what planning dry --repeats 1``
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml

from irbench import plan
from irbench.core import files, machine, records
from irbench.core.errors import UserError
from irbench.imaging import metrics
from irbench.imaging.images import write_png
from irbench.jobs import verify

ROOT = Path(__file__).resolve().parent.parent
WHAT = ("planning", "dry", "noop", "cell")
CELLS, SETS = (100, 500, 1000, 2000, 5000), (1250,)
GOALS = {"planning": 1.0, "noop": 10.0}     # CPU seconds for 2,000 cells
# protocol -> the model without weights that can do it; five entries of each, so 25 cells a set
PROTOCOLS = {"sr-x2": "bicubic", "sr-x3": "bicubic", "sr-x4": "bicubic",
             "denoise_color-sigma25": "input", "jpeg_color-q40": "input"}
ENTRIES = 5
SIDE = 16   # pixels
SETTLED = 3  # seconds: digests of files that have just been written are not kept


# -- runs --------------------------------------------------------------------------------------

def write_run(folder: Path, sets: int, many: bool) -> int:
    """Write images, catalog and config of a run; return its number of cells.

    Args:
        folder: for all of it, new.
        sets: how many sets of one image there are.
        many: one cell for each set, else ``ENTRIES`` for each of ``PROTOCOLS``.
    """
    images = np.random.default_rng(0).integers(0, 256, (sets, SIDE, SIDE, 3), np.uint8)
    names = [f"set{i:05d}" for i in range(sets)]
    for name, image in zip(names, images, strict=True):
        (folder / name).mkdir(parents=True)
        write_png(folder / name / "image.png", image)
    (folder / "datasets.yaml").write_text(yaml.safe_dump({"datasets": {
        name: {"title": name, "use": "test", "local": {"folder": name}} for name in names}}))
    protocols = dict([next(iter(PROTOCOLS.items()))]) if many else PROTOCOLS
    entries = {arch: [f"{arch}{i}" for i in range(1 if many else ENTRIES)]
               for arch in protocols.values()}
    (folder / "config.yaml").write_text(yaml.safe_dump({
        "run": "planning", "catalog_paths": ["datasets.yaml"], "metrics": ["psnr"],
        "keep_images": False, "device": "cpu",
        "models": {name: {"arch": arch} for arch, several in entries.items() for name in several},
        "cells": [{"protocol": protocol, "datasets": names, "models": entries[arch]}
                  for protocol, arch in protocols.items()]}))
    return sets * sum(len(entries[arch]) for arch in protocols.values())


def finish(folder: Path) -> None:
    """Write the record of every job of a run, and its report, as if all had been done."""
    os.chdir(folder)
    run = plan.load("config.yaml")
    images = [{"name": "image", "height": SIDE, "width": SIDE, "psnr": 30.0, "tiles": 1,
               "file": None}]
    results = {"data": {"count": 1},
               "cell": {"images": images, "mean": metrics.mean(images, ("psnr",)), "missing": {},
                        "device": "cpu", "inference": {}, "tiling": None, "dictionary": None}}
    for job in run.jobs():
        files.write_json(job.record, records.make(job.kind, job.key, job.spec,
                                                  result=results[job.kind]))
    pretend_report(run)


def pretend_report(run: plan.Plan) -> None:
    """Write the files of a report, without content, as if it was made from the present records."""
    for name in ("report.html", "summary.csv"):
        (run.folder / name).write_text("\n")
    for name in ("tables", "figures"):
        (run.folder / name).mkdir()
    verify.note_report(run, verify.report_inputs(run))


# -- measuring ---------------------------------------------------------------------------------

def cpu_seconds(command: list[str], folder: Path) -> tuple[float, str]:
    """Run a command; return the CPU seconds of it and all its children, and what it printed.

    Raises:
        UserError: it failed.
    """
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=folder, env=environment, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise UserError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-3000:]}")
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime), done.stdout


def python(folder: Path, code: str) -> float:
    return cpu_seconds([sys.executable, "-c", code], folder)[0]


def snakemake(folder: Path, *arguments: str) -> tuple[float, str]:
    return cpu_seconds([sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"),
                        "--workflow-profile", str(ROOT / "profiles" / "default"), "--configfile",
                        "config.yaml", "--cores", "1", *arguments], folder)


def measure(folder: Path, what: list[str], repeats: int) -> dict[str, float]:
    """Return the median CPU seconds of each part, and of the starts that they contain."""
    def median(call) -> float:
        return round(statistics.median(call() for _ in range(repeats)), 3)

    found = {"start": median(lambda: python(folder, "pass")),
             "imports": median(lambda: python(folder, "from irbench import plan; plan.load"))}
    code = "from irbench import plan; plan.load('config.yaml')"
    found["first"] = round(python(folder, code) - found["imports"], 3)
    if "planning" in what:
        found["planning"] = round(median(lambda: python(folder, code)) - found["imports"], 3)
    if "dry" in what:
        found["dry"] = median(lambda: snakemake(folder, "-n")[0])
    if "cell" in what:
        command = cell_command(folder)
        found["cell"] = median(lambda: cpu_seconds(["bash", "-c", command], folder)[0])
    if "noop" in what:
        finish(folder)
        found["noop"] = median(lambda: nothing(folder))
    return found


def cell_command(folder: Path) -> str:
    """Run one cell, and the set it needs, by Snakemake; return the command of the cell's rule."""
    os.chdir(folder)
    record = next(iter(plan.load("config.yaml").cells.values())).record
    _, output = snakemake(folder, "--printshellcmds", str(record))
    commands = re.findall(r"^ *(?:Shell command: *)?(?:trap : TERM; )?(irbench .*--dataset .*)$",
                          output, re.M)
    if len(commands) != 1 or not record.exists():
        raise UserError(f"no command of a cell in what Snakemake printed:\n{output[-3000:]}")
    return commands[0]


def nothing(folder: Path) -> float:
    seconds, output = snakemake(folder)
    if "Nothing to be done" not in output:
        raise UserError(f"a rerun of a finished run did something:\n{output[-3000:]}")
    return seconds


def exponent(sizes: list[int], seconds: list[float]) -> float | None:
    """Return the power of size that seconds grow with: least squares of the logarithms."""
    points = [(math.log(n), math.log(s)) for n, s in zip(sizes, seconds, strict=True) if s > 0]
    if len({x for x, _ in points}) < 2:
        return None
    return round(statistics.linear_regression(*zip(*points, strict=True)).slope, 2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, nargs="*", default=CELLS,
                        help="sizes of runs, multiples of 25")
    parser.add_argument("--sets", type=int, nargs="*", default=SETS,
                        help="sizes of runs with one cell for each set")
    parser.add_argument("--what", nargs="+", choices=WHAT, default=WHAT)
    parser.add_argument("--repeats", type=int, default=3, help="the median counts")
    arguments = parser.parse_args()
    each = ENTRIES * len(PROTOCOLS)
    if arguments.repeats < 1 or any(n < 1 or n % each for n in arguments.cells) or any(
            n < 1 for n in arguments.sets):
        parser.error(f"--cells takes multiples of {each}, --sets and --repeats numbers from 1")
    found, columns = [], ["start", "imports", "first", *arguments.what]
    print("CPU seconds; goals for 2,000 cells: "
          + ", ".join(f"{name} {goal:g}" for name, goal in GOALS.items()), file=sys.stderr)
    print("".join(f"{name:>10}" for name in ("cells", "sets", *columns)), file=sys.stderr)
    runs = [(n // each, False) for n in arguments.cells] + [(n, True) for n in arguments.sets]
    home = Path.cwd()
    try:
        for sets, many in runs:
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name).resolve()
                os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
                row = {"cells": write_run(folder, sets, many), "sets": sets}
                time.sleep(SETTLED)
                row |= measure(folder, arguments.what, arguments.repeats)
                os.chdir(home)
            found.append({"many_sets": many, **row})
            print("".join(f"{row[name]:>10}" for name in ("cells", "sets", *columns)),
                  file=sys.stderr, flush=True)
    except UserError as error:
        parser.error(str(error))
    usual = [row for row in found if not row["many_sets"]]
    powers = {name: exponent([row["cells"] for row in usual], [row[name] for row in usual])
              for name in columns}
    print(f"{'exponent':>20}" + "".join(f"{powers[name] if powers[name] is not None else '-':>10}"
                                        for name in columns), file=sys.stderr)
    about = machine.provenance()
    print(json.dumps({"goals": GOALS, "exponents": powers, "runs": found,
                      "hardware": about["hardware"], "time": about["time"],
                      "packages": machine.versions_of("snakemake")}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
