"""A part of a cell's images: one of several parts that separate jobs work on.

Parts are neighbouring images of the list, of nearly equal number. Reads and writes nothing.

Try: ``python -c "from irbench.jobs.cells.parts import Part; print(list(Part(2, 4).of(10)))"``
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MOST = 1000     # parts of a cell; config.schema.json has it, too


@dataclass(frozen=True)
class Part:
    """The part with a number, from 1 on, of ``count`` parts."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Part:
        """Return the part that a text like ``2/4`` names. Raises ValueError for any other text."""
        match = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", text)
        number, count = map(int, match.groups()) if match else (0, 0)
        if not 1 <= number <= count <= MOST:
            raise ValueError(f"{text!r} does not name a part: give 2/4 for the second of four "
                             f"(at most {MOST})")
        return cls(number, count)

    def __str__(self) -> str:
        """Return the part as in names of files: ``2-of-4``."""
        return f"{self.number}-of-{self.count}"

    def of(self, images: int) -> range:
        """Return which images belong to the part, by their numbers from 0 on; perhaps none."""
        start, end = (images * number // self.count for number in (self.number - 1, self.number))
        return range(start, end)
