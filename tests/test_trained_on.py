"""What weights were trained on: known of trainings and of files that name it, else unknown."""

import json
import shutil

import pytest
import torch

from irbench import checkpoints, cli, datasets, plan, protocols
from irbench.report import collect, leakage, page
from tests import tiny

TITLE = "Tiny (not in any paper)"


@pytest.fixture
def world(tmp_path, monkeypatch):
    """The tiny world, whose model comes from a file; the function writes it with some metadata."""
    monkeypatch.chdir(tmp_path)
    config = tiny.make(tmp_path, models={"bicubic": {}, "tiny": {"checkpoint": "w.safetensors"}},
                       cells=[{"protocol": "sr-x2", "datasets": ["tinyset"],
                               "models": ["bicubic", "tiny"]}])

    def write(**metadata):
        model = {"name": "tiny", "arch": "tiny", "options": {"width": 4}}
        checkpoints.save(tmp_path / "w.safetensors", {"a": torch.zeros(1)}, model,
                         protocols.get("sr-x2"), **metadata)
        return plan.load(config)
    return write


def digest(name):
    return datasets.digest(datasets.get(name, ["datasets.yaml"]))


def collected(run):
    return collect.collect(run.folder, run.report_spec)


def test_a_file_that_names_its_sets_is_searched(world, tmp_path, capsys):
    shutil.copy(tmp_path / "images/test/img0.png", tmp_path / "images/train/copy.png")
    run = world(datasets=[{"name": "tinytrain", "sha256": digest("tinytrain")}])
    assert run.trained_on == {"sr-x2@1/bicubic": [], "sr-x2@1/tiny": ["tinytrain"]}
    (one, other), = run.leaks["tiny"].spec["pairs"]
    assert (one["name"], other["name"]) == ("tinytrain", "tinyset")
    assert one == run.data["tinytrain"].spec["dataset"] and not run.trainings
    assert cli.main(["data", "leak", "--on-failure", "record", "--supervised"]) == 0
    shown = collected(run)
    leaks = {cell.model: cell.leak for cell in shown.cells}
    assert leaks["bicubic"] == "" and "1 of 3 images is in tinytrain" in leaks["tiny"]
    assert any("marked and not ranked" in said for said in page.warnings(shown, []))
    assert leakage.LIMITS in shown.leaks.summary() and "unknown" not in shown.leaks.summary()


@pytest.mark.parametrize("sets", [
    None, [], ["tinytrain"], [{"name": "tinytrain"}], [{"name": "tinytrain", "sha256": None}],
    [{"name": "tinytrain", "sha256": "0" * 64}], [{"name": "nowhere", "sha256": "0" * 64}],
    "both"])
def test_what_is_not_known_is_told(world, capsys, sets):
    """Another version of a set, or only some of the sets: which images were seen is not known."""
    if sets == "both":
        sets = [{"name": "tinytrain", "sha256": digest("tinytrain")},
                {"name": "gone", "sha256": "0" * 64}]
    run = world(**({} if sets is None else {"datasets": sets}))
    assert run.trained_on["sr-x2@1/tiny"] is None and not run.leaks
    assert list(run.data) == ["tinyset"]
    assert collected(run).leaks.summary() == f"Training data of {TITLE} unknown, not compared."
    assert cli.main(["data", "leak"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert (found["leaks"], found["unknown"]) == (None, ["tiny"])


def test_a_third_partys_file_is_of_unknown_data(world, tmp_path):
    config = tiny.make(tmp_path, cells=[
        {"protocol": "sr-x2", "datasets": ["tinyset"], "models": ["tiny", "swinir-m"]}],
        models={"swinir-m": {}, "tiny": {"training": {
            "recipe": "demo", "data": ["tinytrain"], "steps": 2, "patch": 16}}})
    run = plan.load(config)
    assert run.trained_on == {"sr-x2@1/tiny": ["tinytrain"], "sr-x2@1/swinir-m": None}
    assert cli.main(["data", "leak", "--on-failure", "record", "--supervised"]) == 0
    said = collected(run).leaks.summary()
    assert said.startswith("Training sets (tinytrain) were compared")
    assert said.endswith("Training data of SwinIR-M unknown, not compared.")
