"""Changes of a recipe at equal CPU time: held-out PSNR and scores on test sets, several seeds each.

Each change is trained from the same recipe, one field or a few at a time, and ``base`` without any.
First each is calibrated: some steps are taken, and their CPU time gives the number of steps that
``--cpu-seconds`` allow. A number of steps (not of seconds) makes each training repeatable, and the
schedule complete whatever else runs on the machine. Then all are trained with all seeds, validated
once at the end on the held-out images, and scored. A change is worth having if its seeds are apart
from those of ``base``: the worse of its seeds is better than the best of theirs.

The images of a teacher are made before the calibration and are no part of the CPU time; the table
has their time as ``prepared``. Everything lies in ``--out``: a config, and its run. The same
command continues after an interruption; finished trainings and cells are kept.

Writes a table to stderr and one JSON document as the last line of stdout.

Try: ``python benchmarks/recipes.py --out /tmp/recipes --cpu-seconds 900 --only l1_fft ema9995``
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sys
import time
from pathlib import Path
from statistics import fmean, median
from unittest import mock

from irbench import plan
from irbench.catalog.recipes import Recipe, in_phase
from irbench.core import files, machine, messages, statistics
from irbench.core.errors import Paused, Unavailable, UserError
from irbench.inference import allocator
from irbench.jobs import run as jobs
from irbench.jobs import verify
from irbench.jobs.result import RunSettings
from irbench.jobs.training import loop
from irbench.jobs.training.state import State
from irbench.plan import config

BASE = "base"
CHANGES = {
    BASE: {},
    "patch96": {"phases": [{"from": 0}, {"from": 0.5, "patch": 96, "batch": 4}]},
    "l1_fft": {"loss": "l1_fft"},
    "batch16": {"batch": 16, "warmup": 0.1},
    "adamw": {"optimiser": "adamw"},
    "ema9995": {"ema": 0.9995},
    "warm": {"init": "bundled"},
    "teacher": {"teacher": {"model": "dctlsa", "weight": 0.5}},
}
HELD_OUT = "held-out"


# -- the runs ------------------------------------------------------------------------------------

def settings_of(arguments: argparse.Namespace, changes: dict[str, dict],
                steps: dict[str, int]) -> dict:
    """Return a config that trains every change for some steps and scores it."""
    def training(name: str) -> dict:
        # validated once, at the end: validations in between would cost CPU time
        return {"recipe": arguments.recipe, "data": arguments.data, **arguments.fields,
                **changes[name], "steps": steps[name], "validate_every": steps[name],
                "workers": 0, "seeds": arguments.seeds}

    return {"run": "recipes", "title": "Changes of a recipe at equal CPU time", "device": "cpu",
            "data_root": arguments.data_root, "catalog_paths": arguments.catalog,
            "metrics": ["psnr", "ssim"], "seed": arguments.seed,
            "models": {name: {"arch": arguments.model, "title": name, "profile": False,
                              "options": arguments.options, "training": training(name)}
                       for name in changes},
            "cells": [{"protocol": arguments.protocol, "datasets": arguments.sets,
                       "models": list(changes)}]}


def calibrate(arguments: argparse.Namespace, name: str, change: dict) -> dict:
    """Take some steps of a change; return its CPU seconds a step, and those before the first."""
    settings = settings_of(arguments, {name: change}, {name: arguments.calibrate + 1})
    settings["models"][name]["training"] |= {"seeds": 1, "validate_every": None}
    run = plan.build(config.check({**settings, "run": "calibration"}))
    job, = run.trainings.values()
    times: list[float] = []
    begin_step = State.set_rate

    def watched(state: State) -> float:
        times.append(time.process_time())
        return begin_step(state)

    shutil.rmtree(run.folder, ignore_errors=True)   # of an interrupted one
    begun = time.process_time()
    with mock.patch.object(State, "set_rate", watched):
        loop.run(run, job, threads=arguments.threads)
    shutil.rmtree(run.folder)
    return {"cpu_seconds_a_step": a_step(job.model.training, times),
            "prepared_cpu_seconds": round(times[0] - begun, 2)}


def a_step(recipe: Recipe, times: list[float]) -> float:
    """Return the mean seconds of a step, from the times at which each of some steps began.

    Phases count by their shares of the budget, each with the median of its steps but the first,
    which allocates memory.
    """
    steps = len(times) - 1      # that of the last one is not known
    of_phase: dict[tuple[int, int], list[float]] = {}
    for i in range(steps):
        now = in_phase(recipe, i / len(times))
        of_phase.setdefault((now.patch, now.batch), []).append(times[i + 1] - times[i])
    return sum(len(found) / steps * median(found[1:] or found) for found in of_phase.values())


def steps_of(arguments: argparse.Namespace, changes: dict[str, dict], path: Path
             ) -> dict[str, dict]:
    """Return the calibration of every change, with its ``steps``; kept in a file."""
    kept = json.loads(path.read_text()) if path.is_file() else {}
    asked = {name: {"change": change, **{key: getattr(arguments, key) for key in (
        "recipe", "data", "fields", "model", "options", "protocol", "threads")}}
        for name, change in changes.items()}
    for name, about in asked.items():
        if (kept.get(name) or {}).get("of") != about:
            messages.say(f"{name}: calibrating")
            kept[name] = {"of": about, **calibrate(arguments, name, changes[name])}
            files.write_json(path, kept)
    return {name: {**kept[name], "steps": max(1, round(
        arguments.cpu_seconds / kept[name]["cpu_seconds_a_step"]))} for name in changes}


def compute(arguments: argparse.Namespace, settings: dict, path: Path) -> plan.Plan:
    """Do all jobs of the run that are not done; return its plan. Raises Paused."""
    how = RunSettings(device="cpu", threads=arguments.threads, progress=True,
                      max_minutes=arguments.max_minutes)
    run = plan.build(config.check(settings))
    for kind in ("data", "training", "cell"):
        run = plan.build(config.check(settings))    # sets have a digest once they are fetched
        for job in run.jobs():
            if job.kind != kind or not verify.Records(run).problem(job):
                continue
            begun = time.process_time()
            try:
                jobs.do(run, job, how)
            finally:
                if kind == "training":
                    spent = json.loads(path.read_text()) if path.is_file() else {}
                    so_far = spent.get(job.fingerprint, 0.0) + time.process_time() - begun
                    files.write_json(path, {**spent, job.fingerprint: round(so_far, 2)})
    return run


# -- what is shown -------------------------------------------------------------------------------

def collect(run: plan.Plan, changes: dict[str, dict], spent: dict) -> dict[str, list[dict]]:
    """Return for each change the scores of its seeds: held-out and test PSNR (dB), CPU seconds."""
    known, found = verify.Records(run), {}
    for name in changes:
        models = [one for one in run.models.values() if name in (one.name, one.seed_of)]
        found[name] = []
        for model in models:
            job = next(job for job in run.trainings.values() if job.key["model"] == model.name)
            points = known.stored(job).record["result"]["validation"]
            found[name].append({
                "cpu_seconds": spent.get(job.fingerprint),
                HELD_OUT: points[-1]["psnr"] if points else None,
                **{cell.key["dataset"]: known.stored(cell).record["result"]["mean"]["psnr"]
                   for cell in run.cells.values() if cell.key["model"] == model.name}})
    return found


def summary(found: dict[str, list[dict]]) -> dict[str, dict]:
    """Return means and spreads over seeds, and differences to the base and whether they are real.

    ``apart`` is true if the ranges of the seeds do not overlap; with one seed it is unknown.
    """
    rows = {}
    for name, seeds in found.items():
        rows[name] = {}
        for column in [key for key in seeds[0] if key != "cpu_seconds"]:
            here, base = ([one[column] for one in each if one[column] is not None]
                          for each in (seeds, found[BASE]))
            if not here or not base:
                continue
            spread = statistics.spread(here) if len(here) > 1 else None
            several = name != BASE and len(here) > 1 and len(base) > 1
            rows[name][column] = {
                "mean": round(fmean(here), 4), "spread": spread and round(spread, 4),
                "difference": round(fmean(here) - fmean(base), 4),
                "apart": min(here) > max(base) or max(here) < min(base) if several else None}
    return rows


def show(rows: dict[str, dict], costs: dict[str, dict]) -> None:
    """Print the table to stderr."""
    columns = list(next(iter(rows.values())))
    width = max(len(name) for name in rows) + 2
    print(f"{'':<{width}}{'steps':>8}{'s/step':>8}{'prepared':>10}" + "".join(
        f"{column:>26}" for column in columns), file=sys.stderr)
    for name, row in rows.items():
        cost = costs[name]
        cells = []
        for column in columns:
            one = row.get(column)
            if one is None:
                cells.append(f"{'n/a':>26}")
                continue
            spread = f" ± {one['spread']:.3f}" if one["spread"] is not None else ""
            star = "*" * bool(one["apart"])
            change = "" if name == BASE else f" ({one['difference']:+.3f}{star})"
            cells.append(f"{one['mean']:.3f}{spread}{change}".rjust(26))
        print(f"{name:<{width}}{cost['steps']:>8}{cost['cpu_seconds_a_step']:>8.3f}"
              f"{cost['prepared_cpu_seconds']:>10.1f}" + "".join(cells), file=sys.stderr)
    print("PSNR in dB: mean ± standard deviation over seeds (difference to base). * the seeds of "
          "both do not overlap", file=sys.stderr)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what is trained, on what, and what scores it."""
    parser.add_argument("--seed", type=int, default=0, help="the first")
    parser.add_argument("--model", default="compacter")
    parser.add_argument("--fields", type=json.loads, default={},
                        help="JSON, fields of the recipe for all of them")
    parser.add_argument("--options", type=json.loads, default={"skip": "input"},
                        help="JSON, of the model")
    parser.add_argument("--protocol", default="sr-x2")
    parser.add_argument("--recipe", default="short")
    parser.add_argument("--data", nargs="+", default=["bsds500_train", "bsds500_test"])
    parser.add_argument("--sets", nargs="+", default=["set5", "set14", "bsd100"])
    parser.add_argument("--catalog", nargs="+", default=[], help="files or folders with own sets")
    parser.add_argument("--data-root", default="data")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--max-minutes", type=float, help="stop a training cleanly after this wall "
                        "time, with exit code 3; the same command continues")


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, type=Path, help="folder for config, run and notes")
    parser.add_argument("--cpu-seconds", type=float, default=900, help="of each training")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="some of the changes: "
                        + ", ".join(CHANGES))
    parser.add_argument("--change", action="append", default=[], metavar="NAME=JSON",
                        help="another change: fields of a recipe, with absolute paths; may be "
                        "given more than once")
    parser.add_argument("--calibrate", type=int, default=16, help="steps of a calibration")
    add_options(parser)
    arguments = parser.parse_args(words)
    for name in ("seeds", "threads", "calibrate"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name} must be at least 1")
    if not arguments.cpu_seconds > 0:
        parser.error("--cpu-seconds must be above 0")
    changes = chosen(parser, arguments)
    prepare(arguments)
    with contextlib.chdir(arguments.out):
        try:
            # a mistake in one of the changes is told before anything is computed
            plan.build(config.check(settings_of(arguments, changes, dict.fromkeys(changes, 1))))
            costs = steps_of(arguments, changes, Path("costs.json"))
            settings = settings_of(arguments, changes, {name: cost["steps"]
                                                        for name, cost in costs.items()})
            files.write_json(Path("config.json"), settings)
            run = compute(arguments, settings, Path("spent.json"))
        except Paused as error:
            print(error, file=sys.stderr)
            return 3
        except (UserError, Unavailable) as error:
            parser.error(str(error))
        found = collect(run, changes, json.loads(Path("spent.json").read_text()))
    rows = summary(found)
    show(rows, costs)
    about = machine.provenance(arguments.threads)
    print(json.dumps({
        "model": arguments.model, "options": arguments.options, "protocol": arguments.protocol,
        "recipe": arguments.recipe, "fields": arguments.fields, "data": arguments.data,
        "cpu_seconds": arguments.cpu_seconds, "threads": arguments.threads,
        "changes": {name: {"change": changes[name], "steps": costs[name]["steps"],
                           "cpu_seconds_a_step": costs[name]["cpu_seconds_a_step"],
                           "prepared_cpu_seconds": costs[name]["prepared_cpu_seconds"],
                           "seeds": found[name], "summary": rows[name]} for name in changes},
        "hardware": about["hardware"], "time": about["time"],
        "packages": machine.versions_of("torch", "numpy", "pillow", "accelerate")}))
    return 0


def prepare(arguments: argparse.Namespace) -> None:
    """Make paths absolute and the folder ``--out``, in which everything then happens."""
    arguments.data_root = str(Path(arguments.data_root).resolve())
    arguments.catalog = [str(Path(path).resolve()) for path in arguments.catalog]
    allocator.keep()
    arguments.out.mkdir(parents=True, exist_ok=True)


def chosen(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> dict[str, dict]:
    """Return the changes to compare by name, the base first."""
    only = arguments.only if arguments.only is not None else [] if arguments.change else [*CHANGES]
    if unknown := sorted(set(only) - set(CHANGES)):
        parser.error(f"--only {unknown[0]}: no such change. Valid: {', '.join(CHANGES)}.")
    found = {BASE: {}, **{name: CHANGES[name] for name in only}}
    for text in arguments.change:
        name, _, fields = text.partition("=")
        try:
            found[name] = json.loads(fields)
        except ValueError:
            parser.error(f"--change {text}: valid is NAME=JSON, such as 'low={{\"lr\": 5e-4}}'.")
        if name == BASE or not isinstance(found[name], dict):
            parser.error(f"--change {text}: valid is NAME=JSON, with another name than {BASE}, and "
                         "fields of a recipe.")
    return found


if __name__ == "__main__":
    sys.exit(main())
