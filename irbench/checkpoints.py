"""Weights: find, verify, load, save. ``ready`` returns a model of the plan, ready to restore.

Own checkpoints are safetensors files whose header names the model, its options and the protocol it
was trained for; loading compares them with the model at hand, so that a wrong file is refused by
name instead of giving wrong pictures. Third-party files (``external:`` in the config, and peers)
go through ``irbench.models.external``; those fetched lie in DATA_ROOT/checkpoints.

Try: ``irbench info results/photos/checkpoints/sr-x2@1/compacter.safetensors``
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from irbench import records
from irbench.errors import Unavailable, UserError
from irbench.models import registry

HEADER = "irbench"  # the key of our metadata in the file's header

if TYPE_CHECKING:
    from torch import Tensor, nn

    from irbench.protocols import Protocol


def ready(model: dict, protocol: Protocol, folder: Path, data_root: Path,
          plugins: tuple[str, ...] = ()) -> tuple[nn.Module, str | None]:
    """Return (the network with its weights, in evaluation mode; the SHA-256 of their file).

    Args:
        model: of the plan, fitted to the protocol.
        protocol: what it is to do.
        folder: of the run, where trained weights lie.
        data_root: where fetched files go.
        plugins: Python files with models.

    Returns:
        The digest is None for a model without weights. The network of a third party's file has an
        attribute ``about``: what the file is (architecture, scale, channels, ...).

    Raises:
        Unavailable: the weights are not here and cannot be had.
        UserError: they do not fit the model or the protocol.
    """
    if model["arch"] == "external":
        return _external(model, protocol, data_root / "checkpoints")
    network = build(model, protocol, plugins)
    if not model["learned"]:
        return network, None
    path, expected = locate(model, protocol, folder, data_root)
    return network, load(network, path, model, protocol, expected)


def resolved(network: nn.Module, digest: str | None) -> dict:
    """Return what a record keeps of the weights used: their digest, and what a foreign file is."""
    about = getattr(network, "about", None)
    return {"checkpoint": digest, **({"external": about} if isinstance(about, dict) else {})}


def _external(model: dict, protocol: Protocol, folder: Path) -> tuple[nn.Module, str]:
    """Load a third party's file; one whose digest nobody published is pinned when it fits."""
    from importlib.util import find_spec

    from irbench import fetch, pins
    from irbench.models import external

    source = model["checkpoint"]
    if "needs" in source and find_spec(source["needs"]) is None:
        raise Unavailable(f"model {model['name']}: its architecture is not in spandrel, but in the "
                          f"package {source['needs']}, which is not installed. "
                          f"pip install {source['needs']} (mind its licence), then run again.")
    if "path" in source:
        return external.load(Path(source["path"]), protocol, source["sha256"])
    url, expected = source["url"], source["sha256"]
    if expected:
        path = folder / f"{expected[:16]}{Path(pins.place(url, folder)).suffix}"
        return external.load(fetch.fetch_file(url, path, expected), protocol, expected)
    path = pins.obtain(url, folder)
    try:
        network, digest = external.load(path, protocol)
    except UserError:
        pins.drop(url, folder)
        raise
    pins.keep(url, folder, digest)
    return network, digest


def build(model: dict, protocol: Protocol, plugins: tuple[str, ...] = ()) -> nn.Module:
    """Build a model of the plan for a protocol, with fresh weights, in evaluation mode.

    Raises:
        UserError: the architecture refuses the options.
    """
    builder = registry.get(model["arch"], plugins).load()
    try:
        network = builder(task=protocol.task, scale=protocol.scale, channels=protocol.channels,
                          **model["options"])
    except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        raise UserError(f"model {model['name']}: options {model['options']} do not fit "
                        f"{model['arch']}: {error}") from None
    if not hasattr(network, "forward"):
        raise UserError(f"model {model['name']}: the builder of {model['arch']} returned "
                        f"{type(network).__name__}, not a torch.nn.Module.")
    return network.eval()


def save(path: Path, state: dict[str, Tensor], model: dict, protocol: Protocol,
         **metadata: object) -> str:
    """Write weights atomically; return the file's SHA-256.

    The header holds what the weights are, and nothing that differs between two equal trainings
    (no times, no paths), so that the same training gives the same bytes.
    """
    from safetensors.torch import save as serialise

    header = {"model": model["name"], "arch": model["arch"], "options": model["options"],
              "protocol": protocol.id, **metadata}
    # one entry: safetensors writes several in an order that changes from run to run
    records.write_atomic(path, serialise(
        {name: value.detach().cpu().contiguous() for name, value in sorted(state.items())},
        {HEADER: records.canonical(header)}))
    return records.file_digest(path)


def read_header(path: Path) -> dict:
    """Return the metadata of a checkpoint. Raises UserError if it is no safetensors file."""
    try:
        with Path(path).open("rb") as handle:
            size = int.from_bytes(handle.read(8), "little")
            if not 0 < size <= 100_000_000:
                raise ValueError("its header has no valid length")
            header = json.loads(handle.read(size))
        metadata = header.get("__metadata__") if isinstance(header, dict) else None
        ours = json.loads((metadata or {}).get(HEADER, "{}"))
        if not isinstance(header, dict) or not isinstance(ours, dict):
            raise ValueError("its header is no JSON object")
        return ours
    except OSError as error:
        raise UserError(f"checkpoint {path}: {error.strerror}.") from None
    except ValueError as error:
        raise UserError(f"checkpoint {path}: not a safetensors file written by irbench ({error}). "
                        "Give the file that a training wrote.") from None


def trained_on(path: Path) -> list[tuple[str, str | None]]:
    """Return name and content digest of each set that a checkpoint of ours names; [] if none."""
    try:
        sets = read_header(path).get("datasets")
        return [(str(one["name"]), one["sha256"]) for one in sets or ()]
    except (UserError, TypeError, KeyError):
        return []


def describe(path: Path) -> dict:
    """Say what a file of weights is: our header, or what spandrel makes of a third party's.

    Raises UserError if it is neither.
    """
    if path.suffix == ".safetensors" and (header := read_header(path)):
        return header
    from irbench.models import external

    return external.describe(path)


def load(network: nn.Module, path: Path, model: dict, protocol: Protocol,
         sha256: str | None = None) -> str:
    """Load a checkpoint into a network; return the file's SHA-256.

    Raises:
        Unavailable: the file does not exist.
        UserError: altered, of another architecture, option or scale, or with other shapes.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as parse

    path = Path(path)
    if not path.is_file():
        what = "a folder, not a file" if path.is_dir() else "no such file"
        raise Unavailable(f"checkpoint {path}: {what}. Train it "
                          f"(irbench train) or correct the path of "
                          f"models.{model.get('base') or model['name']}.")
    digest = records.file_digest(path)
    if sha256 and digest != sha256:
        raise UserError(f"checkpoint {path}: its SHA-256 begins with {digest[:12]}, expected "
                        f"{sha256[:12]}: the file was altered or is another one. "
                        "Delete it and train or fetch it again.")
    header = read_header(path)
    name = model.get("base") or model["name"]
    # a variant takes the weights of its base, which were trained with the base's options
    options = model.get("base_options") or model["options"]
    for field, expected in (("arch", model["arch"]), ("options", options),
                            ("protocol", protocol.id)):
        if field in header and header[field] != expected:
            other = (" (To run its weights with another value of an option that changes none, give "
                     "the options it was trained with, and the others in `variants`.)"
                     if field == "options" else "")
            raise UserError(f"checkpoint {path}: it is for {field} {header[field]!r}, but model "
                            f"{name} needs {expected!r} here. Give the checkpoint "
                            f"of this model and protocol.{other}")
    try:
        state = parse(path.read_bytes())
    except SafetensorError as error:
        raise UserError(f"checkpoint {path}: broken safetensors file ({error}).") from None
    own = network.state_dict()
    wrong = [f"{name}: {list(state[name].shape)} in the file, {list(own[name].shape)} in the model"
             for name in own if name in state and state[name].shape != own[name].shape]
    wrong += [f"{name}: missing in the file" for name in own if name not in state]
    wrong += [f"{name}: not in the model" for name in state if name not in own]
    if wrong:
        raise UserError(f"checkpoint {path} does not fit model {model['name']} under "
                        f"{protocol.id}: {'; '.join(wrong[:3])}"
                        f"{f' and {len(wrong) - 3} more' if len(wrong) > 3 else ''}.")
    network.load_state_dict(state)
    return digest


def locate(model: dict, protocol: Protocol, folder: Path,
           data_root: Path) -> tuple[Path, str | None]:
    """Say where a model's weights lie and which SHA-256 they must have (None: any).

    Raises:
        Unavailable: the training has not run, has failed, or the file cannot be fetched.
    """
    source = model["checkpoint"]
    if source["kind"] == "file":
        return Path(source["path"]), source.get("sha256")
    if source["kind"] == "url":
        from irbench import fetch

        target = data_root / "checkpoints" / f"{source['sha256'][:16]}.safetensors"
        return fetch.fetch_file(source["url"], target, source["sha256"]), source["sha256"]
    name = model.get("base") or model["name"]  # a variant has the weights of its base
    path = folder / "training" / protocol.id / f"{name}.json"
    if not path.exists():
        raise Unavailable(f"model {name} is not trained for {protocol.id} yet. Run "
                          f"irbench train --protocol {protocol.id} --model {name}.")
    record = records.read(path)
    if record["status"] != "ok":
        raise Unavailable(f"its training {record['status']}: {record['reason']}")
    trained = record["result"]["checkpoint"]
    return folder / trained["file"], trained["sha256"]
