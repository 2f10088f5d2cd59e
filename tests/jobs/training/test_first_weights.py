"""A training that begins with the weights of a file: what is taken, what it records."""

import copy
import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

from irbench import cli, plan
from irbench.catalog import protocols
from irbench.catalog.model import Checkpoint, Model
from irbench.core import digests, headers
from irbench.core.errors import Unavailable, UserError
from irbench.weights import first, loading, storage
from tests.helpers import trainings
from tests.helpers.trainings import again, job, outcome, result, stop_after, train

SCALED = ["last.bias", "last.weight"]   # of the test's network: they depend on the scale


@pytest.fixture
def folder(tmp_path, monkeypatch):
    from accelerate.state import AcceleratorState

    monkeypatch.chdir(tmp_path)
    yield tmp_path
    AcceleratorState._reset_state(reset_partial_state=True)


def thin(folder, scale=2):
    """The test's network and the model of the plan that it belongs to."""
    config = trainings.make(folder)
    protocol = protocols.get(f"sr-x{scale}")
    model = Model("thin", "thin", options={"noise": 0.01})
    return loading.build(model, protocol, tuple(plan.load(config).config["plugins"])), model


def file(path, digest=None):
    return Checkpoint("file", path=str(path), sha256=digest or digests.file_digest(path))


def begin(network, path):
    return first.begin(network, file(path), "thin", "data")


# -- what is taken -------------------------------------------------------------------------------

def test_tensors_of_the_same_name_and_shape_are_taken_and_the_others_stay(folder):
    other, model = thin(folder, 4)
    loading.save(folder / "x4.safetensors", {n: v.half() for n, v in other.state_dict().items()},
                 model, protocols.get("sr-x4"), datasets=[{"name": "a", "sha256": "1" * 64}],
                 exclude={"a": ["i"]})
    network, _ = thin(folder)
    before = copy.deepcopy(network.state_dict())
    found = begin(network, folder / "x4.safetensors")
    given = {n: v.half().float() for n, v in other.state_dict().items()}
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name] if name in SCALED else given[name])
        assert value.dtype == torch.float32
    assert found.facts == {"sha256": digests.file_digest(folder / "x4.safetensors"),
                           "of": "thin for sr-x4@2", "taken": 4, "new": SCALED, "left": SCALED,
                           "data_known": True}
    assert (found.datasets, found.exclude) == ([{"name": "a", "sha256": "1" * 64}], {"a": ["i"]})
    assert headers.begun(found.facts) == (
        f"4 of 6 tensors of thin for sr-x4@2 (SHA-256 {found.facts['sha256'][:12]}); "
        "new: last.bias, last.weight; not used: last.bias, last.weight")


def test_a_foreign_file_with_prefixes_several_sets_and_indices(folder):
    network, _ = thin(folder)
    given = {name: value + 1 for name, value in network.state_dict().items()}
    torch.save({"params": {f"module.{n}": v - 9 for n, v in given.items()},
                "params_ema": {f"module.{n}": v for n, v in given.items()} | {
                    "module.first.index": torch.arange(3)}}, folder / "w.pth")
    found = begin(network, folder / "w.pth")
    assert all(torch.equal(value, given[name]) for name, value in network.state_dict().items())
    assert (found.facts["of"], found.facts["taken"], found.facts["new"], found.facts["left"],
            found.facts["data_known"]) == ("", 6, [], [], False)
    # the set that the user asks for
    source = Checkpoint("file", path=str(folder / "w.pth"), weights_key="params",
                        sha256=digests.file_digest(folder / "w.pth"))
    first.begin(network, source, "thin", folder)
    assert torch.equal(network.state_dict()["mix.bias"], given["mix.bias"] - 9)


def test_what_is_refused(folder):
    network, _ = thin(folder)
    state = network.state_dict()
    save_file({f"{name}_": value for name, value in state.items()}, folder / "names.safetensors")
    save_file({name: value[..., None] for name, value in state.items()},
              folder / "shapes.safetensors")
    for name in ("names", "shapes"):
        with pytest.raises(UserError, match=r"none of its tensors fits thin: none has both the "
                                            r"name and the shape .* \(first\.weight, .* 3 more\)"):
            begin(network, folder / f"{name}.safetensors")
    save_file({"mix.bias": torch.full((6,), torch.nan)}, folder / "nan.safetensors")
    with pytest.raises(UserError, match=r"mix\.bias has values that are NaN"):
        begin(network, folder / "nan.safetensors")
    with pytest.raises(UserError, match=r"its SHA-256 is .*, expected 0000"):
        first.begin(network, file(folder / "nan.safetensors", "0" * 64), "thin", folder)
    with pytest.raises(Unavailable, match="no such file. Correct `init` in the training of thin"):
        first.begin(network, file("gone.pth", "0" * 64), "thin", folder)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


# -- a training ----------------------------------------------------------------------------------

@pytest.fixture
def warm(folder):
    """A config whose training at x4 begins with the weights of one at x2, on other images."""
    config = trainings.make(folder, steps=3, exclude={"tinytrain": ["img10", "img11"]})
    assert train(config) == 0
    made = plan.load(config).folder / result(config)["checkpoint"]["file"]
    shutil.copy(made, folder / "x2.safetensors")
    shutil.rmtree(folder / "results")
    return trainings.make(folder, "sr-x4", init="x2.safetensors",
                          exclude={"tinytrain": ["img11", "img12"]})


def test_it_is_recorded_and_the_same_after_a_stop(warm, monkeypatch, capsys):
    assert train(warm) == 0
    assert "thin: begins with 4 of 6 tensors of thin for sr-x2@1" in capsys.readouterr().err
    whole, facts = outcome(warm), result(warm)["init"]
    assert (facts["taken"], facts["new"], facts["of"]) == (4, SCALED, "thin for sr-x2@1")
    again(warm)
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        assert train(warm) == 3
    assert train(warm) == 0
    assert outcome(warm) == whole and result(warm)["init"] == facts
    # the file's header: facts, and both trainings' sets; img10 was seen by this one, img12 before
    run = plan.load(warm)
    path = run.folder / result(warm)["checkpoint"]["file"]
    header = storage.read_header(path)
    assert header["init"] == facts and "path" not in header["recipe"]["init"]
    assert [one["name"] for one in header["datasets"]] == ["tinytrain"]
    assert header["exclude"] == {"tinytrain": ["img11"]}
    assert not headers.wrong(header)
    assert run.trained_on["sr-x4@2/thin"] == {"tinytrain": ["img11"]}
    capsys.readouterr()
    assert cli.main(["checkpoints", "show", str(path)]) == 0
    assert "began with  4 of 6 tensors of thin for sr-x2@1" in capsys.readouterr().out


def test_the_sets_are_unknown_if_the_file_does_not_say_its_own(folder, capsys):
    network, _ = thin(folder)
    save_file(network.state_dict(), folder / "w.safetensors")
    config = trainings.make(folder, init="w.safetensors", steps=1)
    assert plan.load(config).trained_on["sr-x2@2/thin"] is None
    assert train(config) == 0
    path = plan.load(config).folder / result(config)["checkpoint"]["file"]
    assert not result(config)["init"]["data_known"]
    trainings.make(folder, init=str(path), steps=2)      # and those that begin with its weights
    assert plan.load(config).trained_on["sr-x2@2/thin"] is None
    assert train(config) == 0
    assert not result(config)["init"]["data_known"]
    capsys.readouterr()
    assert cli.main(["checkpoints", "show", str(path)]) == 0
    assert "sets of the weights that it began with are unknown" in capsys.readouterr().out


def test_a_set_that_had_other_images_is_unknown(folder):
    network, model = thin(folder)
    loading.save(folder / "w.safetensors", network.state_dict(), model, protocols.get("sr-x2"),
                 datasets=[{"name": "tinytrain", "sha256": "1" * 64}])
    config = trainings.make(folder, init="w.safetensors", steps=1)
    assert plan.load(config).trained_on["sr-x2@2/thin"] is None
    assert train(config) == 0
    assert not result(config)["init"]["data_known"]


def test_without_steps_the_weights_would_be_those_of_the_file(folder):
    """A learning rate next to nothing shows that training starts from the file."""
    network, model = thin(folder)
    loading.save(folder / "w.safetensors", network.state_dict(), model, protocols.get("sr-x2"))
    config = trainings.make(folder, init="w.safetensors", steps=1, lr=1e-12, weight_decay=0,
                            ema=0.9)
    assert train(config) == 0
    path = plan.load(config).folder / result(config)["checkpoint"]["file"]
    for name, value in storage.tensors(path, path.read_bytes()).items():
        assert torch.allclose(value, network.state_dict()[name], atol=1e-6), name


def test_a_file_of_which_nothing_fits_stops_the_training(folder, capsys):
    save_file({"other": torch.zeros(2)}, folder / "w.safetensors")
    config = trainings.make(folder, init="w.safetensors")
    assert train(config) == 2
    err = capsys.readouterr().err
    assert "init: checkpoint w.safetensors: none of its tensors fits thin" in err
    assert "Traceback" not in err
    assert not job(config).record.exists()
    assert json.dumps(job(config).spec)
