"""The weights that a training begins with: those of a file whose names and shapes fit the network.

Reads a file of weights (``irbench.weights.storage``) and fetches one given by URL; writes nothing
else. Unlike ``irbench.weights.loading`` the file may be of another task or scale: what does not
fit, such as the last layer for another scale, stays as it was built, random.

Try: ``training: {recipe: short, init: {bundled: compacter-sr-x2}}`` for a model under sr-x3
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from irbench.core import headers, messages
from irbench.core.errors import UserError
from irbench.weights import loading, storage

if TYPE_CHECKING:
    from torch import nn

    from irbench.catalog.model import Checkpoint


@dataclass(frozen=True)
class Begun:
    """What a network got from a file.

    Attributes:
        facts: for the record and the header: ``sha256`` of the file; ``of``: its model and
            protocol, "" if it does not say; ``taken``: the number of tensors; ``new``: names of the
            network's tensors that stayed random; ``left``: names of the file's that were not used;
            ``data_known``: whether the file says what it was trained on.
        datasets: the training sets of the file, as in its header.
        exclude: set -> names of the images that its training left out.
    """

    facts: dict
    datasets: list[dict]
    exclude: dict[str, list[str]]


def begin(network: nn.Module, source: Checkpoint, name: str, data_root: Path) -> Begun:
    """Put those tensors of a file into a network that have the same name and shape.

    Args:
        network: as built; its other tensors stay as they are.
        source: a file with its digest, from the plan.
        name: the model's name, for messages.
        data_root: the folder for fetched files.

    Raises:
        Unavailable: the file is missing or cannot be fetched.
        UserError: it is another file, not a file of weights, or no tensor of it fits.
    """
    import torch

    from irbench.weights import naming

    path = loading.of_source(source, data_root)
    data = storage.read(path, f"Correct `init` in the training of {name}.")
    digest = hashlib.sha256(data).hexdigest()
    if digest != source.sha256:
        raise UserError(f"init: checkpoint {path}: its SHA-256 is {digest}, expected "
                        f"{source.sha256}: the file was altered or is another one.")
    header = storage.header_of(path, data)
    if faults := headers.wrong(header):
        raise UserError(f"init: checkpoint {path}: its header is broken ({', '.join(faults)}). Get "
                        "the file again.")
    own = network.state_dict()
    taken, left = naming.overlap(storage.tensors(path, data), own, str(path), source.weights_key)
    if not taken:
        raise UserError(f"init: checkpoint {path}: none of its tensors fits {name}: none has both "
                        f"the name and the shape of one of the network's ({naming.few([*own])}). "
                        "Give weights of the same architecture, or remove `init`.")
    if bad := [key for key, value in taken.items() if not torch.isfinite(value).all()]:
        raise UserError(f"init: checkpoint {path}: {naming.few(bad)} has values that are NaN or "
                        "infinite. Get other weights.")
    network.load_state_dict(taken, strict=False)
    new = sorted(key for key, value in own.items()
                 if value.is_floating_point() and key not in taken)
    known = bool(header.get("datasets")) and (header.get("init") or {}).get("data_known", True)
    found = Begun({"sha256": digest, "of": _named(header), "taken": len(taken), "new": new,
                   "left": left, "data_known": known},
                  header.get("datasets") or [], header.get("exclude") or {})
    messages.say(f"{name}: begins with {headers.begun(found.facts)}")
    return found


def joined(own: Mapping[str, Iterable[str]],
           before: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """Return the sets of a training and of the weights that it began with, as one.

    Both map sets to images left out. An image is left out only if it was never trained on: in a set
    of both, if both left it out.
    """
    both = {name: sorted(set(own[name]) & set(before[name])) for name in own if name in before}
    return {**{name: list(images) for name, images in (*before.items(), *own.items())}, **both}


def _named(header: dict) -> str:
    """Return the model and protocol of a file's header, "" if it has none."""
    return " for ".join(header[name] for name in ("arch", "protocol") if name in header)
