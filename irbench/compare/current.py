"""The current run of a config: its records, without results that were made from other inputs.

Plans the config (which reads the catalogs and the digests of sets, code and weights) and reads the
records of the run; writes nothing.

Try: ``python -c "from irbench.compare import current; print(current.load('config.yaml').where)"``
"""

from __future__ import annotations

from dataclasses import replace

from irbench import plan
from irbench.compare import planned, runs
from irbench.compare.runs import RunData
from irbench.core.errors import UserError

OUTDATED = "outdated"


def load(config: str) -> RunData:
    """Return the run of a config; results made from other inputs have the status "outdated".

    Raises:
        UserError: the config cannot be planned, or its run has no record yet.
    """
    run = plan.load(config)
    if not run.folder.is_dir():
        raise UserError(f"{run.folder}: config {config} has not been run here yet. Run the "
                        f"workflow (snakemake --configfile {config}), or name a run folder.")
    loaded = runs.of_folder(run.folder, planned.from_config(run.config))
    cells = {key: _checked(run, one, run.cells.get(key)) for key, one in loaded.cells.items()}
    profiles = {key: _checked(run, one, run.profiles.get(key))
                for key, one in loaded.profiles.items()}
    return replace(loaded, cells=cells, profiles=profiles)


def _checked(run, one, job):
    """Return a result, without its values if its record has other inputs than the job."""
    if job is None or one.status not in ("ok", runs.PARTIAL):
        return one
    stored = run.run_folder.load(job.kind, job.key)
    if stored.record is None:
        return replace(one, status=OUTDATED, reason=stored.problem)
    spec = stored.record["spec"]
    if spec == job.spec:
        return one
    parts = sorted(k for k in {*spec, *job.spec} if spec.get(k) != job.spec.get(k))
    return replace(one, status=OUTDATED,
                   reason=f"its {', '.join(parts)} changed since it was computed")
