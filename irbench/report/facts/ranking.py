"""Who is best in a column, with its uncertainty: rows no paired test tells apart share it.

A measured row's place is 1 + the number of rows that are really better. Really better: a better
mean as printed (``Metric.direction``), and ``statistics.verdict`` calls the differences image by
image real. This asks for no order among all rows, which a test does not give: A may be better than
C while B is told apart from neither; then A and B have place 1, C has place 2. The highest mean
always has place 1. After two rows of place 1 that are both better than a third, it has place 3.

Of published rows only the means are known: they are ranked by the printed figures, equal ones
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
    """Give the entries of measured rows their places, column by column.

    Args:
        rows: of one block; entries without a ``number`` are not ranked.
        columns: of the rows' entries.
        cells: (protocol, dataset, model) -> the cell with its scores image by image.
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
    """Give the entries of published rows their places: by the figures as shown, ties alike."""
    for index, column in enumerate(columns):
        entries = [row.entries[index] for row in rows if row.entries[index].number is not None]
        order = sorted({float(entry.shown) for entry in entries},
                       reverse=metrics.get(column.metric).sign > 0)
        _mark(entries, [order.index(float(entry.shown)) + 1 for entry in entries])


def places(scores: Sequence[Sequence[float]], metric: str = "psnr",
           shown: Sequence[str] | None = None, names: Sequence[str] | None = None) -> list[int]:
    """Return the place of each row: 1 + the number of rows that are really better.

    Args:
        scores: rows of scores, image by image in one order, in the metric's unit.
        metric: decides which direction is better and what difference is none.
        shown: the means as printed: rows with equal ones are not told apart.
        names: of the rows: they seed the test's random numbers.
    """
    names = names or [str(i) for i in range(len(scores))]
    known = metrics.get(metric)
    better = [0] * len(scores)
    # by name, so that the order of the rows does not matter to the random numbers
    order = sorted(range(len(scores)), key=lambda index: names[index])
    for one, other in itertools.combinations(order, 2):
        if shown and shown[one] == shown[other]:
            continue
        apart = [known.sign * (a - b) for a, b in zip(scores[one], scores[other], strict=True)]
        if apart and _real(apart, known.alike, metric, names[one], names[other]):
            better[other if sum(apart) > 0 else one] += 1
    return [1 + count for count in better]


def _real(apart: list[float], least: float, *names: str) -> bool:
    """Say whether ``statistics.verdict`` calls differences real, without a bootstrap if it can.

    Where the sign test fails the interval does not matter; that of differences of one sign never
    holds 0, nor does that of a mean of more than ``FAR`` standard errors, which no resampled mean
    reaches. So a report with hundreds of pairs takes no second for them.
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
    """Set places, and ranks where there is something to point out: not all are alike."""
    for entry, place in zip(entries, given, strict=True):
        entry.place = place
        entry.rank = RANKS.get(place, "") if len(set(given)) > 1 else ""


def said(cells: Sequence[Cell], titles: Mapping[str, str]) -> list[str]:
    """Return what the ranks of measured rows mean, in sentences for a caption.

    Args:
        cells: those with a result, of which the small sets are named.
        titles: of the datasets.
    """
    small = {titles[cell.dataset]: len(cell.images) for cell in cells
             if 0 < len(cell.images) < statistics.FEWEST}
    return [
        "Best figure of each column in bold, second underlined: a measured row's rank is 1 + the "
        "number of measured rows that are better by a paired test over the images (the 95 % "
        "bootstrap interval of the mean difference leaves out 0, and the sign test has p < "
        f"{statistics.LEVEL}). Rows that the test cannot tell apart share a rank; after a shared "
        "first rank there may be no second.",
        *([f"Sets of fewer than {statistics.FEWEST} images, "
           f"{', '.join(f'{title} ({n})' for title, n in small.items())}: no sign test can reach "
           "that p, so the interval alone decides; of one image nothing does."] if small else [])]
