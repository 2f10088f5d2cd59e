"""Checkpoints as other people's trainings leave them: prefixes, several sets, counters."""

import argparse
import json
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import nn

from irbench.catalog import protocols
from irbench.catalog.model import Checkpoint
from irbench.core.errors import UserError
from irbench.weights import external, loading, naming, storage
from tests.helpers.foreign import compact
from tests.helpers.weights import SR, built, equal, model


@pytest.fixture
def states(plugin):
    """The weights that are meant, and others."""
    return dict(built(plugin).state_dict()), dict(built(plugin, seed=7).state_dict())


def load(plugin, path, key=None):
    """Load a file; return the network, which had other weights."""
    network = built(plugin, seed=1)
    loading.load(network, path, model(plugin, checkpoint=Checkpoint(
        "file", path=str(path), weights_key=key)), SR)
    return network


def under(prefix, state):
    return {prefix + name: value for name, value in state.items()}


ODD = {"epoch": 7, "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": []}}


@pytest.mark.parametrize(("wrap", "key", "others"), [
    (lambda good, _: good, None, None),
    (lambda good, _: under("module.", good), "module", []),
    (lambda good, _: under("_orig_mod.", good), None, None),
    (lambda good, _: under("module._orig_mod.", good), "module", []),
    (lambda good, _: {"params": under("_orig_mod.module.", good)}, "params.module", []),
    (lambda good, _: {k.replace("first.", "first._orig_mod."): v for k, v in good.items()},
     None, None),
    (lambda good, _: {"state_dict": under("net_g.", good), **ODD}, "state_dict.net_g", []),
    (lambda good, _: {"state_dict": under("model.", good), **ODD}, "state_dict.model", []),
    (lambda good, _: {"state_dict": under("generator.", good)}, "state_dict.generator", []),
    (lambda good, _: {"state_dict": under("model.net.module.", good)},
     "state_dict.model.net.module", []),
    (lambda good, _: {"state_dict": under("anything.", good)}, "state_dict.anything", []),
    (lambda good, _: {"a": {"b": {"weights": good}}}, "a.b.weights", []),
    (lambda good, _: {**good, "first.total_ops": torch.zeros(1), "total_params": torch.zeros(1)},
     None, None),
    (lambda good, _: {"state_dict": {**good, "loss.vgg.weight": torch.zeros(2)}},
     "state_dict", []),
    (lambda good, other: {"params": other, "params_ema": good}, "params_ema", ["params"]),
    (lambda good, other: {"model": other, "ema": good}, "ema", ["model"]),
    (lambda good, other: {"state_dict": other, "state_dict_ema": under("module.", good)},
     "state_dict_ema.module", ["state_dict"]),
    (lambda good, other: {"model": other, "model_ema": good, **ODD}, "model_ema", ["model"]),
    (lambda good, other: {"state_dict": {
        **under("generator.", other), **under("generator_ema.", good),
        "discriminator.conv.weight": torch.zeros(3), "step_counter": torch.zeros(1)}},
     "state_dict.generator_ema", ["state_dict.generator"]),
    (lambda good, other: {**under("module.", good), "n_averaged": torch.zeros(1)}, "module", []),
    (lambda good, other: {"net": other, "params": good}, "params", ["net"]),
    (lambda good, other: {**other, **under("module.", good)}, "module", ["(top level)"]),
    (lambda good, other: {"params": {**good, **under("module.", other)}}, "params",
     ["params.module"]),
    (lambda good, other: {**other, **under("_orig_mod.", good)}, "_orig_mod", ["(top level)"]),
    (lambda good, other: {**under("model.", other), **under("ema.", good)}, "ema", ["model"]),
    (lambda good, _: {"state_dict": good, "args": argparse.Namespace(lr=1),
                      "best": np.float64(31.2), "step": np.int64(3)}, "state_dict", []),
])
def test_the_right_set_is_taken_and_the_record_says_which(plugin, tmp_path, states, capsys, wrap,
                                                          key, others):
    path = tmp_path / "w.pth"
    torch.save(wrap(*states), path)
    network = load(plugin, path)
    assert equal(network.state_dict(), states[0])
    found = loading.resolved(network, "0" * 64).get("weights_key")
    assert found == (None if key is None else {"key": key, "others": others})
    assert ("took the weights" in capsys.readouterr().err) == bool(others)


def test_another_set_is_taken_if_asked_for(plugin, tmp_path, states):
    path = tmp_path / "w.pth"
    torch.save({"params": states[1], "params_ema": states[0],
                "state": under("generator.", states[0])}, path)
    for key, wanted in (("params", 1), ("params_ema", 0), ("state", 0), ("state.generator", 0)):
        assert equal(load(plugin, path, key).state_dict(), states[wanted])
    with pytest.raises(UserError, match="w.pth: unknown weights_key 'parms'. Did you mean"):
        load(plugin, path, "parms")


def test_a_set_on_top_can_be_asked_for(plugin, tmp_path, states):
    path = tmp_path / "w.pth"
    torch.save({**states[0], **under("module.", states[1])}, path)
    assert equal(load(plugin, path, "(top level)").state_dict(), states[0])
    assert equal(load(plugin, path, "module").state_dict(), states[1])
    assert equal(load(plugin, path).state_dict(), states[1])
    torch.save({**states[0], **under("anything.", states[1])}, path)
    with pytest.raises(UserError, match=r"several sets .*\(top level\)"):
        load(plugin, path)


@pytest.mark.parametrize("wrap", [
    lambda good, other: {**under("module.", good), "first.bias": other["first.bias"]},
    lambda good, other: {**good, "module.first.bias": other["first.bias"]},
    lambda good, other: {**good, "first._orig_mod.bias": other["first.bias"]},
])
def test_a_tensor_that_is_there_twice_is_not_dropped_without_a_word(plugin, tmp_path, states, wrap):
    path = tmp_path / "w.pth"
    torch.save(wrap(*states), path)
    with pytest.raises(UserError, match=r"first.*bias\)"):
        load(plugin, path)


class Tied(nn.Module):
    """Two names for one tensor."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 3), nn.Linear(3, 3)
        self.last.weight = self.first.weight


def test_a_shared_tensor_with_two_values_is_refused_by_name():
    network = Tied()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    assert naming.choose(state, network.state_dict(), "a.pth", "it")[1] == {}
    state["last.weight"] += 1
    for choose in (lambda own: naming.choose(state, own, "a.pth", "it"),
                   lambda own: naming.overlap(state, own, "a.pth")):
        with pytest.raises(UserError, match="a.pth: first.weight and last.weight are one tensor"):
            choose(network.state_dict())
    state["last.weight"] = state["first.weight"].half().float()
    with pytest.raises(UserError, match="one tensor"):
        naming.choose(state, network.state_dict(), "a.pth", "it")


def test_sets_that_cannot_be_told_apart_need_a_choice(plugin, tmp_path, states):
    path = tmp_path / "w.pth"
    torch.save({"a": states[0], "b": states[1]}, path)
    with pytest.raises(UserError, match=r"several sets of weights fit .*: a, b. Choose one with "
                                        "`weights_key`"):
        load(plugin, path)
    assert equal(load(plugin, path, "b").state_dict(), states[1])
    torch.save({"a": states[0], "b": states[0]}, path)
    assert equal(load(plugin, path).state_dict(), states[0])


@pytest.mark.parametrize(("change", "message"), [
    (lambda s: {name.replace("first", "head"): value for name, value in s.items()},
     r"2 of the model's 4 tensors are missing in the file \(first.weight, first.bias\); the file "
     r"has 2 that the model lacks \(head.weight, head.bias\)\.$"),
    # a larger network, whose names include all of the model's
    (lambda s: {**s, "second.weight": torch.zeros(2)}, r"model lacks \(second.weight\)"),
    (lambda s: {**under("net.", s), "net.second.weight": torch.zeros(2)},
     r"\(its weights 'net'\) .* lacks \(second.weight\)"),
    (lambda s: {**under("body.", s), "tail.weight": torch.zeros(2)}, r"lacks \(tail.weight\)"),
    (lambda s: {"params": s | {"first.bias": torch.zeros(9)}, "params_ema": {}},
     r"1 of another shape \(first.bias: \[9\] in the file, \[4\] in the model\)"),
    (lambda s: {"a": {"x": torch.zeros(1)}, "b": {"y": torch.zeros(1)}},
     r"4 tensors are missing .* and 1 more\).*Sets of weights in the file: a, b; choose one"),
    (lambda s: {"epoch": 3}, r"4 of the model's 4 tensors are missing .*no tensor by another name"),
    (lambda s: s | {"first.bias": torch.zeros(4).to_sparse()}, "first.bias: a sparse or nested"),
    (lambda s: s | {"first.bias": torch.zeros(4, device="meta")}, "first.bias: a meta tensor"),
    (lambda s: s | {"first.bias": torch.zeros(4, dtype=torch.complex64)},
     "first.bias: torch.complex64, which is not a real number type"),
    (lambda s: s | {"first.bias": torch.quantize_per_tensor(torch.zeros(4), 1.0, 0, torch.qint8)},
     "first.bias: torch.qint8, which is not"),
])
@pytest.mark.filterwarnings("ignore")
def test_a_refusal_names_what_is_missing_and_what_there_is_instead(plugin, tmp_path, states, change,
                                                                  message):
    path = tmp_path / "w.pth"
    torch.save(change(states[0]), path)
    with pytest.raises(UserError, match=rf"w\.pth.* does not fit model mine under sr-x2@2: .*"
                                        rf"{message}|w\.pth {message}") as caught:
        load(plugin, path)
    assert "\n" not in str(caught.value)


def test_batch_normalisation_without_its_counter():
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    state = {name: value + 1 for name, value in network.state_dict().items()
             if not name.endswith(naming.TRACKED)}
    found, facts = naming.choose(state, network.state_dict(), "a.pth", "it")
    network.load_state_dict(found)
    assert facts == {} and torch.equal(network[1].running_mean, torch.ones(3))
    # one that the network does not have changes nothing in evaluation
    plain = nn.Conv2d(3, 3, 1)
    naming.choose({**plain.state_dict(), "bn.num_batches_tracked": torch.tensor(3)},
                  plain.state_dict(), "a.pth", "it")
    with pytest.raises(UserError, match=r"lacks \(bn.running_mean\)"):
        naming.choose({**plain.state_dict(), "bn.running_mean": torch.zeros(3)},
                      plain.state_dict(), "a.pth", "it")


# -- third-party files -------------------------------------------------------------------------

@pytest.mark.parametrize(("wrap", "label"), [
    (lambda good, other: good, None),
    (lambda good, other: under("module._orig_mod.", good), None),
    (lambda good, other: {"state_dict": under("net_g.", good)}, "state_dict.net_g"),
    (lambda good, other: {"params": other, "params_ema": good}, "params_ema"),
    (lambda good, other: {"model": other, "ema": under("module.", good)}, "ema"),
    (lambda good, other: {"state_dict": {**under("generator.", other),
                                         **under("generator_ema.", good)}},
     "state_dict.generator_ema"),
    (lambda good, other: {**good, "body.0.total_ops": torch.zeros(1)}, None),
])
def test_third_party_files_have_the_same_habits(tmp_path, wrap, label):
    torch.manual_seed(0)
    good = {name: value.clone() for name, value in compact().state_dict().items()}
    other = {name: value + 1 for name, value in good.items()}
    path = tmp_path / "x.pth"
    torch.save(wrap(good, other), path)
    network, _ = external.load(path, protocols.get("sr-x2"))
    assert all(torch.equal(value, good[name])
               for name, value in network.network.state_dict().items())
    assert network.about.get("weights_key") == label
    assert ("weights_others" in network.about) == (
        label in ("params_ema", "ema", "state_dict.generator_ema"))
    if label == "params_ema":
        network, _ = external.load(path, protocols.get("sr-x2"), key="params")
        assert torch.equal(network.network.state_dict()["body.0.weight"], other["body.0.weight"])
        with pytest.raises(UserError, match="unknown weights_key 'ema'"):
            external.load(path, protocols.get("sr-x2"), key="ema")


def test_third_party_sets_that_cannot_be_told_apart_need_a_choice(tmp_path):
    good = compact().state_dict()
    path = tmp_path / "x.pth"
    torch.save({"a": good, "b": {name: value + 1 for name, value in good.items()}}, path)
    with pytest.raises(UserError, match="several sets of weights: a, b. Choose one"):
        external.load(path, protocols.get("sr-x2"))
    assert external.load(path, protocols.get("sr-x2"), key="b")[0].about["weights_key"] == "b"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("tensor", [torch.zeros(4).to_sparse(), torch.zeros(4, device="meta")])
def test_third_party_tensors_that_hold_no_array_are_refused(tmp_path, tensor):
    torch.save({"body.0.weight": tensor}, tmp_path / "x.pth")
    with pytest.raises(UserError, match="x.pth: body.0.weight: a (sparse|meta)"):
        external.load(tmp_path / "x.pth", protocols.get("sr-x2"))


# -- hostile files -----------------------------------------------------------------------------

def headed(header, values=b"\0" * 16):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + values


ENTRY = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
HOSTILE = [
    headed({"a": {**ENTRY, "dtype": "F7"}}), headed({"a": {**ENTRY, "dtype": "F8_E8M0"}}),
    headed({"a": {**ENTRY, "dtype": 3}}), headed({"a": {**ENTRY, "shape": [-4]}}),
    headed({"a": {**ENTRY, "shape": [2**62, 2**62]}}), headed({"a": {**ENTRY, "shape": "4"}}),
    headed({"a": {**ENTRY, "data_offsets": [0, 2**63]}}),
    headed({"a": {**ENTRY, "data_offsets": [16, 0]}}), headed({"a": []}), headed({"a": None}),
    headed({"a": {}}), headed([1]), headed(b'{"a": NaN}'), headed(b'{"a": ' + b"[" * 9999),
    headed({"__metadata__": 3, "a": ENTRY}), headed({"__metadata__": {"irbench": 3}, "a": ENTRY}),
    headed({"__metadata__": {"irbench": "[]"}, "a": ENTRY}),
    headed({"__metadata__": {"irbench": "[" * 99999}, "a": ENTRY}),
    headed({"__metadata__": {"irbench": '{"steps": Infinity}'}, "a": ENTRY}),
    headed({"__metadata__": {"irbench": '{"weights": [1]}'}, "a": ENTRY}),
    headed(b'{"a": "\xff"}'), headed({"a": ENTRY}, b"\0" * 15), headed({"a": ENTRY}, b"\0" * 17),
    (2**63).to_bytes(8, "little") + b"{}", b"\xff" * 8 + b"{}", b"\1" + b"\0" * 7 + b"{",
]


@pytest.mark.parametrize("content", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_header_is_one_message_wherever_it_is_read(plugin, tmp_path, content):
    path = tmp_path / "hostile.safetensors"
    path.write_bytes(content)
    for read in (lambda: load(plugin, path), lambda: loading.describe(path)):
        with pytest.raises(UserError, match="hostile.safetensors") as caught:
            read()
        assert "\n" not in str(caught.value)
    for read in (storage.read_header, storage.shapes):
        try:
            read(path)
        except UserError as error:
            assert "hostile.safetensors" in str(error)


def test_a_header_with_values_of_a_wrong_type_is_refused(plugin, tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(headed({"__metadata__": {"irbench": '{"levels": [1], "steps": -1}'},
                             "a": ENTRY}))
    with pytest.raises(UserError, match=r"w.safetensors: its header is broken \(levels, steps\)"):
        load(plugin, path)


def test_an_archive_around_a_checkpoint_is_told(plugin, tmp_path, states):
    torch.save(states[0], tmp_path / "inner.pth")
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
        archive.write(tmp_path / "inner.pth", "inner.pth")
    with pytest.raises(UserError, match=r"w.pth: a ZIP archive \(inner.pth\), not a PyTorch file. "
                                        "Unpack it"):
        load(plugin, tmp_path / "w.pth")


def test_values_without_names_are_refused(plugin, tmp_path):
    (tmp_path / "w.safetensors").write_bytes(save({}))
    with pytest.raises(UserError, match="4 of the model's 4 tensors are missing"):
        load(plugin, tmp_path / "w.safetensors")
