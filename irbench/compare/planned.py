"""The cells and profiles that the config of a run asks for: is a missing result expected or not?

Reads the ``config.json`` in a run folder as plain data, without images, weights or any catalog but
that of protocols. Other results in the run folder belong to an earlier config.

Try: ``python -c "from irbench.compare.planned import Planned; print(Planned.__doc__)"``
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from irbench.catalog import protocols
from irbench.core import files
from irbench.core.errors import UserError
from irbench.core.run_folder import RunFolder


@dataclass(frozen=True)
class Planned:
    """The cells and profiles that a config asks for.

    Attributes:
        cells: (protocol id, dataset, model of the config) of every group, expanded.
        models: the ``models`` of the config.
        references: models that are only profiled.
    """

    cells: frozenset[tuple[str, str, str]]
    models: dict[str, dict]
    references: tuple[str, ...] = ()

    def cell(self, protocol: str, dataset: str, model: str) -> bool:
        """Whether the config asks for a cell; ``model`` may be a variant (BASE.NAME)."""
        return ((protocol, dataset, self._base(model)) in self.cells
                and self._stands(protocol, model))

    def profile(self, protocol: str, model: str) -> bool:
        """Whether the config asks for a profile.

        A model without weights has none, but this is not known here.
        """
        if model in self.references:
            return any(cell[0] == protocol for cell in self.cells)
        base = self._base(model)
        return ((self.models.get(base) or {}).get("profile", True)
                and model.removeprefix(f"{base}.") not in _seeds(self.models.get(base) or {})
                and any((cell[0], cell[2]) == (protocol, base) for cell in self.cells)
                and self._stands(protocol, model))

    def wanted(self) -> list[str]:
        """Return the key of every requested cell, with those of variants, sorted."""
        found = set()
        for protocol, dataset, base in self.cells:
            entry = self.models.get(base) or {}
            found |= {f"{protocol}/{dataset}/{name}"
                      for name in (base, *(f"{base}.{one}" for one in (
                          *_seeds(entry), *(entry.get("variants") or {}))))
                      if self._stands(protocol, name)}
        return sorted(found)

    def _base(self, model: str) -> str:
        """Return the config's model of a model, a variant or another seed."""
        if model in self.models:
            return model
        return next((base for base, entry in self.models.items()
                     if model.startswith(f"{base}.") and model.removeprefix(f"{base}.") in (
                         *((entry or {}).get("variants") or {}), *_seeds(entry or {}))), model)

    def _stands(self, protocol: str, model: str) -> bool:
        """Whether a variant is planned under a protocol of its base; always True for a model."""
        base = self._base(model)
        if base == model:
            return True
        found = (self.models[base].get("variants") or {}).get(model.removeprefix(f"{base}."))
        only = (found or {}).get("protocols")   # another seed is planned wherever its base is
        return only is None or protocol in only or protocol.rpartition("@")[0] in only


def _seeds(entry: dict) -> list[str]:
    """Return the names of the other seeds of a training, below the model's name."""
    return [f"seed{n}" for n in range(2, (entry.get("training") or {}).get("seeds", 1) + 1)]


def read(folder: Path) -> Planned | None:
    """Return what the config of a run folder asks for; None if the folder has no config.

    Raises UserError for an invalid config.
    """
    run = RunFolder(folder)
    path = run.config
    if not path.is_file():
        return None
    try:
        config = files.read_json(path)
        _check_form(config)
        return from_config(config, {key["protocol"] for kind in ("cell", "profile")
                           for key in run.keys(kind)})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not the config of a run ({error!r}). Run the workflow again, or "
                        "delete the file to use every record of the folder.") from None


def _check_form(config: dict) -> None:
    """Raise TypeError for wrong types that would otherwise only fail when a cell is looked up."""
    for name, model in config["models"].items():
        for variant in ((model or {}).get("variants") or {}).values():
            if not isinstance((variant or {}).get("protocols"), list | None):
                raise TypeError(f"models.{name}: the protocols of a variant are not a list")
        if type(seeds := ((model or {}).get("training") or {}).get("seeds", 1)) is not int or (
                seeds > 99):
            raise TypeError(f"models.{name}: training.seeds is not a number from 1 to 99")
    for group in config["cells"]:
        if not all(isinstance(part, str) for part in
                   (group["protocol"], *group["datasets"], *group["models"])):
            raise TypeError("cells: a name is not a string")


def from_config(config: dict, present: Iterable[str] = ()) -> Planned:
    """Return what a complete config (``irbench.plan.config.load``) asks for.

    ``present`` are the protocols with records. A protocol named without its version means the
    newest of them, because the catalog may be newer than the run; else the newest in the catalog.
    """
    cells, present = set(), tuple(present)
    for group in config["cells"]:
        protocol = _id(group["protocol"], tuple(config.get("catalog_paths") or ()), present)
        cells |= {(protocol, dataset, model)
                  for dataset in group["datasets"] for model in group["models"]}
    return Planned(frozenset(cells), config["models"],
                   tuple((config.get("profile") or {}).get("references") or ()))


def _id(name: str, paths: tuple[str, ...], present: tuple[str, ...]) -> str:
    """Return the id of a protocol; a protocol that is in no catalog has version 1."""
    versions = [int(version) for known, _, version in (p.rpartition("@") for p in present)
                if known == name and re.fullmatch("[0-9]{1,9}", version)]
    if "@" in name or versions:
        return name if "@" in name else f"{name}@{max(versions)}"
    for catalogs in (paths, ()):
        try:
            return protocols.get(name, catalogs).id
        except (UserError, OSError):
            continue
    return f"{name}@1"
