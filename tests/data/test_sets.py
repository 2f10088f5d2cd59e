"""irbench's own catalog, and datasets on this machine; the real sets where a mirror is at hand."""

import functools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from irbench.catalog import manifest, published, reader
from irbench.core import digests
from irbench.core.errors import Unavailable, UserError
from irbench.data import obtain, sets
from irbench.imaging.images import write_png
from tests.helpers.sets import HEAD, SHA, line, make, photo

COUNTS = {"photos": 4, "photos_train": 10, "set5": 20, "set14": 14, "bsd100": 100, "urban100": 100,
          "set12": 12, "bsd68": 68, "cbsd68": 68, "kodak24": 24, "mcmaster": 18, "classic5": 5,
          "live1_gray": 29, "live1_color": 29, "bsds500_test": 200, "bsds500_train": 200,
          "weights_dncnn": 1, "iqa_calibration": 10, "polyu": 200}


@pytest.fixture
def user(tmp_path):
    """Return a function that writes a user's catalog with one entry ``mine`` and reads it."""
    return functools.partial(make, tmp_path)


# -- irbench's own catalog ---------------------------------------------------------------------

MANUAL = {"manga109": 109, "gopro": 1111, "gopro_train": 2103, "hide": 2025, "rain13k": 13711,
          "test100": 98, "rain100h": 100, "lol_v1": 15, "lol_v1_train": 485, "raindrop": 58,
          "raindrop_train": 861, "snow100k_l": 16801, "outdoor_rain_test1": 750,
          "allweather": 18069, "wed": 4744, "reside_sots_indoor": 500, "reside_sots_outdoor": 500,
          "sidd_validation": 1280, "sidd_benchmark": 1280, "dnd": 1000}
ARCHIVES = {"div2k_train": 800, "div2k_valid": 100, "flickr2k": 2650}
PAIRED = (set(MANUAL) - {"manga109", "wed"}) | {"iqa_calibration", "polyu"}


def pinned() -> dict[str, sets.DatasetEntry]:
    """The sets whose every file is listed in a manifest."""
    return {name: entry for name, entry in sets.catalog().items() if entry.manifest}


def test_every_set_is_there_and_complete():
    known = sets.catalog()
    assert {name: len(sets.manifest(entry)) for name, entry in pinned().items()} == COUNTS
    assert {e.name: e.count for e in known.values() if e.kind == "manual"} == MANUAL
    assert {e.name: e.count for e in known.values() if e.kind == "archive"} == ARCHIVES
    assert {e.name for e in known.values() if e.paired} == PAIRED
    assert {e.name for e in known.values() if e.use == "train"} == {
        "photos_train", "bsds500_train", "gopro_train", "rain13k", "lol_v1_train",
        "raindrop_train", "allweather", "div2k_train", "flickr2k", "wed"}
    for entry in known.values():
        assert entry.source and entry.terms and entry.tasks, entry.name
    listed = {entry.manifest.name for entry in pinned().values()}
    assert listed == {path.name for path in (reader.BUILTIN / "manifests").iterdir()}


def test_every_published_figure_has_its_set():
    known = sets.catalog()
    wanted = {(row.dataset, row.task) for row in published.load()}
    assert {name for name, _ in wanted} <= set(known)
    for name, task in wanted:
        if known[name].paired:
            assert task in known[name].tasks, (name, task)


def test_no_checksum_is_invented_for_an_archive():
    for entry in sets.catalog().values():
        for archive in entry.archives:
            assert (archive.sha256, archive.bytes) == (None, None)
            assert "not known" in entry.notes


def test_urls_are_pinned_to_a_commit():
    for entry in pinned().values():
        for row in sets.manifest(entry):
            if not row.url.startswith("package://skimage/"):
                host, _, path = row.url.removeprefix("https://").partition("/")
                assert host == "raw.githubusercontent.com"
                assert len(path.split("/")[2]) == 40, row.url


def test_no_file_is_both_trained_on_and_tested():
    known = pinned().values()
    pairs = [(a, b) for a in known for b in known if a.use == "train" and b.use == "test"]
    assert len(pairs) > 20
    bytes_of = {entry.name: {row.sha256 for row in sets.manifest(entry)} for entry in known}
    assert [(a.name, b.name) for a, b in pairs if bytes_of[a.name] & bytes_of[b.name]] == []


def test_no_scene_is_in_both_sets_of_photographs():
    test, train = ([row.name for row in sets.manifest(sets.get(name))]
                   for name in ("photos", "photos_train"))
    assert test == ["astronaut", "chelsea", "coffee", "rocket"]
    assert not set(test) & set(train)
    assert sum(name.startswith("motorcycle") for name in train) == 1  # a stereo pair is one scene


def test_the_berkeley_sets_have_no_image_in_common_with_training():
    def names(name):
        return {row.name for row in sets.manifest(sets.get(name))}

    assert not names("cbsd68") & (names("bsds500_train") | names("bsds500_test"))
    assert not names("bsds500_train") & names("bsds500_test")


def test_photographs_need_no_download(tmp_path):
    for name, channels in (("photos", {3}), ("photos_train", {1, 3})):
        entry = sets.get(name)
        found = obtain.fetch(entry, tmp_path, progress=False)
        assert sets.open_local(entry, tmp_path) == found
        assert sets.state(entry, tmp_path) == "complete"
        loaded = [image.load() for image in found.role("hr")]
        assert {image.shape[-1] for image in loaded} == channels
        assert all(i.dtype == np.uint8 and min(i.shape[:2]) >= 300 for i in loaded)
    assert list(tmp_path.iterdir()) == []


def test_looking_up_imports_nothing_heavy():
    code = ("import sys; from irbench.data import sets as d; e = d.get('photos'); d.digest(e); "
            "d.state(e, 'data'); d.open_local(e, 'data'); heavy = {'torch', 'requests', "
            "'pooch', 'skimage'} & set(sys.modules); assert not heavy, heavy")
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_name_that_is_not_known():
    with pytest.raises(UserError, match=r"unknown dataset 'set15'. Did you mean .*'set14'"):
        sets.get("set15")


# -- on this machine ---------------------------------------------------------------------------

@pytest.fixture
def remote(user, tmp_path, monkeypatch):
    """An entry of three files of two roles, and the mirror folder that has them."""
    text, host = HEAD, tmp_path / "mirror" / "host.invalid"
    for role, file in (("lr_x2", "bx2.png"), ("hr", "b.png"), ("hr", "a.png")):
        path = host / role / file
        write_png(path, photo(len(text)))
        text += line(role, file, f"https://host.invalid/{role}/{file}",
                     digests.file_digest(path), str(path.stat().st_size))
    monkeypatch.setenv("IRBENCH_MIRROR", str(tmp_path / "mirror"))
    return user(text)


def test_fetch_then_open(remote, tmp_path):
    root = tmp_path / "data"
    assert sets.state(remote, root) == "absent"
    with pytest.raises(Unavailable, match=r"3 of 3 files are missing .*a\.png. "
                                          r"Run: irbench data fetch mine"):
        sets.open_local(remote, root)
    found = obtain.fetch(remote, root, progress=False)
    assert found == sets.open_local(remote, root)
    assert sets.state(remote, root) == "complete"
    assert [(i.role, i.name) for i in found.images] == [("hr", "a"), ("hr", "b"), ("lr_x2", "bx2")]
    assert found.role("hr")[0].path == root / "mine" / "hr" / "a.png"
    assert found.roles == ("hr", "lr_x2")
    with pytest.raises(UserError, match=r"unknown role 'lr_x3'. Did you mean 'lr_x2'"):
        found.role("lr_x3")
    found.images[0].path.unlink()
    assert sets.state(remote, root) == "partial 2/3"
    with pytest.raises(Unavailable, match="1 of 3 files"):
        sets.open_local(remote, root)


def test_a_file_that_changed_is_not_loaded(remote, tmp_path):
    image = obtain.fetch(remote, tmp_path / "data", progress=False).images[0]
    data = bytearray(image.path.read_bytes())
    data[-1] ^= 1
    image.path.write_bytes(data)
    assert sets.state(remote, tmp_path / "data") == "complete"  # goes by size alone
    with pytest.raises(Unavailable, match="the file has changed") as caught:
        image.load()
    assert str(image.path) in str(caught.value) and "irbench data fetch" in str(caught.value)
    again = obtain.fetch(remote, tmp_path / "data", progress=False).images[0]
    assert again.load().shape == (6, 8, 3)
    image.path.unlink()
    with pytest.raises(Unavailable, match="No such file"):
        image.load()


def test_a_file_that_is_no_image(user, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"text")
    [image] = sets.open_local(user(local={"folder": "images"}), tmp_path).images
    assert image.read() == b"text"
    with pytest.raises(UserError, match=r"a\.png: not an image"):
        image.load()


def test_a_row_knows_its_name():
    assert manifest.ManifestRow("hr", "img.001.png", "", SHA, 1).name == "img.001"


@pytest.mark.mirror
def test_set5_from_the_mirror(mirror, tmp_path):
    entry = sets.get("set5")
    found = obtain.fetch(entry, tmp_path, progress=False)
    assert [i.name for i in found.role("hr")] == ["baby", "bird", "butterfly", "head", "woman"]
    assert found.role("hr")[0].load().shape == (512, 512, 3)
    assert found.role("lr_x4")[0].load().shape == (128, 128, 3)
    assert sets.state(entry, tmp_path) == "complete"
    names = [path.name for path in Path(tmp_path).rglob("*") if path.is_file()]
    assert len(names) == 20 and not any(name.startswith(".") for name in names)
