"""The search of a run for images of its test sets among those that its models were trained on.

Reads   the run's sets; those that it does not fetch for its cells and trainings only if they are
        here.
Writes  nothing but signatures (``irbench.data.leaks``).

The result is of whole sets. What each model's training left out is the plan's to say: ``judged``.

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

    Sets of the run are fetched if they are not here.
    """
    def get(entry: datasets.DatasetEntry, root: Path) -> datasets.Dataset:
        # what a run does not use is not fetched for it
        find = obtain.obtain if entry.name in plan.data else datasets.open_local
        return find(entry, root)

    phases = records.Phases()
    with phases("compare"):
        result = of_run(plan, job, get)
    return Result(result, seconds=phases.seconds)


def of_run(plan: Plan, job: Job, find: Find = datasets.open_local) -> dict:
    """Compare all pairs of the run's sets; by default of those that are here."""
    return compare(((one["name"], other["name"]) for one, other in job.spec["pairs"]), plan.entry,
                   Path(plan.config["data_root"]), find)


def compare(pairs: Iterable[tuple[str, str]], entry: Callable[[str], datasets.DatasetEntry],
            root: Path, find: Find = datasets.open_local) -> dict:
    """Compare sets, with progress; return the result of ``irbench.data.leaks.check``.

    Args:
        pairs: names of a training set and a test set.
        entry: from a name to its entry in the catalog.
        root: where the data lie.
        find: from an entry and that folder to the set.
    """
    return leaks.check(list(pairs), lambda name: (find(entry(name), root),
                                                  datasets.digest(entry(name))), root,
                       lambda items: messages.track(items, "reading images", len(items)))


def judged(result: dict, trainings: Iterable[tuple[str, Sets]]) -> dict:
    """Return the result of ``irbench.data.leaks.check`` with who has seen what.

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
