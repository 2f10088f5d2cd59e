"""A job: one unit of work and of caching, with all that its result depends on as plain data.

Reads and writes nothing, imports no torch.

Try: ``python -c "from irbench import plan; print(plan.load('config.yaml').jobs()[0])"``
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from irbench.catalog.model import Model
from irbench.core import digests, records
from irbench.core.run_folder import RunFolder


@dataclass(frozen=True)
class Job:
    """One unit of work and of caching.

    Attributes:
        kind: data, training, cell, profile, bench or leaks.
        key: its name: dataset; protocol, model; protocol, dataset, model; bench; or run. For a
            blind training ``protocol`` is its scope, e.g. denoise_color-blind@1.
        spec: all that determines the result and is known before the job runs, nothing else.
        record: the path of its record.
        model: the plan's model with the options for the protocol; None for a job without a model.
    """

    kind: str
    key: dict[str, str]
    spec: dict
    record: Path
    model: Model | None = None

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the spec."""
        return digests.fingerprint(self.spec)

    @property
    def title(self) -> str:
        """The job in words, for messages."""
        return f"{self.kind} {' / '.join(self.key.values())}"


def add(group: dict[str, Job], folder: RunFolder, kind: str, key: dict[str, str], spec: dict,
        model: Model | None = None) -> None:
    """Add a job to a group of a plan, under the values of its key joined by '/'."""
    group["/".join(key.values())] = Job(kind, key, records.decisive(spec),
                                        folder.record(kind, key), model)
