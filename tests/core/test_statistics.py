"""The tests that tell a difference from chance: known values, and laws that hold for any input."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irbench.core import statistics

FINITE = st.floats(-100, 100, allow_nan=False).map(lambda v: round(v, 6))
SOME = st.lists(FINITE, min_size=1, max_size=30)
FEW = settings(max_examples=40, deadline=None)


# -- known values ------------------------------------------------------------------------------

@pytest.mark.parametrize(("plus", "minus", "ties", "p"), [
    (0, 0, 3, 1.0), (1, 0, 0, 1.0), (5, 0, 0, 0.0625), (6, 0, 0, 0.03125),
    (9, 1, 4, 2 * 11 / 1024), (3, 3, 0, 1.0), (0, 8, 0, 2 / 256), (5, 3, 0, 186 / 256)])
def test_sign_test_has_the_binomials_p(plus, minus, ties, p):
    assert statistics.sign_test([1.5] * plus + [-0.2] * minus + [0.0] * ties) == p


def test_sign_test_of_very_many_pairs_is_a_number():
    assert statistics.sign_test([1.0] * 3000) < 1e-300
    assert statistics.sign_test([1.0] * 1600 + [-1.0] * 1500) == pytest.approx(0.0753, abs=1e-3)


@pytest.mark.parametrize(("a", "b"), [
    ([1, 2, 3], [4, 5, 6]), ([1, 4, 2], [3, 5, 6, 7]), (range(5), [10, 20, 30, 40, 50]),
    ([1.5, 2.5], [1, 2, 3]), (list(range(10)), [v + 0.5 for v in range(3, 13)])])
def test_mann_whitney_counts_exactly_as_scipy_does(a, b):
    from scipy.stats import mannwhitneyu

    expected = mannwhitneyu(list(a), list(b), method="exact").pvalue
    assert statistics.mann_whitney(list(a), list(b)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("m", "n", "method"), [(20, 20, "exact"), (21, 20, "asymptotic"),
                                               (401, 1, "asymptotic")])
def test_mann_whitney_counts_exactly_up_to_400_pairs(m, n, method):
    from scipy.stats import mannwhitneyu

    a, b = [0.1 + i for i in range(m)], [-2.0 * i for i in range(n)]
    p = {how: mannwhitneyu(a, b, method=how).pvalue for how in ("exact", "asymptotic")}
    assert statistics.mann_whitney(a, b) == pytest.approx(p[method], rel=1e-9)
    assert p["exact"] != pytest.approx(p["asymptotic"], rel=1e-3)


@given(st.lists(st.integers(0, 9), min_size=2, max_size=25),
       st.lists(st.integers(0, 9), min_size=2, max_size=25))
@FEW
def test_mann_whitney_with_ties_is_scipys_approximation(a, b):
    from scipy.stats import mannwhitneyu

    if len(set(a + b)) in (1, len(a + b)):
        return
    expected = mannwhitneyu(a, b, method="asymptotic").pvalue
    assert statistics.mann_whitney(a, b) == pytest.approx(expected, rel=1e-9)


def test_mann_whitney_of_equal_or_no_samples_shows_nothing():
    assert statistics.mann_whitney([3.0] * 5, [3.0] * 7) == 1.0
    for a, b in (([], [1.0]), ([1.0, 1.0], []), ([], [])):
        assert statistics.mann_whitney(a, b) == 1.0


def test_bootstrap_is_near_the_normal_interval_and_near_scipys():
    from scipy.stats import bootstrap

    values = np.random.default_rng(3).normal(0.3, 1, 80)
    low, high = statistics.bootstrap(values, "a")
    half = 1.96 * values.std(ddof=1) / math.sqrt(80)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)
    skewed = np.random.default_rng(4).lognormal(0, 1, 40)
    theirs = bootstrap((skewed,), np.mean, n_resamples=9999, random_state=1,
                       method="BCa").confidence_interval
    assert statistics.bootstrap(skewed, "b") == pytest.approx(tuple(theirs), rel=0.05)
    # skewed to the right: the upper end is the farther one
    low, high = statistics.bootstrap(skewed, "b")
    assert high - skewed.mean() > skewed.mean() - low


def test_bootstrap_covers_the_truth_about_as_often_as_it_says():
    draws = np.random.default_rng(5).normal(1.0, 1.0, (200, 25))
    covered = sum(low <= 1.0 <= high for low, high in (
        statistics.bootstrap(row, str(i), resamples=1000) for i, row in enumerate(draws)))
    assert 0.88 <= covered / 200 <= 0.98


def test_bootstrap_gives_the_same_figures_on_every_machine():
    """The figures as first computed: the random numbers are part of the definition."""
    values = [0.446, 0.922, 0.43, -1.203, 1.005, 0.546, -0.437, 0.681, 0.465, 0.394, 0.128, 0.647,
              -0.636, -0.063, -0.382, 0.699, 0.14, -0.192, -0.682, -0.157, 0.108, -0.176, 1.394,
              1.107, -2.611, -1.789, -0.075, -0.322, 0.314, 0.317, 2.218, -1.012, -0.278, 2.143,
              0.747, 0.763, -0.414, -1.548, 0.267, 0.209]
    assert statistics.bootstrap(values, "a", "b") == pytest.approx(
        (-0.20709334047662384, 0.3776964224499963), rel=1e-12)
    assert statistics.seed("sr-x2@1", "psnr") == 12017990231252405646


@pytest.mark.parametrize("values", [[1.0, 1.0, 5.0], [1.0, 5.0, 5.0]])
def test_bootstrap_of_nearly_equal_values_is_an_interval(values):
    assert statistics.bootstrap(values, "x") == (1.0, 5.0)


def test_bootstrap_of_more_values_than_16_bits_can_number():
    low, high = statistics.bootstrap(np.arange(2**16 + 1.0), "x", resamples=4)
    assert 32_000 < low < high < 33_500


def test_bootstrap_draws_the_same_means_in_parts(monkeypatch):
    """The parts bound the memory; they change nothing."""
    values = np.arange(2**16 + 1.0)
    whole = statistics.bootstrap(values, "x", resamples=8)
    monkeypatch.setattr(statistics, "AT_ONCE", 3 * len(values))
    assert statistics.bootstrap(values, "x", resamples=8) == whole


def test_bootstrap_of_few_means_is_an_interval():
    """All four may lie on one side of the mean, as for one in eight names."""
    for i in range(40):
        low, high = statistics.bootstrap([1.0, 2.0, 4.0, 9.0], str(i), resamples=4)
        assert 1 <= low <= high <= 9


def test_means_equal_to_the_mean_count_half():
    """A quarter of the means of five times -1 and five times 1 are 0: none of them is a bias."""
    assert statistics.bootstrap([-1.0, 1.0] * 5, "x") == pytest.approx((-0.6, 0.6))
    # sums of tenths in another order differ by the last bits
    assert statistics.bootstrap([0.1, 0.3] * 5, "x") == pytest.approx((0.14, 0.26))


@pytest.mark.parametrize("bad", [[], [math.nan, 1.0], [math.inf]])
def test_bootstrap_refuses_what_has_no_interval(bad):
    with pytest.raises(ValueError, match="finite"):
        statistics.bootstrap(bad, "a")


# -- laws --------------------------------------------------------------------------------------

@given(SOME, st.randoms())
@FEW
def test_order_makes_no_difference_and_names_do(values, random):
    shuffled = random.sample(values, len(values))
    ours = statistics.bootstrap(values, "a", resamples=200)
    assert ours == statistics.bootstrap(shuffled, "a", resamples=200)
    assert statistics.verdict(values, "a") == statistics.verdict(shuffled, "a")
    assert statistics.seed("a", "b") != statistics.seed("ab")


@given(SOME)
@FEW
def test_interval_lies_within_the_values_in_order(values):
    low, high = statistics.bootstrap(values, "x", resamples=300)
    assert min(values) <= low <= high <= max(values)


@given(SOME)
@FEW
def test_turned_signs_turn_the_answer(values):
    one = statistics.verdict(values, "a")
    other = statistics.verdict([-v for v in values], "a")
    # other numbers are drawn, so the p of the interval differs a little
    assert other.mean == pytest.approx(-one.mean)
    assert other.p == pytest.approx(one.p, abs=0.06)


@given(SOME, SOME)
@FEW
def test_ps_are_probabilities_and_mann_whitney_is_symmetric(a, b):
    assert 0 <= statistics.sign_test(a) <= 1
    p = statistics.mann_whitney(a, b)
    assert 0 <= p <= 1 and p == pytest.approx(statistics.mann_whitney(b, a))


# -- the word ----------------------------------------------------------------------------------

@pytest.mark.parametrize(("differences", "least", "word"), [
    ([], 0, "no change"), ([0.0] * 9, 0, "no change"), ([0.0009, -0.0009], 0.001, "no change"),
    ([0.0009, 0.0011], 0.001, "not significant"), ([0.5], 0, "not significant"),
    ([0.0010, 0.0011, 0.0011], 0.001, "real"), ([0.1, 0.2, 0.15, 0.12], 0, "real"),
    ([0.1, -0.2, 0.15, -0.12], 0, "not significant"),
    ([-0.1, -0.2, -0.3, -0.4, -0.5, -0.6], 0, "real"), ([9.0] + [-0.001, 0.001] * 5, 0,
                                                        "not significant"),
    # the interval ends at 0
    ([0.0, 0.0, 1.0], 0, "not significant"), ([0.0, 0.0, -1.0], 0, "not significant"),
    # the interval excludes 0, the sign test does not agree
    ([1.0] * 7 + [-0.05] * 4, 0, "not significant")])
def test_word(differences, least, word):
    assert statistics.verdict(differences, "here", least=least).word == word


@pytest.mark.parametrize(("plus", "minus", "p", "word"), [
    (13, 4, 0.0490, "real"), (10, 2, 0.0386, "real"),
    (11, 3, 0.0574, "not significant"), (9, 2, 0.0654, "not significant")])
def test_real_means_five_percent_as_the_reports_print(plus, minus, p, word):
    """Half of the words "real" rest on this level: at 10 % noise would pass as a difference.

    The losses are small, so the interval excludes 0 and the sign test alone decides.
    """
    found = statistics.verdict([1.0] * plus + [-0.01] * minus, "here")
    assert found.p == pytest.approx(p, abs=5e-5) and found.low > 0
    assert found.word == word


def test_one_pair_that_differs_makes_an_interval():
    for values in ([0.1] + [0.5] * 6, [0.5] * 6 + [0.9]):
        found = statistics.verdict(values, "x")
        assert min(values) <= found.low < found.mean < found.high <= max(values)


def test_few_pairs_are_said_to_be_few():
    assert statistics.verdict([0.1, 0.2, 0.3, 0.2, 0.1], "a").note == (
        "5 pairs: too few for a sign test, a t-test decides")
    assert statistics.verdict([0.1, 0.2, 0.3, 0.2, 0.1, 0.1], "a").note == ""
    assert "one pair" in statistics.verdict([0.1], "a").note
    # one pair has no interval, however small the difference
    assert statistics.verdict([0.0005], "a", least=0.001).low is None


def test_what_is_not_tested_has_no_p():
    assert statistics.verdict([], "a") == statistics.Paired(
        0, None, None, p=1, n=0, word="no change", note="nothing to compare", adjusted=1)
    for values in ([0.0005, 0.0006], [0.0005, 0.0006, 0.0009]):     # all of the noise of machines
        found = statistics.verdict(values, "a", least=0.001)
        assert (found.low, found.high, found.p, found.word) == (
            values[0], values[-1], 1, "no change")
    assert statistics.verdict([0.1], "a").p == 1


def test_same_bytes_in_another_process_without_heavy_imports():
    code = ("import sys; from irbench.core import statistics as s; "
            "print(s.bootstrap([.1, .2, .4, -.3, .25], 'sr-x2@1', 'psnr')); "
            "assert not {'torch', 'scipy', 'pandas'} & set(sys.modules)")
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == str(
        statistics.bootstrap([.1, .2, .4, -.3, .25], "sr-x2@1", "psnr"))


def test_tiny_differences_have_an_interval():
    low, high = statistics.bootstrap([1e-200, 2e-200, 4e-200, 5e-200], "tiny")
    assert 1e-200 <= low < high <= 5e-200


def test_the_least_p_is_that_of_samples_apart():
    assert statistics.least_p(2, 2) == pytest.approx(1 / 3)
    assert statistics.least_p(5, 5) == pytest.approx(2 / 252)


def test_how_often_noise_is_called_real_is_what_the_docstring_says():
    random = np.random.default_rng(0)
    for pairs, most in ((2, 0.09), (4, 0.09), (6, 0.07), (20, 0.07)):
        called = sum(statistics.verdict(random.normal(size=pairs), str(i)).word == "real"
                     for i in range(150))
        assert called / 150 <= most


@given(st.lists(FINITE, min_size=2, max_size=5))
@FEW
def test_of_few_pairs_the_p_is_students(values):
    from scipy.stats import ttest_1samp

    if np.ptp(values) < 1e-6:
        return
    assert statistics.paired_p(values, "x") == pytest.approx(ttest_1samp(values, 0).pvalue,
                                                             rel=1e-6, abs=1e-12)


def test_equal_differences_are_sure_and_no_differences_are_not():
    assert statistics.t_test([0.3] * 4) == 0 and statistics.t_test([0.0] * 4) == 1
    assert statistics.t_test([0.3]) == 1 and statistics.t_test([1e-200, 2e-200, 3e-200]) < 0.1


@given(st.lists(FINITE, min_size=6, max_size=25))
@FEW
def test_the_p_of_pairs_is_where_interval_and_sign_test_agree(values):
    """p < 0.05 is: the 95 % interval excludes 0, and the sign test has p < 0.05."""
    p, (low, high) = statistics.paired_p(values, "x"), statistics.bootstrap(values, "x")
    if min(abs(low), abs(high)) > 0.02 * max(map(abs, values)):     # not at the very border
        assert (p < 0.05) == ((low > 0 or high < 0) and statistics.sign_test(values) < 0.05)
    assert statistics.sign_test(values) <= p <= 1


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("seed", [2, 3, 5])
def test_p_is_the_level_at_which_an_end_of_the_interval_is_0(seed, sign):
    """Of skewed differences, so that both corrections of the interval count."""
    values = sign * (2 - np.random.default_rng(seed).lognormal(0, 1, 25))
    p = statistics.paired_p(values, "x")
    assert p > 1.2 * statistics.sign_test(values)
    ends = statistics.bootstrap(values, "x", confidence=1 - p)
    assert min(map(abs, ends)) < 0.02 * values.std() / math.sqrt(25) < 0.2 * max(map(abs, ends))


@pytest.mark.parametrize("sign", [1, -1])
def test_where_no_mean_reaches_0_the_sign_test_decides_down_to_what_the_means_resolve(sign):
    values = np.random.default_rng(0).normal(size=200)
    values = (values - values.mean()) / values.std() + 5 / math.sqrt(200)   # five standard errors
    assert min(values) < 0 < max(values)
    assert statistics.paired_p(sign * values, "x") == statistics.sign_test(values) < 2e-3
    # one value far above the others: no t-test would be sure
    assert statistics.paired_p(sign * np.array([1.0] * 13 + [1000.0]), "x") == 2e-4


def test_one_bad_pair_may_undo_many_good_ones():
    values = np.array([0.1] * 19 + [-0.7])
    assert statistics.sign_test(values) < 0.001
    assert 0.3 < statistics.paired_p(values, "x") < 0.35 > statistics.paired_p(-values, "x") > 0.3


def test_a_mean_of_four_standard_errors_is_not_yet_far_from_0():
    """Of skewed differences the interval is still less sure than the sign test."""
    values = 2.5 - np.random.default_rng(2).lognormal(0, 1, 25)
    assert 4 < values.mean() / values.std(ddof=1) * 5 < 5 and min(values) < 0
    assert statistics.sign_test(values) < 0.0002
    for one in (values, -values):
        assert 0.004 < statistics.paired_p(one, "x") < 0.01


@pytest.mark.parametrize("power", [-60, 40])
def test_another_unit_changes_no_verdict(power):
    values = 2.1 - np.random.default_rng(0).lognormal(0, 1, 25)
    one, other = statistics.verdict(values, "x"), statistics.verdict(values * 2.0**power, "x")
    assert other.p == one.p > 0
    assert (other.low, other.high) == (one.low * 2.0**power, one.high * 2.0**power)


def test_the_interval_of_any_confidence_excludes_0_below_its_p():
    values = np.random.default_rng(18).normal(0.35, 1, 40)
    values[0] -= 3
    p = statistics.paired_p(values, "x")
    for other in (values / 100, 100 * values):      # in another unit
        assert statistics.paired_p(other, "x") == pytest.approx(p)
    assert statistics.paired_p(-values / 100, "x") == pytest.approx(p, abs=0.003)
    assert statistics.sign_test(values) < p < 0.05     # that of the interval
    assert statistics.bootstrap(values, "x", confidence=1 - 1.1 * p)[0] > 0
    assert statistics.bootstrap(values, "x", confidence=1 - 0.9 * p)[0] < 0


# -- families ----------------------------------------------------------------------------------

@pytest.mark.parametrize(("ps", "corrected"), [
    ([], []), ([0.03], [0.03]), ([0.03, 0.03], [0.06, 0.06]),
    # the example of R's p.adjust: each step has one comparison less, and none falls below another
    ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]), ([0.04, 0.01, 0.02], [0.04, 0.03, 0.04]),
    ([0.6, 0.7], [1.0, 1.0])])
def test_holms_p(ps, corrected):
    assert statistics.holm(ps) == pytest.approx(corrected)


@given(st.lists(st.floats(0, 1), max_size=12), st.randoms())
@FEW
def test_holm_only_raises_and_ignores_the_order(ps, random):
    order = random.sample(range(len(ps)), len(ps))
    found = statistics.holm(ps)
    assert statistics.holm([ps[i] for i in order]) == [found[i] for i in order]
    assert all(p <= q <= min(1, len(ps) * p) + 1e-12 for p, q in zip(ps, found, strict=True))


def test_a_family_of_noise_hardly_ever_has_a_real_difference():
    """Thirty tables of ten comparisons each: uncorrected, four in ten tables should have one."""
    random = np.random.default_rng(1)
    tables = [[statistics.verdict(random.normal(size=5), f"{i}/{j}") for j in range(10)]
              for i in range(30)]
    alone, corrected = ([any(one.word == "real" for one in table) for table in how]
                        for how in (tables, map(statistics.corrected, tables)))
    assert sum(corrected) <= 3 < 6 < sum(alone)


def test_what_is_not_tested_does_not_count_in_a_family():
    one = statistics.verdict([0.5, 0.6] * 3, "x")       # six of six: p = 1/32
    same, single = statistics.verdict([0.0] * 6, "y"), statistics.verdict([0.5], "z")
    found = statistics.corrected([same, one, single])
    assert [f.word for f in found] == ["no change", "real", "not significant"]
    assert [f.word for f in statistics.corrected([one, one])] == ["not significant"] * 2
    assert statistics.corrected([one, one])[0].adjusted == pytest.approx(2 / 32)
    two = statistics.verdict([1.0, 1.1], "x")           # two pairs suffice for a t-test
    assert statistics.corrected([two, one])[0].adjusted == pytest.approx(2 * two.p)


# -- percentiles and spread --------------------------------------------------------------------

@pytest.mark.parametrize(("percent", "least"), [(50, 11), (90, 64), (95, 130), (99, 662)])
def test_a_percentile_needs_two_samples_above_it(percent, least):
    from scipy.stats import binom

    assert statistics.least_samples(percent) == least
    above = 1 - percent / 100
    assert binom.cdf(1, least, above) <= 0.01 < binom.cdf(1, least - 1, above)


def test_a_percentile_of_too_few_samples_is_unknown():
    samples = [float(i) for i in range(1, 65)]
    assert statistics.percentile(samples, 90) == pytest.approx(57.7)
    assert statistics.percentile(samples[1:], 90) is None
    assert statistics.percentile(samples, 99) is None and statistics.percentile([], 90) is None


def test_another_value_lies_in_the_prediction_interval_as_often_as_it_says():
    random = np.random.default_rng(2)
    inside = 0
    for _ in range(1000):
        *known, new = random.normal(30, 0.1, 4)
        inside += abs(new - np.mean(known)) <= statistics.prediction(known)
    assert 0.93 <= inside / 1000 <= 0.97
    assert statistics.prediction([1.0]) is None and statistics.spread([1.0]) is None
    assert statistics.spread([1.0, 2.0, 3.0]) == 1
    # Student's quantiles 12.706 and 4.303 by tables; times the deviation and sqrt(1 + 1/n)
    assert statistics.spread([1.0, 2.0]) == pytest.approx(0.5**0.5)
    assert statistics.prediction([1.0, 2.0]) == pytest.approx(12.7062 * 0.75**0.5, abs=1e-4)
    assert statistics.prediction([1.0, 2.0, 3.0]) == pytest.approx(4.96828, abs=1e-4)
