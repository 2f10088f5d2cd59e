"""Is a difference more than chance? Small pure functions: bootstrap, sign test, Mann-Whitney, Holm.

Reads and writes nothing. Random numbers are seeded by a hash of the compared names, so that the
same inputs give the same figures on every machine.

Sources: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 14 (BCa intervals);
Dixon and Mood, The statistical sign test (JASA 41, 1946); Student, The probable error of a mean
(Biometrika 6, 1908); Mann and Whitney, On a test of whether one of two random variables is
stochastically larger than the other (Ann. Math. Stat. 18, 1947); Holm, A simple sequentially
rejective multiple test procedure (Scand. J. Statist. 6, 1979).

Try: ``python -c "from irbench.core import statistics as s; print(s.verdict([.1, .2, .15, .1],
'me'))"``
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist, stdev
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

REAL, NOISE, SAME = "real", "not significant", "no change"
LEVEL = 0.05                # significance level of all tests
FEWEST = 6                  # differences that a sign test can call real: 2 * 0.5**6 = 0.031 < LEVEL
RESAMPLES = 10_000          # means that a bootstrap draws
FAR = 6.0                   # standard errors; 10 000 resampled means reach about 4
SURE = 0.99                 # how surely a printed percentile is bounded (``least_samples``)
AT_ONCE = 2_000_000         # numbers drawn at a time, 16 MB
EXACT = 400                 # len(a) * len(b) up to which Mann-Whitney's p is exact


@dataclass(frozen=True)
class Paired:
    """The verdict on paired differences.

    Attributes:
        mean: the mean difference, in the unit of the differences; 0 without differences.
        low: lower end of the 95 % bootstrap interval of the mean; None for fewer than two
            differences. It is of this mean alone, whatever the family.
        high: its upper end.
        p: the two-sided p of this comparison alone (``paired_p``); 1 if nothing was tested.
        n: the number of pairs.
        word: "real", "not significant" or "no change"; in a family by ``adjusted``.
        note: a limitation of the verdict, "" if there is none.
        adjusted: p after the correction for its family; ``p`` for a comparison alone.
    """

    mean: float
    low: float | None
    high: float | None
    p: float
    n: int
    word: str
    note: str = ""
    adjusted: float = 1.0

    @property
    def tested(self) -> bool:
        """Whether chance was tested, so that the comparison counts in its family."""
        return self.n > 1 and self.word != SAME


@dataclass(frozen=True)
class _Resampled:
    """The resampled means (sorted) of some values, with the BCa corrections."""

    means: np.ndarray
    bias: float
    skew: float

    def end(self, share: float) -> float:
        """Return the quantile of the means that the corrections give for a share, 0 to 1."""
        import numpy as np

        normal = NormalDist()
        z = self.bias + normal.inv_cdf(share)
        return float(np.quantile(self.means, normal.cdf(self.bias + z / (1 - self.skew * z))))

    @property
    def p(self) -> float | None:
        """The two-sided level at which an end of the interval is 0.

        None if it excludes 0 at every level that the number of means resolves.
        """
        import numpy as np

        normal = NormalDist()
        below = (np.searchsorted(self.means, 0.0) + np.searchsorted(self.means, 0.0, "right")) / (
            2 * len(self.means))
        if not 0 < below < 1:
            return None
        # the divisor is positive: |skew| is at most 1/6, and |off| below 6 for means of draws
        off = normal.inv_cdf(below) - self.bias
        return 2 * normal.cdf(-abs(off / (1 + self.skew * off) - self.bias))


def seed(*names: str) -> int:
    """Return the random seed that belongs to names: the first 8 bytes of their SHA-256."""
    return int.from_bytes(hashlib.sha256("\0".join(names).encode()).digest()[:8], "big")


def bootstrap(differences: Sequence[float], *names: str, confidence: float = 0.95,
              resamples: int = RESAMPLES) -> tuple[float, float]:
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
    if values[0] == values[-1]:
        return float(values[0]), float(values[0])
    return _ends(values, _resampled(values, names, resamples), confidence)


def _ends(values: np.ndarray, drawn: _Resampled, confidence: float = 0.95) -> tuple[float, float]:
    # the mean of repeated values may exceed their range by the last bit
    low, high = (min(max(drawn.end(share), float(values[0])), float(values[-1]))
                 for share in ((1 - confidence) / 2, (1 + confidence) / 2))
    return low, high


def _resampled(values: np.ndarray, names: tuple[str, ...], resamples: int = RESAMPLES
               ) -> _Resampled:
    """Draw the means of sorted values that are not all equal."""
    import numpy as np

    mean = math.fsum(values) / len(values)
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
    bias = NormalDist().inv_cdf(min(max(below / resamples, 1 / resamples), 1 - 1 / resamples))
    # the jackknife's deviations of a mean are those of the values, divided by n - 1
    off = values - mean
    off = off / np.abs(off).max()           # so that the third power neither vanishes nor overflows
    return _Resampled(means, bias, float((off ** 3).sum() / (6 * (off ** 2).sum() ** 1.5)))


def t_test(differences: Sequence[float]) -> float:
    """Return the two-sided p of the paired t-test: is the mean difference 0?

    1 for fewer than two differences; for equal differences 0, or 1 if all are 0.
    """
    n = len(differences)
    if n < 2:
        return 1.0
    mean = math.fsum(differences) / n
    most = max(map(abs, differences)) or 1.0    # so that squares neither vanish nor overflow
    error = math.sqrt(math.fsum(((d - mean) / most) ** 2 for d in differences) / (n - 1) / n)
    if error <= 1e-15:          # equal up to rounding
        return 0.0 if mean else 1.0
    from scipy.special import stdtr  # slow to import

    return float(2 * stdtr(n - 1, -abs(mean) / most / error))


def paired_p(differences: Sequence[float], *names: str) -> float:
    """Return the two-sided p of one comparison of pairs: is the mean difference more than chance?

    With ``FEWEST`` or more pairs it is the larger of two: the p of the sign test, and the level at
    which an end of the BCa interval of the mean is 0. So p < 0.05 means that the 95 % interval
    excludes 0 and that the sign test agrees. Where no resampled mean is on the other side of 0, the
    interval has no such level; then it is that of the t-test, but at most what the resampled means
    resolve (2 of 10,000).

    With fewer pairs the sign test cannot reach p < 0.05, and the interval is too narrow. Then it is
    the p of the paired t-test, which assumes normal differences.

    Args:
        differences: one finite number per pair, in any unit.
        names: what is compared; fixes the bootstrap's random numbers.
    """
    import numpy as np

    values = np.sort(np.asarray(differences, dtype=np.float64))
    return _paired_p(values, lambda: _resampled(values, names))


def _paired_p(values: np.ndarray, draw: Callable[[], _Resampled]) -> float:
    n = len(values)
    if n < FEWEST:
        return t_test(values)
    sign = sign_test(values)
    if sign >= LEVEL:           # the interval can only raise it
        return sign
    mean = math.fsum(values) / n
    apart = values[0] > 0 or values[-1] < 0 or (
        mean ** 2 > FAR ** 2 * math.fsum((values - mean) ** 2) / (n - 1) / n)
    # where no resampled mean can reach 0, none is drawn: hundreds of pairs take less than a second
    p = None if apart else draw().p
    return max(sign, min(2 / RESAMPLES, t_test(values)) if p is None else p)


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


def holm(ps: Sequence[float]) -> list[float]:
    """Return the p of each comparison of a family, corrected by Holm's step-down method.

    If each comparison with a corrected p below a level is called real, the probability of one or
    more false ones among them is at most that level, however the comparisons depend on each other.
    The smallest p is multiplied by the number of comparisons, the next by one less, and so on; none
    is below the one before, or above 1.
    """
    order = sorted(range(len(ps)), key=lambda index: ps[index])
    found, so_far = [1.0] * len(ps), 0.0
    for place, index in enumerate(order):
        so_far = max(so_far, min(1.0, (len(ps) - place) * ps[index]))
        found[index] = so_far
    return found


def corrected(family: Sequence[Paired]) -> list[Paired]:
    """Return the verdicts of a family of comparisons, with Holm's correction for all tested ones.

    A comparison that is not tested (``Paired.tested``) is returned as it is and does not count.
    """
    tested = [one for one in family if one.tested]
    ps = iter(holm([one.p for one in tested]))
    return [replace(one, adjusted=(p := next(ps)), word=REAL if p < LEVEL else NOISE)
            if one.tested else one for one in family]


def verdict(differences: Sequence[float], *names: str, least: float = 0.0) -> Paired:
    """Decide whether paired differences are "real", "not significant" or "no change".

    "no change": no difference exceeds ``least``. "real": p < 0.05 (``paired_p``): the 95 %
    bootstrap interval of the mean excludes 0 and the sign test agrees; with fewer than ``FEWEST``
    pairs, a t-test decides, which ``note`` states. "not significant": everything else, including a
    single pair of any size.

    This is the verdict on one comparison. Where a table makes many, ``corrected`` gives theirs. For
    normal differences around 0 at most about 5 % of single verdicts are "real", whatever the number
    of pairs (simulated).

    Args:
        differences: one finite number per pair.
        names: what is compared; fixes the bootstrap's random numbers.
        least: the noise of machines, in the unit of the differences; smaller ones are ignored.
    """
    import numpy as np

    values = np.sort(np.asarray(differences, dtype=np.float64))
    n = len(values)
    if not n:
        return Paired(0.0, None, None, 1.0, 0, SAME, "nothing to compare")
    mean = math.fsum(values) / n
    if (np.abs(values) <= least).all():
        ends = (float(values[0]), float(values[-1])) if n > 1 else (None, None)
        return Paired(mean, *ends, 1.0, n, SAME)
    if n == 1:
        return Paired(mean, None, None, 1.0, n, NOISE, "one pair is not enough for a verdict")
    if values[0] == values[-1]:
        low = high = float(values[0])
        p = _paired_p(values, lambda: _resampled(values, names))    # draws nothing
    else:
        drawn = _resampled(values, names)
        (low, high), p = _ends(values, drawn), _paired_p(values, lambda: drawn)
    note = f"{n} pairs: too few for a sign test, a t-test decides" if n < FEWEST else ""
    return Paired(mean, low, high, p, n, REAL if p < LEVEL else NOISE, note, p)


def prediction(values: Sequence[float], confidence: float = 0.95) -> float | None:
    """Return how far one more value may lie from the mean of some values of one kind.

    Half of the prediction interval of a normal variable, in the unit of the values: Student's
    quantile times the sample standard deviation times sqrt(1 + 1 / n). None for fewer than two
    values. It is wide for few values: 16 standard deviations for two, 5 for three, 3 for five.
    """
    n = len(values)
    if n < 2:
        return None
    from scipy.special import stdtrit  # slow to import

    return float(stdtrit(n - 1, (1 + confidence) / 2)) * spread(values) * math.sqrt(1 + 1 / n)


def spread(values: Sequence[float]) -> float | None:
    """Return the sample standard deviation (n - 1), None for fewer than two values."""
    return stdev(values) if len(values) > 1 else None


# -- percentiles of samples ----------------------------------------------------------------------

@functools.cache
def least_samples(percent: float) -> int:
    """Return the least number of samples from which a percentile above 50 is printed.

    By order statistics: from so many samples on, with 99 % probability at least two of them lie
    above the true percentile, whatever the distribution: n is the least with
    P(Binomial(n, 1 - percent / 100) <= 1) <= 0.01. With fewer, the estimate rests on the largest
    sample or on none beyond the percentile: it then says how the one slowest pass was, not how slow
    the slow ones are. 64 for a p90, 662 for a p99 (as the early stopping of MLPerf's load
    generator, Reddi et al., MLPerf Inference Benchmark, ISCA 2020, asks for).
    """
    above = 1 - percent / 100
    n = 2
    while (1 - above) ** n + n * above * (1 - above) ** (n - 1) > 1 - SURE:
        n += 1
    return n


def percentile(samples: Sequence[float], percent: float) -> float | None:
    """Return a percentile above 50 of samples; None from too few of them (``least_samples``).

    ``numpy.percentile`` with linear interpolation, in the unit of the samples.
    """
    import numpy as np

    if len(samples) < least_samples(percent):
        return None
    return float(np.percentile(samples, percent, method="linear"))
