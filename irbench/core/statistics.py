"""Is a difference more than chance? Small pure functions: bootstrap, sign test, Mann-Whitney.

Reads and writes nothing. What is random is seeded by hashing the names of what is compared, so that
the same inputs give the same figures everywhere. Neither torch nor scipy is needed.

Sources: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 14 (BCa intervals);
Dixon and Mood, The statistical sign test (JASA 41, 1946); Mann and Whitney, On a test of whether
one of two random variables is stochastically larger than the other (Ann. Math. Stat. 18, 1947).

Try: ``python -c "from irbench.core import statistics as s; print(s.verdict([.1, .2, .15, .1],
'me'))"``
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

REAL, NOISE, SAME = "real", "within noise", "no change"
LEVEL = 0.05                # of both tests
FEWEST = 6                  # differences that a sign test can call real: 2 * 0.5**6 = 0.031 < LEVEL
AT_ONCE = 2_000_000         # numbers drawn at a time, 16 MB
EXACT = 400                 # len(a) * len(b) up to which Mann-Whitney's p is counted


@dataclass(frozen=True)
class Paired:
    """What can be said of paired differences.

    Attributes:
        mean: the mean difference, in the unit of the differences; 0 of none.
        low: lower end of the bootstrap interval of the mean; None of fewer than two differences.
        high: its upper end.
        p: the sign test's two-sided p.
        n: how many pairs there are.
        word: "real", "within noise" or "no change".
        note: what limits the word, "" if nothing does.
    """

    mean: float
    low: float | None
    high: float | None
    p: float
    n: int
    word: str
    note: str = ""


def seed(*names: str) -> int:
    """Return the random seed that belongs to names: the first 8 bytes of their SHA-256."""
    return int.from_bytes(hashlib.sha256("\0".join(names).encode()).digest()[:8], "big")


def bootstrap(differences: Sequence[float], *names: str, confidence: float = 0.95,
              resamples: int = 10_000) -> tuple[float, float]:
    """Return the BCa bootstrap interval of the mean of paired differences.

    Bias-corrected and accelerated percentiles of the means of resampled differences. The order of
    the differences makes no difference, nor does the machine. Equal differences have the interval
    that is their value.

    Args:
        differences: one finite number a pair, in any unit; at least one.
        names: what is compared; fixes the random numbers.
        confidence: between 0 and 1.
        resamples: how many means are drawn.

    Raises:
        ValueError: there are no differences, or one is not finite.
    """
    import numpy as np

    values = np.sort(np.asarray(differences, dtype=np.float64))
    if not len(values) or not np.isfinite(values).all():
        raise ValueError("bootstrap needs at least one difference, all of them finite")
    mean = math.fsum(values) / len(values)
    if values[0] == values[-1]:
        return float(values[0]), float(values[0])
    random = np.random.Generator(np.random.PCG64(seed(*names)))
    step = max(1, AT_ONCE // len(values))
    small = np.uint16 if len(values) <= 2 ** 16 else np.int64      # drawn five times as fast
    means = np.concatenate([
        values[random.integers(0, len(values), (min(step, resamples - start), len(values)), small)]
        .mean(axis=1) for start in range(0, resamples, step)])
    means.sort()
    # share of means below the mean, ties half: 0.5 of a symmetric distribution; kept off 0 and 1
    near = 1e-12 * max(abs(values[0]), abs(values[-1]))     # equal but for the order of summing
    below = (np.searchsorted(means, mean - near) + np.searchsorted(means, mean + near)) / 2
    normal = NormalDist()
    bias = normal.inv_cdf(min(max(below / resamples, 1 / resamples), 1 - 1 / resamples))
    # of a mean the jackknife's deviations are those of the values, over n - 1
    off = values - mean
    off = off / np.abs(off).max()           # whose third power neither vanishes nor overflows
    skew = float((off ** 3).sum() / (6 * (off ** 2).sum() ** 1.5))
    ends = []
    for share in ((1 - confidence) / 2, (1 + confidence) / 2):
        z = bias + normal.inv_cdf(share)
        ends.append(normal.cdf(bias + z / (1 - skew * z)))
    low, high = np.quantile(means, ends)
    # the mean of repeated values may leave their range by the last bit
    return (float(np.clip(low, values[0], values[-1])), float(np.clip(high, values[0], values[-1])))


def sign_test(differences: Iterable[float]) -> float:
    """Return the exact two-sided p of as many differences of one sign, if both are as likely.

    Ties (differences of 0) are dropped; without any other p is 1.
    """
    signs = [d > 0 for d in differences if d != 0]
    fewer = min(sum(signs), len(signs) - sum(signs))
    tail = sum(math.comb(len(signs), k) for k in range(fewer + 1))
    # whole numbers: 2**n is more than a float holds from n = 1024 on
    return 1.0 if 2 * tail >= 2 ** len(signs) else 2 * tail / 2 ** len(signs)


def mann_whitney(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the two-sided p that samples ``a`` and ``b`` come from one distribution.

    Exact by counting for few samples without ties; else the normal approximation, corrected for
    ties and for continuity. Without samples on a side p is 1: nothing is shown.
    """
    m, n = len(a), len(b)
    if not m or not n:
        return 1.0
    # by rank: how often a sample of a is above one of b, ties half
    ordered = sorted([*a, *b])
    counts: dict[float, int] = {}
    for value in ordered:
        counts[value] = counts.get(value, 0) + 1
    rank, before = {}, 0
    for value, count in counts.items():
        rank[value] = before + (count + 1) / 2
        before += count
    u = sum(rank[value] for value in a) - m * (m + 1) / 2
    u = max(u, m * n - u)
    ties = [count for count in counts.values() if count > 1]
    if not ties and m * n <= EXACT:
        ways = _ways(m, n)
        return min(1.0, 2 * sum(ways[math.ceil(u):]) / sum(ways))
    total = m + n
    spread = m * n / 12 * (total + 1 - sum(t ** 3 - t for t in ties) / (total * (total - 1)))
    if spread <= 0:             # all samples are equal
        return 1.0
    z = (u - m * n / 2 - 0.5) / math.sqrt(spread)
    return min(1.0, math.erfc(z / math.sqrt(2)))


def least_p(m: int, n: int) -> float:
    """Return the least p that ``mann_whitney`` can have of m and n samples without ties."""
    return mann_whitney(range(m), range(m, m + n))


@functools.cache
def _ways(m: int, n: int) -> tuple[int, ...]:
    """In how many orders of m and n samples each U from 0 to m * n comes about."""
    # the coefficients of the Gaussian binomial: prod (1 - q**(n + i)) / (1 - q**i), i = 1 .. m
    ways = [1] + [0] * (m * n)
    for i in range(1, m + 1):
        for u in range(m * n, n + i - 1, -1):
            ways[u] -= ways[u - n - i]
        for u in range(i, m * n + 1):
            ways[u] += ways[u - i]
    return tuple(ways)


def verdict(differences: Sequence[float], *names: str, least: float = 0.0) -> Paired:
    """Say of paired differences whether they are "real", "within noise" or "no change".

    "no change": none is above ``least``. "real": the 95 % bootstrap interval of the mean excludes
    0, and with ``FEWEST`` or more pairs the sign test has p < 0.05, too; of fewer pairs it cannot,
    which ``note`` says. "within noise": all else, also a single pair, whatever its size.

    Each verdict stands alone; nothing is corrected for how many are asked for. Of normal
    differences around 0 it says "real" in up to 5 % of cases with six pairs and more, but in 15 %
    with five, 21 % with four, 28 % with three and half with two (simulated): of so few images it
    means little more than that they agree.

    Args:
        differences: one finite number a pair.
        names: what is compared; fixes the bootstrap's random numbers.
        least: what differs by less is the machine's noise, in the unit of the differences.
    """
    values = [float(d) for d in differences]
    n = len(values)
    if not n:
        return Paired(0.0, None, None, 1.0, 0, SAME, "nothing to compare")
    mean, p = math.fsum(values) / n, sign_test(values)
    if all(abs(d) <= least for d in values):
        return Paired(mean, *((min(values), max(values)) if n > 1 else (None, None)), p, n, SAME)
    if n == 1:
        return Paired(mean, None, None, p, n, NOISE, "one pair tells nothing of others")
    low, high = bootstrap(values, *names)
    real = (low > 0 or high < 0) and (p < LEVEL or n < FEWEST)
    note = f"{n} pairs: too few for a sign test at p < {LEVEL}" if n < FEWEST else ""
    return Paired(mean, low, high, p, n, REAL if real else NOISE, note)
