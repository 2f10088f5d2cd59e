"""Weights in files: what is loaded, what is refused, and that a copy keeps every value."""

import argparse
import dataclasses
import hashlib
import json

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from irbench import (
    bundled,
    checkpoint_export,
    checkpoint_files,
    checkpoint_headers,
    checkpoints,
    protocols,
    records,
)
from irbench.errors import Unavailable, UserError
from irbench.models import registry
from tests import tiny

SR = protocols.get("sr-x2")
SIGMA = {"sigma": [15, 50]}
BLIND = dataclasses.replace(protocols.get("denoise_color-sigma25"), id="denoise_color-blind@1")


@pytest.fixture
def plugin(tmp_path):
    (tmp_path / "tiny_model.py").write_text(tiny.PLUGIN)
    return (str(tmp_path / "tiny_model.py"),)


def model(plugin, **more):
    card = registry.get("tiny", plugin)
    return {"name": "mine", "arch": "tiny", "options": dict(card.options), "learned": True,
            "checkpoint": {"kind": "none"}, "training": None, **more}


def built(plugin, protocol=SR, seed=0):
    torch.manual_seed(seed)
    return checkpoints.build(model(plugin), protocol, plugin)


def load(plugin, path, protocol=SR, sha256=None, **more):
    network = built(plugin, protocol, seed=1)
    checkpoints.load(network, path, model(plugin, **more), protocol, sha256)
    return network.state_dict()


def equal(state, other, rounded=False):
    return state.keys() == other.keys() and all(
        torch.equal(value, other[name].half().float() if rounded else other[name])
        and value.dtype == torch.float32 for name, value in state.items())


# -- what is loaded ------------------------------------------------------------------------------

def test_what_was_saved_is_loaded_and_says_what_it_is(plugin, tmp_path):
    state = built(plugin).state_dict()
    path = tmp_path / "a.safetensors"
    digest = checkpoints.save(path, state, model(plugin), SR, steps=7, exclude={})
    assert digest == records.file_digest(path)
    assert equal(load(plugin, path, sha256=digest), state)
    header = checkpoint_files.read_header(path)
    assert header == {"model": "mine", "arch": "tiny", "options": model(plugin)["options"],
                      "protocol": "sr-x2@1", "steps": 7, "exclude": {},
                      "weights": header["weights"]}
    assert header == checkpoint_files.header_of(path, path.read_bytes())
    shapes = checkpoint_files.shapes(path)
    assert shapes["first.weight"] == ("F32", [4, 3, 3, 3]) and shapes.keys() == state.keys()
    again = checkpoints.save(tmp_path / "b.safetensors", dict(reversed(state.items())),
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
    checkpoints.save(path, {name: value.half() for name, value in state.items()}, model(plugin), SR)
    assert equal(load(plugin, path), state, rounded=True)


@pytest.mark.parametrize("protocol", ["denoise_color-sigma15", "denoise_color-sigma25",
                                      "denoise_color-sigma50"])
def test_blind_weights_serve_every_level_of_their_range(plugin, tmp_path, protocol):
    protocol = protocols.get(protocol)
    state = built(plugin, protocol).state_dict()
    path = tmp_path / "blind.safetensors"
    checkpoints.save(path, state, model(plugin), BLIND, levels=SIGMA)
    assert equal(load(plugin, path, protocol), state)


# -- what is refused -------------------------------------------------------------------------------

@pytest.mark.parametrize(("levels", "scope", "wanted"), [
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
    assert not checkpoints.is_for(header, protocols.get(wanted))
    path = tmp_path / "a.safetensors"
    path.write_bytes(checkpoint_files.pack(
        built(plugin).state_dict(), {"arch": "tiny", "options": model(plugin)["options"],
                                     **header}))
    with pytest.raises(UserError, match=f"a.safetensors: it is for protocol '{scope}'.* model "
                                        "mine needs") as caught:
        checkpoints.load(built(plugin), path, model(plugin), protocols.get(wanted))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", [{"arch": "other"}, {"options": {"width": 8, "strength": 0.1}}])
def test_weights_of_another_model_are_refused(plugin, tmp_path, change):
    path = tmp_path / "a.safetensors"
    checkpoints.save(path, built(plugin).state_dict(), model(plugin), SR)
    field = next(iter(change))
    with pytest.raises(UserError, match=f"a.safetensors: it is for {field} "):
        checkpoints.load(built(plugin), path, model(plugin, **change), SR)


def flip(path):
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)


def retitle(path):
    path.write_bytes(path.read_bytes().replace(b'"F32"', b'"I32"', 1))


def cut(path):
    path.write_bytes(path.read_bytes()[:-40])


@pytest.mark.parametrize("damage", [flip, retitle, cut])
def test_an_altered_file_is_refused_without_any_list_of_digests(plugin, tmp_path, damage):
    path = tmp_path / "a.safetensors"
    checkpoints.save(path, built(plugin).state_dict(), model(plugin), SR)
    damage(path)
    with pytest.raises(UserError, match="a.safetensors: its weights are not those that its header"):
        load(plugin, path)


def test_another_file_than_its_digest_says_is_refused(plugin, tmp_path):
    path = tmp_path / "a.safetensors"
    checkpoints.save(path, built(plugin).state_dict(), model(plugin), SR)
    with pytest.raises(UserError, match=r"its SHA-256 begins with [0-9a-f]{12}, expected 00000"):
        load(plugin, path, sha256="0" * 64)
    with pytest.raises(Unavailable, match="no such file"):
        load(plugin, tmp_path / "none.pth")
    with pytest.raises(Unavailable, match="a folder, not a file"):
        load(plugin, tmp_path)


@pytest.mark.parametrize(("change", "message"), [
    (lambda s: s.pop("last.bias"), "last.bias: missing in the file"),
    (lambda s: s.update(extra=torch.zeros(2)), "extra: not in the model"),
    (lambda s: s.update({"last.bias": torch.zeros(5)}),
     r"last.bias: \[5\] in the file, \[12\] in the model"),
    (lambda s: s.update({"last.bias": torch.zeros(12, dtype=torch.int32)}),
     "last.bias: torch.int32 in the file, torch.float32 in the model"),
    (lambda s: s.clear(), "missing in the file; .* and 1 more"),
])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_other_names_and_shapes_are_named(plugin, tmp_path, change, message, suffix):
    state = dict(built(plugin).state_dict())
    change(state)
    path = tmp_path / f"a.{suffix}"
    (torch.save if suffix == "pth" else save_file)(state, path)
    network = built(plugin, seed=1)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(UserError, match=f"a.{suffix} does not fit model mine under sr-x2@1: .*"
                                        f"{message}"):
        checkpoints.load(network, path, model(plugin), SR)
    assert equal(network.state_dict(), before)


class Code:
    def __reduce__(self):
        return print, ("this must not run",)


@pytest.mark.parametrize(("content", "message"), [
    ({"a": Code()}, "more than tensors .*print"),
    ({"a": argparse.Namespace(x=1)}, "more than tensors .*Namespace"),
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
        checkpoint_files.read_header(path)


# -- export, import, load --------------------------------------------------------------------------

def finish(folder, state, plugin, *, protocol=SR, best=None, **result):
    """Write what a training leaves in its run: record and weights."""
    spec = {"protocol": protocol.definition(), "seed": 0}
    name = f"{model(plugin)['name']}.safetensors"
    file = f"checkpoints/{protocol.id}/{name}"
    digest = checkpoints.save(
        folder / file, state, model(plugin), protocol, steps=9, recipe={"recipe": "demo"},
        datasets=[{"name": "tinytrain", "sha256": "a" * 64}], exclude={"tinytrain": ["img11"]},
        levels=None, training=records.fingerprint(spec))
    record = records.make(
        "training", {"protocol": protocol.id, "model": "mine"}, spec, threads=2,
        result={"steps": 9, "seconds": 75.5, "images_seen": 18, "parameters": 543,
                "checkpoint": {"file": file, "sha256": digest}, "best": best,
                "validation": [{"step": 3, "psnr": 20.5, "seconds": 1},
                               {"step": 9, "psnr": 21.25, "seconds": 2}],
                "device": "cpu", "device_name": "a processor", **result})
    records.write_json(folder / "training" / protocol.id / "mine.json", record)
    return folder / file


def cell(folder, digest, dataset, psnr, protocol="sr-x2@1", model_name="mine", **model_):
    spec = {"model": {"options": {"width": 4, "strength": 0.1}, "base": None, **model_}}
    records.write_json(
        folder / "cells" / protocol / dataset / f"{model_name}.json",
        records.make("cell", {"protocol": protocol, "dataset": dataset, "model": model_name}, spec,
                     resolved={"checkpoint": digest},
                     result={"images": [{}, {}], "mean": {"psnr": psnr, "ssim": None}}))


def export(folder, **how):
    return checkpoint_export.export(folder, "sr-x2", "mine", command="irbench train", **how)


FLOATS = st.floats(-60000, 60000, width=32)


@settings(max_examples=20, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(FLOATS, min_size=4, max_size=40), st.booleans())
def test_export_import_load_keeps_every_value(plugin, tmp_path, values, half):
    """The float16 rounded weights exactly, or all of float32."""
    state = {name: torch.tensor(values).repeat(tensor.numel())[:tensor.numel()].reshape(
        tensor.shape) for name, tensor in built(plugin).state_dict().items()}
    finish(tmp_path / "run", state, plugin)
    data, header = export(tmp_path / "run", half=half)
    assert export(tmp_path / "run", half=half)[0] == data
    (tmp_path / "out.safetensors").write_bytes(data)
    stored = tmp_path / "data/checkpoints/w.safetensors"
    stored.unlink(missing_ok=True)
    path, known = checkpoint_export.bring(
        tmp_path / "out.safetensors", tmp_path / "data",
        checkpoint_export.Wanted(name="w", plugins=plugin))
    assert path == stored
    assert known["imported"] == {"file": "out.safetensors",
                                 "sha256": hashlib.sha256(data).hexdigest()}
    assert {**known, "imported": 0} == {**header, "imported": 0}
    assert equal(load(plugin, path), state, rounded=half)
    kinds = {kind for kind, _ in checkpoint_files.shapes(path).values()}
    assert kinds == {"F16" if half else "F32"}


def test_an_export_says_what_is_known_of_the_training(plugin, tmp_path):
    file = finish(tmp_path, built(plugin).state_dict(), plugin)
    digest = records.file_digest(file)
    cell(tmp_path, digest, "set5", 33.5)
    cell(tmp_path, digest, "bsd100", 30.25)
    cell(tmp_path, "f" * 64, "set14", 31.0)                                   # of other weights
    cell(tmp_path, digest, "set5", 1.0, model_name="mine.v", base="mine")     # a variant
    cell(tmp_path, digest, "manga109", 1.0, inference={"dtype": "bfloat16"})
    records.write_json(tmp_path / "leaks.json", records.make(
        "leaks", {"run": "x"}, {}, result={
            "compared": [{"train": "tinytrain", "test": "set5"},
                         {"train": "tinytrain", "test": "bsd100"},
                         {"train": "elsewhere", "test": "set5"}],
            "pairs": [{"train": "tinytrain", "test": "set5", "train_image": "img11"},
                      {"train": "tinytrain", "test": "bsd100", "train_image": "img12"}],
            "not_compared": []}))
    data, header = export(tmp_path)
    assert checkpoint_files.header_of(tmp_path, data) == header | {
        "weights": checkpoint_files.header_of(tmp_path, data)["weights"]}
    assert header["scores"] == [
        {"protocol": "sr-x2@1", "dataset": "bsd100", "count": 2, "psnr": 30.25, "ssim": None},
        {"protocol": "sr-x2@1", "dataset": "set5", "count": 2, "psnr": 33.5, "ssim": None}]
    assert header["leaks"] == [
        {"train": "tinytrain", "test": "set5", "shared": 0, "left_out": 1},
        {"train": "tinytrain", "test": "bsd100", "shared": 1, "left_out": 0}]
    assert header["validation"] == [[3, 20.5], [9, 21.25]]
    assert (header["seconds"], header["images_seen"], header["storage"]) == (75.5, 18, "float16")
    assert header["hardware"]["threads"] == 2 and header["command"] == "irbench train"
    assert header["scores_of"]["sha256"] == digest


def test_optional_fields_of_a_record_may_be_missing(plugin, tmp_path):
    finish(tmp_path, built(plugin).state_dict(), plugin)
    path = tmp_path / "training/sr-x2@1/mine.json"
    record = json.loads(path.read_text())
    for name in ("validation", "best", "parameters", "device_name"):
        del record["result"][name]
    path.write_text(json.dumps(record))
    header = export(tmp_path)[1]
    assert (header["validation"], header["scores"], header["leaks"]) == ([], [], None)


def test_the_best_weights_are_exported_where_there_are_some(plugin, tmp_path):
    with pytest.raises(UserError, match="kept no best weights.*Leave --best out"):
        finish(tmp_path, built(plugin).state_dict(), plugin)
        export(tmp_path, best=True)
    best = tmp_path / "checkpoints/sr-x2@1/mine.best.safetensors"
    state = built(plugin, seed=5).state_dict()
    finish(tmp_path, state, plugin).rename(best)
    finish(tmp_path, built(plugin).state_dict(), plugin, best={
        "step": 3, "psnr": 22.0, "file": str(best.relative_to(tmp_path)),
        "sha256": records.file_digest(best)})
    data, header = export(tmp_path, best=True, half=False)
    assert header["best"] == {"step": 3, "psnr": 22.0}
    assert equal(checkpoint_files.tensors(best, data), state)


def test_a_record_and_a_file_that_do_not_belong_together_are_refused(plugin, tmp_path):
    file = finish(tmp_path, built(plugin).state_dict(), plugin)
    flip(file)
    with pytest.raises(UserError, match="not the file that the training's record names"):
        export(tmp_path)
    file.unlink()
    with pytest.raises(Unavailable, match="no such file. Delete the training's record"):
        export(tmp_path)
    # the record's digest is right, but the file is of another training
    checkpoints.save(file, built(plugin).state_dict(), model(plugin), SR, training="e" * 64)
    path = tmp_path / "training/sr-x2@1/mine.json"
    record = json.loads(path.read_text())
    record["result"]["checkpoint"]["sha256"] = records.file_digest(file)
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match="of another training than the record .training differ"):
        export(tmp_path)


def test_no_training_an_unfinished_one_and_values_too_large(plugin, tmp_path):
    with pytest.raises(UserError, match="unknown training 'sr-x2/mine'.*Valid: none"):
        export(tmp_path)
    state = built(plugin).state_dict()
    finish(tmp_path, {**state, "last.bias": torch.full((12,), 70000.0)}, plugin)
    with pytest.raises(UserError, match="last.bias has values that float16 cannot hold.*--float32"):
        export(tmp_path)
    assert export(tmp_path, half=False)
    record = records.make("training", {"protocol": "sr-x2@1", "model": "mine"}, {},
                          status="failed", reason="the loss is nan")
    records.write_json(tmp_path / "training/sr-x2@1/mine.json", record)
    with pytest.raises(Unavailable, match="failed: the loss is nan"):
        export(tmp_path)


def test_a_header_is_told_what_is_wrong_with_it(plugin, tmp_path):
    finish(tmp_path, built(plugin).state_dict(), plugin)
    header = export(tmp_path)[1]
    assert checkpoint_headers.wrong(header) == [] == checkpoint_headers.wrong({})
    assert checkpoint_headers.wrong({**header, "levels": SIGMA, "else": [1, {"a": "b\n"}]}) == []
    assert checkpoint_headers.wrong({**header, "arch": None, "steps": True, "\x1b": 1}) == [
        "'\\x1b'", "arch", "steps"]


def test_a_training_under_way_is_not_unknown(plugin, tmp_path):
    (tmp_path / "training/sr-x2@1").mkdir(parents=True)
    (tmp_path / "training/sr-x2@1/mine.state").write_bytes(b"")
    with pytest.raises(Unavailable, match="mine.state: the training sr-x2/mine is not finished. It "
                                          "goes on with irbench train; then export"):
        export(tmp_path)
    (tmp_path / "training/sr-x2@1/mine.state").rename(tmp_path / "training/sr-x2@1/other.state")
    with pytest.raises(UserError, match="unknown training"):
        export(tmp_path)


def test_uncommitted_changes_are_kept(plugin, tmp_path):
    finish(tmp_path, built(plugin).state_dict(), plugin)
    path = tmp_path / "training/sr-x2@1/mine.json"
    record = json.loads(path.read_text())
    for git, told in (({"commit": "a" * 40, "dirty": True}, ("a" * 40, True)),
                      (None, (None, None))):
        record["provenance"]["git"] = git
        path.write_text(json.dumps(record))
        header = export(tmp_path)[1]
        assert (header["git"], header["dirty"]) == told


# -- import of others ------------------------------------------------------------------------------

def bring(path, folder, plugin, **wanted):
    return checkpoint_export.bring(path, folder, checkpoint_export.Wanted(plugins=plugin, **wanted))


def test_a_state_dict_is_imported_for_a_named_model(plugin, tmp_path):
    state = built(plugin).state_dict()
    torch.save({"params_ema": state}, tmp_path / "Their Net v1.pth")
    path, header = bring(tmp_path / "Their Net v1.pth", tmp_path / "data", plugin, arch="tiny",
                         protocol="sr-x2")
    assert path == tmp_path / "data/checkpoints/their-net-v1.safetensors"
    assert header["imported"]["file"] == "Their Net v1.pth" and header["protocol"] == "sr-x2@1"
    assert equal(load(plugin, path), state)
    assert "datasets" not in header  # unknown
    again, _ = bring(tmp_path / "Their Net v1.pth", tmp_path / "data", plugin, arch="tiny",
                     protocol="sr-x2")
    assert again == path
    torch.save(built(plugin, seed=2).state_dict(), tmp_path / "Their Net v1.pth")
    with pytest.raises(UserError, match="other weights have this name. Choose another"):
        bring(tmp_path / "Their Net v1.pth", tmp_path / "data", plugin, arch="tiny",
              protocol="sr-x2")


@pytest.mark.parametrize(("wanted", "message"), [
    ({}, "does not say what it is. Give --model and --protocol"),
    ({"arch": "tiny"}, "Give --model and --protocol"),
    ({"arch": "tinny", "protocol": "sr-x2"}, "unknown model 'tinny'. Did you mean 'tiny'"),
    ({"arch": "tiny", "protocol": "sr-x9"}, "unknown protocol"),
    ({"arch": "tiny", "protocol": "sr-x3"}, r"does not fit tiny for sr-x3@1: .*last.weight: \["),
    ({"arch": "tiny", "protocol": "demosaic-rggb"}, "tiny cannot do demosaic-rggb@1"),
    ({"arch": "tiny", "protocol": "sr-x2", "options": {"depth": 3}}, "unknown option of tiny"),
    ({"arch": "tiny", "protocol": "sr-x2", "options": {"width": -1}}, "do not fit tiny"),
    ({"arch": "tiny", "protocol": "sr-x2", "sha256": "0" * 64}, "expected 0000.*Get the right one"),
    ({"arch": "tiny", "protocol": "sr-x2", "name": "../x"}, "--name '../x': names hold"),
    ({"arch": "bicubic", "protocol": "sr-x2"}, "bicubic has no weights to import"),
])
def test_a_state_dict_that_does_not_fit_is_refused(plugin, tmp_path, wanted, message):
    torch.save(built(plugin).state_dict(), tmp_path / "w.pth")
    with pytest.raises(UserError, match=message):
        bring(tmp_path / "w.pth", tmp_path / "data", plugin, **wanted)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(("said", "wanted"), [
    ("model", {"arch": "compacter"}), ("protocol", {"protocol": "sr-x3"}),
    ("options", {"options": {"width": 5}})])
def test_what_is_said_of_an_own_file_must_agree(plugin, tmp_path, said, wanted):
    path = tmp_path / "a.safetensors"
    checkpoints.save(path, built(plugin).state_dict(), model(plugin), SR)
    with pytest.raises(UserError, match=f"a.safetensors: .*Leave --{said} out"):
        bring(path, tmp_path / "data", plugin, **wanted)
    assert bring(path, tmp_path / "data", plugin, arch="tiny", protocol="sr-x2@1",
                 options={"width": 4})[0].name == "tiny-sr-x2.safetensors"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_no_numbers_are_not_imported(plugin, tmp_path, value):
    state = built(plugin).state_dict()
    state["last.bias"][3] = value
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(UserError, match="w.pth: last.bias has values that are NaN or infinite"):
        bring(tmp_path / "w.pth", tmp_path / "data", plugin, arch="tiny", protocol="sr-x2")


def test_the_name_of_a_bundled_file_is_not_taken(plugin, tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    checkpoints.save(path, built(plugin).state_dict(), model(plugin), SR)
    monkeypatch.setattr(bundled, "catalog", lambda: {"tiny-sr-x2": None})
    with pytest.raises(UserError, match="--name tiny-sr-x2: bundled weights have this name"):
        bring(path, tmp_path / "data", plugin, name="tiny-sr-x2")
    assert bring(path, tmp_path / "data", plugin)[0].name == "tiny-sr-x2-imported.safetensors"


@pytest.mark.parametrize("protocol", ["denoise_color-sigma25", "denoise_color-blind",
                                      "denoise_color-blind@1"])
def test_a_blind_state_dict_is_imported_for_its_range(plugin, tmp_path, protocol):
    state = built(plugin, protocols.get("denoise_color-sigma25")).state_dict()
    torch.save(state, tmp_path / "w.pth")
    path, header = bring(tmp_path / "w.pth", tmp_path / "data", plugin, arch="tiny",
                         protocol=protocol, levels=SIGMA)
    assert (header["protocol"], header["levels"]) == ("denoise_color-blind@1", SIGMA)
    for level in (15, 25, 50):
        assert equal(load(plugin, path, protocols.get(f"denoise_color-sigma{level}")), state)
    # a file of ours knows its range
    assert bring(path, tmp_path / "data", plugin, name="again", protocol=protocol, levels=SIGMA)
    with pytest.raises(UserError, match="Leave --levels out"):
        bring(path, tmp_path / "data", plugin, levels={"sigma": [15, 30]})


@pytest.mark.parametrize(("protocol", "levels", "message"), [
    ("denoise_color-blind", None, "say for which range, such as --levels sigma=15,50"),
    ("denoise_color-blind", {"sigma": [50, 15]}, "sigma=50,15: valid is"),
    ("denoise_color-blind", {"sigma": [15, float("nan")]}, "valid is"),
    ("denoise_color-blind", {"loudness": [1, 2]}, "valid is"),
    ("denoise_color-blind", {"quality": [10, 40]}, "holds no level of --protocol"),
    ("denoise_color-blind@9", SIGMA, "holds no level of --protocol"),
    ("sr-x2", SIGMA, "holds no level of --protocol sr-x2"),
    ("denoise_color-sigma25", {"sigma": [30, 50]}, "holds no level of --protocol")])
def test_a_range_that_is_none_is_refused(plugin, tmp_path, protocol, levels, message):
    torch.save(built(plugin).state_dict(), tmp_path / "w.pth")
    with pytest.raises(UserError, match=message):
        bring(tmp_path / "w.pth", tmp_path / "data", plugin, arch="tiny", protocol=protocol,
              levels=levels)
