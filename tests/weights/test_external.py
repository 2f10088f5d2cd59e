"""Third-party files: what they are, whether they fit, and that nothing is done in silence."""

import hashlib
import os
import pathlib

import numpy as np
import pytest
import spandrel
import torch
from safetensors.torch import save_file
from spandrel.architectures.DnCNN import DnCNN
from spandrel.architectures.RCAN import RCAN

from irbench.catalog import peers, protocols
from irbench.core.errors import Unavailable, UserError
from irbench.data import obtain, sets
from irbench.imaging import degrade
from irbench.imaging.images import to_uint8
from irbench.jobs.profiling import macs
from irbench.weights import external
from tests.helpers.foreign import compact, drunet, saved, swinir

pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid")


def dncnn(channels=1):
    return DnCNN(in_nc=channels, out_nc=channels, nc=8, nb=5, act_mode="BR")


def fdncnn():
    return DnCNN(in_nc=2, out_nc=1, nc=8, nb=8, act_mode="R", mode="FDnCNN")


def forward(network, x):
    with torch.inference_mode():
        return network(x)


# -- what fits ---------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors", "no_suffix"])
def test_a_file_is_known_by_its_content(tmp_path, name):
    path, network = saved(tmp_path, compact(), name)
    loaded, digest = external.load(path, protocols.get("sr-x2"))
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert loaded.about["architecture"] == "RealESRGAN Compact" and loaded.about["scale"] == 2
    assert not loaded.training
    x = torch.rand(1, 3, 9, 14)
    assert torch.equal(forward(loaded, x), forward(network, x))


def test_small_images_are_continued_and_cropped(tmp_path):
    path, network = saved(tmp_path, swinir())
    loaded, _ = external.load(path, protocols.get("sr-x2"))
    assert loaded.about["size"]["minimum"] == 16
    x = torch.rand(1, 3, 5, 21)
    padded = torch.from_numpy(np.pad(x.numpy(), ((0, 0), (0, 0), (0, 11), (0, 0)), "reflect"))
    assert torch.equal(forward(loaded, x), forward(network, padded)[..., :10, :42])


def described(arch="Compact", purpose="SR", kind=spandrel.ImageModelDescriptor, **more):
    """A descriptor by hand, of a network that enlarges by 2."""
    network = compact()
    if kind is spandrel.ImageModelDescriptor:
        more |= {"scale": 2}
    return kind(network, network.state_dict(), spandrel.MAIN_REGISTRY[arch].architecture, purpose,
                [], False, False, input_channels=3, output_channels=3, **more)


def test_a_square_multiple_is_met():
    seen = []
    descriptor = described(size_requirements=spandrel.SizeRequirements(0, 8, True),
                           call_fn=lambda model, x: (seen.append(tuple(x.shape[-2:])), model(x))[1])
    loaded = external.External(descriptor, None, {"architecture": "Square"})
    assert forward(loaded, torch.rand(1, 3, 9, 20)).shape[-2:] == (18, 40)
    assert seen == [(24, 24)]


def test_the_input_is_not_changed_by_networks_that_scale_in_place(tmp_path):
    path, _ = saved(tmp_path, RCAN(n_resgroups=1, n_resblocks=1, n_feats=8, reduction=2, scale=2))
    loaded, _ = external.load(path, protocols.get("sr-x2"))
    x = torch.rand(1, 3, 8, 8)
    before = x.clone()
    forward(loaded, x)
    assert torch.equal(x, before)


@pytest.mark.parametrize(("make", "protocol", "channels"), [
    (drunet, "denoise_color-sigma50", 3), (fdncnn, "denoise_gray-sigma25", 1)])
def test_a_network_is_told_the_level_of_the_protocol(tmp_path, make, protocol, channels):
    path, network = saved(tmp_path, make())
    protocol = protocols.get(protocol)
    loaded, _ = external.load(path, protocol)
    level = protocol.degradation["sigma"] / 255
    assert loaded.about["level"] == level
    x = torch.rand(2, channels, 16, 24)
    right, default = (forward(network, torch.cat([x, torch.full((2, 1, 16, 24), value)], 1))
                      for value in (level, 15 / 255))
    found = forward(loaded, x)
    assert torch.equal(found, right) and not torch.equal(found, default)


def test_macs_by_hand(tmp_path):
    """DnCNN: 5 convolutions; SwinIR: 2 blocks of qkv, projection, MLP, and window attention."""
    size, x = 32 * 32, torch.rand(1, 1, 32, 32)
    loaded, _ = external.load(saved(tmp_path, dncnn())[0], protocols.get("denoise_gray-sigma25"))
    counted = macs.count(loaded, (x,))
    assert counted.total == size * 9 * (8 + 3 * 64 + 8) and not counted.uncounted
    loaded, _ = external.load(saved(tmp_path, swinir())[0], protocols.get("sr-x2"))
    counted = macs.count(loaded, (torch.rand(1, 3, 32, 32),))
    assert counted.by_kind["linear"] == 2 * size * (12 * 36 + 12 * 12 + 2 * 12 * 24)
    assert counted.by_kind["attention"] == 2 * size * 64 * 12 * 2
    assert counted.by_kind["conv"] == size * 9 * (3 * 12 + 2 * 12 * 12 + 12 * 12)
    assert not counted.uncounted


# -- what does not -----------------------------------------------------------------------------

@pytest.mark.parametrize(("make", "protocol", "message"), [
    (compact, "sr-x3", r"it is RealESRGAN Compact \(SR, x2, 3 channels in, 3 out\); sr-x3@2 needs "
                       "x3 and 3"),
    (compact, "denoise_color-sigma25", "needs x1 and 3"),
    (dncnn, "denoise_color-sigma25", "1 channel in, 1 out.*needs x1 and 3"),
    (dncnn, "sr-x2", "DnCNN .Restoration, x1.*needs x2"),
    (lambda: dncnn(3), "denoise_gray-sigma25", "3 channels in, 3 out.*needs x1 and 1"),
    (drunet, "jpeg_color-q10", "needs the noise level as input, and this protocol has none"),
    (fdncnn, "jpeg_gray-q10", "needs the noise level"),
])
def test_a_file_that_does_not_fit_is_refused(tmp_path, make, protocol, message):
    path, _ = saved(tmp_path, make())
    with pytest.raises(UserError, match=message) as caught:
        external.load(path, protocols.get(protocol))
    assert str(path) in str(caught.value) and not isinstance(caught.value, Unavailable)


@pytest.mark.parametrize(("descriptor", "message"), [
    (described("LaMa", "Inpainting", spandrel.MaskedImageModelDescriptor), "holes given by a mask"),
    (described("GFPGAN", "FaceSR"), "it restores faces only"),
    (described("AuraSR"), "it draws random numbers"),
])
def test_networks_for_something_else_are_refused(tmp_path, monkeypatch, descriptor, message):
    monkeypatch.setattr(external, "_descriptor", lambda *_: (descriptor, {}))
    with pytest.raises(UserError, match=message):
        external.load(saved(tmp_path, dncnn())[0], protocols.get("sr-x2"))


def test_an_unknown_special_call_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(external, "CALLS", ())
    path, _ = saved(tmp_path, dncnn())
    with pytest.raises(UserError, match="special way that irbench does not know"):
        external.load(path, protocols.get("denoise_gray-sigma25"))


class Code:
    """Unpickling it would run a command."""

    def __reduce__(self):
        return os.system, ("touch SHOULD_NOT_EXIST",)


def pickled(value, **options):
    def write(path):
        torch.save(value() if callable(value) else value, path, **options)
    return write


def cut(write, share):
    def shortened(path):
        write(path)
        data = path.read_bytes()
        path.write_bytes(data[:int(share * len(data))])
    return shortened


def flipped(path):
    pickled({"a": torch.zeros(5000)})(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


STATE = {"weight": torch.zeros(300, 3)}
LEGACY = {"_use_new_zipfile_serialization": False}


@pytest.mark.parametrize(("write", "message"), [
    (lambda p: p.write_bytes(b""), "not a checkpoint .it is empty"),
    (lambda p: p.write_bytes(b"<!DOCTYPE html><html>"), "a web page"),
    (lambda p: p.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "Git LFS pointer"),
    (lambda p: p.write_bytes(b"hello world, no weights"), "it begins with b'hello"),
    (cut(pickled(STATE), 0.5), "cut short"),
    (cut(pickled(STATE), 0.99), "cut short"),
    (cut(pickled(STATE, **LEGACY), 0.5), "cut short"),
    (cut(pickled(STATE, **LEGACY), 0.99), "cut short"),
    (cut(lambda p: save_file(STATE, p), 0.9), "safetensors file that is broken or cut short"),
    (flipped, "is damaged"),
    (pickled({"a": Code()}), "more than tensors .*system"),
    (pickled({"a": Code()}, **LEGACY), "more than tensors .*system"),
    (pickled(lambda: torch.nn.Linear(2, 2)), "more than tensors .torch.nn.modules.linear.Linear."),
    (pickled({**STATE, "args": pathlib.PurePath("x")}), "more than tensors .pathlib"),
    (pickled([torch.zeros(2)]), "holds a list, not a state dict"),
    (pickled(STATE), "none of the .* architectures of spandrel .*first names: weight"),
    (pickled({}), "none of the .* architectures"),
    (pickled({1: torch.zeros(2), "a": 3}), "taken for no architecture|none of the"),
    (pickled(lambda: {k: v[:1] for k, v in dncnn().state_dict().items() if v.dim()}),
     "taken for DnCNN, but its tensors do not fit"),
])
@pytest.mark.filterwarnings("ignore")
def test_what_is_no_usable_file_is_said_in_one_message(tmp_path, monkeypatch, write, message):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pth"
    write(path)
    with pytest.raises(UserError, match=message) as caught:
        external.load(path, protocols.get("denoise_gray-sigma25"))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "SHOULD_NOT_EXIST").exists()


def test_another_digest_no_file_a_folder(tmp_path):
    path, _ = saved(tmp_path, dncnn())
    protocol = protocols.get("denoise_gray-sigma25")
    with pytest.raises(UserError, match=f"SHA-256 is [0-9a-f]{{64}}, expected {'0' * 64}"):
        external.load(path, protocol, "0" * 64)
    with pytest.raises(Unavailable, match="no such file"):
        external.load(tmp_path / "none.pth", protocol)
    with pytest.raises(UserError, match="Is a directory"):
        external.load(tmp_path, protocol)


def test_restormer_needs_the_extra_package(tmp_path, monkeypatch):
    keys = external.EXTRA_KEYS["Restormer"]
    torch.save({"params": {key: torch.zeros(1) for key in keys}}, tmp_path / "r.pth")
    monkeypatch.setattr(external, "_add_extra", lambda: False)
    with pytest.raises(Unavailable, match="pip install spandrel_extra_arches"):
        external.load(tmp_path / "r.pth", protocols.get("deblur-motion"))
    monkeypatch.setattr(external, "_add_extra", lambda: True)
    with pytest.raises(UserError, match="none of the"):
        external.load(tmp_path / "r.pth", protocols.get("deblur-motion"))


@pytest.mark.parametrize(("result", "message"), [
    (lambda x: x[..., 1:],
     r"returned a tensor of shape \(1, 3, 8, 7\) .* of shape \(1, 3, 16, 16\)"),
    (lambda x: [x], "returned a list of 1 .tensors."),
    (lambda x: x.reshape(5, -1), r"forward pass failed on an input of \(1, 3, 8, 8\)"),
])
def test_a_network_that_fails_is_named(tmp_path, result, message):
    loaded, _ = external.load(saved(tmp_path, compact())[0], protocols.get("sr-x2"))
    loaded._call = lambda model, x: result(x)
    with pytest.raises(UserError, match=f"RealESRGAN Compact: .*{message}"):
        forward(loaded, torch.rand(1, 3, 8, 8))


# -- the real file -----------------------------------------------------------------------------

@pytest.mark.mirror
def test_dncnn_as_published_on_a_real_image(mirror, tmp_path):
    """The whole way of a peer against the 17 layers written out, on one image of Set12."""
    peer = peers.catalog()["dncnn"]
    protocol = protocols.get("denoise_gray-sigma25")
    entry = sets.get("weights_dncnn")
    row = sets.manifest(entry)[0]
    assert (peer.urls["sigma25"], peer.sha256["sigma25"]) == (row.url, row.sha256)
    path = obtain.fetch(entry, tmp_path, progress=False).images[0].path
    loaded, _ = external.load(path, protocol, row.sha256)
    assert sum(p.numel() for p in loaded.parameters()) == 555_137  # 0.56 M printed

    item = obtain.fetch(sets.get("set12"), tmp_path, progress=False).role("hr")[1]
    target = degrade.prepare_target(item.load(), protocol)[:96, :128]
    noisy = degrade.degrade(target, protocol)
    x = torch.from_numpy(noisy).permute(2, 0, 1)[None]
    state = torch.load(path, weights_only=True)
    y, convolution = x, torch.nn.functional.conv2d
    for index in range(0, 40, 2):
        if f"model.{index}.weight" not in state:
            break
        y = convolution(y.relu() if index else y, state[f"model.{index}.weight"],
                        state[f"model.{index}.bias"], padding=1)
    expected = to_uint8((x - y)[0].permute(1, 2, 0).numpy()).astype(int)
    found = to_uint8(forward(loaded, x)[0].permute(1, 2, 0).numpy()).astype(int)
    assert np.abs(found - expected).max() <= 1 and (found != expected).mean() < 1e-3
    noise, left = (((image / 255 - target / 255) ** 2).mean() for image in (noisy * 255, found))
    assert 10 * np.log10(noise / left) > 9  # dB gained
