"""The range of a benchmark's rounds: p10 to p90 of many, the least and the largest of few.

A p90 of few rounds is about the slowest of them, so it is given only from as many as reports need
(``irbench.core.statistics.least_samples``).
"""

from collections.abc import Sequence

import numpy as np

from irbench.core.statistics import least_samples

LEGEND = (f"low, high: p10 and p90 of {least_samples(90)} or more rounds, otherwise the least and "
          "the largest")


def ends(values: Sequence[float]) -> tuple[float, float]:
    """Return the low and the high end of at least one value, in their unit."""
    many = len(values) >= least_samples(90)
    low, high = np.percentile(values, [10, 90] if many else [0, 100])
    return float(low), float(high)
