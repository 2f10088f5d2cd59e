"""Every protocol of the catalog through the real path, from files to a record, on tiny images."""

import functools
import io

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from irbench import cli, plan
from irbench.catalog import protocols, recipes
from irbench.core import records
from irbench.core.errors import UserError
from irbench.imaging import degrade
from irbench.imaging.images import imresize, write_png
from irbench.jobs.training import data, loop
from irbench.models import registry
from tests.helpers import tiny, trainings

CATALOG = protocols.catalog()
SIZES = [(50, 61), (44, 40)]  # height, width; neither multiples of 16 nor even throughout
NAMES = ["one", "two"]
MODELS = {"sr": ["bicubic"], "demosaic": ["input", "malvar"]}  # other tasks: input alone


def models_of(protocol):
    return MODELS.get(protocol.task, ["input"])


CELLS = [(key, model) for key, protocol in CATALOG.items() for model in models_of(protocol)]


def clean(index):
    return tiny.photo(index, *SIZES[index])


def damaged(index):
    """Return the other image of a pair, unlike the clean one everywhere."""
    return (clean(index) * 0.6).astype(np.uint8) + 20


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with a clean and a paired set and a config of all protocols there are."""
    folder = tmp_path_factory.mktemp("every")
    for index, name in enumerate(NAMES):
        write_png(folder / "clean" / f"{name}.png", clean(index))
        write_png(folder / "pairs" / "target" / f"{name}.png", clean(index))
        write_png(folder / "pairs" / "input" / f"{name}.png", damaged(index))
    (folder / "datasets.yaml").write_text(yaml.safe_dump({"datasets": {
        "clean": {"title": "Clean", "use": "test", "local": {"folder": "clean"}},
        "pairs": {"title": "Pairs", "use": "test", "local": {
            "folder": "pairs", "hr": "target/*.png", "input": "input/*.png"}},
        "train_pairs": {"title": "Pairs", "use": "train", "local": {
            "folder": "pairs", "hr": "target/*.png", "input": "input/*.png"}}}}))
    (folder / "config.yaml").write_text(yaml.safe_dump({
        "run": "every", "catalog_paths": [str(folder)], "metrics": ["psnr", "ssim"],
        "keep_images": True, "device": "cpu", "models": {"input": {}, "bicubic": {}, "malvar": {}},
        "cells": [{"protocol": key, "datasets": [set_of(protocol)], "models": models_of(protocol)}
                  for key, protocol in CATALOG.items()]}))
    return folder


def set_of(protocol):
    return "pairs" if protocol.paired else "clean"


# -- the same numbers by other means -----------------------------------------------------------

def target_of(protocol, index):
    """Return the clean image as the protocol's text describes it."""
    image = clean(index)
    if protocol.id == "weather-mixed@1":
        size = tuple(-(-side // 16) * 16 for side in image.shape[:2])
        return np.asarray(Image.fromarray(image).resize(size[::-1], Image.LANCZOS))
    if protocol.color == "gray" and protocol.gray == "full_range":    # 15 bits, as OpenCV
        return ((image.astype(int) @ [9798, 19235, 3735] + 2**14) >> 15).astype(np.uint8)[..., None]
    if protocol.color == "gray":
        return np.round(y_of(image)).astype(np.uint8)[..., None]
    scale = protocol.scale
    return image[:image.shape[0] // scale * scale, :image.shape[1] // scale * scale]


def y_of(image):
    red, green, blue = np.moveaxis(image.astype(float), -1, 0)
    return 16 + (65.481 * red + 128.553 * green + 24.966 * blue) / 255


def input_of(protocol, index):
    """Return the input by a few lines of its own, uint8; None where there are none here.

    Those without: bicubic and Malvar have tests of their own, the synthetic kinds are defined by
    nothing but their code.
    """
    target, kind = target_of(protocol, index), protocol.degradation["kind"]
    if kind == "paired":
        picture = Image.fromarray(damaged(index))
        return np.asarray(picture.resize(target.shape[1::-1], Image.LANCZOS))
    if kind == "gaussian_noise":
        np.random.seed(0)
        noise = np.random.normal(0, protocol.degradation["sigma"], target.shape)
        return np.clip(np.round(target + noise), 0, 255).astype(np.uint8)
    if kind == "jpeg":
        buffer = io.BytesIO()
        Image.fromarray(target.squeeze()).save(buffer, "JPEG",
                                               quality=protocol.degradation["quality"])
        return np.asarray(Image.open(buffer)).reshape(target.shape)
    return None


def psnr_of(restored, target, protocol):
    """Return PSNR by its definition under a protocol's colour, rounding and crop."""
    restored, target = (image.astype(float) for image in (restored, target))
    if protocol.metric.color == "y":
        restored, target = y_of(restored), y_of(target)
        if protocol.metric.y_rounded:
            restored, target = np.round(restored), np.round(target)
    crop = protocol.metric.crop
    rows, columns = (slice(crop, side - crop) for side in target.shape[:2])
    return 10 * np.log10(255**2 / np.mean((restored[rows, columns] - target[rows, columns]) ** 2))


def read(path):
    image = np.asarray(Image.open(path))
    return image[..., None] if image.ndim == 2 else image


# -- the tests -----------------------------------------------------------------------------------

@pytest.mark.parametrize(("key", "model"), CELLS)
def test_a_protocol_from_files_to_a_record(world, monkeypatch, key, model):
    monkeypatch.chdir(world)
    protocol, name = CATALOG[key], set_of(CATALOG[key])
    assert cli.main(["eval", "--protocol", key, "--dataset", name, "--model", model]) == 0
    record = records.read(world / f"results/every/cells/{key}/{name}/{model}.json")
    assert record["status"] == "ok"
    images = record["result"]["images"]
    assert [image["name"] for image in images] == NAMES
    for index, image in enumerate(images):
        target = target_of(protocol, index)
        assert [image["height"], image["width"]] == list(target.shape[:2])
        folder = world / f"results/every/images/{key}/{name}"
        restored = read(world / "results/every" / image["file"])
        assert np.array_equal(read(folder / "_target" / f"{NAMES[index]}.png"), target)
        expected = input_of(protocol, index)
        if expected is not None:
            assert np.array_equal(restored, expected)
        if protocol.scale == 1:
            assert np.array_equal(restored, read(folder / "_input" / f"{NAMES[index]}.png"))
        assert image["psnr"] == pytest.approx(psnr_of(restored, target, protocol), abs=1e-6)
        assert 5 < image["psnr"] < 60
        assert 0 < image["ssim"] < 1
    for metric in ("psnr", "ssim"):
        assert record["result"]["mean"][metric] == pytest.approx(
            sum(image[metric] for image in images) / 2)


@pytest.mark.parametrize("key", [key for key, protocol in CATALOG.items() if protocol.synthetic])
def test_the_name_of_an_image_seeds_its_synthetic_weather(world, monkeypatch, key):
    monkeypatch.chdir(world)
    cli.main(["eval", "--protocol", key, "--dataset", "clean", "--model", "input"])
    for index, name in enumerate(NAMES):
        kept = read(world / f"results/every/images/{key}/clean/_input/{name}.png") / 255
        made = functools.partial(degrade.degrade, clean(index), CATALOG[key])
        assert np.abs(made(name=name) - kept).max() < 1e-6
        assert np.abs(made(name="other") - kept).max() > 0.01


def assert_pairs(inputs, targets):
    """Each input is what ``damaged`` makes of its target: cut and turned alike, and not swapped."""
    assert np.abs(inputs - (0.6 * targets + 20 / 255)).max() < 3 / 255
    assert np.ptp(targets) > 0.3


@pytest.mark.parametrize("key", CATALOG)
def test_a_protocol_gives_training_batches(key):
    protocol = CATALOG[key]
    targets = [degrade.prepare_target(clean(i), protocol) for i in range(2)]
    inputs = None
    if protocol.paired:
        inputs, targets = zip(*(degrade.align_pair(damaged(i), clean(i), protocol)
                                for i in range(2)), strict=True)
    elif protocol.task == "sr":     # known beforehand, of the whole image
        inputs = [imresize(target, 1 / protocol.scale) for target in targets]
    resolved = recipes.resolve({"recipe": "demo", "data": ["set"], "holdout": 0, "patch": 24}, "")
    patches = data.Patches([data.Source("set", trainings.Held(targets, NAMES),
                                        inputs and trainings.Held(inputs, NAMES))],
                           protocol, resolved, 0)

    def batch(step):
        return [np.stack(part) for part in zip(*(patches.sample(step, i, 24) for i in range(3)),
                                               strict=True)]
    side = 24 // protocol.scale
    inputs, targets = batch(4)
    assert inputs.shape == (3, protocol.channels, side, side)
    assert targets.shape == (3, protocol.channels, 24, 24)
    assert inputs.dtype == targets.dtype == np.float32
    if protocol.paired:
        assert_pairs(inputs, targets)
    else:
        assert not np.array_equal(inputs, batch(5)[0])
    assert np.array_equal(inputs, batch(4)[0])


def test_a_model_trains_on_pairs(world, monkeypatch):
    monkeypatch.chdir(world)
    (world / "plugin.py").write_text(tiny.PLUGIN.replace('"jpeg_gray"]', '"deblur"]'))
    config = yaml.safe_load((world / "config.yaml").read_text())
    config["run"], config["plugins"] = "trained", [str(world / "plugin.py")]
    config["models"] = {"tiny": {"training": {
        "recipe": "demo", "data": ["train_pairs"], "steps": 3, "patch": 16, "batch": 2,
        "holdout": 0}}}
    config["cells"] = [{"protocol": "deblur-motion", "datasets": ["pairs"], "models": ["tiny"]}]
    (world / "trained.yaml").write_text(yaml.safe_dump(config))
    command = ["train", "--config", "trained.yaml", "--protocol", "deblur-motion", "--model",
               "tiny"]
    given, wanted = [], []

    class Seen(torch.nn.Module):
        """A model that keeps what it is given."""

        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, x):
            given.append(x)
            return self.model(x)

    build, make = loop.loading.build, loop.losses.make
    monkeypatch.setattr(loop.loading, "build", lambda *a: Seen(build(*a)))
    monkeypatch.setattr(loop.losses, "make", lambda recipe: lambda out, target: (
        wanted.append(target), make(recipe)(out, target))[1])
    assert cli.main(command) == 0
    run = plan.load("trained.yaml")
    job = run.find("training", protocol="deblur-motion", model="tiny")
    assert records.read(job.record)["result"]["steps"] == 3
    assert len(given) == len(wanted) == 3
    for inputs, targets in zip(given, wanted, strict=True):
        assert_pairs(inputs.numpy(), targets.numpy())


def test_a_pair_of_two_sizes_is_named_in_training():
    class Image:
        name = "b"

        def __init__(self, pixels):
            self.load = lambda: pixels

    class Pairs:
        name = "set"
        pairs = staticmethod(lambda: [(Image(clean(1)), Image(clean(0)))])

    with pytest.raises(UserError, match="set/b: the input is 44x40 pixels"):
        list(data._of_pairs(Pairs, CATALOG["deblur-motion@1"], 0))


def test_every_protocol_has_a_model_without_weights_and_one_that_learns():
    cards = registry.cards().values()
    for protocol in CATALOG.values():
        able = [card for card in cards if card.can(protocol.task, protocol.level, protocol.scale)]
        assert {card.learned for card in able} == {True, False}, protocol.id
