"""Plugins as people write them, in cells, profiles and trainings: the right value or one message.
"""

import json

import numpy as np
import pytest
import torch

from irbench import plan
from irbench.catalog.model import Inference
from irbench.core.errors import Unrepeatable, UserError
from irbench.core.run_folder import partials_of
from irbench.imaging.images import read_image
from irbench.inference.tiling import Tiled
from irbench.jobs import evaluate, parts
from irbench.jobs import run as jobs
from irbench.jobs.cells.parts import Part
from irbench.jobs.result import RunSettings
from irbench.models import registry
from tests.helpers import tiny

CODE = """
import random, sys
import numpy as np
import torch
from torch import nn

CARDS = {"net": {"title": "Net", "builder": "build", "tasks": ["denoise_color"],
                 "in_paper": False, "source": "tests", "learned": LEARNED, MORE}}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.calls, self.total = 0, torch.zeros(())

    def forward(self, x):
        self.calls += 1
        return BODY


def build(task, scale, channels):
    return Net()
"""
CELL = "denoise_color-sigma25@1/tinyset/net"


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """Return a function that plans a run with a plugin's network, given the code of its result."""
    monkeypatch.chdir(tmp_path)

    def make(body, learned=False, more="", head="", variants=None):
        variants = variants or {}
        entry = {"training": {"recipe": "demo", "data": ["tinytrain"], "steps": 2, "patch": 12,
                              "batch": 2}} if learned else {}
        path = tiny.make(tmp_path, models={"net": entry, "input": {}, **{
            name: {"arch": "net", "inference": how} for name, how in variants.items()}}, cells=[
            {"protocol": "denoise_color-sigma25", "datasets": ["tinyset"],
             "models": ["net", "input", *variants]}], metrics=["psnr"],
            plugins=[str(tmp_path / "net.py")])
        (tmp_path / "net.py").write_text(head + CODE.replace("LEARNED", str(learned)).replace(
            "MORE", more).replace("BODY", body))
        return plan.load(path)
    return make


@pytest.mark.parametrize("body", ["x + 0.1 * torch.randn_like(x)", "x + 0.1 * random.random()",
                                  "x + 0.1 * float(np.random.normal())",
                                  "nn.functional.dropout(x, 0.2, training=True)"])
def test_a_stochastic_network_gives_the_same_bytes_in_every_run(planned, body, tmp_path):
    run = planned(body)
    images = sorted((run.folder / "images").parent.glob("images/*/tinyset/net/*.png"))
    found = []
    for _ in range(2):
        record = jobs.do(run, run.cells[CELL])
        images = [run.folder / image["file"] for image in record["result"]["images"]]
        found.append((record["result"]["mean"], [image.read_bytes() for image in images]))
    assert found[0] == found[1]
    noise = [read_image(image).astype(int)[:20, :20] for image in images]
    assert (noise[0] != noise[1]).any()


@pytest.mark.parametrize(("body", "message"), [
    ("x + torch.from_numpy(np.random.default_rng().normal(0, 0.05, x.shape)).float()",
     "two passes over one image differ by up to"),
    ("x * (0.5 + 0.1 * self.calls)", "must not depend on earlier images"),
    ("x * 0 + self.total.add_(x.mean()) / self.calls", "must not depend on earlier images"),
    ("self.train() and x", "puts it into training mode"),
    ("x * 255", "valid is the range"),
    ("x * 2 - 1", "return .output . 1. / 2"), ("x * float('nan')", "NaN or infinite"),
    ("[x]", "returned a list of 1"), ("sys.exit(0)", "SystemExit: it ends the program"),
])
def test_what_cannot_be_scored_is_refused_and_recorded(planned, body, message):
    run = planned(body)
    with pytest.raises(UserError, match=rf"^model net.*{message}.* at the image .*img0\.png\.$"):
        jobs.do(run, run.cells[CELL])
    assert not run.cells[CELL].record.exists()
    record = jobs.do(run, run.cells[CELL], on_failure="record")
    assert record["status"] == "failed" and message.split(" .")[0] in record["reason"]
    assert json.loads(run.cells[CELL].record.read_text())["status"] == "failed"


def test_a_refused_network_is_refused_at_every_try(planned):
    """Each try begins with the first image: not behind those that an earlier one has scored."""
    run = planned("x + 0.02 * len(SEEN - {float(x.mean())}) + 0 * (SEEN.add(float(x.mean())) or 0)",
                  head="SEEN = set()\n")
    for _ in range(4):      # one more than there are images
        with pytest.raises(UserError, match=r"^model net: two passes over one image.*img0\.png\.$"):
            jobs.do(run, run.cells[CELL], RunSettings(continues=True))
        assert not partials_of(run.cells[CELL].record)
        registry.get("net", tuple(run.config["plugins"])).load().__globals__["SEEN"].clear()


@pytest.mark.parametrize("part", ["1/3", "3/3"])
def test_a_part_of_one_image_is_checked_with_another_one(planned, part):
    run = planned("x * 0 + self.total.add_(x.mean()) / self.calls")
    with pytest.raises(UserError, match="must not depend on earlier images"):
        parts.do(run, run.cells[CELL], RunSettings(part=Part.parse(part)))


def test_a_drift_below_a_level_is_noticed_on_the_cpu(planned):
    run = planned("x + 0.0005 * self.calls")
    with pytest.raises(UserError, match=r"differ by up to 1 level of 255 \(\d+\.\d% of the values"):
        jobs.do(run, run.cells[CELL])


def test_rounding_is_no_difference():
    one = np.zeros((100, 100, 1), np.uint8)
    few, most = one.copy(), one.copy()
    few[0, :10], most[0, :11] = 1, 1
    assert evaluate._difference(few, one, "cpu") == ""
    assert evaluate._difference(most, one, "cpu") == "by up to 1 level of 255 (0.1% of the values)"
    assert evaluate._difference(most, one, "cuda") == ""
    few[0, 0] = 2
    for device in ("cpu", "cuda"):
        assert "by up to 2 levels of 255" in evaluate._difference(few, one, device)
    assert "255 levels" in evaluate._difference(one + 255, one, "cpu")


@pytest.mark.parametrize("draw", ["float(np.random.default_rng().random())",
                                  "__import__('os').urandom(1)[0] / 255", "next(COUNT)"])
def test_what_a_network_draws_when_it_is_built_must_be_seeded(planned, draw):
    head = "import itertools\nCOUNT = itertools.count(1)\n"
    run = planned("x * self.drawn", head=head)
    code = run.cells[CELL].model
    path = registry.get(code.arch, tuple(run.config["plugins"])).path
    path.write_text(path.read_text().replace("self.calls, ", f"self.drawn = {draw}\n        "
                                             "self.calls, "))
    with pytest.raises(UserError, match="model net: built twice, it gives one image two results"):
        jobs.do(run, run.cells[CELL])
    path.write_text(path.read_text().replace(draw, "0.5 * random.random() + torch.rand(())"))
    assert jobs.do(run, run.cells[CELL])["status"] == "ok"


def test_two_networks_that_need_too_much_memory_are_said_not_to_be_compared(planned, capsys):
    run = planned("x if self.number == 1 else _none()", head=(
        "import itertools, torch\nCOUNT = itertools.count(1)\n"
        "def _none():\n    raise torch.OutOfMemoryError('no room')\n"))
    path = registry.get("net", tuple(run.config["plugins"])).path
    path.write_text(path.read_text().replace("self.calls, ", "self.number = next(COUNT)\n        "
                                             "self.calls, "))
    assert jobs.do(run, run.cells[CELL])["status"] == "ok"
    assert ("model net: a second network from its builder was not compared with the first: out of "
            "memory") in capsys.readouterr().err


def test_a_pass_in_other_tiles_is_not_compared():
    def network(tiles):
        options = {"tile": 64, "overlap": 8} if tiles > 1 else {"tile": "off"}
        return Tiled(torch.nn.Identity().eval(), Inference(**options))

    given = np.full((80, 80, 3), 0.5, np.float32)
    other = np.zeros((80, 80, 3), np.uint8)
    with pytest.raises(Unrepeatable):
        evaluate._check_repeatable(network(1), "m", (given, other), 0, "cpu", 1)
    evaluate._check_repeatable(network(1), "m", (given, other), 0, "cpu", 4)
    with pytest.raises(Unrepeatable):
        evaluate._check_built_again(lambda: network(4), "m", (given, other), 0, "cpu", 4)
    evaluate._check_built_again(lambda: network(4), "m", (given, other), 0, "cpu", 1)


def test_every_way_to_run_a_network_is_open_to_a_plugin(planned, tmp_path):
    run = planned("x + 0.1 * self.conv(x)", more="'dtypes': ['float32', 'bfloat16']",
                  variants={"last": {"channels_last": True}, "half": {"dtype": "bfloat16"}})
    means = {name: jobs.do(run, run.cells[f"denoise_color-sigma25@1/tinyset/{name}"])["result"][
        "mean"]["psnr"] for name in ("net", "last", "half")}
    assert means["last"] == pytest.approx(means["net"], abs=1e-6)
    assert means["half"] == pytest.approx(means["net"], abs=0.1) and means["half"] != means["net"]


def test_an_exit_while_a_plugin_is_imported_is_a_failure(planned):
    run = planned("x", head="import sys\nsys.exit(0)\n")
    with pytest.raises(UserError, match=r"net.py: importing it failed: SystemExit: it ends"):
        jobs.do(run, run.cells[CELL])


def test_a_builder_that_fails_is_named(planned):
    run = planned("x", head="import sys\n\nclass Odd:\n    def __init__(self):\n        {}['key']"
                  "\n\n", more="'free': []")
    network = run.cells[CELL].model
    module = registry.get(network.arch, tuple(run.config["plugins"])).load().__globals__
    module["Net"] = module["Odd"]
    with pytest.raises(UserError, match="the builder of net failed: KeyError: 'key'"):
        jobs.do(run, run.cells[CELL])


def test_the_saved_input_is_the_protocols_whichever_model_ran_last(planned):
    run = planned("x.sub_(0.5).mul_(0.2) / 0.2 + 0.5")
    jobs.do(run, run.cells[CELL.replace("net", "input")])
    inputs = sorted(run.folder.glob("images/*/tinyset/_input/*.png"))
    before = [path.read_bytes() for path in inputs]
    record = jobs.do(run, run.cells[CELL])
    assert record["status"] == "ok" and len(inputs) == 3
    assert [path.read_bytes() for path in inputs] == before


@pytest.mark.parametrize(("body", "more", "message"), [
    ("[self.conv(x)]", "", "returned a list of 1"),
    ("self.conv(x)[..., 1:]", "", "returned a tensor of shape"),
    ("nn.functional.pixel_shuffle(nn.functional.pixel_unshuffle(self.conv(x), 8), 8)", "",
     "not divisible by 8"),
    ("nn.functional.pixel_shuffle(nn.functional.pixel_unshuffle(self.conv(x), 8), 8)",
     "'size_multiple': 8", None),
])
def test_profile_training_and_cell_check_alike(planned, body, more, message):
    run = planned(body, learned=True, more=more)
    settings = RunSettings(threads=1)
    if message is None:
        for group in (run.trainings, run.profiles):
            assert jobs.do(run, *group.values(), settings)["status"] == "ok"
        found = jobs.do(run, run.cells[CELL], settings)
        assert found["status"] == "ok" and {
            (image["height"], image["width"]) for image in found["result"]["images"]} == {
            (24, 30), (31, 26), (28, 28)}
        return
    if "divisible" in message:  # 12 x 12 pixels
        run.config["profile"] |= {"height": 12, "width": 12}
    for group in (run.trainings, run.profiles):
        job, = group.values()
        job.spec.setdefault("profile", {}).update(height=12, width=12)
        with pytest.raises(UserError, match=f"model net: .*{message}"):
            jobs.do(run, job, settings)


def test_a_model_without_weights_has_no_profile_and_the_message_says_why(planned):
    run = planned("x")
    with pytest.raises(UserError, match="'net' has no weights, so there is no profile job for it"):
        run.find("profile", protocol="denoise_color-sigma25", model="net")
    with pytest.raises(UserError, match="its config asks for no bench jobs, so there is no 'att"):
        run.find("bench", bench="attention")
    with pytest.raises(UserError, match="'net' has no weights, so there is no training job"):
        run.find("training", protocol="denoise_color-sigma25", model="net")


def test_a_model_whose_profile_is_turned_off_is_told_so(planned):
    run = planned("self.conv(x)", learned=True)
    run.config["models"]["net"]["profile"] = False
    run.profiles.clear()
    with pytest.raises(UserError, match="'net' has `profile: false`, so there is no profile job"):
        run.find("profile", protocol="denoise_color-sigma25", model="net")
