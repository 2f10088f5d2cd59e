"""Authors' weights for the networks of ``irbench.models.peers``.

Reads a PyTorch or safetensors file (``irbench.weights.storage``); writes nothing. The catalog of
peers says which network a file belongs to. All names and shapes must agree.

Try: ``irbench info imdn``
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from irbench.catalog.protocols import Protocol
from irbench.core.errors import UserError
from irbench.models import registry
from irbench.weights import storage

if TYPE_CHECKING:
    from torch import nn

MISSING = "Run again to fetch it."


def load(path: Path, protocol: Protocol, sha256: str | None = None, key: str | None = None, *,
         network: dict) -> tuple[nn.Module, str]:
    """Load an authors' file into their network.

    Args:
        path: a PyTorch checkpoint or safetensors file.
        protocol: the protocol that the model must serve; gives scale and channels.
        sha256: the digest that the file must have, None for any.
        key: which set of weights to take from a file that holds several; None: EMA first.
        network: ``architecture``, one of ``registry.PEERS``, and options of its builder.

    Returns:
        The network in evaluation mode, with facts about the file as its attribute ``about``; and
        the file's SHA-256.

    Raises:
        Unavailable: the file does not exist.
        UserError: the file has another digest, is not a checkpoint, or does not fit the network.
    """
    from irbench.weights import naming  # imports torch

    data = storage.read(path, MISSING)
    digest = hashlib.sha256(data).hexdigest()
    if sha256 and digest != sha256:
        raise UserError(f"checkpoint {path}: its SHA-256 is {digest}, expected {sha256}: the file "
                        "was altered or is another one. Get the file again, or correct its "
                        "`sha256`.")
    options = {name: value for name, value in network.items() if name != "architecture"}
    built = registry.build_peer(network["architecture"], protocol.scale, protocol.channels,
                                **options)
    state, taken = naming.choose(storage.tensors(path, data), built.state_dict(), str(path),
                                 network["architecture"], key)
    built.load_state_dict(state)
    built.about = {**network, "scale": protocol.scale, "channels": protocol.channels,
                   **({"weights_key": taken["key"]} if taken else {}),
                   **({"weights_others": taken["others"]} if taken.get("others") else {})}
    return built.eval(), digest
