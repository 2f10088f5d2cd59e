"""Into how many parts each cell of a run is split: the config's ``shards``.

A job of the workflow evaluates each part (``irbench.jobs.parts``); the job for the cell waits for
all of them. Splitting decides how the work is spread, never what is computed: the spec of a cell
does not hold it, and what parts of another number have done still counts.

Not split are cells of a compiled network, whose values may depend on the images before; and, by
``images``, those of a set whose size is not known before it is fetched.

Reads and writes nothing.

Try: ``snakemake -n --config shards=2``
"""

from __future__ import annotations

import functools
import itertools
import math

from irbench.catalog import protocols
from irbench.jobs.cells.parts import MOST
from irbench.plan import Job, Plan

PART = "evaluate_part"      # the rule


class Parts:
    """The parts of a run's cells, and the notes that Snakemake takes for their results.

    A note is there from the end of a part to the end of its cell. What the part has done is kept
    elsewhere, by irbench; so it outlives every job that fails.
    """

    def __init__(self, plan: Plan) -> None:
        """Keep the plan."""
        self.plan = plan
        self.note = plan.run_folder.part_note

    @functools.cached_property
    def counts(self) -> dict[str, int]:
        """The cells that are split, by their names in the plan, and the number of their parts."""
        plan, found = self.plan, {}
        for group in plan.config["cells"]:
            asked = group.get("shards", plan.config["shards"])
            protocol = (group["protocol"] if group["protocol"] in plan.protocols else protocols.get(
                group["protocol"], tuple(plan.config["catalog_paths"])).id)
            models = [model.name for model in plan.models.values()
                      if model.entry in group["models"]]
            for dataset, model in itertools.product(group["datasets"], models):
                if job := plan.cells.get(f"{protocol}/{dataset}/{model}"):
                    found["/".join(job.key.values())] = self._count(job, asked)
        return {name: count for name, count in found.items() if count > 1}

    def _count(self, job: Job, asked: int | dict) -> int:
        images = self.plan.data[job.key["dataset"]].spec["count"]
        if job.model.inference.compile:
            return 1
        if isinstance(asked, dict):
            return min(math.ceil((images or 1) / asked["images"]), MOST)
        return asked if images is None else min(asked, images)

    def notes(self, job: Job) -> list[str]:
        """Return the notes of all parts of a cell; [] if it is not split."""
        count = self.counts.get("/".join(job.key.values()), 0)
        return [self.note.format(**job.key, part=part, parts=count)
                for part in range(1, count + 1)]
