"""``irbench checkpoints``: what it prints and writes, from a training to a config that uses it."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from irbench import cli, plan
from irbench.cli import checkpoints as cli_checkpoints
from irbench.core import digests, files, records
from irbench.core.errors import UserError
from irbench.models import registry
from irbench.weights import bundled, cards, loading, storage
from tests.helpers import tiny
from tests.helpers.paths import ROOT


@pytest.fixture(autouse=True)
def nothing_bundled(tmp_path, monkeypatch):
    """A folder and a catalog of bundled weights of the test's own."""
    monkeypatch.setattr(bundled, "FOLDER", tmp_path / "weights")
    monkeypatch.setattr(bundled, "CATALOG", tmp_path / "weights.yaml")
    bundled.rewrite()
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def world(tmp_path):
    return tiny.make(tmp_path)


def call(capsys, *words):
    """Run the verb; return (exit code, the last line as JSON or None, stdout, stderr)."""
    code = cli.main(["checkpoints", *map(str, words)])
    out, err = capsys.readouterr()
    try:
        document = json.loads(out.splitlines()[-1])
    except (ValueError, IndexError):
        document = None
    return code, document, out, err


def figure(config):
    record = plan.load(config).find("cell", protocol="sr-x2", dataset="tinyset",
                                    model="tiny").record
    return records.read(record)["result"]["mean"]["psnr"]


def test_from_a_training_to_a_config_that_uses_its_weights(world, capsys):
    names = ["--protocol", "sr-x2", "--model", "tiny"]
    assert cli.main(["train", *names]) == 0
    assert cli.main(["eval", *names, "--dataset", "tinyset"]) == 0
    trained = figure(world)
    code, done, _, _ = call(capsys, "export", *names, "--output", "tiny.safetensors")
    assert code == 0 and done["scores"] == 1
    first = Path("tiny.safetensors").read_bytes()
    call(capsys, "export", *names, "--output", "tiny.safetensors")
    assert Path("tiny.safetensors").read_bytes() == first

    code, _, card, _ = call(capsys, "show", "tiny.safetensors")
    assert code == 0
    for wording in ("stored as F16", "sr-x2@1 (Super-resolution x2, bicubic)",
                    "trained on  tinytrain",
                 "12 steps of 2 patches of 16 x 16 pixels", "24 patches seen", f"{trained:.2f}",
                 "irbench train --config config.yaml --protocol sr-x2 --model tiny",
                 "leaks       not searched; irbench data leak --train tinytrain --test"):
        assert wording in card, wording

    code, done, _, _ = call(capsys, "import", "tiny.safetensors", "--name", "mine")
    assert (code, done["file"]) == (0, "data/checkpoints/mine.safetensors")
    config = yaml.safe_load(world.read_text())
    config["models"] |= yaml.safe_load(done["config"])
    config["cells"] = config["cells"][:1]
    world.write_text(yaml.safe_dump({**config, "run": "imported"}))
    assert cli.main(["eval", *names, "--dataset", "tinyset"]) == 0
    assert figure(world) == pytest.approx(trained, abs=0.02)  # rounded to half precision
    assert figure(world) != trained
    capsys.readouterr()
    assert cli.main(["info", "tiny.safetensors"]) == 0
    assert json.loads(capsys.readouterr().out)["storage"] == "float16"
    code, _, listed, _ = call(capsys, "list")
    rows = [line.split() for line in listed.splitlines()[2:] if ".best" not in line]
    assert [row[:5] for row in rows] == [
        ["mine", "data", "tiny", "sr-x2@1", "12"],
        ["tiny/sr-x2@1/tiny", "run", "tiny", "sr-x2@1", "12"]]
    assert all(row[-2:] == ["tinyset", f"{trained:.2f}"] for row in rows)


def test_a_blind_training_is_exported_once_for_all_its_levels(tmp_path, capsys):
    levels = ["denoise_color-sigma15", "denoise_color-sigma50"]
    training = {"recipe": "demo", "data": ["tinytrain"], "steps": 2, "patch": 16, "batch": 2,
                "levels": {"sigma": [15, 50]}, "exclude": {"tinytrain": ["img11"]}}
    cells = [{"protocol": p, "datasets": ["tinyset"], "models": ["tiny"]} for p in levels]
    tiny.make(tmp_path, models={"tiny": {"training": training}}, cells=cells)
    scope = ["--protocol", "denoise_color-blind", "--model", "tiny"]
    assert cli.main(["train", *scope]) == 0
    for protocol in levels:
        assert cli.main(["eval", "--protocol", protocol, "--dataset", "tinyset", "--model",
                         "tiny"]) == 0
    code, done, _, _ = call(capsys, "export", *scope, "--bundle")
    assert (code, done["scores"]) == (0, 2)
    (one,) = bundled.catalog().values()
    assert (one.name, one.protocol, one.levels) == (
        "tiny-denoise_color-blind", "denoise_color-blind@1", {"sigma": [15, 50]})
    header = storage.read_header(one.path)
    assert header["exclude"] == {"tinytrain": ["img11"]}
    assert "--protocol denoise_color-blind" in header["command"]
    # the same config, with the weights of the file instead of a training
    tiny.make(tmp_path, run="again", models={"tiny": {"checkpoint": "bundled"}}, cells=cells)
    assert cli.main(["eval", "--protocol", levels[1], "--dataset", "tinyset", "--model",
                     "tiny"]) == 0
    found = [records.read(Path("results", run, "cells", f"{levels[1]}@1", "tinyset", "tiny.json"))
             ["result"]["mean"]["psnr"] for run in ("tiny", "again")]
    assert found[0] == pytest.approx(found[1], abs=0.02)


# -- cards -----------------------------------------------------------------------------------------

HEADER = {
    "model": "compacter", "arch": "compacter", "options": {"skip": "input"},
    "protocol": "denoise_color-blind@1", "levels": {"sigma": [15, 50]}, "steps": 8000,
    "recipe": {"recipe": "short", "batch": 8, "patch": 64, "loss": "l1", "phases": None},
    "datasets": [{"name": "bsds500_train", "sha256": "a" * 64}],
    "exclude": {"bsds500_train": ["302003"]}, "training": "b" * 64, "seconds": 7300,
    "images_seen": 64000, "parameters": 407123,
    "hardware": {"device": "cpu", "device_name": "a processor", "threads": 2, "processes": 1},
    "validation": [[1000, 28.5], [4000, 30.75], [8000, 30.5]], "irbench": "0.1.0",
    "validation_on": {"metric": "PSNR on rgb, dB", "images": 4, "crop": "the middle"},
    "scores": [{"protocol": "denoise_color-sigma25@1", "dataset": "cbsd68", "count": 68,
                "psnr": 30.4, "ssim": 0.86},
               {"protocol": "denoise_color-sigma25@1", "dataset": "photos", "count": 4,
                "psnr": 31.0, "ssim": None}],
    "leaks": [{"train": "bsds500_train", "test": "cbsd68", "shared": 0, "left_out": 0},
              {"train": "bsds500_train", "test": "set5", "shared": 0, "left_out": 1}],
    "git": "c" * 40, "storage": "float16", "command": "irbench train --protocol x"}


INIT = {"sha256": "e" * 64, "of": "", "taken": 8, "new": ["a", "b"], "left": ["c", "d", "e", "f"],
        "data_known": False}


def write(path, **changes):
    path.parent.mkdir(parents=True, exist_ok=True)
    header = {name: value for name, value in {**HEADER, **changes}.items() if value is not None}
    path.write_bytes(storage.pack({"a": torch.zeros(3)}, header))
    return path


def show(path):
    return cards.card(cards.find(str(path), Path("data"), Path("results")))


def test_a_card_tells_everything_with_its_units(tmp_path):
    card = " ".join(show(write(tmp_path / "a.safetensors")).split())
    for wording in (
            "model Compacter, 407,123 parameters", "options skip: input",
            "denoise_color-blind@1, blind, sigma 15 to 50: denoise_color-sigma15@1",
            "trained on bsds500_train without 302003 of bsds500_train",
            "leaks no image of cbsd68, set5 was in the training data (left out of the training: 1 "
            "of set5 in bsds500_train)",
            "short: 8000 steps of 8 patches of 64 x 64 pixels, loss l1",
            "cost 2.0 h on cpu (a processor, 2 threads, 1 process), 64,000 patches seen",
            "28.50 dB at step 1000, 30.50 dB at the last, 8000; best 30.75 dB at step 4000; "
            "3 points (PSNR on rgb, dB, 4 images, the middle)",
            "made by irbench 0.1.0 at commit cccccccccccc", "again irbench train --protocol x",
            "published: the paper's model; these weights belong to another model, with skip: input",
            "figures from the file's header",
            # printed: 31.57, of one model for all levels
            "denoise_color-sigma25@1 cbsd68 68 30.40 31.57 -1.17 0.8600 - - Compacter*",
            "photos 4 31.00 - - - - -", "measured with the float32 weights",
            "one model for all levels (the asterisk is the source's)", "Compacter paper"):
        assert wording in card, wording


def test_the_gap_is_measured_less_published(tmp_path):
    one = cards.find(str(write(tmp_path / "a.safetensors")), tmp_path, tmp_path)
    first, second = cards.full_card(one)["scores"]
    assert first["published"]["psnr"] == {"text": "31.57", "gap": -1.17}
    assert first["published"]["method"] == "Compacter*" and second["published"] is None
    made_for_one = {"arch": "compacter", "levels": None}
    score = {"protocol": "sr-x2@2", "dataset": "set5", "psnr": 36.54, "ssim": 0.95}
    found = cards.compared(score, made_for_one)
    assert (found["method"], found["psnr"]) == ("Compacter", {"text": "38.24", "gap": -1.7})
    assert cards.compared(score, {"arch": "unheard-of"}) is None
    assert cards.compared(score, {"arch": "semanir-light"}) is None


@pytest.mark.parametrize(("changes", "wording"), [
    ({"leaks": [{"train": "bsds500_train", "test": "set5", "shared": 2, "left_out": 0}]},
     "trained on images of test sets: 2 of set5 in bsds500_train"),
    ({"leaks": None}, "not searched; irbench data leak --train bsds500_train --test SET "
     "--exclude bsds500_train/302003"),
    ({"datasets": None}, "the training data of these weights are unknown"),
    ({"validation": [[5, None]]}, "validation none"),
    ({"validation": None}, "not in this file; files written by irbench checkpoints export have it"),
    ({"dirty": True}, "at commit cccccccccccc, with uncommitted changes"),
    ({"dirty": False}, "at commit cccccccccccc again"),
    ({"seconds": 40}, "cost 40 s on cpu"), ({"seconds": 600}, "cost 10 min on cpu"),
    ({"best": {"step": 4000, "psnr": 30.75}}, "these weights are from step 4000"),
    ({"imported": {"file": "x.pth", "sha256": "d" * 64}}, "imported from x.pth (SHA-256 dddd"),
    ({"arch": "unheard-of"}, "model unheard-of"),
    ({"recipe": {**HEADER["recipe"], "warmup": 0.02, "phases": [
        {"from": 0}, {"from": 0.5, "patch": 96, "batch": 4}]}},
     "patches of 64 x 64 pixels, loss l1, warmup 0.02; from 50 % on patch 96, batch 4"),
    ({"recipe": {**HEADER["recipe"], "phases": [7, {"lr": 1}]}}, "64 x 64 pixels, loss l1 cost"),
    ({"teacher": {"title": "DCTLSA", "sha256": "d" * 64, "weight": 0.5}},
     f"teacher distilled from DCTLSA (SHA-256 {'d' * 64}), weight 0.5 of the loss"),
    ({"init": INIT}, "began with 8 of 10 tensors of a file (SHA-256 eeeeeeeeeeee); new: a, b; not "
     "used: c, d, e and 1 more"),
    ({"init": INIT}, "; the sets of the weights that it began with are unknown"),
    ({"scores": []}, "again irbench train")])
def test_a_card_states_what_is_missing(tmp_path, changes, wording):
    assert wording in " ".join(show(write(tmp_path / "a.safetensors", **changes)).split())


def test_a_card_of_the_papers_own_model_says_nothing_of_another(tmp_path):
    own = dict(registry.get("compacter").options)
    assert "of another" not in show(write(tmp_path / "a.safetensors", options=own))
    # its header has no measurements, so the card shows none
    assert "header says" not in show(write(tmp_path / "a.safetensors", scores=None, seconds=None,
                                           validation=None))


# -- files that are not what they say --------------------------------------------------------------

def flip(path):
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[:-5])


@pytest.mark.parametrize("damage", [flip, cut])
@pytest.mark.parametrize("words", [[], ["--json"]])
def test_an_altered_file_has_no_card(tmp_path, capsys, damage, words):
    path = write(tmp_path / "a.safetensors")
    damage(path)
    code, _, out, err = call(capsys, "show", path, *words)
    assert (code, out) == (2, "") and f"{path}: " in err and "the file was altered" in err
    assert cli.main(["info", str(path)]) == 2


@pytest.mark.parametrize("damage", [flip, cut, lambda path: write(path, seconds=1)])
def test_an_altered_bundled_file_is_told_by_list_and_show(tmp_path, capsys, damage):
    name = "compacter-denoise_color-blind"
    path = write(tmp_path / f"weights/{name}.safetensors")
    bundled.rewrite()
    by_path = call(capsys, "show", path)
    assert by_path[0] == 0 and "from the file's header" not in by_path[2]
    damage(path)
    for named in (name, path):
        code, _, out, err = call(capsys, "show", named)
        assert (code, out) == (2, "") and f"{path}: the file was altered" in err
        assert "Restore it (git checkout) or install irbench again" in err
    code, _, out, _ = call(capsys, "list")
    assert code == 0 and "not usable" in out and "30.40" not in out and "was altered" in out


@pytest.mark.parametrize("changes", [
    {"levels": [1, 2]}, {"levels": {"sigma": [1]}}, {"datasets": "x"}, {"datasets": ["x"]},
    {"seconds": "long"}, {"seconds": 10**400}, {"arch": ["a"]}, {"options": "none"},
    {"scores": [{"psnr": 1}]}, {"scores": {"a": 1}}, {"validation": [[1]]}, {"best": {"psnr": 1}},
    {"leaks": [{"train": "a"}]}, {"exclude": {"a": 1}}, {"hardware": {"cpu": 1}}, {"steps": -1},
    {"init": {"taken": 1}}, {"teacher": {"title": 7}},
    {"images": {"training": 1}}, {"imported": "x"}, {"recipe": []}, {"git": 7},
    {"command": "\x1b[2J"}, {"hardware": {"x": ["\x1b[2J"]}}])
def test_an_odd_header_costs_no_list_and_is_refused_by_name(tmp_path, capsys, changes):
    path = write(tmp_path / "data/checkpoints/odd.safetensors", **changes)
    write(tmp_path / "data/checkpoints/good.safetensors")
    wording = f"odd.safetensors: its header is broken ({next(iter(changes))})"
    code, _, out, _ = call(capsys, "list")
    assert code == 0 and "good" in out and wording in out
    code, found, _, _ = call(capsys, "list", "--json")
    assert [bool(one["fault"]) for one in found["checkpoints"]] == [False, True]
    for words in (["show", "odd"], ["show", path], ["import", path]):
        code, _, _, err = call(capsys, *words)
        assert code == 2 and wording in err and err.count("\n") == 1


# -- finding ---------------------------------------------------------------------------------------

def test_names_of_the_list(tmp_path, capsys):
    write(tmp_path / "weights/compacter-denoise_color-blind.safetensors")
    bundled.rewrite()
    write(tmp_path / "data/checkpoints/theirs.safetensors")
    (tmp_path / "data/checkpoints/other.pth").write_bytes(b"whatever it is")
    write(tmp_path / "results/r/checkpoints/sr-x2@1/m.best.safetensors")
    _, found, _, _ = call(capsys, "list", "--json")
    assert [(one["name"], one["from"], one["protocol"]) for one in found["checkpoints"]] == [
        ("compacter-denoise_color-blind", "bundled", "denoise_color-blind@1"),
        ("other", "data", None), ("theirs", "data", "denoise_color-blind@1"),
        ("r/sr-x2@1/m.best", "run", "denoise_color-blind@1")]
    for one in found["checkpoints"]:
        assert one["sha256"] == digests.file_digest(Path(one["file"]))
        if one["name"] != "other":
            _, shown, _, _ = call(capsys, "show", one["name"], "--json")
            assert shown["file"] == one["file"] and shown["seconds"] == 7300
    code, _, _, err = call(capsys, "show", "thiers")
    assert code == 2 and "unknown checkpoint 'thiers'. Did you mean 'theirs'" in err
    code, _, _, err = call(capsys, "show", "other")
    assert code == 2 and "other.pth: not a checkpoint" in err


def test_nothing_here_is_said(capsys):
    assert call(capsys, "list")[2] == "no weights found\n"


def test_the_list_marks_scores_of_an_earlier_version_of_their_protocol(tmp_path, capsys):
    for name, version in (("one", 1), ("two", 2), ("odd", "x")):
        header = {"arch": "compacter", "protocol": "sr-x2@1",
                  "scores": [{"protocol": f"sr-x2@{version}", "dataset": "set14", "count": 14,
                              "psnr": 33.0}]}
        files.write_atomic(tmp_path / f"data/checkpoints/{name}.safetensors", storage.pack(
            {"weight": torch.zeros(1)}, header))
    out = call(capsys, "list")[2]
    lines = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert lines["one"].endswith("set14 33.00 (@1)") and lines["two"].endswith("set14 33.00")
    assert lines["odd"].endswith("set14 33.00")     # of no protocol known here
    assert cards.EARLIER in out
    (tmp_path / "data/checkpoints/one.safetensors").unlink()
    assert cards.EARLIER not in call(capsys, "list")[2]


def test_list_and_show_import_no_torch(tmp_path):
    write(tmp_path / "data/checkpoints/a.safetensors")
    code = ("import sys; from irbench import cli; cli.main(['checkpoints', 'list']); "
            "cli.main(['checkpoints', 'show', 'a']); "
            "print({'torch', 'pyiqa', 'spandrel'} & set(sys.modules))")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True,
                          text=True, check=True, env={"PYTHONPATH": str(ROOT), "PATH": ""})
    assert done.stdout.splitlines()[-1] == "set()" and "denoise_color-blind@1" in done.stdout


# -- the command line ------------------------------------------------------------------------------

def test_a_training_is_bundled(world, tmp_path, capsys):
    run = plan.load(world)
    job = run.find("training", protocol="sr-x2", model="tiny")
    network = loading.build(job.model, run.protocols["sr-x2@2"], tuple(run.config["plugins"]))
    file = run.folder / "checkpoints/sr-x2@1/tiny.safetensors"
    digest = loading.save(file, network.state_dict(), job.model, run.scopes["sr-x2@1/tiny"],
                              training=job.fingerprint)
    files.write_json(job.record, records.make("training", job.key, job.spec, result={
        "steps": 1, "seconds": 1.0, "images_seen": 2,
        "checkpoint": {"file": "checkpoints/sr-x2@1/tiny.safetensors", "sha256": digest}}))
    code, done, _, _ = call(capsys, "export", "--config", tmp_path / "config.yaml", "--protocol",
                            "sr-x2@2", "--model", "tiny", "--bundle")
    assert code == 0 and done["file"] == str(tmp_path / "weights/tiny-sr-x2.safetensors")
    (one,) = bundled.catalog().values()
    assert (one.name, one.sha256, one.levels) == ("tiny-sr-x2", done["sha256"], None)
    assert storage.read_header(one.path)["command"] == (
        "irbench train --config config.yaml --protocol sr-x2 --model tiny")


@pytest.mark.parametrize(("error", "wording"), [
    (OSError(28, "No space left on device"), "irbench: No space left on device.\n"),
    (OSError(28, "No space left on device", "w"), "irbench: w: No space left on device.\n"),
    (BrokenPipeError(32, "Broken pipe"), None)])
def test_a_full_disk_is_one_message_and_a_gone_reader_none(tmp_path, monkeypatch, capsys, error,
                                                           wording):
    def fail(*_):
        raise error

    monkeypatch.setattr(cards, "listing", fail)
    if wording is None:
        with pytest.raises(BrokenPipeError):
            cli_checkpoints.run(argparse.Namespace(action="list", config="config.yaml",
                                                   data_root=tmp_path, json=False))
    else:
        assert call(capsys, "list")[::3] == (2, wording)


@pytest.mark.parametrize(("words", "message"), [
    (["export", "--protocol", "sr-x2", "--model", "tiny", "--output", "a.pth"],
     "--output a.pth: the file is written as safetensors"),
    (["export", "--protocol", "sr-x2", "--model", "tiny", "--output", "a.safetensors"],
     "unknown training 'sr-x2/tiny'"),
    (["import", "none.pth"], "checkpoint none.pth: no such file. Give the path"),
    (["import", "w.pth", "--options", "width"], "--options width: give NAME=VALUE"),
    (["import", "w.pth", "--options", "a=[1"], "not valid YAML"),
    (["import", "w.pth", "--levels", "sigma=15"], "--levels sigma=15: give NAME=LOW,HIGH"),
    (["import", "w.pth"], "Give --model and --protocol"),
    (["import", "w.pth", "--model", "tiny", "--protocol", "sr-x2", "--options", "width=5"],
     r"first.weight: [4, 3, 3, 3] in the file, [5, 3, 3, 3] in the model"),
    (["show", "w.pth"], "none of the"),
    (["list", "--config", "none.yaml"], "none.yaml"),
])
@pytest.mark.filterwarnings("ignore")
def test_bad_input_is_one_message(world, capsys, words, message):
    network = loading.build(plan.load(world).models["tiny"], plan.load(world).protocols[
        "sr-x2@2"], (str(world.parent / "tiny_model.py"),))
    torch.save(network.state_dict(), "w.pth")
    code, _, _, err = call(capsys, *words)
    assert code == 2 and message in err and err.startswith("irbench: ") and err.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_said_so(world, capsys):
    write(Path("a.safetensors"), arch="tiny", options={"width": 4, "strength": 0.1},
          protocol="sr-x2@2", levels=None)
    Path("blocked").write_text("")
    code, _, _, err = call(capsys, "import", "a.safetensors", "--data-root", "blocked")
    assert code == 2 and "does not fit tiny" in err
    torch.save(loading.build(plan.load(world).models["tiny"], plan.load(world).protocols[
        "sr-x2@2"], (str(world.parent / "tiny_model.py"),)).state_dict(), "w.pth")
    code, _, _, err = call(capsys, "import", "w.pth", "--model", "tiny", "--protocol", "sr-x2",
                           "--data-root", "blocked")
    assert code == 2 and err.startswith("irbench: blocked") and err.count("\n") == 1


def test_an_unknown_name_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="unknown checkpoint 'nothing'"):
        cards.find("nothing", tmp_path, tmp_path)
