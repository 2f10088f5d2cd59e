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

import argparse
import functools
import hashlib
import io
import json
import re
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from irbench.core import digests, files
from irbench.core.errors import Unavailable, UserError

if TYPE_CHECKING:
    from torch import Tensor

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
        return files.read_bytes(path)
    except FileNotFoundError:
        raise Unavailable(f"checkpoint {path}: no such file. {advice}") from None
    except OSError as error:
        raise UserError(f"checkpoint {path}: {error.strerror}.") from None


# -- the header ----------------------------------------------------------------------------------

def read_header(path: Path) -> dict:
    """Return irbench's metadata of a checkpoint, {} if it has none; reads only the file's header.

    Raises UserError if it is not a safetensors file.
    """
    return _read_split(path)[0]


def _read_split(path: Path) -> tuple[dict, dict]:
    """Return irbench's header and the table of tensors. Raises UserError for any other file."""
    try:
        with files.open_file(path) as handle:
            size = int.from_bytes(handle.read(8), "little")
            if not 0 < size <= LONGEST:
                raise ValueError("its header has no valid length")
            return _split(handle.read(size))
    except OSError as error:
        raise UserError(f"checkpoint {path}: {error.strerror}.") from None
    except ValueError as error:
        raise UserError(f"checkpoint {path}: not a safetensors file written by irbench ({error}). "
                        "Give the file that a training wrote.") from None


def shapes(path: Path) -> dict[str, tuple[str, list[int]]]:
    """Return (number type, shape) of every tensor of a safetensors file, e.g. ("F16", [48, 3]).

    Raises UserError if it is not a safetensors file.
    """
    return {name: (entry["dtype"], entry["shape"])
            for name, entry in _read_split(path)[1].items()}


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
                        "altered or damaged. Train again, or get the file again.")
    return header


def is_safetensors(data: bytes) -> bool:
    """Whether bytes begin like a safetensors file."""
    return data[8:9] == b"{" and data[:1] != b"{"


def _split(text: bytes) -> tuple[dict, dict]:
    """Return irbench's header and the table of tensors. Raises ValueError for invalid text."""
    try:
        table = json.loads(text, parse_constant=_no_number)
        metadata = table.pop("__metadata__", {}) if isinstance(table, dict) else None
        own = metadata.get(HEADER, "{}") if isinstance(metadata, dict) else None
        ours = json.loads(own, parse_constant=_no_number) if isinstance(own, str) else None
    except RecursionError:
        raise ValueError("its header is nested too deeply") from None
    if not isinstance(ours, dict):
        raise ValueError("its header is not a JSON object")
    for name, entry in table.items():
        if not (isinstance(entry, dict) and isinstance(entry.get("dtype"), str)
                and isinstance(entry.get("shape"), list)):
            raise ValueError(f"its entry {name[:50]!r} has no type and shape")
    return ours, table


def _no_number(text: str) -> float:
    raise ValueError(f"its header holds {text}")


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
    ``irbench.weights.naming``).

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
            with torch.serialization.safe_globals(_plain_data()):
                found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"{where}: {_why(error)}") from None
    if not isinstance(found, dict):
        raise UserError(f"{where}: it holds a {type(found).__name__}, not a state dict (names and "
                        "tensors). Save model.state_dict().")
    return found


@functools.cache
def _plain_data() -> list:
    """Return the classes beside tensors that may be unpickled: they hold data and run no code.

    Trainings leave their arguments (argparse) and best scores (numpy) beside the weights.
    """
    scalar = np.float64(0).__reduce__()[0]
    kinds = [getattr(np.dtypes, name) for name in np.dtypes.__all__
             if name not in ("ObjectDType", "VoidDType")]
    return [argparse.Namespace, np.dtype, *kinds, (scalar, "numpy.core.multiarray.scalar"),
            (scalar, "numpy._core.multiarray.scalar")]


def _safetensors(where: str, data: bytes) -> dict:
    from safetensors.torch import load as parse

    try:
        return parse(data)
    except Exception as error:  # besides its own, safetensors raises whatever a hostile header does
        reason = " ".join(str(error).split())[:200]
        if isinstance(error, KeyError):
            reason = f"unknown number type {reason}"
        raise UserError(f"{where}: a safetensors file that is broken or cut short ({reason}). "
                        "Get it again.") from None


def _check_zip(where: str, data: bytes) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            broken = archive.testzip()
            names = archive.namelist()
    except RuntimeError:  # encrypted
        raise UserError(f"{where}: a ZIP archive with a password. Unpack it, and give the file of "
                        "weights.") from None
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, zlib.error, OSError):
        raise UserError(f"{where}: it begins like a PyTorch file but was cut short. "
                        "Get it again.") from None
    if not any(name.rpartition("/")[2] == "data.pkl" for name in names):
        raise UserError(f"{where}: a ZIP archive ({', '.join(names[:3]) or 'empty'}), not a "
                        "PyTorch file. Unpack it, and give the file of weights.")
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
