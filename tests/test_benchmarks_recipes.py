"""The benchmark of recipes: equal CPU time, a table with the spread of seeds, going on."""

import json
from dataclasses import replace
from importlib import util

import pytest

from irbench.catalog import recipes
from tests.helpers import tiny
from tests.helpers.paths import ROOT

OPTIONS = {"width": 12, "layers": 1, "heads": 1, "restoration": "unshuffle"}


@pytest.fixture(scope="module")
def benchmark():
    spec = util.spec_from_file_location("benchmark_of_recipes", ROOT / "benchmarks" / "recipes.py")
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def words(tmp_path, monkeypatch):
    """The options of a comparison on little images."""
    monkeypatch.chdir(tmp_path)
    tiny.make(tmp_path)
    fields = {"patch": 16, "batch": 2, "exclude": {}, "holdout": 1, "optimiser": "adamw"}
    return ["--out", "out", "--catalog", "datasets.yaml", "--data", "tinytrain", "--sets",
            "tinyset", "--fields", json.dumps(fields), "--options", json.dumps(OPTIONS),
            "--cpu-seconds", "0.1", "--calibrate", "3", "--change", 'low={"lr": 1e-9}']


@pytest.mark.slow
def test_it_trains_scores_and_goes_on(benchmark, words, monkeypatch, capsys, tmp_path):
    assert benchmark.main([*words, "--max-minutes", "1e-9"]) == 3      # of the first training
    assert benchmark.main(words) == 0
    out, err = capsys.readouterr()
    found = json.loads(out.splitlines()[-1])["changes"]
    assert list(found) == ["base", "low"]
    for name, one in found.items():
        assert one["steps"] == max(1, round(0.1 / one["cpu_seconds_a_step"]))
        assert len(one["seeds"]) == 2 and set(one["seeds"][0]) == {
            "cpu_seconds", "held-out", "tinyset"}
        assert all(seed["cpu_seconds"] > 0 for seed in one["seeds"])
        assert set(one["summary"]) == {"held-out", "tinyset"}
        assert f"\n{name} " in err
    # nothing is calibrated, trained or scored again
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")
            if path.is_file() and path.name != "config.json"}
    monkeypatch.setattr(benchmark.jobs, "do", None)
    monkeypatch.setattr(benchmark, "calibrate", None)
    assert benchmark.main(words) == 0
    again = json.loads(capsys.readouterr().out.splitlines()[-1])["changes"]
    assert again == found
    assert kept == {path: path.stat().st_mtime_ns for path in kept}


def test_a_step_is_the_mean_over_the_phases_by_their_shares(benchmark):
    recipe = replace(recipes.resolve({"recipe": "short"}, "x"), phases=None)
    assert benchmark.a_step(recipe, [0, 9, 10, 11, 13]) == 1
    two = replace(recipe, phases=[{"from": 0}, {"from": 0.5, "patch": 96, "batch": 4}])
    # 8 steps, of the last of which the end is not known: four in the first phase, three after it
    assert benchmark.a_step(two, [0, 5, 6, 7, 8, 18, 21, 24]) == pytest.approx(
        4 / 7 * 1 + 3 / 7 * 3)
    assert benchmark.a_step(recipe, [0, 9]) == 9


def test_differences_count_where_the_seeds_do_not_overlap(benchmark):
    def seeds(*values):
        return [{"cpu_seconds": 1, "held-out": None, "set5": value} for value in values]

    rows = benchmark.summary({"base": seeds(30.0, 30.2), "a": seeds(30.3, 30.5),
                              "b": seeds(30.1, 30.9), "c": seeds(29.0, 29.9)})
    assert {name: row["set5"]["apart"] for name, row in rows.items()} == {
        "base": None, "a": True, "b": False, "c": True}
    assert rows["a"]["set5"] == {"mean": 30.4, "spread": 0.1414, "difference": 0.3, "apart": True}
    assert "held-out" not in rows["a"]
    one = benchmark.summary({"base": seeds(30.0), "a": seeds(31.0)})["a"]["set5"]
    assert (one["spread"], one["apart"]) == (None, None)


@pytest.mark.parametrize(("more", "message"), [
    (["--only", "l2"], "no such change. Valid: base, patch96"),
    (["--change", "x"], "valid is NAME=JSON"), (["--change", "base={}"], "another name than base"),
    (["--seeds", "0"], "at least 1"), (["--cpu-seconds", "0"], "above 0"),
    (["--change", 'x={"loss": "l2"}', "--calibrate", "1"], "x.training: unknown loss 'l2'"),
])
def test_bad_options_are_refused(benchmark, words, capsys, more, message):
    with pytest.raises(SystemExit):
        benchmark.main([*words, *more])
    err = capsys.readouterr().err
    assert message in err and "calibrating" not in err


def test_every_change_is_a_valid_recipe(benchmark):
    for name, fields in benchmark.CHANGES.items():
        assert recipes.resolve({"recipe": "short", "data": ["a"], **fields}, name)
