"""The history of runs: their order, the series, the steps and what is printed of them."""

import csv
import datetime
import io
import json
import shutil
import subprocess
import sys

import pytest

from irbench import cli
from irbench.compare import baseline, history, loading
from irbench.compare import history_tables as tables
from irbench.core import digests
from irbench.core.errors import UserError
from tests.helpers.histories import START, one_run, stamp
from tests.helpers.report_fixtures import GOLDEN
from tests.helpers.sealed import seal

X2 = "sr-x2@1"


@pytest.fixture
def nightly(tmp_path):
    """Six runs, whose names are not in the order of time; the fourth is worse, larger, slower."""
    root = tmp_path / "runs"
    for day, (name, commit) in enumerate(zip("fbdaec", "123456", strict=True)):
        worse = day >= 3
        one_run(root, name, day, 33.5 if worse else 34.0, 400_100 if worse else 400_000,
                24.0 if worse else 12.0, commit)
    return root


def series_of(found, metric):
    (one,) = [series for series in found.series if series.metric == metric]
    return one


def history_command(capsys, *arguments):
    code = cli.main(["history", *map(str, arguments)])
    out = capsys.readouterr()
    return code, out.out, out.err


# -- runs --------------------------------------------------------------------------------------

def test_runs_are_in_order_of_time_with_the_commit_beside(nightly):
    found = history.read(nightly)
    assert [run.name for run in found.runs] == list("fbdaec")
    assert [run.commit for run in found.runs] == [digit * 7 for digit in "123456"]
    assert [point.run for point in series_of(found, "psnr").points] == list("fbdaec")
    assert found.runs[1].time == START + datetime.timedelta(days=1)


def test_a_cell_has_its_own_time_and_a_run_that_of_its_latest_record(tmp_path):
    one_run(tmp_path, "a", 1)
    one_run(tmp_path, "b", 2, 35.0)
    # a cell of the first run was computed again after all of the second
    stamp(tmp_path / "a", START + datetime.timedelta(days=9), "9", "cells/**/*.json")
    found = history.read(tmp_path)
    assert [run.name for run in found.runs] == ["b", "a"]
    assert [point.run for point in series_of(found, "psnr").points] == ["b", "a"]
    assert [point.run for point in series_of(found, "latency").points] == ["a", "b"]
    assert series_of(found, "psnr").points[1].commit == "9" * 7


def test_what_is_no_run_is_skipped_with_the_reason(nightly):
    (nightly / "notes").mkdir()
    (nightly / ".hidden").mkdir()
    (nightly / "README.md").write_text("text")
    (nightly / "list.json").write_text("[]")
    (nightly / "broken.json").write_text("{")
    (nightly / "empty" / "cells").mkdir(parents=True)
    timeless = one_run(nightly, "timeless", 1)
    for path in timeless.folder.glob("**/*.json"):
        record = json.loads(path.read_text())
        record["provenance"]["time"] = None
        path.write_text(json.dumps(record))
    found = history.read(nightly)
    skipped = dict(found.skipped)
    assert sorted(skipped) == ["broken.json", "empty", "list.json", "notes", "timeless"]
    assert skipped["notes"] == "not a run folder: it has no cells/"
    assert "baseline" in skipped["list.json"]
    assert "JSON" in skipped["broken.json"]
    assert "time" in skipped["timeless"]
    assert "Skipped: notes: not a run folder" in tables.terminal(found)


def test_a_baseline_is_a_run_unless_its_run_is_there(nightly, tmp_path):
    baseline.write(nightly / "kept.json", loading.load(nightly / "d"))
    found = history.read(nightly)
    assert len(found.runs) == 6
    assert found.skipped == [("kept.json", "the same results as d")]
    (nightly / "d").rename(tmp_path / "elsewhere")
    found = history.read(nightly)
    assert [run.name for run in found.runs] == ["f", "b", "kept.json", "a", "e", "c"]
    assert len(series_of(found, "psnr").points) == 6
    assert [step.at for step in series_of(found, "psnr").steps] == [3]


def test_copies_of_copies_name_the_run_that_stays(nightly):
    for name in ("d2", "d3"):
        shutil.copytree(nightly / "d", nightly / name)
    found = history.read(nightly)
    (kept,) = {run.name for run in found.runs} - set("fbaec")
    assert {reason for _, reason in found.skipped} == {f"the same results as {kept}"}
    assert len(found.runs) == 6


def test_runs_of_one_time_with_other_figures_are_both_kept(tmp_path):
    one_run(tmp_path, "b", 1, 34.0)
    one_run(tmp_path, "a", 1, 35.0)
    found = history.read(tmp_path)
    assert [run.name for run in found.runs] == ["a", "b"]
    assert series_of(found, "psnr").change == pytest.approx(-1)


# -- series and steps --------------------------------------------------------------------------

def test_a_planted_step_is_found_in_each_metric_where_it_is(nightly):
    found = history.read(nightly)
    steps = {one.metric: [(s.at, one.word(s)) for s in one.steps] for one in found.series}
    assert steps == {"psnr": [(3, "worse")], "ssim": [], "parameters": [(3, "changed")],
                     "macs": [], "latency": [(3, "worse")]}
    (step,) = series_of(found, "psnr").steps
    assert (step.before, step.after) == pytest.approx((34.0, 33.5))


def test_a_step_names_the_inputs_that_changed(nightly):
    for name in "aec":
        path = nightly / name / "cells" / X2 / "set5" / "compacter.json"
        record = json.loads(path.read_text())
        record["spec"]["code"] = "0ther"
        record["fingerprint"] = digests.fingerprint(
            {"spec": record["spec"], "resolved": record["resolved"]})
        path.write_text(json.dumps(record))
    one = series_of(history.read(nightly), "psnr")
    assert one.causes(one.steps[0]) == ["code or libraries"]
    assert tables.step(one, one.steps[0]) == (
        "a (4444444): -0.500 dB, worse; changed there: code or libraries")


def test_on_other_data_a_figure_is_neither_better_nor_worse():
    def point(data):
        return history.SeriesPoint("a", START, "", 30.0, inputs={"data": data})

    (step,) = history.steps.find([30.0, 31.0], 0.001)
    one = history.Series(X2, "set5", "m", "psnr", "", [point("one"), point("other")], [step])
    assert one.word(step) == "changed"
    assert one.causes(step) == ["data"]


def test_latency_is_compared_only_where_it_was_measured_alike(tmp_path):
    one_run(tmp_path, "a", 1, latency=12.0)
    one_run(tmp_path, "b", 2, latency=60.0, device_name="Another CPU")
    one_run(tmp_path, "c", 3, latency=99.0, threads=2)
    one_run(tmp_path, "d", 4, latency=12.1)
    found = history.read(tmp_path)
    assert [[p.run for p in one.points] for one in found.series if one.metric == "latency"] == [
        ["b"], ["a", "d"], ["c"]]
    assert not any(one.steps for one in found.series)
    assert len(series_of(found, "parameters").points) == 4


def test_noise_of_latency_is_no_step_but_twice_as_slow_is(tmp_path):
    for day, latency in enumerate([12.0, 12.4, 11.7, 12.2, 11.9, 12.5, 24.0]):
        one_run(tmp_path, f"run{day}", day, latency=latency)
    assert [step.at for step in series_of(history.read(tmp_path), "latency").steps] == [6]


def disturb(root, name, cores):
    path = root / name / "profiles" / X2 / "compacter.json"
    record = json.loads(path.read_text())
    record["result"]["latency_ms"]["busy_elsewhere"] = cores
    path.write_text(json.dumps(seal(record)))


def test_a_disturbed_latency_is_shown_and_is_in_no_step(tmp_path, capsys):
    for day, latency in enumerate([12.0, 120.0, 12.1, 24.0, 130.0]):
        one_run(tmp_path, f"run{day}", day, latency=latency)
    for name in ("run1", "run4"):
        disturb(tmp_path, name, 1.04)
    disturb(tmp_path, "run2", 0.19)
    one = series_of(history.read(tmp_path), "latency")
    (step,) = one.steps
    assert (step.at, one.change, len(one.points)) == (3, None, 5)
    assert (step.before, step.after) == pytest.approx((12.05, 24.0))
    _, out, _ = history_command(capsys, tmp_path, "--metric", "latency")
    (row,) = [line for line in out.splitlines() if "/compacter" in line]
    assert " 12 " in row and "130 ?" in row and "n/a" in row and "120" not in row
    assert "(marked '?'): run1 (1.0 cores), run4 (1.0 cores)." in out
    _, out, _ = history_command(capsys, tmp_path, "--metric", "latency", "--format", "csv")
    assert [row["busy_elsewhere_cores"] for row in csv.DictReader(io.StringIO(out))] == [
        "", "1.04", "", "", "1.04"]
    _, out, _ = history_command(capsys, tmp_path, "--metric", "latency", "--format", "json")
    (document,) = json.loads(out)["series"]
    assert [point["busy_elsewhere"] for point in document["points"]] == [
        None, 1.04, None, None, 1.04]
    for name in ("run0", "run2", "run3"):
        disturb(tmp_path, name, 2.0)
    assert series_of(history.read(tmp_path), "latency").steps == []


def test_the_cause_of_a_step_is_sought_between_undisturbed_runs(tmp_path):
    def point(name, value, data, busy=0.0):
        return history.SeriesPoint(name, START, "", value, value, value, busy=busy,
                                   inputs={"data": data})

    points = [point("a", 12.0, "one"), point("b", 90.0, "two", 1.0), point("c", 24.0, "two")]
    one = history.Series(X2, "", "m", "latency", "", points, history._found("latency", points))
    assert [(step.at, one.causes(step)) for step in one.steps] == [(2, ["data"])]


def test_a_cell_without_a_result_is_no_point(nightly):
    (nightly / "b" / "cells" / X2 / "set5" / "compacter.json").write_text("{}")
    found = history.read(nightly)
    assert [point.run for point in series_of(found, "psnr").points] == list("fdaec")


def test_quartiles_by_hand():
    assert history.quartiles([1, 2, 3, 4, 5]) == (2, 4)
    assert history.quartiles([7]) == (7, 7)


# -- filters -----------------------------------------------------------------------------------

def test_filters_keep_what_fits(nightly):
    found = history.read(nightly, {"metric": ["ps*", "ssim"], "protocol": ["sr-*"]})
    assert {one.metric for one in found.series} == {"psnr", "ssim"}
    assert {one.metric for one in history.read(nightly, {"dataset": ["set5"]}).series} == {
        "psnr", "ssim"}


def test_a_pattern_that_fits_nothing_names_what_would(nightly):
    with pytest.raises(UserError, match=r"--model 'compactor' matches nothing.*Valid: compacter"):
        history.read(nightly, {"model": ["compactor"]})
    with pytest.raises(UserError, match="nothing matches all of them together"):
        history.read(nightly, {"metric": ["latency"], "dataset": ["set5"]})


# -- the command -------------------------------------------------------------------------------

@pytest.fixture
def three(tmp_path):
    root = tmp_path / "three"
    one_run(root, "a", 0)
    one_run(root, "b", 1, 33.5, commit="")
    one_run(root, "c", 2, 33.5, 400_100, 18.0)
    return root


def test_markdown_is_as_golden(three, capsys):
    code, out, _ = history_command(capsys, three, "--format", "markdown")
    assert code == 0
    assert out == (GOLDEN / "history.md").read_text()
    assert out == history_command(capsys, three, "--format", "markdown")[1]


def test_the_terminal_has_the_table_and_one_json_line(three, capsys):
    code, out, _ = history_command(capsys, three)
    *shown, last = out.splitlines()
    assert code == 0
    assert json.loads(last) == {"runs": 3, "skipped": 0, "series": 5, "steps": 3, "output": None}
    (psnr,) = [line.split() for line in shown if "PSNR (dB)" in line]
    assert psnr[:7] == ["sr-x2@1/set5/compacter", "PSNR", "(dB)", "3", "34.00", "33.50", "-0.500"]
    assert psnr[7:] == ["b:", "-0.500", "dB,", "worse"]


def test_csv_has_one_line_per_run_key_and_metric(three, capsys):
    _, out, _ = history_command(capsys, three, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert len(rows) == 15
    assert {row["unit"] for row in rows if row["metric"] == "psnr"} == {"dB"}
    (step,) = [row for row in rows if row["metric"] == "psnr" and row["step"]]
    assert (step["run"], step["value"], step["step"], step["verdict"]) == (
        "b", "33.5", "-0.5", "worse")
    assert (step["time"], step["commit"]) == ("2026-11-02T03:00:00+00:00", "")
    latency = next(row for row in rows if row["metric"] == "latency")
    assert (latency["q1"], latency["q3"]) == ("11.97", "12.03")


def test_json_is_one_document_with_null_for_what_is_unknown(three, capsys):
    _, out, _ = history_command(capsys, three, "--format", "json")
    document = json.loads(out)
    assert [run["commit"] for run in document["runs"]] == ["aaaaaaa", None, "aaaaaaa"]
    psnr = document["series"][0]
    assert (psnr["metric"], psnr["unit"], psnr["change"]) == ("psnr", "dB", -0.5)
    assert psnr["steps"] == [{"run": "b", "commit": None, "before": 34.0, "after": 33.5,
                              "change": -0.5, "verdict": "worse", "inputs": []}]
    assert psnr["points"][0]["q1"] is None


def test_one_run_is_shown_and_the_exit_code_is_3(tmp_path, capsys):
    one_run(tmp_path, "only", 1)
    code, out, err = history_command(capsys, tmp_path)
    assert code == 3
    assert "PSNR (dB)" in out
    assert "n/a" in out
    assert "one run (only)" in err


def test_runs_with_nothing_in_common_are_not_compared(tmp_path, capsys):
    one_run(tmp_path, "a", 1)
    other = one_run(tmp_path, "b", 2)
    (other.folder / "cells" / X2 / "set5" / "compacter.json").unlink()
    code, _, err = history_command(capsys, tmp_path, "--metric", "psnr")
    assert code == 3
    assert "no value is in two of the 2 runs" in err


@pytest.mark.parametrize(("where", "message"), [
    ("absent", "no such folder"), ("empty", "A run folder is what a run writes"),
    ("run", "this is one run")])
def test_misuse_says_what_a_run_folder_is_and_exits_2(tmp_path, capsys, where, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "run" / "cells").mkdir(parents=True)
    code, out, err = history_command(capsys, tmp_path / where)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


def test_an_output_that_is_a_file_is_refused(three, tmp_path, capsys):
    (tmp_path / "taken").write_text("")
    code, out, err = history_command(capsys, three, "--output", tmp_path / "taken")
    assert (code, out) == (2, "")
    assert "name a folder" in err


def test_a_table_imports_no_drawing(three):
    heavy = ("import sys; from irbench import cli; cli.main(['history', sys.argv[1]]); "
             "print([m for m in ('torch', 'matplotlib', 'scipy', 'pandas') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", heavy, str(three)], capture_output=True,
                          text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
