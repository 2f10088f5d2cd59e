"""Sets whose images lie inside MATLAB files: which files, and which parts of their arrays.

In a catalog ``hr`` and ``input`` of a ``manual`` or ``local`` set may be patterns that end in
``.mat``; ``irbench.data.blocks`` unpacks the images of such files below ``data_root``.

Reads and writes nothing.

Try: ``irbench info sidd_validation``
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from irbench.core.errors import UserError

SUFFIX = ".mat"
ROLES = ("hr", "input")


@dataclass(frozen=True)
class Blocks:
    """The MATLAB files of a set.

    Attributes:
        folder: where they lie; a relative path is below the folder of all data.
        hr: a glob pattern below ``folder`` for the files of clean images; None: there are none.
        input: the same for degraded images.
        boxes: a file below ``folder`` that says which parts of each image are taken; None: all.
    """

    folder: Path
    hr: str | None = None
    input: str | None = None
    boxes: str | None = None

    def as_dict(self) -> dict:
        """Return all fields as plain data; the path with forward slashes."""
        return {"folder": self.folder.as_posix(), "hr": self.hr, "input": self.input,
                "boxes": self.boxes}

    @classmethod
    def from_dict(cls, given: dict) -> Blocks:
        """Return what ``as_dict`` gave."""
        return cls(**{**given, "folder": Path(given["folder"])})


def split(where: str, name: str, found: dict, boxes: str | None) -> dict:
    """Return an entry's fields with the place of the unpacked images, if it has MATLAB files.

    Args:
        where: the entry, for messages.
        name: the set's name.
        found: ``folder``, ``hr``, ``input``, ``leave_out`` and ``list`` of the entry.
        boxes: the file of the parts that are taken, or None.

    Raises UserError for keys that do not apply.
    """
    given = [role for role in ROLES if found[role]]
    packed = [role for role in given if found[role].lower().endswith(SUFFIX)]
    if boxes and not (packed and boxes.lower().endswith(SUFFIX)):
        raise UserError(f"{where}: boxes: {boxes!r} is not valid. Valid: a MATLAB file "
                        f"({SUFFIX}) beside those that 'hr' or 'input' name.")
    if not packed:
        return found
    if packed != given:
        raise UserError(f"{where}: 'hr' and 'input' are both MATLAB files ({SUFFIX}), or both "
                        "image files.")
    for key in ("list", "leave_out"):
        if found[key]:
            raise UserError(f"{where}: {key!r} applies to image files, not to MATLAB files "
                            f"({SUFFIX}). Remove it.")
    return found | {"folder": Path("blocks", name),
                    **{role: f"{role}/*.png" for role in packed},
                    "blocks": Blocks(found["folder"], found["hr"], found["input"], boxes)}
