"""Sets that are absent, broken or unfit in a run: one reason, no mean over the rest, no stop."""

import shutil

import pytest
import yaml

from irbench import cli, plan
from irbench.core import digests, records
from irbench.core.errors import Unavailable, UserError
from irbench.data import obtain, sets
from tests.helpers import tiny
from tests.helpers.archives import zipped
from tests.helpers.servers import Server, serve
from tests.helpers.sets import images

PAIRED, CLEAN = "derain-streak", "sr-x2"


@pytest.fixture
def world(tmp_path, monkeypatch):
    """The tiny world with a manual paired set ``rain`` of two pairs and an archive ``packed``."""
    monkeypatch.chdir(tmp_path)
    path = tiny.make(tmp_path)
    catalog = yaml.safe_load((tmp_path / "datasets.yaml").read_text())
    catalog["datasets"]["rain"] = {
        "title": "Rain", "use": "test", "tasks": ["derain"], "manual": {
            "folder": "rain", "hr": "target/*", "input": "input/*", "count": 2, "get": "ask"}}
    catalog["datasets"]["packed"] = {
        "title": "Packed", "use": "train", "tasks": ["sr"], "archive": {
            "files": [{"url": "https://host.invalid/p.zip"}], "hr": "**/*.png", "count": 2}}
    (tmp_path / "datasets.yaml").write_text(yaml.safe_dump(catalog))
    config = yaml.safe_load(path.read_text())
    config["cells"] = [{"protocol": PAIRED, "datasets": ["rain"], "models": ["input"]},
                       {"protocol": CLEAN, "datasets": ["tinyset"], "models": ["bicubic"]}]
    path.write_text(yaml.safe_dump(config))
    return path


def change(world, **changes):
    config = yaml.safe_load(world.read_text()) | changes
    world.write_text(yaml.safe_dump(config))


def put(world):
    for role in ("input", "target"):
        images(world.parent / "data" / "rain" / role, "a.png", "b.png", h=16, w=16)


def evaluate(dataset="rain", protocol=PAIRED, model="input"):
    assert cli.main(["eval", "--protocol", protocol, "--dataset", dataset, "--model", model,
                     "--on-failure", "record", "--supervised"]) == 0
    return records.read(plan.load("config.yaml").find(
        "cell", protocol=protocol, dataset=dataset, model=model).record)


def test_an_absent_set_stops_nothing(world):
    run = plan.load(world)
    spec = run.data["rain"].spec
    assert spec["dataset"]["sha256"] is None
    assert spec["dataset"]["reason"].startswith(
        "dataset 'rain': the folder data/rain does not exist. How")
    assert spec["count"] == 2
    assert run.data["tinyset"].spec["count"] == len(list((world.parent / "images/test").iterdir()))
    about = run.report_spec["datasets"]
    assert about["rain"]["sha256"] is None
    assert {name: one["supplied"] for name, one in about.items()} == {
        "rain": True, "tinyset": False}
    cell = run.find("cell", protocol=PAIRED, dataset="rain", model="input")
    assert cell.spec["dataset"] == spec["dataset"]
    assert cli.main(["data", "fetch", "--on-failure", "record"]) == 0
    for record in (records.read(run.data["rain"].record), evaluate()):
        assert record["status"] == "unavailable" and record["result"] is None
        assert "the folder data/rain does not exist. How to get it: ask." in record["reason"]
    assert records.read(run.data["tinyset"].record)["status"] == "ok"
    assert evaluate("tinyset", CLEAN, "bicubic")["status"] == "ok"


def test_a_set_that_appears_makes_its_cells_run(world):
    before = plan.load(world)
    put(world)
    after = plan.load(world)
    for kind in ("data", "cells"):
        changed = {name for name, job in getattr(after, kind).items()
                   if job.fingerprint != getattr(before, kind)[name].fingerprint}
        assert len(changed) == 1 and "rain" in changed.pop()
    assert after.data["rain"].spec["count"] == 2
    assert after.report_fingerprint != before.report_fingerprint
    assert cli.main(["data", "fetch", "rain"]) == 0
    record = records.read(after.data["rain"].record)
    assert record["spec"] == after.data["rain"].spec
    assert record["result"]["count"] == 2 and record["result"]["images"] == ["a", "b"]
    record = evaluate()
    assert record["status"] == "ok"
    assert [image["name"] for image in record["result"]["images"]] == ["a", "b"]


@pytest.mark.parametrize("damage", ["truncated", "text", "changed", "missing"])
def test_a_broken_image_makes_the_set_unavailable(world, damage):
    put(world)
    if damage in ("changed", "missing"):
        assert cli.main(["data", "fetch", "rain"]) == 0  # written down as it is
    victim = world.parent / "data" / "rain" / "target" / "b.png"
    data = victim.read_bytes()
    victim.unlink()
    if damage != "missing":
        victim.write_bytes({"truncated": data[:-40], "text": b"no image",
                            "changed": data[:-1] + b"!"}[damage])
    record = evaluate()
    assert record["status"] == "unavailable" and record["result"] is None
    assert "b.png" in record["reason"]


def test_an_incomplete_set_is_never_scored_on_the_rest(world):
    put(world)
    (world.parent / "data/rain/input/b.png").unlink()
    (world.parent / "data/rain/target/b.png").unlink()
    reason = evaluate()["reason"]
    assert "1 inputs in data/rain, expected 2" in reason


def test_an_absent_training_set_makes_the_training_unavailable(world):
    change(world, cells=[{"protocol": CLEAN, "datasets": ["tinyset"], "models": ["tiny"]}])
    config = yaml.safe_load(world.read_text())
    config["models"]["tiny"]["training"]["data"] = ["packed"]
    world.write_text(yaml.safe_dump(config))
    (world.parent / "mirror").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IRBENCH_MIRROR", str(world.parent / "mirror"))
        assert cli.main(["train", "--protocol", CLEAN, "--model", "tiny",
                         "--on-failure", "record", "--supervised"]) == 0
    record = records.read(plan.load(world).find("training", protocol=CLEAN, model="tiny").record)
    assert record["status"] == "unavailable"
    assert "packed/p.zip could not be fetched" in record["reason"]
    assert record["spec"]["datasets"][0]["sha256"] is None


def test_a_fetched_archive_leaves_a_record_of_what_it_held(world, monkeypatch):
    change(world, cells=[{"protocol": CLEAN, "datasets": ["tinyset"], "models": ["tiny"]}])
    config = yaml.safe_load(world.read_text())
    config["models"]["tiny"]["training"]["data"] = ["packed"]
    world.write_text(yaml.safe_dump(config))
    assert "Run: irbench data fetch packed" in plan.load(world).data["packed"].spec[
        "dataset"]["reason"]
    source = images(world.parent / "source", "1.png", "2.png", h=24, w=24)
    (world.parent / "mirror" / "host.invalid").mkdir(parents=True)
    zipped(world.parent / "mirror" / "host.invalid" / "p.zip",
           *((f"p/{path.name}", path.read_bytes()) for path in source.iterdir()))
    monkeypatch.setenv("IRBENCH_MIRROR", str(world.parent / "mirror"))
    assert cli.main(["data", "fetch", "packed"]) == 0
    job = plan.load(world).data["packed"]
    record = records.read(job.record)
    assert record["spec"] == job.spec and job.spec["dataset"]["sha256"]
    assert record["result"]["count"] == 2


@pytest.mark.parametrize(("cells", "message"), [
    ([{"protocol": PAIRED, "datasets": ["tinyset"], "models": ["input"]}],
     r"cells\[0\].datasets: derain-streak@1 scores real pairs, and 'tinyset' has clean images only"
     r". Sets for it: .*rain100h.*test100"),
    ([{"protocol": CLEAN, "datasets": ["rain"], "models": ["bicubic"]}],
     r"sr-x2@2 makes its inputs from clean images, and 'rain' has its own degraded images"),
    ([{"protocol": "derain-synthetic", "datasets": ["rain"], "models": ["input"]}],
     "the two are never mixed"),
])
def test_a_set_must_fit_its_protocol(world, cells, message):
    change(world, cells=cells)
    with pytest.raises(UserError, match=message) as caught:
        plan.load(world)
    assert not isinstance(caught.value, Unavailable)


def test_pairs_of_another_task_are_refused(world):
    change(world, cells=[{"protocol": "deblur-motion", "datasets": ["rain"], "models": ["input"]}])
    with pytest.raises(UserError, match=r"is of task deblur; the pairs of 'rain' are for derain. "
                                        "Sets for it: gopro, gopro_train, hide"):
        plan.load(world)


def test_looking_holds_a_set_to_nothing_and_fetching_looks_at_every_file(world, capsys):
    put(world)
    images(world.parent / "data/rain/input", "b.png", h=16, w=18)
    listed = world.parent / "data/manifests/rain.csv"
    assert evaluate()["status"] == "unavailable"
    assert cli.main(["verify"]) == 1
    assert cli.main(["data", "fetch", "rain"]) == 2
    assert "differ in height x width (b.png: 16x18 against 16x16)" in capsys.readouterr().err
    assert not listed.exists()
    images(world.parent / "data/rain/input", "b.png", h=16, w=16)
    assert cli.main(["data", "fetch", "rain"]) == 0
    assert listed.exists()


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_what_happens_to_a_set_after_it_was_scored_is_noticed(world, damage, capsys):
    put(world)
    assert cli.main(["data", "fetch", "rain"]) == 0
    assert evaluate()["status"] == "ok"
    capsys.readouterr()
    cli.main(["verify"])
    assert "rain" not in capsys.readouterr().err
    victim = world.parent / "data" / "rain" / "target" / "b.png"
    before = plan.load(world).cells[f"{PAIRED}@1/rain/input"].fingerprint
    if damage == "gone":
        victim.unlink()
        after = plan.load(world)
        assert after.cells[f"{PAIRED}@1/rain/input"].fingerprint != before  # so it runs again
        assert "1 of 4 files are missing (hr/b.png)" in after.data["rain"].spec["dataset"]["reason"]
    else:
        data = bytearray(victim.read_bytes())
        data[-1] ^= 1
        victim.write_bytes(data)
    assert cli.main(["verify"]) == 1
    error = capsys.readouterr().err
    assert "stale       cell derain-streak@1 / rain / input: " in error if damage == "gone" else (
        "data rain: 1 files changed after they were scored" in error and "b.png" in error)


def test_a_training_set_must_fit_too(world):
    change(world, cells=[{"protocol": CLEAN, "datasets": ["tinyset"], "models": ["tiny"]}])
    config = yaml.safe_load(world.read_text())
    config["models"]["tiny"]["training"]["data"] = ["rain13k"]
    world.write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match=r"models.tiny.training.data: sr-x2@2 makes its inputs"):
        plan.load(world)


# -- what the network and the disk do ----------------------------------------------------------

@pytest.mark.mirror
@pytest.mark.parametrize("damage", ["flip", "cut"])
def test_a_damaged_file_of_a_mirror_is_named(mirror, tmp_path, monkeypatch, capsys, damage):
    monkeypatch.chdir(tmp_path)
    change_to = {"run": "r", "models": {"bicubic": {}}, "cells": [
        {"protocol": CLEAN, "datasets": ["set5"], "models": ["bicubic"]}]}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(change_to))
    entry = sets.get("set5")
    found = obtain.fetch(entry, tmp_path / "first", progress=False)
    for row, image in zip(sets.manifest(entry), found.images, strict=True):
        copy = tmp_path / "copy" / row.url.removeprefix("https://")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(image.path, copy)
    data = bytearray(copy.read_bytes())
    data[len(data) // 2] ^= 1
    copy.write_bytes(data if damage == "flip" else data[:-100])
    monkeypatch.setenv("IRBENCH_MIRROR", str(tmp_path / "copy"))
    assert cli.main(["data", "fetch", "set5"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    for part in (f"set5/{row.role}/{row.file}", row.url, row.sha256, "wrong content"):
        assert part in error
    record = evaluate("set5", CLEAN, "bicubic")
    assert record["status"] == "unavailable" and row.file in record["reason"]
    assert not list((tmp_path / "results").rglob("*_target*"))


@pytest.mark.parametrize("failures", [["reset"], ["reset halfway"], [500], ["truncated"], [500] * 9,
                                      ["reset"] * 9])
def test_a_bad_server_ends_in_a_retry_or_a_message(world, monkeypatch, capsys, failures):
    from irbench.data import transfer

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(transfer, "LONGEST_WAIT", 0.01)
    source = world.parent / "images" / "test" / "img0.png"
    for server in serve(Server()):
        server.files["/a.png"], server.plan["/a.png"] = source.read_bytes(), list(failures)
        (world.parent / "remote.csv").write_text(
            f"role,file,url,sha256,bytes\nhr,a.png,{server.url}/a.png,"
            f"{digests.file_digest(source)},{source.stat().st_size}\n")
        catalog = yaml.safe_load((world.parent / "datasets.yaml").read_text())
        catalog["datasets"]["remote"] = {"title": "R", "use": "test", "manifest": "remote.csv"}
        (world.parent / "datasets.yaml").write_text(yaml.safe_dump(catalog))
        code = cli.main(["data", "fetch", "remote"])
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert "; attempt 2 of 5 in " in error
    if len(failures) == 1:
        assert code == 0
        assert (world.parent / "data/remote/hr/a.png").read_bytes() == source.read_bytes()
    else:
        assert code == 2
        assert "(attempts: 5)" in error and "run the same command again" in error
