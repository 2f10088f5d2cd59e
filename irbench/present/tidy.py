"""Print a table as tidy CSV: one line per measurement, numbers unrounded.

Unknown values are empty. Names and reasons come from configs, catalogs and records of other people,
and a spreadsheet runs a cell that begins as a formula does. So a text that begins with one of
``= + - @`` gets an apostrophe in front, which spreadsheets read as "this is text" (OWASP, "CSV
Injection"). A text has one line. Numbers stay numbers. Reads and writes nothing.

Try: ``python -c "from irbench.present.tidy import csv_text; print(csv_text(['a'], [['=1+1']]))"``
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence

from irbench.core.forms import shown
from irbench.present.table import Table

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
# what begins a formula, behind any space; the last four are full-width forms of the first four
FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20].")


def to_csv(table: Table) -> str:
    """Return the lines of a table below its fields."""
    return csv_text(table.fields, table.lines)


def csv_text(fields: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    """Return lines below their fields.

    None becomes empty, a float keeps all its digits, a text is never a formula.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(fields)
    for line in lines:
        writer.writerow(["" if cell is None else repr(cell) if isinstance(cell, float)
                         else _text(cell) if isinstance(cell, str) else cell
                         for cell in line])
    return out.getvalue()


def _text(cell: str) -> str:
    cell = shown(cell)
    return f"'{cell}" if FORMULA.match(cell) and not NUMBER.fullmatch(cell) else cell
