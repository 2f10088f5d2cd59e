"""Which cells, and which profiles, one job of the workflow computes.

A job computes cells of one model and protocol, up to a number. Cells that are split
(``irbench.snakefile.parts``) are in jobs apart from the others, which need not wait for the parts.
A job measures profiles of any models: they run alone on the machine, so that the start of each
process is time of the whole run.

What the jobs of a rule have in common is written into the rule, because an output of Snakemake
cannot depend on its wildcards. So each list of sets has a rule of its own: evaluate, evaluate2,
...; and each list of profiles: profile, profile2, ...

Try: ``snakemake -n --set-resources evaluate:cells=4``
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from irbench.plan import Job, Plan

if TYPE_CHECKING:
    from snakemake.io import Wildcards
    from snakemake.settings.types import ResourceSettings

EVALUATE = "evaluate"   # the first of the rules; what is set for it holds for all
# cells a job, where no profile says it: starting a process takes 3 s of CPU time, most of it torch;
# more cells in one process would leave cores idle in a run of few models
CELLS = 4
PROFILE = "profile"     # the first of the rules of profiles
# profiles a job, where no profile of Snakemake says it; a start costs as much as a small profile
PROFILES = 8


@dataclass(frozen=True)
class Batches:
    """The cells that a rule of the workflow computes, each job those of one model and protocol.

    Attributes:
        rule: the rule's name.
        datasets: the sets of each of its jobs.
        models: protocol -> the models with these sets.
    """

    kind: ClassVar[str] = "cell"

    rule: str
    datasets: tuple[str, ...]
    models: dict[str, list[str]]

    @property
    def protocols(self) -> str:
        """The pattern of the protocols in paths of records, which also looks at their models."""
        return "|".join(
            rf"{re.escape(protocol)}(?=/[^/]+/(?:{'|'.join(map(re.escape, models))})\.)"
            for protocol, models in self.models.items())

    @property
    def keys(self) -> list[dict[str, str]]:
        """What of the key of each cell is written into the rule."""
        return [{"dataset": name} for name in self.datasets]

    def jobs(self, plan: Plan, wildcards: Wildcards) -> list[Job]:
        """Return the cells of one of its jobs."""
        return [plan.cells[f"{wildcards.protocol}/{name}/{wildcards.model}"]
                for name in self.datasets]


@dataclass(frozen=True)
class Profiles:
    """The profiles that a rule of the workflow measures, in one job, one after another.

    Attributes:
        rule: the rule's name.
        names: their names in the plan.
    """

    kind: ClassVar[str] = "profile"
    rule: str
    names: tuple[str, ...]

    @property
    def keys(self) -> list[dict[str, str]]:
        """The key of each."""
        return [dict(zip(("protocol", "model"), name.split("/"), strict=True))
                for name in self.names]

    def jobs(self, plan: Plan, wildcards: Wildcards) -> list[Job]:
        """Return the profiles."""
        return [plan.profiles[name] for name in self.names]


def profiles_of(plan: Plan, most: int) -> list[Profiles]:
    """Return the profiles of a run in groups of nearly equal length, of ``most`` or fewer."""
    return [Profiles(_rule(PROFILE, number), tuple(names))
            for number, names in enumerate(_parts(list(plan.profiles), most), 1)]


def _parts(names: list[str], most: int) -> list[list[str]]:
    """Cut a list into parts of nearly equal length, of ``most`` or fewer."""
    parts = math.ceil(len(names) / most)
    cuts = [round(len(names) * i / parts) for i in range(parts + 1)] if parts else []
    return [names[start:end] for start, end in itertools.pairwise(cuts)]


def _rule(first: str, number: int) -> str:
    return f"{first}{number if number > 1 else ''}"


def most(settings: ResourceSettings, rule: str, resource: str, default: int) -> int:
    """Return how many results a job computes at most: the resource of a rule, if it is set."""
    found = settings._parsed_overwrite_resources.get(rule)
    return max(1, int(found[resource].value) if found and resource in found else default)


def hold_for(settings: ResourceSettings, first: str, rules: Iterable[str]) -> None:
    """Make what is set for the first of some rules hold for all of them."""
    for given in (settings._parsed_overwrite_resources, settings._parsed_overwrite_threads):
        for rule in rules if first in given else ():
            given.setdefault(rule, given[first])


def filled(pattern: str, key: dict[str, str]) -> str:
    """Return a pattern of paths with some of its {key parts} given."""
    for name, value in key.items():
        pattern = pattern.replace(f"{{{name}}}", value)
    return pattern


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
        for part in _parts(names, most):
            found.setdefault(tuple(part), {}).setdefault(protocol, []).append(model)
    return [Batches(_rule(EVALUATE, number), names, models)
            for number, (names, models) in enumerate(found.items(), 1)]
