"""Search for images of a run's test sets among the images that its models were trained on.

Reads   the run's sets; sets that no cell or training of the run uses are read only if present.
Writes  only signatures (``irbench.data.leaks``).

The result covers complete sets. ``judged`` adds which images each model's training left out.

Try: ``irbench data leak``
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from irbench.core import messages, records
from irbench.data import leaks, obtain
from irbench.data import sets as datasets
from irbench.jobs.result import USUAL, Result, RunSettings
from irbench.plan import Job, Plan

if TYPE_CHECKING:
    from irbench.plan.trained_on import Sets

    Find = Callable[[datasets.DatasetEntry, Path], datasets.Dataset]


def run(plan: Plan, job: Job, settings: RunSettings = USUAL) -> Result:
    """Compare all pairs of the run's sets; the ``result`` is that of ``irbench.data.leaks.check``.

    Sets of the run are fetched if they are missing.
    """
    def get(entry: datasets.DatasetEntry, root: Path) -> datasets.Dataset:
        # sets that the run does not use are not fetched
        find = obtain.obtain if entry.name in plan.data else datasets.open_local
        return find(entry, root)

    phases = records.Phases()
    with phases("compare"):
        result = of_run(plan, job, get)
    return Result(result, seconds=phases.seconds)


def of_run(plan: Plan, job: Job, find: Find = datasets.open_local) -> dict:
    """Compare all pairs of the run's sets; by default only sets that are present."""
    return compare(((one["name"], other["name"]) for one, other in job.spec["pairs"]), plan.entry,
                   Path(plan.config["data_root"]), find)


def compare(pairs: Iterable[tuple[str, str]], entry: Callable[[str], datasets.DatasetEntry],
            root: Path, find: Find = datasets.open_local) -> dict:
    """Compare sets, with progress; return the result of ``irbench.data.leaks.check``.

    Args:
        pairs: names of a training set and a test set.
        entry: returns the catalog entry of a name.
        root: the folder of the data.
        find: returns the set for an entry and that folder.
    """
    return leaks.check(list(pairs), lambda name: (find(entry(name), root),
                                                  datasets.digest(entry(name))), root,
                       lambda items: messages.track(items, "reading images", len(items)))


def judged(result: dict, trainings: Iterable[tuple[str, Sets]]) -> dict:
    """Add to the result of ``irbench.data.leaks.check`` which models were trained on an image.

    Args:
        result: the result.
        trainings: pairs of a model's name and its training sets.

    Returns:
        The same with two more lists of names in each pair: ``trained_by`` and ``left_out_by``.
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
