"""Exported weights: a copy keeps every value and says what is known of the training."""

import hashlib
import json

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from irbench.core import digests, files, headers, records
from irbench.core.errors import Unavailable, UserError
from irbench.weights import export as checkpoint_export
from irbench.weights import loading, storage
from tests.helpers.sealed import seal
from tests.helpers.weights import SIGMA, SR, built, equal, flip, load, model


def finish(folder, state, plugin, *, protocol=SR, best=None, **result):
    """Write what a training leaves in its run: record and weights."""
    spec = {"protocol": protocol.definition(), "seed": 0}
    name = f"{model(plugin).name}.safetensors"
    file = f"checkpoints/{protocol.id}/{name}"
    digest = loading.save(
        folder / file, state, model(plugin), protocol, steps=9, recipe={"recipe": "demo"},
        datasets=[{"name": "tinytrain", "sha256": "a" * 64}], exclude={"tinytrain": ["img11"]},
        levels=None, training=digests.fingerprint(spec))
    record = records.make(
        "training", {"protocol": protocol.id, "model": "mine"}, spec, threads=2,
        result={"steps": 9, "seconds": 75.5, "images_seen": 18, "parameters": 543,
                "checkpoint": {"file": file, "sha256": digest}, "best": best,
                "validation": [{"step": 3, "psnr": 20.5, "seconds": 1},
                               {"step": 9, "psnr": 21.25, "seconds": 2}],
                "device": "cpu", "device_name": "a processor", **result})
    files.write_json(folder / "training" / protocol.id / "mine.json", record)
    return folder / file


def cell(folder, digest, dataset, psnr, protocol="sr-x2@2", model_name="mine", **model_):
    spec = {"model": {"options": {"width": 4, "strength": 0.1}, "base": None, **model_}}
    files.write_json(
        folder / "cells" / protocol / dataset / f"{model_name}.json",
        records.make("cell", {"protocol": protocol, "dataset": dataset, "model": model_name}, spec,
                     resolved={"checkpoint": digest},
                     result={"images": [{"name": name, "psnr": psnr, "ssim": None}
                                        for name in "ab"],
                             "mean": {"psnr": psnr, "ssim": None}}))


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
    path, known = checkpoint_export.import_weights(
        tmp_path / "out.safetensors", tmp_path / "data",
        checkpoint_export.Wanted(name="w", plugins=plugin))
    assert path == stored
    assert known["imported"] == {"file": "out.safetensors",
                                 "sha256": hashlib.sha256(data).hexdigest()}
    assert {**known, "imported": 0} == {**header, "imported": 0}
    assert equal(load(plugin, path), state, rounded=half)
    kinds = {kind for kind, _ in storage.shapes(path).values()}
    assert kinds == {"F16" if half else "F32"}


def test_an_export_says_what_is_known_of_the_training(plugin, tmp_path):
    file = finish(tmp_path, built(plugin).state_dict(), plugin)
    digest = digests.file_digest(file)
    cell(tmp_path, digest, "set5", 33.5)
    cell(tmp_path, digest, "bsd100", 30.25)
    cell(tmp_path, "f" * 64, "set14", 31.0)                                   # of other weights
    cell(tmp_path, digest, "set5", 1.0, model_name="mine.v", base="mine")     # a variant
    cell(tmp_path, digest, "manga109", 1.0, inference={"dtype": "bfloat16"})
    files.write_json(tmp_path / "leaks.json", records.make(
        "leaks", {"run": "x"}, {}, result={
            "compared": [{"train": train, "test": test, "train_images": 3, "test_images": 5}
                         for train, test in (("tinytrain", "set5"), ("tinytrain", "bsd100"),
                                             ("elsewhere", "set5"))],
            "pairs": [{"train": "tinytrain", "test": test, "train_image": image,
                       "test_image": "a", "kind": "near"}
                      for test, image in (("set5", "img11"), ("bsd100", "img12"))],
            "not_compared": []}))
    data, header = export(tmp_path)
    assert storage.header_of(tmp_path, data) == header | {
        "weights": storage.header_of(tmp_path, data)["weights"]}
    assert header["scores"] == [
        {"protocol": "sr-x2@2", "dataset": "bsd100", "count": 2, "psnr": 30.25, "ssim": None},
        {"protocol": "sr-x2@2", "dataset": "set5", "count": 2, "psnr": 33.5, "ssim": None}]
    assert header["leaks"] == [
        {"train": "tinytrain", "test": "set5", "shared": 0, "left_out": 1},
        {"train": "tinytrain", "test": "bsd100", "shared": 1, "left_out": 0}]
    assert header["validation"] == [[3, 20.5], [9, 21.25]]
    assert (header["seconds"], header["images_seen"], header["storage"]) == (75.5, 18, "float16")
    assert header["hardware"]["threads"] == 2 and header["command"] == "irbench train"
    assert header["scores_of"]["sha256"] == digest


def test_optional_fields_of_a_record_may_be_missing(plugin, tmp_path):
    finish(tmp_path, built(plugin).state_dict(), plugin)
    path = tmp_path / "training/sr-x2@2/mine.json"
    record = json.loads(path.read_text())
    for name in ("validation", "best", "parameters", "device_name"):
        del record["result"][name]
    path.write_text(json.dumps(seal(record)))
    header = export(tmp_path)[1]
    assert (header["validation"], header["scores"], header["leaks"]) == ([], [], None)


def test_the_best_weights_are_exported_where_there_are_some(plugin, tmp_path):
    with pytest.raises(UserError, match="kept no best weights.*Omit --best"):
        finish(tmp_path, built(plugin).state_dict(), plugin)
        export(tmp_path, best=True)
    best = tmp_path / "checkpoints/sr-x2@2/mine.best.safetensors"
    state = built(plugin, seed=5).state_dict()
    finish(tmp_path, state, plugin).rename(best)
    finish(tmp_path, built(plugin).state_dict(), plugin, best={
        "step": 3, "psnr": 22.0, "file": str(best.relative_to(tmp_path)),
        "sha256": digests.file_digest(best)})
    data, header = export(tmp_path, best=True, half=False)
    assert header["best"] == {"step": 3, "psnr": 22.0}
    assert equal(storage.tensors(best, data), state)


def test_a_record_and_a_file_that_do_not_belong_together_are_refused(plugin, tmp_path):
    file = finish(tmp_path, built(plugin).state_dict(), plugin)
    flip(file)
    with pytest.raises(UserError, match="not the file that the training's record names"):
        export(tmp_path)
    file.unlink()
    with pytest.raises(Unavailable, match="no such file. Train again, which"):
        export(tmp_path)
    # the record's digest is right, but the file is of another training
    loading.save(file, built(plugin).state_dict(), model(plugin), SR, training="e" * 64)
    path = tmp_path / "training/sr-x2@2/mine.json"
    record = json.loads(path.read_text())
    record["result"]["checkpoint"]["sha256"] = digests.file_digest(file)
    path.write_text(json.dumps(seal(record)))
    with pytest.raises(UserError, match="another training than the record .training differ"):
        export(tmp_path)


def test_no_training_an_unfinished_one_and_values_too_large(plugin, tmp_path):
    with pytest.raises(UserError, match="unknown training 'sr-x2/mine'.*Valid: none"):
        export(tmp_path)
    state = built(plugin).state_dict()
    finish(tmp_path, {**state, "last.bias": torch.full((12,), 70000.0)}, plugin)
    with pytest.raises(UserError, match="last.bias has values that float16 cannot hold.*--float32"):
        export(tmp_path)
    assert export(tmp_path, half=False)
    record = records.make("training", {"protocol": "sr-x2@2", "model": "mine"}, {},
                          status="failed", reason="the loss is nan")
    files.write_json(tmp_path / "training/sr-x2@2/mine.json", record)
    with pytest.raises(Unavailable, match="failed: the loss is nan"):
        export(tmp_path)


def test_a_header_is_told_what_is_wrong_with_it(plugin, tmp_path):
    finish(tmp_path, built(plugin).state_dict(), plugin)
    header = export(tmp_path)[1]
    assert headers.wrong(header) == [] == headers.wrong({})
    assert headers.wrong({**header, "levels": SIGMA, "else": [1, {"a": "b\n"}]}) == []
    assert headers.wrong({**header, "arch": None, "steps": True, "\x1b": 1}) == [
        "'\\x1b'", "arch", "steps"]


def test_a_training_under_way_is_not_unknown(plugin, tmp_path):
    (tmp_path / "training/sr-x2@2").mkdir(parents=True)
    (tmp_path / "training/sr-x2@2/mine.state").write_bytes(b"")
    with pytest.raises(Unavailable, match="mine.state: the training sr-x2/mine is not finished. "
                                          "Continue it with irbench train; then export"):
        export(tmp_path)
    (tmp_path / "training/sr-x2@2/mine.state").rename(tmp_path / "training/sr-x2@2/other.state")
    with pytest.raises(UserError, match="unknown training"):
        export(tmp_path)


def test_uncommitted_changes_are_kept(plugin, tmp_path):
    finish(tmp_path, built(plugin).state_dict(), plugin)
    path = tmp_path / "training/sr-x2@2/mine.json"
    record = json.loads(path.read_text())
    for git, reported in (({"commit": "a" * 40, "dirty": True}, ("a" * 40, True)),
                          (None, (None, None))):
        record["provenance"]["git"] = git
        path.write_text(json.dumps(record))
        header = export(tmp_path)[1]
        assert (header["git"], header["dirty"]) == reported
