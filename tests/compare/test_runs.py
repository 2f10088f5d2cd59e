"""Loading: what a folder holds, what its config asks for, what a record is worth."""

import json

import pytest

from irbench import cli
from irbench.compare import differences, loading, planned
from irbench.core.errors import UserError
from tests.helpers import compare_fixtures as fixtures
from tests.helpers.compare_fixtures import CELL, KEY, X2, X4, K, edit
from tests.helpers.paths import ROOT
from tests.helpers.sealed import seal


@pytest.fixture
def folder(tmp_path):
    return fixtures.make(tmp_path)


def test_a_run_is_loaded_whole(folder):
    run = loading.load(folder)
    assert list(run.cells) == [f"{X2}/set8/bicubic", KEY, f"{X2}/set8/{K}", f"{X4}/set8/bicubic",
                               f"{X4}/set8/semanir"]
    assert list(run.profiles) == [f"{X2}/semanir", f"{X4}/semanir"]
    assert (run.name, run.title, run.from_earlier, run.baseline) == (
        "base", "The run base", (), False)
    cell = run.cells[KEY]
    assert cell.status == "ok" and cell.means["psnr"] == pytest.approx(32 + 0.37 * 3.5)
    assert cell.images["image2"]["psnr"] == pytest.approx(32.74)
    assert cell.inputs["weights"] == "1" * 12 and cell.inputs["model"]["options"]["k"] == 64
    profile = run.profiles[f"{X2}/semanir"]
    assert (profile.parameters, profile.macs, len(profile.latency)) == (392_200, 1_600_000_000, 20)
    assert profile.condition["height"] == 64


@pytest.mark.parametrize(("change", "status", "reason"), [
    (fixtures.fail(), "failed", "ran out of memory"),
    (fixtures.fail("unavailable", "no images"), "unavailable", "no images"),
    (lambda r: r["result"]["images"].clear(), "partial", "no image"),
    (lambda r: r["result"]["images"][0].update(name="image1"), "failed", "twice")])
def test_a_cell_without_a_whole_result_has_no_means(folder, change, status, reason):
    edit(folder, CELL, change)
    cell = loading.load(folder).cells[KEY]
    assert cell.status == status and reason in cell.reason and cell.means == {}


def test_a_mean_that_is_not_of_its_images_is_no_result(folder):
    record = json.loads((folder / CELL).read_text())
    record["result"]["mean"]["psnr"] += 0.01
    (folder / CELL).write_text(json.dumps(record))
    cell = loading.load(folder).cells[KEY]
    assert cell.status == "failed" and "does not match its digest" in cell.reason
    (folder / CELL).write_text(json.dumps(seal(record)))
    cell = loading.load(folder).cells[KEY]
    assert cell.status == "failed" and "that of its images" in cell.reason


def test_fewer_images_than_the_set_has_is_partial(folder):
    from irbench.core import files, records

    files.write_json(folder / "data/set8.json", records.make(
        "data", {"dataset": "set8"}, {}, result={"count": 9}))
    assert "8 of 9" in loading.load(folder).cells[KEY].reason


def test_an_image_equal_to_its_target_leaves_no_mean_but_a_result(folder):
    edit(folder, CELL, lambda r: (r["result"]["images"][0].update(psnr=None), r["result"].update(
        missing={"psnr": "image0: identical to the target, psnr is infinite"})))
    cell = loading.load(folder).cells[KEY]
    assert cell.status == "ok" and "psnr" not in cell.means and "infinite" in cell.missing["psnr"]
    assert "psnr" not in cell.images["image0"] and "ssim" in cell.means


@pytest.mark.parametrize("text", ["{", "[]", '{"schema_version": 99}'])
def test_a_broken_record_is_a_failed_cell(folder, text):
    (folder / CELL).write_text(text)
    cell = loading.load(folder).cells[KEY]
    assert cell.status == "failed" and str(folder) not in cell.reason and CELL in cell.reason


def test_a_record_under_another_cells_name_is_failed(folder):
    (folder / CELL).write_text((folder / CELL.replace("semanir", "bicubic")).read_text())
    assert "bicubic" in loading.load(folder).cells[KEY].reason


def test_records_of_an_earlier_config_are_left_out(folder):
    config = json.loads((folder / "config.json").read_text())
    config["cells"][1]["models"] = ["bicubic"]
    del config["models"]["semanir"]["variants"]
    (folder / "config.json").write_text(json.dumps(config))
    run = loading.load(folder)
    assert run.from_earlier == (f"{X2}/set8/{K}", f"{X4}/set8/semanir", f"{X4}/semanir")
    assert KEY in run.cells
    (folder / "config.json").unlink()
    assert loading.load(folder).from_earlier == () and len(loading.load(folder).cells) == 5


def test_a_config_asks_for_variants_under_their_protocols_alone(folder):
    wanted = planned.read(folder)
    assert wanted.wanted() == sorted(loading.load(folder).cells)
    assert wanted.cell(X2, "set8", K) and not wanted.cell(X4, "set8", K)
    assert wanted.profile(X2, K) and not wanted.profile(X4, K)
    assert not wanted.cell(X2, "set9", "semanir") and not wanted.cell("sr-x2@2", "set8", "semanir")


def test_a_protocol_without_version_is_the_newest_that_was_run():
    config = {"cells": [{"protocol": "sr-x2", "datasets": ["a"], "models": ["m"]}],
              "models": {"m": {"profile": False}}, "profile": {"references": ["r"]}}
    assert planned.from_config(config).cell("sr-x2@2", "a", "m")
    later = planned.from_config(config, ["sr-x2@1", "sr-x2@3", "sr-x4@9"])
    assert later.cell("sr-x2@3", "a", "m") and not later.cell(X2, "a", "m")
    assert not later.profile("sr-x2@3", "m") and later.profile("sr-x2@3", "r")
    assert not later.profile(X2, "r")


@pytest.mark.parametrize(("name", "part"), [
    ("absent", "no such run"), ("empty", "holds no record"), ("config.json", "no baseline_version"),
    (CELL, "one record of a run")])
def test_what_is_no_run_is_refused_by_name(folder, capsys, name, part):
    (folder / "empty").mkdir()
    with pytest.raises(UserError, match=part):
        loading.load(folder / name)
    assert cli.main(["compare", str(folder / name), str(folder)]) == 2
    assert part in capsys.readouterr().err


def test_an_invalid_config_is_reported(folder):
    (folder / "config.json").write_text('{"cells": 3}')
    with pytest.raises(UserError, match=r"config\.json: not the config"):
        loading.load(folder)


@pytest.mark.parametrize("change", [
    lambda r: r["result"]["images"][0].pop("name"),
    lambda r: r["result"]["images"][0].update(name=1),
    lambda r: r["result"]["images"][0].update(psnr="high"),
    lambda r: r["result"].update(images=3), lambda r: r["result"].update(mean=[1]),
    lambda r: r["provenance"].update(hardware="fast"), lambda r: r["spec"].update(model=[1])])
def test_a_record_of_another_form_is_a_failed_cell_with_a_reason(folder, change):
    record = json.loads((folder / CELL).read_text())
    change(record)
    (folder / CELL).write_text(json.dumps(seal(record)))
    cell = loading.load(folder).cells[KEY]
    assert cell.status == "failed" and not cell.means
    assert "not in the form" in cell.reason and "To replace the file, run again" in cell.reason


@pytest.mark.parametrize("models", [{"semanir": {"variants": {"k8": {"protocols": 3}}}},
                                    {"semanir": {"variants": [1]}}, [1]])
def test_a_config_of_another_form_is_reported(folder, models):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "models": models}))
    with pytest.raises(UserError, match="not the config of a run"):
        loading.load(folder)


def test_a_run_of_version_1_is_loaded_and_compared():
    old = loading.load(ROOT / "tests" / "core" / "records_v1")
    assert [cell.key for cell in old.cells.values() if cell.status != "ok"] == [
        "sr-x2@1/tinyset/late"]
    tiny = old.cells["sr-x2@1/tinyset/tiny"]
    assert tiny.means["psnr"] == pytest.approx(33.7232, abs=1e-4) and tiny.inputs["training"]
    assert [profile.status for profile in old.profiles.values()] == ["ok", "ok"]
    found = differences.compare(old, old)
    assert len([cell for cell in found.cells if cell.metrics and cell.same]) == 5


def test_two_models_of_a_run_are_compared_image_by_image(tmp_path, capsys):
    """The second against the first; each difference is the one that was planted."""
    folder = str(fixtures.make(tmp_path))
    words = ["compare", folder, "--models", fixtures.CUBIC, fixtures.NET]
    assert cli.main([*words, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [cell["cell"] for cell in found["cells"]] == [
        f"{protocol}/set8/bicubic -> semanir" for protocol in (X2, X4)]
    for cell in found["cells"]:
        psnr = cell["metrics"]["psnr"]
        assert psnr["difference"] == pytest.approx(2)
        assert (psnr["verdict"], psnr["direction"]) == ("real", "better")
    assert cli.main(words) == 0
    text = capsys.readouterr().out
    assert f"BASE  {folder}: base: bicubic" in text and f"NEW   {folder}: base: semanir" in text
    assert "model arch: bicubic -> semanir" in text and "model options" not in text
    # in the other order, and against another run
    other = str(fixtures.make(tmp_path, "new"))
    assert cli.main(["compare", folder, other, "--models", fixtures.NET, fixtures.CUBIC,
                     "--format", "json"]) == 0
    cell = json.loads(capsys.readouterr().out)["cells"][0]
    assert cell["metrics"]["psnr"]["direction"] == "worse"


@pytest.mark.parametrize(("more", "message"), [
    ([], "needs two runs, or one run and --models"),
    (["--models", "bicubic", "semanirr"], "unknown model 'semanirr'. Did you mean 'semanir'"),
])
def test_what_cannot_be_compared_is_said(tmp_path, capsys, more, message):
    assert cli.main(["compare", str(fixtures.make(tmp_path)), *more]) == 2
    assert message in capsys.readouterr().err
