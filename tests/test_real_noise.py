"""The guide docs/real-noise.md works as printed, on a small set in the form of DND."""

import re

import numpy as np
import pytest
import yaml
from scipy import io

from irbench import plan
from irbench.catalog import protocols
from irbench.data import sets
from irbench.imaging.images import read_image
from irbench.jobs import run as jobs
from tests.helpers import tiny
from tests.helpers.paths import ROOT

TEXT = (ROOT / "docs" / "real-noise.md").read_text()
CATALOG, CONFIG = re.findall(r"```yaml\n(.*?)```", TEXT, re.S)
CODE, = re.findall(r"```python\n(.*?)```", TEXT, re.S)


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Two photographs with two parts each, and the guide's config with the input as its model."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data" / "dnd" / "images_srgb"
    folder.mkdir(parents=True)
    info = np.empty((1, 2), [("boundingboxes", object)])
    for i in range(2):
        io.savemat(folder / f"000{i + 1}.mat", {
            "InoisySRGB": (tiny.photo(i, 24, 30) / 255).astype(np.float32)})
        info[0, i]["boundingboxes"] = np.array([[1, 1, 16, 16], [5, 9, 20, 24]])
    io.savemat(folder.parent / "info.mat", {"info": info})
    entry = sets.get("dnd").as_dict()
    (tmp_path / "small.yaml").write_text(yaml.safe_dump({"datasets": {"small_dnd": {
        "title": "DND", "use": "test", "tasks": ["denoise_real"], "manual": {
            "folder": "dnd", "input": entry["blocks"]["input"], "boxes": entry["blocks"]["boxes"],
            "get": "made here"}}}}))
    return tmp_path


def test_pictures_for_a_server(world):
    config = yaml.safe_load(CONFIG)
    config["catalog_paths"] = ["small.yaml"]
    config["cells"][0] |= {"datasets": ["small_dnd"], "models": ["input"]}
    (world / "config.yaml").write_text(yaml.safe_dump(config))
    planned = plan.load("config.yaml")
    record = jobs.do(planned, planned.cells["denoise_real-dnd@1/small_dnd/input"])
    assert record["status"] == "ok" and record["result"]["mean"]["psnr"] is None
    place = "results/dnd/images/denoise_real-dnd@1/dnd/compacter"
    assert place in CODE
    exec(compile(CODE.replace("/dnd/compacter", "/small_dnd/input"), "docs/real-noise.md", "exec"))
    for i in range(2):
        held = io.loadmat(world / "bundled" / f"000{i + 1}.mat", squeeze_me=True)
        assert held["eval_version"] == "1.0" and not held["israw"]
        for k, part in enumerate(held["Idenoised"]):
            kept = read_image(planned.folder / next(
                one["file"] for one in record["result"]["images"]
                if one["name"] == f"000{i + 1}_0{k + 1}"))
            assert part.dtype == np.float32 and np.abs(part * 255 - kept).max() < 1e-3
            if (i, k) == (0, 1):
                assert np.array_equal(kept, tiny.photo(0, 24, 30)[4:20, 8:24])


def test_the_sets_and_configs_of_the_guide_are_valid(world):
    (world / "mine.yaml").write_text(CATALOG)
    assert sets.catalog(["mine.yaml"])["mine"].blocks.hr == "clean.mat"
    (world / "config.yaml").write_text(CONFIG)
    assert set(plan.load("config.yaml").cells) == {"denoise_real-dnd@1/dnd/compacter"}
    for name in re.findall(r"^\| `(\w+)` \|", TEXT, re.M):
        assert "denoise_real" in sets.get(name).tasks
    assert all(p.borrows == "denoise_color" for p in protocols.catalog().values()
               if p.task == "denoise_real")
