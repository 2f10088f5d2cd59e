"""Print tables as Markdown, LaTeX (booktabs alone) and tidy CSV.

A file holds all tables of its stem. Everything that a user can write (titles, reasons, dataset
names) is escaped for the format it goes to.
"""

from __future__ import annotations

import csv
import io
from dataclasses import replace

from tabulate import tabulate

from irbench.catalog import published
from irbench.present import fitting, text
from irbench.report.collect import Run
from irbench.report.facts.verdict import Verdict
from irbench.report.tables import sheet
from irbench.report.tables.table import Column, Entry, Row, Table
from irbench.report.tables.tables import PUBLISHED_RULE

CSV = ("task", "version", "protocol", "level", "dataset", "block", "method", "model", "metric",
       "unit", "value", "shown", "rank", "place", "difference", "against", "parameters", "weights",
       "status", "reason", "source", "record", "notes")
PRINTED_PROTOCOL = "the source's own"
PAGE = 45                       # rows of a LaTeX table that a page has room for, notes beside
VERDICTS = ("Protocol", "Dataset", "Model", "Metric", "Measured", "Published", "Difference",
            "Tolerance", "Verdict", "Reason")
VERDICTS_CSV = ("protocol", "task", "level", "dataset", "model", "method", "source", "metric",
                "unit", "measured", "published", "difference", "tolerance", "verdict", "reason")
VERDICTS_TITLE = "Measured against published figures"
VERDICTS_CAPTION = ("Difference: measured minus published, of the same method on the same set. "
                    "Tolerance: the largest difference that gets the verdict, or that would "
                    "have been allowed.")


# -- Markdown ------------------------------------------------------------------------------------

def markdown(tables: list[Table]) -> str:
    """Return a Markdown document (pipe tables; superscripts and line breaks as HTML).

    The tables of one stem: the blocks of one table, printed below each other.
    """
    whole, parts = joined(tables)
    heads = ["Method", "Parameters"]
    labels = [[label for label, width in row for _ in range(width)] for row in whole.headings()]
    heads += ["<br>".join(map(text.markdown, column)) for column in zip(*labels, strict=True)]
    lines = []
    for part in parts:
        if part.block:
            lines.append([f"**{text.markdown(part.block)}**"] + [""] * (len(heads) - 1))
        lines += [_md_row(row, whole.differences) for row in part.measured]
        if part.published:
            lines.append([f"*{PUBLISHED_RULE}*"] + [""] * (len(heads) - 1))
            lines += [_md_row(row, False) for row in part.published]
    body = tabulate(lines, heads, tablefmt="pipe", disable_numparse=True,
                    colalign=["left"] + ["right"] * (len(heads) - 1))
    said = [f"### {text.markdown(whole.title)}", body, text.markdown(whole.coverage),
            text.markdown(whole.caption)]
    if whole.notes:
        said.append("\n".join(f"- <sup>{mark}</sup> {text.markdown(note)}"
                              for mark, note in whole.notes.items()))
    said.append("\n".join(f"- `{name}`: {text.markdown(what)}"
                          for name, what in whole.protocols.items()))
    return "\n\n".join(said) + "\n"


def joined(tables: list[Table]) -> tuple[Table, list[Table]]:
    """Return what the blocks of one stem have in common, and the blocks with common footnotes."""
    first = tables[0]
    if len(tables) == 1:
        return first, tables
    whole = replace(first, title=first.whole, anchor=first.stem.replace("@", "-v"), notes={},
                    protocols={}, measured=[], published=[],
                    said=list(dict.fromkeys(one for table in tables for one in table.said)),
                    cells=[status for table in tables for status in table.cells])
    parts = []
    for table in tables:
        marks = {mark: whole.note(said) for mark, said in table.notes.items()}
        whole.protocols |= table.protocols
        parts.append(replace(table, notes=whole.notes,
                             measured=[_remarked(row, marks) for row in table.measured],
                             published=[_remarked(row, marks) for row in table.published]))
    return whole, parts


def _remarked(row: Row, marks: dict[str, str]) -> Row:
    """Return a row with other footnote letters."""
    parameters, *entries = (replace(entry, marks=[marks[mark] for mark in entry.marks])
                            for entry in (row.parameters, *row.entries))
    return replace(row, parameters=parameters, entries=entries,
                   marks=[marks[mark] for mark in row.marks])


def _md_row(row: Row, differences: bool) -> list[str]:
    name = text.markdown(row.name) + _md_marks(row.marks)
    if row.sub:
        name += f"<br>{text.markdown(row.sub)}"
    return [name, *(_md_entry(entry, differences) for entry in (row.parameters, *row.entries))]


def _md_entry(entry: Entry, differences: bool) -> str:
    around = {"best": "**{}**", "second": "<u>{}</u>"}.get(entry.rank, "{}")
    apart = f" ({entry.difference})" if differences and entry.difference else ""
    return around.format(text.markdown(entry.shown)) + apart + _md_marks(entry.marks)


def _md_marks(marks: list[str]) -> str:
    return f"<sup>{','.join(marks)}</sup>" if marks else ""


# -- LaTeX ---------------------------------------------------------------------------------------

def latex(tables: list[Table]) -> str:
    r"""Return table environments; the document needs ``\usepackage{booktabs}`` only.

    The blocks of one stem are one table, or one each where that would be longer than a page.
    """
    head = "% needs \\usepackage{booktabs}\n"
    whole, parts = joined(tables)
    if sum(_lines(part) for part in parts) <= PAGE:
        return head + _latex(whole, parts)
    return head + "\n".join(_latex(table, [replace(table, block="")]) for table in tables)


def _lines(table: Table) -> int:
    return sum(1 + bool(row.sub) for row in table.measured + table.published)


def _latex(whole: Table, parts: list[Table]) -> str:
    tabulars = [_tabular(whole, [_of_columns(part, columns) for part in parts],
                         _of_columns(whole, columns), layout)
                for columns, layout in _shares(whole, parts)]
    notes = [text.latex(whole.coverage),
             *(rf"\textsuperscript{{{mark}}}~{text.latex(note)}"
               for mark, note in whole.notes.items()),
             *(rf"\texttt{{{text.latex(name)}}}: {text.latex(said)}"
               for name, said in whole.protocols.items())]
    return "\n".join(fitting.pages(text.latex(whole.title), text.latex(whole.caption),
                                   whole.anchor.replace("_", "-"), tabulars, notes))


def _shares(whole: Table, parts: list[Table]) -> list[tuple[list[int], fitting.Layout]]:
    """Return which figures each tabular has, so that none is wider than a page, and how it is set.

    Each has the methods' names and parameters; the figures of one set, or one level, stay together.
    """
    rows = [row for part in parts for row in part.measured + part.published]
    *groups, last = whole.headings()
    widths = [max([len("Method"), *(fitting.letters(row.name, row.marks) for row in rows)]),
              max([len("Parameters"), *(fitting.letters(row.parameters.shown, row.parameters.marks)
                                        for row in rows)])]
    widths += [max([len(label), *(fitting.letters(_plain(row.entries[i], whole.differences),
                                                  row.entries[i].marks) for row in rows)])
               for i, label in enumerate(label for label, width in last for _ in range(width))]
    left = [True] + [False] * (len(widths) - 1)
    spans = [width for _, width in (groups[0] if groups else last)]
    return [([i - 2 for i in part[2:]], fitting.layout([widths[i] for i in part],
                                                       [left[i] for i in part]))
            for part in fitting.parts(widths, left, 2, spans)]


def _plain(entry: Entry, differences: bool) -> str:
    return entry.shown + (f" ({entry.difference})" if differences and entry.difference else "")


def _of_columns(table: Table, columns: list[int]) -> Table:
    """Return a table with some of its figures."""
    return replace(table, columns=[table.columns[i] for i in columns], **{
        name: [replace(row, entries=[row.entries[i] for i in columns])
               for row in getattr(table, name)] for name in ("measured", "published")})


def _tabular(full: Table, parts: list[Table], whole: Table, layout: fitting.Layout) -> list[str]:
    width = len(whole.columns) + 2
    lines = [*layout.commands, rf"\begin{{tabular}}{{{layout.kinds}}}", r"\toprule"]
    *groups, last = whole.headings(full.depths())
    for group in groups:
        lines += _latex_group(group)
    lines.append(" & ".join(["Method", "Parameters", *(
        text.latex(label) for label, _ in last)]) + r" \\")
    for part in parts:
        lines.append(r"\midrule")
        if part.block:
            lines += [_latex_rule(rf"\textbf{{{text.latex(part.block)}}}", width), r"\midrule"]
        for row in part.measured:
            lines += _latex_row(row, width, full.differences, bool(layout.broken))
        if part.published:
            lines += [r"\midrule", _latex_rule(rf"\emph{{{PUBLISHED_RULE}}}", width), r"\midrule"]
            for row in part.published:
                lines += _latex_row(row, width, False, bool(layout.broken))
    return [*lines, r"\bottomrule", r"\end{tabular}"]


def _latex_rule(said: str, width: int) -> str:
    return rf"\multicolumn{{{width}}}{{l}}{{{said}}} \\"


def _latex_group(groups: list[tuple[str, int]]) -> list[str]:
    cells, rules, start = ["", ""], [], 3
    for title, width in groups:
        cells.append(rf"\multicolumn{{{width}}}{{c}}{{{text.latex(title)}}}")
        rules.append(rf"\cmidrule(lr){{{start}-{start + width - 1}}}")
        start += width
    return [" & ".join(cells) + r" \\", " ".join(rules)]


def _latex_row(row: Row, width: int, differences: bool, broken: bool) -> list[str]:
    # a row must not begin with a bracket or a star, which \\ would take as its own argument;
    # text.latex wraps brackets, and an empty group stops the star
    name = "{}" * row.name.startswith("*") + text.latex(row.name) + _latex_marks(row.marks)
    if broken:
        name = rf"{{\raggedright {name}\par}}"
    lines = [" & ".join([name, *(_latex_entry(entry, differences) for entry in (
        row.parameters, *row.entries))]) + r" \\"]
    if row.sub:
        lines.append(_latex_rule(rf"\quad\tiny {text.latex(row.sub)}", width))
    return lines


def _latex_entry(entry: Entry, differences: bool) -> str:
    around = {"best": r"\textbf{%s}", "second": r"\underline{%s}"}.get(entry.rank, "%s")
    apart = (f" ({entry.difference.replace('-', '$-$')})" if differences and entry.difference
             else "")
    return around % text.latex(entry.shown) + apart + _latex_marks(entry.marks)


def _latex_marks(marks: list[str]) -> str:
    return rf"\textsuperscript{{{','.join(marks)}}}" if marks else ""


# -- CSV -----------------------------------------------------------------------------------------

def tidy(tables: list[Table]) -> str:
    """Return one line per figure: ``value`` unrounded or as printed, ``shown`` as in the table.

    ``difference`` is measured - printed, unrounded, to the figure that ``against`` names.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV)
    for table in tables:
        for block, rows in (("measured", table.measured), ("published", table.published)):
            for row in rows:
                for column, entry in zip(table.columns, row.entries, strict=True):
                    if entry.status:
                        writer.writerow(_line(table, block, row, column, entry))
    return out.getvalue()


def _line(table: Table, block: str, row: Row, column: Column, entry: Entry) -> list:
    notes = " | ".join(table.notes[mark] for mark in (
        row.marks if entry.reason else [*row.marks, *entry.marks]))
    # a published figure does not claim to follow our protocol to the letter
    protocol = column.protocol if block == "measured" else PRINTED_PROTOCOL
    return [column.task, table.version, protocol, column.level, column.dataset, block,
            row.name, row.key if block == "measured" else "", column.metric,
            text.METRICS[column.metric][1] or text.UNITLESS, entry.exact,
            entry.shown if entry.exact else "", entry.rank, entry.place or "",
            "" if entry.apart is None else f"{entry.apart:.6f}", entry.against,
            row.parameters.shown if row.parameters.exact else "",
            row.sub, entry.status, entry.reason, row.source, entry.record, notes]


# -- verdicts ------------------------------------------------------------------------------------

def verdict_row(run: Run, found: Verdict) -> list[str]:
    """Return the texts of one verdict, in the order of ``VERDICTS``."""
    metric = found.metric
    compared = found.tolerance is not None
    return [
        found.cell.protocol, run.dataset_title(found.cell.dataset),
        run.model_title(found.cell.model), text.metric_label(metric, arrow=False),
        text.value(metric, found.measured), found.figure.shown,
        text.difference(metric, found.difference) if compared else text.NONE,
        f"±{found.tolerance:.{3 if metric == 'psnr' else 5}f}" if compared else text.NONE,
        found.said, found.reason]


def verdict_reasons(found: list[Verdict]) -> dict[str, str]:
    """Return the reasons and the numbers that stand for them in a table."""
    return {reason: str(i) for i, reason in
            enumerate(dict.fromkeys(one.reason for one in found), start=1)}


def verdicts_markdown(run: Run, found: list[Verdict]) -> str:
    """Return the verdicts as a Markdown document."""
    rows = [[text.markdown(cell) for cell in verdict_row(run, one)] for one in found]
    body = tabulate(rows, VERDICTS, tablefmt="pipe", disable_numparse=True,
                    colalign=["left"] * 4 + ["right"] * 4 + ["left"] * 2)
    return f"### {VERDICTS_TITLE}\n\n{body}\n\n{VERDICTS_CAPTION}\n"


def verdicts_latex(run: Run, found: list[Verdict]) -> str:
    r"""Return the verdicts as a table environment (booktabs), reasons as notes below it."""
    reasons = verdict_reasons(found)
    made = sheet.Sheet("verdicts", VERDICTS_TITLE, [
        sheet.Head(title, left=not 4 <= i < 8) for i, title in enumerate(VERDICTS[:-1])], (),
        notes={mark: reason for reason, mark in reasons.items()}, caption=VERDICTS_CAPTION)
    for one in found:
        *cells, said, _ = verdict_row(run, one)
        made.rows.append([*map(sheet.Value, cells), sheet.Value(said, [reasons[one.reason]])])
    return sheet.latex(made)


def verdicts_tidy(run: Run, found: list[Verdict]) -> str:
    """Return one line per verdict; numbers unrounded, the published one as printed."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(VERDICTS_CSV)
    for one in found:
        compared = one.tolerance is not None
        writer.writerow([
            one.cell.protocol, one.cell.task, one.cell.level, one.cell.dataset, one.cell.model,
            one.figure.method, one.figure.source, one.metric,
            text.METRICS[one.metric][1] or text.UNITLESS,
            repr(one.measured), published.leading_zero(one.figure.text),
            f"{one.difference:.6f}" if compared else "",
            f"{one.tolerance:.6f}" if compared else "", one.said, one.reason])
    return out.getvalue()
