"""``irbench data leak``: search for test images among the images of training sets.

Reads   a config and its sets, or the named sets.
Writes  the record ``leaks.json`` of a run when the workflow calls it; otherwise only signatures
        (``irbench.data.leaks``).

An image that a training left out (``exclude``) is found and shown, but does not count as a leak.

Try: ``irbench data leak``
     ``irbench data leak --train bsds500_train --test set5 --exclude bsds500_train/302003``
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable

from tabulate import tabulate

from irbench.cli import common, work
from irbench.core import messages
from irbench.core.errors import UserError, unknown
from irbench.jobs import leaks
from irbench.plan import trained_on

NAME = "leak"
HELP = ("search for test images in training sets; exit code 1: leaks found, 3: none found, but "
        "some sets could not be compared")
EXAMPLES = 3        # largest number of pairs per two sets in the table


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the action's options."""
    common.add_run(parser)
    common.add_job(parser, device=False)
    common.add_data_root(parser)
    for use in ("train", "test"):
        parser.add_argument(f"--{use}", nargs="+", metavar="NAME",
                            help=f"{use} sets to compare; default: those of the config")
    parser.add_argument("--exclude", nargs="+", metavar="SET/IMAGE", default=[],
                        help="images that the training leaves out, with --train; for a config "
                             "its recipes give them")


def run(arguments: argparse.Namespace) -> int:
    """Search in a config's sets or in the named sets.

    Returns 0 if all sets were compared without a leak, 1 if there is a leak, 3 if some sets could
    not be compared (a set is missing, or a model's training data are unknown).

    With ``--on-failure record``, which the workflow uses, the result is the run's record, and the
    exit code only shows whether the comparison was made. The record covers complete sets; the plan
    knows which images each training left out.

    Raises:
        UserError: an unknown set or image, or only one of ``--train`` and ``--test``.
    """
    if bool(arguments.train) != bool(arguments.test):
        raise UserError("irbench data leak takes both --train NAME and --test NAME, or neither "
                        "to compare the sets of the config.")
    if arguments.train:
        return _named(arguments)
    if arguments.exclude:
        raise UserError("--exclude needs --train and --test. For a config, list excluded images "
                        "in it (models.NAME.training.exclude).")
    planned = common.load_plan(arguments)
    job = next(iter(planned.leaks.values()), None)
    unsure = sorted({name.partition("/")[2] for name, sets in planned.trained_on.items()
                     if sets is None})
    if unsure:
        messages.say(f"training data unknown, not compared: {', '.join(unsure)}. If you know the "
                     "sets, name them in the config (models.NAME.trained_on).")
    if job is None:
        messages.say(f"{arguments.plan or arguments.config} has no model with known training data. "
                     "To compare sets: irbench data leak --train NAME --test NAME")
        return _print({"pairs": [], "compared": [], "not_compared": []}, [], unsure)
    if arguments.on_failure == "record":
        return work.run_job(arguments, planned, job)
    trainings = [(name, sets) for name, sets in planned.trained_on.items() if sets]
    return _print(leaks.of_run(planned, job), trainings, unsure)


def _named(arguments: argparse.Namespace) -> int:
    """Compare the sets named on the command line; the config is optional."""
    known, root, _ = common.catalog_of(arguments)
    for name in (*arguments.train, *arguments.test):
        if name not in known:
            raise unknown("dataset", name, known)
    exclude: trained_on.Sets = {name: [] for name in arguments.train}
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
    return _print(leaks.compare(pairs, known.get, root), [("", exclude)])


# -- output --------------------------------------------------------------------------------------

def _print(result: dict, trainings: list[tuple[str, trained_on.Sets]],
           unsure: Iterable[str] = ()) -> int:
    """Print the table and the JSON document; return the exit code, see ``run``."""
    result = leaks.judged(result, trainings)
    if result["compared"] or result["not_compared"]:
        print(table(result))
    seen = sum(bool(pair["trained_by"]) for pair in result["pairs"])
    # if nothing was compared, the number of leaks is unknown
    print(json.dumps({"leaks": seen if result["compared"] else None, **result,
                      "unknown": list(unsure)}))
    return 1 if seen else 3 if result["not_compared"] or unsure else 0


def table(result: dict) -> str:
    """Return the result as text for a terminal: a line per two sets, examples, and gaps.

    ``result`` comes from ``irbench.jobs.leaks.judged``.
    """
    lines = []
    for entry in result["compared"]:
        # leaks first
        here = sorted((p for p in result["pairs"]
                       if (p["train"], p["test"]) == (entry["train"], entry["test"])),
                      key=lambda p: not p["trained_by"])
        seen = [p for p in here if p["trained_by"]]
        left_out = len({p["test_image"] for p in here} - {p["test_image"] for p in seen})
        counts = [_count(seen), left_out and f"{left_out} left out of the training"]
        lines.append([entry["train"], entry["train_images"], entry["test"], entry["test_images"],
                      "; ".join(filter(None, counts)) or "none in common"])
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
