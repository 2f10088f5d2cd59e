"""Latency, memory and device of a profile: what is measured, and what is said when it cannot be."""

import json
import time
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from irbench import profiling, records, sources
from irbench.errors import Unavailable, UserError

MIB = 2**20
SIZE = {"channels": 3, "height": 8, "width": 10, "warmup": 1, "samples": 3, "threads": 1}
linux = pytest.mark.skipif(not profiling.CLEAR_REFS.exists(), reason="needs Linux")


def test_what_moves_a_latency_is_code_of_a_profile():
    """Changing how memory is kept changes what was measured, so profiles are measured again."""
    assert {"irbench.profiling", "irbench.allocator"} <= set(sources.modules("profile"))


class Watched(nn.Module):
    """Notes the circumstances of every call of itself or a copy."""

    calls: list = []  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        self.calls.append(SimpleNamespace(
            training=self.training, inference=torch.is_inference_mode_enabled(),
            threads=torch.get_num_threads(), shape=tuple(x.shape), dtype=x.dtype,
            low=float(x.min()), high=float(x.max())))
        return self.conv(x)


class Temporary(nn.Module):
    """Allocates and frees, one after the other, tensors of so many MiB."""

    def __init__(self, *sizes):
        super().__init__()
        self.sizes = sizes

    def forward(self, x):
        for size in self.sizes:
            torch.ones(size * MIB // 4)
        return x


def test_the_result_is_whole_and_makes_a_record():
    model = nn.Conv2d(3, 4, 3, padding=1)
    result = profiling.profile(model, **SIZE, batch=2)
    assert result["parameters"] == 4 * 3 * 9 + 4
    assert result["macs"] == 2 * 4 * 8 * 10 * 27 == result["macs_by_kind"]["conv"]
    assert result["uncounted"] == {}
    assert result["input"] == {"batch": 2, "channels": 3, "height": 8, "width": 10}
    assert len(result["latency_ms"]["samples"]) == 3
    assert result["latency_ms"]["warmup"] == 1
    assert 0 < result["latency_ms"]["p50"] <= result["latency_ms"]["p90"]
    assert (result["device"], result["dtype"], result["threads"]) == ("cpu", "float32", 1)
    assert result["device_name"]
    record = records.make("profile", {"protocol": "sr-x2@1", "model": "m"}, {}, result=result)
    assert json.loads(json.dumps(record))["result"] == result


def test_runs_are_in_eval_and_inference_mode_with_the_given_threads():
    before = torch.get_num_threads()
    Watched.calls.clear()
    model = Watched()
    profiling.profile(model, **{**SIZE, "warmup": 2, "threads": before + 1})
    assert len(Watched.calls) == 2 + 3 + 2 + 1  # warm-up, samples, memory, MACs
    for call in Watched.calls:
        assert (call.training, call.inference, call.threads) == (False, True, before + 1)
        assert call.shape == (1, 3, 8, 10)
        assert 0 <= call.low < 0.2 < 0.8 < call.high <= 1
    assert torch.get_num_threads() == before
    model.conv(torch.rand(1, 3, 4, 4)).sum().backward()  # the weights still take a gradient


def test_the_dtype_is_the_weights_and_the_inputs():
    Watched.calls.clear()
    result = profiling.profile(Watched(), **SIZE, dtype="bfloat16")
    assert {call.dtype for call in Watched.calls} == {torch.bfloat16}
    assert result["dtype"] == "bfloat16"


def test_percentiles_interpolate_and_samples_keep_their_order():
    found = profiling.latency([4.0, 1.0, 3.0, 2.00004], 5)
    assert (found["p50"], found["p90"]) == (2.5, 3.7)
    assert found["samples"] == [4.0, 1.0, 3.0, 2.0]
    assert found["warmup"] == 5


def test_a_latency_is_in_milliseconds():
    assert 20 <= profiling.timed(lambda: time.sleep(0.02), "cpu") < 200


def test_cuda_is_timed_by_events_between_synchronisations(monkeypatch):
    told = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            told.append("record")

        def elapsed_time(self, end):
            return 1.5

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: told.append("wait"))
    assert profiling.timed(lambda: told.append("run"), "cuda") == 1.5
    assert told == ["wait", "record", "run", "record", "wait"]


# -- memory ------------------------------------------------------------------------------------

@linux
def test_memory_is_the_highest_point_not_the_sum():
    def peak(*sizes):
        result = profiling.profile(Temporary(*sizes), **SIZE)
        assert result["peak_memory_of"] == "process RSS growth"
        return result["peak_memory_bytes"]

    assert 30 * MIB - MIB < peak(30) < 34 * MIB
    assert 50 * MIB - MIB < peak(40, 50, 10) < 54 * MIB  # malloc gives back 40 by itself
    # smaller ones it keeps, in holes that later ones do not fit into
    assert 20 * MIB - MIB < peak(10, 20, 10, 5, 10) < 24 * MIB
    assert 30 * MIB - MIB < peak(25, 28, 30) < 34 * MIB
    assert peak() < 4 * MIB  # neither the process nor earlier peaks are in it


@linux
def test_memory_held_by_malloc_neither_hides_a_peak_nor_adds_to_it():
    def forward():
        for blocks in (60, 90, 60):  # of half a MiB: small enough for malloc to keep
            [torch.ones(MIB // 8) for _ in range(blocks)]

    found = []
    for _ in range(2):
        kept = [torch.ones(MIB // 8) for _ in range(200)]
        pins = [torch.ones(2000) for _ in range(3)]  # above them in the heap, which cannot shrink
        del kept
        found.append(profiling._resident_peak(forward)[0])
        del pins
    assert all(44 * MIB < n < 48 * MIB for n in found), found


def test_memory_that_cannot_be_measured_is_missing_with_a_reason(monkeypatch, tmp_path):
    monkeypatch.setattr(profiling, "CLEAR_REFS", tmp_path / "none" / "clear_refs")
    result = profiling.profile(nn.Identity(), **SIZE)
    assert result["peak_memory_bytes"] is None
    assert result["peak_memory_of"] is None
    assert "needs Linux" in result["missing"]["peak_memory_bytes"]


def test_too_little_memory_is_unavailable():
    class Huge(nn.Module):
        def forward(self, x):
            return torch.empty(10**15)

    with pytest.raises(Unavailable, match=r"not enough memory to profile Huge on cpu .* 1 x 3 x 8"):
        profiling.profile(Huge(), **SIZE)


def test_other_errors_of_a_model_are_its_own():
    class Broken(nn.Module):
        def forward(self, x):
            return x @ x

    with pytest.raises(RuntimeError, match="size") as caught:
        profiling.profile(Broken(), **SIZE)
    assert not isinstance(caught.value, UserError)
    with pytest.raises(AttributeError, match="mine"):
        profiling._resident_peak(lambda: Broken().mine)
    assert profiling.out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not profiling.out_of_memory(ValueError("can't allocate memory"))


# -- what is missing, what is wrong ------------------------------------------------------------

def test_macs_that_cannot_be_counted_are_missing_with_a_reason():
    class Untraceable(nn.Module):
        def forward(self, x):
            if torch.jit.is_tracing():
                raise ValueError("not me")
            return x

    result = profiling.profile(Untraceable(), **SIZE)
    assert result["macs"] is None
    assert result["macs_by_kind"] is None
    assert "not me" in result["missing"]["macs"]


@pytest.mark.parametrize("name", ["channels", "height", "width", "batch", "warmup", "samples",
                                  "threads"])
@pytest.mark.parametrize("value", [0, -1, 1.0, True, "1"])
def test_numbers_are_whole_and_positive(name, value):
    with pytest.raises(UserError, match=rf"profile: {name} is {value!r}"):
        profiling.profile(nn.Identity(), **{**SIZE, name: value})


def test_unknown_names_are_refused_with_the_valid_ones():
    with pytest.raises(UserError, match=r"unknown dtype 'float'.*bfloat16"):
        profiling.profile(nn.Identity(), **SIZE, dtype="float")
    with pytest.raises(UserError, match=r"unknown device 'gpu'.*auto, cpu, cuda"):
        profiling.profile(nn.Identity(), **SIZE, device="gpu")


def test_a_device_comes_with_a_reason(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert profiling.pick_device("cpu") == ("cpu", "asked for")
    device, reason = profiling.pick_device("auto")
    assert device == "cpu"
    assert "CUDA" in reason
    with pytest.raises(UserError, match=r"device 'cuda': .*CUDA.* auto"):
        profiling.pick_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "H100")
    assert profiling.pick_device("auto") == ("cuda", "torch found H100")
    assert profiling.pick_device("cpu") == ("cpu", "asked for")
    assert profiling.pick_device("cuda")[0] == "cuda"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda():
    other = torch.ones(64 * MIB // 4, device="cuda")  # not the model's
    result = profiling.profile(Temporary(100, 40).cuda(), **SIZE, device="cuda")
    assert result["device"] == "cuda"
    assert result["device_name"] == torch.cuda.get_device_name()
    assert result["peak_memory_of"] == "CUDA allocator"
    assert result["peak_memory_bytes"] < MIB  # Temporary's tensors are on the CPU
    assert set(result["precision"]) == {"conv", "matmul"}

    class OnDevice(Temporary):
        def forward(self, x):
            for size in self.sizes:
                torch.ones(size * MIB // 4, device=x.device)
            return x

    result = profiling.profile(OnDevice(100, 40), **SIZE, device="cuda")
    assert 100 * MIB <= result["peak_memory_bytes"] < 104 * MIB
    with pytest.raises(Unavailable, match="not enough memory"):
        profiling.profile(OnDevice(10**7), **SIZE, device="cuda")
    assert other.sum() == 16 * MIB
