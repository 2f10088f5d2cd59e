"""A job: one unit of work and of caching, with all that its result depends on as plain data.

Reads and writes nothing, imports no torch.

Try: ``python -c "from irbench import plan; print(plan.load('config.yaml').jobs()[0])"``
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from irbench.catalog.model import Model
from irbench.core import digests, typed


@dataclass(frozen=True)
class Job:
    """One unit of work and of caching.

    Attributes:
        kind: data, training, cell, profile, bench or leaks.
        key: what names it: dataset; protocol, model; protocol, dataset, model; bench; or run.
            Of a blind training ``protocol`` is its scope, as denoise_color-blind@1.
        spec: everything known beforehand that fixes its result, and nothing else.
        record: where its record goes.
        model: the whole model of the plan, fitted to the protocol; None where there is none.
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

    def as_dict(self) -> dict:
        """Return it as plain data."""
        return {"kind": self.kind, "key": self.key, "spec": self.spec,
                "record": self.record.as_posix(), "model": self.model and self.model.as_dict()}

    @classmethod
    def from_dict(cls, given: dict) -> Job:
        """Return the job that ``as_dict`` gave. Raises UserError for an unknown or a missing key.
        """
        job = typed.make(cls, given, "job")
        return cls(job.kind, job.key, job.spec, Path(job.record),
                   job.model and Model.from_dict(job.model))
