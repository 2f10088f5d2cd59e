"""Sets as others lay them out: repeated names, lists, larger targets, given LR files, own tasks."""

import functools

import numpy as np
import pytest
import yaml

from irbench import plan
from irbench.core.errors import Damaged, Unavailable, UserError
from irbench.data import check, sets, tree
from irbench.imaging import metrics
from irbench.imaging.images import crop_border, imresize, read_image, to_float, to_uint8, write_png
from irbench.jobs import evaluate
from tests.helpers import tiny
from tests.helpers.sets import images, make, photo


@pytest.fixture
def user(tmp_path):
    return functools.partial(make, tmp_path)


def pairs(entry, root):
    return [(source.name, target.name) for source, target in sets.open_local(entry, root).pairs()]


# -- names that repeat -------------------------------------------------------------------------

def gopro(folder, videos=("v1", "v2")):
    for video in videos:
        for kind in ("blur", "blur_gamma", "sharp"):
            images(folder / "set" / "test" / video / kind, "000001.png", "000002.png")


def test_images_of_one_name_are_named_by_the_folders_that_differ(user, tmp_path):
    gopro(tmp_path)
    entry = user(local={"folder": "set", "hr": "test/*/sharp/*.png", "input": "test/*/blur/*.png"})
    names = ["v1/000001", "v1/000002", "v2/000001", "v2/000002"]
    assert pairs(entry, tmp_path) == [(name, name) for name in names]
    assert not check.check(entry, tmp_path).problems
    for source, target in sets.open_local(entry, tmp_path).pairs():
        assert source.path.parts[-3] == target.path.parts[-3] == source.name[:2]


def test_one_folder_keeps_the_plain_names(user, tmp_path):
    gopro(tmp_path, ["v1"])
    entry = user(local={"folder": "set", "hr": "test/*/sharp/*.png", "input": "test/*/blur/*.png"})
    assert pairs(entry, tmp_path) == [(name, name) for name in ("000001", "000002")]


def test_a_pinned_set_keeps_its_names(user, tmp_path):
    gopro(tmp_path / "data")
    entry = user(root=tmp_path / "data", manual={
        "folder": "set", "hr": "test/**/sharp/*", "input": "test/**/blur/*", "get": "ask"})
    assert not check.check(entry, tmp_path / "data").problems
    assert [one[0] for one in pairs(entry, tmp_path / "data")] == [
        "v1/000001", "v1/000002", "v2/000001", "v2/000002"]


@pytest.mark.parametrize(("pattern", "path", "name"), [
    ("test/*/sharp/*.png", "test/v1/sharp/1.png", "v1/1.png"),
    ("**/sharp/*.png", "test/v1/sharp/1.png", "test/v1/1.png"),
    ("**/*.png", "a/b/1.png", "a/b/1.png"), ("gt/*", "gt/1.png", "1.png"), (None, "1.png", "1.png"),
    ("t[12]/x/*", "t1/x/1.png", "t1/1.png")])
def test_what_a_pattern_states_is_not_in_the_name(tmp_path, pattern, path, name):
    assert tree.distinct(tmp_path, pattern, tmp_path / path) == name


# -- lists -------------------------------------------------------------------------------------

LISTED = {"folder": "set", "hr": "gt/*", "input": "input/*", "list": "test.txt"}


def listed(folder, text):
    for kind in ("gt", "input"):
        images(folder / "set" / kind, "im_0.png", "im_1.png", "im_2.png")
    (folder / "set" / "test.txt").write_bytes(text)


@pytest.mark.parametrize("text", [
    b"input/im_0.png\r\ninput/im_2.png\r\n", b"im_2\n# a comment\n\nim_0.png",
    b"\xef\xbb\xbf./input/im_0\ninput\\im_2.png"])
def test_a_list_chooses_inputs_and_their_targets(user, tmp_path, text):
    listed(tmp_path, text)
    entry = user(local=LISTED)
    assert pairs(entry, tmp_path) == [("im_0", "im_0"), ("im_2", "im_2")]
    assert not check.check(entry, tmp_path).problems


def test_a_list_chooses_images_without_pairs(user, tmp_path):
    listed(tmp_path, b"im_1\n")
    entry = user(local={"folder": "set", "hr": "gt/*", "list": "test.txt"})
    assert [one.name for one in sets.open_local(entry, tmp_path).images] == ["im_1"]


@pytest.mark.parametrize(("text", "message"), [
    (b"im_0\nim_7.png\n", "test.txt, line 2: 'im_7.png' names no image.*such as input/im_0.png"),
    (b"\xff\xfe\x00", "cannot be read .not a text file in UTF-8"),
    (None, "cannot be read .No such file")])
def test_a_wrong_list_is_refused_by_its_line(user, tmp_path, text, message):
    listed(tmp_path, text or b"")
    if text is None:
        (tmp_path / "set" / "test.txt").unlink()
    with pytest.raises(Unavailable, match=message):
        sets.open_local(user(local=LISTED), tmp_path)


# -- cells on pairs ----------------------------------------------------------------------------

def cell(folder, protocol, model, task, **fields):
    """Plan a config with one cell on the set ``mine`` of a user's catalog, and evaluate it."""
    config = tiny.make(folder, models={model: {}}, cells=[
        {"protocol": protocol, "datasets": ["mine"], "models": [model]}])
    catalog = yaml.safe_load((folder / "datasets.yaml").read_text())
    catalog["datasets"]["mine"] = {
        "title": "Mine", "use": "test", "tasks": [task], **fields,
        "local": {"folder": "set", "hr": "gt/*", "input": "input/*"}}
    (folder / "datasets.yaml").write_text(yaml.safe_dump(catalog))
    planned = plan.load(config)
    return evaluate.run(planned, next(iter(planned.cells.values()))).result["images"]


def own_protocol(folder, task, level, color="rgb", crop=0, **degradation):
    (folder / "protocols.yaml").write_text(yaml.safe_dump({"protocols": {f"{task}-{level}@1": {
        "title": "Own", "task": task, "level": level, "color": "rgb", "seed": None,
        "degradation": {"kind": "paired", **degradation}, "source": "made for tests",
        "metric": {"color": color, "y_rounded": False, "crop": crop,
                   "ssim": "gaussian11_valid"}}}}))


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_given_low_resolution_files_are_the_input(world):
    own_protocol(world, "sr", "given_x2", crop=2)
    images(world / "set" / "gt", "a.png", h=33, w=40)
    write_png(world / "set" / "input" / "a.png", photo(5, 16, 20))
    image, = cell(world, "sr-given_x2", "bicubic", "sr")
    restored = to_uint8(imresize(to_float(photo(5, 16, 20)).astype(float), 2))
    target = read_image(world / "set" / "gt" / "a.png")[:32]
    assert (image["height"], image["width"]) == (32, 40)
    assert image["psnr"] == pytest.approx(
        metrics.psnr(crop_border(restored, 2), crop_border(target, 2)), abs=1e-6)


def test_a_low_resolution_file_of_another_scale_is_refused(world):
    own_protocol(world, "sr", "given", scale=3)
    images(world / "set" / "gt", "a.png", h=32, w=40)
    write_png(world / "set" / "input" / "a.png", photo(5, 16, 20))
    with pytest.raises(Damaged, match="16x20 .* its target 32x40.*3 times as large"):
        cell(world, "sr-given", "bicubic", "sr")


def test_a_border_of_the_targets_is_cut(world):
    target = photo(1, 44, 40)
    write_png(world / "set" / "gt" / "a.png", target)
    write_png(world / "set" / "input" / "a_1.png", target[10:-10, 10:-10] // 2)
    with pytest.raises(Damaged, match="target_crop: 10"):
        cell(world, "dehaze-reside", "input", "dehaze", match={"input": "_.*$"})
    image, = cell(world, "dehaze-reside", "input", "dehaze", match={"input": "_.*$"},
                  target_crop=10)
    inner = np.ascontiguousarray(target[10:-10, 10:-10])
    assert image["psnr"] == pytest.approx(metrics.psnr(inner // 2, inner))
    entry = sets.get("mine", [world / "datasets.yaml"])
    assert not check.check(entry, world).problems


def test_the_border_belongs_to_the_content_of_a_set(user, tmp_path):
    for kind in ("gt", "input"):
        images(tmp_path / "set" / kind, "a.png")
    local = {"folder": "set", "hr": "gt/*", "input": "input/*"}
    assert sets.digest(user(local=local)) != sets.digest(user(local=local, target_crop=1))
    with pytest.raises(UserError, match="target_crop: -1 is not valid"):
        user(local=local, target_crop=-1)
    with pytest.raises(UserError, match="only a set with 'input:' images"):
        user(local={"folder": "set"}, target_crop=1)


def test_a_task_of_a_users_protocol_is_a_task(world):
    own_protocol(world, "dewarp", "paper")
    for kind in ("gt", "input"):
        images(world / "set" / kind, "a.png", h=24, w=24)
    assert [one["name"] for one in cell(world, "dewarp-paper", "input", "dewarp")] == ["a"]
    (world / "protocols.yaml").unlink()
    with pytest.raises(UserError, match="unknown task 'dewarp'"):
        cell(world, "deblur-motion", "input", "dewarp")
