"""Ranks of the rows of a column, and which rows are significantly better.

Ranks follow the printed means, as in papers: the best is bold, the second underlined, equal values
share a rank. Whether the difference is real is said apart, by the place of a measured row: 1 + the
number of rows that are significantly better. A row of place 1 that is not the best is marked as not
separable (``Value.close``).

A row is significantly better if its mean as printed is better (``Metric.direction``) and the
differences over the images are real (``statistics.paired_p``). All such comparisons of a table, in
all its columns and blocks, are one family: their p are corrected by Holm's method, and the caption
states their number.

Such a test gives no total order: A may be better than C while B differs significantly from neither.
Then A and B have place 1 and C has place 2. The best mean always has place 1. If two rows of place
1 are both better than a third, the third has place 3.

For published rows only the means are known, and place and rank are the same. Reads and writes
nothing.

Try: ``python -c "from irbench.report.facts.ranking import places; print(places([[1], [3]]))"``
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from irbench.core import metrics, statistics
from irbench.present import text
from irbench.present.table import BEST, CLOSE, SECOND, Column, Row, Table, Value
from irbench.report.run import Cell

RANKS = {1: BEST, 2: SECOND}


@dataclass
class _Ranked:
    """The rows of one column that are compared: the number of rows, and who is better by what p.

    ``tested``: (the better row, the other row, p before the correction).
    """

    rows: int
    tested: list[tuple[int, int, float]] = field(default_factory=list)

    def places(self, ps: Iterable[float]) -> list[int]:
        """Return the place of each row; ``ps``: the corrected p of each comparison."""
        better = [0] * self.rows
        for (_, other, _), p in zip(self.tested, ps, strict=True):
            better[other] += p < statistics.LEVEL
        return [1 + count for count in better]


def measured(parts: Iterable[tuple[Sequence[Row], Sequence[Column]]],
             cells: Mapping[tuple[str, str, str], Cell]) -> int:
    """Set ranks and places of measured rows by column; return the number of comparisons.

    Args:
        parts: the rows and columns of each block of a table; entries without a ``number`` are not
            ranked.
        cells: (protocol, dataset, model) -> the cell with its scores per image.
    """
    found, ranked_entries = [], []
    for rows, columns in parts:
        for index, column in enumerate(columns):
            ranked = [row for row in rows if row.entries[index].number is not None]
            scores = [cells[column.protocol, column.dataset, row.key].scores(column.metric)
                      for row in ranked]
            found.append(_compared(
                [[one[name] for name in _common(scores)] for one in scores], column.metric,
                [row.entries[index].shown for row in ranked],
                [f"{column.protocol}/{column.dataset}/{row.key}" for row in ranked]))
            ranked_entries.append(([row.entries[index] for row in ranked], column.metric))
    for given, (entries, metric) in zip(_placed(found), ranked_entries, strict=True):
        order = _by_value(entries, metric)
        _rank(entries, order)
        for entry, place, value in zip(entries, given, order, strict=True):
            entry.place = place
            entry.close = place == 1 < value
    return sum(len(one.tested) for one in found)


def close(parts: Sequence[Table], cells: Sequence[Cell], titles: Mapping[str, str]) -> str:
    """Mark only what is not separable from the best, in a table of several parts.

    Measured values alone are compared, all of them as one family; what is bold stays so.

    Returns:
        What the mark means, for a note. Arguments as of ``explained``.
    """
    entries = [value for part in parts for row in part.rows for value in row.entries]
    bold = [value.rank for value in entries]
    by_key = {(cell.protocol, cell.dataset, cell.model): cell for cell in cells}
    comparisons = measured([(part.measured, part.columns) for part in parts], by_key)
    for value, rank in zip(entries, bold, strict=True):
        value.rank = rank
    used = dict.fromkeys((column.protocol, column.dataset, row.key) for part in parts
                         for row in part.measured for column in part.columns)
    compared = [by_key[key] for key in used if key in by_key and by_key[key].means]
    return " ".join(explained(compared, titles, comparisons)).rstrip(".")


def _placed(found: Sequence[_Ranked]) -> list[list[int]]:
    """Return the places of each column; all comparisons are one family."""
    ps = iter(statistics.holm([p for one in found for _, _, p in one.tested]))
    return [one.places([next(ps) for _ in one.tested]) for one in found]


def printed(rows: Sequence[Row], columns: Sequence[Column]) -> None:
    """Set ranks and places of published rows by the printed values; equal values share them."""
    for index, column in enumerate(columns):
        entries = [row.entries[index] for row in rows if row.entries[index].number is not None]
        order = _by_value(entries, column.metric)
        _rank(entries, order)
        for entry, place in zip(entries, order, strict=True):
            entry.place = place


def places(scores: Sequence[Sequence[float]], metric: str = "psnr",
           shown: Sequence[str] | None = None, names: Sequence[str] | None = None) -> list[int]:
    """Return the place of each row of one column that is a table of its own.

    Args:
        scores: one row of scores per model: one score per image, in one order, in the unit of the
            metric.
        metric: decides which direction is better and which differences count as none.
        shown: the means as printed; rows with equal means are never ranked apart.
        names: names of the rows; they seed the random numbers of the test.
    """
    return _placed([_compared(scores, metric, shown, names)])[0]


def _compared(scores: Sequence[Sequence[float]], metric: str, shown: Sequence[str] | None = None,
              names: Sequence[str] | None = None) -> _Ranked:
    """Compare the rows of a column in pairs; rows that look or are alike are not tested."""
    names = names or [str(i) for i in range(len(scores))]
    known = metrics.get(metric)
    found = _Ranked(len(scores))
    # seeded by name, so that the order of the rows does not change the random numbers
    order = sorted(range(len(scores)), key=lambda index: names[index])
    for one, other in itertools.combinations(order, 2):
        if shown and shown[one] == shown[other]:
            continue
        apart = [known.sign * (a - b) for a, b in zip(scores[one], scores[other], strict=True)]
        if len(apart) > 1 and max(map(abs, apart)) > known.alike:
            ahead = (one, other) if sum(apart) > 0 else (other, one)
            found.tested.append((*ahead, statistics.paired_p(
                apart, metric, names[one], names[other])))
    return found


def _common(scores: list[dict[str, float]]) -> list[str]:
    """Return the images that all rows have, in the order of the first."""
    return [name for name in (scores[0] if scores else ()) if all(name in s for s in scores)]


def _by_value(entries: Sequence[Value], metric: str) -> list[int]:
    """Return 1 for the best value as printed, 2 for the next; equal values have one number."""
    values = [float(entry.shown) for entry in entries]
    order = sorted(set(values), reverse=metrics.get(metric).sign > 0)
    return [order.index(value) + 1 for value in values]


def _rank(entries: Sequence[Value], order: Sequence[int]) -> None:
    """Set ranks, unless all values are equal."""
    for entry, number in zip(entries, order, strict=True):
        entry.rank = RANKS.get(number, "") if len(set(order)) > 1 else ""


def sentences(cells: Sequence[Cell], titles: Mapping[str, str], comparisons: int) -> list[str]:
    """Return the sentences of a caption that explain the ranks of measured rows.

    Arguments as of ``explained``.
    """
    first, *others = explained(cells, titles, comparisons)
    return ["Bold: the best mean of the column; underlined: the second; equal values share both.",
            f"{CLOSE}: {first}", *others]


def explained(cells: Sequence[Cell], titles: Mapping[str, str], comparisons: int) -> list[str]:
    """Return the sentences that explain the mark of values that are not separable from the best.

    Args:
        cells: the cells with a result; their small sets are listed.
        titles: titles of the datasets.
        comparisons: how many comparisons the table makes (``measured``).
    """
    small = {titles[cell.dataset]: len(cell.images) for cell in cells
             if len(cell.images) < statistics.FEWEST}
    few = text.few_images()
    return [
        f"not the best, but no measured row is significantly better: {text.significance(None)}.",
        # apart, because tables on one page share their other sentences
        f"This table makes {comparisons} comparison{'s' * (comparisons != 1)}.",
        *([f"{few[0].upper()}{few[1:]} "
           f"({', '.join(f'{title}: {n}' for title, n in small.items())}); "
           "with one image there is no test."] if small else [])]
