"""What is absent skips an anchor; what is here, or comes, and is wrong fails it."""

import shutil

import pytest
import yaml

from irbench.core import digests
from irbench.fidelity import anchors
from irbench.imaging import images
from tests.helpers import tiny
from tests.helpers.anchor_world import irbench, world


def of_a_manifest(folder, capsys):
    """A set of a manifest, fetched from a mirror: its image there, and here; and how to run it."""
    path = world(folder, {}, figures={}, rows=[
        {"protocols": ["denoise_color-sigma25@1"], "datasets": ["far"], "model": "input",
         "references": ["expected"]}])
    there = folder / "mirror" / "host.invalid" / "a.png"
    images.write_png(there, tiny.photo(0, 32, 32))
    (folder / "far.csv").write_text(
        "role,file,url,sha256,bytes\nhr,a.png,https://host.invalid/a.png,"
        f"{digests.file_digest(there)},{there.stat().st_size}\n")
    catalog = yaml.safe_load((folder / "datasets.yaml").read_text())
    catalog["datasets"]["far"] = {"title": "Far", "use": "test", "manifest": "far.csv",
                                  "source": "made for tests"}
    (folder / "datasets.yaml").write_text(yaml.safe_dump(catalog))

    def run(*arguments):
        anchors.load.cache_clear()
        code, out, last = irbench(path, capsys, *arguments)
        return code, {key: last[key] for key in ("pass", "fail", "skip") if last[key]}, out

    return there, folder / "data" / "far" / "hr" / "a.png", run


def flip(path):
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("again", [False, True])
def test_a_changed_file_fails_and_is_not_skipped(again, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    _, here, run = of_a_manifest(tmp_path, capsys)
    monkeypatch.setenv("IRBENCH_MIRROR", str(tmp_path / "mirror"))
    assert run()[:2] == (0, {"pass": 1})
    if not again:  # the cell has no record yet
        shutil.rmtree(tmp_path / "results")
    flip(here)
    (tmp_path / "mirror").rename(tmp_path / "away")
    (tmp_path / "mirror").mkdir()
    code, counts, out = run()  # a record of what was here before proves nothing
    assert (code, counts) == (1, {"fail": 1})
    assert "FAIL denoise_color-sigma25@1/far/input: far: the files have changed: " in out
    assert str(here.relative_to(tmp_path)) in out
    (tmp_path / "mirror").rmdir()
    (tmp_path / "away").rename(tmp_path / "mirror")
    assert run()[:2] == (0, {"pass": 1})  # what can be fetched again is


def test_what_a_mirror_has_wrong_fails_what_it_lacks_is_skipped(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    there, here, run = of_a_manifest(tmp_path, capsys)
    monkeypatch.setenv("IRBENCH_MIRROR", str(tmp_path / "mirror"))
    flip(there)
    code, counts, out = run()
    assert (code, counts) == (1, {"fail": 1}) and "wrong content" in out
    there.unlink()
    code, counts, out = run()
    assert (code, counts) == (3, {"skip": 1}) and "no such file" in out
    # here, but cut short, and not to be had again: damaged
    here.write_bytes(b"short")
    code, counts, out = run()
    assert (code, counts) == (1, {"fail": 1}) and "have the wrong size" in out


def test_a_file_that_is_no_image_fails(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = world(tmp_path, {"psnr": "30"})
    (tmp_path / "images" / "test" / "img1.png").write_bytes(b"no image")
    code, out, last = irbench(path, capsys)
    assert (code, last["fail"], last["skip"]) == (1, 2, 0)
    assert "img1.png: not an image file" in out
