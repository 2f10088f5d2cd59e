"""Steps in a series of values: where its level changed, and by how much.

Pure functions on lists of numbers. The module reads and writes nothing, and imports only the
standard library.

The series is fitted with a piecewise constant function that minimises

    sum over segments of sum (y - mean of the segment)^2  +  penalty * number of steps

exactly, by dynamic programming over the last segment's start (B. Jackson et al., "An algorithm for
optimal partitioning of data on an interval", IEEE Signal Processing Letters 12, 2005; the
functional is the Potts functional of F. Friedrich et al., "Complexity penalized M-estimation: fast
computation", J. Computational and Graphical Statistics 17, 2008). The penalty is ``LEVELS`` times
noise^2 times log n: Y.-C. Yao ("Estimating the number of change-points via Schwarz' criterion",
Statistics & Probability Letters 6, 1988) takes 2, N. Zhang and D. Siegmund ("A modified Bayes
information criterion", Biometrics 63, 2007) come to 3 for the same model.

Try: ``python -c "from irbench.compare.steps import find; print(find([30, 30, 30, 29], .001))"``
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median

LEVELS = 3.0                    # penalty of a step, in units of noise^2 * log n
FEWEST = 4                      # least number of differences to estimate the noise
SHORT = 8                       # with fewer values the penalty is the one for this many
NORMAL = 0.6745 * math.sqrt(2)  # median of |a - b|, both normal with standard deviation 1


@dataclass(frozen=True)
class Step:
    """A change of level: ``at`` is the index of the first value after it."""

    at: int
    before: float               # mean of the segment that ends here
    after: float                # mean of the segment that begins here

    @property
    def size(self) -> float:
        """Signed change of the level, in the unit of the series."""
        return self.after - self.before


def noise(values: Sequence[float], floor: float) -> float:
    """Estimate the standard deviation of one value about its level, at least ``floor``.

    The estimate is the median of the absolute differences of neighbours. Steps hardly affect it if
    fewer than half of the differences are steps. With few differences it is often too low, so it is
    multiplied by a factor that tends to 1 as their number grows. With fewer than ``FEWEST``
    differences the noise is the floor.

    Args:
        values: values in any unit, in order of time.
        floor: the least noise, in the same unit (the noise of the machine).
    """
    differences = [abs(b - a) for a, b in pairwise(values)]
    if len(differences) < FEWEST:
        return floor
    return max(floor, median(differences) / NORMAL * (1 + 4 / len(differences)))


def find(values: Sequence[float], floor: float) -> list[Step]:
    """Find the steps of a series, in order of time.

    Shifting all values shifts the levels; scaling values and floor together scales the levels. A
    series within its noise has no steps. A single different value between equal levels makes two
    steps.

    Args:
        values: finite numbers, in order of time; may be empty.
        floor: the least noise (see ``noise``), in the unit of the values, above 0.

    Raises:
        ValueError: the floor is not above 0, or a value is not finite.
    """
    if not floor > 0:
        raise ValueError(f"floor {floor!r}: the least noise must be above 0")
    if not all(map(math.isfinite, values)):
        raise ValueError("a value is not finite; leave out what is unknown")
    if len(values) < 2:
        return []
    level = noise(values, floor)
    # centre on 0 and divide by the noise, so that the fit is the same in any unit
    centre = median(values)
    penalty = LEVELS * math.log(max(len(values), SHORT))
    starts = _fit([(value - centre) / level for value in values], penalty)
    return _steps(values, starts)


def exact(values: Sequence[float]) -> list[Step]:
    """Find every change of values without noise, such as counts."""
    return _steps(values, [0, *(i for i in range(1, len(values)) if values[i] != values[i - 1])]
                  if values else [])


def _steps(values: Sequence[float], starts: list[int]) -> list[Step]:
    means = [fmean(values[a:b]) for a, b in pairwise([*starts, len(values)])]
    return [Step(at, before, after)
            for at, (before, after) in zip(starts[1:], pairwise(means), strict=True)]


def _fit(values: Sequence[float], penalty: float) -> list[int]:
    """Return the indices where the segments of the best fit begin; the first is 0."""
    best = [-penalty]           # best[j]: least cost of the first j values
    begin = [0]                 # begin[j]: start of the last segment of that fit
    for end in range(1, len(values) + 1):
        least, at, mean, squares = math.inf, 0, 0.0, 0.0
        for start in reversed(range(end)):      # the last segment grows: Welford's sums
            off = values[start] - mean
            mean += off / (end - start)
            squares += off * (values[start] - mean)
            # rounding must not make a step: if fits are equal, the longer segment is kept
            if (cost := best[start] + penalty + squares) <= least + 1e-9:
                least, at = cost, start
        best.append(least)
        begin.append(at)
    starts, end = [], len(values)
    while end:
        end = begin[end]
        starts.append(end)
    return starts[::-1]
