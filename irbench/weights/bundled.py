"""Weights that come with irbench: the list, and the file for a model under a protocol.

Reads ``catalog/weights.yaml``, which lists the files in ``weights/data`` with their digests;
``rewrite`` regenerates it from the headers of these files. A config selects bundled weights with
``checkpoint: bundled``. Does not import torch.

Try: ``irbench checkpoints list``
"""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import yaml

from irbench.catalog.model import Checkpoint, Model
from irbench.catalog.protocols import Protocol
from irbench.core import digests, files, headers
from irbench.core.errors import UserError
from irbench.models import registry
from irbench.weights import serving, storage

CATALOG = Path(__file__).parents[1] / "catalog" / "weights.yaml"
FOLDER = Path(__file__).parent / "data"
LIMIT = 25_000_000  # bytes of all files, which are part of every clone and installation
HEAD = """\
# Weights bundled with irbench, listed from the files of irbench/weights/data by
#   irbench checkpoints export ... --bundle
# Not to be edited by hand. Fields: the architecture and the options it was trained with, what for
# (protocol; levels: the range of a blind model), size and SHA-256 of NAME.safetensors.
"""


@dataclass(frozen=True)
class BundledWeights:
    """One bundled file; ``levels``: the range of a blind model (``{sigma: [15, 50]}``) or None."""

    name: str
    arch: str
    protocol: str
    levels: dict | None
    options: dict
    bytes: int
    sha256: str

    @property
    def path(self) -> Path:
        """The path of the file."""
        return FOLDER / f"{self.name}.safetensors"


def name_of(arch: str, scope: str) -> str:
    """Return the name of a bundled file: ``compacter-sr-x2``."""
    return f"{arch}-{scope.rpartition('@')[0] or scope}"


def catalog() -> dict[str, BundledWeights]:
    """Return all bundled weights by name. Raises UserError for a broken catalog."""
    return _read(CATALOG, CATALOG.stat().st_mtime_ns if CATALOG.is_file() else None)


@functools.cache
def _read(path: Path, changed: int | None) -> dict[str, BundledWeights]:
    try:
        found = yaml.safe_load(path.read_text()) or {}
        return {name: BundledWeights(name=name, **entry) for name, entry in found.items()}
    except (OSError, yaml.YAMLError, AttributeError, TypeError) as error:
        raise UserError(f"{path}: not a catalog of weights ({' '.join(str(error).split())[:200]}). "
                        "It belongs to the package: install irbench again.") from None


def find(arch: str, protocol: Protocol) -> BundledWeights:
    """Return the file for an architecture and a protocol, preferably not a blind model's.

    Raises UserError, which names the existing files.
    """
    fitting = [one for one in catalog().values()
               if one.arch == arch and serving.is_for(asdict(one), protocol)]
    if fitting:
        return min(fitting, key=lambda one: one.levels is not None)
    own = [_scope(one) for one in catalog().values() if one.arch == arch]
    others = sorted({one.arch for one in catalog().values()})
    has = (f"Bundled weights of {arch}: {', '.join(own)}." if own else
           f"Bundled weights exist for: {', '.join(others)}." if others else
           "No weights are bundled.")
    raise UserError(f"no weights of {arch} for {protocol.id} are bundled. {has} Train them "
                    "(`training`), or give a file (`checkpoint: PATH`).")


def _scope(one: BundledWeights) -> str:
    levels = ", ".join(f"{name} {low} to {high}" for name, (low, high) in
                       (one.levels or {}).items())
    return f"{one.protocol} ({levels})" if levels else one.protocol


def resolve(model: Model, protocol: Protocol) -> Checkpoint:
    """Return the bundled file, as a checkpoint, for a model of the plan.

    Raises UserError if there is no such file, or none with the model's options.
    """
    one = find(model.arch, protocol)
    options = model.trained_options
    if options != one.options:
        needed = _needed(one)
        differing = sorted(name for name in {*options, *one.options}
                           if options.get(name) != one.options.get(name))
        raise UserError(f"the bundled weights {one.name} were trained with other options "
                        f"({', '.join(f'{n}: {one.options.get(n)!r}' for n in differing)}). "
                        f"Give `options: {digests.canonical(needed)}`; options that do not change "
                        "weights may then differ in `variants`.")
    return Checkpoint("file", path=str(one.path), sha256=one.sha256)


def hint(arch: str, protocol: Protocol | None, options: dict) -> str:
    """Return a sentence that names ``checkpoint: bundled`` if there is such a file, "" if not.

    Args:
        arch: the architecture of a model without weights.
        protocol: what they should be for; None: any.
        options: the options that the model has.
    """
    fitting = [one for one in catalog().values() if one.arch == arch and (
        protocol is None or serving.is_for(asdict(one), protocol))]
    if not fitting:
        return ""
    one = next((one for one in fitting if one.options == options), fitting[0])
    beside = f" and `options: {digests.canonical(_needed(one))}`" if one.options != options else ""
    return f" irbench comes with weights for it: `checkpoint: bundled`{beside}."


def _needed(one: BundledWeights) -> dict:
    """Return the options of a file that are not its architecture's default."""
    usual = registry.get(one.arch).options
    return {name: value for name, value in one.options.items() if value != usual.get(name)}


def altered(one: BundledWeights) -> str:
    """Return a message if a file is not the listed one, "" if it is."""
    if digests.known_digest(one.path) == one.sha256:
        return ""
    return (f"{one.path}: the file was altered: it is not {one.name} as shipped with irbench. "
            "Restore it (git checkout) or install irbench again.")


def add(data: bytes, header: dict) -> Path:
    """Add a file to the bundled weights and rewrite the catalog; return the file's path.

    A file replaces an older one of the same model.

    Raises UserError, and changes nothing, if the older file has other options or levels, and as
    ``rewrite`` does.
    """
    name = name_of(header["arch"], header["protocol"])
    path = FOLDER / f"{name}.safetensors"
    before = path.read_bytes() if path.is_file() else None
    if before is not None and (known := catalog().get(name)) and (
            (known.options, known.levels) != (header["options"], header.get("levels"))):
        differing = [f"{option}: {known.options.get(option)!r}" for option in sorted(
            {*known.options, *header["options"]})
            if known.options.get(option) != header["options"].get(option)]
        raise UserError(f"{path}: the bundled weights have other options "
                        f"({', '.join(differing) or f'levels: {known.levels}'}). Use --output, or "
                        "remove this file first if the new one is to replace it.")
    try:
        files.write_atomic(path, data)
        return rewrite()[name].path
    except BaseException:  # do not leave a file without its entry in the catalog
        if before is None:
            path.unlink(missing_ok=True)
        else:
            files.write_atomic(path, before)
        raise


def rewrite() -> dict[str, BundledWeights]:
    """Rewrite the catalog from the files in the folder; return its entries.

    Raises UserError, and writes nothing, if a file has no header, if its name does not match its
    header, or if the files exceed ``LIMIT`` bytes in total.
    """
    found = {}
    for path in sorted(FOLDER.glob("*.safetensors")):
        header = storage.read_header(path)
        lacking = [name for name in ("arch", "protocol", "options") if name not in header]
        if lacking:
            raise UserError(f"{path}: its header names no {' and no '.join(lacking)}; only files "
                            "written by irbench checkpoints export can be bundled.")
        if faults := headers.wrong(header):
            raise UserError(f"{path}: its header is broken ({', '.join(faults)}). Export it again.")
        name = name_of(header["arch"], header["protocol"])
        if path.stem != name:
            raise UserError(f"{path}: according to its header it is {name}. Rename the file.")
        found[name] = BundledWeights(name, header["arch"], header["protocol"], header.get("levels"),
                              header["options"], path.stat().st_size, digests.file_digest(path))
    if (total := sum(one.bytes for one in found.values())) > LIMIT:
        raise UserError(f"{FOLDER}: {total / 1e6:.1f} MB of weights; at most {LIMIT / 1e6:g} MB "
                        "are bundled. Remove some, or store them in half precision.")
    entries = {name: {f.name: getattr(one, f.name) for f in fields(one) if f.name != "name"}
               for name, one in found.items()}
    files.write_atomic(CATALOG, HEAD + yaml.safe_dump(entries, sort_keys=False))
    return found
