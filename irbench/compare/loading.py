"""The run that a command names: by a run folder or by a baseline file, taken as they are.

Reads the records of runs; writes nothing. Whether the results of a folder belong to the present
code and inputs is for ``irbench.jobs.verify`` to say (``runs.without``).

Try: ``python -c "from irbench.compare import loading; print(loading.load('results/photos').name)"``
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from irbench.compare import baseline, runs
from irbench.compare.runs import RunData
from irbench.core.errors import UserError, unknown


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
