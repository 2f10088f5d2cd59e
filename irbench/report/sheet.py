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

from irbench.report import text
from irbench.report.notes import Noted

PAGE = 500                      # points a LaTeX table may be wide: a page with small margins
LETTER = (3.7, 3.2)             # points a letter is wide on average, in scriptsize and in tiny
NARROW = 14                     # letters that a column with broken lines has at least


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
        found: list[tuple[str, int]] = []
        for head in self.heads:
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
    r"""Return a table environment; the document needs ``\usepackage{booktabs}`` only."""
    size, gap, columns, broken = _layout(sheet)
    lines = ["% needs \\usepackage{booktabs}; wide tables may want \\begin{table*}",
             r"\begin{table}[t]", r"\centering", size, rf"\setlength{{\tabcolsep}}{{{gap}pt}}",
             rf"\caption{{{text.latex(f'{sheet.title}. {sheet.caption}')}}}",
             rf"\label{{tab:{sheet.stem}}}", rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
    if sheet.grouped:
        lines += _latex_groups(sheet)
    lines += [" & ".join(text.latex(head.title) for head in sheet.heads) + r" \\", r"\midrule"]
    for row in sheet.rows:
        # a row must not begin with a bracket or a star, which \\ would take as its own argument
        lines.append("{}" + " & ".join(
            rf"{{\raggedright {_tex(value)}\par}}" if i in broken and value.shown else _tex(value)
            for i, value in enumerate(row)) + r" \\")
        if row[0].sub:
            lines.append(rf"\multicolumn{{{len(sheet.heads)}}}{{l}}{{\quad\tiny "
                         rf"{text.latex(row[0].sub)}}} \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    if sheet.notes:
        lines += [r"\par\smallskip", r"\begin{minipage}{\linewidth}\scriptsize\raggedright",
                  *(rf"\textsuperscript{{{mark}}}~{text.latex(said)}\par"
                    for mark, said in sheet.notes.items()), r"\end{minipage}"]
    return "\n".join([*lines, r"\end{table}", ""])


def _layout(sheet: Sheet) -> tuple[str, int, str, list[int]]:
    r"""Return the letters' size, the gap between columns, their kinds, and which have broken lines.

    A table wider than a page is set smaller; if that is not enough, its widest columns of words
    get broken lines. Widths are estimates by the number of letters.
    """
    widths = [max(len(head.title), *(len(row[i].shown) + 0.7 * len(",".join(row[i].marks))
                                     for row in sheet.rows)) if sheet.rows else len(head.title)
              for i, head in enumerate(sheet.heads)]
    size, gap, letter = r"\scriptsize", 4, LETTER[0]
    if sum(widths) * letter + 2 * gap * len(widths) > PAGE:
        size, gap, letter = r"\tiny", 2, LETTER[1]
    broken: set[int] = set()
    while sum(widths) * letter + 2 * gap * len(widths) > PAGE:
        wide = [i for i, head in enumerate(sheet.heads) if head.left and widths[i] > NARROW]
        if not wide:
            break
        one = max(wide, key=lambda i: widths[i])
        broken.add(one)
        widths[one] -= 1
    columns = "".join(f"p{{{widths[i] * letter:.0f}pt}}" if i in broken else
                      "l" if head.left else "r" for i, head in enumerate(sheet.heads))
    return size, gap, columns, sorted(broken)


def _latex_groups(sheet: Sheet) -> list[str]:
    cells, rules, start = [], [], 1
    for title, width in sheet.groups():
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
