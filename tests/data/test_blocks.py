"""Images inside MATLAB files, made here by SciPy (and by h5py where it is installed)."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import io

from irbench import cli
from irbench.catalog.datasets import DatasetEntry
from irbench.core.errors import Damaged, Unavailable, UserError
from irbench.data import blocks, check, obtain, sets
from irbench.imaging.images import read_image
from tests.helpers.sets import make

NOISY, CLEAN = "ValidationNoisyBlocksSrgb", "ValidationGtBlocksSrgb"


def values(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


@pytest.fixture
def sidd(tmp_path):
    """A small set in the form of SIDD: 2 photographs with 3 blocks of 8x10 pixels each."""
    folder = tmp_path / "data" / "sidd"
    folder.mkdir(parents=True)
    io.savemat(folder / f"{NOISY}.mat", {NOISY: values(0, 2, 3, 8, 10)}, do_compression=True)
    io.savemat(folder / f"{CLEAN}.mat", {CLEAN: values(1, 2, 3, 8, 10)})
    return make(tmp_path, root=tmp_path / "data", tasks=["denoise_real"], manual={
        "folder": "sidd", "hr": f"{CLEAN}.mat", "input": f"{NOISY}.mat", "count": 6, "get": "ask"})


@pytest.fixture
def dnd(tmp_path):
    """A small set in the form of DND: 2 photographs of single floats, 2 boxes in each."""
    folder = tmp_path / "data" / "dnd"
    (folder / "images_srgb").mkdir(parents=True)
    boxes = np.empty((1, 2), [("boundingboxes", object)])
    for i, rows in enumerate(([[1, 1, 6, 8], [4, 3, 9, 10]], [[2, 2, 7, 9], [1, 3, 6, 10]])):
        image = np.random.default_rng(i).random((9, 12, 3)).astype(np.float32)
        io.savemat(folder / "images_srgb" / f"000{i + 1}.mat", {"InoisySRGB": image})
        boxes[0, i]["boundingboxes"] = np.array(rows, float)
    io.savemat(folder / "info.mat", {"info": boxes})
    return make(tmp_path, root=tmp_path / "data", tasks=["denoise_real"], manual={
        "folder": "dnd", "input": "images_srgb/*.mat", "boxes": "info.mat", "count": 4,
        "get": "ask"})


def test_blocks_become_pairs(sidd, capsys):
    assert sets.state(sidd, sidd.root) == "not unpacked"
    found = obtain.obtain(sidd, sidd.root)
    assert [one.name for one in found.role("input")] == [
        f"0{i}_0{k}" for i in (1, 2) for k in (1, 2, 3)]
    for source, target in found.pairs():
        i, k = (int(part) - 1 for part in source.name.split("_"))
        assert np.array_equal(source.load(), values(0, 2, 3, 8, 10)[i, k])
        assert np.array_equal(target.load(), values(1, 2, 3, 8, 10)[i, k])
    assert sets.state(sidd, sidd.root) == "complete"
    assert DatasetEntry.from_dict(json.loads(json.dumps(sidd.as_dict()))) == sidd


def test_parts_of_images_without_targets(dnd):
    found = obtain.fetch(dnd, dnd.root)
    assert found.roles == ("input",) and dnd.targetless
    images = {one.name: one.load() for one in found.images}
    assert list(images) == ["0001_01", "0001_02", "0002_01", "0002_02"]
    whole = np.random.default_rng(0).random((9, 12, 3)).astype(np.float32)
    assert np.array_equal(images["0001_02"], np.round(whole[3:9, 2:10] * 255).astype(np.uint8))
    assert {image.shape for image in images.values()} == {(6, 8, 3)}


def test_what_was_unpacked_is_kept_until_the_files_change(sidd):
    obtain.fetch(sidd, sidd.root)
    path = sidd.home / "input" / "01_01.png"
    stat = path.stat()
    obtain.fetch(sidd, sidd.root)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns)
    digest = sets.digest(sidd)
    # the set is pinned, so that other files are a change that must be meant
    noisy = sidd.root / "sidd" / f"{NOISY}.mat"
    io.savemat(noisy, {NOISY: values(5, 2, 3, 8, 10)})
    with pytest.raises(Unavailable, match="its .mat files changed since. Run: irbench data fetch"):
        sets.manifest(sidd)
    result = check.check(sidd, sidd.root)
    assert result.problems and "changed since" in result.problems[0]
    assert not check.check(sidd, sidd.root, accept=True).problems
    assert sets.digest(sidd) != digest
    # the files are needed no more
    noisy.unlink()
    (sidd.root / "sidd" / f"{CLEAN}.mat").unlink()
    assert len(obtain.obtain(sidd, sidd.root).images) == 12


def test_a_user_may_have_them_anywhere(tmp_path):
    io.savemat(tmp_path / "one.mat", {"x": values(3, 8, 10), "about": "text"})
    entry = make(tmp_path, root=tmp_path / "data", local={"folder": ".", "hr": "one.mat"})
    image, = obtain.obtain(entry, tmp_path / "data").images
    assert image.name == "one" and np.array_equal(image.load(), values(3, 8, 10))
    # a folder of one's own is not pinned: other files give other images
    io.savemat(tmp_path / "one.mat", {"x": values(4, 2, 8, 10)})
    assert [one.name for one in obtain.obtain(entry, tmp_path / "data").images] == ["01", "02"]
    # not ours: never replaced
    (entry.home / blocks.MARK).unlink()
    with pytest.raises(Unavailable, match="was not made by irbench"):
        obtain.obtain(entry, tmp_path / "data")


@pytest.mark.parametrize(("content", "message"), [
    ({"x": values(0, 8, 8), "y": values(0, 8, 8)}, "2 arrays of images in it.*x .uint8, 8x8x3.; y"),
    ({"x": np.zeros((8, 8))}, "0 arrays of images in it"),
    ({"x": np.zeros((8, 8, 3), np.uint16)}, "0 arrays of images.*x .uint16, 8x8x3"),
    ({"x": np.full((8, 8, 3), 2.0)}, "values from 2 to 2. Valid: uint8, or floating-point"),
    ({"x": np.full((8, 8, 3), np.nan)}, "values from nan to nan"),
    ({}, "It holds: nothing"),
    (b"", "not a MATLAB file that can be read"),
    (b"<html>not found</html>" * 20, "not a MATLAB file that can be read"),
    ("truncated", "not a MATLAB file that can be read"),
])
def test_what_holds_no_images_is_named(tmp_path, content, message):
    path = tmp_path / "one.mat"
    if isinstance(content, dict):
        io.savemat(path, content)
    elif content == "truncated":
        io.savemat(path, {"x": values(0, 40, 40)}, do_compression=True)
        path.write_bytes(path.read_bytes()[:2000])
    else:
        path.write_bytes(content)
    entry = make(tmp_path, root=tmp_path / "data", local={"folder": ".", "hr": "one.mat"})
    with pytest.raises(Damaged, match=message) as caught:
        obtain.obtain(entry, tmp_path / "data")
    assert "one.mat" in str(caught.value)
    assert not entry.home.exists() and not list(entry.home.parent.glob(".*unpacking"))
    assert message.split(".*")[0] in check.check(entry, tmp_path / "data").problems[0]


def test_an_array_that_no_memory_holds_is_refused(tmp_path, monkeypatch):
    io.savemat(tmp_path / "one.mat", {"x": values(0, 8, 8)})
    monkeypatch.setattr(blocks, "LARGEST", 100)
    with pytest.raises(Damaged, match="its array has 0 GB; at most 0 GB are read"):
        blocks.images(tmp_path / "one.mat")


def test_complex_values_are_no_image(tmp_path):
    io.savemat(tmp_path / "one.mat", {"one": np.full((1, 4, 5, 3), 0.5 + 0.1j)})
    with pytest.raises(Damaged, match="the values of one are complex128. Valid: uint8"):
        blocks.images(tmp_path / "one.mat")


def test_boxes_that_do_not_fit_are_named(dnd):
    path = dnd.root / "dnd" / "info.mat"
    info = np.empty((1, 2), [("boundingboxes", object)])
    info[0, 0]["boundingboxes"] = info[0, 1]["boundingboxes"] = np.array([[1, 1, 10, 8]])
    io.savemat(path, {"info": info})
    with pytest.raises(Damaged, match="info.mat: the box 1, 1, 10, 8 is not inside the image 0001"):
        obtain.fetch(dnd, dnd.root)
    io.savemat(path, {"info": info[:, :1]})
    with pytest.raises(Damaged, match="is for 1 images.*for each of the 2 files of images"):
        obtain.fetch(dnd, dnd.root)
    for values in ([[np.nan, 1, 2, 3]], [[1, np.inf, 2, 3]], [[1.5, 1, 2, 3]], [[1 + 1j, 1, 2, 3]],
                   [["a", "b", "c", "d"]]):
        info[0, 0]["boundingboxes"] = np.array(values)
        io.savemat(path, {"info": info})
        with pytest.raises(Damaged, match="info.mat: info.boundingboxes holds values that are not "
                                          "whole numbers"):
            obtain.fetch(dnd, dnd.root)
    io.savemat(path, {"about": 3})
    with pytest.raises(Damaged, match="not as expected .KeyError"):
        obtain.fetch(dnd, dnd.root)
    path.unlink()
    with pytest.raises(Unavailable, match="info.mat: no such file"):
        obtain.fetch(dnd, dnd.root)


def test_without_files_the_advice_is_where_they_go(sidd, capsys):
    for name in (NOISY, CLEAN):
        (sidd.root / "sidd" / f"{name}.mat").unlink()
    with pytest.raises(Unavailable, match="How to get it: ask. Put or link it as .*data/sidd;"):
        obtain.obtain(sidd, sidd.root)
    io.savemat(sidd.root / "sidd" / f"{NOISY}.mat", {NOISY: values(0, 2, 3, 8, 10)})
    with pytest.raises(Unavailable, match=f"{CLEAN}.mat names no file in .*sidd"):
        obtain.obtain(sidd, sidd.root)


@pytest.mark.parametrize(("change", "message"), [
    ({"hr": "clean/*.png"}, "both MATLAB files .* or both image files"),
    ({"list": "a.txt"}, "'list' applies to image files, not to MATLAB files"),
    ({"leave_out": "*.png"}, "'leave_out' applies to image files"),
    ({"boxes": "info.txt"}, "boxes: 'info.txt' is not valid"),
    ({"hr": None, "input": "in/*.png", "boxes": "info.mat"}, "'input' needs 'hr' beside it"),
    ({"hr": "gt/*.png", "input": "in/*.png", "boxes": "info.mat"}, "boxes: 'info.mat' is not"),
])
def test_keys_that_do_not_apply_are_refused(tmp_path, change, message):
    fields = {"folder": "x", "hr": "a.mat", "input": "b.mat", "get": "ask", **change}
    with pytest.raises(UserError, match=message):
        make(tmp_path, manual={key: value for key, value in fields.items() if value})


# -- version 7.3 -----------------------------------------------------------------------------------

def test_a_file_of_version_7_3_needs_h5py(sidd, monkeypatch):
    (sidd.root / "sidd" / f"{NOISY}.mat").write_bytes(blocks.HDF5 + b", created on: today" * 40)
    monkeypatch.setattr(blocks, "find_spec", lambda name: None)
    with pytest.raises(Unavailable, match="version 7.3 .HDF5., which needs the package h5py: pip "
                                          "install h5py. Or save it again in MATLAB with save"):
        obtain.fetch(sidd, sidd.root)
    assert not sidd.home.exists()


def matlab73(h5py, path, fill):
    """Write an HDF5 file as MATLAB does: a user block of 512 bytes, reversed dimensions."""
    with h5py.File(path, "w", userblock_size=512) as held:
        fill(held)
    with path.open("r+b") as handle:
        handle.write(blocks.HDF5 + b", Platform: GLNXA64")


def test_version_7_3_gives_the_same(dnd):
    h5py = pytest.importorskip("h5py")
    expected = {one.name: one.load() for one in obtain.fetch(dnd, dnd.root).images}
    folder = dnd.root / "dnd"
    info = io.loadmat(folder / "info.mat")["info"]
    rows = [info[0, i]["boundingboxes"] for i in range(2)]

    def boxes(held):
        group = held.create_group("info")
        refs = [held.create_dataset(f"#refs#/{i}", data=one.T).ref for i, one in enumerate(rows)]
        group.create_dataset("boundingboxes", data=np.array([refs], dtype=h5py.ref_dtype).T,
                             dtype=h5py.ref_dtype)

    matlab73(h5py, folder / "info.mat", boxes)
    for path in sorted((folder / "images_srgb").iterdir()):
        image = io.loadmat(path)["InoisySRGB"]

        def one(held, image=image):
            held.create_dataset("InoisySRGB", data=image.T).attrs["MATLAB_class"] = np.bytes_(
                "single")

        matlab73(h5py, path, one)
    assert len(blocks._boxes(folder / "info.mat", 2)) == 2
    again = obtain.fetch(replace(dnd, name="again", folder=dnd.folder.with_name("again")), dnd.root)
    found = {one.name: one.load() for one in again.images}
    assert list(found) == list(expected)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


# -- the commands ----------------------------------------------------------------------------------

def test_the_commands_unpack(sidd, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(json.dumps({
        "run": "a", "catalog_paths": ["datasets.yaml"], "models": {"input": {}},
        "metrics": ["psnr"],
        "cells": [{"protocol": "denoise_real-sidd", "datasets": ["mine"], "models": ["input"]}]}))
    assert cli.main(["data", "list", "mine"]) == 0
    assert "not unpacked" in capsys.readouterr().out
    assert cli.main(["eval", "--protocol", "denoise_real-sidd", "--dataset", "mine", "--model",
                     "input"]) == 0
    mean = json.loads(capsys.readouterr().out.splitlines()[-1])["mean"]["psnr"]
    error = (values(0, 2, 3, 8, 10).astype(float) - values(1, 2, 3, 8, 10)) ** 2
    wanted = np.mean(10 * np.log10(255**2 / error.mean(axis=(2, 3, 4))))
    assert mean == pytest.approx(wanted, abs=1e-6)
    assert cli.main(["data", "check", "mine"]) == 0
    assert read_image(sidd.home / "hr" / "02_03.png").shape == (8, 10, 3)
