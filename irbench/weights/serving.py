"""Which protocols weights serve, by the header of their file.

Reads and writes nothing, imports no torch.

Try: ``irbench checkpoints show compacter-sr-x2``
"""

from __future__ import annotations

from irbench.catalog import recipes
from irbench.catalog.protocols import Protocol, version_of


def is_for(header: dict, protocol: Protocol) -> bool:
    """Whether weights with this header serve a protocol.

    They serve their own, every other version of it with the same task, level and degradation, and
    the protocols in a blind range of their task. Blind weights of another task also serve a
    protocol that ``borrows`` them.
    """
    scope, levels = header.get("protocol"), header.get("levels")
    versions = (protocol.id, *protocol.serves)
    if scope in versions:
        return True
    if protocol.borrows and str(scope).startswith(f"{protocol.borrows}-blind@"):
        return True
    try:
        return recipes.covers(levels, protocol) and scope in {
            f"{protocol.task}-blind@{version_of(one)}" for one in versions}
    except (AttributeError, KeyError, TypeError, ValueError):  # a header that irbench did not write
        return False
