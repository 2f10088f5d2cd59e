"""The rows of the table of metrics, written out: they decide how values are judged."""

import dataclasses
import math

import pytest

from irbench.core import metrics
from irbench.core.metrics import METRICS, Metric

BUILT_IN = list(METRICS.values())
INDEX = {"noise": 5e-05, "height": 0.005}
PERCEPTUAL = {"direction": "lower", "weights": True, "noise": 0.0001, "alike": 5e-05,
              "height": 0.01}
# what decides how a value is judged and printed; a change also changes the verdicts on users' runs
ROWS = {
    "psnr": {"unit": "dB", "decimals": 2, "range": [0, 200], "default": True, "main": True,
             "difference_decimals": 3, "noise": 0.001, "close": 0.01, "near": 0.1, "height": 0.5},
    "ssim": {**INDEX, "range": [-1, 1], "default": True, "main": True, "close": 0.0005,
             "near": 0.002},
    "lpips": {**PERCEPTUAL, "range": [0, None], "default": True},
    "lpips_vgg": {**PERCEPTUAL, "range": [0, None]}, "dists": {**PERCEPTUAL, "range": [0, 1]},
    "ms_ssim": {**INDEX, "range": [0, 1]},
    "gmsd": {**INDEX, "range": [0, 1], "direction": "lower"},
    "fsim": {**INDEX, "range": [0, 1]}, "vif": {**INDEX, "range": [0, None]},
    "niqe": {"decimals": 3, "direction": "lower", "range": [0, None], "weights": True,
             "reference": False},
}


def test_how_a_value_is_judged_never_changes_unnoticed():
    derived = {"alike", "difference_decimals", "exact_decimals", "height", "name", "noise",
               "source", "title"}
    for one in BUILT_IN:
        row = metrics.plain(one)
        given = {key: row[key] for key in row if key in ROWS[one.name] or key not in derived}
        assert given == ROWS[one.name], one.name


@pytest.mark.parametrize("one", BUILT_IN, ids=lambda one: one.name)
def test_the_sign_only_turns_a_difference_round(one):
    assert one.sign == (1 if one.direction == "higher" else -1)


@pytest.mark.parametrize(("ends", "limits"), [
    ((0.0, 1.0), ", 0 to 1"), ((0.0, math.inf), ", from 0"), ((-math.inf, 5.0), ", up to 5"),
    ((-math.inf, math.inf), "")])
def test_the_summary_of_a_row(ends, limits):
    row = Metric("a", "A", "dB", range=ends)
    assert row.summary == f"A (dB), higher is better{limits}"
    assert dataclasses.replace(row, reference=False, weights=True).summary == (
        f"A (dB), higher is better{limits}, no reference, needs weights")
