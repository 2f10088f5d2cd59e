"""The table of metrics: what its rows promise, that it is the only list, and that it is open."""

import ast
import csv
import dataclasses
import json
import math

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from irbench import cli, plan
from irbench.catalog import published
from irbench.compare import history, tolerances
from irbench.core import metrics, records
from irbench.core.errors import UserError
from irbench.core.metrics import METRICS, Metric, Tolerance
from irbench.fidelity import anchors
from irbench.imaging import metrics as scoring
from irbench.plan import config as configs
from irbench.plan import sources
from irbench.present import text
from irbench.report.facts import verdict
from tests.helpers import tiny
from tests.helpers.paths import ROOT

BUILT_IN = list(METRICS.values())
MAE = Metric("mae", "MAE", "levels", 3, metrics.LOWER, (0.0, 255.0),
             tolerance=Tolerance(mean=0.05, image=0.5, exact=0.01))


# -- the rows ----------------------------------------------------------------------------------

@pytest.mark.parametrize("one", BUILT_IN, ids=lambda one: one.name)
def test_the_numbers_of_a_row_fit_each_other(one):
    half = 0.5 * 10.0 ** -one.exact_decimals        # what rounding a kept score moves
    assert half < one.noise and half < one.alike
    limits = tolerances.load().for_key("a/b/c")
    assert one.noise < limits["quality"][one.name]["mean"] < limits["quality"][one.name]["image"]
    assert one.noise < limits["exact"][one.name] < limits["quality"][one.name]["mean"]
    assert one.decimals <= one.difference_decimals <= one.exact_decimals
    assert one.height > 10 * one.noise
    assert one.close is None or one.noise < one.close


@given(st.sampled_from(BUILT_IN), st.floats(-100, 100), st.floats(-100, 100))
def test_better_follows_the_direction(one, a, b):
    higher = one.direction == "higher"
    assert one.better(a, b) == (a > b if higher else a < b)
    assert not (one.better(a, b) and one.better(b, a))
    assert text.metric_label(one.name).endswith("↑" if higher else "↓")


def test_as_printed():
    psnr, lpips = METRICS["psnr"], METRICS["lpips"]
    assert (psnr.label, lpips.label) == ("PSNR (dB)", "LPIPS")
    assert psnr.worded(33.1999) == "PSNR 33.20 dB" and lpips.worded(0.12346) == "LPIPS 0.1235"
    assert (psnr.difference(0.0179), lpips.difference(-0.00001)) == ("+0.018", "0.0000")
    assert psnr.column("difference") == "psnr_difference_db" and lpips.column() == "lpips"
    assert f"{psnr.close:g} dB" in verdict.CLOSE_REASON
    assert f"{METRICS['ssim'].close:g}".lstrip("0") in verdict.CLOSE_REASON


@given(st.floats(-1e6, 1e6), st.integers(1, 6))
def test_a_signed_number_is_the_number_and_zero_has_no_sign(number, places):
    shown = metrics.signed(number, places)
    assert abs(float(shown) - number) <= 0.5 * 10.0**-places + 1e-9
    assert (shown[0] in "+-") == (float(shown) != 0)
    assert metrics.decimals(shown) == places


@pytest.mark.parametrize(("text", "shown", "places"), [
    (".9614", "0.9614", 4), ("38.24", "38.24", 2), ("38", "38", 0)])
def test_printed_text(text, shown, places):
    assert (metrics.leading_zero(text), metrics.decimals(text)) == (shown, places)


@pytest.mark.parametrize(("change", "message"), [
    ({"name": "PSNR"}, "the name is not valid"), ({"name": "macs"}, "the name is not valid"),
    ({"name": "file"}, "the name is not valid"), ({"name": "a b"}, "the name is not valid"),
    ({"direction": "lowr"}, "unknown direction 'lowr'. Did you mean 'lower'"),
    ({"decimals": -1}, "decimals is -1"), ({"range": (1.0, 1.0)}, "the least value before"),
    ({"exact_decimals": 1, "noise": 0.001}, "exact_decimals is 1, which rounds by more than"),
    ({"exact_decimals": 1, "noise": 0.04}, "exact_decimals is 1, which rounds by more than"),
    ({"tolerance": 5}, "tolerance is 5"), ({"title": " "}, "title is ' '"),
])
def test_a_row_that_cannot_be(change, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(MAE, **change)


WRONG = (   # fields, and values that a record or a user's file may hold in their place
    (["title"], ["a\nb", "\x1b[31m", "a\u202eb", "", 5, None, ["a"]]),
    (["unit"], ["\n", 5, None, {}]), (["source"], ["a\rb", 5]),
    (["direction"], ["up", 5, None, ["lower"]]),
    (["decimals", "exact_decimals", "difference_decimals"], ["2", -1, 16, 400, 1.5, True, [1]]),
    (["noise", "height"], ["x", 0, -1, True, [], {}, 1e300]),
    (["alike", "close", "near"], ["x", -1, False, [], {}]),
    (["weights", "reference"], ["yes", 1, None]),
    (["range"], [3, "wide", [0], [0, "x"], [1, 0], [True, 2], [[0], 1], {}, None]),
    (["tolerance"], [5, "x", [], {"mean": "x"}, {"mean": -1}, {"mean": None}, {"image": 1},
                     {"mean": 1, "image": []}, {"mean": 1, "exact": -0.1}, {"mean": True}]),
    (["name"], [5, None, "A b", [], "psnr\n"]))


@pytest.mark.parametrize(("field", "value"), [
    (field, value) for fields, values in WRONG for field in fields for value in values])
def test_a_row_of_wrong_values_is_refused_in_one_sentence(field, value):
    with pytest.raises(UserError) as caught:
        metrics.row({"name": "mine", "title": "Mine", field: value}, "here")
    assert str(caught.value).startswith("here: ") and "\n" not in str(caught.value)


def test_a_row_as_plain_data_is_the_row_again():
    least = metrics.row({"name": "mine", "title": "Mine"})
    assert metrics.plain(least).keys() >= {"name", "title"}
    for one in (least, MAE, dataclasses.replace(MAE, range=(-math.inf, 1.0), tolerance=None),
                dataclasses.replace(MAE, range=(0.0, math.inf), tolerance=Tolerance(1))):
        assert metrics.row(json.loads(json.dumps(metrics.plain(one)))) == one


@pytest.mark.parametrize("value", ["mae", ["name", "title"], {"title": "A"}, {"name": "a"}, None])
def test_a_row_has_a_name_and_a_title(value):
    with pytest.raises(UserError, match="here: .* is not a mapping with name and title"):
        metrics.row(value, "here")


def test_a_field_that_a_row_does_not_have_is_refused():
    with pytest.raises(UserError, match="here: unknown field 'unti'. Did you mean 'unit'"):
        metrics.row({"name": "a", "title": "A", "unti": "dB"}, "here")


def test_a_users_row_replaces_an_earlier_one_but_none_of_irbench():
    for one in (MAE, dataclasses.replace(MAE, decimals=5)):
        metrics.adopt(one)
        assert METRICS["mae"] is one
    with pytest.raises(UserError, match="metric 'psnr' already exists"):
        metrics.adopt(dataclasses.replace(MAE, name="psnr"))


def test_a_record_defines_a_metric_once():
    rows = [{"name": "mine", "title": "Mine"}, {"name": "yours", "title": "Yours"}]
    assert list(metrics.held(rows, "here")) == ["mine", "yours"]
    with pytest.raises(UserError, match="here: 'mine' is defined twice"):
        metrics.held([*rows, rows[0]], "here")


def test_the_decimals_of_a_baseline_are_fine_enough_for_the_noise():
    assert Metric("a", "A", exact_decimals=1, noise=0.05).exact_decimals == 1   # 0.05 at most
    for noise in (0.5, 0.02, 1e-6):
        one = metrics.row({"name": "mine", "title": "Mine", "noise": noise})
        assert 0.5 * 10.0 ** -one.exact_decimals < noise


@given(st.floats(allow_nan=True))
def test_a_value_within_the_range_is_one_of_the_metric(value):
    expected = -MAE.noise <= value <= 255 + MAE.noise
    assert MAE.holds(value) == expected
    assert MAE.holds(255 + MAE.noise / 2) and not MAE.holds(255 + 2 * MAE.noise)
    assert MAE.holds(-MAE.noise) and not MAE.holds(-1.01 * MAE.noise)
    assert not METRICS["vif"].holds(1e300) and METRICS["vif"].holds(1e6)


def test_metrics_of_pyiqa_may_leave_the_range_that_it_states():
    one = dataclasses.replace(MAE, name="pyiqa:mine")
    assert one.holds(-9.0) and one.holds(1e6) and not one.holds(math.nan)


def test_no_metric_may_take_the_place_of_another_key_of_a_record(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(path := config(tmp_path, "one", ["psnr"]))
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {
        "run": "kept", "keep_images": True}))
    run(path)
    for name in ("one", "kept"):
        record = records.read(cell_of(name))
        assert set(record["result"]["images"][0]) - {"psnr"} <= metrics.RESERVED
    assert "kept" in record["result"]["images"][0]
    assert cli.main(["baseline", "write", "results/one", "--output", "one.json"]) == 0
    (cell,) = json.loads((tmp_path / "one.json").read_text())["cells"].values()
    assert set(cell) - {"psnr"} <= metrics.RESERVED
    assert set(history.PROFILED) <= metrics.RESERVED


def test_defaults_follow_from_the_decimals():
    assert (MAE.exact_decimals, MAE.difference_decimals) == (4, 3)
    assert (MAE.noise, MAE.alike, MAE.height) == (0.001, 0.001, 0.1)
    assert Metric("a", "A", noise=0.5).alike == 0.5


def test_a_name_is_taken_once(mae):
    assert metrics.register(mae) is mae             # the same row again
    with pytest.raises(UserError, match="metric 'psnr' already exists"):
        metrics.register(dataclasses.replace(mae, name="psnr"))
    assert METRICS["psnr"].title == "PSNR"
    with pytest.raises(UserError, match="'ssim' is already computed by irbench.imaging.metrics"):
        scoring.register("ssim", lambda protocol: lambda pair: 1.0)


def test_unknown_names_are_refused_with_near_ones():
    with pytest.raises(UserError, match="unknown metric 'pnsr'. Did you mean 'psnr'"):
        metrics.get("pnsr")
    assert metrics.ordered(["lpips", "none", "psnr", "psnr"]) == ("psnr", "lpips")
    assert metrics.alone(["ssim", "niqe", "none"]) == ("niqe",)


def test_values_count_under_the_definition_they_were_computed_with(mae):
    """What neither side defines, or irbench itself, does not stop the comparison of the others."""
    other = dataclasses.replace(mae, direction="higher", title="Another", noise=0.5)
    assert metrics.otherwise(["unknown", "psnr", "mae"], {"mae": mae}) == {}
    found = metrics.otherwise(["unknown", "psnr", "mae"], {"mae": other})
    assert found == {"mae": "another definition of mae: direction is higher, not lower; "
                            "noise is 0.5, not 0.001"}
    assert metrics.otherwise(["mae"], {}) == {
        "mae": "another definition of mae: the record has none"}
    assert "another definition of psnr" in metrics.otherwise(
        [], {"psnr": dataclasses.replace(METRICS["psnr"], unit="bit")})["psnr"]


# -- the table and what is asked of it elsewhere -----------------------------------------------

def test_what_computes_a_metric_has_its_row_and_the_other_way_round():
    assert list(scoring.COMPUTED) == list(METRICS)
    assert set(scoring.FILES) == {one.name for one in BUILT_IN if one.weights}


def test_data_name_metrics_of_the_table_only():
    content = yaml.safe_load(tolerances.DEFAULTS.read_text())
    assert set(content["quality"]) == set(content["exact"]) - {"gate"} == set(METRICS)
    assert {figure.metric for figure in published.load()} <= set(METRICS)
    assert {r.metric for row in anchors.load().rows for r in row.references} <= metrics.BUILT_IN
    assert metrics.default() == ("psnr", "ssim", "lpips") and metrics.main() == ("psnr", "ssim")
    assert set(metrics.explained()) <= {name for name, one in METRICS.items()
                                        if math.isfinite(one.range[1])}


@pytest.mark.parametrize("section", ["quality: {psnrr: {mean: 1}}", "exact: {psnrr: 1}"])
def test_tolerances_of_a_metric_that_does_not_exist_are_refused(tmp_path, section):
    path = tmp_path / "tolerances.yaml"
    path.write_text(section)
    with pytest.raises(UserError, match="unknown key 'psnrr'. Did you mean 'psnr'"):
        tolerances.load(path)


def test_a_config_names_metrics_of_the_table_or_has_its_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="metrics: unknown metric 'sim'. Did you mean 'ssim'"):
        plan.load(config(tmp_path, "one", ["psnr", "sim"]))
    path = config(tmp_path, "one", None)
    assert configs.load(path)["metrics"] == list(metrics.default())


def test_a_metric_that_nothing_computes_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(METRICS, "mae", MAE)
    with pytest.raises(UserError, match="metrics: unknown metric 'mae'.*Valid: dists, fsim"):
        plan.load(config(tmp_path, "one", ["mae"]))


def test_the_table_outdates_the_report_and_no_result():
    followed = {kind: "irbench.core.metrics" in sources.closure(kind).modules
                for kind in sources.ENTRIES}
    assert followed == {kind: kind == "report" for kind in sources.ENTRIES}


# public functions of three metrics; how far printed values may lie, by how the input is made
OTHER_TABLES = {"irbench/__init__.py", "irbench/report/facts/verdict.py"}


def lists_in(source: str) -> list[list[str]]:
    """Return the metrics of each tuple, list, set or mapping that names two of them or more."""
    found = []
    for node in ast.walk(ast.parse(source)):
        entries = node.keys if isinstance(node, ast.Dict) else getattr(node, "elts", ())
        names = [one.value for one in entries
                 if isinstance(one, ast.Constant) and one.value in METRICS]
        found += [names] if len(names) > 1 else []
    return found


def test_the_source_has_no_other_list_of_metrics():
    paths = sorted((ROOT / "irbench").rglob("*.py"))
    assert len(paths) > 100
    found = {str(path.relative_to(ROOT)) for path in paths if lists_in(path.read_text())}
    assert found == OTHER_TABLES


@pytest.mark.parametrize("text", [
    'A = ("psnr", "ssim")', 'A = {"lpips": 1, "psnr": 2}', 'A = ["a", "ssim", f(x), "psnr"]',
    'for a in {"psnr", "ssim"}:\n    pass'])
def test_such_a_list_would_be_seen(text):
    assert lists_in(text)
    assert not lists_in(text.replace("ssim", "mae").replace("lpips", "mae"))


# -- a metric of one's own, from the config to the gate ----------------------------------------

def config(folder, run, names, model="bicubic"):
    """A config of one cell that asks for these metrics (None: it does not say)."""
    path = tiny.make(folder, run=run, models={model: {}}, keep_images=False, cells=[
        {"protocol": "sr-x2", "datasets": ["tinyset"], "models": [model]}])
    content = yaml.safe_load(path.read_text())
    content["metrics"] = names
    if names is None:
        del content["metrics"]
    path.write_text(yaml.safe_dump(content))
    return path


def run(path):
    assert cli.main(["eval", "--config", str(path), "--protocol", "sr-x2", "--dataset", "tinyset",
                     "--model", "bicubic"]) == 0


def cell_of(name):
    (path,) = (plan.load("config.yaml").folder.parent / name / "cells").rglob("bicubic.json")
    return path


def mean_absolute_error(pair):
    return float(np.abs(np.subtract(*pair.planes)).mean())


@pytest.fixture
def mae():
    metrics.register(MAE)
    scoring.register("mae", lambda protocol: mean_absolute_error)
    yield MAE
    del METRICS["mae"], scoring.COMPUTED["mae"]


@pytest.fixture
def runs(mae, tmp_path, monkeypatch):
    """Three runs of one cell: ``plain``, ``worse`` by 0.2 levels on each image, ``better``."""
    monkeypatch.chdir(tmp_path)
    for name, more in (("better", -0.2), ("worse", 0.2), ("plain", 0.0)):
        with monkeypatch.context() as patched:
            patched.setitem(scoring.COMPUTED, "mae", lambda protocol, more=more: (
                lambda pair: mean_absolute_error(pair) + more))
            run(config(tmp_path, name, ["mae", "psnr"]))
    return tmp_path


def test_a_metric_of_ones_own_reaches_record_and_report(runs, capsys):
    record = records.read(cell_of("plain"))
    assert record["spec"]["metrics"] == ["mae", "psnr"] and "lpips_weights" not in record["spec"]
    scores = [image["mae"] for image in record["result"]["images"]]
    assert len(scores) == 3 and min(scores) > 0
    mean = record["result"]["mean"]["mae"]
    assert mean == pytest.approx(sum(scores) / 3)
    assert cli.main(["report"]) == 0
    folder = runs / "results/plain"
    head, _, row = (folder / "tables/sr.md").read_text().splitlines()[2:5]
    assert "MAE (levels) ↓" in head and f"{mean:.3f}" in row
    (line,) = csv.DictReader((folder / "summary.csv").open())
    assert line["mae_levels"] == repr(mean) and line["lpips"] == ""
    page = (folder / "report.html").read_text()
    assert "MAE: lower is better." in page
    rows = list(csv.DictReader((folder / "tables/sr.csv").open()))
    assert ("mae", "levels", f"{mean:.3f}") in [(r["metric"], r["unit"], r["shown"]) for r in rows]


@pytest.mark.parametrize(("other", "code"), [("worse", 1), ("better", 0)])
def test_a_metric_of_ones_own_is_compared_and_gated(runs, capsys, other, code):
    assert cli.main(["compare", "results/plain", f"results/{other}", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)["cells"][0]["metrics"]
    assert list(found) == ["psnr", "mae"]           # the order of the table
    assert (found["mae"]["verdict"], found["mae"]["direction"]) == ("real", other)
    assert found["psnr"]["verdict"] == "no change"
    assert cli.main(["baseline", "write", "results/plain", "--output", "base.json"]) == 0
    capsys.readouterr()
    assert cli.main(["check", f"results/{other}", "--baseline", "base.json"]) == code
    out = capsys.readouterr().out
    assert "mean MAE" in out and "levels" in out
    assert cli.main(["check", "results/plain", "--baseline", "base.json"]) == 0
    assert cli.main(["baseline", "show", "base.json"]) == 0
    assert "MAE, levels" in capsys.readouterr().out


def test_a_metric_without_a_tolerance_is_not_gated_unless_a_file_says_so(runs):
    METRICS["mae"] = dataclasses.replace(MAE, tolerance=None)       # until the fixture ends
    for name in ("plain", "worse"):
        record = json.loads(cell_of(name).read_text())
        cell_of(name).write_text(json.dumps({**record, "metrics": metrics.described(["mae"])}))
    assert cli.main(["baseline", "write", "results/plain", "--output", "base.json"]) == 0
    check = ["check", "results/worse", "--baseline", "base.json"]
    assert cli.main(check) == 0
    (runs / "own.yaml").write_text("quality: {mae: {mean: 0.1}}")
    assert cli.main([*check, "--tolerances", "own.yaml"]) == 1
    (runs / "own.yaml").write_text("quality: {mae: {mean: 0.3}}")
    assert cli.main([*check, "--tolerances", "own.yaml"]) == 0


def test_a_metric_of_ones_own_has_a_history(runs, capsys):
    assert cli.main(["history", "results", "--metric", "mae", "--format", "json"]) == 0
    (series,) = json.loads(capsys.readouterr().out)["series"]
    assert (series["metric"], series["unit"], len(series["points"])) == ("mae", "levels", 3)
    assert cli.main(["history", "results"]) == 0
    assert "MAE 0.001 levels" in capsys.readouterr().out
