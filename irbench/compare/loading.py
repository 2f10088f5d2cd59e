"""The run that a command names: by a run folder, by a baseline file, or by a config.

A folder and a file are taken as they are. Of a config's run, results of old inputs do not count:
the config is planned, which reads the catalogs and the digests of sets, code and weights. Reads the
records of runs; writes nothing.

Try: ``python -c "from irbench.compare import loading; print(loading.load('results/photos').name)"``
"""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

from irbench import plan
from irbench.compare import baseline, planned, runs
from irbench.compare.runs import RunData
from irbench.core import records
from irbench.core.errors import UserError, unknown

OUTDATED = "outdated"


def load(path: str | Path) -> RunData:
    """Return a run from its folder, or from a baseline file.

    Raises:
        UserError: the path does not exist, it holds no record, or it is not a baseline of a known
            version.
    """
    path = Path(path)
    if path.is_file():
        return baseline.load(path)
    if not path.is_dir():
        raise UserError(f"{path}: no such run folder or baseline file. Each run is a folder in "
                        f"results/{runs.near(path)}; irbench baseline write makes a baseline of a "
                        "run.")
    return runs.of_folder(path)


def of_model(run: RunData, model: str, named: str) -> RunData:
    """Return the results of one model of a run, under another name.

    Two models can be compared once both have the same name.

    Raises UserError if the run has no result of that model.
    """
    known = dict.fromkeys(one.model for one in (*run.cells.values(), *run.profiles.values()))
    if model not in known:
        raise unknown("model", model, known, run.where)
    cells, profiles = ({one.key: one for one in (replace(
        one, model=named, inputs=one.inputs and {**one.inputs, "of": model})
        for one in group.values() if one.model == model)}
        for group in (run.cells, run.profiles))
    return replace(run, name=f"{run.name}: {model}", title=f"{run.title}: {model}", cells=cells,
                   profiles=profiles, planned=None, from_earlier=())


def of_config(config: str) -> RunData:
    """Return the run of a config; results made from other inputs have the status "outdated".

    Raises:
        UserError: the config cannot be planned, or its run has no record yet.
    """
    run = plan.load(config)
    if not run.folder.is_dir():
        raise UserError(f"{run.folder}: config {config} has not been run here yet. Run it "
                        f"(irbench run {shlex.quote(str(config))}), or name a run folder.")
    loaded = runs.of_folder(run.folder, planned.from_config(run.config))
    cells = {key: _checked(run, one, run.cells.get(key)) for key, one in loaded.cells.items()}
    profiles = {key: _checked(run, one, run.profiles.get(run.costs.get(key, key)))
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
    if records.serves(spec, job.spec):
        return one
    parts = sorted(k for k in {*spec, *job.spec} if spec.get(k) != job.spec.get(k))
    return replace(one, status=OUTDATED,
                   reason=f"its {', '.join(parts)} changed since it was computed")
