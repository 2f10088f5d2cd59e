"""The guide docs/own-task.md works as printed: a task, a metric, a peer and a printed value."""

import hashlib
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from spandrel.architectures.Compact import Compact

from irbench import cli, plan
from irbench.catalog import degradations, protocols, recipes
from irbench.core.errors import UserError
from irbench.imaging import degrade
from irbench.imaging.images import imresize, read_image, to_uint8, write_png
from irbench.jobs import run as jobs
from irbench.jobs.training import data
from irbench.present import markdown, text
from irbench.report import collect
from irbench.report.plots import crops
from irbench.report.tables import tables
from tests.helpers import tiny
from tests.helpers.paths import ROOT

TEXT = (ROOT / "docs" / "own-task.md").read_text()
CATALOG, CONFIG = re.findall(r"```yaml\n(.*?)```", TEXT, re.S)
CODE, = re.findall(r"```python\n(.*?)```", TEXT, re.S)


@pytest.fixture
def world(tmp_path, monkeypatch):
    """The guide's files with little images; the rival's weights come from a mirror."""
    monkeypatch.chdir(tmp_path)
    for i, size in enumerate([(40, 47), (36, 52)]):
        write_png(tmp_path / "street" / f"street{i}.png", tiny.photo(i, *size))
    rival = tmp_path / "mirror" / "example.org" / "rival_strong.pth"
    rival.parent.mkdir(parents=True)
    torch.manual_seed(0)
    torch.save(Compact(num_in_ch=3, num_out_ch=3, num_feat=4, num_conv=1, upscale=1).state_dict(),
               rival)
    monkeypatch.setenv("IRBENCH_MIRROR", str(tmp_path / "mirror"))
    digest = hashlib.sha256(rival.read_bytes()).hexdigest()
    assert "0" * 64 in CATALOG
    (tmp_path / "my_task.yaml").write_text(CATALOG.replace("0" * 64, digest))
    (tmp_path / "my_files.py").write_text(CODE)
    (tmp_path / "config.yaml").write_text(CONFIG)
    return tmp_path


def test_one_task_one_metric_one_peer_and_one_printed_value(world):
    planned = plan.load("config.yaml")
    for job in planned.cells.values():
        record = jobs.do(planned, job)
        assert record["status"] == "ok", record["reason"]
        assert set(record["result"]["mean"]) == {"psnr", "ssim", "mae"}
    run = collect.collect(planned.folder, planned.report_spec)
    found = {table.title: table for table in tables.build(run)}
    table = next(table for title, table in found.items() if "Messenger" in title)
    assert {"Input", "Sharpen", "Rival"} <= {row.heads[0].shown for row in table.measured}
    printed = markdown.to_markdown(table)
    assert "30.10" in printed and "Rival 2025, table 2" in printed and "MAE" in printed
    # the protocol in words is in the report
    words = text.protocol_sentence(planned.protocols["messenger-strong@1"].definition())
    assert ("degradation: Gaussian blur, neither clipped nor rounded (sigma 1.2, size 7), then "
            "additive white Gaussian noise, neither clipped nor rounded (sigma 3), then JPEG "
            "(quality 30); seed 0 before each image" in words)
    assert words in printed


def test_the_input_is_the_steps(world, capsys):
    """The cell of the input scores what the steps make of the file, in their order."""
    planned = plan.load("config.yaml")
    planned.config["keep_images"] = True
    job = planned.find("cell", protocol="messenger-strong", dataset="street", model="input")
    job.spec["keep_images"] = True
    record = jobs.do(planned, job)
    for image in record["result"]["images"]:
        wanted = read_image(world / "street" / f"{image['name']}.png") / 255.0
        rng = np.random.RandomState(0)
        for step in planned.protocols["messenger-strong@1"].steps:
            wanted = degrade.apply(step, wanted, rng)
        kept = read_image(planned.folder / image["file"])
        assert np.array_equal(kept, wanted)
    assert cli.main(["info", "messenger-strong", "--config", "config.yaml"]) == 0
    assert [step["kind"] for step in json.loads(capsys.readouterr().out)["degradation"]["steps"]
            ] == ["gaussian_blur", "gaussian_noise", "jpeg"]


@pytest.mark.parametrize(("name", "scale", "sides"), [
    ("sr-bd_x3", 3, [(39, 45), (36, 51)]), ("sr-x2_5", 2.5, [(40, 45), (35, 50)])])
def test_bicubic_enlarges_by_any_scale(world, name, scale, sides):
    config = yaml.safe_load(CONFIG) | {"keep_images": True}
    config["cells"] = [cell for cell in config["cells"] if cell["protocol"] == name]
    (world / "config.yaml").write_text(yaml.safe_dump(config))
    planned = plan.load("config.yaml")
    record = jobs.do(planned, planned.find("cell", protocol=name, dataset="street",
                                           model="bicubic"))
    # pictures of the report: the input is shown where its pixels are whole pixels of the target
    shown, = crops.comparisons(collect.collect(planned.folder, planned.report_spec))
    assert shown.scale == (scale if scale == 3 else 1)
    assert (crops.INPUT in [one.label for one in shown.versions]) == (scale == 3)
    images = record["result"]["images"]
    assert [(image["height"], image["width"]) for image in images] == sides
    if scale == 2.5:
        assert cli.main(["explain", f"{name}@1/street/bicubic", "--published", "30.1",
                         "--rerun"]) == 0
        for image, (h, w) in zip(images, sides, strict=True):
            target = read_image(world / "street" / f"{image['name']}.png")[:h, :w]
            small = imresize(target, 1 / 2.5)
            large = to_uint8(imresize(small / 255.0, 2.5))
            assert large.shape == target.shape
            luma = np.array([65.481, 128.553, 24.966]) / 255
            error = ((large.astype(float) - target) @ luma)[3:-3, 3:-3]
            assert image["psnr"] == pytest.approx(10 * np.log10(255**2 / np.mean(error**2)),
                                                  abs=2e-3)


def test_a_network_may_enlarge_by_any_scale_if_its_card_says_so(world):
    code = CODE.replace('"tasks": ["messenger"],', '"tasks": ["sr"], "any_scale": True,').replace(
        "return Sharpen()", "return nn.Upsample(scale_factor=scale, mode='bilinear')")
    (world / "my_files.py").write_text(code)
    change = yaml.safe_load(CONFIG)
    change["cells"] = [{"protocol": "sr-x2_5", "datasets": ["street"],
                        "models": ["sharpen", "bicubic"]}]
    (world / "config.yaml").write_text(yaml.safe_dump(change))
    planned = plan.load("config.yaml")
    records = [jobs.do(planned, job) for job in planned.cells.values()]
    first, second = ([(one["height"], one["width"]) for one in record["result"]["images"]]
                     for record in records)
    assert first == second
    (world / "others.py").write_text(code.replace('"any_scale": True,', ""))
    change["plugins"] = ["others.py"]
    (world / "config.yaml").write_text(yaml.safe_dump(change))
    with pytest.raises(UserError, match=r"cannot do sr-x2_5@1: .*no scale that is not whole, such "
                                        "as 2.5 .`any_scale` on the card"):
        plan.load("config.yaml")
    change["models"]["compacter"] = {"checkpoint": "bundled"}
    change["cells"][0]["models"] = ["compacter"]
    (world / "config.yaml").write_text(yaml.safe_dump(change))
    with pytest.raises(UserError, match="compacter .compacter. cannot do sr-x2_5@1"):
        plan.load("config.yaml")


def test_the_guide_names_every_step():
    rows = re.findall(r"^\| (`[^|]*`) \|", TEXT, re.M)
    named = [kind for row in rows for kind in re.findall(r"`(\w+)`", row)]
    assert sorted(named) == sorted(degradations.STEP_KINDS)
    known = protocols.catalog()
    assert "sr-x2_5@1" not in known and "messenger-strong@1" not in known


def test_a_network_is_trained_on_inputs_of_several_steps(world):
    (world / "tiny_model.py").write_text(tiny.PLUGIN)
    config = yaml.safe_load(CONFIG)
    recipe = {"recipe": "demo", "data": ["street"], "steps": 2, "patch": 18, "batch": 2,
              "holdout": 0, "validate_every": None}
    config |= {"plugins": ["tiny_model.py"], "models": {"tiny": {"training": recipe}},
               "cells": [{"protocol": "sr-bd_x3", "datasets": ["street"], "models": ["tiny"]}]}
    (world / "config.yaml").write_text(yaml.safe_dump(config))
    planned = plan.load("config.yaml")
    job, = planned.trainings.values()
    protocol = planned.protocols["sr-bd_x3@1"]
    patches = data.load(planned, job, protocol)
    given, target = patches.sample(0, 0, 18)
    assert given.shape == (3, 6, 6) and target.shape == (3, 18, 18)
    again = degrade.degrade(to_uint8(target.transpose(1, 2, 0)), protocol)
    assert np.array_equal(given, again.transpose(2, 0, 1))
    assert jobs.do(planned, job)["status"] == "ok"
    config["models"]["tiny"]["training"]["patch"] = 16
    (world / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match="patch 16 is not divisible by the scale 3 of sr-bd_x3@1"):
        plan.load("config.yaml")
    wide = replace(job.model.training, patch=16)
    with pytest.raises(UserError, match="not divisible by 5, as the steps to scale 2.5 ask in"):
        recipes.trained_for(wide, protocols.get("sr-x2_5", (str(world / "my_task.yaml"),)))
