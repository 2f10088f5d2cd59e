"""One network for several cells of a model and protocol that one process evaluates.

Only networks of irbench itself are used again: their forward pass changes nothing in them. The
network of a plugin or of others may remember earlier images, and a compiled one may be compiled
again for other sizes, so these are loaded anew. A record thus has the values of a single job.

Try: ``irbench eval --protocol sr-x2 --dataset set5 set14 --model compacter``
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from irbench.jobs import evaluate
from irbench.models import registry
from irbench.plan import Job, Plan

if TYPE_CHECKING:
    from torch import nn


class LastNetwork:
    """Loads the network of a cell, or returns that of the cell before; see ``RunSettings.load``."""

    def __init__(self) -> None:
        """Keep no network yet."""
        self._key: tuple | None = None
        self._found: tuple[nn.Module, dict] | None = None

    def __call__(self, plan: Plan, job: Job, device: str = "cpu",
                 module: nn.Module | None = None,
                 source: Path | None = None) -> tuple[nn.Module, dict]:
        """Return the network and the record's ``resolved``; see ``evaluate.load_network``."""
        key = (job.model, job.key["protocol"], device)
        if self._found is None or key != self._key:
            self._found = None      # never two networks in memory
            found = evaluate.load_network(plan, job, device, module, source)
            if not _is_stateless(plan, job):
                return found
            self._key, self._found = key, found
        return self._found


def _is_stateless(plan: Plan, job: Job) -> bool:
    model = job.model
    return (not model.external and not model.inference.compile
            and registry.get(model.arch, tuple(plan.config["plugins"])).builtin)
