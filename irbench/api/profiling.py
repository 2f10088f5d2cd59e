"""``irbench.profile``: the cost of a model under a protocol, as a run's profile measures it.

Reads the file of another program's weights; other models are measured without theirs, on which cost
does not depend. Writes nothing.

Try: ``python -c "import irbench; print(irbench.profile('compacter', 'sr-x2', height=64))"``
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from irbench.api.models import LoadedModel, reference_of
from irbench.core import forms, machine
from irbench.core.errors import UserError
from irbench.inference.devices import pick_device, using
from irbench.jobs import outcome
from irbench.jobs import profile as profiles
from irbench.jobs import result as results
from irbench.jobs.result import RunSettings
from irbench.plan import single

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Profile:
    """The result of ``irbench.profile``; ``record`` is what a run would store (plain data)."""

    record: dict

    @property
    def result(self) -> dict:
        """All that was measured: parameters, macs, latency_ms, peak_memory_bytes and more."""
        return self.record["result"]

    def __str__(self) -> str:
        """Return one line: the model, its cost, what that depends on, and the time it took."""
        key = self.record["key"]
        return f"{key['model']} under {key['protocol']}: {outcome.with_time(self.record)}"


def profile(model: LoadedModel | str | Path | nn.Module, protocol: str | None = None,
            device: str = "auto", *, weights: str | Path | None = None, options: dict | None = None,
            inference: dict | None = None, height: int | None = None, width: int | None = None,
            threads: int | None = None, wait_quiet: float = 0.0,
            data_root: str | Path = "data",
            catalog_paths: str | Path | Iterable[str | Path] = ()) -> Profile:
    """Measure parameters, multiply-adds, latency and memory of a model.

    Args:
        model: from ``irbench.load_model``, or what that takes.
        protocol: a name such as ``sr-x2``, which says scale and channels; it may be omitted if the
            model was loaded for a protocol, or its weights are for one only.
        device: ``auto`` (a GPU if torch finds one), ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        weights: a file of weights; only a network that is made from them needs it.
        options: options of the architecture, see ``irbench.load_model``.
        inference: how the network is run, see ``irbench.load_model``.
        height: of the input in pixels; default: that of a run.
        width: of the input in pixels; default: that of a run.
        threads: CPU threads; default: all cores, as in a run.
        wait_quiet: seconds to wait, or measure again, while other processes disturb it.
        data_root: the folder of all data.
        catalog_paths: catalogs with protocols of your own.

    Returns:
        ``result`` and ``record``.

    Raises:
        Unavailable: weights are missing, or memory runs out.
        UserError: an unknown name, an invalid size, or a model without weights.
    """
    if threads is not None and (type(threads) is not int or threads < 1):
        raise UserError(f"threads is {threads!r}; it takes a whole number of at least 1, or None.")
    reference = reference_of(model, protocol, weights, options, inference)
    if isinstance(model, LoadedModel):
        protocol = protocol or model.protocol
    size = {name: value for name, value in (("height", height), ("width", width))
            if value is not None}
    config = single.settings(data_root=str(data_root), device=device, profile=size,
                             catalog_paths=forms.listed(catalog_paths), plugins=reference.plugins)
    wanted = reference.protocol(protocol, tuple(config["catalog_paths"]))
    module = reference.build(wanted) if reference.build else None
    plan, cell = (single.model_of(config, reference.name, reference.entry(wanted), wanted)
                  if module is None else
                  single.module_of(config, reference.name, reference.name, wanted, None,
                                   reference.inference, reference.options))
    job = single.profile_of(plan, cell)
    how = RunSettings(device=pick_device(device)[0], threads=threads or machine.usable_cores(),
                      wait_quiet=wait_quiet, module=module, source=reference.source)
    with using(device):
        found = profiles.run(plan, job, how)
    return Profile(results.record_of(job, results.with_plugin_files(found, plan, job,
                                                                    reference.source)))
