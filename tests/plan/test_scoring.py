"""Metrics of a config: pyiqa's by name and a user's own file, from the config to gate and table."""

import csv
import json
import math
import random
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from irbench import cli, plan
from irbench.catalog import protocols
from irbench.compare import tolerances
from irbench.core import metrics, records
from irbench.core.errors import UserError
from irbench.imaging import metrics as scoring
from irbench.imaging import pyiqa_metrics
from irbench.plan import file as plan_file
from irbench.plan import scoring as resolving
from tests.helpers import tiny

OWN = """
METRICS = {
    "mae": {"title": "MAE", "unit": "levels", "decimals": 3, "direction": "lower",
            "range": [0, 255], "function": "mean_absolute_error", "on": "planes"},
    "bright": {"title": "Brightness", "function": "brightness", "reference": False},
}


def mean_absolute_error(restored, target):
    return abs(restored - target).mean()


def brightness(restored):
    return restored.mean() / 255
"""


@pytest.fixture(autouse=True)
def table_as_before():
    """Take what a config added off the table again."""
    rows, computed, files = dict(metrics.METRICS), dict(scoring.COMPUTED), dict(scoring.FILES)
    yield
    for table, before in ((metrics.METRICS, rows), (scoring.COMPUTED, computed),
                          (scoring.FILES, files)):
        table.clear()
        table.update(before)


def config(folder, names, run="one", source=OWN):
    """A config of one cell of bicubic under sr-x2, with the file of metrics beside it."""
    (folder / "mine.py").write_text(source)
    path = tiny.make(folder, run=run, models={"bicubic": {}}, keep_images=False, cells=[
        {"protocol": "sr-x2", "datasets": ["tinyset"], "models": ["bicubic"]}])
    content = yaml.safe_load(path.read_text())
    content |= {"metrics": names, "metric_plugins": ["mine.py"]}
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def evaluate(path):
    code = cli.main(["eval", "--config", str(path), "--protocol", "sr-x2", "--dataset", "tinyset",
                     "--model", "bicubic"])
    (job,) = plan.load(path).cells.values()
    return code, records.read(job.record)


def forget():
    """Leave only irbench's own metrics in the table, as in another process."""
    for table in (metrics.METRICS, scoring.COMPUTED, scoring.FILES):
        for name in set(table) - metrics.BUILT_IN:
            del table[name]


def test_a_users_metric_from_the_config_to_report_compare_and_gate(folder, capsys):
    names = ["psnr", "mae", "bright", "pyiqa:gmsd"]
    code, record = evaluate(config(folder, names))
    assert code == 0
    mean = record["result"]["mean"]
    assert list(mean) == names and all(value > 0 for value in mean.values())
    assert [row["name"] for row in record["metrics"]] == ["mae", "bright", "pyiqa:gmsd"]
    assert record["spec"]["mae_weights"].startswith("mine.py ")
    forget()                                    # readers need neither the config nor the file
    (folder / "mine.py").unlink()
    assert cli.main(["baseline", "write", "results/one", "--output", "base.json"]) == 0
    forget()
    capsys.readouterr()
    assert cli.main(["check", "results/one", "--baseline", "base.json"]) == 0
    assert cli.main(["baseline", "show", "base.json"]) == 0
    shown = capsys.readouterr().out
    assert "MAE, levels" in shown and "GMSD (pyiqa)" in shown
    assert tolerances.load().for_key("a/b/c")["quality"]["mae"] == {"mean": 0.02, "image": 0.1}
    forget()
    assert cli.main(["history", "results", "--metric", "pyiqa:gmsd", "--format", "json"]) == 3
    (series,) = json.loads(capsys.readouterr().out)["series"]
    assert series["metric"] == "pyiqa:gmsd"


def test_a_worse_value_of_a_users_metric_is_a_regression(folder, capsys):
    evaluate(config(folder, ["mae"]))
    evaluate(config(folder, ["mae"], run="worse",
                    source=OWN.replace(".mean()\n\n", ".mean() + 0.5\n\n", 1)))
    forget()
    assert cli.main(["baseline", "write", "results/one", "--output", "base.json"]) == 0
    assert cli.main(["check", "results/worse", "--baseline", "base.json"]) == 1
    assert "mean MAE" in capsys.readouterr().out


def test_the_report_has_a_column_for_it(folder):
    path = config(folder, ["psnr", "mae", "pyiqa:gmsd"])
    evaluate(path)
    assert cli.main(["report", "--config", str(path)]) == 0
    tables = folder / "results/one/tables"
    head = (tables / "sr.md").read_text().splitlines()[2]
    assert "MAE (levels) \u2193" in head and "GMSD (pyiqa) \u2193" in head
    (line,) = csv.DictReader((folder / "results/one/summary.csv").open())
    assert float(line["mae_levels"]) > 0 and float(line["pyiqa_gmsd"]) > 0


def test_a_job_that_reads_the_plans_file_knows_it_and_sees_changed_code(folder):
    path = config(folder, ["mae"])
    planned = plan_file.write(plan.load(path))
    forget()
    (job,) = plan_file.read(planned).cells.values()
    assert "mae" in scoring.COMPUTED and job.spec["mae_weights"].startswith("mine.py ")
    (folder / "mine.py").write_text(OWN + "\n# a comment")
    assert plan.load(path).cells[next(iter(plan.load(path).cells))].spec == job.spec
    (folder / "mine.py").write_text(OWN.replace("abs(", "2 * abs("))
    (changed,) = plan.load(path).cells.values()
    assert changed.spec["mae_weights"] != job.spec["mae_weights"]


def test_a_metric_without_its_weights_is_unavailable_with_a_reason(folder):
    source = OWN.replace('"reference": False', '"reference": False, "weights": "net.bin"')
    path = config(folder, ["psnr", "bright"], source=source)
    code, record = evaluate(path)
    assert code == 0 and record["result"]["mean"]["bright"] is None
    assert "net.bin, which does not exist" in record["result"]["missing"]["bright"]
    assert record["spec"]["bright_weights"] is None
    (folder / "net.bin").write_bytes(b"w")
    assert evaluate(path)[1]["result"]["mean"]["bright"] > 0


@pytest.mark.parametrize(("source", "message"), [
    ("a = 1", "no METRICS found"), ("METRICS = f()", "must be a literal"),
    ("METRICS = [", "line 1"), ("METRICS = {'a': 1}", "a dict of dicts"),
    ("METRICS = {}\0", "holds the character NUL"), ("METRICS = " + "[" * 5000, "."),
    ("METRICS = {'a': {'title': 'A', 'function': 'f'}, 'a': {}}", "holds 'a' twice"),
    ("METRICS = {'a': {'title': 'A'}}", "function is None"),
    ("METRICS = {'a': {'title': 'A', 'function': 'f', 'on': 'plane'}}", "Did you mean 'planes'"),
    ("METRICS = {'a': {'title': 'A', 'function': 'f', 'unti': 'dB'}}", "Did you mean 'unit'"),
    ("METRICS = {'a': {'title': 'A', 'function': 'f', 'decimals': '2'}}", "decimals is '2'"),
    ("METRICS = {'a': {'title': 'A', 'function': 'f', 'range': 3}}", "a range of two numbers"),
    ("METRICS = {'A b': {'title': 'A', 'function': 'f'}}", "the name is not valid"),
    ("METRICS = {'psnr': {'title': 'A', 'function': 'f'}}", "metric 'psnr' already exists"),
    ("METRICS = {'a': {'title': 'A', 'function': 'f', 'direction': 'up'}}", "unknown direction"),
])
def test_a_file_that_cannot_be_used_is_refused(folder, source, message):
    with pytest.raises(UserError, match=message) as caught:
        plan.load(config(folder, ["psnr"], source=source))
    assert "metric_plugins" in str(caught.value) and "mine.py" in str(caught.value)
    assert str(caught.value).count("metric 'a'") <= 1


@pytest.mark.parametrize(("body", "message"), [
    ("raise ImportError('no such thing')", "importing it failed: ImportError"),
    ("raise SystemExit(0)", "importing it failed: .*SystemExit"),
    ("", "the file does not define"),
    ("def f(restored, target):\n    raise SystemExit(0)", "metric a .*it ends the program"),
    ("def f(restored):\n    return 1", "metric a .*TypeError"),
    ("def f(restored, target):\n    return [][0]", "metric a .*IndexError"),
])
def test_a_function_that_fails_is_an_error_that_names_it(folder, capsys, body, message):
    source = f"METRICS = {{'a': {{'title': 'A', 'function': 'f'}}}}\n{body}"
    assert cli.main(["eval", "--config", str(config(folder, ["a"], source=source)), "--protocol",
                     "sr-x2", "--dataset", "tinyset", "--model", "bicubic"]) == 2
    said = capsys.readouterr().err
    assert re.search(message, said) and "mine.py" in said and "Traceback" not in said


HEAD = "import random\nimport numpy as np\nimport torch\n"


def score(folder, body, on="image", more=""):
    """The scores of two pairs of images, and of the first one again by another scorer."""
    (folder / "mine.py").write_text(
        f"{HEAD}METRICS = {{'a': {{'title': 'A', 'function': 'f', 'on': '{on}'{more}}}}}\n\n\n"
        f"def f(restored, target):\n    {body}\n")
    resolving.resolve(["a"], [folder / "mine.py"], "here")
    rng = np.random.default_rng(0)
    pairs = rng.integers(0, 256, (2, 2, 20, 20, 3), np.uint8)
    scorers = [scoring.Scorer(protocols.get("sr-x2"), ("psnr", "a")) for _ in range(2)]
    found = [scorers[0](*pair)["a"] for pair in pairs]
    return [*found, scorers[1](*pairs[0])["a"]]


@pytest.mark.parametrize(("body", "message"), [
    ("return True", r"it returned a bool \(True\)"), ("return '1'", r"returned a str \('1'\)"),
    ("return np.bool_(1)", "returned a bool"), ("return 1 + 0j", "returned a complex"),
    ("return np.complex64(1)", "returned a complex64"), ("return [1.0]", "returned a list"),
    ("return np.ones(1)", r"returned a ndarray of shape \(1,\)"),
    ("return torch.ones(1, 1)", r"returned a Tensor of shape \(1, 1\)"),
    ("return 1e20", r"returned 1e\+20, but .*smaller than 1e18"),
    ("return 1e308", "beyond 1e300"), ("return 10**400", "beyond 1e300"),
    ("return np.random.default_rng().random()", "gave one pair of images .* and then"),
    ("f.calls = getattr(f, 'calls', 0) + 1\n    return f.calls", "1.0 and then 2.0"),
    ("f.calls = getattr(f, 'calls', 0) + 1\n    return f.calls if f.calls % 2 else None",
     "1.0 and then None"),
])
def test_what_is_no_number_or_not_repeatable_is_refused(folder, body, message):
    with pytest.raises(UserError, match=f"metric a .*mine.py.*{message}"):
        score(folder, body)


@pytest.mark.parametrize(("body", "value"), [
    ("return 2", 2.0), ("return np.float32(2)", 2.0), ("return np.int64(2)", 2.0),
    ("return np.array(2)", 2.0), ("return torch.tensor(2.0, requires_grad=True)", 2.0),
    ("return None", None), ("return float('nan')", None), ("return np.inf", None)])
def test_what_is_a_number_or_none(folder, body, value):
    found = score(folder, body)
    assert found == [value] * 3 and all(type(one) in (float, type(None)) for one in found)


@pytest.mark.parametrize(("value", "reason"), [("nan", "a is nan"), ("-inf", "a is -inf")])
def test_why_an_image_has_no_score_is_told(folder, value, reason):
    score(folder, f"return float('{value}')")
    scorer = scoring.Scorer(protocols.get("sr-x2"), ("a",))
    image = np.zeros((20, 20, 3), np.uint8)
    assert scorer(image, image) == {"a": None} and scorer.failed == {"a": reason}


def test_an_undefined_score_is_not_said_to_be_perfect(folder):
    score(folder, "return None")
    scorer = scoring.Scorer(protocols.get("sr-x2"), ("psnr", "a"))
    image = np.zeros((20, 20, 3), np.uint8)
    assert scorer(image, image) == {"psnr": None, "a": None}
    assert scorer.reason("a") == "a is None"
    assert scorer.reason("psnr") == "identical to the target, psnr is infinite"


def repeated(*values, size=1):
    """Score images until the values are used up; return the numbers of the images in turn."""
    calls, left = [], iter(values)
    measure = resolving._repeatable(
        "a", "metric a", protocols.get("sr-x2"),
        lambda pair: calls.append(pair.number) or next(left))
    for number in range(len(values)):
        if len(calls) < len(values):
            measure(SimpleNamespace(number=number, restored=SimpleNamespace(size=size)))
    return calls


def test_the_first_image_is_scored_again_at_once_and_after_the_next_one():
    assert repeated(1.0, 1.0, 2.0, 1.0, 3.0, 4.0) == [0, 0, 1, 0, 2, 3]
    assert repeated(1.0, 1.0, 2.0, 1.0, 3.0, size=resolving.LARGE) == [0, 0, 1, 0, 2]
    assert repeated(1.0, 1.0, 2.0, 3.0, 4.0, size=resolving.LARGE + 1) == [0, 0, 1, 2, 3]
    assert 3 * 2040 * 1356 <= resolving.LARGE < 1e8     # an image of DIV2K; some megabytes


def test_a_metric_that_adds_up_over_the_images_is_refused(folder):
    body = ("f.seen = [*getattr(f, 'seen', []), abs(restored - target).mean()]\n"
            "    return sum(f.seen) / len(f.seen)")
    with pytest.raises(UserError, match="must not depend on earlier calls"):
        score(folder, body)


@pytest.mark.parametrize(("values", "same"), [
    ((1.0, 1 + 9e-7), True), ((1.0, 1 + 1.1e-6), False), ((0.0, 9e-10), True),
    ((0.0, 1.1e-9), False), ((math.nan, float("nan")), True), ((math.nan, 1.0), False),
    ((1.0, math.nan), False), ((None, None), True), ((1.0, None), False)])
def test_values_are_repeatable_up_to_the_rounding_of_sums(values, same):
    if same:
        assert repeated(*values) == [0, 0]
    else:
        with pytest.raises(UserError, match="metric a: it gave one pair of images"):
            repeated(*values)


@pytest.mark.parametrize("draw", ["random.random()", "np.random.rand()", "torch.rand(())"])
def test_what_a_metric_draws_is_the_same_for_every_image_and_disturbs_nobody(folder, draw):
    random.seed(5)
    np.random.seed(5)
    found = score(folder, f"return {draw}")
    assert len(set(found)) == 1
    random.seed(5)
    before = random.random()
    random.seed(5)
    score(folder, f"return {draw}")
    assert random.random() == before


def test_a_job_names_what_a_users_function_gets(folder):
    """Images were uint8 in earlier versions, so their scores were others."""
    for on, more in (("image", ", in float64"), ("planes", ""), ("uint8", "")):
        score(folder, "return 1", on)
        assert re.fullmatch(f"mine.py [0-9a-f]{{12}}{more}",
                            scoring.weights_in_use(["a"])["a_weights"])


@pytest.mark.parametrize(("bounds", "value", "fits"), [
    ("[0, 1]", "1.5", False), ("[0, 1]", "-0.5", False), ("[0, None]", "-1", False),
    ("[0, 1]", "1.00005", True), ("[0, None]", "1e17", True), ("[None, 0]", "-9", True)])
def test_a_value_outside_of_the_metrics_range_is_refused(folder, bounds, value, fits):
    more = f", 'range': {bounds}"
    if fits:
        assert score(folder, f"return {value}", more=more) == [float(value)] * 3
        return
    with pytest.raises(UserError, match=f"it returned {value}, but its range is .* in METRICS"):
        score(folder, f"return {value}", more=more)


def test_differences_of_images_do_not_wrap_around_unless_asked(folder):
    body = "return abs(restored - target).mean()"
    image, planes, wrapped = (score(folder, body, on)[0] for on in ("image", "planes", "uint8"))
    rng = np.random.default_rng(0)
    a, b = (one[2:-2, 2:-2].astype(int) for one in rng.integers(0, 256, (2, 2, 20, 20, 3),
                                                                     np.uint8)[0])
    assert image == pytest.approx(np.abs(a - b).mean()) and planes > 40 and wrapped > 100
    assert score(folder, "return restored.dtype.itemsize")[0] == 8
    assert score(folder, "return restored.dtype.itemsize", "uint8")[0] == 1


def test_two_files_with_one_name_are_refused(folder):
    path = config(folder, ["psnr"])
    (folder / "other.py").write_text(OWN)
    content = yaml.safe_load(path.read_text()) | {"metric_plugins": ["mine.py", "other.py"]}
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match="the metric 'mae' is also in .*mine.py. Rename one"):
        plan.load(path)


@pytest.mark.parametrize(("name", "message"), [
    ("psnr_y", "unknown metric 'psnr_y'.*Valid: .*lpips_vgg.*pyiqa:NAME.*metric_plugins"),
    ("pyiqa:vis", "metrics: pyiqa:vis: unknown metric of pyiqa 'vis'. Did you mean 'vsi'"),
    ("pyiqa:fid", "judges a whole folder"),
])
def test_an_unknown_name_is_refused_with_the_valid_ones_and_how_to_add_one(folder, name, message):
    with pytest.raises(UserError, match=message):
        plan.load(config(folder, ["psnr", name]))


def test_the_row_of_a_metric_of_pyiqa_follows_its_table():
    resolving.resolve(["pyiqa:piqe", "pyiqa:vsi"], [], "here")
    piqe, vsi = metrics.METRICS["pyiqa:piqe"], metrics.METRICS["pyiqa:vsi"]
    assert (piqe.direction, piqe.reference, piqe.range, piqe.decimals) == (
        "lower", False, (0.0, 100.0), 2)
    assert (vsi.direction, vsi.reference, vsi.range[0], vsi.decimals) == ("higher", True, 0.0, 4)
    assert vsi.tolerance.mean == pytest.approx(20 * vsi.noise)


@pytest.mark.parametrize(("text", "numbers", "decimals"), [
    ("0, 10", (0, 10), 2), ("0, 9", (0, 9), 4), ("~, 1", (-math.inf, 1), 4),
    ("0, ~", (0, math.inf), 4), ("1, 1", (-math.inf, math.inf), 4),
    ("1, 0", (-math.inf, math.inf), 4)])
def test_a_range_of_pyiqa_decides_the_decimals(monkeypatch, text, numbers, decimals):
    real = pyiqa_metrics.facts
    monkeypatch.setattr(pyiqa_metrics, "facts", lambda name: replace(real(name), range=text))
    resolving.resolve(["pyiqa:vsi"], [], "here")
    found = metrics.METRICS["pyiqa:vsi"]
    assert (found.range, found.decimals) == (numbers, decimals)


def test_a_metric_without_tolerances_gets_those_of_ours_in_units_of_its_noise():
    plain = {"name": "mae", "title": "MAE", "noise": 0.01}
    found = resolving._with_defaults(metrics.row(plain))
    assert vars(found.tolerance) == pytest.approx({"mean": 0.2, "image": 1.0, "exact": 0.05})
    stated = metrics.row({**plain, "tolerance": {"mean": 1, "image": 2, "exact": 3}})
    assert resolving._with_defaults(stated) == stated


def test_a_users_function_gets_planes_or_images_and_may_refuse_a_pair(folder):
    (folder / "mine.py").write_text("""
from irbench.core.errors import Unavailable
METRICS = {
    "planes": {"title": "P", "function": "channels", "on": "planes"},
    "picture": {"title": "I", "function": "channels", "on": "image"},
    "never": {"title": "N", "function": "never"},
}


def channels(restored, target):
    return restored.shape[2] * 10 + target.shape[2]


def never(restored, target):
    raise Unavailable("too dark")
""")
    resolving.resolve(["psnr"], [folder / "mine.py"], "here")
    scorer = scoring.Scorer(protocols.get("sr-x2"), ("planes", "picture", "never"))
    image = np.zeros((20, 20, 3), np.uint8)
    assert scorer(image, image) == {"planes": 11, "picture": 33, "never": None}
    assert scorer.failed == {"never": "too dark"}


def test_every_metric_is_listed_with_direction_and_needs(folder, capsys):
    assert cli.main(["list", "metrics", "--config", str(config(folder, ["mae"]))]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()[1:]}
    assert set(lines) == metrics.BUILT_IN | {"mae", "bright"}
    assert "lower is better, 0 to 255" in lines["mae"]
    assert "no reference, needs weights" in lines["niqe"]
    assert "AlexNet" in lines["lpips"]


def test_a_broken_row_in_a_record_makes_the_record_invalid(folder):
    _, record = evaluate(config(folder, ["mae"]))
    path = next((folder / "results/one/cells").rglob("*.json"))
    for rows in ([{"name": "mae"}], [{"name": "mae", "title": "MAE", "range": "wide"}], "mae"):
        path.write_text(json.dumps(record | {"metrics": rows}))
        with pytest.raises(UserError, match="metrics|'metrics'"):
            records.read(path)
