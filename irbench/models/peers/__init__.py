"""Networks of other groups, written anew from their papers, for the weights of their authors.

Each module holds one network and ``build(scale, channels, **options)``, which returns it. Modules
and parameters have the names of the authors' files, so that their weights load as they are. The
catalog (``catalog/peers.yaml``) says which file belongs to which network; ``irbench anchors``
compares with what the papers print. They are not trained here and have no cards in the registry.

Try: ``python -c "from irbench.models import peers; print(peers.build('imdn', 2, 3))"``
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from irbench.core.errors import unknown

if TYPE_CHECKING:
    from irbench.models.padding import Restorer

ARCHITECTURES = ("imdn", "ramit", "smfanet")


def build(architecture: str, scale: int, channels: int, **options) -> Restorer:
    """Build a network with random weights.

    Args:
        architecture: one of ``ARCHITECTURES``.
        scale: output size / input size, 2 to 4.
        channels: of the image; the authors' weights are for 3.
        options: of the network's own ``build``.

    Returns:
        A network from (B, channels, H, W), values in [0, 1], to (B, channels, scale*H, scale*W).

    Raises:
        UserError: an unknown architecture.
    """
    if architecture not in ARCHITECTURES:
        raise unknown("architecture", architecture, ARCHITECTURES)
    module = importlib.import_module(f"irbench.models.peers.{architecture}")
    return module.build(scale, channels, **options)
