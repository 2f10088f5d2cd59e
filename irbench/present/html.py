"""Print a table as a fragment of HTML, to be pasted into a page: it needs no style and no script.

The report's page has its own form (``report/page/table.html.j2``), where each value links to its
origin. All text is escaped. Reads and writes nothing.

Try: ``irbench table sr --html``
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape as as_html

from irbench.core.forms import shown
from irbench.present.notes import alike
from irbench.present.table import BEST, SECOND, Column, Row, Table, Value

RANKS = {BEST: "<strong>{}</strong>", SECOND: "<u>{}</u>"}


def escape(text: str) -> str:
    """Escape a text for a page, on one line."""
    return as_html(shown(text))


def to_html(table: Table) -> str:
    """Return the table with its caption, and its notes as a list below; a bare one has neither."""
    caption = f"<caption>{escape(table.full_caption)}</caption>" if table.sentences else ""
    lines = ["<table>", *filter(None, [caption]), "<thead>"]
    *groups, titles = table.headings(heads=True)
    for group in groups:
        lines.append(_line(_head(title, "colgroup", count) if title else
                           "<td></td>" for title, count in group))
    lines += [_line(_head(title, "col") for title, _ in titles), "</thead>"]
    for block in table.blocks:
        lines.append("<tbody>")
        if block.title and block.rows:
            lines.append(_line([_head(block.title, "rowgroup", len(table.all_columns))]))
        lines += [*(_row(table.all_columns, row) for row in block.rows), "</tbody>"]
    notes = [*(f"<li><sup>{escape(mark)}</sup> {escape(sentence)}</li>"
               for mark, sentence in table.notes.items()),
             *(f"<li><code>{escape(name)}</code>: {escape(sentence)}</li>"
               for name, sentence in alike(table.terms).items())]
    return "\n".join([*lines, "</table>", *(["<ul>", *notes, "</ul>"] if notes else [])]) + "\n"


def _line(cells: Iterable[str]) -> str:
    return f"<tr>{''.join(cells)}</tr>"


def _head(title: str, scope: str, count: int = 1) -> str:
    span = f' colspan="{count}"' if count > 1 else ""
    return f'<th scope="{scope}"{span}>{escape(title)}</th>'


def _row(columns: list[Column], row: Row) -> str:
    name, *others = row.values
    cells = [f'<th scope="row" align="left">{_value(name)}</th>']
    for column, value in zip(columns[1:], others, strict=True):
        why = f' title="{escape(value.reason)}"' if value.reason else ""
        cells.append(f'<td align="{"left" if column.left else "right"}"{why}>{_value(value)}</td>')
    return _line(cells)


def _value(value: Value) -> str:
    marks = f"<sup>{escape(','.join(value.signs))}</sup>" if value.signs else ""
    first = RANKS.get(value.rank, "{}").format(escape(value.shown)) + marks
    return "<br>".join([first, *map(escape, filter(None, (value.sub, *value.lines)))])
