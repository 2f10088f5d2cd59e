"""What killed processes have left in a run's folder, and what of it a run removes.

Removed are files that no later job will use: lock files that no process holds, images done and
notes of cells that have their record, and states of trainings that have theirs. What has been done
of unfinished jobs stays.

Temporary files of writes are another thing (``irbench.core.files``).

Try: ``touch results/photos/cells/sr-x2@2/photos/bicubic.lock; irbench run``
"""

from __future__ import annotations

from irbench.core import locks
from irbench.core.run_folder import lock_of
from irbench.jobs import training, verify
from irbench.plan import Plan


class Leftovers:
    """What is left in the folder of a run."""

    def __init__(self, plan: Plan, stored: verify.Records) -> None:
        """Keep the plan and its records."""
        self.plan, self.folder, self.stored = plan, plan.run_folder, stored
        self._looked = False

    def clear_if_idle(self) -> None:
        """Clear once in this process, while the jobs are found, unless a run is at work here.

        A run that has nothing to do never comes to ``clear``, so this is its only chance. Notes of
        cells that are not current stay, because Snakemake may have seen them already.
        """
        if not self._looked:
            self._looked = True
            if not locks.held(self.folder.lock):
                self._clear(all_notes=False)

    def clear(self) -> None:
        """Clear before the first job, once the run's folder is claimed."""
        self._clear(all_notes=True)

    def forget_states(self) -> None:
        """Remove the saved states of trainings whose records are here."""
        for job in self.plan.trainings.values():
            record = self.folder.load(job.kind, job.key).record
            if record and record["status"] == "ok":
                training.forget(self.folder, record)

    def _clear(self, all_notes: bool) -> None:
        for key, path in self.folder.partials():
            if self._is_done(key):
                path.unlink(missing_ok=True)
        for key, path in self.folder.part_notes():
            if all_notes or self._is_done(key) is not False:
                path.unlink(missing_ok=True)
        for path in (*(lock_of(job.record) for job in self.plan.jobs()),
                     *self.folder.part_locks()):
            locks.clear(path)
        self.forget_states()

    def _is_done(self, key: dict[str, str]) -> bool | None:
        """Return whether a cell's record is current; None if the run has no such cell."""
        job = self.plan.cells.get("/".join(key.values()))
        return self.stored.problem(job) is None if job else None
