"""kill -9 at random moments: is the next undisturbed run right, whatever was killed and damaged?

Makes a run of seconds in a temporary folder (four small images, bicubic, a network of two layers
that is trained for a few steps) and a second config of it with another option, which splits the
cells. Each cycle damages a file or two of the run, may change the config, starts the workflow,
kills something at a random moment, one to three times, and then lets one run go undisturbed. What
is killed:

    tree        every process of the run
    snakemake   Snakemake alone: its jobs are orphans, and the next run starts at once
    child       one process below it, a shell or a job; the run goes on

A cycle is clean if the undisturbed run ends with code 0, ``irbench verify`` finds nothing, every
record holds what an undisturbed run gives, and no process or file is left over. The report is made
in every tenth cycle only, since it takes longer than all else.

Reads nothing but the repository's Snakefile and profile. Writes progress to stderr, and one JSON
document as the last line of stdout (``--out``: to a file, too). Exit code 1 if a cycle is unclean.

Try: ``python benchmarks/kill.py --kills 5 --seed 1``
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import yaml

from irbench import plan
from irbench.core import digests, files, machine, records
from irbench.core.errors import UserError
from irbench.imaging.images import write_png
from irbench.jobs import verify

ROOT = Path(__file__).resolve().parent.parent
WHAT = ("tree", "snakemake", "child")
CONFIGS = ("first.yaml", "second.yaml")
RECORDS = ("data/train", "data/test", "training/sr-x2@1/smallest", "leaks",
           *(f"cells/sr-x2@2/test/{model}" for model in ("bicubic", "smallest")))
REPORT_EVERY = 10   # cycles
LIMIT = 300.0       # seconds that a run may take
VOLATILE = {"seconds", "waiting", "time", "attempt", "provenance", "result_digest"}
NETWORK = '''
from torch import nn
import torch.nn.functional as F

CARDS = {"smallest": {
    "title": "Smallest", "builder": "build", "tasks": ["sr"], "in_paper": False,
    "note": "two layers", "source": "made up", "learned": True,
    "options": {"strength": 0.1}, "free": ["strength"], "dtypes": ["float32"]}}


class Smallest(nn.Module):
    def __init__(self, scale, channels, strength):
        super().__init__()
        self.scale, self.strength = scale, strength
        self.first = nn.Conv2d(channels, 4, 3, padding=1)
        self.last = nn.Conv2d(4, channels * scale**2, 3, padding=1)

    def forward(self, x):
        up = F.interpolate(x, scale_factor=self.scale, mode="nearest")
        return up + self.strength * F.pixel_shuffle(self.last(F.gelu(self.first(x))), self.scale)


def build(task, scale, channels, strength):
    return Smallest(scale, channels, strength)
'''


# -- the run -----------------------------------------------------------------------------------

def write_world(folder: Path) -> None:
    """Write images, catalog, network and both configs of the run into a new folder."""
    random_pixels = np.random.default_rng(0)
    for name, count in (("test", 2), ("train", 2)):
        for number in range(count):
            write_png(folder / name / f"{name}{number}.png",
                      random_pixels.integers(0, 256, (24, 24, 3), np.uint8))
    (folder / "datasets.yaml").write_text(yaml.safe_dump({"datasets": {
        name: {"title": name, "use": name, "local": {"folder": name}}
        for name in ("test", "train")}}))
    (folder / "network.py").write_text(NETWORK)
    for name, strength in zip(CONFIGS, (0.1, 0.2), strict=True):
        (folder / name).write_text(yaml.safe_dump({
            "run": "killed", "catalog_paths": ["datasets.yaml"], "plugins": ["network.py"],
            "metrics": ["ssim"], "keep_images": True, "device": "cpu",
            "shards": 1 + (strength == 0.2),    # the second config splits the cells
            "models": {"bicubic": {}, "smallest": {
                "profile": False, "options": {"strength": strength},
                "training": {"recipe": "demo", "data": ["train"], "steps": 30, "patch": 16,
                             "batch": 2, "save_every": 3}}},
            "cells": [{"protocol": "sr-x2", "datasets": ["test"],
                       "models": ["bicubic", "smallest"]}]}, sort_keys=False))


def start(folder: Path, config: str, whole: bool) -> subprocess.Popen:
    """Start the workflow, in a session of its own; ``whole``: with the report."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    python = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"),
             "--workflow-profile", str(ROOT / "profiles" / "default"), "--cores", "2",
             "--directory", str(folder), "--configfile", config,
             *(() if whole else ("--", *(f"results/killed/{name}.json" for name in RECORDS)))],
            cwd=folder, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, "PATH": path, "PYTHONPATH": python, "OMP_NUM_THREADS": "1",
                 "MPLBACKEND": "Agg", "XDG_CACHE_HOME": str(folder.parent / "cache")})


def values(folder: Path) -> dict:
    """Return what must be the same after any history: every record without its times."""
    def lasting(value: object) -> object:
        if isinstance(value, dict):
            return {name: lasting(one) for name, one in value.items() if name not in VOLATILE}
        return [lasting(one) for one in value] if isinstance(value, list) else value

    return {path.relative_to(folder).as_posix(): lasting(json.loads(path.read_text()))
            for path in sorted((folder / "results/killed").glob("*/**/*.json"))
            if not path.name.startswith(".")}   # a temporary file, which ``paths`` finds


def paths(folder: Path) -> set[str]:
    """Return all files of a run but its logs, what was set aside, and states that still count.

    Those are states of the other config's training, and of one that is under way. A folder that
    ``damage`` has put in the place of a file that the run was not asked for is no leftover.
    """
    run, done = folder / "results/killed", set()
    for path in run.glob("training/**/*.json"):
        with contextlib.suppress(UserError):
            if (record := records.read(path))["status"] == "ok":
                done.add(digests.fingerprint(record["spec"])[:8])

    def counts(path: Path) -> bool:
        name = path.relative_to(run).as_posix()
        state = re.search(r"\.state(?:\.(\w+))?$", name)
        return not (name.startswith("logs/") or re.search(r"\.\d+(/|$)|\.json/", name)
                    or (state and state[1] not in done))

    return {path.relative_to(folder).as_posix() for path in run.rglob("*")
            if path.is_file() and counts(path)}


def problems(folder: Path, config: str, code: int, expected: dict, usual: set[str]) -> list[str]:
    """Return what is wrong after an undisturbed run; [] if it is clean.

    Args:
        folder: where it ran.
        config: what was asked for.
        code: its exit code.
        expected: the values of a run that was never disturbed.
        usual: the files of such a run and its report.
    """
    found = [f"the run ended with code {code}"] * bool(code)
    with contextlib.chdir(folder):
        found += map(str, verify.find(plan.load(config)))
    now = values(folder)
    found += [f"{name}: not the values of an undisturbed run" for name in sorted(expected)
              if now.get(name) != expected[name]]
    found += [f"process {one.pid} is left over" for one in workers(folder)]
    return found + [f"{name} is left over" for name in sorted(paths(folder) - usual)]


# -- killing and damaging ------------------------------------------------------------------------

def workers(folder: Path) -> list[psutil.Process]:
    """Return all live processes that work in a folder, orphans among them."""
    found = []
    for one in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if (one.pid != os.getpid() and one.status() != psutil.STATUS_ZOMBIE
                    and one.cwd() == str(folder)):
                found.append(one)
    return found


def kill(process: subprocess.Popen, what: str, draw: random.Random) -> bool:
    """Kill a part of a run; returns whether there was something to kill."""
    try:
        main = psutil.Process(process.pid)
        below = main.children(recursive=True)
    except psutil.Error:
        return False
    chosen = {"tree": [main, *below], "snakemake": [main],
              "child": [draw.choice(below)] if below else []}[what]
    killed = False
    for one in chosen:
        with contextlib.suppress(psutil.Error):
            one.kill()
            killed = True
    return killed


def edit(path: Path) -> None:
    """Change a number of a record, or anything of another file."""
    text = path.read_bytes()
    place = next(re.finditer(rb"\d\.\d+", text), None)
    at = place.start() if place else len(text) // 2
    path.write_bytes(text[:at] + (b"7" if text[at:at + 1] != b"7" else b"8") + text[at + 1:])


def to_folder(path: Path) -> None:
    """Put a folder with a file in it in the place of a file."""
    path.unlink()
    path.mkdir()
    (path / "file").touch()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "deleted": Path.unlink, "emptied": lambda path: path.write_bytes(b""), "edited": edit,
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:path.stat().st_size // 2]),
    "a folder": to_folder}


def damage(folder: Path, draw: random.Random) -> list[str]:
    """Damage a file of a run or two, or throw away Snakemake's notes; return what was done."""
    done = []
    run = folder / "results/killed"
    for _ in range(draw.choice((1, 1, 2))):
        here = [path for path in sorted(run.rglob("*"))
                if path.is_file() and path.suffix in (".json", ".png", ".safetensors", ".state")
                and not path.name.startswith(".") and "figures" not in path.parts]
        if here:
            path, how = draw.choice(here), draw.choice(sorted(DAMAGES))
            if how == "a folder" and path.suffix != ".json":
                how = "deleted"
            DAMAGES[how](path)
            done.append(f"{path.relative_to(run)} {how}")
    if draw.random() < 0.2:
        shutil.rmtree(folder / ".snakemake", ignore_errors=True)
        done.append(".snakemake deleted")
    if draw.random() < 0.1:
        shutil.rmtree(run, ignore_errors=True)   # there is none before the first run
        done.append("results deleted")
    return done


def disturb(folder: Path, config: str, what: str, usual: float, draw: random.Random) -> list:
    """Start a run and kill a part of it; return what happened, after how many seconds.

    Three times of four the moment is counted from the first job's start, since before that nothing
    is written.
    """
    process = start(folder, config, whole=False)
    begun = time.monotonic()
    if draw.random() < 0.75:
        while process.poll() is None and time.monotonic() - begun < LIMIT and not any(
                "irbench" in " ".join(_words(one)) for one in _below(process)):
            time.sleep(0.2)
    until = time.monotonic() + draw.uniform(0, usual)
    while process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    killed = process.poll() is None and kill(process, what, draw)
    spent = round(time.monotonic() - begun, 2)
    process.wait(LIMIT)     # of a child the run goes on; else it has ended
    return [what if killed else "ended before", spent]


def _below(process: subprocess.Popen) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return psutil.Process(process.pid).children(recursive=True)
    return []


def _words(one: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.Error):
        return one.cmdline()
    return []


# -- the campaign ------------------------------------------------------------------------------

def campaign(base: Path, kills: int, seed: int) -> dict:
    """Kill so many times; return counts and every cycle that was not clean."""
    draw = random.Random(seed)
    expected, files_of, begun = {}, set(), time.monotonic()
    for config in CONFIGS:
        folder = base / config.partition(".")[0]
        write_world(folder)
        since = time.monotonic()
        if start(folder, config, whole=False).wait(LIMIT):
            raise SystemExit((folder / "log.txt").read_text())
        usual = time.monotonic() - since
        expected[config] = values(folder)
        if start(folder, config, whole=True).wait(LIMIT):
            raise SystemExit((folder / "log.txt").read_text())
        files_of |= paths(folder)
    print(f"an undisturbed run takes {usual:.1f} s", file=sys.stderr)
    # both are compared with a third folder's: no value may depend on the folder
    folder = base / "killed"
    write_world(folder)
    counts, damaged, unclean, cycles, config = Counter(), Counter(), [], 0, CONFIGS[0]
    while sum(counts[what] for what in WHAT) < kills:
        cycles += 1
        history = []
        for _ in range(draw.randint(1, 3)):
            done = damage(folder, draw)
            damaged.update(one.rpartition(" ")[2] for one in done)
            if draw.random() < 0.25:
                config = CONFIGS[CONFIGS.index(config) - 1]
            happened = disturb(folder, config, draw.choice(WHAT), usual, draw)
            counts[happened[0]] += 1
            history.append({"damage": done, "config": config, "killed": happened})
        orphans = len(workers(folder))
        damage(folder, draw)
        since, whole = time.monotonic(), cycles % REPORT_EVERY == 0
        code = start(folder, config, whole).wait(LIMIT)
        usual = usual if whole else time.monotonic() - since
        wrong = problems(folder, config, code, expected[config], files_of)
        if wrong:
            unclean.append({"cycle": cycles, "history": history, "problems": wrong,
                            "log": (folder / "log.txt").read_text()[-4000:]})
        (folder / "log.txt").unlink()
        print(f"cycle {cycles}: {dict(counts)}, {orphans} orphans when the undisturbed run began: "
              f"{'; '.join(wrong) or 'clean'}", file=sys.stderr)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"seed": seed, "kills": sum(counts[what] for what in WHAT), "by": dict(counts),
            "damaged": dict(damaged), "cycles": cycles, "unclean": unclean,
            "seconds": round(time.monotonic() - begun, 1),
            "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
            "provenance": machine.provenance()}


def main(argv: list[str] | None = None) -> int:
    """Run the campaign; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=20, help="at least so many (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of all random choices (%(default)s)")
    parser.add_argument("--out", type=Path, help="also write the JSON document to this file")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="irbench-kill-") as base:
        found = campaign(Path(base).resolve(), arguments.kills, arguments.seed)
        for one in workers(Path(base).resolve() / "killed"):
            with contextlib.suppress(psutil.Error):
                os.kill(one.pid, signal.SIGKILL)
    if arguments.out:
        files.write_json(arguments.out, found)
    print(json.dumps(found))
    return 1 if found["unclean"] else 0


if __name__ == "__main__":
    sys.exit(main())
