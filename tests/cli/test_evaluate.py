"""``irbench eval``: with and without a config, a part of a set, and what it says to people."""

import argparse
import contextlib
import json
import re
from pathlib import Path

import pytest
import torch
import yaml

import irbench
from irbench import cli, plan
from irbench.compare import loading
from irbench.core import records
from irbench.core.run_folder import RunFolder
from irbench.imaging.images import write_png
from irbench.jobs import outcome
from tests.helpers import tiny

NET = '''
from torch import nn

class Net(nn.Module):
    def __init__(self, scale, channels):
        super().__init__()
        self.up, self.mix = nn.Upsample(scale_factor=scale), nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        return self.mix(self.up(x)).clamp(0, 1)
'''
CELL = ["--protocol", "sr-x2", "--dataset", "tinyset"]
ALONE = [*CELL, "--catalog", "datasets.yaml"]


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.make(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    return tmp_path


def evaluate(capsys, *words):
    """Return what a person reads last, and the JSON."""
    capsys.readouterr()
    assert cli.main(["eval", *words]) == 0
    done = capsys.readouterr()
    return done.err.splitlines()[-1], json.loads(done.out)


def refused(capsys, *words):
    capsys.readouterr()
    assert cli.main(["eval", *words]) == 2
    return capsys.readouterr().err


def test_without_a_config_it_is_the_value_of_the_run(world, capsys):
    """To the last digit; and nothing is written."""
    line, cell = evaluate(capsys, *CELL, "--model", "bicubic")
    assert re.fullmatch(r"cell sr-x2@2 / tinyset / bicubic: PSNR [\d.]+ dB, SSIM 0\.\d+ "
                        r"\(3 images, \d+\.\d s\): results/tiny/cells/.*bicubic.json", line)
    (world / "config.yaml").rename("mine.yaml")
    before = sorted(Path().rglob("*"))
    for more in ([], ["--no-config"]):
        line, found = evaluate(capsys, *ALONE, "--model", "bicubic", "--metrics", "psnr", "ssim",
                               *more)
        assert found["mean"] == cell["mean"]
        assert (found["record"], found["complete"], found["count"]) == (None, True, 3)
        assert re.fullmatch(r"bicubic on tinyset under sr-x2@2: PSNR [\d.]+ dB, SSIM 0\.\d+ "
                            r"\(3 images, \d+\.\d s\), the set's SHA-256 begins with "
                            rf"{found['dataset_sha256'][:12]}", line)
    assert sorted(Path().rglob("*")) == before
    assert found["mean"] == irbench.evaluate("bicubic", "tinyset", metrics=["psnr", "ssim"],
                                             catalog_paths=("datasets.yaml",)).mean


def test_a_class_with_weights_needs_no_config_even_beside_one(world, capsys):
    weights = {"mix.weight": torch.eye(3)[..., None, None], "mix.bias": torch.zeros(3)}
    torch.save(weights, "w.pth")
    _, found = evaluate(capsys, *ALONE, "--model", "net.py:Net", "--weights", "w.pth", "--metrics",
                        "psnr", "--output", "out/record.json")
    assert found["model"] == "net" and found["record"] == "out/record.json"
    record = records.read(Path("out/record.json"))
    assert record["result"]["mean"] == found["mean"]
    assert cli.main(["eval", *ALONE, "--model", "net.py:Net", "--metrics", "psnr"]) == 0
    assert "net.py:Net: no weights were given" in capsys.readouterr().err
    torch.save({**weights, "mix.bias": torch.ones(3)}, "w.pth")
    _, other = evaluate(capsys, *ALONE, "--model", "net.py:Net", "--weights", "w.pth", "--metrics",
                        "psnr")
    assert other["mean"]["psnr"] < found["mean"]["psnr"]    # the weights decide


@pytest.mark.parametrize("alone", [True, False])
def test_a_part_of_a_set_is_marked_and_stored_nowhere(world, capsys, alone):
    words = [*(ALONE if alone else CELL), "--model", "bicubic", "--limit", "2"]
    line, found = evaluate(capsys, *words, "--output", "part.json")
    assert "(2 images of the set, not its mean, " in line
    assert (found["complete"], found["count"]) == (False, 2)
    assert records.read(Path("part.json"))["spec"]["limit"] == 2
    assert not Path("results/tiny/cells").exists() and not Path("results/tiny/images").exists()
    assert evaluate(capsys, *words[:-1], "3")[1]["complete"]


def test_a_class_without_an_init_of_its_own(world, capsys):
    Path("plain.py").write_text(
        "import torch\n\n\nclass Net(torch.nn.Module):\n    def forward(self, x):\n        return "
        "torch.nn.functional.interpolate(x, scale_factor=2, mode='bicubic').clamp(0, 1)\n")
    _, found = evaluate(capsys, *ALONE, "--model", "plain.py:Net", "--metrics", "psnr")
    assert found["mean"]["psnr"] > 20


def test_a_part_of_a_set_never_passes_for_the_set(world, capsys):
    """Even if somebody puts its record where that of the cell belongs."""
    place = plan.load("config.yaml").cells["sr-x2@2/tinyset/bicubic"].record
    place.parent.mkdir(parents=True)
    _, found = evaluate(capsys, *CELL, "--model", "bicubic", "--limit", "2", "--output", str(place))
    shown = f"{found['mean']['psnr']:.2f}"
    assert cli.main(["report"]) == 0
    assert shown not in Path("results/tiny/tables/sr.md").read_text()
    assert "of the first images of the set only" in Path("results/tiny/tables/sr.md").read_text()
    frame = irbench.load_run("results/tiny").cells
    assert list(frame["status"]) == ["damaged"]
    run = loading.load("results/tiny")
    assert run.cells["sr-x2@2/tinyset/bicubic"].means == {}
    assert RunFolder("results/tiny").load("cell", plan.load("config.yaml").cells[
        "sr-x2@2/tinyset/bicubic"].key).record is None


@pytest.mark.parametrize(("words", "message"), [
    (["--model", "bicubic", "--limit", "2", "--keep-images"], "--keep-images needs a run to write"),
    (["--model", "bicubic", "--limit", "2", "--on-failure", "record"], "--on-failure record needs"),
    (["--model", "bicubic", "--output", "x.json"], "--output goes with --limit, or without a conf"),
    (["--model", "net.py:Net", "--config", "other.yaml"], "--model net.py:Net goes without a con"),
    (["--model", "bicubic", "--weights", "w", "--plan", "p.json"], "--weights goes without .*--pl"),
    (["--model", "swinir-m"], "unknown cell job .* To evaluate without the config, give --no-conf"),
    (["--model", "bicubic", "--weights", "w.pth"], "bicubic has no weights; it takes no weights"),
    (["--model", "net.py:Nets"], "Nets"),
    (["--model", "none.pth"], "none.pth: no such file"),
])
def test_what_does_not_go_together_is_said(world, capsys, words, message):
    text = refused(capsys, *CELL, *words)
    assert re.search(message, text) and "Traceback" not in text


@pytest.mark.parametrize(("words", "message"), [
    (["--dataset", "tinysat"], r"--dataset: unknown dataset 'tinysat'\. Did you mean"),
    (["--metrics", "pnsr"], r"--metrics: unknown metric 'pnsr'\. Did you mean 'psnr'"),
    (["--protocol", "denoise_gray-sigma25"], r"irbench: --model: bicubic \(bicubic\) cannot do"),
    (["--options", "a=1"], "irbench: --options: .*'a'")])
def test_without_a_config_an_option_is_at_fault_and_no_key(world, capsys, words, message):
    text = refused(capsys, *ALONE, "--model", "bicubic", *words)
    assert re.search(message, text) and "cells[0]" not in text and text.count("irbench: ") == 1


def test_what_a_config_defines_is_unknown_with_options_that_ignore_it(world, capsys):
    weights = ["--model", "tiny", "--weights", "w.pth"]
    assert re.match(
        "irbench: config.yaml was not read, because of --weights and --metrics: unknown model .* "
        "To use what config.yaml defines, omit --weights and --metrics.$", refused(
            capsys, *CELL, *weights, "--metrics", "psnr"))
    assert "because of --model net.py:Net" in refused(capsys, *CELL, "--model", "net.py:Net")
    assert "was not read" not in refused(capsys, *CELL, *weights, "--no-config")
    Path("config.yaml").unlink()
    assert "was not read" not in refused(capsys, *CELL, *weights)


def test_a_time_and_an_outcome_in_words():
    assert [outcome.duration(s) for s in (0.04, 3.21, 59.9, 60, 3725)] == [
        "0.0 s", "3.2 s", "59.9 s", "1 min 0 s", "62 min 5 s"]
    record = {"kind": "cell", "status": "ok", "reason": None, "spec": {}, "seconds": {"load": 1.5},
              "result": {"mean": {"psnr": 30.0, "ssim": None}, "images": [{}]}}
    assert outcome.with_time(record) == "PSNR 30.00 dB (1 image, 1.5 s)"
    failed = {**record, "status": "failed", "reason": "why", "result": None}
    assert outcome.with_time(failed) == "n/a: why (1.5 s)"


def test_the_line_of_every_kind_of_job_has_its_result(world, capsys):
    assert cli.main(["data", "fetch", "tinyset"]) == 0
    assert re.search(r"data tinyset: 3 images \(\d+\.\d s\): results", capsys.readouterr().err)
    value = yaml.safe_load(Path("config.yaml").read_text())
    value["models"]["tiny"]["training"]["steps"] = 2
    Path("config.yaml").write_text(yaml.safe_dump(value))
    assert cli.main(["train", "--protocol", "sr-x2", "--model", "tiny"]) == 0
    assert re.search(r"training sr-x2@1 / tiny: 2 steps, final loss 0\.\d+ \(",
                     capsys.readouterr().err)
    assert cli.main(["profile", "--protocol", "sr-x2", "--model", "tiny"]) == 0
    assert re.search(r"profile sr-x2@2 / tiny: 0\.6 k parameters, 0\.00 GMACs, latency [\d.]+ ms",
                     capsys.readouterr().err)


WIDE = '''
from torch import nn

class Net(nn.Module):
    def __init__(self, scale, width, names=(), rate=0.0):
        super().__init__()
        assert type(width) is int and type(rate) is float and list(names) == ["a", "b"]
        self.up, self.width = nn.Upsample(scale_factor=scale), width

    def forward(self, x):
        return self.up(x) * self.width / 10
'''


def test_arguments_of_a_network_are_options_typed_as_in_yaml(world, capsys):
    Path("wide.py").write_text(WIDE)
    words = [*ALONE, "--model", "wide.py:Net", "--metrics", "psnr", "--options"]
    more = ["names=[a, b]", "rate=0.5"]
    found = [evaluate(capsys, *words, f"width={width}", *more)[1]["mean"]["psnr"]
             for width in (9, 5)]
    assert found[0] > found[1] + 5
    assert found[0] == irbench.evaluate(
        "wide.py:Net", "tinyset", options={"width": 9, "names": ["a", "b"], "rate": 0.5},
        metrics=["psnr"], catalog_paths=("datasets.yaml",)).mean["psnr"]
    for wrong, message in (("width", "give NAME=VALUE"), ("=5", "give NAME=VALUE"),
                           ("width=[", "not valid YAML"), ("width=wide", "could not be built"),
                           ("depth=3", "unknown option 'depth'")):
        assert message in refused(capsys, *words, wrong, *more)
    assert "width is given twice" in refused(capsys, *words, "width=1", "width=2")
    assert "bicubic has no weights; it" not in refused(
        capsys, *ALONE, "--model", "bicubic", "--options", "a=1")
    assert "--options goes without a config" in refused(
        capsys, *CELL, "--model", "bicubic", "--options", "a=1", "--plan", "p.json")


def test_a_set_that_has_changed_since_is_named(world, capsys):
    """In a file that --output names, and in a run."""
    ways = ([*ALONE, "--model", "bicubic", "--metrics", "psnr", "--output", "one.json"],
            [*CELL, "--model", "bicubic"])
    for words in ways:
        evaluate(capsys, *words)
        assert cli.main(["eval", *words]) == 0
        assert "computed again" not in capsys.readouterr().err
    write_png(Path("images/test/new.png"), tiny.photo(8, 20, 20))
    assert cli.main(["status"]) == 0
    assert ("sr-x2@2 / tinyset / bicubic: its dataset changed since (the set has 4 images, "
            "then 3); run" in capsys.readouterr().err)
    for words in ways:
        assert cli.main(["eval", *words]) == 0
        assert ("the set has 4 images, the earlier result had 3: computed again"
                in capsys.readouterr().err)
    write_png(Path("images/test/new.png"), tiny.photo(9, 20, 20))
    for words in ways:
        assert cli.main(["eval", *words]) == 0
        assert ("the set's images are not those of the earlier result: computed again"
                in capsys.readouterr().err)


@pytest.mark.parametrize("option", ["--limit", "--threads"])
@pytest.mark.parametrize("number", ["²", "0", "-1", "1.5", "", " 3", "٣", "9" * 5000, "1e3",
                                    "99999999999"])
def test_a_number_is_a_whole_one_of_a_sound_size(world, capsys, option, number):
    with pytest.raises(SystemExit) as ended:
        cli.main(["eval", *ALONE, "--model", "bicubic", f"{option}={number}"])
    assert ended.value.code == 2
    assert "is not a whole number from 1 to" in capsys.readouterr().err


def test_every_number_of_a_command_is_checked_so():
    """No option takes what ``int`` takes: it knows superscripts, other scripts and no limit."""
    def options(parser):
        for one in parser._actions:
            if isinstance(one, argparse._SubParsersAction):
                for below in one.choices.values():
                    yield from options(below)
            elif one.type is not None:
                yield one
    found = list(options(cli._parser()))
    assert len(found) > 10
    for one in found:
        if one.type is not int:
            for text in ("²", "9" * 5000, "nan", "-1"):
                with contextlib.suppress(argparse.ArgumentTypeError):
                    one.type(text)
        else:
            assert one.help is argparse.SUPPRESS, one.option_strings
