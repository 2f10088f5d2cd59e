"""Weights in files: what is loaded, and what is refused."""

import pathlib

import pytest
import torch
from safetensors.torch import save_file

from irbench.catalog import protocols
from irbench.core import digests
from irbench.core.errors import Unavailable, UserError
from irbench.weights import loading, serving, storage
from tests.helpers.weights import BLIND, SIGMA, SR, built, equal, flip, load, model

# -- what is loaded ------------------------------------------------------------------------------

def test_what_was_saved_is_loaded_and_says_what_it_is(plugin, tmp_path):
    state = built(plugin).state_dict()
    path = tmp_path / "a.safetensors"
    digest = loading.save(path, state, model(plugin), SR, steps=7, exclude={})
    assert digest == digests.file_digest(path)
    assert equal(load(plugin, path, sha256=digest), state)
    header = storage.read_header(path)
    assert header == {"model": "mine", "arch": "tiny", "options": model(plugin).options,
                      "protocol": "sr-x2@2", "steps": 7, "exclude": {},
                      "weights": header["weights"]}
    assert header == storage.header_of(path, path.read_bytes())
    shapes = storage.shapes(path)
    assert shapes["first.weight"] == ("F32", [4, 3, 3, 3]) and shapes.keys() == state.keys()
    again = loading.save(tmp_path / "b.safetensors", dict(reversed(state.items())),
                             model(plugin), SR, exclude={}, steps=7)
    assert again == digest


@pytest.mark.parametrize("suffix", ["pth", "pt", "ckpt", "safetensors"])
@pytest.mark.parametrize("wrap", [
    lambda state: state, lambda state: {"params": state, "epoch": 3},
    lambda state: {"state_dict": {f"module.{name}": value for name, value in state.items()},
                   "lr": 0.1}])
def test_a_state_dict_without_a_header_is_held_to_its_names_and_shapes(plugin, tmp_path, suffix,
                                                                       wrap):
    state = built(plugin).state_dict()
    path = tmp_path / f"w.{suffix}"
    if suffix == "safetensors":
        save_file(state, path)
    else:
        torch.save(wrap(state), path)
    assert equal(load(plugin, path), state)


def test_half_precision_is_loaded_as_float32(plugin, tmp_path):
    state = built(plugin).state_dict()
    path = tmp_path / "a.safetensors"
    loading.save(path, {name: value.half() for name, value in state.items()}, model(plugin), SR)
    assert equal(load(plugin, path), state, rounded=True)


@pytest.mark.parametrize("protocol", ["denoise_color-sigma15", "denoise_color-sigma25",
                                      "denoise_color-sigma50"])
def test_blind_weights_serve_every_level_of_their_range(plugin, tmp_path, protocol):
    protocol = protocols.get(protocol)
    state = built(plugin, protocol).state_dict()
    path = tmp_path / "blind.safetensors"
    loading.save(path, state, model(plugin), BLIND, levels=SIGMA)
    assert equal(load(plugin, path, protocol), state)


# -- what is refused -------------------------------------------------------------------------------

@pytest.mark.parametrize(("levels", "scope", "wanted"), [
    (None, "sr-x2@1", "sr-x2@2"), (None, "sr-x2@2", "sr-x2@1"),
    # the noise is the same, whatever gray the weights were trained on
    (None, "denoise_gray-sigma25@1", "denoise_gray-sigma25@2"),
    ({"sigma": [15, 50]}, "denoise_gray-blind@1", "denoise_gray-sigma25@2"),
    ({"sigma": [15, 50]}, "denoise_gray-blind@2", "denoise_gray-sigma25@1")])
def test_weights_serve_each_version_of_task_level_and_degradation(plugin, tmp_path, levels, scope,
                                                                  wanted):
    protocol = protocols.get(wanted)
    state = built(plugin, protocol).state_dict()
    path = tmp_path / "a.safetensors"
    path.write_bytes(storage.pack(state, {"arch": "tiny", "options": model(plugin).options,
                                          "protocol": scope, "levels": levels}))
    assert equal(load(plugin, path, protocol), state)


@pytest.mark.parametrize(("levels", "scope", "wanted"), [
    (None, "sr-x2@3", "sr-x2@2"),
    ({"sigma": [15, 20]}, "denoise_color-blind@1", "denoise_color-sigma25"),
    ({"sigma": [15, 50]}, "denoise_color-blind@1", "sr-x2"),
    ({"sigma": [15, 50]}, "denoise_color-blind@1", "jpeg_color-q10"),
    ({"sigma": [15, 50]}, "denoise_gray-blind@1", "denoise_color-sigma25"),
    ({"sigma": [15, 50]}, "denoise_color-blind@2", "denoise_color-sigma25"),
    (None, "denoise_color-blind@1", "denoise_color-sigma25"),
    (None, "denoise_color-sigma15@1", "denoise_color-sigma25"),
    ({"sigma": "all"}, "denoise_color-blind@1", "denoise_color-sigma25"),
    ({"loudness": [15, 50]}, "denoise_color-blind@1", "denoise_color-sigma25"),
    ([15, 50], "denoise_color-blind@1", "denoise_color-sigma25"),
])
def test_weights_for_something_else_are_refused(plugin, tmp_path, levels, scope, wanted):
    header = {"protocol": scope, "levels": levels}
    assert not serving.is_for(header, protocols.get(wanted))
    path = tmp_path / "a.safetensors"
    path.write_bytes(storage.pack(
        built(plugin).state_dict(), {"arch": "tiny", "options": model(plugin).options,
                                     **header}))
    with pytest.raises(UserError, match=f"a.safetensors: it is for protocol '{scope}'.* model "
                                        "mine needs") as caught:
        loading.load(built(plugin), path, model(plugin), protocols.get(wanted))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", [{"arch": "other"}, {"options": {"width": 8, "strength": 0.1}}])
def test_weights_of_another_model_are_refused(plugin, tmp_path, change):
    path = tmp_path / "a.safetensors"
    loading.save(path, built(plugin).state_dict(), model(plugin), SR)
    field = next(iter(change))
    with pytest.raises(UserError, match=f"a.safetensors: it is for {field} "):
        loading.load(built(plugin), path, model(plugin, **change), SR)


def retitle(path):
    path.write_bytes(path.read_bytes().replace(b'"F32"', b'"I32"', 1))


def cut(path):
    path.write_bytes(path.read_bytes()[:-40])


@pytest.mark.parametrize("damage", [flip, retitle, cut])
def test_an_altered_file_is_refused_without_any_list_of_digests(plugin, tmp_path, damage):
    path = tmp_path / "a.safetensors"
    loading.save(path, built(plugin).state_dict(), model(plugin), SR)
    damage(path)
    with pytest.raises(UserError, match="a.safetensors: its weights do not match its header"):
        load(plugin, path)


def test_another_file_than_its_digest_says_is_refused(plugin, tmp_path):
    path = tmp_path / "a.safetensors"
    loading.save(path, built(plugin).state_dict(), model(plugin), SR)
    with pytest.raises(UserError, match=r"its SHA-256 begins with [0-9a-f]{12}, expected 00000"):
        load(plugin, path, sha256="0" * 64)
    with pytest.raises(Unavailable, match="no such file"):
        load(plugin, tmp_path / "none.pth")
    with pytest.raises(Unavailable, match="a folder, not a file"):
        load(plugin, tmp_path)


@pytest.mark.parametrize(("change", "message"), [
    (lambda s: s.pop("last.bias"),
     r"1 of the model's 4 tensors are missing in the file \(last.bias\)"),
    (lambda s: s.update(extra=torch.zeros(2)), r"the file has 1 that the model lacks \(extra\)"),
    (lambda s: s.update({"last.bias": torch.zeros(5)}),
     r"1 of another shape \(last.bias: \[5\] in the file, \[12\] in the model"),
    (lambda s: s.update({"last.bias": torch.zeros(12, dtype=torch.int32)}),
     r"1 of another type \(last.bias: torch.int32 in the file, torch.float32 in the model"),
    (lambda s: s.clear(), "4 of the model's 4 tensors are missing in the file .* and 1 more"),
])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_other_names_and_shapes_are_named(plugin, tmp_path, change, message, suffix):
    state = dict(built(plugin).state_dict())
    change(state)
    path = tmp_path / f"a.{suffix}"
    (torch.save if suffix == "pth" else save_file)(state, path)
    network = built(plugin, seed=1)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(UserError, match=f"a.{suffix} does not fit model mine under sr-x2@2: .*"
                                        f"{message}"):
        loading.load(network, path, model(plugin), SR)
    assert equal(network.state_dict(), before)


class Code:
    def __reduce__(self):
        return print, ("this must not run",)


@pytest.mark.parametrize(("content", "message"), [
    ({"a": Code()}, "more than tensors .*print"),
    ({"a": pathlib.PurePath("x")}, "more than tensors .*pathlib"),
    ([torch.zeros(1)], "holds a list, not a state dict")])
def test_a_pickle_with_more_than_tensors_is_not_loaded(plugin, tmp_path, capsys, content, message):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(UserError, match=f"a.pth: .*{message}"):
        load(plugin, tmp_path / "a.pth")
    assert "must not run" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"x" * 20, (9).to_bytes(8, "little") + b'{"a": 1',
                                     (2).to_bytes(8, "little") + b"[]",
                                     (2**60).to_bytes(8, "little") + b"{}"])
def test_a_header_that_is_none_is_said_so(tmp_path, content):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match="not a safetensors file written by irbench"):
        storage.read_header(path)
