"""Step detection on series that were made with steps, and on series without."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irbench.compare import steps

FLOOR = 0.001                   # dB, what a machine changes
# sixty-fourths: exact in binary, so that shifting and scaling by powers of 2 round nothing
LEVEL = st.integers(0, 3000).map(lambda n: n / 64)
SERIES = st.lists(LEVEL, max_size=24)


def places(values, floor=FLOOR):
    return [step.at for step in steps.find(values, floor)]


def noisy(n, seed, sigma=1.0):
    drawn = random.Random(seed)
    return [drawn.gauss(0, sigma) for _ in range(n)]


@pytest.mark.parametrize("at", range(1, 12))
def test_a_step_planted_in_a_constant_series_is_found_where_it_is(at):
    (step,) = steps.find([34.5] * at + [34.1] * (12 - at), FLOOR)
    assert (step.at, step.before, step.after) == pytest.approx((at, 34.5, 34.1))
    assert step.size == pytest.approx(-0.4)


def test_a_step_planted_in_noise_is_found_where_it_is():
    found = [places([v + 8 * (i >= 13) for i, v in enumerate(noisy(30, seed))], 1e-6)
             for seed in range(100)]
    assert sum(place == [13] for place in found) >= 90


@pytest.mark.parametrize("n", [5, 8, 15, 40])
def test_noise_alone_seldom_has_a_step(n):
    assert sum(bool(places(noisy(n, seed), 1e-6)) for seed in range(200)) <= 16


def test_two_steps_and_a_value_that_differs_alone():
    assert places([30.0] * 5 + [31.0] * 5 + [30.5] * 4) == [5, 10]
    assert places([30.0] * 5 + [28.0] + [30.0] * 5) == [5, 6]


def test_two_values_differ_by_a_step_only_beyond_the_floor():
    assert places([30.0, 30.002]) == []
    assert places([30.0, 30.01]) == [1]
    assert places([30.0, 30.01], floor=0.02) == []


def test_a_series_that_wanders_has_no_step():
    # every difference is as large as the others: that is noise, as far as a series can tell
    assert places([30.1, 30.6, 30.0, 30.5, 30.2, 30.7, 30.1]) == []


def test_the_noise_is_estimated_from_differences_and_hardly_from_steps():
    values = noisy(400, 3, sigma=0.2)
    assert steps.noise(values, FLOOR) == pytest.approx(0.2, rel=0.15)
    stepped = [v + 50 * (i >= 200) for i, v in enumerate(values)]
    assert steps.noise(stepped, FLOOR) == pytest.approx(steps.noise(values, FLOOR), rel=0.02)
    assert steps.noise([1.0, 9.0, 1.0, 9.0], FLOOR) == FLOOR


def test_exact_figures_change_at_every_difference():
    assert steps.exact([]) == []
    assert steps.exact([7, 7, 7]) == []
    assert [(s.at, s.size) for s in steps.exact([7, 7, 8, 8, 7])] == [(2, 1), (4, -1)]


@pytest.mark.parametrize(("values", "floor"), [([1.0, 2.0], 0.0), ([1.0, 2.0], -1.0),
                                               ([1.0, float("nan")], 1.0),
                                               ([1.0, float("inf")], 1.0)])
def test_what_is_no_number_is_refused(values, floor):
    with pytest.raises(ValueError, match="floor|finite"):
        steps.find(values, floor)


@given(LEVEL, st.integers(0, 40))
def test_a_constant_series_has_no_step(level, n):
    assert steps.find([level] * n, FLOOR) == []
    assert steps.exact([level] * n) == []


@given(SERIES, st.integers(-1000, 1000))
def test_a_shift_moves_the_levels_and_no_step(values, shift):
    moved = steps.find([v + shift for v in values], FLOOR)
    expected = steps.find(values, FLOOR)
    assert [s.at for s in moved] == [s.at for s in expected]
    assert [s.before for s in moved] == pytest.approx([s.before + shift for s in expected])


@given(SERIES, st.sampled_from([2.0**k for k in range(-20, 21)]))
def test_another_unit_scales_the_levels_and_moves_no_step(values, scale):
    scaled = steps.find([v * scale for v in values], FLOOR * scale)
    expected = steps.find(values, FLOOR)
    assert [s.at for s in scaled] == [s.at for s in expected]
    assert [s.size for s in scaled] == pytest.approx([s.size * scale for s in expected])


@given(SERIES)
def test_the_same_values_give_the_same_levels_between_steps(values):
    found = steps.find(values, FLOOR)
    assert all(a.at < b.at and a.after == b.before
               for a, b in itertools.pairwise(found))
    assert all(0 < s.at < len(values) for s in found)


@given(st.lists(st.integers(-20, 20).map(float), min_size=1, max_size=9))
def test_no_other_segments_cost_less(values):
    """The dynamic programme against every way to cut the series."""
    penalty = 5.0

    def cost(starts):
        parts = [values[a:b] for a, b in zip(starts, [*starts[1:], len(values)], strict=True)]
        return sum(sum((v - sum(p) / len(p)) ** 2 for v in p) for p in parts) + penalty * (
            len(parts) - 1)

    cuts = [[0, *(i for i in range(1, len(values)) if mask >> (i - 1) & 1)]
            for mask in range(2 ** (len(values) - 1))]
    assert cost(steps._fit(values, penalty)) == pytest.approx(min(map(cost, cuts)), abs=1e-6)
