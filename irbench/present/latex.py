r"""Print a table as LaTeX; the document needs ``\usepackage{booktabs}`` only.

A table of the report wider than a page is split into parts below each other, each with the heads of
its rows; its caption is the first sentence, and the others are the first note. A table of a paper
(``to_paper``) is never split: its letters get as small as its place asks for. Text that a user can
write is escaped. Reads and writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from irbench.core.errors import UserError
from irbench.present import fitting, text
from irbench.present.notes import alike
from irbench.present.table import BEST, SECOND, Block, Row, Table, Value, joined

PAGE = 45                       # rows of a table that fit on a page with notes
WIDEST_COLUMN = 300             # points; of a page with two columns
RANKS = {BEST: r"\textbf{%s}", SECOND: r"\underline{%s}"}


def to_latex(tables: list[Table]) -> str:
    """Return table environments.

    The tables of one stem are blocks of one table, or separate tables if it is longer than a page.
    """
    whole = joined(tables)
    long = sum(1 + bool(row.sub) for row in whole.rows) > PAGE
    return "% needs \\usepackage{booktabs}\n" + "\n".join(
        map(_environment, tables if long else [whole]))


def _environment(table: Table) -> str:
    columns = table.all_columns
    keys = len(table.heads)
    widths = [max([len(column.title), *(
        fitting.letters(row.values[i].full + _apart(table, row.values[i]), row.values[i].signs)
        for row in table.rows)]) for i, column in enumerate(columns)]
    left = [column.left for column in columns]
    spans = [width for _, width in table.headings()[0]]
    tabulars = []
    for number, part in enumerate(fitting.parts(widths, left, keys, spans)):
        layout = fitting.layout([widths[i] for i in part], [left[i] for i in part])
        here = table.only(i - keys for i in part[keys:])
        tabulars += [[*layout.commands, *_tabular(here, blocks, layout)]
                     for blocks in _cut(here, number, layout)]
    return "\n".join(fitting.pages(text.latex(table.title), text.latex(table.short_caption),
                                   table.anchor.replace("_", "-"), tabulars,
                                   [*filter(None, [text.latex(table.other_sentences)]),
                                    *_notes(table)]))


def _notes(table: Table) -> list[str]:
    return [*([text.latex(table.coverage)] if table.coverage else []),
            *(rf"\textsuperscript{{{text.latex(mark)}}}~{text.latex(sentence)}"
              for mark, sentence in table.notes.items()),
            *(rf"\texttt{{{text.latex(name)}}}: {text.latex(sentence)}"
              for name, sentence in alike(table.terms).items())]


def to_paper(table: Table, room: str | float = "column", *, bare: bool = False,
             remarks: Iterable[str] = (), label: str | None = None) -> str:
    """Return a table for a paper, in the largest letters with which it fits.

    Args:
        table: the table; its rows have one line each.
        room: its place: ``column`` (of a page with two; a table that does not fit there gets both
            columns, as ``table*``), ``page`` (both columns), ``text`` (a page with one column), or
            a width in points.
        bare: return the tabular alone, without environment, caption and notes.
        remarks: sentences for comments above a bare table.
        label: what the document refers to it by; default: ``tab:`` and the anchor.

    Raises:
        UserError: the table does not fit even in the smallest letters.
    """
    points, layout = _placed(table, room)
    grid = [*(f"{command}%" for command in layout.commands),
            *_tabular(table, table.blocks, layout)]
    grid[-1] += "%"
    # no column of two is so wide; on a page with one, both environments are the same
    wide = room != "text" and points > WIDEST_COLUMN
    environment = "table*" if wide else "table"
    needs = (rf"% needs \usepackage{{booktabs}}; made for {points:g} pt"
             f"{', a table* in two columns' * wide}")
    if bare:
        comments = [f"% {' '.join(one.split())}" for one in remarks]
        return "\n".join([needs, *comments, "{%", *grid, "}", ""])
    notes = _notes(table)
    # a narrow column may ask for wide spaces in the lines of the caption
    lines = [needs, rf"\begin{{{environment}}}[t]", r"\centering\sloppy",
             rf"\caption{{{text.latex(table.full_caption)}}}",
             rf"\label{{{label or f'tab:{table.anchor}'.replace('_', '-')}}}", r"\smallskip", "{%",
             *grid, "}"]
    if notes:
        lines += [r"\par\smallskip", r"\begin{minipage}{\linewidth}\footnotesize\raggedright",
                  *(rf"{note}\par" for note in notes), r"\end{minipage}"]
    return "\n".join([*lines, rf"\end{{{environment}}}", ""])


def paper_width(table: Table, room: str | float = "column") -> float:
    """Return the width in points for which ``to_paper`` makes a table. Raises as it does."""
    return _placed(table, room)[0]


def _placed(table: Table, room: str | float) -> tuple[float, fitting.Layout]:
    layout = _fitted(table, fitting.ROOMS.get(room, room))
    if layout is None and room == "column":
        room, layout = "page", _fitted(table, fitting.ROOMS["page"])
    points = fitting.ROOMS.get(room, room)
    if layout is None:
        levels = len({column.level for column in table.columns})
        stack = ", stack the levels as blocks of rows (--stack)" * (levels > 1)
        raise UserError(f"the table has {len(table.all_columns)} columns and does not fit "
                        f"{points:g} pt even in {fitting.STEPS[-1][0]}. Show fewer --columns, "
                        f"--metrics or levels (--protocol){stack}, or make several tables.")
    return points, layout


def _fitted(table: Table, room: float) -> fitting.Layout | None:
    *groups, titles = [[(fitting.ems(title), count) for title, count in row]
                       for row in table.headings(heads=True)]
    widths = [max([title, *(fitting.ems(_with_numbers(row.values[i]), row.values[i].signs,
                                        row.values[i].rank == BEST) for row in table.rows)])
              for i, (title, _) in enumerate(titles)]
    return fitting.fitted(widths, [column.left for column in table.all_columns], groups, room)


def _with_numbers(value: Value) -> str:
    """Return the text of a value with its citations as numbers of two digits: ``IMDN [00]``."""
    return value.shown + f" [{', '.join('00' for _ in value.cite)}]" * bool(value.cite)


def _cut(table: Table, part: int, layout: fitting.Layout) -> list[list[Block]]:
    """Return the blocks of each tabular of a part, without rows that are empty there."""
    if not table.cut:
        return [table.blocks]
    rows = [row for row in table.rows
            if not part or any(value.shown for value in row.values)]
    most = fitting.ROWS // (2 if layout.broken or any(row.sub for row in rows) else 1)
    return [[Block(rows=rows[start:start + most])] for start in range(0, max(len(rows), 1), most)]


def _tabular(table: Table, blocks: list[Block], layout: fitting.Layout) -> list[str]:
    width = len(table.all_columns)
    lines = [rf"\begin{{tabular}}{{{layout.kinds}}}", r"\toprule"]
    *groups, titles = table.headings(heads=True)
    for group in groups:
        lines += _common_heads(group)
    lines.append(" & ".join(text.latex(title) for title, _ in titles) + r" \\")
    for block in blocks:
        if block.title and not block.rows:
            continue
        lines.append(r"\midrule")
        if block.title:
            style = r"\textbf" if block.strong else r"\emph"
            lines += [_across(rf"{style}{{{text.latex(block.title)}}}", width, layout),
                      r"\midrule"]
        for row in block.rows:
            lines += _row(table, row, layout)
    return [*lines, r"\bottomrule", r"\end{tabular}"]


def _common_heads(group: list[tuple[str, int]]) -> list[str]:
    cells, rules, start = [], [], 1
    for title, width in group:
        cells.append(rf"\multicolumn{{{width}}}{{c}}{{{text.latex(title)}}}" if title else "")
        if title:
            rules.append(rf"\cmidrule(lr){{{start}-{start + width - 1}}}")
        start += width
    return [" & ".join(cells) + r" \\", " ".join(rules)]


def _row(table: Table, row: Row, layout: fitting.Layout) -> list[str]:
    # a row must not begin with a bracket or a star, which \\ would read as its argument;
    # text.latex wraps brackets, and an empty group stops the star
    guard = "{}" * (table.cut or row.name.startswith("*"))
    lines = [guard + " & ".join(
        rf"{{\raggedright {_value(table, value)}\par}}" if i in layout.broken and value.shown
        else _value(table, value, hang=not column.left)
        for i, (value, column) in enumerate(zip(row.values, table.all_columns, strict=True)))
        + r" \\"]
    if row.sub:
        lines.append(_across(rf"\quad\tiny {text.latex(row.sub)}", len(row.values), layout))
    return lines


def _across(content: str, width: int, layout: fitting.Layout) -> str:
    flush = "@{}" * layout.kinds.startswith("@{}")      # begins where the first column does
    return rf"\multicolumn{{{width}}}{{{flush}l}}{{{content}}} \\"


def _apart(table: Table, value: Value) -> str:
    return f" ({value.difference})" if table.differences and value.difference else ""


def _value(table: Table, value: Value, hang: bool = False) -> str:
    """Return a cell; ``hang``: a number's single mark takes no room, so that numbers align."""
    marks = rf"\textsuperscript{{{','.join(map(text.latex, value.signs))}}}" if value.signs else ""
    if hang and value.number is not None and len(value.signs) == 1:
        marks = rf"\rlap{{{marks}}}"
    cite = rf"~\cite{{{','.join(value.cite)}}}" if value.cite else ""
    return (RANKS.get(value.rank, "%s") % text.latex(value.full) + cite
            + _apart(table, value).replace("-", "$-$") + marks)
