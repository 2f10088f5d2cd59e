"""Is a difference more than chance? Small pure functions: bootstrap, sign test, Mann-Whitney.

Reads and writes nothing. Random numbers are seeded by a hash of the compared names, so that the
same inputs give the same figures on every machine. Neither torch nor scipy is needed.

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
LEVEL = 0.05                # significance level of both tests
FEWEST = 6                  # differences that a sign test can call real: 2 * 0.5**6 = 0.031 < LEVEL
AT_ONCE = 2_000_000         # numbers drawn at a time, 16 MB
EXACT = 400                 # len(a) * len(b) up to which Mann-Whitney's p is exact


@dataclass(frozen=True)
class Paired:
    """The verdict on paired differences.

    Attributes:
        mean: the mean difference, in the unit of the differences; 0 without differences.
        low: lower end of the bootstrap interval of the mean; None for fewer than two differences.
        high: its upper end.
        p: the sign test's two-sided p.
        n: the number of pairs.
        word: "real", "within noise" or "no change".
        note: a limitation of the verdict, "" if there is none.
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

    Bias-corrected and accelerated percentiles of the means of resampled differences. The result
    depends neither on the order of the differences nor on the machine. If all differences are
    equal, both ends are that value.

    Args:
        differences: one finite number per pair, in any unit; at least one.
        names: what is compared; fixes the random numbers.
        confidence: between 0 and 1.
        resamples: how many means are drawn.

    Raises:
        ValueError: the list of differences is empty, or one is not finite.
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
    small = np.uint16 if len(values) <= 2 ** 16 else np.int64      # uint16 is five times as fast
    means = np.concatenate([
        values[random.integers(0, len(values), (min(step, resamples - start), len(values)), small)]
        .mean(axis=1) for start in range(0, resamples, step)])
    means.sort()
    # share of means below the mean, ties count half: 0.5 if symmetric; kept away from 0 and 1
    near = 1e-12 * max(abs(values[0]), abs(values[-1]))     # a tie up to the order of summation
    below = (np.searchsorted(means, mean - near) + np.searchsorted(means, mean + near)) / 2
    normal = NormalDist()
    bias = normal.inv_cdf(min(max(below / resamples, 1 / resamples), 1 - 1 / resamples))
    # the jackknife's deviations of a mean are those of the values, divided by n - 1
    off = values - mean
    off = off / np.abs(off).max()           # so that the third power neither vanishes nor overflows
    skew = float((off ** 3).sum() / (6 * (off ** 2).sum() ** 1.5))
    ends = []
    for share in ((1 - confidence) / 2, (1 + confidence) / 2):
        z = bias + normal.inv_cdf(share)
        ends.append(normal.cdf(bias + z / (1 - skew * z)))
    low, high = np.quantile(means, ends)
    # the mean of repeated values may exceed their range by the last bit
    return (float(np.clip(low, values[0], values[-1])), float(np.clip(high, values[0], values[-1])))


def sign_test(differences: Iterable[float]) -> float:
    """Return the exact two-sided p of the sign test: are both signs equally likely?

    Ties (differences of 0) are dropped; if all are ties, p is 1.
    """
    signs = [d > 0 for d in differences if d != 0]
    fewer = min(sum(signs), len(signs) - sum(signs))
    tail = sum(math.comb(len(signs), k) for k in range(fewer + 1))
    # compared as integers, because 2**n exceeds the range of a float from n = 1024 on
    return 1.0 if 2 * tail >= 2 ** len(signs) else 2 * tail / 2 ** len(signs)


def mann_whitney(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the two-sided p that samples ``a`` and ``b`` come from one distribution.

    Exact by counting for few samples without ties; otherwise the normal approximation, corrected
    for ties and for continuity. If one side has no samples, p is 1.
    """
    m, n = len(a), len(b)
    if not m or not n:
        return 1.0
    # from ranks: how often a sample of a is above one of b; ties count half
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
    """Return the least p that ``mann_whitney`` can return for m and n samples without ties."""
    return mann_whitney(range(m), range(m, m + n))


@functools.cache
def _ways(m: int, n: int) -> tuple[int, ...]:
    """Return for each U from 0 to m * n the number of orders of m and n samples that give it."""
    # the coefficients of the Gaussian binomial: prod (1 - q**(n + i)) / (1 - q**i), i = 1 .. m
    ways = [1] + [0] * (m * n)
    for i in range(1, m + 1):
        for u in range(m * n, n + i - 1, -1):
            ways[u] -= ways[u - n - i]
        for u in range(i, m * n + 1):
            ways[u] += ways[u - i]
    return tuple(ways)


def verdict(differences: Sequence[float], *names: str, least: float = 0.0) -> Paired:
    """Decide whether paired differences are "real", "within noise" or "no change".

    "no change": no difference exceeds ``least``. "real": the 95 % bootstrap interval of the mean
    excludes 0, and with ``FEWEST`` or more pairs the sign test also has p < 0.05. With fewer pairs
    the sign test cannot reach that p, which ``note`` states. "within noise": everything else,
    including a single pair of any size.

    There is no correction for multiple tests. For normal differences around 0 the false-positive
    rate of "real" is up to 5 % with six or more pairs, but 15 % with five, 21 % with four, 28 %
    with three and 50 % with two (simulated): for so few images "real" means little more than that
    they agree.

    Args:
        differences: one finite number per pair.
        names: what is compared; fixes the bootstrap's random numbers.
        least: the noise of machines, in the unit of the differences; smaller ones are ignored.
    """
    values = [float(d) for d in differences]
    n = len(values)
    if not n:
        return Paired(0.0, None, None, 1.0, 0, SAME, "nothing to compare")
    mean, p = math.fsum(values) / n, sign_test(values)
    if all(abs(d) <= least for d in values):
        return Paired(mean, *((min(values), max(values)) if n > 1 else (None, None)), p, n, SAME)
    if n == 1:
        return Paired(mean, None, None, p, n, NOISE, "one pair is not enough for a verdict")
    low, high = bootstrap(values, *names)
    real = (low > 0 or high < 0) and (p < LEVEL or n < FEWEST)
    note = f"{n} pairs: too few for a sign test at p < {LEVEL}" if n < FEWEST else ""
    return Paired(mean, low, high, p, n, REAL if real else NOISE, note)
