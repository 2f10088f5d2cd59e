"""PSNR against the budget: one recipe at several numbers of steps, each with its whole schedule.

A curve within one training says little about a longer one, because its learning rate falls to zero
at its own end. So each budget is trained from the beginning. A power law, a - b * n^-c with n
the target pixels seen, is fitted to the results. Two things say what such a curve is worth: what
the budgets but the longest predict for the longest, and what all of them predict for the bundled
weights of the same model, which another recipe made (not used in the fit).

The budget of another recipe (``--predict``, default: compacter, our reading of the paper) is far
beyond what is measured: what the curve gives there is an extrapolation, and shown as one. It also
knows nothing of that recipe's other data.

Everything lies in ``--out``: a config, and its run. The same command continues after an
interruption. Writes a table to stderr, one JSON document as the last line of stdout, and the plot
``--plot``.

Try: ``python benchmarks/budget.py --out /tmp/budget --steps 225 450 900 1800 3600``
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import recipes as comparison
from matplotlib.ticker import FuncFormatter

from irbench import plan
from irbench.catalog.model import Model
from irbench.catalog.recipes import Recipe
from irbench.core import files, machine
from irbench.core.errors import Paused, Unavailable, UserError
from irbench.plan import config
from irbench.present import style
from irbench.weights import cards

LEAST = 4                                   # budgets: three numbers are fitted
POWERS = np.arange(0.02, 2.005, 0.01)       # those tried for c
MILLION = 1e6


def pixels(recipe: Recipe, steps: int) -> float:
    """Return the target pixels that a training of so many steps sees, in millions."""
    if recipe.phases:
        raise UserError("a recipe with phases: pixels a step are not one number. Choose another.")
    return steps * recipe.batch * recipe.patch ** 2 / MILLION


def fit(x: list[float], y: list[float]) -> dict[str, float]:
    """Return ``a``, ``b``, ``c`` of a - b * x^-c by least squares, and the largest residual.

    ``edge`` is whether ``c`` lies at an end of the powers that are tried: then the points do not
    show the bend of such a curve, and it predicts nothing.
    """
    x, y = np.asarray(x), np.asarray(y)

    def at(c: float) -> tuple[float, np.ndarray]:
        columns = np.stack([np.ones_like(x), -x ** -c], axis=1)
        found = np.linalg.lstsq(columns, y, rcond=None)[0]
        return float(np.sum((columns @ found - y) ** 2)), found

    c = min(POWERS, key=lambda power: at(power)[0])
    a, b = at(c)[1]
    return {"a": float(a), "b": float(b), "c": float(c),
            "residual": float(np.max(np.abs(a - b * x ** -c - y))),
            "edge": bool(c in (POWERS[0], POWERS[-1]))}


def value(curve: dict[str, float], x: float | np.ndarray) -> float | np.ndarray:
    """Return what a fitted curve gives at ``x`` million pixels."""
    return curve["a"] - curve["b"] * x ** -curve["c"]


def bundled(model: Model, protocol: str, data_root: Path) -> dict | None:
    """Return pixels and scores of the bundled weights of a model, on the same training data.

    None if there are none, or if they learned from more than pixels: from other weights or a
    teacher.
    """
    try:
        header = cards.find(f"{model.arch}-{protocol}", data_root, Path("results")).header
    except UserError:
        return None
    theirs, ours = header["recipe"], asdict(model.training)
    same = header["options"] == model.options and all(
        theirs.get(key) == ours[key] for key in ("data", "exclude", "holdout"))
    if not same or any(theirs.get(key) for key in ("phases", "init", "teacher")):
        return None
    scores = {one["dataset"]: one["psnr"] for one in header.get("scores") or []
              if one["protocol"].partition("@")[0] == protocol}
    points = header.get("validation")
    return {"steps": header["steps"], "device": header["hardware"]["device_name"],
            "pixels": header["steps"] * theirs["batch"] * theirs["patch"] ** 2 / MILLION,
            **scores, **({comparison.HELD_OUT: points[-1][1]} if points else {})}


def findings(x: list[float], found: dict[str, list[float]], other: dict | None, far: float
             ) -> dict[str, dict]:
    """Return for each column the curve, and what it predicts, beside what was measured."""
    rows = {}
    for column, measured in found.items():
        curve = fit(x, measured)
        rows[column] = {
            "curve": curve,
            "longest": {"predicted": value(fit(x[:-1], measured[:-1]), x[-1]),
                        "measured": measured[-1]} if len(x) > LEAST else None,
            "bundled": {"predicted": value(curve, other["pixels"]), "measured": other[column]}
            if other and column in other else None,
            "far": {"predicted": value(curve, far), "limit": curve["a"]}}
    return rows


def draw(path: Path, x: list[float], found: dict[str, list[float]], rows: dict[str, dict],
         other: dict | None, far: float, minutes: float) -> None:
    """Draw a panel a column: points, curve, extrapolation, and the bundled weights.

    ``minutes`` is the CPU time of a million pixels; the upper axis has the CPU minutes.
    """
    with style.look():
        made = style.figure(2.6)
        colour = style.colors(["short"])["short"]
        for i, (column, measured) in enumerate(found.items(), 1):
            ax = made.add_subplot(1, len(found), i)
            curve = rows[column]["curve"]
            inside = np.geomspace(x[0], x[-1], 100)
            outside = np.geomspace(x[-1], far, 100)
            ax.plot(inside, value(curve, inside), color=colour, label="fitted")
            ax.plot(outside, value(curve, outside), color=colour, linestyle=":",
                    label="extrapolated")
            ax.plot(x, measured, "o", color=colour, markersize=4, label="trained here")
            if other and column in other:
                ax.plot(other["pixels"], other[column], "D", color=style.INK, markersize=4,
                        label=f"bundled (another recipe, {other['device']}), not fitted")
            ax.set_xscale("log")
            ax.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:g}"))
            ax.set_title(column)
            ax.set_xlabel("Target pixels seen (millions)")
            if i == 1:
                ax.set_ylabel("PSNR (dB)")
            above = ax.secondary_xaxis("top", functions=(lambda n: n * minutes,
                                                         lambda n: n / minutes))
            above.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:g}"))
            above.set_xlabel("CPU minutes, one core")
        style.legend(made, ax.get_legend_handles_labels()[0], 4)
        with files.atomic_path(path) as temporary:
            made.savefig(temporary, format="png", dpi=200, metadata={"Software": None})


def show(steps: list[int], x: list[float], cpu: list[float], found: dict, rows: dict) -> None:
    """Print the table, and what the curves say, to stderr."""
    print(f"{'steps':>8}{'Mpx':>10}{'CPU min':>10}" + "".join(f"{name:>12}" for name in found),
          file=sys.stderr)
    for i, number in enumerate(steps):
        print(f"{number:>8}{x[i]:>10.1f}{cpu[i] / 60:>10.1f}"
              + "".join(f"{each[i]:>12.3f}" for each in found.values()), file=sys.stderr)
    for name, row in rows.items():
        curve = row["curve"]
        print(f"{name}: {curve['a']:.2f} - {curve['b']:.2f} n^-{curve['c']:.2f}, largest residual "
              f"{curve['residual']:.3f} dB"
              + (", at the edge of the powers tried: no prediction" if curve["edge"] else ""),
              file=sys.stderr)
        for what in ("longest", "bundled"):
            if one := row[what]:
                print(f"  {what}: predicted {one['predicted']:.2f}, measured {one['measured']:.2f}",
                      file=sys.stderr)
        print(f"  extrapolated: {row['far']['predicted']:.2f}, limit {row['far']['limit']:.2f}",
              file=sys.stderr)


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, type=Path, help="folder for config, run and notes")
    parser.add_argument("--steps", type=int, nargs="+", default=[225, 450, 900, 1800, 3600])
    parser.add_argument("--predict", default="compacter", metavar="RECIPE",
                        help="up to whose budget the curve is drawn")
    parser.add_argument("--plot", type=Path, help="a PNG (default: budget.png in --out)")
    comparison.add_options(parser)
    arguments = parser.parse_args(words)
    steps = sorted(set(arguments.steps))
    if len(steps) < LEAST or steps[0] < 1:
        parser.error(f"--steps: at least {LEAST} different numbers above 0")
    if arguments.plot and arguments.plot.suffix != ".png":
        parser.error(f"--plot {arguments.plot}: valid is a file that ends in .png")
    plot = (arguments.plot or arguments.out / "budget.png").resolve()
    arguments.seeds = 1
    comparison.prepare(arguments)
    changes = {f"steps{number}": {} for number in steps}
    with contextlib.chdir(arguments.out):
        try:
            settings = comparison.settings_of(
                arguments, changes, dict(zip(changes, steps, strict=True)))
            settings |= {"run": "budget", "title": "One recipe at several budgets"}
            run = plan.build(config.check(settings))
            model = next(iter(run.trainings.values())).model
            x = [pixels(model.training, number) for number in steps]
            paper = next(job for job in plan.build(config.check(_with(
                settings, arguments.predict))).trainings.values()).model.training
            far = pixels(paper, paper.steps or 0)
            if far <= x[-1]:
                raise UserError(f"--predict {arguments.predict}: its {far:.0f} million pixels are "
                                f"not beyond the longest budget's {x[-1]:.0f}")
            files.write_json(Path("config.json"), settings)
            run = comparison.compute(arguments, settings, Path("spent.json"))
        except Paused as error:
            print(error, file=sys.stderr)
            return 3
        except (UserError, Unavailable) as error:
            parser.error(str(error))
        seeds = comparison.collect(run, changes, json.loads(Path("spent.json").read_text()))
        other = bundled(model, arguments.protocol, Path(arguments.data_root))
    each = [seeds[name][0] for name in changes]
    found = {name: [one[name] for one in each] for name in each[0]
             if name != "cpu_seconds" and each[0][name] is not None}
    cpu = [one["cpu_seconds"] for one in each]
    rows = findings(x, found, other, far)
    show(steps, x, cpu, found, rows)
    draw(plot, x, found, rows, other, far, cpu[-1] / 60 / x[-1])
    about = machine.provenance(arguments.threads)
    print(json.dumps({
        "model": arguments.model, "protocol": arguments.protocol, "recipe": arguments.recipe,
        "data": arguments.data, "steps": steps, "million_pixels": x, "cpu_seconds": cpu,
        "psnr": found, "curves": rows, "bundled": other,
        "predict": {"recipe": arguments.predict, "million_pixels": far},
        "hardware": about["hardware"], "time": about["time"],
        "packages": machine.versions_of("torch", "numpy", "pillow")}))
    return 0


def _with(settings: dict, recipe: str) -> dict:
    """Return the config with one model, trained by another recipe."""
    name, model = next(iter(settings["models"].items()))
    training = {"recipe": recipe, "data": model["training"]["data"]}
    return {**settings, "models": {name: {**model, "training": training}},
            "cells": [{**settings["cells"][0], "models": [name]}]}


if __name__ == "__main__":
    sys.exit(main())
