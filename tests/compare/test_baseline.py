"""The baseline file: small, sorted, the same bytes, kept readable by the versions to come."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from irbench import cli
from irbench.compare import baseline, differences, loading, migrate
from irbench.compare.runs import CellData, ProfileData, RunData
from irbench.core import files, records
from irbench.core.errors import UserError
from irbench.core.metrics import METRICS
from tests.helpers import compare_fixtures as fixtures
from tests.helpers.compare_fixtures import CELL, KEY, PROFILE, X2, edit, shift

KEPT = Path(__file__).parent / "baselines"


@pytest.fixture
def folder(tmp_path):
    return fixtures.make(tmp_path)


@pytest.fixture
def file(folder):
    path = folder.parent / "base.json"
    baseline.write(path, loading.load(folder))
    return path


def test_a_file_compares_with_its_run_as_no_change(folder, file):
    loaded = loading.load(file)
    assert loaded.baseline and loaded.name == "base"
    for one, other in ((loaded, loading.load(folder)), (loading.load(folder), loaded)):
        found = differences.compare(one, other)
        assert found.compared == 7 and not found.only_base and not found.only_new
        assert all(x.same and not x.changes for x in (*found.cells, *found.profiles))


def test_it_is_small_sorted_and_a_line_an_entry(file):
    text = file.read_text()
    content = json.loads(text)
    assert list(content["cells"]) == sorted(content["cells"])
    assert sum(line.startswith(' "sr-x2@1/set8/') for line in text.splitlines()) == 3
    assert text.count("image7") == 1                        # names once a set
    assert content["baseline_version"] == baseline.VERSION and text.endswith("}\n")
    assert content["provenance"]["hardware"] == {"platform": "Linux x86_64", "cpu": "Some CPU",
                                                 "cores": 2}


def test_the_same_run_gives_the_same_bytes(folder, file):
    before = file.read_bytes()
    baseline.write(file, loading.load(folder))
    assert file.read_bytes() == before
    baseline.write(folder.parent / "again.json", loading.load(folder))
    assert (folder.parent / "again.json").read_bytes() == before


def test_noise_does_not_change_a_line_and_a_change_changes_one(folder, file):
    before = file.read_text().splitlines()
    edit(folder, CELL, shift("psnr", 0.0009, -0.0009, 0.0006, -0.0004))
    edit(folder, PROFILE, lambda r: r["result"].update(
        peak_memory_bytes=2**27 + 99, latency_ms={
            "samples": [12.0 + 0.1 * (i * 5 % 11) for i in range(20)]}))
    baseline.write(file, loading.load(folder))
    assert file.read_text().splitlines() == before
    edit(folder, CELL, shift("psnr", 0.004))
    baseline.write(file, loading.load(folder))
    changed = [line for line in file.read_text().splitlines() if line not in before]
    assert len(changed) == 1 and KEY in changed[0]


def test_a_disturbed_latency_is_kept_with_that_fact_and_said(folder, capsys):
    path = folder.parent / "busy.json"
    edit(folder, PROFILE, fixtures.disturbed(1.04, 9))
    assert cli.main(["baseline", "write", str(folder), "--output", str(path)]) == 0
    said, = capsys.readouterr().err.splitlines()
    assert said == ("disturbed: sr-x2@1/semanir: other processes kept 1.0 cores busy, so no "
                    "latency will be compared with this one")
    entries = json.loads(path.read_text())["profiles"]
    assert [entry.get("busy_elsewhere") for entry in entries.values()] == [1.04, None]
    assert loading.load(path).profiles["sr-x2@1/semanir"].disturbed == 1.04


def test_a_negligible_load_changes_no_byte(folder, file):
    before = file.read_bytes()
    edit(folder, PROFILE, fixtures.disturbed(0.19))
    file.unlink()
    baseline.write(file, loading.load(folder))
    assert file.read_bytes() == before


def test_only_an_undisturbed_latency_replaces_one(folder, file):
    def latency():
        baseline.write(file, loading.load(folder))
        one = loading.load(file).profiles["sr-x2@1/semanir"]
        return one.latency[0], one.disturbed

    quiet = latency()
    edit(folder, PROFILE, fixtures.disturbed(1.04, 9))
    assert latency() == quiet           # it is still true of this network
    edit(folder, PROFILE, lambda r: r["result"].update(parameters=5))
    assert latency() == (9 * quiet[0], 1.04)        # that was another network's
    edit(folder, PROFILE, fixtures.disturbed(0.0))
    assert latency() == (9 * quiet[0], 0.0)


def test_what_is_kept_does_not_creep(folder, file):
    for _ in range(5):                  # each step is noise, all together are not
        edit(folder, CELL, shift("psnr", every=0.0008))
        baseline.write(file, loading.load(folder))
    kept, true = (loading.load(path).cells[KEY].means["psnr"] for path in (file, folder))
    assert abs(kept - true) <= 0.001 + 0.0005


def test_a_run_with_failed_cells_is_not_recorded_unless_asked(folder, capsys):
    edit(folder, CELL, fixtures.fail())
    (folder / "cells" / X2 / "set8" / "bicubic.json").unlink()
    path = folder.parent / "new.json"
    arguments = ["baseline", "write", str(folder), "--output", str(path)]
    assert cli.main(arguments) == 2 and not path.exists()
    error = capsys.readouterr().err
    assert KEY in error and "not computed" in error and "--partial" in error
    assert cli.main([*arguments, "--partial"]) == 0
    written = json.loads(path.read_text())
    assert KEY not in written["cells"] and len(written["cells"]) == 3
    assert written["left_out"] == {f"{X2}/set8/bicubic": "not computed",
                                   KEY: "failed: ran out of memory"}
    assert json.loads(capsys.readouterr().out)["left_out"] == 2


def test_a_partial_cell_is_never_recorded(folder):
    files.write_json(folder / "data/set8.json", records.make(
        "data", {"dataset": "set8"}, {}, result={"count": 9}))
    content = baseline.write(folder.parent / "new.json", loading.load(folder), partial=True)
    assert KEY not in content["cells"] and "partial" in content["left_out"][KEY]


def test_a_file_that_is_something_else_is_not_overwritten(folder):
    other = folder.parent / "notes.json"
    other.write_text('{"mine": 1}')
    with pytest.raises(UserError, match="not a baseline"):
        baseline.write(other, loading.load(folder))
    assert other.read_text() == '{"mine": 1}'
    with pytest.raises(UserError, match="name of a file"):
        baseline.write(folder, loading.load(folder))


def test_a_baseline_of_a_baseline_is_refused(file):
    with pytest.raises(UserError, match="already"):
        baseline.write(file.parent / "x.json", loading.load(file))


def test_show_lists_what_a_file_holds(file, capsys):
    assert cli.main(["baseline", "show", str(file)]) == 0
    out = capsys.readouterr().out
    assert "33.295" in out and "392,200" in out
    assert json.loads(out.splitlines()[-1]) == {"cells": 5, "profiles": 2, "baseline": True}


# -- round trip of anything --------------------------------------------------------------------

NAME = st.sampled_from(["a", "b c", "c.k8", "日本"])
SCORE = st.floats(0, 1, allow_nan=False)     # within the range of each metric


@st.composite
def some_cell(draw):
    names = draw(st.lists(st.sampled_from([f"i{k}" for k in range(6)]), min_size=1, unique=True))
    images = {name: draw(st.dictionaries(st.sampled_from(["psnr", "ssim", "lpips"]), SCORE))
              for name in names}
    kept = draw(st.sets(st.sampled_from(["psnr", "ssim", "lpips"])))
    means = {metric: sum(scores) / len(scores) for metric in sorted(kept) if (
        scores := [image[metric] for image in images.values() if metric in image])}
    return CellData(draw(st.sampled_from(["p-q@1", "p-q@2"])), draw(NAME), draw(NAME), "ok", "",
                    means, images, dict.fromkeys({"psnr", "ssim"} - set(means), "why"), {
        "protocol": {"id": "", "crop": draw(st.integers(0, 2))},
        "data": draw(st.sampled_from(["1" * 12, "2" * 12, None])),
        "model": {"options": {"k": draw(st.integers(0, 3))}},
        "weights": draw(st.sampled_from(["3" * 12, None])),
        "training": draw(st.sampled_from([{}, {"steps": 3}])),
        "settings": draw(st.sampled_from([{}, {"seed": 1, "profile": {"n": 2}}])),
        "code": draw(st.sampled_from(["c1", "c2"]))})


@given(st.lists(some_cell(), min_size=1, max_size=5), st.lists(
    st.floats(0.001, 1e5, allow_nan=False), max_size=4))
@settings(max_examples=60, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read_again(tmp_path, cells, latency):
    from irbench.compare import inputs

    for cell in cells:
        cell.inputs["protocol"]["id"] = cell.protocol
    run = RunData("r", "R", {cell.key: cell for cell in cells}, {"p/m": ProfileData(
        "p", "m", "ok", "", 3, None, tuple(latency), {"device": "cpu"})}, {"python": "3"}, "r")
    path = tmp_path / "b.json"
    path.write_text(baseline.text(baseline.form(run)))
    again = loading.load(path)
    assert sorted(again.cells) == sorted(run.cells)
    for key, cell in run.cells.items():
        got = again.cells[key]
        assert got.means == {m: round(v, METRICS[m].exact_decimals) for m, v in cell.means.items()}
        assert {n: set(s) for n, s in got.images.items()} == {
            n: set(s) for n, s in cell.images.items()}
        for name, scores in cell.images.items():
            for metric, score in scores.items():
                assert abs(got.images[name][metric] - score) <= 0.51 * 10 ** -(
                    METRICS[metric].exact_decimals)
        assert set(got.missing) == set(cell.missing)
        assert inputs.changes(cell.inputs, got.inputs) == []
    assert again.profiles["p/m"].parameters == 3 and again.profiles["p/m"].macs is None
    assert again.profiles["p/m"].latency == pytest.approx(latency, rel=1e-3)
    # what was read is written as the same bytes
    assert baseline.text(baseline.form(again)) == path.read_text()


# -- versions ----------------------------------------------------------------------------------

def test_version_0_is_still_read():
    run = loading.load(KEPT / "v0.json")
    cell = run.cells[f"{X2}/set8/bicubic"]
    assert cell.means == {"psnr": pytest.approx(30.185), "ssim": pytest.approx(0.8605)}
    assert cell.images["image1"] == {"psnr": 30.37, "ssim": 0.861}
    assert run.cells[KEY].means == {"psnr": 32.185} and cell.inputs == {}
    assert run.profiles[f"{X2}/semanir"].macs == 1_600_000_000


def test_version_1_is_still_read_as_it_was_written():
    run = loading.load(KEPT / "v1.json")
    assert len(run.cells) == 5 and len(run.profiles) == 2
    cell, profile = run.cells[KEY], run.profiles[f"{X2}/semanir"]
    assert cell.means == {"psnr": 33.295, "ssim": 0.9235, "lpips": 0.1835}
    assert cell.images["image1"] == {"psnr": 32.37, "ssim": 0.921, "lpips": 0.181}
    assert cell.inputs["model"]["options"] == {"k": 64, "width": 60}
    assert (cell.inputs["weights"], cell.inputs["code"]) == ("1" * 12, "c0de")
    assert cell.inputs["protocol"]["metric"]["crop"] == 2
    assert profile.condition["height"] == 64 and profile.latency[:2] == (12.0, 12.7)


def test_each_version_has_a_kept_example():
    kept = {json.loads(path.read_text())["baseline_version"] for path in KEPT.glob("*.json")}
    assert kept == set(range(migrate.VERSION + 1)) and set(migrate.STEPS) == set(
        range(migrate.VERSION))


@pytest.mark.parametrize(("change", "part"), [
    (lambda c: c.update(baseline_version=2), "newer irbench; this one reads versions 0 to 1"),
    (lambda c: c.update(baseline_version="1"), "baseline_version is '1'"),
    (lambda c: c.update(baseline_version=-1), "baseline_version is -1"),
    (lambda c: c.pop("baseline_version"), "no baseline_version"),
    (lambda c: c.pop("cells"), "damaged"),
    (lambda c: c["cells"].update(x={}), "damaged"),
    (lambda c: c["cells"][KEY]["mean"].update(psnr=30.0), "not the mean over its images"),
    (lambda c: c["cells"][KEY]["psnr"].pop(), "damaged"),
    (lambda c: c["cells"][KEY]["mean"].update(psnr="high"), "damaged"),
    (lambda c: c["profiles"][f"{X2}/semanir"].pop("macs"), "damaged"),
    (lambda c: c["cells"][KEY]["mean"].update(psnr=float("nan")), "not readable"),
    (lambda c: c["provenance"].update(hardware="fast"), "damaged"),
    (lambda c: c["provenance"].update(git=1), "damaged"),
    (lambda c: c["provenance"]["hardware"].update(cpu=1), "damaged"),
    (lambda c: c["datasets"]["set8"]["images"].__setitem__(0, 1), "damaged"),
    (lambda c: c["profiles"][f"{X2}/semanir"].update(parameters="many"), "damaged"),
    (lambda c: c["cells"][KEY]["psnr"].__setitem__(0, 10 ** 400), "damaged"),
    (lambda c: c["profiles"][f"{X2}/semanir"].update(condition=None), "damaged")])
def test_what_is_no_baseline_is_refused_by_name(file, change, part, capsys):
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=part):
        loading.load(file)
    assert cli.main(["check", "--baseline", str(file), str(file)]) == 2
    error = capsys.readouterr().err
    assert "base.json" in error and "Traceback" not in error


def test_a_version_0_of_the_wrong_form_says_so(tmp_path):
    (tmp_path / "b.json").write_text('{"baseline_version": 0, "cells": {"a/b/c": {"images": 3}}}')
    with pytest.raises(UserError, match="form of baseline_version 0"):
        loading.load(tmp_path / "b.json")


@pytest.mark.parametrize(("old", "new", "part"), [
    ('"cells": {\n', '"cells": {\n "a/b/c": {},\n "a/b/c": {},\n', "appears twice"),
    ('"psnr": [', '"psnr": [1e999, ', "1e999 is not a score")])
def test_a_careless_merge_and_an_infinite_score_are_refused(file, old, new, part):
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(UserError, match=part):
        loading.load(file)


@pytest.mark.parametrize("score", ["nan", "31.5", True])
def test_a_score_that_is_no_number_is_refused(file, score):
    content = json.loads(file.read_text())
    next(iter(content["cells"].values()))["psnr"][0] = score
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"{score!r} is not a number"):
        loading.load(file)


def test_a_broken_file_in_the_way_is_not_overwritten_and_says_how_to_go_on(folder, file):
    file.write_text("<<<<<<< HEAD\n")
    with pytest.raises(UserError, match="Delete .* first, or give --output another name"):
        baseline.write(file, loading.load(folder))
    assert file.read_text() == "<<<<<<< HEAD\n"
