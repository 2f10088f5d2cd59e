"""``irbench eval`` of several sets: one process and one network, but the records of single jobs."""

import json
import shutil

import pytest
import yaml

from irbench import cli
from irbench.core import records
from irbench.jobs import evaluate
from tests.helpers import tiny

SETS = ("tinyset", "second", "third")


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Three sets of other images, a bundled model of irbench's own, and one of a plugin."""
    monkeypatch.chdir(tmp_path)
    models = {"compacter": {"options": {"skip": "input"}, "checkpoint": "bundled"}, "plain": {
        "arch": "plain"}}
    config = tiny.make(tmp_path, models=models, metrics=["ssim"], keep_images=False, cells=[
        {"protocol": "sr-x2", "datasets": list(SETS), "models": list(models)}])
    plugin = tmp_path / "tiny_model.py"
    plugin.write_text(tiny.PLUGIN.replace('"tiny": {', '"plain": {').replace(
        '"learned": True', '"learned": False'))
    catalog = yaml.safe_load((tmp_path / "datasets.yaml").read_text())
    for number, name in enumerate(SETS[1:], 1):
        folder = tmp_path / "images" / name
        shutil.copytree(tmp_path / "images" / "train", folder)
        tiny.write_png(folder / "more.png", tiny.photo(number, 20 + number, 22))
        catalog["datasets"][name] = catalog["datasets"]["tinyset"] | {
            "title": name, "local": {"folder": f"images/{name}"}}
    (tmp_path / "datasets.yaml").write_text(yaml.safe_dump(catalog))
    return config


def run(model, *sets, more=()):
    return cli.main(["eval", "--protocol", "sr-x2", "--model", model, "--dataset", *sets, *more])


def stored(folder, model):
    """Each record without its times, and without when and where it was made."""
    return {name: {key: value for key, value in records.read(
        folder / f"results/tiny/cells/sr-x2@2/{name}/{model}.json").items()
        if key not in ("seconds", "provenance")} for name in SETS}


@pytest.mark.parametrize(("model", "loads"), [("compacter", 1), ("plain", 6)])
def test_records_are_those_of_single_jobs(world, tmp_path, monkeypatch, capsys, model, loads):
    """A network of a plugin may remember images, so it is loaded anew for each set.

    And a second time, for a comparison.
    """
    loaded = []
    load = evaluate.load_network
    monkeypatch.setattr(evaluate, "load_network", lambda *how: loaded.append(1) or load(*how))
    logs = [f"logs/{name}.log" for name in SETS]
    assert run(model, *SETS, more=("--log", *logs)) == 0
    assert len(loaded) == loads
    told = json.loads(capsys.readouterr().out)
    assert [one["status"] for one in told["records"]] == ["ok"] * 3
    for name in SETS:
        text = (tmp_path / f"logs/{name}.log").read_text()
        assert [other for other in SETS if f"/ {other} /" in text] == [name]
    together = stored(tmp_path, model)
    shutil.rmtree(tmp_path / "results")
    for name in reversed(SETS):
        assert run(model, name) == 0
    assert stored(tmp_path, model) == together


def test_a_failure_costs_no_other_cell(world, tmp_path):
    (tmp_path / "images/second/more.png").write_bytes(b"no image")
    options = ("--on-failure", "record", "--supervised")
    assert run("plain", *SETS, more=options) == 0
    found = stored(tmp_path, "plain")
    assert [found[name]["status"] for name in SETS] == ["ok", "unavailable", "ok"]
    before = (tmp_path / "results/tiny/cells/sr-x2@2/third/plain.json").stat().st_mtime_ns
    assert run("plain", *SETS, more=options) == 0       # only what is not current
    assert stored(tmp_path, "plain")["second"]["attempt"] == 1
    assert (tmp_path / "results/tiny/cells/sr-x2@2/third/plain.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(("more", "message"), [
    (("--log", "a.log"), "--log: 1 files for 3 jobs"),
    (("--limit", "2"), "several sets need a run to write to"),
    (("--no-config",), "several sets need a run to write to"),
])
def test_what_several_sets_do_not_go_with(world, capsys, more, message):
    assert run("plain", *SETS, more=more) == 2
    assert message in capsys.readouterr().err
