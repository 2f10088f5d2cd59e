"""A training that learns from a teacher: its images, patches of them, the loss, the record."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml

from irbench import cli, plan
from irbench.catalog import peers, protocols, recipes
from irbench.catalog.model import Model, teacher_of
from irbench.core import records
from irbench.core.errors import Paused, UserError
from irbench.imaging.images import to_float
from irbench.jobs.training import data, losses, teacher
from irbench.weights import loading, storage
from tests.helpers import trainings
from tests.helpers.trainings import again, job, outcome, result, stop_after, train

TEACHER = {"model": "master", "weight": 0.25}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    from accelerate.state import AcceleratorState

    monkeypatch.chdir(tmp_path)
    yield tmp_path
    AcceleratorState._reset_state(reset_partial_state=True)


def taught(folder, **recipe):
    """Write a config with a training and its teacher, the same network with weights of its own."""
    config = trainings.make(folder, **{"teacher": TEACHER, **recipe})
    value = yaml.safe_load(config.read_text())
    value["models"]["master"] = {"arch": "thin", "checkpoint": "m.safetensors", "title": "Master",
                                 "options": {"noise": 0.01}}
    config.write_text(yaml.safe_dump(value))
    torch.manual_seed(3)
    model, protocol = Model("thin", "thin", options={"noise": 0.01}), protocols.get("sr-x2")
    network = loading.build(model, protocol, (str(folder / "tiny_model.py"),))
    loading.save(folder / "m.safetensors", network.state_dict(), model, protocol)
    return config, network


def loaded(config, stop=lambda: False):
    run = plan.load(config)
    patches = data.load(run, job(config), run.scopes["sr-x2@1/thin"])
    teacher.teach(patches, run, job(config), stop=stop)
    return patches


# -- its images ----------------------------------------------------------------------------------

def test_it_restores_each_image_once_and_whole(folder, monkeypatch):
    config, network = taught(folder, holdout=1)
    patches = loaded(config)
    assert len(patches.images) == len(patches.taught) == 2
    for source, i in patches.images:
        x = torch.from_numpy(to_float(source.inputs[i])).permute(2, 0, 1)[None]
        with torch.inference_mode():
            expected = network(x)[0].permute(1, 2, 0).numpy()
        image = patches.taught[source.name(i)]
        assert isinstance(image, np.memmap) and image.dtype == np.float16
        assert image.shape == source.targets[i].shape
        assert np.allclose(image, expected, atol=1e-3)
    home, = (folder / "data" / "teachers").iterdir()
    files = sorted(home.iterdir())
    assert [path.suffix for path in files] == [".f16"] * 2
    assert not (home.name.startswith("."))

    # a second training needs neither its network nor its file; what is damaged is made again
    with monkeypatch.context() as patch:
        patch.setattr(teacher, "_network", None)
        again_ = loaded(config)
    name = patches.images[0][0].name(patches.images[0][1])
    image = np.array(patches.taught[name])
    assert np.array_equal(again_.taught[name], image)
    whole = [path.read_bytes() for path in files]
    files[0].write_bytes(whole[0][:-1] + bytes([whole[0][-1] ^ 1]))
    files[1].write_bytes(whole[1][:-2])
    loaded(config)
    assert [path.read_bytes() for path in files] == whole
    # a process that prepares data maps the files itself
    copied = pickle.loads(pickle.dumps(again_.taught))
    assert np.array_equal(copied[name], image)
    assert len(pickle.dumps(again_.taught)) < 2000


def test_interrupted_it_goes_on_with_the_next_image(folder, monkeypatch):
    config, _ = taught(folder)
    restore, asked = teacher._restored, []

    def dying(*words):
        asked.append(words[-1])
        if len(asked) == 2:
            raise KeyboardInterrupt
        return restore(*words)
    monkeypatch.setattr(teacher, "_restored", dying)
    with pytest.raises(KeyboardInterrupt):
        loaded(config)
    loaded(config)
    one, two, three = dict.fromkeys(asked)
    assert asked == [one, two, two, three]


def test_out_of_time_it_keeps_the_images_so_far(folder, capsys):
    config, _ = taught(folder)
    assert train(config, "--max-minutes", "1e-9") == 3
    assert "stopped after the teacher restored 0 of 3 images; they are kept, the same command" in (
        capsys.readouterr().err)
    asked = []
    with pytest.raises(Paused, match="restored 2 of 3 images"):
        loaded(config, lambda: asked.append(1) or len(asked) == 3)
    assert len(list((folder / "data" / "teachers").rglob("*.f16"))) == 2
    assert train(config) == 0
    assert loaded(config, lambda: True).taught      # nothing is left to restore


def test_other_weights_options_or_ways_to_run_have_images_of_their_own(folder):
    config, _ = taught(folder)
    run = plan.load(config)
    protocol, model = run.scopes["sr-x2@1/thin"], teacher_of(job(config).model.training)
    usual = teacher.folder_of(run, model, protocol)
    for other in (replace(model, checkpoint=replace(model.checkpoint, sha256="0" * 64)),
                  replace(model, options={"noise": 0.5}),
                  replace(model, inference=replace(model.inference, self_ensemble=True))):
        assert teacher.folder_of(run, other, protocol) != usual
    assert teacher.folder_of(run, model, protocols.get("sr-x4")) != usual
    assert teacher.folder_of(run, replace(model, title="x", checkpoint=replace(
        model.checkpoint, path="elsewhere")), protocol) == usual


def test_images_of_a_wrong_size_or_beyond_half_precision_are_refused(folder, monkeypatch):
    config, _ = taught(folder)
    for change, message in ((lambda y: y[..., :-1], "whose target is"),
                            (lambda y: y + 1e5, "values that are not finite in float16")):
        class Odd:
            def __init__(self, change):
                self.change = change

            def __call__(self, x):
                return self.change(torch.nn.functional.interpolate(x, scale_factor=2))
        monkeypatch.setattr(teacher, "_network", lambda *_, change=change: Odd(change))
        with pytest.raises(UserError, match=message):
            loaded(config)


# -- patches and the loss ------------------------------------------------------------------------

def test_a_patch_of_its_image_is_the_targets_place_and_symmetry(folder):
    config, _ = taught(folder)
    patches = loaded(config)
    without = [patches.sample(step, 0, 16)[:2] for step in range(40)]
    # in place of the teacher's images the targets: the patches must be equal
    patches.taught = {source.name(i): to_float(source.targets[i]).astype(np.float16)
                      for source, i in patches.images}
    for step in range(40):
        degraded, target, same = patches.sample(step, 0, 16)
        assert same.dtype == np.float32 and same.flags.c_contiguous
        assert np.allclose(same, target, atol=1e-3)
        # and without a teacher the sample is the same
        assert np.array_equal(degraded, without[step][0])
        assert np.array_equal(target, without[step][1])


def test_the_loss_is_shared_between_target_and_teacher():
    generator = torch.Generator().manual_seed(0)
    a, b, c = (torch.rand(2, 3, 8, 8, generator=generator) for _ in range(3))
    for name in ("l1", "l1_fft", "charbonnier"):
        alone = recipes.resolve({"recipe": "demo", "loss": name}, "x")
        both = replace(alone, teacher={"model": "t", "weight": 0.25})
        assert losses.make(both)(a, b, c).item() == pytest.approx(
            0.75 * losses.make(alone)(a, b).item() + 0.25 * (a - c).abs().mean().item())


# -- a training ----------------------------------------------------------------------------------

def test_it_is_recorded_and_the_same_after_a_stop(folder, monkeypatch, capsys):
    config, _ = taught(folder, loss="l1_fft", accumulate=2, workers=1)
    assert train(config) == 0
    whole, facts = outcome(config), result(config)["teacher"]
    digest = teacher_of(job(config).model.training).checkpoint.sha256
    assert facts == {"title": "Master", "sha256": digest, "weight": 0.25}
    again(config)
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        assert train(config) == 3
    assert train(config) == 0
    assert outcome(config) == whole
    path = plan.load(config).folder / result(config)["checkpoint"]["file"]
    header = storage.read_header(path)
    assert header["teacher"] == facts
    assert str(folder) not in str(header) and "m.safetensors" not in str(header)
    capsys.readouterr()
    assert cli.main(["checkpoints", "show", str(path)]) == 0
    assert f"distilled from Master (SHA-256 {digest}), weight 0.25 of the loss" in (
        capsys.readouterr().out)
    # without it, it is another training with other weights
    trainings.change(config, teacher=None)
    assert train(config) == 0
    assert result(config)["checkpoint"] != whole["checkpoint"] and "teacher" not in result(config)


def test_its_row_says_what_it_was_distilled_from(folder):
    config, _ = taught(folder)
    assert train(config) == 0
    assert cli.main(["eval", "--config", str(config), "--protocol", "sr-x2", "--dataset",
                     "tinyset", "--model", "thin"]) == 0
    from irbench.report import collect
    from irbench.report.tables import tables

    run = plan.load(config)
    table, = tables.build(collect.collect(run.folder, run.report_spec))
    row, = table.measured
    assert "distilled from Master" in [table.notes[mark] for mark in row.heads[0].marks]


@pytest.mark.slow
def test_a_published_model_teaches_through_spandrel(folder, monkeypatch):
    import os

    if not os.environ.get("IRBENCH_MIRROR"):
        pytest.skip("the weights of DCTLSA are fetched from a mirror")
    config = trainings.make(folder, teacher={"model": "dctlsa", "weight": 0.5}, steps=2)
    assert train(config) == 0
    record = records.read(job(config).record)
    assert record["result"]["teacher"] == {
        "title": "DCTLSA", "weight": 0.5, "sha256": peers.catalog()["dctlsa"].sha256["x2"]}
    patches = loaded(config)
    for source, i in patches.images:
        difference = patches.taught[source.name(i)] - to_float(source.targets[i])
        assert np.abs(difference).mean() < 0.05     # it restores them, with borders and all
