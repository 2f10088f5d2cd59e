"""``irbench data list`` and ``check``: what they print about a set, and what a check changes."""

import json
import shutil
import subprocess
import sys

import pytest
import yaml

from irbench import cli
from irbench.core import digests
from irbench.data import folders, obtain, sets
from irbench.imaging.images import write_png
from tests.helpers.sets import HEAD, images, line, photo


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A folder with a catalog of a manual set of three pairs (here) and a local one (not)."""
    monkeypatch.chdir(tmp_path)
    for role in ("input", "target"):
        images(tmp_path / "data" / "rain" / role, "a.png", "b.png", "c.png")
    catalog = {
        "rain": {"title": "Rain", "use": "test", "tasks": ["derain"], "manual": {
            "folder": "rain", "hr": "target/*", "input": "input/*", "count": 3,
            "get": "Google Drive file id 123; unpack it"}},
        "mine": {"title": "Mine", "use": "test", "local": {"folder": "mine"}}}
    (tmp_path / "datasets.yaml").write_text(yaml.safe_dump({"datasets": catalog}))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({
        "run": "r", "catalog_paths": ["."], "models": {"input": {}},
        "cells": [{"protocol": "derain-streak", "datasets": ["rain"], "models": ["input"]}]}))
    return tmp_path


def check(capsys, *names, code=0):
    assert cli.main(["data", "check", *names]) == code
    out, err = capsys.readouterr()
    return json.loads(out.splitlines()[-1])["sets"][0], err


def test_a_whole_set_is_complete_and_held_to_its_first_state(world, capsys):
    result, err = check(capsys, "rain")
    assert result == {"dataset": "rain", "complete": True, "found": {"hr": 3, "input": 3},
                      "expected": 3, "problems": [], "manifest": "data/manifests/rain.csv"}
    assert "rain: complete: found 3 hr, 3 input, expected 3 pairs" in err
    before = (world / "data/manifests/rain.csv").read_text()
    assert check(capsys)[0] == result  # the config's sets
    assert (world / "data/manifests/rain.csv").read_text() == before


@pytest.mark.parametrize(("change", "problem"), [
    (lambda d: (d / "input/b.png").unlink(), r"2 inputs in data/rain, expected 3"),
    (lambda d: (d / "input/b.png").unlink(), r"1 targets without an input (b)"),
    (lambda d: (d / "target/b.png").unlink(), r"1 inputs without a target of that name (b)"),
    (lambda d: write_png(d / "input/b.png", photo(1, 5, 8)),
     "1 pairs whose input and target differ in height x width (b.png: 5x8 against 6x8)"),
    (lambda d: (d / "input/b.png").write_bytes((d / "input/b.png").read_bytes()[:60]),
     "1 files cannot be read: "),
    (lambda d: (d / "target/b.png").write_bytes(b"text"), "1 files cannot be read: "),
    (lambda d: shutil.rmtree(d), "the folder data/rain does not exist"),
])
def test_what_is_wrong_is_said_and_nothing_is_written_down(world, capsys, change, problem):
    change(world / "data" / "rain")
    result, err = check(capsys, "rain", code=1)
    assert any(problem in found for found in result["problems"]), result
    assert not result["complete"] and result["manifest"] is None
    assert "rain: incomplete or changed" in err and problem in err
    assert "How to get it: Google Drive file id 123" in err
    if "cannot be read" in problem:
        assert "b.png" in err
    assert not (world / "data/manifests").exists()


def test_changes_since_the_first_check_are_found_and_may_be_accepted(world, capsys):
    check(capsys, "rain")
    folder = world / "data" / "rain"
    digest = sets.digest(sets.get("rain", [world], world / "data"))
    write_png(folder / "input" / "b.png", photo(77))
    (folder / "input" / "c.png").rename(folder / "input" / "d.png")
    (folder / "target" / "c.png").rename(folder / "target" / "d.png")
    result, err = check(capsys, "rain", code=1)
    [changed, new, missing] = result["problems"]
    assert changed == "1 files changed since data/manifests/rain.csv was written (input/b.png)"
    assert new == ("2 files new since data/manifests/rain.csv was written "
                   "(hr/d.png, input/d.png)")
    assert missing == "2 of 6 files are missing (hr/c.png, input/c.png)"
    assert err.count("irbench data check rain --accept") == 1
    assert check(capsys, "rain", "--accept")[0]["complete"]
    assert check(capsys, "rain")[0]["complete"]
    # every result that depends on the set is another one now
    assert sets.digest(sets.get("rain", [world], world / "data")) != digest


def test_a_set_that_is_not_whole_cannot_be_accepted(world, capsys):
    check(capsys, "rain")
    before = (world / "data/manifests/rain.csv").read_text()
    (world / "data/rain/input/b.png").write_bytes(b"broken")
    assert check(capsys, "rain", "--accept", code=1)[0]["problems"]
    assert (world / "data/manifests/rain.csv").read_text() == before


def test_a_damaged_list_is_said_and_replaced_if_accepted(world, capsys):
    check(capsys, "rain")
    (world / "data/manifests/rain.csv").write_text("x")
    assert "not a list of files" in check(capsys, "rain", code=1)[1]
    check(capsys, "rain", "--accept")
    check(capsys, "rain")


def test_a_folder_of_ones_own(world, capsys):
    assert "does not exist" in check(capsys, "mine", code=1)[0]["problems"][0]
    images(world / "mine", "a.png", "b.png")
    assert check(capsys, "mine")[0]["found"] == {"hr": 2}
    (world / "mine" / "a.png").write_bytes(b"x")
    assert "a.png: not an image" in check(capsys, "mine", code=1)[1]
    (world / "mine" / "b.jpg").write_bytes(b"x")
    assert "have the same name" in check(capsys, "mine", code=1)[1]
    assert cli.main(["data", "list", "mine"]) == 0
    assert "unusable" in capsys.readouterr().out


def test_a_set_with_a_manifest(world, capsys):
    assert check(capsys, "photos")[0] == {
        "dataset": "photos", "complete": True, "found": {"hr": 4}, "expected": 4, "problems": [],
        "manifest": None}
    result, err = check(capsys, "set5", code=1)
    assert result["problems"] == ["20 of 20 files are missing (hr/baby.png, hr/bird.png, "
                                  "hr/butterfly.png, hr/head.png, hr/woman.png and 15 more)"]
    assert result["expected"] == 5
    assert "Run: irbench data fetch set5" in err
    assert cli.main(["data", "check", "photos", "--accept"]) == 2
    assert "This one is pinned by its manifest" in capsys.readouterr().err


@pytest.mark.mirror
def test_the_sets_of_the_mirror_are_complete(mirror, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["data", "check", "weights_dncnn", "set5"]) == 1
    for name in ("weights_dncnn", "set5"):
        obtain.fetch(sets.get(name), tmp_path / "data", progress=False)
    capsys.readouterr()
    assert cli.main(["data", "check", "weights_dncnn", "set5"]) == 0
    err = capsys.readouterr().err
    assert "weights_dncnn: complete: found 1 weights, expected 1 files" in err
    assert "set5: complete: found 5 hr, 5 lr_x2, 5 lr_x3, 5 lr_x4, expected 5 images" in err


def test_a_paired_set_with_a_manifest(world, capsys):
    text = HEAD
    for role, names in (("hr", "ab"), ("input", "bc")):
        for name in names:
            path = world / "pairs" / role / f"{name}.png"
            write_png(path, photo(ord(name)))
            text += line(role, path.name, path.as_uri(), digests.file_digest(path),
                         str(path.stat().st_size))
    (world / "pairs.csv").write_text(text)
    catalog = yaml.safe_load((world / "datasets.yaml").read_text())
    catalog["datasets"]["pairs"] = {"title": "P", "use": "test", "manifest": "pairs.csv"}
    (world / "datasets.yaml").write_text(yaml.safe_dump(catalog))
    assert sets.get("pairs", [world]).paired
    assert check(capsys, "pairs", code=1)[0]["problems"] == [
        "1 inputs without a target of that name (c)", "1 targets without an input (a)"]


def test_list_shows_all_sets_without_a_config(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["data", "list"]) == 0
    lines = {row.split()[0]: row for row in capsys.readouterr().out.splitlines()[2:]}
    assert set(lines) == set(sets.catalog())
    assert lines["set5"].split() == ["set5", "sr", "test", "5", "1.3",
                                     "raw.githubusercontent.com", "absent"]
    assert lines["gopro"].split(maxsplit=5) == [
        "gopro", "deblur", "test", "1111", "pairs", "-  by hand: Google Drive             absent"]
    assert lines["div2k_valid"].split()[-4:] == ["-", "data.vision.ee.ethz.ch", "(archive)",
                                                 "absent"]
    assert lines["photos"].endswith("complete")
    assert cli.main(["data", "list", "--config", "missing.yaml"]) == 2
    assert cli.main(["data", "check"]) == 2
    assert "name the sets to check" in capsys.readouterr().err


def test_list_knows_what_is_here(world, capsys):
    def state():
        assert cli.main(["data", "list", "rain"]) == 0
        [row] = capsys.readouterr().out.splitlines()[2:]
        return row.split()[-1], row.split()[5]

    assert state() == ("unchecked", "-")
    check(capsys, "rain")
    size = sum(p.stat().st_size for p in (world / "data/rain").rglob("*.png"))
    assert state() == ("complete", f"{size / 1e6:.1f}")
    assert cli.main(["data", "list", "rain", "--data-root", "elsewhere"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("absent")
    assert cli.main(["data", "list", "rian"]) == 2
    assert "Did you mean 'rain'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["data", "list", "--accept"])


def test_options_and_names_come_in_any_order_and_no_config_is_needed(world, monkeypatch, capsys):
    assert cli.main(["data", "check", "--data-root", "data", "rain"]) == 0
    monkeypatch.chdir(world / "data")
    assert cli.main(["data", "fetch", "photos"]) == 0
    assert cli.main(["data", "fetch"]) == 2  # whose sets?
    assert "config.yaml: No such file" in capsys.readouterr().err


def test_list_hashes_nothing_and_imports_nothing_heavy(world, capsys, monkeypatch):
    check(capsys, "rain")
    monkeypatch.setattr(folders, "known_digests", None)
    assert cli.main(["data", "list"]) == 0
    code = ("import sys; from irbench import cli; cli.main(['data', 'list']); bad = {'torch', "
            "'requests', 'pooch', 'pandas'} & set(sys.modules); assert not bad, bad")
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
