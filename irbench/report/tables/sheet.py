"""Plain tables as data, and as Markdown, LaTeX (booktabs) and CSV: all but those of methods.

A ``Sheet`` knows heads, rows, notes and a caption; the page prints it as well. What a user can
write is escaped for the format it goes to. The CSV is tidy and unrounded, with fields of its own,
because a table for people puts several figures in a row.

Writes nothing; ``irbench.report.build`` puts the texts under ``tables/``.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field

from tabulate import tabulate

from irbench.present import fitting, text
from irbench.present.notes import Noted


@dataclass(frozen=True)
class Head:
    """A column: its title, the group above it, and whether its texts are flush left."""

    title: str
    group: str = ""
    left: bool = False


@dataclass
class Value:
    """One figure or word as shown; ``reason`` says why there is none, or more about it."""

    shown: str
    marks: list[str] = field(default_factory=list)
    sub: str = ""               # a second line in small print
    reason: str = ""
    best: bool = False
    record: str = ""            # of a measured figure: its path below the run folder


@dataclass
class Sheet(Noted):
    """A table. Rows have one value per head; the first one names the row."""

    stem: str                   # of its files, and its anchor
    title: str
    heads: list[Head]
    fields: tuple[str, ...]     # of the CSV
    rows: list[list[Value]] = field(default_factory=list)
    lines: list[list] = field(default_factory=list)     # of the CSV; None: unknown
    notes: dict[str, str] = field(default_factory=dict)
    caption: str = ""
    folded: bool = False        # long: the page shows it on demand

    def absent(self, reason: str) -> Value:
        """Return n/a with its reason as a footnote."""
        return Value(text.NA, [self.note(reason)], reason=reason)

    @property
    def grouped(self) -> bool:
        """Say whether some columns have a common head."""
        return any(head.group for head in self.heads)

    def groups(self) -> list[tuple[str, int]]:
        """Return the common heads and how many columns each spans; "" for none."""
        return _groups(self.heads)


def _groups(heads: list[Head]) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    for head in heads:
        if head.group and found and found[-1][0] == head.group:
            found[-1] = (head.group, found[-1][1] + 1)
        else:
            found.append((head.group, 1))
    return found


# -- Markdown ------------------------------------------------------------------------------------

def markdown(sheet: Sheet) -> str:
    """Return a Markdown document: title, table, caption, notes."""
    heads = ["<br>".join(text.markdown(part) for part in (head.group, head.title) if part)
             for head in sheet.heads]
    body = tabulate([[_md(value) for value in row] for row in sheet.rows], heads, tablefmt="pipe",
                    disable_numparse=True,
                    colalign=["left" if head.left else "right" for head in sheet.heads])
    parts = [f"### {text.markdown(sheet.title)}", body, text.markdown(sheet.caption)]
    if sheet.notes:
        parts.append("\n".join(f"- <sup>{mark}</sup> {text.markdown(said)}"
                               for mark, said in sheet.notes.items()))
    return "\n\n".join(parts) + "\n"


def _md(value: Value) -> str:
    shown = text.markdown(value.shown)
    shown = f"**{shown}**" if value.best else shown
    marks = f"<sup>{','.join(value.marks)}</sup>" if value.marks else ""
    return shown + marks + (f"<br>{text.markdown(value.sub)}" if value.sub else "")


# -- LaTeX ---------------------------------------------------------------------------------------

def latex(sheet: Sheet) -> str:
    r"""Return a table environment; the document needs ``\usepackage{booktabs}`` only.

    A table wider than a page is set in parts below each other, each with the first column.
    """
    widths = [max([len(head.title), *(fitting.letters(row[i].shown, row[i].marks)
                                      for row in sheet.rows)])
              for i, head in enumerate(sheet.heads)]
    left = [head.left for head in sheet.heads]
    spans = [width for _, width in _groups(sheet.heads[1:])]
    tabulars = []
    for number, part in enumerate(fitting.parts(widths, left, 1, spans)):
        layout = fitting.layout([widths[i] for i in part], [left[i] for i in part])
        rows = [row for row in sheet.rows if not number or any(row[i].shown for i in part)]
        most = fitting.ROWS // (2 if layout.broken or any(row[0].sub for row in rows) else 1)
        tabulars += [_tabular(sheet, rows[start:start + most], part, layout)
                     for start in range(0, max(len(rows), 1), most)]
    notes = [rf"\textsuperscript{{{mark}}}~{text.latex(said)}"
             for mark, said in sheet.notes.items()]
    return "\n".join(["% needs \\usepackage{booktabs}", *fitting.pages(
        text.latex(sheet.title), text.latex(f"{sheet.title}. {sheet.caption}"), sheet.stem,
        tabulars, notes)])


def _tabular(sheet: Sheet, rows: list[list[Value]], columns: list[int],
             layout: fitting.Layout) -> list[str]:
    heads = [sheet.heads[i] for i in columns]
    lines = [*layout.commands, rf"\begin{{tabular}}{{{layout.kinds}}}", r"\toprule"]
    if any(head.group for head in heads):
        lines += _latex_groups(heads)
    lines += [" & ".join(text.latex(head.title) for head in heads) + r" \\", r"\midrule"]
    for row in rows:
        values = [row[i] for i in columns]
        # a row must not begin with a bracket or a star, which \\ would take as its own argument
        lines.append("{}" + " & ".join(
            rf"{{\raggedright {_tex(value)}\par}}" if i in layout.broken and value.shown
            else _tex(value) for i, value in enumerate(values)) + r" \\")
        if row[0].sub:
            lines.append(rf"\multicolumn{{{len(columns)}}}{{l}}{{\quad\tiny "
                         rf"{text.latex(row[0].sub)}}} \\")
    return [*lines, r"\bottomrule", r"\end{tabular}"]


def _latex_groups(heads: list[Head]) -> list[str]:
    cells, rules, start = [], [], 1
    for title, width in _groups(heads):
        cells.append(rf"\multicolumn{{{width}}}{{c}}{{{text.latex(title)}}}" if title else "")
        if title:
            rules.append(rf"\cmidrule(lr){{{start}-{start + width - 1}}}")
        start += width
    return [" & ".join(cells) + r" \\", " ".join(rules)]


def _tex(value: Value) -> str:
    shown = text.latex(value.shown)
    shown = rf"\textbf{{{shown}}}" if value.best else shown
    return shown + (rf"\textsuperscript{{{','.join(value.marks)}}}" if value.marks else "")


# -- CSV -----------------------------------------------------------------------------------------

def tidy(sheet: Sheet) -> str:
    """Return the sheet's lines under its fields; unknown is empty, numbers are unrounded."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(sheet.fields)
    for line in sheet.lines:
        writer.writerow(["" if cell is None else repr(cell) if isinstance(cell, float) else cell
                         for cell in line])
    return out.getvalue()
