"""Sweeps: the order, what stops them, and the fitted exponent against known answers."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irbench.core.errors import UserError
from irbench.jobs.profiling import sweep


def measured(seconds, memory=lambda pixels: None):
    """A ``measure`` that takes its figures from functions of all pixels."""
    asked = []

    def measure(height, width, batch):
        asked.append((height, width, batch))
        pixels = height * width * batch
        return {"latency_ms": {"p50": seconds(pixels)}, "peak_memory_bytes": memory(pixels),
                "missing": {}}
    return measure, asked


def test_points_run_from_small_to_large_and_keep_the_other_figures_of_the_input():
    measure, asked = measured(lambda pixels: 2 * pixels**1.5)
    found = sweep.run(measure, sweep.check({"sizes": [16, 4, 8, 4], "batches": [4, 1, 2]}),
                      height=10, width=6, batch=3)
    assert asked == [(4, 4, 3), (8, 8, 3), (16, 16, 3), (10, 6, 1), (10, 6, 2), (10, 6, 4)]
    # pixels of one image, and images: both have the exponent of the whole
    for kind in ("size", "batch"):
        assert found[kind]["exponent"] == {"value": 1.5, "low": 1.5, "high": 1.5}
        assert found[kind]["reason"] == ""
    assert found["size"]["points"][0] == {
        "height": 4, "width": 4, "batch": 3, "latency_ms": {"p50": 2 * 48**1.5},
        "peak_memory_bytes": None, "missing": {}}


def test_an_empty_sweep_has_no_points_and_says_why_no_exponent():
    found = sweep.run(None, sweep.check({}), height=8, width=8, batch=1)
    assert found["size"] == found["batch"] == {
        "points": [], "exponent": None,
        "reason": "an exponent needs 3 timed points; there are 0"}


def test_what_will_not_fit_by_the_point_before_is_not_tried():
    measure, asked = measured(lambda pixels: pixels, lambda pixels: 100 * pixels)
    found = sweep.run(measure, sweep.check({"sizes": [8, 16, 32, 64]}), height=8, width=8,
                      batch=1, free=lambda: 100 * 16**2)
    assert asked == [(8, 8, 1), (16, 16, 1)]
    for point in found["size"]["points"][2:]:
        assert point["latency_ms"] is None
        assert point["missing"]["latency_ms"] == point["missing"]["peak_memory_bytes"]
        assert "not tried" in point["missing"]["latency_ms"]
        assert "16 x 16, batch 1" in point["missing"]["latency_ms"]
    assert found["size"]["reason"].endswith("there are 2")


def test_unknown_memory_stops_nothing():
    for memory, free in ((lambda pixels: None, 1), (lambda pixels: 10**12, None)):
        measure, asked = measured(lambda pixels: pixels, memory)
        sweep.run(measure, sweep.check({"sizes": [8, 16]}), height=8, width=8, batch=1,
                  free=lambda free=free: free)
        assert len(asked) == 2


def test_the_interval_is_the_textbooks():
    # a line with residuals 1, -2, 1 (times d), which leave the slope as it is: s^2 = 6 d^2 / 1,
    # var(slope) = s^2 / sum (x - mean)^2 = 6 d^2 / 2; t of 97.5 % with 1 degree of freedom 12.7062
    d = 0.01
    x = [math.exp(v) for v in (1, 2, 3)]
    y = [math.exp(1.3 * v + d * e) for v, e in zip((1, 2, 3), (1, -2, 1), strict=True)]
    found = sweep.fit_exponent(x, y)
    half = 12.7062 * d * math.sqrt(3)
    assert found["value"] == pytest.approx(1.3, abs=1e-4)
    assert found["high"] - found["value"] == pytest.approx(half, abs=2e-4)
    assert found["value"] - found["low"] == pytest.approx(half, abs=2e-4)


@given(st.floats(-1, 3), st.floats(1e-3, 1e3), st.lists(st.integers(1, 10**6), min_size=3,
                                                          max_size=8, unique=True))
@settings(derandomize=True, deadline=None)
def test_a_power_is_found_exactly(exponent, factor, x):
    found = sweep.fit_exponent(x, [factor * float(v) ** exponent for v in x])
    assert found["value"] == pytest.approx(exponent, abs=1e-3)
    assert found["low"] <= found["value"] <= found["high"]


def test_the_interval_holds_the_true_exponent_as_often_as_it_says():
    random = np.random.default_rng(0)
    x = np.array([1.0, 2, 4, 8, 16])
    inside = 0
    for _ in range(400):
        found = sweep.fit_exponent(x.tolist(), (x * np.exp(random.normal(0, 0.1, 5))).tolist())
        inside += found["low"] <= 1 <= found["high"]
    assert 0.92 < inside / 400 < 0.98  # 95 % with a standard error of 1.1 %


@pytest.mark.parametrize("x", [[], [1, 2], [4, 4, 8, 8]])
def test_fewer_than_three_sizes_give_no_exponent(x):
    assert sweep.fit_exponent(x, [1.0] * len(x)) is None


@pytest.mark.parametrize(("settings", "message"), [
    ([64], "sweep is"), ({"size": [64]}, "sizes, batches, samples"),
    ({"sizes": 64}, "sweep.sizes is 64"), ({"sizes": [64, 0]}, "sweep.sizes"),
    ({"batches": [1.5]}, "sweep.batches"), ({"batches": [True]}, "sweep.batches"),
    ({"samples": 0}, "sweep.samples is 0"), ({"samples": "3"}, "sweep.samples")])
def test_bad_settings_are_named(settings, message):
    with pytest.raises(UserError, match=message):
        sweep.check(settings)
