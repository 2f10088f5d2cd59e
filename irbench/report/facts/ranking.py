"""Ranks of the rows of a column. Ranks account for statistical uncertainty.

The place of a measured row is 1 + the number of rows that are significantly better. A row is
significantly better if its mean as printed is better (``Metric.direction``) and
``statistics.verdict`` calls the differences over the images real. Such a test gives no total order:
A may be better than C while B differs significantly from neither. Then A and B have place 1 and C
has place 2. The best mean always has place 1. If two rows of place 1 are both better than a third,
the third has place 3.

For published rows only the means are known. They are ranked by the printed values, and equal values
share a place. Reads and writes nothing.

Try: ``python -c "from irbench.report.facts.ranking import places; print(places([[1], [3]]))"``
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

from irbench.core import metrics, statistics
from irbench.present.table import BEST, SECOND, Column, Row
from irbench.report.run import Cell

FAR = 6.0                       # standard errors; 10 000 resampled means reach about 4
RANKS = {1: BEST, 2: SECOND}


def measured(rows: Sequence[Row], columns: Sequence[Column],
             cells: Mapping[tuple[str, str, str], Cell]) -> None:
    """Set the places of measured rows, column by column.

    Args:
        rows: rows of one block; entries without a ``number`` are not ranked.
        columns: the columns of the entries.
        cells: (protocol, dataset, model) -> the cell with its scores per image.
    """
    for index, column in enumerate(columns):
        ranked = [row for row in rows if row.entries[index].number is not None]
        found = [cells[column.protocol, column.dataset, row.key] for row in ranked]
        scores = [{image["name"]: image[column.metric] for image in cell.images} for cell in found]
        given = places([[s[name] for name in _common(scores)] for s in scores],
                       column.metric, [row.entries[index].shown for row in ranked],
                       [f"{column.protocol}/{column.dataset}/{row.key}" for row in ranked])
        _mark([row.entries[index] for row in ranked], given)


def printed(rows: Sequence[Row], columns: Sequence[Column]) -> None:
    """Set the places of published rows by the printed values; equal values share a place."""
    for index, column in enumerate(columns):
        entries = [row.entries[index] for row in rows if row.entries[index].number is not None]
        order = sorted({float(entry.shown) for entry in entries},
                       reverse=metrics.get(column.metric).sign > 0)
        _mark(entries, [order.index(float(entry.shown)) + 1 for entry in entries])


def places(scores: Sequence[Sequence[float]], metric: str = "psnr",
           shown: Sequence[str] | None = None, names: Sequence[str] | None = None) -> list[int]:
    """Return the place of each row: 1 + the number of rows that are significantly better.

    Args:
        scores: one row of scores per model: one score per image, in one order, in the unit of the
            metric.
        metric: decides which direction is better and which differences count as none.
        shown: the means as printed; rows with equal means are never ranked apart.
        names: names of the rows; they seed the random numbers of the test.
    """
    names = names or [str(i) for i in range(len(scores))]
    known = metrics.get(metric)
    better = [0] * len(scores)
    # seeded by name, so that the order of the rows does not change the random numbers
    order = sorted(range(len(scores)), key=lambda index: names[index])
    for one, other in itertools.combinations(order, 2):
        if shown and shown[one] == shown[other]:
            continue
        apart = [known.sign * (a - b) for a, b in zip(scores[one], scores[other], strict=True)]
        if apart and _real(apart, known.alike, metric, names[one], names[other]):
            better[other if sum(apart) > 0 else one] += 1
    return [1 + count for count in better]


def _real(apart: list[float], least: float, *names: str) -> bool:
    """Return whether ``statistics.verdict`` calls differences real; bootstraps only if needed.

    If the sign test fails, the interval does not matter. The interval never contains 0 if all
    differences have one sign, or if the mean is more than ``FAR`` standard errors from 0, because
    no resampled mean is that far off. So hundreds of pairs take less than a second.
    """
    n = len(apart)
    if n >= statistics.FEWEST and statistics.sign_test(apart) >= statistics.LEVEL:
        return False
    if n > 1 and (min(apart) > 0 or max(apart) < 0):
        return max(map(abs, apart)) > least
    if n >= statistics.FEWEST and max(map(abs, apart)) > least:
        mean = math.fsum(apart) / n
        spread = math.fsum((d - mean) ** 2 for d in apart) / (n - 1)
        if mean ** 2 > FAR ** 2 * spread / n:
            return True
    return statistics.verdict(apart, *names, least=least).word == statistics.REAL


def _common(scores: list[dict[str, float]]) -> list[str]:
    """Return the images that all rows have, in the order of the first."""
    return [name for name in (scores[0] if scores else ()) if all(name in s for s in scores)]


def _mark(entries: list, given: list[int]) -> None:
    """Set places, and also ranks unless all places are equal."""
    for entry, place in zip(entries, given, strict=True):
        entry.place = place
        entry.rank = RANKS.get(place, "") if len(set(given)) > 1 else ""


def sentences(cells: Sequence[Cell], titles: Mapping[str, str]) -> list[str]:
    """Return the sentences of a caption that explain the ranks of measured rows.

    Args:
        cells: the cells with a result; their small sets are listed.
        titles: titles of the datasets.
    """
    small = {titles[cell.dataset]: len(cell.images) for cell in cells
             if 0 < len(cell.images) < statistics.FEWEST}
    return [
        "The best value of each column is in bold, the second is underlined. The rank of a "
        "measured row is 1 + the number of measured rows that are significantly better in a paired "
        "test over the images (the 95 % bootstrap interval of the mean difference excludes 0, and "
        f"the sign test has p < {statistics.LEVEL}). Rows without a significant difference share a "
        "rank; after a shared first rank there may be no second.",
        *([f"On sets of fewer than {statistics.FEWEST} images "
           f"({', '.join(f'{title}: {n}' for title, n in small.items())}) the sign test cannot "
           "reach that p, so the interval alone decides; with one image there is no test."]
          if small else [])]
