import json
import math

import numpy as np
import pytest
import torch
import yaml

from irbench import cli, datasets, plan, protocols, records
from irbench.errors import UserError
from irbench.training import data, loop, losses, recipe
from tests import tiny


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tiny.make(tmp_path)


def train(config):
    return cli.main(["train", "--config", str(config), "--protocol", "sr-x2", "--model", "tiny"])


def result(config):
    run = plan.load(config)
    return records.read(run.find("training", protocol="sr-x2", model="tiny").record)["result"]


def test_a_training_learns_and_is_recorded(world, capsys):
    assert train(world) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["status"] == "ok"
    got = result(world)
    assert got["steps"] == 12
    assert got["images_seen"] == 24
    assert got["curve"][-1]["step"] == 12
    assert all(math.isfinite(point["loss"]) for point in got["curve"])
    path = plan.load(world).folder / got["checkpoint"]["file"]
    assert records.file_digest(path) == got["checkpoint"]["sha256"]
    assert not list(path.parent.glob(".*"))
    assert not list(path.parent.parent.parent.glob("training/*/*.state"))


def test_two_trainings_give_the_same_bytes(world, tmp_path):
    train(world)
    first = result(world)
    run = plan.load(world)
    (run.folder / first["checkpoint"]["file"]).unlink()
    run.find("training", protocol="sr-x2", model="tiny").record.unlink()
    train(world)
    assert result(world)["checkpoint"] == first["checkpoint"]


@pytest.mark.parametrize("when", [1, 5, 8, 11])
def test_an_interrupted_training_ends_with_the_same_bytes(world, monkeypatch, when):
    train(world)
    whole = result(world)
    run = plan.load(world)
    run.find("training", protocol="sr-x2", model="tiny").record.unlink()

    make_batch = data.Patches.__call__

    def dies(self, step):
        if step == when:
            raise KeyboardInterrupt
        return make_batch(self, step)

    monkeypatch.setattr(data.Patches, "__call__", dies)
    assert train(world) == 130
    done = []
    monkeypatch.setattr(data.Patches, "__call__",
                        lambda self, step: done.append(step) or make_batch(self, step))
    assert train(world) == 0
    assert done[0] == when // 4 * 4  # continued from the last saved state, not from the start
    got = result(world)
    assert got["checkpoint"] == whole["checkpoint"]
    assert [(p["step"], p["loss"]) for p in got["curve"]] == [
        (p["step"], p["loss"]) for p in whole["curve"]]


def test_a_state_of_other_settings_or_a_damaged_one_is_not_continued(world, monkeypatch, capsys):
    train(world)
    whole = result(world)
    run = plan.load(world)
    job = run.find("training", protocol="sr-x2", model="tiny")
    job.record.unlink()
    job.record.with_suffix(".state").write_bytes(b"damaged")
    assert train(world) == 0
    assert "not readable" in capsys.readouterr().err
    assert result(world)["checkpoint"] == whole["checkpoint"]
    # a whole state, of another seed
    make_batch = data.Patches.__call__
    with monkeypatch.context() as patch:
        patch.setattr(data.Patches, "__call__", lambda self, step: (_ for _ in ()).throw(
            KeyboardInterrupt) if step == 9 else make_batch(self, step))
        config = yaml.safe_load(world.read_text())
        world.write_text(yaml.safe_dump({**config, "seed": 5}))
        job.record.unlink()
        assert train(world) == 130
        assert job.record.with_suffix(".state").exists()
    world.write_text(yaml.safe_dump(config))
    assert train(world) == 0
    assert "starting over" in capsys.readouterr().err
    assert result(world)["checkpoint"] == whole["checkpoint"]


def test_a_budget_in_seconds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tiny.make(tmp_path)
    config = yaml.safe_load(path.read_text())
    del config["models"]["tiny"]["training"]["steps"]
    config["models"]["tiny"]["training"]["seconds"] = 1
    path.write_text(yaml.safe_dump(config))
    assert train(path) == 0
    got = result(path)
    assert 1 <= got["seconds"] < 3
    assert got["steps"] > 1


def test_a_loss_that_is_no_number_stops_with_the_step(world, monkeypatch, capsys):
    def poisoned(self, step):
        return tuple(np.full((1, 3, n, n), np.nan if step == 3 else 0.5, np.float32)
                     for n in (8, 16))
    monkeypatch.setattr(data.Patches, "__call__", poisoned)
    assert train(world) == 2
    assert "the loss is nan at step 3" in capsys.readouterr().err
    assert not plan.load(world).find("training", protocol="sr-x2", model="tiny").record.exists()


def test_batches_depend_on_nothing_but_seed_and_step():
    protocol = protocols.get("denoise_color-sigma25")
    images = [tiny.photo(i, 40, 40) for i in range(2)]
    settings = {"patch": 16, "batch": 3}

    def make(seed=0):
        return data.Patches(images, ["a", "b"], protocol, settings, seed)
    inputs, targets = make()(5)
    assert inputs.shape == targets.shape == (3, 3, 16, 16)
    later = make()
    later(0)
    assert np.array_equal(later(5)[0], inputs)
    assert not np.array_equal(make(1)(5)[0], inputs)
    assert not np.array_equal(make()(6)[0], inputs)
    assert abs((inputs - targets).std() * 255 - 25) < 2


def test_patches_too_large_are_named():
    with pytest.raises(UserError, match="smaller than the patch of 16 pixels: b"):
        data.Patches([tiny.photo(0, 16, 16), tiny.photo(1, 15, 40)], ["a", "b"],
                     protocols.get("denoise_color-sigma25"), {"patch": 16, "batch": 1}, 0)


def test_losses_against_their_formulas():
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(2, 3, 8, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    d = (a - b).numpy()
    assert losses.l1(a, b).item() == pytest.approx(np.abs(d).mean())
    assert losses.charbonnier(a, b).item() == pytest.approx(np.sqrt(d**2 + 1e-6).mean())
    spectrum = np.fft.rfft2(d, norm="ortho")
    expected = np.abs(d).mean() + 0.1 * (np.abs(spectrum.real).mean()
                                         + np.abs(spectrum.imag).mean()) / 2
    assert losses.l1_fft(a, b, 0.1).item() == pytest.approx(expected)


def test_the_learning_rate_rises_then_falls_to_zero():
    settings = {"lr": 2.0, "warmup": 0.1}
    rates = [loop.learning_rate(settings, share) for share in np.linspace(0, 1, 101)]
    assert 0 < rates[0] < 0.05
    assert max(rates) == rates[10] == 2.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0, abs=1e-9)


def test_recipes_of_the_catalog_are_valid():
    for name in recipe.catalog():
        assert recipe.resolve({"recipe": name, "data": []}, "x")["recipe"] == name


def test_training_images_are_verified(world, capsys):
    run = plan.load(world)
    image = datasets.open_local(run.entry("tinytrain"), world.parent / "data").images[0]
    image.path.write_bytes(image.path.read_bytes()[:60])
    assert train(world) == 2
    assert image.path.name in capsys.readouterr().err
