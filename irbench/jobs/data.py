"""One dataset of a run: fetched if it is missing, checked, and counted.

Reads   the set's entry in the catalog and its manifest.
Writes  the images, below ``data_root``.

Try: ``irbench data fetch set5``
"""

from __future__ import annotations

from pathlib import Path

from irbench.core import messages, records
from irbench.core.errors import Damaged
from irbench.data import obtain, sets
from irbench.jobs.result import USUAL, Result, RunSettings
from irbench.plan import Job, Plan, contents


def run(plan: Plan, job: Job, settings: RunSettings = USUAL) -> Result:
    """Fetch and check a set. ``result``: ``count``, ``sha256``, ``bytes``, ``images`` (names).

    Raises:
        Unavailable: the set cannot be fetched, or its content is wrong.
    """
    entry = plan.entry(job.key["dataset"])
    phases = records.Phases()
    with phases("fetch"):
        found = obtain.fetch(entry, Path(plan.config["data_root"]))
    spec = job.spec
    if spec["dataset"]["sha256"] is None:
        # the content of the set is known only now
        spec = contents.spec(entry, plan.config["data_root"])
    if changed := sets.altered(entry, anew=False):
        raise Damaged(f"{entry.name}: {words_of_altered(entry.name, changed)}")
    images = found.role("input" if entry.paired else "hr")
    return Result({"count": len(images), "sha256": sets.digest(entry),
                   "bytes": sum(item.bytes for item in found.images),
                   "images": [item.name for item in images]}, seconds=phases.seconds, spec=spec)


def words_of_altered(name: str, changed: list[Path]) -> str:
    """Say that files of a set are others than those that its digest, and all scores, are of."""
    return (f"{len(changed)} files changed after they were scored ({messages.some(changed)}); "
            f"irbench data check {name} shows what to do")
