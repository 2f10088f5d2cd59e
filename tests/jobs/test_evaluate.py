"""One way for sets of clean images and of pairs, and what a broken image does to a cell."""

import contextlib
import itertools
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from irbench import plan
from irbench.catalog.model import Inference
from irbench.core import records
from irbench.core.errors import Unavailable, UserError
from irbench.data import obtain
from irbench.imaging import degrade, metrics
from irbench.imaging.images import read_image, to_uint8, write_png
from irbench.inference import tiling
from irbench.jobs import evaluate
from irbench.jobs.cells import images
from irbench.jobs.result import RunSettings, record_of
from irbench.models import registry
from irbench.models.semanir import semanir_light
from tests.helpers import tiny


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tiny.make(tmp_path)


def run(config, key="sr-x2@2/tinyset/bicubic", **options):
    """Evaluate a cell of a config; return its result."""
    planned = plan.load(config)
    return evaluate.run(planned, planned.cells[key], RunSettings(**options))


PAIRED = "deblur-motion@1/blurred/input"
# input -> its target: named so that neither order is the other's, and two share a target
INPUTS = {"1_img2": "img2", "2_img1": "img1", "3_img0": "img0", "4_img2": "img2"}


@pytest.fixture
def paired(tmp_path, monkeypatch):
    """The config of a cell on pairs: the input as it is, under the protocol of motion blur."""
    monkeypatch.chdir(tmp_path)
    config = tiny.make(tmp_path, models={"input": {}}, cells=[
        {"protocol": "deblur-motion", "datasets": ["blurred"], "models": ["input"]}])
    for i, (name, target) in enumerate(INPUTS.items()):
        image = read_image(tmp_path / "images" / "test" / f"{target}.png").astype(int) - 20 - i
        write_png(tmp_path / "images" / "blurred" / f"{name}.png",
                  np.clip(image, 0, 255).astype(np.uint8))
    catalog = yaml.safe_load((tmp_path / "datasets.yaml").read_text())
    catalog["datasets"]["blurred"] = {
        "title": "Blurred", "use": "test", "match": {"input": r"^\d_"},
        "local": {"folder": "images", "hr": "test/*.png", "input": "blurred/*.png"}}
    (tmp_path / "datasets.yaml").write_text(yaml.safe_dump(catalog))
    return config


# -- results -----------------------------------------------------------------------------------

def test_a_cell_is_its_steps_one_by_one(world):
    found = run(world)
    protocol = plan.load(world).protocols["sr-x2@2"]
    scorer = metrics.Scorer(protocol, ("psnr", "ssim"))
    model = registry.get("bicubic").load()("sr", 2, 3)
    assert [image["name"] for image in found.result["images"]] == ["img0", "img1", "img2"]
    for image in found.result["images"]:
        target = degrade.prepare_target(
            read_image(world.parent / "images" / "test" / f"{image['name']}.png"), protocol)
        restored = to_uint8(evaluate.forward(model, degrade.degrade(target, protocol)))
        assert {k: image[k] for k in ("psnr", "ssim")} == scorer(restored, target)
        assert (image["height"], image["width"]) == target.shape[:2]
    assert found.result["mean"]["psnr"] == pytest.approx(
        np.mean([image["psnr"] for image in found.result["images"]]))


def test_phases_are_there_and_add_up_to_no_more_than_the_whole(world, monkeypatch):
    # a clock that ticks once a question: a phase takes one tick each time it is entered
    ticks = map(float, itertools.count())
    monkeypatch.setattr(records, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    seconds = run(world, keep_images=True).seconds
    assert seconds == {"load": 4.0, "forward": 3.0, "score": 3.0, "write": 3.0}


def test_the_time_left_of_a_cell_goes_by_pixels(world, monkeypatch):
    write_png(world.parent / "images/test/img1.png", tiny.photo(1, 96, 90))
    shown, track = [], images.messages.track

    def spy(items, title, total, start=0, pictures=()):
        shown.extend(pictures)
        return track(items, title, total, start, pictures)

    monkeypatch.setattr(images.messages, "track", spy)
    run(world, progress=True)
    sizes = {name: read_image(world.parent / f"images/test/{name}.png").shape
             for name in ("img0", "img1", "img2")}
    assert shown == [(name, size[0] * size[1]) for name, size in sizes.items()]
    assert dict(shown)["img1"] == 96 * 90


def test_the_same_cell_twice_has_the_same_result(world):
    first, second = run(world), run(world, threads=2)
    assert first.result == second.result
    assert first.resolved == second.resolved


def test_the_name_of_an_image_reaches_the_degradation(world, monkeypatch):
    names, real = [], degrade.through_steps

    def spy(target, protocol, rng=None, name=""):
        names.append(name)
        return real(target, protocol)

    monkeypatch.setattr(degrade, "through_steps", spy)
    run(world)
    assert names == ["img0", "img1", "img2"]


# -- pairs -------------------------------------------------------------------------------------

def test_pairs_are_scored_against_their_own_targets(paired):
    found = run(paired, PAIRED, keep_images=True)
    images, folder = found.result["images"], paired.parent
    assert [image["name"] for image in images] == list(INPUTS)
    for image in images:
        given = read_image(folder / "images" / "blurred" / f"{image['name']}.png")
        target = read_image(folder / "images" / "test" / f"{INPUTS[image['name']]}.png")
        assert image["psnr"] == metrics.psnr(given, target)
        assert image["ssim"] == metrics.ssim(given, target, "gaussian11_3d")
        kept = folder / "results" / "tiny" / image["file"]
        beside = kept.parents[1]
        for path, expected in ((kept, given), (beside / "_input" / kept.name, given),
                               (beside / "_target" / kept.name, target)):
            assert np.array_equal(read_image(path), expected)
    assert found.result["mean"]["psnr"] == pytest.approx(np.mean([i["psnr"] for i in images]))


def test_a_pair_of_two_sizes_names_both_files(paired):
    write_png(paired.parent / "images" / "blurred" / "2_img1.png", tiny.photo(0, 24, 30))
    with pytest.raises(Unavailable, match=r"2_img1\.png with .*/img1\.png: .* is 24x30 .*31x26"):
        run(paired, PAIRED)


def test_an_input_without_a_target_leaves_no_mean(paired):
    (paired.parent / "images" / "test" / "img0.png").unlink()
    with pytest.raises(Unavailable, match="3_img0"):
        run(paired, PAIRED)


@pytest.mark.parametrize("broken", ["blurred/2_img1.png", "test/img1.png"])
def test_the_broken_file_of_a_pair_is_named(paired, broken):
    (paired.parent / "images" / broken).write_bytes(b"no image")
    with pytest.raises(Unavailable, match=rf"{broken}: not an image") as error:
        run(paired, PAIRED)
    assert str(error.value).count(".png") == 1
    # the folder of the catalog is absolute, and a record contains nothing specific to this machine
    assert str(paired.parent) not in str(error.value)
    # set, folder and file; a folder that has the set's name is not said twice
    named = {"test/img1.png": "blurred/test/img1.png"}.get(broken, broken)
    assert PAIRED.split("/")[1] == "blurred" and str(error.value).startswith(f"{named}: ")


# -- broken images -----------------------------------------------------------------------------

@pytest.mark.parametrize("damage, reason", [
    (lambda path: path.write_bytes(path.read_bytes()[:90]), "the image is truncated or broken"),
    (lambda path: path.write_bytes(b"no image"), "not an image file"),
    (lambda path: path.unlink(), "No such file"),
])
def test_a_broken_image_in_the_middle_ends_the_cell_with_its_name(world, damage, reason,
                                                                  monkeypatch):
    planned = plan.load(world)
    victim = world.parent / "images" / "test" / "img1.png"
    if reason == "No such file":  # gone after the set was opened
        data = obtain.obtain(planned.entry("tinyset"), planned.config["data_root"])
        monkeypatch.setattr(obtain, "obtain", lambda *_: data)
    damage(victim)
    if reason != "No such file":
        planned = plan.load(world)
    with pytest.raises(Unavailable, match=rf"img1\.png: {reason}"):
        evaluate.run(planned, planned.cells["sr-x2@2/tinyset/bicubic"])
    assert not list(world.parent.glob("results/**/*.json"))


def test_an_image_that_is_too_small_is_named(world):
    write_png(world.parent / "images" / "test" / "small.png", tiny.photo(0, 3, 3))
    with pytest.raises(UserError, match=r"small\.png: the image is 3x3 pixels"):
        run(world)


def test_a_defect_of_a_model_names_the_image_in_its_traceback(world, monkeypatch):
    forward = evaluate.forward

    def fail(network, degraded, device, seed):
        if degraded.shape[0] == 15:  # of img1
            raise RuntimeError("shapes do not fit")
        return forward(network, degraded, device, seed)

    monkeypatch.setattr(evaluate, "forward", fail)
    with pytest.raises(RuntimeError, match="shapes do not fit") as error:
        run(world)
    assert any("img1.png" in note for note in error.value.__notes__)


def test_values_that_are_not_finite_name_the_image(world, monkeypatch):
    monkeypatch.setattr(evaluate, "forward",
                        lambda *_: np.full((24, 30, 3), np.nan, np.float32))
    with pytest.raises(UserError, match=r"^model bicubic returned NaN.* image .*img0\.png\.$"):
        run(world)


def test_a_record_is_json(world):
    job = plan.load(world).cells["sr-x2@2/tinyset/bicubic"]
    text = json.dumps(record_of(job, run(world)), allow_nan=False)
    assert json.loads(text)["status"] == "ok"


# -- how the model is run ----------------------------------------------------------------------

def given(config, network=None, key="sr-x2@2/tinyset/bicubic", monkeypatch=None, **options):
    """Evaluate a cell with inference options, with another network in place of the model's."""
    planned = plan.load(config)
    job = planned.cells[key]
    job = replace(job, model=replace(job.model, inference=Inference(**options)))
    if network is not None:
        monkeypatch.setattr(evaluate.loading, "ready", lambda *_: (network, None))
    return evaluate.run(planned, job)


def test_by_default_images_are_whole_and_in_float32(world):
    result = run(world).result
    assert result["inference"] == Inference().as_dict()
    assert result["tiling"] is None and result["dictionary"] is None
    assert [image["tiles"] for image in result["images"]] == [1, 1, 1]


def test_tiles_are_in_the_record(world):
    whole = run(world).result
    result = given(world, tile=13, overlap=6).result  # inputs of 12x15, 15x13 and 14x14
    assert result["inference"]["tile"] == 13
    assert [image["tiles"] for image in result["images"]] == [2, 2, 4]
    assert result["tiling"]["size"] == [13, 13] and result["tiling"]["overlap"] == 6
    assert result["tiling"]["images"] == 3 and not result["tiling"]["exact"]
    assert result["tiling"]["reason"].startswith("tiles of 13 were asked for; differs from the")
    # bicubic reaches two pixels: three on either side of a seam hide it, but in the rounding
    assert result["mean"]["psnr"] == pytest.approx(whole["mean"]["psnr"], abs=0.3)


def test_memory_that_runs_out_is_in_the_record(world, monkeypatch):
    class Limited(registry.get("bicubic").load()("sr", 2, 3).__class__):
        def forward(self, x):
            if x.shape[-1] * x.shape[-2] > 100:
                raise torch.OutOfMemoryError("no memory")
            return super().forward(x)

    monkeypatch.setattr(tiling, "SMALLEST", 6)
    result = given(world, Limited(2), monkeypatch=monkeypatch).result
    assert all(image["tiles"] > 1 for image in result["images"])
    assert result["tiling"]["images"] == 3
    assert "memory ran out at the whole of 12 x 15 pixels" in result["tiling"]["reason"]
    monkeypatch.setattr(tiling, "SMALLEST", 64)
    with pytest.raises(Unavailable, match=r"img0\.png: out of memory at 12x15 pixels"):
        given(world, Limited(2), monkeypatch=monkeypatch)
    with pytest.raises(Unavailable, match=r"img0\.png: out of memory at 12x15 pixels"):
        given(world, Limited(2), monkeypatch=monkeypatch, tile="off")


def test_the_dictionaries_of_the_first_image_are_in_the_record(world, monkeypatch):
    network = semanir_light("sr", 2, 3, window=4, k=6, stages=2, layers=1, width=12).eval()
    result = given(world, network, monkeypatch=monkeypatch).result
    assert [entry["n"] for entry in result["dictionary"]] == [16, 16]
    assert all(entry["k"] == 6 and 0 < entry["used"] <= 1 for entry in result["dictionary"])
    tiled = given(world, network, monkeypatch=monkeypatch, tile=8, overlap=4).result
    assert len(tiled["dictionary"]) == 2 and tiled["tiling"]["images"] == 3


def test_a_network_tells_facts_of_its_own(world, monkeypatch, capsys):
    class Telling(registry.get("bicubic").load()("sr", 2, 3).__class__):
        def diagnose(self):
            return contextlib.nullcontext([{"stage": "all of it", "n": 4, "open": 0.5}])

        def diagnosis_in_words(self, facts):
            return f"half of {facts[0]['n']} gates are open"

    result = given(world, Telling(2), monkeypatch=monkeypatch).result
    assert result["dictionary"] == [{"stage": "all of it", "n": 4, "open": 0.5}]
    assert "half of 4 gates are open (first image)" in capsys.readouterr().err


def test_a_type_that_the_model_does_not_run_in_is_refused(world):
    with pytest.raises(UserError, match="this model does not run in dtype 'bfloat16'"):
        given(world, dtype="bfloat16")


def test_bfloat16_moves_a_cell_a_little(world, monkeypatch):
    planned = plan.load(world)
    job = planned.cells["sr-x2@2/tinyset/bicubic"]
    light = replace(job.model, arch="semanir-light")  # whose card has the type
    means = []
    for dtype in ("float32", "bfloat16"):
        network = semanir_light("sr", 2, 3, window=4, k=16, stages=1, layers=1, width=12).eval()
        monkeypatch.setattr(evaluate.loading, "ready", lambda *_, n=network: (n, None))
        model = replace(light, inference=Inference(dtype=dtype))
        found = evaluate.run(planned, replace(job, model=model)).result
        assert found["inference"]["dtype"] == dtype
        means.append(found["mean"]["psnr"])
    assert 0 < abs(means[0] - means[1]) < 2  # at 56 dB 8 bits of mantissa are seen


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_threads_change_no_value_and_no_byte(world, workers):
    kept = []
    for one in (0, workers):
        for path in world.parent.glob("results/**/*.png"):
            path.unlink()
        found = run(world, keep_images=True, workers=one).result
        kept.append((found, {path.name + path.parent.name: path.read_bytes()
                             for path in world.parent.glob("results/**/*.png")}))
    assert kept[0] == kept[1]
    assert len(kept[0][1]) == 3 * len(kept[0][0]["images"])


@pytest.mark.parametrize("workers", [1, 3])
def test_an_error_in_a_thread_names_its_image(world, workers):
    write_png(world.parent / "images" / "test" / "small.png", tiny.photo(0, 3, 3))
    with pytest.raises(UserError, match=r"small\.png: the image is 3x3 pixels"):
        run(world, workers=workers)


def test_how_many_threads_suit_a_job():
    four = RunSettings(threads=4)
    assert [four.workers_beside("cuda"), four.workers_beside("cpu"),
            four.workers_beside("cpu", network=False)] == [4, 0, 3]
    assert RunSettings().workers_beside("cpu", network=False) == 0
    assert RunSettings(workers=2).workers_beside("cpu") == 2
