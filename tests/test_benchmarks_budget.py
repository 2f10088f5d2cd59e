"""The benchmark of budgets: the fitted curve, what it predicts, a whole run on little images."""

import json
import sys
from dataclasses import replace
from importlib import util

import numpy as np
import pytest
from PIL import Image

from irbench.catalog import recipes
from irbench.core.errors import UserError
from tests.helpers import tiny
from tests.helpers.paths import ROOT

OPTIONS = {"width": 12, "layers": 1, "heads": 1, "restoration": "unshuffle"}


@pytest.fixture(scope="module")
def benchmark():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        spec = util.spec_from_file_location("benchmark_of_budgets", ROOT / "benchmarks/budget.py")
        module = util.module_from_spec(spec)
        spec.loader.exec_module(module)
    yield module
    sys.modules.pop("recipes", None)


def test_a_power_law_is_found_again(benchmark):
    x = [4.1, 8.3, 16.6, 33.2, 66.4]
    curve = benchmark.fit(x, [38.5 - 3 * n ** -0.25 for n in x])
    assert curve["c"] == pytest.approx(0.25, abs=1e-9)
    assert (curve["a"], curve["b"]) == pytest.approx((38.5, 3))
    assert curve["residual"] < 1e-9 and not curve["edge"]
    assert benchmark.value(curve, 1000.0) == pytest.approx(38.5 - 3 * 1000 ** -0.25)


def test_points_without_a_bend_predict_nothing(benchmark):
    x = [1.0, 2.0, 4.0, 8.0]
    assert benchmark.fit(x, list(np.log(x)))["edge"]            # a straight line on a log axis
    assert benchmark.fit(x, [1 - n ** -5.0 for n in x])["edge"]


def test_predictions_leave_out_what_they_predict(benchmark):
    x = [1.0, 2.0, 4.0, 8.0, 16.0]
    law = [30 - n ** -0.5 for n in x]
    measured = [*law[:-1], law[-1] + 0.1]       # the last is better than the others promise
    row = benchmark.findings(x, {"set5": measured}, {"pixels": 64.0, "set5": 31.0}, 1000.0)["set5"]
    assert row["longest"] == {"predicted": pytest.approx(law[-1]), "measured": measured[-1]}
    assert row["bundled"]["measured"] == 31.0
    assert row["bundled"]["predicted"] == benchmark.value(row["curve"], 64.0)
    assert row["far"]["predicted"] == benchmark.value(row["curve"], 1000.0)
    four = benchmark.findings(x[:4], {"set5": law[:4]}, None, 1000.0)["set5"]
    assert four["longest"] is None and four["bundled"] is None  # three points fit any such curve


def test_pixels_are_those_of_the_targets(benchmark):
    recipe = recipes.resolve({"recipe": "short"}, "x")
    assert benchmark.pixels(recipe, 1000) == 1000 * 8 * 48 * 48 / 1e6
    with pytest.raises(UserError, match="phases"):
        benchmark.pixels(replace(recipe, phases=[{"from": 0}]), 1)


@pytest.mark.parametrize(("more", "message"), [
    (["--steps", "1", "2", "3"], "at least 4 different numbers"),
    (["--steps", "1", "2", "3", "3"], "at least 4 different numbers"),
    (["--plot", "x.svg"], "valid is a file that ends in .png"),
    (["--predict", "demo", "--steps", "1", "2", "3", "9000"], "not beyond the longest"),
    (["--predict", "none"], "none"),
])
def test_bad_options_are_refused(benchmark, tmp_path, monkeypatch, capsys, more, message):
    monkeypatch.chdir(tmp_path)
    tiny.make(tmp_path)
    words = ["--out", "out", "--catalog", "datasets.yaml", "--data", "tinytrain", "--sets",
             "tinyset", "--fields", json.dumps({"exclude": {}, "holdout": 1})]
    with pytest.raises(SystemExit):
        benchmark.main([*words, *more])
    assert message in capsys.readouterr().err
    assert not list(tmp_path.rglob("spent.json"))


@pytest.mark.slow
def test_it_trains_fits_and_draws(benchmark, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tiny.make(tmp_path)
    fields = {"patch": 16, "batch": 2, "exclude": {}, "holdout": 1, "optimiser": "adamw"}
    words = ["--out", "out", "--catalog", "datasets.yaml", "--data", "tinytrain", "--sets",
             "tinyset", "--fields", json.dumps(fields), "--options", json.dumps(OPTIONS),
             "--steps", "1", "2", "3", "4", "5", "--plot", "curve.png"]
    assert benchmark.main([*words, "--max-minutes", "1e-9"]) == 3
    assert benchmark.main(words) == 0
    out, err = capsys.readouterr()
    found = json.loads(out.splitlines()[-1])
    assert found["million_pixels"] == [n * 2 * 16 * 16 / 1e6 for n in range(1, 6)]
    assert set(found["psnr"]) == {"held-out", "tinyset"}
    assert all(seconds > 0 for seconds in found["cpu_seconds"])
    assert found["curves"]["tinyset"]["longest"]["measured"] == found["psnr"]["tinyset"][-1]
    assert "extrapolated" in err
    assert found["bundled"] is None     # the bundled weights are those of another variant
    with Image.open("curve.png") as image:
        assert image.width > 1000
    first = (tmp_path / "curve.png").read_bytes()
    monkeypatch.setattr(benchmark.comparison.jobs, "do", None)      # nothing is trained again
    assert benchmark.main(words) == 0
    assert (tmp_path / "curve.png").read_bytes() == first
