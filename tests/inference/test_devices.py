"""Names of devices: which are valid, which are there, and what is said if one is not.

No test machine has two GPUs or one of Apple; torch's answers are simulated.
"""

import contextlib

import pytest
import torch
from torch import nn

from irbench import cli
from irbench.core.errors import UserError
from irbench.inference import devices
from irbench.inference.options import resolve
from irbench.inference.prepare import prepare
from irbench.jobs import run as jobs
from irbench.plan import config
from tests.helpers import tiny


@pytest.fixture
def two_gpus(monkeypatch):
    """A machine that seems to have two GPUs; returns the numbers of those that were chosen."""
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number=None: f"GPU {number or 0}")
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)

    @contextlib.contextmanager
    def device(number):
        chosen.append(number)
        yield
        chosen.append("back")

    monkeypatch.setattr(torch.cuda, "device", device)
    return chosen


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:1\n", "CPU", "mps:0"])
def test_other_names_are_refused_everywhere(name, tmp_path, capsys):
    with pytest.raises(UserError, match="unknown device .*Valid: auto, cpu, cuda, cuda:0, cuda:1"):
        devices.pick_device(name)
    path = tiny.make(tmp_path, device=name)
    with pytest.raises(UserError, match="device: .* is not valid. Valid: auto, cpu, cuda, cuda:1"):
        config.load(path)
    with pytest.raises(SystemExit):
        cli.main(["eval", "--device", name])
    assert "unknown device" in capsys.readouterr().err


def test_a_gpu_by_its_number_is_the_current_one(two_gpus, tmp_path, capsys):
    assert jobs.pick_device("cuda:1") == "cuda"
    assert capsys.readouterr().err == "device cuda:1: asked for; it is GPU 1\n"
    with devices.using("cuda:1"), devices.using("cuda"), devices.using("cpu"):
        pass
    assert two_gpus == [1, 1, "back"]
    with pytest.raises(UserError, match="device 'cuda:2': only cuda:0 to cuda:1 are here"):
        devices.pick_device("cuda:2")
    assert config.load(tiny.make(tmp_path, device="cuda:1"))["device"] == "cuda:1"


def test_one_gpu_is_not_for_several_processes(two_gpus, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tiny.make(tmp_path)
    assert cli.main(["train", "--protocol", "sr-x2", "--model", "tiny", "--processes", "2",
                     "--device", "cuda:1"]) == 2
    assert "Give --device cuda, and choose GPUs with CUDA_VISIBLE_DEVICES" in (
        capsys.readouterr().err)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps"])
def test_a_device_that_is_not_here_is_one_sentence(name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=f"device '{name}': .*Use --device cpu or auto"):
        devices.pick_device(name)


def test_a_gpu_of_apple_is_taken_if_asked_for(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert devices.pick_device("mps")[0] == "mps"
    with pytest.raises(UserError, match="device 'mps' has no float64"):
        prepare(nn.Identity(), resolve({"dtype": "float64"}, "x"), "mps")
