"""``irbench.evaluate``: score a model on a dataset under a protocol, as a run's cell does.

The cell is planned and computed by the same code as in a run, so its value is the pipeline's to the
last digit.

Reads the set, which is fetched into ``data_root`` if it is missing, and the weights. Writes a
record only if ``run`` names a run.

Try: ``python -c "import irbench; print(irbench.evaluate('bicubic', 'photos', 'sr-x2').mean)"``
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from irbench.api.models import LoadedModel, reference_of
from irbench.catalog import protocols
from irbench.core import forms
from irbench.core.errors import UserError
from irbench.data import obtain
from irbench.inference.devices import pick_device, using
from irbench.jobs import evaluate as cells
from irbench.jobs import outcome
from irbench.jobs import result as results
from irbench.jobs.result import RunSettings
from irbench.plan import file as plan_file
from irbench.plan import single

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

DEFAULT = "sr-x2"       # the protocol, for a model that is not loaded for one


@dataclass(frozen=True)
class Evaluation:
    """The result of ``irbench.evaluate``.

    Attributes:
        record: the record of the cell, as a run stores it (plain data).
        complete: whether all images of the set were restored; False with ``limit``.
    """

    record: dict
    complete: bool = True

    @property
    def protocol(self) -> str:
        """The id of the protocol, such as ``sr-x2@1``."""
        return self.record["key"]["protocol"]

    @property
    def mean(self) -> dict[str, float | None]:
        """Metric -> mean over the images, in the metric's unit; None if an image has no value.

        With ``limit`` it is the mean of that part, which is not the set's.
        """
        return self.record["result"]["mean"]

    @property
    def missing(self) -> dict[str, str]:
        """Metric -> why it has no mean."""
        return self.record["result"]["missing"]

    @property
    def images(self) -> pd.DataFrame:
        """One row per image: index ``name``; height and width in pixels, and its scores."""
        import pandas as pd

        columns = ["name", "height", "width", *self.mean]
        return pd.DataFrame(self.record["result"]["images"])[columns].set_index("name")

    def __str__(self) -> str:
        """Return one line: the cell, its means, how many images they are of, and the time."""
        key = self.record["key"]
        cell = f"{key['model']} on {key['dataset']} under {key['protocol']}"
        return f"{cell}: {outcome.with_time(self.record)}"


def evaluate(model: LoadedModel | str | Path | nn.Module, dataset: str = "set5",
             protocol: str | None = None, limit: int | None = None, device: str = "auto", *,
             metrics: str | Iterable[str] | None = None, weights: str | Path | None = None,
             options: dict | None = None, inference: dict | None = None, threads: int = 1,
             data_root: str | Path = "data", catalog_paths: str | Path | Iterable[str | Path] = (),
             run: str | None = None, progress: bool = True) -> Evaluation:
    """Score a model on a dataset under a protocol.

    Args:
        model: from ``irbench.load_model``, or what that takes.
        dataset: a name (``irbench.list_datasets()``); a set that is missing is fetched.
        protocol: a name such as ``sr-x2`` (the newest version) or ``sr-x2@1``. Default: the
            protocol that the model was loaded for, otherwise ``sr-x2``.
        limit: restore only the first images by name, for a quick look. The result is never stored
            as the set's.
        device: ``auto`` (a GPU if torch finds one), ``cpu``, ``cuda``, ``cuda:1`` or ``mps``
            (untested).
        metrics: a name or several of metrics; default: those of a run.
        weights: a file of weights, see ``irbench.load_model``.
        options: options of the architecture, see ``irbench.load_model``.
        inference: how the network is run, see ``irbench.load_model``.
        threads: CPU threads. A run uses 1; with more, sums in another order may move the last
            digits of a score.
        data_root: the folder of all data.
        catalog_paths: catalogs with datasets and protocols of your own.
        run: store the record in ``results/RUN``; default: write nothing.
        progress: report progress on stderr.

    Returns:
        ``mean``, ``images`` (a data frame) and ``record``.

    Raises:
        Unavailable: the set or the weights are missing and cannot be fetched, an image is damaged,
            or memory runs out.
        UserError: an unknown name, a limit or threads below 1, or things that do not fit
            together.
    """
    import torch

    if limit is not None and (type(limit) is not int or limit < 1):
        raise UserError(f"limit is {limit!r}; it takes a whole number of at least 1, or None.")
    if type(threads) is not int or threads < 1:
        raise UserError(f"threads is {threads!r}; it takes a whole number of at least 1.")
    if not isinstance(dataset, str):
        raise UserError(f"dataset is {dataset!r}; it takes the name of a set "
                        "(irbench.list_datasets()).")
    if limit is not None and run is not None:
        raise UserError("limit and run exclude each other: the result of a part of a set is not "
                        "stored as the set's. Omit one of them.")
    reference = reference_of(model, protocol, weights, options, inference)
    chosen = protocol or (model.protocol if isinstance(model, LoadedModel) else DEFAULT)
    config = single.settings(
        run=run, metrics=None if metrics is None else list(forms.listed(metrics)),
        data_root=str(data_root),
        catalog_paths=forms.listed(catalog_paths), plugins=reference.plugins)
    wanted = protocols.get(chosen, tuple(config["catalog_paths"]))
    module = reference.build(wanted) if reference.build else None
    plan, job = (single.cell_of(config, reference.name, reference.entry(wanted), wanted.id, dataset)
                 if module is None else
                 single.module_of(config, reference.name, reference.name, wanted, dataset,
                                  reference.inference, reference.options))
    if job.spec["dataset"]["sha256"] is None:   # known once the set is here
        obtain.obtain(plan.entry(dataset), Path(plan.config["data_root"]))
        job = plan_file.settled(plan, job)
    settings = RunSettings(device=pick_device(device)[0], threads=threads, progress=progress,
                           limit=limit)
    before = torch.get_num_threads()
    try:
        with using(device):
            found = cells.run(plan, job, replace(settings, module=module,
                                                 source=reference.source))
    finally:
        torch.set_num_threads(before)
    record = results.record_of(job, results.with_plugin_files(found, plan, job,
                                                              reference.source))
    if run is not None:
        results.write(job, record)
    return Evaluation(record, complete=found.spec is None)
