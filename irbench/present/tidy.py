"""Print a table as tidy CSV: one line per measurement, numbers unrounded.

Unknown values are empty. Reads and writes nothing.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from irbench.present.table import Table


def to_csv(table: Table) -> str:
    """Return the lines of a table below its fields."""
    return csv_text(table.fields, table.lines)


def csv_text(fields: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    """Return lines below their fields; None becomes empty, a float keeps all its digits."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(fields)
    for line in lines:
        writer.writerow(["" if cell is None else repr(cell) if isinstance(cell, float) else cell
                         for cell in line])
    return out.getvalue()
