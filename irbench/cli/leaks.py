"""``irbench data leak``: look for images of test sets among those that were trained on.

Reads   a config and its sets, or those named.
Writes  the record ``leaks.json`` of a run when the workflow calls it; else nothing but signatures
        (``irbench.data.leaks``).

An image that a training left out (``exclude``) is found and shown, but is no leak.

Try: ``irbench data leak --train bsds500_train --test set5 --exclude bsds500_train/302003``
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from irbench.core.errors import UserError, unknown

if TYPE_CHECKING:
    from irbench.plan.trained_on import Sets

EXAMPLES = 3        # pairs of two sets in the table for people


def add_options(sub: argparse.ArgumentParser) -> None:
    """Add the action's own options."""
    for use in ("train", "test"):
        sub.add_argument(f"--{use}", nargs="+", metavar="NAME",
                         help=f"{use} sets to compare; default: those of the config")
    sub.add_argument("--exclude", nargs="+", metavar="SET/IMAGE", default=[],
                     help="images that the training leaves out, with --train; of a config's models "
                          "it is known")


def run(arguments: argparse.Namespace, run_job: Callable) -> int:
    """Do the action: for a config's sets or for those named.

    Returns 0 if all was compared and nothing in common was trained on, 1 if something was, 3 if
    not all could be compared (a set is not here, or a model's training data are unknown).

    With ``--on-failure record``, as the workflow calls it, the result is the run's record and the
    exit code says only whether the comparison was made. The record is of whole sets; what each
    model's training left out is the plan's to say.

    Args:
        arguments: of ``irbench data``.
        run_job: called with arguments, job and the work to do; writes the record.

    Raises:
        UserError: an unknown set or image, or only one of ``--train`` and ``--test``.
    """
    from irbench import plan
    from irbench.core import messages, records
    from irbench.data import leaks
    from irbench.data import sets as datasets

    if bool(arguments.train) != bool(arguments.test):
        raise UserError("irbench data leak takes both --train NAME and --test NAME, or neither "
                        "for the sets of the config.")
    if arguments.train:
        return _named(arguments)
    if arguments.exclude:
        raise UserError("--exclude goes with --train and --test; what the trainings of a config "
                        "leave out stands in it (models.NAME.training.exclude).")
    loaded = plan.load(arguments.config)
    job = next(iter(loaded.leaks.values()), None)
    unsure = sorted({name.partition("/")[2] for name, sets in loaded.trained_on.items()
                     if sets is None})
    if unsure:
        messages.say(f"training data unknown, not compared: {', '.join(unsure)}")
    if job is None:
        messages.say(f"{arguments.config} has no model with known training data. To compare sets: "
                     "irbench data leak --train NAME --test NAME")
        return _tell({"pairs": [], "compared": [], "not_compared": []}, [], unsure)
    pairs = [(one["name"], other["name"]) for one, other in job.spec["pairs"]]
    root = Path(loaded.config["data_root"])
    if arguments.on_failure != "record":
        trainings = [(name, sets) for name, sets in loaded.trained_on.items() if sets]
        return _tell(leaks.check(pairs, _finder(loaded.entry, root, datasets.open_local), root,
                                 _track), trainings, unsure)

    def obtain(entry: datasets.DatasetEntry, root: Path) -> datasets.Dataset:
        # what a run does not use is not fetched for it
        find = datasets.obtain if entry.name in loaded.data else datasets.open_local
        return find(entry, root)

    def work() -> dict:
        phases = records.Phases()
        with phases("compare"):
            result = leaks.check(pairs, _finder(loaded.entry, root, obtain), root, _track)
        return records.make("leaks", job.key, job.spec, result=result, seconds=phases.seconds)

    return run_job(arguments, job, work)


def _named(arguments: argparse.Namespace) -> int:
    """Compare the sets named on the command line; a config is no must."""
    from irbench.cli import data
    from irbench.data import leaks
    from irbench.data import sets as datasets
    from irbench.plan import trained_on

    known, root, _ = data.catalog_of(arguments)
    for name in (*arguments.train, *arguments.test):
        if name not in known:
            raise unknown("dataset", name, known)
    exclude: Sets = {name: [] for name in arguments.train}
    for given in arguments.exclude:
        name, _, image = given.partition("/")
        if name not in exclude or not image:
            raise UserError(f"--exclude {given}: give a training set and an image of it, as "
                            f"{arguments.train[0]}/NAME. Training sets: "
                            f"{', '.join(arguments.train)}.")
        exclude[name].append(image)
    exclude = {name: trained_on.left_out(known[name], images, "--exclude")
               for name, images in exclude.items()}
    pairs = [(one, other) for one in arguments.train for other in arguments.test]
    return _tell(leaks.check(pairs, _finder(known.get, root, datasets.open_local), root, _track),
                 [("", exclude)])


def _finder(entry: Callable, root: Path, find: Callable) -> Callable:
    """Return a function from a name to the set and its digest."""
    from irbench.data import sets as datasets

    return lambda name: (find(entry(name), root), datasets.digest(entry(name)))


def _track(items: list) -> Iterable:
    from irbench.core import messages

    return messages.track(items, "reading images", len(items))


# -- what is told --------------------------------------------------------------------------------

def judged(result: dict, trainings: Iterable[tuple[str, Sets]]) -> dict:
    """Return the result of ``leaks.check`` with who has seen what.

    Args:
        result: the result.
        trainings: (name, its sets) of everything trained.

    Returns:
        The same with two lists of names more in each pair: ``trained_by`` and ``left_out_by``.
    """
    trainings = list(trainings)
    pairs = []
    for pair in result["pairs"]:
        by = {True: [], False: []}
        for name, sets in trainings:
            if pair["train"] in sets:
                by[pair["train_image"] in sets[pair["train"]]].append(name)
        pairs.append({**pair, "trained_by": by[False], "left_out_by": by[True]})
    return {**result, "pairs": pairs}


def _tell(result: dict, trainings: list[tuple[str, Sets]], unsure: Iterable[str] = ()) -> int:
    """Print the table and the JSON document; return the exit code, see ``run``."""
    result = judged(result, trainings)
    if result["compared"] or result["not_compared"]:
        print(table(result))
    seen = sum(bool(pair["trained_by"]) for pair in result["pairs"])
    # nothing compared is not "no leak"
    print(json.dumps({"leaks": seen if result["compared"] else None, **result,
                      "unknown": list(unsure)}))
    return 1 if seen else 3 if result["not_compared"] or unsure else 0


def table(result: dict) -> str:
    """Return what was found as text for a terminal: a line per two sets, examples, and gaps.

    ``result`` is that of ``judged``.
    """
    from tabulate import tabulate

    lines = []
    for entry in result["compared"]:
        # first what was trained on
        here = sorted((p for p in result["pairs"]
                       if (p["train"], p["test"]) == (entry["train"], entry["test"])),
                      key=lambda p: not p["trained_by"])
        seen = [p for p in here if p["trained_by"]]
        left_out = len({p["test_image"] for p in here} - {p["test_image"] for p in seen})
        said = [_count(seen), left_out and f"{left_out} left out of the training"]
        lines.append([entry["train"], entry["train_images"], entry["test"], entry["test_images"],
                      "; ".join(filter(None, said)) or "none in common"])
        lines += [["", "", "", "", f"  {describe(p)}"] for p in here[:EXAMPLES]]
        if len(here) > EXAMPLES:
            lines.append(["", "", "", "", f"  and {len(here) - EXAMPLES} more (in the JSON)"])
    for entry in result["not_compared"]:
        lines.append([entry["train"], "", entry["test"], "", "NOT COMPARED, see below"])
    shown = tabulate(lines, ["training set", "images", "test set", "images", "test images"],
                     colalign=["left", "right", "left", "right", "left"], disable_numparse=True)
    reasons = dict.fromkeys(entry["reason"] for entry in result["not_compared"])
    return "\n\n".join([shown, *reasons])


def _count(pairs: list[dict]) -> str:
    kinds = [f"{n} {kind}" for kind in ("identical", "near-identical")
             if (n := sum(p["kind"] == kind.partition("-")[0] for p in pairs))]
    return (f"{len({p['test_image'] for p in pairs})} in common ({', '.join(kinds)})"
            if pairs else "")


def describe(pair: dict) -> str:
    """Return one pair in words: ``test001 = 12003 (near, distance 0.0021, mirrored)``."""
    how = [pair["kind"]]
    if pair["kind"] == "near":
        how += [f"distance {pair['distance']:.4f}", *filter(None, [pair["position"]])]
    if pair["left_out_by"]:
        how += [f"left out by {', '.join(pair['left_out_by'])}" if any(pair["left_out_by"])
                else "left out"]
        how += [f"trained on by {', '.join(pair['trained_by'])}"] if pair["trained_by"] else []
    return f"{pair['test_image']} = {pair['train_image']} ({', '.join(how)})"
