"""Results whose model, code or weights changed since count nowhere in silence."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

import irbench
from irbench import cli, plan
from irbench.core import files
from irbench.jobs import run as jobs
from irbench.jobs.result import RunSettings
from irbench.models import registry
from tests.helpers import tiny


def check(*more):
    return cli.main(["check", "--baseline", "base.json", *more])


@pytest.fixture
def outdated(tmp_path, monkeypatch):
    """A finished run whose network was changed and that was not run again; and its baseline."""
    monkeypatch.chdir(tmp_path)
    config = tiny.make(tmp_path)
    value = yaml.safe_load(config.read_text())
    network = registry.get("tiny", ("tiny_model.py",)).load()("jpeg_gray", 1, 1, width=4,
                                                              strength=0.1)
    torch.save(network.state_dict(), "w.pth")
    value["models"] = {"input": None, "tiny": {"checkpoint": "w.pth"}}
    value["cells"] = [{"protocol": "jpeg_gray-q10", "datasets": ["tinyset"],
                       "models": ["input", "tiny"]}]
    config.write_text(yaml.safe_dump(value))
    run = plan.load(config)
    for job in run.cells.values():
        jobs.do(run, job, RunSettings())
    files.write_json(run.run_folder.config, run.config)
    assert cli.main(["baseline", "write", "results/tiny", "--output", "base.json"]) == 0
    network = tmp_path / "tiny_model.py"
    network.write_text(network.read_text().replace("up + self", "up - self"))
    return tmp_path


def test_outdated_results_of_a_named_run_do_not_pass(outdated, capsys):
    capsys.readouterr()
    assert check("results/tiny") == 1
    assert "outdated: its code (tiny_model.py) changed since" in capsys.readouterr().out
    assert check("results/tiny", "--stored") == 0
    said = capsys.readouterr().err
    assert "results/tiny: outdated results that count as stored: 1 (cells/jpeg_gray-q10@1/" in said
    assert "irbench status results/tiny lists them" in said
    assert check("--stored") == 0       # of the config's run
    assert "config.yaml: outdated results that count as stored: 1" in capsys.readouterr().err


def test_outdated_results_make_no_baseline(outdated, capsys):
    write = ["baseline", "write", "results/tiny", "--output", "other.json"]
    capsys.readouterr()
    assert cli.main(write) == 2 and not Path("other.json").exists()
    said = capsys.readouterr().err
    assert "outdated: its code (tiny_model.py) changed since" in said and "--stored" in said
    assert cli.main([*write, "--stored"]) == 0
    assert Path("other.json").read_text() == Path("base.json").read_text()
    assert cli.main([*write, "--partial"]) == 0
    assert list(json.loads(Path("other.json").read_text())["cells"]) == [
        "jpeg_gray-q10@1/tinyset/input"]


def test_comparing_tells_outdated_results(outdated, capsys):
    capsys.readouterr()
    cli.main(["compare", "base.json", "results/tiny"])
    assert "outdated results that count as stored: 1" in capsys.readouterr().err


def test_data_frames_tell_outdated_results(outdated):
    with pytest.warns(UserWarning, match="1 results are outdated"):
        cells = irbench.load_run("results/tiny").cells.set_index("model")
    assert dict(cells["status"]) == {"input": "ok", "tiny": "outdated"}
    assert cells.loc["tiny", "reason"] == "its code (tiny_model.py) changed since"
    assert set(irbench.load_run("results/tiny", stored=True).cells["status"]) == {"ok"}


def test_a_copy_is_what_it_is(outdated, capsys):
    shutil.copytree("results/tiny", "before")
    capsys.readouterr()
    assert check("before") == 0
    assert capsys.readouterr().err == ""
    Path("tiny_model.py").unlink()
    assert check("results/tiny") == 0
    assert ("results/tiny: taken as stored; it is unknown whether results are outdated: its "
            "config cannot be planned here: ") in capsys.readouterr().err


def test_what_changed_is_named(outdated, capsys):
    def why():
        capsys.readouterr()
        cli.main(["status", "config.yaml"])
        found, = (one for one in json.loads(capsys.readouterr().out)["jobs"]
                  if one["key"].get("model") == "tiny" and one["kind"] == "cell")
        return found["reason"] and found["reason"].partition(";")[0]

    assert why() == "its code (tiny_model.py) changed since"
    network = Path("tiny_model.py")
    network.write_text(network.read_text().replace("up - self", "up + self"))
    assert why() is None
    weights = torch.load("w.pth")
    torch.save({name: value + 1 for name, value in weights.items()}, "w.pth")
    assert why() == "its weights (w.pth) changed since"
    value = yaml.safe_load(Path("config.yaml").read_text())
    value["models"]["tiny"]["options"] = {"strength": 0.2}
    Path("config.yaml").write_text(yaml.safe_dump(value))
    assert why() == "its weights (w.pth), model (options.strength) changed since"


def test_weights_that_are_missing_are_told_before_a_run(outdated, capsys):
    value = yaml.safe_load(Path("config.yaml").read_text())
    value["models"]["tiny"] = {"arch": "tiny", "checkpoint": "nope.pth"}
    value["models"]["new"] = {"arch": "tiny", "checkpoint": "nope.pth"}
    value["cells"][0]["models"].append("new")
    Path("config.yaml").write_text(yaml.safe_dump(value))
    capsys.readouterr()
    cli.main(["status", "config.yaml"])
    said = capsys.readouterr().err
    for model in ("tiny", "new"):
        assert f"checkpoint nope.pth: no such file. Correct the path of models.{model}\n" in said
