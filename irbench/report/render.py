"""Print tables as Markdown, LaTeX (booktabs alone) and tidy CSV.

A file holds all tables of its stem. Everything that a user can write (titles, reasons, dataset
names) is escaped for the format it goes to.
"""

from __future__ import annotations

import csv
import io

from tabulate import tabulate

from irbench import published
from irbench.report import text
from irbench.report.collect import Run
from irbench.report.tables import PUBLISHED_RULE, Entry, Row, Table
from irbench.report.verdict import Verdict

CSV = ("task", "version", "protocol", "level", "dataset", "block", "method", "model", "metric",
       "unit", "value", "shown", "rank", "parameters", "weights", "status", "reason", "source",
       "notes")
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
    """Return a Markdown document (pipe tables; superscripts and line breaks as HTML)."""
    return "\n\n".join(_markdown(table) for table in tables) + "\n"


def _markdown(table: Table) -> str:
    levels = len({column.level for column in table.columns}) > 1
    heads = ["Method", "Parameters"]
    for column in table.columns:
        parts = [text.level_label(column.level)] if levels else []
        parts += [column.title, text.metric_label(column.metric)]
        heads.append("<br>".join(text.markdown(part) for part in parts))
    lines = [_md_row(row) for row in table.measured]
    if table.published:
        lines.append([f"*{PUBLISHED_RULE}*"] + [""] * (len(heads) - 1))
        lines += [_md_row(row) for row in table.published]
    body = tabulate(lines, heads, tablefmt="pipe", disable_numparse=True,
                    colalign=["left"] + ["right"] * (len(heads) - 1))
    parts = [f"### {text.markdown(table.title)}", body, text.markdown(table.caption)]
    if table.notes:
        parts.append("\n".join(f"- <sup>{mark}</sup> {text.markdown(note)}"
                               for mark, note in table.notes.items()))
    parts.append("\n".join(f"- `{name}`: {text.markdown(said)}"
                           for name, said in table.protocols.items()))
    return "\n\n".join(parts)


def _md_row(row: Row) -> list[str]:
    name = text.markdown(row.name) + _md_marks(row.marks)
    if row.sub:
        name += f"<br>{text.markdown(row.sub)}"
    return [name, *(_md_entry(entry) for entry in (row.parameters, *row.entries))]


def _md_entry(entry: Entry) -> str:
    around = {"best": "**{}**", "second": "<u>{}</u>"}.get(entry.rank, "{}")
    return around.format(text.markdown(entry.shown)) + _md_marks(entry.marks)


def _md_marks(marks: list[str]) -> str:
    return f"<sup>{','.join(marks)}</sup>" if marks else ""


# -- LaTeX ---------------------------------------------------------------------------------------

def latex(tables: list[Table]) -> str:
    r"""Return table environments; the document needs ``\usepackage{booktabs}`` only."""
    head = "% needs \\usepackage{booktabs}; wide tables may want \\begin{table*}\n"
    return head + "\n".join(_latex(table) for table in tables)


def _latex(table: Table) -> str:
    width = len(table.columns) + 2
    lines = [r"\begin{table}[t]", r"\centering", r"\scriptsize", r"\setlength{\tabcolsep}{4pt}",
             rf"\caption{{{text.latex(table.caption)}}}",
             rf"\label{{tab:{table.anchor.replace('_', '-')}}}",
             rf"\begin{{tabular}}{{lr{'r' * len(table.columns)}}}", r"\toprule"]
    if len({column.level for column in table.columns}) > 1:
        lines += _latex_group([(text.level_label(c.level), n)
                               for c, n in table.groups("protocol")])
    lines += _latex_group([(c.title, n) for c, n in table.groups("protocol", "dataset")])
    lines.append(" & ".join(["Method", "Parameters", *(
        text.latex(text.metric_label(c.metric)) for c in table.columns)]) + r" \\")
    lines.append(r"\midrule")
    for row in table.measured:
        lines += _latex_row(row, width)
    if table.published:
        lines += [r"\midrule", rf"\multicolumn{{{width}}}{{l}}{{\emph{{{PUBLISHED_RULE}}}}} \\",
                  r"\midrule"]
        for row in table.published:
            lines += _latex_row(row, width)
    lines += [r"\bottomrule", r"\end{tabular}", r"\par\smallskip",
              r"\begin{minipage}{\linewidth}\scriptsize\raggedright"]
    lines += [rf"\textsuperscript{{{mark}}}~{text.latex(note)}\par"
              for mark, note in table.notes.items()]
    lines += [rf"\texttt{{{text.latex(name)}}}: {text.latex(said)}\par"
              for name, said in table.protocols.items()]
    return "\n".join([*lines, r"\end{minipage}", r"\end{table}", ""])


def _latex_group(groups: list[tuple[str, int]]) -> list[str]:
    cells, rules, start = ["", ""], [], 3
    for title, width in groups:
        cells.append(rf"\multicolumn{{{width}}}{{c}}{{{text.latex(title)}}}")
        rules.append(rf"\cmidrule(lr){{{start}-{start + width - 1}}}")
        start += width
    return [" & ".join(cells) + r" \\", " ".join(rules)]


def _latex_row(row: Row, width: int) -> list[str]:
    # a row must not begin with a bracket or a star, which \\ would take as its own argument;
    # text.latex wraps brackets, and an empty group stops the star
    name = "{}" * row.name.startswith("*") + text.latex(row.name) + _latex_marks(row.marks)
    lines = [" & ".join([name, *map(_latex_entry, (row.parameters, *row.entries))]) + r" \\"]
    if row.sub:
        lines.append(rf"\multicolumn{{{width}}}{{l}}{{\quad\tiny {text.latex(row.sub)}}} \\")
    return lines


def _latex_entry(entry: Entry) -> str:
    around = {"best": r"\textbf{%s}", "second": r"\underline{%s}"}.get(entry.rank, "%s")
    return around % text.latex(entry.shown) + _latex_marks(entry.marks)


def _latex_marks(marks: list[str]) -> str:
    return rf"\textsuperscript{{{','.join(marks)}}}" if marks else ""


# -- CSV -----------------------------------------------------------------------------------------

def tidy(tables: list[Table]) -> str:
    """Return one line per figure: ``value`` unrounded or as printed, ``shown`` as in the table."""
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


def _line(table: Table, block: str, row: Row, column, entry: Entry) -> list:
    notes = " | ".join(table.notes[mark] for mark in (
        row.marks if entry.reason else [*row.marks, *entry.marks]))
    # a published figure does not claim to follow our protocol to the letter
    protocol = column.protocol if block == "measured" else ""
    return [table.task, table.version, protocol, column.level, column.dataset, block,
            row.name, row.key if block == "measured" else "", column.metric,
            text.METRICS[column.metric][1], entry.exact,
            entry.shown if entry.exact else "", entry.rank,
            row.parameters.shown if row.parameters.exact else "",
            row.sub, entry.status, entry.reason, row.source, notes]


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
    lines = [r"% needs \usepackage{booktabs}", r"\begin{table}[t]", r"\centering", r"\scriptsize",
             r"\setlength{\tabcolsep}{4pt}",
             rf"\caption{{{text.latex(VERDICTS_TITLE)}. {text.latex(VERDICTS_CAPTION)}}}",
             r"\label{tab:verdicts}", r"\begin{tabular}{llllrrrrl}", r"\toprule",
             " & ".join(VERDICTS[:-1]) + r" \\", r"\midrule"]
    for one in found:
        cells = [text.latex(cell) for cell in verdict_row(run, one)[:-1]]
        # a title in brackets or with a star must not become an argument of the row before
        lines.append(" & ".join(["{}" + cells[0], *cells[1:]])
                     + rf"\textsuperscript{{{reasons[one.reason]}}} \\")
    lines += [r"\bottomrule", r"\end{tabular}", r"\par\smallskip",
              r"\begin{minipage}{\linewidth}\scriptsize\raggedright",
              *(rf"\textsuperscript{{{mark}}}~{text.latex(reason)}\par"
                for reason, mark in reasons.items()), r"\end{minipage}", r"\end{table}", ""]
    return "\n".join(lines)


def verdicts_tidy(run: Run, found: list[Verdict]) -> str:
    """Return one line per verdict; numbers unrounded, the published one as printed."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(VERDICTS_CSV)
    for one in found:
        compared = one.tolerance is not None
        writer.writerow([
            one.cell.protocol, one.cell.task, one.cell.level, one.cell.dataset, one.cell.model,
            one.figure.method, one.figure.source, one.metric, text.METRICS[one.metric][1],
            repr(one.measured), published.leading_zero(one.figure.text),
            f"{one.difference:.6f}" if compared else "",
            f"{one.tolerance:.6f}" if compared else "", one.said, one.reason])
    return out.getvalue()
