"""Files of weights as bytes: the tensors of any such file, and the header of irbench's own files.

Reads a PyTorch checkpoint (only tensors are unpickled, code in it is never run) or a safetensors
file; the two are distinguished by their content. Writes safetensors whose metadata contain one JSON
text under the key ``irbench``, which describes the weights. Its field ``weights`` is a digest of
the tensors, so that an altered file is refused without a list of digests. Headers are read without
torch.

Try: ``python -c "from irbench.weights import storage;
print(storage.read_header('results/photos/checkpoints/sr-x2@1/compacter.safetensors'))"``
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from irbench.core import digests
from irbench.core.errors import Unavailable, UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

HEADER = "irbench"  # the key of irbench's metadata in the file's header
LONGEST = 100_000_000  # bytes of a header, as safetensors itself allows
BEGINNINGS = {b"<": "a web page or XML: was a link to a page given instead of one to the file?",
              b"version https://git-lfs": "a Git LFS pointer: fetch the file itself (git lfs pull)",
              b"\x89PNG": "an image"}


def read(path: Path, advice: str) -> bytes:
    """Return a file's bytes.

    Raises:
        Unavailable: the file does not exist; ``advice`` states what to do.
        UserError: it cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise Unavailable(f"checkpoint {path}: no such file. {advice}") from None
    except OSError as error:
        raise UserError(f"checkpoint {path}: {error.strerror}.") from None


# -- the header ----------------------------------------------------------------------------------

def read_header(path: Path) -> dict:
    """Return irbench's metadata of a checkpoint, {} if it has none; reads only the file's header.

    Raises UserError if it is not a safetensors file.
    """
    try:
        with Path(path).open("rb") as handle:
            size = int.from_bytes(handle.read(8), "little")
            if not 0 < size <= LONGEST:
                raise ValueError("its header has no valid length")
            return _split(handle.read(size))[0]
    except OSError as error:
        raise UserError(f"checkpoint {path}: {error.strerror}.") from None
    except ValueError as error:
        raise UserError(f"checkpoint {path}: not a safetensors file written by irbench ({error}). "
                        "Give the file that a training wrote.") from None


def shapes(path: Path) -> dict[str, tuple[str, list[int]]]:
    """Return (number type, shape) of every tensor of a safetensors file, e.g. ("F16", [48, 3])."""
    with Path(path).open("rb") as handle:
        table = _split(handle.read(int.from_bytes(handle.read(8), "little")))[1]
    return {name: (entry["dtype"], entry["shape"]) for name, entry in table.items()}


def header_of(path: Path, data: bytes) -> dict:
    """Return irbench's header from a file's bytes, {} if it has none, and check the weights.

    Raises UserError if the weights do not match the header.
    """
    if not is_safetensors(data):
        return {}
    try:
        header, table = _split(data[8:8 + int.from_bytes(data[:8], "little")])
    except ValueError as error:
        raise UserError(f"checkpoint {path}: a safetensors file whose header is broken ({error}). "
                        "Get it again.") from None
    if "weights" in header and header["weights"] != _digest(table, data):
        raise UserError(f"checkpoint {path}: its weights do not match its header: the file was "
                        "altered or damaged. Delete it and train or fetch it again.")
    return header


def is_safetensors(data: bytes) -> bool:
    """Whether bytes begin like a safetensors file."""
    return data[8:9] == b"{" and data[:1] != b"{"


def _split(text: bytes) -> tuple[dict, dict]:
    """Return irbench's header and the table of tensors. Raises ValueError for invalid text."""
    try:
        table = json.loads(text)
    except RecursionError:
        raise ValueError("its header is nested too deeply") from None
    metadata = table.pop("__metadata__", {}) if isinstance(table, dict) else None
    ours = json.loads(metadata.get(HEADER, "{}")) if isinstance(metadata, dict) else None
    if not isinstance(ours, dict):
        raise ValueError("its header is not a JSON object")
    return ours, table


def _digest(table: dict, data: bytes) -> str:
    """Return a SHA-256 of names, types, shapes and values, without the metadata."""
    values = data[8 + int.from_bytes(data[:8], "little"):]
    return hashlib.sha256(digests.canonical(table).encode() + values).hexdigest()


def pack(state: Mapping[str, Tensor], header: dict) -> bytes:
    """Return tensors (any device) and a header as a safetensors file; the bytes are reproducible.
    """
    from safetensors.torch import save as serialise

    tensors = {name: value.detach().cpu().contiguous() for name, value in sorted(state.items())}
    plain = serialise(tensors)
    table = _split(plain[8:8 + int.from_bytes(plain[:8], "little")])[1]
    # a single entry, because safetensors writes several in an order that varies between runs
    return serialise(tensors, {HEADER: digests.canonical(
        {**header, "weights": _digest(table, plain)})})


def state_digest(state: Mapping[str, Tensor]) -> str:
    """Return a SHA-256 of the names, types, shapes and values of tensors in memory."""
    import torch

    found = hashlib.sha256()
    for name, value in sorted(state.items()):
        found.update(digests.canonical([name, str(value.dtype), list(value.shape)]).encode())
        found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


# -- from bytes to tensors ---------------------------------------------------------------------

def tensors(path: Path, data: bytes) -> dict:
    """Return the content of a checkpoint by name, without running code in it.

    For a PyTorch file this is its whole content; often the tensors are one level down (see
    ``unwrapped``).

    Raises:
        UserError: not a checkpoint, truncated, damaged, or with more than tensors in it.
    """
    import torch

    where = f"checkpoint {path}"
    if is_safetensors(data):
        return _safetensors(where, data)
    if data[:2] == b"PK":
        _check_zip(where, data)
    elif data[:1] != b"\x80":  # the first byte of a pickle
        known = next((what for start, what in BEGINNINGS.items()
                      if data.lstrip().startswith(start)), f"it begins with {data[:16]!r}")
        raise UserError(f"{where}: not a checkpoint ({known if data else 'it is empty'}). Give a "
                        "PyTorch file (.pth, .pt, .ckpt) or a safetensors file.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"{where}: {_why(error)}") from None
    if not isinstance(found, dict):
        raise UserError(f"{where}: it holds a {type(found).__name__}, not a state dict (names and "
                        "tensors). Save model.state_dict().")
    return found


def unwrapped(found: dict) -> dict:
    """Return the tensors from the nested dicts of toolkits (``params``, ``state_dict``, ...)."""
    import torch

    if all(isinstance(value, torch.Tensor) for value in found.values()):
        return found
    from spandrel import canonicalize_state_dict

    return {name: value for name, value in canonicalize_state_dict(found).items()
            if isinstance(value, torch.Tensor)}


def fill(network: nn.Module, state: Mapping[str, Tensor], where: str, purpose: str) -> None:
    """Load tensors into a network, in the network's number type. Changes nothing if it raises.

    Args:
        network: the network.
        state: names and tensors.
        where: the file's name in messages.
        purpose: the network's name in messages.

    Raises:
        UserError: a tensor is missing, is not in the model, has another shape, or is not floating
            point although the model's is.
    """
    own = network.state_dict()
    wrong = [f"{name}: {list(state[name].shape)} in the file, {list(own[name].shape)} in the model"
             for name in own if name in state and state[name].shape != own[name].shape]
    wrong += [f"{name}: missing in the file" for name in own if name not in state]
    wrong += [f"{name}: not in the model" for name in state if name not in own]
    wrong += [f"{name}: {state[name].dtype} in the file, {own[name].dtype} in the model"
              for name in own if name in state
              and state[name].is_floating_point() != own[name].is_floating_point()]
    if wrong:
        raise UserError(f"checkpoint {where} does not fit {purpose}: {'; '.join(wrong[:3])}"
                        f"{f' and {len(wrong) - 3} more' if len(wrong) > 3 else ''}.")
    network.load_state_dict(dict(state))


def _safetensors(where: str, data: bytes) -> dict:
    from safetensors.torch import load as parse

    try:
        return parse(data)
    except SafetensorError as error:
        raise UserError(f"{where}: a safetensors file that is broken or cut short ({error}). "
                        "Get it again.") from None


def _check_zip(where: str, data: bytes) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            broken = archive.testzip()
    except (zipfile.BadZipFile, EOFError, ValueError):
        raise UserError(f"{where}: it begins like a PyTorch file but was cut short. "
                        "Get it again.") from None
    if broken:
        raise UserError(f"{where}: {broken} inside is damaged (checksum). Get the file again.")


def _why(error: Exception) -> str:
    """Return torch's error as one sentence for people."""
    text = str(error)
    if code := re.search(r"GLOBAL (\S+)", text):
        return (f"it holds more than tensors ({code[1].rstrip('.')}), which could run code when "
                "unpickled, so it was not loaded. If you trust the file, save the state dict "
                "alone: torch.save(model.state_dict(), PATH), or as safetensors.")
    if "TorchScript" in text:
        return "a TorchScript program, not a state dict. Give the file of the weights."
    if isinstance(error, EOFError) or "EOF" in text:
        return "it begins like a PyTorch file but was cut short. Get it again."
    if "eights only load failed" in text:
        return ("a pickle that is not a plain state dict, so it was not loaded: it could contain "
                "code. If you trust the file, save the state dict alone: "
                "torch.save(model.state_dict(), PATH), or as safetensors.")
    first = " ".join(text.split("Please file")[0].split())[:160]
    return f"not a PyTorch checkpoint ({type(error).__name__}: {first}). Get it again."
