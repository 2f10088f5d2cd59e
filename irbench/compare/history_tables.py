"""The history of runs as tables: for a terminal, as Markdown, CSV (tidy) and JSON.

Pure functions of a history, no files. Unknown values are ``n/a``. The line of a value holds its
unit, and its key begins with the protocol. The same history gives the same text.

Try: ``irbench history results --format markdown``
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator

from irbench.compare.history import PROFILED, History, Series, SeriesPoint, quantity
from irbench.compare.steps import Step
from irbench.core import metrics
from irbench.core.forms import shown
from irbench.present import text
from irbench.present.markdown import PAGE, pipes
from irbench.present.plain import to_text
from irbench.present.table import Column, Table, Value
from irbench.present.tidy import to_csv

ROOM = 2                        # spaces that a column is wider than its title, for a terminal
FIELDS = ("run", "time", "commit", "key", "protocol", "dataset", "model", "metric", "unit",
           "condition", "value", "q1", "q3", "step", "verdict", "busy_elsewhere_cores")


def metric_label(metric: str) -> str:
    """Return a metric's name with its unit: ``PSNR (dB)``."""
    known = quantity(metric)
    return known.title + (f" ({known.unit})" if known.unit else "")


def value(metric: str, number: float) -> str:
    """Return a value as printed, without its unit: counts whole, latency with three digits."""
    if metric not in PROFILED:
        return text.value(metric, number)
    return (text.milliseconds(number).removesuffix(" ms") if metric == "latency"
            else f"{number:,.0f}")


def point(metric: str, one: SeriesPoint) -> str:
    """Return a point's value as printed, with a mark if other work disturbed it."""
    return value(metric, one.value) + f" {text.DISTURBED}" * bool(one.busy)


def difference(metric: str, before: float, after: float) -> str:
    """Return a signed change in the unit of the metric; for latency and counts also in per cent."""
    if metric not in PROFILED:
        return text.difference(metric, after - before)
    if after == before:
        return "0"
    small = metric == "latency" and abs(after - before) < 100
    number = f"{after - before:+{'.3g' if small else ',.0f'}}"
    if not before:
        return number
    share = 100 * (after - before) / before
    return f"{number} ({share:+{'.1f' if abs(share) >= 1 else '.2g'}} %)"


def when(time: datetime.datetime) -> str:
    """Return a time as ``2026-11-21 10:31 UTC``."""
    return f"{time:%Y-%m-%d %H:%M} UTC"


def conditions(history: History) -> dict[str, str]:
    """Return condition -> its mark in the table (``a``, ``b``, ...), in order of appearance."""
    found = dict.fromkeys(one.condition for one in history.series if one.condition)
    return {condition: _letters(index) for index, condition in enumerate(found)}


def _letters(index: int) -> str:
    return (_letters(index // 26 - 1) if index >= 26 else "") + chr(ord("a") + index % 26)


def step(series: Series, found: Step) -> str:
    """Describe a step: where it is, its size, its direction and which inputs changed there."""
    here = series.points[found.at]
    commit = f" ({here.commit})" if here.commit else ""
    unit = quantity(series.metric).unit
    unit = f" {unit}" if unit and unit != "count" else ""
    causes = ", ".join(series.causes(found))
    return (f"{here.run}{commit}: {_sized(series.metric, found, unit)}, {series.word(found)}"
            + (f"; changed there: {causes}" if causes else ""))


def _sized(metric: str, found: Step, unit: str) -> str:
    shown = difference(metric, found.before, found.after)
    number, _, share = shown.partition(" (")
    return number + unit + (f" ({share}" if share else "")


def listed(history: History) -> Table:
    """Return the table of the runs, in order of time."""
    made = Table("runs", "Runs", [Column("")], [
        Column(title, left=True) for title in ("run", "latest record", "commit")])
    for number, run in enumerate(history.runs, 1):
        made.add([Value(str(number)), Value(run.name), Value(when(run.time)),
                  Value(run.commit or text.NA)])
    return made


def table(history: History) -> Table:
    """Return the table of the series, and as CSV one line per run, key and metric.

    In the CSV, ``step`` is filled where a new level begins. Values are written in full; q1 and q3
    are the quartiles of the latency samples, and busy_elsewhere_cores is filled where other work
    disturbed them.
    """
    made = Table("history", "History", [Column("key", left=True)], [
        Column("metric", left=True), Column("runs"), Column("first"), Column("last"),
        Column("change"), Column("steps", left=True)], FIELDS)
    marks = conditions(history)
    for one in history.series:
        first, last = one.points[0], one.points[-1]
        mark = f" [{marks[one.condition]}]" if one.condition else ""
        top, *more = [step(one, found) for found in one.steps] or [text.NONE]
        made.add([Value(one.key), Value(metric_label(one.metric) + mark),
                  Value(str(len(one.points))), Value(point(one.metric, first)),
                  Value(point(one.metric, last)), Value(
                      text.NA if one.change is None
                      else difference(one.metric, first.value, last.value)),
                  Value(top, lines=tuple(more))])
        made.lines += _lines(one)
    return made


def _lines(one: Series) -> Iterator[list]:
    found = {step.at: step for step in one.steps}
    for index, each in enumerate(one.points):
        here = found.get(index)
        yield [each.run, each.time.isoformat(), each.commit, one.key, one.protocol,
               one.dataset, one.model, one.metric, quantity(one.metric).unit, one.condition,
               *map(_plain, (each.value, each.low, each.high, here and here.size)),
               one.word(here) if here else None, _plain(each.busy or None)]


def _plain(number: float | None) -> str | None:
    return None if number is None else f"{number:.10g}"


def _floors(history: History) -> str:
    """Return the noise of each metric that runs have by default or that this history has."""
    shown = metrics.ordered({*metrics.default(), *(one.metric for one in history.series)})
    return ", ".join(" ".join(filter(None, (
        one.title, f"{one.noise:.9f}".rstrip("0").rstrip("."), one.unit)))
        for one in map(metrics.get, shown))


def notes(history: History) -> list[str]:
    """Return the notes of the table: conditions, how steps are found, what was skipped."""
    sentences = [f"[{mark}] {condition}" for condition, mark in conditions(history).items()]
    sentences.append(
        "A step is a change of level beyond the noise of the series and of the machine "
        f"({_floors(history)}, latency {100 * PROFILED['latency'].floor:g} % or the "
        "standard error of its medians). Parameters and MACs have no noise. With fewer than 5 "
        "runs, the noise of the machine is used.")
    busy: dict[str, float] = {}
    for each in (each for one in history.series for each in one.points if each.busy):
        busy[each.run] = max(each.busy, busy.get(each.run, 0.0))
    if busy:
        sentences.append(
            "Other processes kept cores busy while these latencies were measured, so they are not "
            f"compared (marked {text.DISTURBED!r}): "
            f"{', '.join(f'{run} ({cores:.1f} cores)' for run, cores in busy.items())}.")
    sentences += [f"Skipped: {name}: {reason}" for name, reason in history.skipped]
    return sentences


def terminal(history: History) -> str:
    """Return the runs, the table and the notes for a terminal."""
    return "\n".join([to_text(listed(history), ROOM), "", to_text(table(history), ROOM), "",
                      *map(shown, notes(history))])


def markdown(history: History) -> str:
    """Return runs, table and notes as Markdown, for a page or a pull request."""
    return "\n".join([pipes(listed(history), PAGE), "", pipes(table(history), PAGE), "",
                      *(f"- {text.markdown(note)}" for note in notes(history)), ""])


def tidy(history: History) -> str:
    """Return the table as CSV."""
    return to_csv(table(history))


def document(history: History) -> dict:
    """Return everything as one value for JSON; unknown is null."""
    return {
        "folder": str(history.folder),
        "runs": [{"run": run.name, "time": run.time.isoformat(), "commit": run.commit or None}
                 for run in history.runs],
        "skipped": [{"name": name, "reason": reason} for name, reason in history.skipped],
        "series": [_series(one) for one in history.series]}


def _series(one: Series) -> dict:
    return {
        "key": one.key, "protocol": one.protocol, "dataset": one.dataset or None,
        "model": one.model, "metric": one.metric, "unit": quantity(one.metric).unit or None,
        "condition": one.condition or None, "change": one.change,
        "points": [{"run": p.run, "time": p.time.isoformat(), "commit": p.commit or None,
                    "value": p.value, "q1": p.low, "q3": p.high, "busy_elsewhere": p.busy or None}
                   for p in one.points],
        "steps": [{"run": one.points[s.at].run, "commit": one.points[s.at].commit or None,
                   "before": s.before, "after": s.after, "change": s.size, "verdict": one.word(s),
                   "inputs": one.causes(s)} for s in one.steps]}
