"""Real photographs without targets: restored pictures, and metrics that need no target."""

import json

import numpy as np
import pytest
import yaml

import irbench
from irbench import cli, plan
from irbench.core import metrics as table
from irbench.core import records
from irbench.core.errors import UserError
from irbench.imaging import metrics
from irbench.imaging.images import read_image, write_png
from irbench.jobs import evaluate
from irbench.jobs.result import RunSettings, record_of
from tests.helpers import tiny

CELL = "deblur-motion@1/real/input"


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for i in range(2):
        write_png(tmp_path / "photos" / "in" / f"real{i}.png", tiny.photo(i, 24, 30))
    catalog = {"real": {"title": "Real", "use": "test", "tasks": ["deblur"],
                        "local": {"folder": "photos", "input": "in/*"}}}
    (tmp_path / "catalog.yaml").write_text(yaml.safe_dump({"datasets": catalog}))
    config = {"run": "real", "metrics": ["psnr", "ssim"], "keep_images": True, "device": "cpu",
              "catalog_paths": ["catalog.yaml"], "models": {"input": None},
              "cells": [{"protocol": "deblur-motion", "datasets": ["real"], "models": ["input"]}]}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    return tmp_path


@pytest.fixture
def brightness(monkeypatch):
    """A metric that judges the restored image alone: its mean value."""
    row = table.Metric("brightness", "Brightness", reference=False)
    monkeypatch.setitem(table.METRICS, "brightness", row)
    monkeypatch.setitem(metrics.COMPUTED, "brightness",
                        lambda protocol: lambda pair: float(pair.restored.mean()))


def test_pictures_are_restored_and_no_figure_is_made_up(world):
    planned = plan.load("config.yaml")
    job = planned.cells[CELL]
    assert job.spec["alone"] == []
    found = evaluate.run(planned, job, RunSettings(device="cpu"))
    assert found.result["mean"] == {"psnr": None, "ssim": None}
    assert set(found.result["missing"].values()) == {"the set has no targets to compare with"}
    for image in found.result["images"]:
        assert (image["height"], image["width"]) == (24, 30)
        kept = world / "results/real" / image["file"]
        assert np.array_equal(read_image(kept), read_image(
            world / "photos/in" / f"{image['name']}.png"))
    assert not list((world / "results").rglob("_target"))
    records.check(record_of(job, found), "it")


def test_a_metric_without_reference_is_computed(world, brightness):
    config = yaml.safe_load((world / "config.yaml").read_text())
    (world / "config.yaml").write_text(yaml.safe_dump(config | {
        "metrics": ["psnr", "brightness"]}))
    planned = plan.load("config.yaml")
    found = evaluate.run(planned, planned.cells[CELL]).result
    means = [read_image(path).mean() for path in sorted((world / "photos/in").iterdir())]
    assert found["mean"] == {"psnr": None, "brightness": pytest.approx(np.mean(means))}
    assert set(found["missing"]) == {"psnr"}


def test_from_python_by_name_and_as_a_module(world, brightness):
    import torch

    given = {"dataset": "real", "protocol": "deblur-motion", "metrics": ["psnr", "brightness"],
             "catalog_paths": ("catalog.yaml",), "device": "cpu", "progress": False}
    by_name = irbench.evaluate("input", **given)
    assert by_name.mean == irbench.evaluate(torch.nn.Identity(), **given).mean
    assert by_name.mean["psnr"] is None and by_name.mean["brightness"] > 0


def test_the_commands_say_what_there_is(world, capsys):
    names = ["--protocol", "deblur-motion", "--dataset", "real", "--model", "input"]
    assert cli.main(["eval", *names]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["mean"]["psnr"] is None
    assert cli.main(["data", "check", "real"]) == 0
    assert cli.main(["data", "list", "real"]) == 0
    listed = capsys.readouterr().out.splitlines()[-1].split()
    assert listed[:4] == ["real", "deblur", "test", "2"]
    assert cli.main(["explain", CELL, "--published", "30.1"]) == 2
    assert "the set has no targets" in capsys.readouterr().err


@pytest.mark.parametrize("change, message", [
    ({"local": {"folder": "photos", "hr": "in/*", "input": "in/*"}},
     "both an input and a target.*A set without targets has no 'hr'"),
    ({"use": "train"}, "without targets, which can only be used for tests"),
    ({"local": None, "manual": {"folder": "x", "input": "in/*", "get": "ask"}},
     "needs 'hr' beside"),
])
def test_what_is_no_set_without_targets_is_refused(world, change, message):
    catalog = yaml.safe_load((world / "catalog.yaml").read_text())
    entry = {key: value for key, value in (catalog["datasets"]["real"] | change).items() if value}
    (world / "catalog.yaml").write_text(yaml.safe_dump({"datasets": {"real": entry}}))
    with pytest.raises(UserError, match=message):
        plan.load("config.yaml")


def test_a_protocol_that_degrades_is_refused(world):
    with pytest.raises(UserError, match="has its own degraded images"):
        irbench.evaluate("input", "real", "denoise_color-sigma25", catalog_paths=("catalog.yaml",))
