"""Which cells one job of the workflow computes: those of one model and protocol, up to a number.

Cells that are split (``irbench.snakefile.parts``) are in jobs apart from the others, which need not
wait for their parts.

The sets of such a group are written into a rule, because an output of Snakemake cannot depend on
its wildcards. So each list of sets has a rule of its own: evaluate, evaluate2, ...

Try: ``snakemake -n --set-resources evaluate:cells=4``
"""

from __future__ import annotations

import math
import re
from collections.abc import Container
from dataclasses import dataclass

from irbench.plan import Plan

EVALUATE = "evaluate"   # the first of the rules; what is set for it holds for all
# cells a job, where no profile says it: starting a process takes 3 s of CPU time, most of it torch;
# more cells in one process would leave cores idle in a run of few models
CELLS = 4


@dataclass(frozen=True)
class Batches:
    """The cells that a rule of the workflow computes, each job those of one model and protocol.

    Attributes:
        rule: the rule's name.
        datasets: the sets of each of its jobs.
        models: protocol -> the models with these sets.
    """

    rule: str
    datasets: tuple[str, ...]
    models: dict[str, list[str]]

    @property
    def protocols(self) -> str:
        """The pattern of the protocols in paths of records, which also looks at their models."""
        return "|".join(
            rf"{re.escape(protocol)}(?=/[^/]+/(?:{'|'.join(map(re.escape, models))})\.)"
            for protocol, models in self.models.items())


def made_of(plan: Plan, most: int, split: Container[str] = ()) -> list[Batches]:
    """Return the cells of a run in groups of one model and protocol, of ``most`` cells or fewer.

    They are the same in every process that works for a run, whatever is done already. ``split``
    holds the names of the cells that are split.
    """
    sets_of: dict[tuple[str, str, bool], list[str]] = {}
    for name, job in plan.cells.items():
        sets_of.setdefault((job.key["protocol"], job.key["model"], name in split),
                           []).append(job.key["dataset"])
    found: dict[tuple[str, ...], dict[str, list[str]]] = {}
    for (protocol, model, _), names in sets_of.items():
        parts = math.ceil(len(names) / most)
        for number in range(parts):     # of nearly equal length
            start, end = (round(len(names) * i / parts) for i in (number, number + 1))
            found.setdefault(tuple(names[start:end]), {}).setdefault(protocol, []).append(model)
    return [Batches(f"{EVALUATE}{number if number > 1 else ''}", names, models)
            for number, (names, models) in enumerate(found.items(), 1)]
