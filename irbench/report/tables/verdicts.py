"""The verdict table: each measured value beside the one published for the same method.

Reads nothing but the collected run; the table goes to ``tables/verdicts.{md,tex,csv}``. See
``facts.verdict`` for the meaning of a verdict.
"""

from __future__ import annotations

from irbench.core import metrics
from irbench.present import text
from irbench.present.latex import to_latex
from irbench.present.markdown import to_markdown
from irbench.present.table import Column, Row, Table, Value
from irbench.present.tidy import to_csv
from irbench.report.facts import family
from irbench.report.facts.verdict import Verdict
from irbench.report.run import Run

STEM = "verdicts"
FIELDS = ("protocol", "task", "level", "dataset", "model", "method", "source", "metric", "unit",
          "measured", "spread", "seeds", "published", "difference", "tolerance", "verdict",
          "reason")


def texts(run: Run, found: list[Verdict]) -> dict[str, str]:
    """Return suffix -> text of the table. In LaTeX the reasons are notes, because they are long."""
    table = build(run, found)
    return {"md": to_markdown(table), "tex": to_latex([build(run, found, noted=True)]),
            "csv": to_csv(table)}


def build(run: Run, found: list[Verdict], noted: bool = False) -> Table:
    """Return the table, one row per verdict; ``noted``: the reasons are notes, not a column."""
    made = Table(STEM, "Measured against published values", [Column("Protocol", left=True)], [
        Column("Dataset", left=True), Column("Model", left=True), Column("Metric", left=True),
        Column("Measured"), Column("Published"), Column("Difference"), Column("Tolerance"),
        Column("Verdict", left=True), *([] if noted else [Column("Reason", left=True)])], FIELDS)
    made.sentences = ["Difference: measured minus published, for the same method on the same set. "
                      "Tolerance: the largest difference that this verdict allows or, for "
                      "\"differs\", the limit that was exceeded."]
    if any(one.cell.spread for one in found):
        made.sentences.append("±: sample standard deviation over the seeds of a training, of which "
                              "the measured value is the mean.")
    for reason in dict.fromkeys(one.reason for one in found) if noted else ():
        made.notes[str(len(made.notes) + 1)] = reason
    marks = {reason: mark for mark, reason in made.notes.items()}
    for one in found:
        shown = Value(one.as_shown, [marks[one.reason]] if noted else [])
        made.blocks[0].rows.append(_row(run, one, shown, not noted))
        made.lines.append(_line(one))
    return made


def _row(run: Run, one: Verdict, shown: Value, reasoned: bool) -> Row:
    metric, compared = one.metric, one.tolerance is not None
    known = metrics.get(metric)
    return Row([Value(one.cell.protocol)], [
        Value(run.dataset_title(one.cell.dataset)), Value(run.model_title(one.cell.model)),
        Value(text.metric_label(metric, arrow=False)),
        Value(text.value(metric, one.measured), exact=repr(one.measured), record=one.cell.path,
              spread=family.spread(one.cell, metric), seeds=len(one.cell.of(metric))),
        Value(one.figure.shown, exact=one.figure.text),
        Value(text.difference(metric, one.difference) if compared else text.NONE),
        Value(f"±{one.tolerance:.{known.exact_decimals}f}" if compared else text.NONE),
        shown, *([Value(one.reason)] if reasoned else [])])


def _line(one: Verdict) -> list:
    compared = one.tolerance is not None
    return [one.cell.protocol, one.cell.task, one.cell.level, one.cell.dataset, one.cell.model,
            one.figure.method, one.figure.source, one.metric,
            metrics.get(one.metric).unit or text.UNITLESS, one.measured,
            one.cell.spread.get(one.metric), len(one.cell.of(one.metric)),
            metrics.leading_zero(one.figure.text), f"{one.difference:.6f}" if compared else None,
            f"{one.tolerance:.6f}" if compared else None, one.as_shown, one.reason]
