"""Print a table as Markdown: a document for a file, or the bare table for a comment.

Superscripts and line breaks are HTML, because Markdown has neither. Text that a user can write
(titles, reasons, names of datasets) is escaped. Reads and writes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from tabulate import tabulate

from irbench.core.forms import shown
from irbench.present import text
from irbench.present.notes import alike
from irbench.present.table import BEST, SECOND, Block, Table, Value

RANKS = {BEST: "**{}**", SECOND: "<u>{}</u>"}


def escape(text: str) -> str:
    """Escape a text for a comment on GitHub, on one line; works in a table too."""
    return re.sub(r"([\\|*_`<\[\]])", r"\\\1", shown(" ".join(text.split())))


def code(text: str) -> str:
    """Return a name as inline code; works in a table too."""
    return "`" + shown(" ".join(text.split())).replace("`", "'").replace("|", "\\|") + "`"


def details(summary: str, body: str) -> str:
    """Return Markdown that GitHub folds under a summary."""
    return f"<details><summary>{summary}</summary>\n\n{body}\n\n</details>"


@dataclass(frozen=True)
class Look:
    """How the source of a bare table is written. The rendered table is the same for all looks."""

    escape: Callable[[str], str] = text.markdown
    gap: str = ""               # around the marks that align a column
    names: Callable[[str], str] | None = None   # how the first column is written, if differently


PAGE = Look()
COMMENT = Look(escape, " ", code)   # on a pull request: names of cells as code


def to_markdown(table: Table) -> str:
    """Return a document: title, table, coverage, caption, notes, terms."""
    rows = []
    for block in table.blocks:
        rows += _title(table, block, text.markdown)
        rows += [[_value(value, text.markdown, table.differences) for value in row.values]
                 for row in block.rows]
    body = tabulate(rows, ["<br>".join(map(text.markdown, filter(None, (*c.over, c.title))))
                           for c in table.all_columns],
                    tablefmt="pipe", disable_numparse=True,
                    colalign=["left" if c.left else "right" for c in table.all_columns])
    notes = "\n".join(f"- <sup>{mark}</sup> {text.markdown(sentence)}"
                      for mark, sentence in table.notes.items())
    terms = "\n".join(f"- `{name}`: {text.markdown(sentence)}"
                      for name, sentence in alike(table.terms).items())
    return "\n\n".join(filter(None, [
        f"### {text.markdown(table.title)}", body, text.markdown(table.coverage),
        text.markdown(table.caption), notes, terms])) + "\n"


def pipes(table: Table, look: Look) -> str:
    """Return the bare table in its shortest form."""
    columns = table.all_columns
    lines = [[look.escape(" ".join((*column.over, column.title))) for column in columns]]
    for block in table.blocks:
        lines += _title(table, block, look.escape)
        for row in block.rows:
            cells = [_value(value, look.escape, table.differences) for value in row.values]
            if look.names:
                cells[0] = look.names(row.name)
            lines.append(cells)
    marks = "|".join(look.gap + (":--" if column.left else "--:") + look.gap
                     for column in columns)
    head, *rest = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join([head, f"|{marks}|", *rest])


def _title(table: Table, block: Block, escape: Callable[[str], str]) -> list[list[str]]:
    """Return the line with the title of a block, if it has one and is shown."""
    if not (block.title and block.rows):
        return []
    around = "**{}**" if block.strong else "*{}*"
    return [[around.format(escape(block.title)), *[""] * (len(table.all_columns) - 1)]]


def _value(value: Value, escape: Callable[[str], str], differences: bool) -> str:
    apart = f" ({value.difference})" if differences and value.difference else ""
    marks = f"<sup>{','.join(value.signs)}</sup>" if value.signs else ""
    first = RANKS.get(value.rank, "{}").format(escape(value.full)) + apart + marks
    return "<br>".join([first, *map(escape, filter(None, (value.sub, *value.lines)))])
