"""Latency, memory and device of a profile: what is measured, and the reason if it cannot be."""

import importlib.util
import json
import time
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from irbench.catalog.model import Inference
from irbench.core import records
from irbench.core.errors import Unavailable, UserError
from irbench.imaging.photograph import photograph
from irbench.inference import memory
from irbench.jobs.profiling import elsewhere, profile
from irbench.models import registry
from irbench.plan import sources
from tests.helpers.allocations import MIB, Temporary

SIZE = {"channels": 3, "height": 8, "width": 10, "warmup": 1, "samples": 3, "threads": 1}


def test_what_moves_a_latency_is_code_of_a_profile():
    """Changing how memory is kept changes what was measured, so profiles are measured again."""
    assert {f"irbench.{name}" for name in (
        "imaging.photograph", "inference.allocator", "inference.memory", "inference.options",
        "inference.prepare", "inference.tiling", "jobs.profiling.energy",
        "jobs.profiling.mac_handles", "jobs.profiling.macs", "jobs.profiling.profile",
        "jobs.profiling.sweep")} <= set(sources.closure("profile").modules)


class Watched(nn.Module):
    """Notes the circumstances of every call of itself or a copy."""

    calls: list = []  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        self.calls.append(SimpleNamespace(
            training=self.training, inference=torch.is_inference_mode_enabled(),
            threads=torch.get_num_threads(), shape=tuple(map(int, x.shape)), dtype=x.dtype,
            low=float(x.min()), high=float(x.max())))
        return self.conv(x)


def test_the_result_is_whole_and_makes_a_record():
    model = nn.Conv2d(3, 4, 3, padding=1)
    result = profile.profile(model, **SIZE, batch=2)
    assert result["parameters"] == 4 * 3 * 9 + 4
    assert result["macs"] == 2 * 4 * 8 * 10 * 27 == result["macs_by_kind"]["conv"]
    assert result["uncounted"] == {}
    assert result["input"] == {"batch": 2, "channels": 3, "height": 8, "width": 10}
    assert len(result["latency_ms"]["samples"]) == 3
    assert result["latency_ms"]["warmup"] == 1
    assert 0 < result["latency_ms"]["p50"] <= max(result["latency_ms"]["samples"])
    assert (result["device"], result["dtype"], result["threads"]) == ("cpu", "float32", 1)
    assert result["macs_keys_only"] == result["macs"]
    assert result["tiles"] == 1
    p50 = result["latency_ms"]["p50"]
    assert result["throughput"]["images_per_s"] == pytest.approx(2000 / p50, rel=1e-5)
    assert result["throughput"]["megapixels_per_s"] == pytest.approx(2 * 80 / p50 / 1e3, rel=1e-5)
    for absent in ("attention", "dictionary", "dictionary_of", "sweep"):  # not missing: none there
        assert result[absent] is None
        assert absent not in result["missing"]
    assert result["device_name"]
    record = records.make("profile", {"protocol": "sr-x2@2", "model": "m"}, {}, result=result)
    assert json.loads(json.dumps(record))["result"] == result


def test_runs_are_in_eval_and_inference_mode_with_the_given_threads():
    before = torch.get_num_threads()
    Watched.calls.clear()
    model = Watched()
    profile.profile(model, **{**SIZE, "warmup": 2, "threads": before + 1})
    assert len(Watched.calls) == 2 + 3 + 2 + 1  # warm-up, samples, memory, MACs
    for call in Watched.calls:
        assert (call.training, call.inference, call.threads) == (False, True, before + 1)
        assert call.shape == (1, 3, 8, 10)
        assert 0 <= call.low < 0.2 < 0.8 < call.high <= 1
    assert torch.get_num_threads() == before
    model.conv(torch.rand(1, 3, 4, 4)).sum().backward()  # the weights still take a gradient


def test_a_self_ensemble_is_measured_and_counted_as_eight_passes():
    Watched.calls.clear()
    once = profile.profile(Watched(), **SIZE)
    plain = len(Watched.calls)
    Watched.calls.clear()
    plus = profile.profile(Watched(), **SIZE, inference=Inference(self_ensemble=True))
    assert plus["macs"] == 8 * once["macs"]
    assert plus["tiles"] == 1
    assert plus["parameters"] == once["parameters"]
    # warm-up, samples and memory are 8 passes each; the count takes one for each size of input
    shapes = [call.shape[-2:] for call in Watched.calls]
    assert shapes[:8] == [(8, 10), (10, 8)] * 4
    assert len(shapes) - plain >= 7 * (1 + 3 + 1)


def test_inference_options_are_applied_to_all_but_the_count():
    Watched.calls.clear()
    result = profile.profile(Watched(), **SIZE, inference=Inference(dtype="bfloat16"))
    *runs, counted = [call.dtype for call in Watched.calls]
    assert set(runs) == {torch.bfloat16}
    assert counted == torch.float32
    assert result["dtype"] == result["inference"]["dtype"] == "bfloat16"
    assert result["inference"]["compile"] is False  # all options are there
    assert result["macs"] == 4 * 8 * 10 * 27


def test_the_median_interpolates_and_samples_keep_their_order():
    found = profile.latency([4.0, 1.0, 3.0, 2.00004], 5)
    assert found["p50"] == 2.5 and "p90" not in found   # who prints it asks for enough samples
    assert found["samples"] == [4.0, 1.0, 3.0, 2.0]
    assert found["warmup"] == 5


def test_a_latency_is_in_milliseconds():
    assert 20 <= profile.timed(lambda: time.sleep(0.02), "cpu") < 200


def test_cuda_is_timed_by_events_between_synchronisations(monkeypatch):
    calls = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            calls.append("record")

        def elapsed_time(self, end):
            return 1.5

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: calls.append("wait"))
    assert profile.timed(lambda: calls.append("run"), "cuda") == 1.5
    assert calls == ["wait", "record", "run", "record", "wait"]


# -- SemanIR -----------------------------------------------------------------------------------

def semanir(**options):
    small = {"width": 12, "heads": 2, "layers": 1, "stages": 2, "window": 8, "k": 16}
    return registry.get("semanir-light").load()("sr", 2, 3, **{**small, **options})


def test_a_profile_tells_of_attention_and_dictionaries():
    result = profile.profile(semanir(), **{**SIZE, "height": 24, "width": 32})
    assert result["attention"]["implementation"] == "mask"
    assert result["attention"]["reason"]
    first, second = result["dictionary"]
    assert (first["n"], first["k"], first["overlap"]) == (64, 16, None)
    assert 0 < first["self"] <= 1
    assert 0 < second["overlap"] <= 1
    assert result["dictionary_of"] == "photograph (astronaut.png of scikit-image, cut)"
    # 12 windows, 2 layers
    assert result["macs"] - result["macs_keys_only"] == 2 * 12 * 64 * (64 - 16) * 2 * 12
    forced = profile.profile(semanir(attention="gather"), **{**SIZE, "height": 24, "width": 32})
    assert forced["attention"] == {"implementation": "gather", "reason": "asked for"}
    assert forced["macs_by_kind"] == result["macs_by_kind"]


def test_a_photograph_has_the_size_and_channels_asked_for():
    x, of = photograph(3, 40, 700)
    assert x.shape == (1, 3, 40, 700)
    assert "enlarged" in of
    x, of = photograph(1, 512, 100)
    assert x.shape == (1, 1, 512, 100)
    assert "cut" in of
    assert 0 <= x.min() < 0.1 < 0.9 < x.max() <= 1
    # neighbours are alike, as in no random image
    assert (x[..., 1:] - x[..., :-1]).abs().mean() < 0.1


def test_without_a_photograph_values_are_random_and_that_is_said(monkeypatch):
    assert photograph(4, 8, 9)[1] == "random values"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    x, of = photograph(3, 8, 9)
    assert (x.shape, of) == ((1, 3, 8, 9), "random values")


# -- tiles and sweeps --------------------------------------------------------------------------

def test_tiles_that_are_asked_for_are_measured_and_counted():
    Watched.calls.clear()
    model = Watched()
    result = profile.profile(model, **{**SIZE, "height": 40, "width": 16},
                               inference=Inference(tile=24, overlap=8))
    assert result["tiles"] == 2  # 24 and 24 rows, 8 of them shared
    assert {call.shape for call in Watched.calls} == {(1, 3, 24, 16)}
    assert result["macs"] == 2 * 4 * 24 * 16 * 27
    assert result["uncounted"] == {}
    whole = profile.profile(model, **SIZE, inference=Inference(tile=24))  # smaller than a tile
    assert (whole["tiles"], whole["macs"]) == (1, 4 * 8 * 10 * 27)


def test_a_sweep_is_part_of_a_profile():
    Watched.calls.clear()
    result = profile.profile(Watched(), **SIZE, batch=2,
                               sweep={"sizes": [6, 4, 12], "batches": [3, 1], "samples": 2})
    size, batch = result["sweep"]["size"], result["sweep"]["batch"]
    assert [(p["height"], p["width"], p["batch"]) for p in size["points"]] == [
        (4, 4, 2), (6, 6, 2), (12, 12, 2)]
    assert [(p["height"], p["width"], p["batch"]) for p in batch["points"]] == [
        (8, 10, 1), (8, 10, 3)]
    for point in (*size["points"], *batch["points"]):
        assert len(point["latency_ms"]["samples"]) == 2
        assert set(point["missing"]) <= {"peak_memory_bytes"}
        shape = (point["batch"], 3, point["height"], point["width"])
        # warm-up, samples, memory
        assert sum(call.shape == shape for call in Watched.calls) in (3, 5)
    assert size["exponent"]["low"] <= size["exponent"]["value"] <= size["exponent"]["high"]
    assert batch["exponent"] is None
    assert "there are 2" in batch["reason"]


def test_points_of_a_sweep_hold_the_load_elsewhere(monkeypatch):
    """Points this short have no load of their own, but that of the profile's measurement."""
    monkeypatch.setattr(elsewhere.Elsewhere, "__exit__",
                        lambda self, *_: setattr(self, "cores", None if self.least > 0.1 else 1.5))
    result = profile.profile(Watched(), **SIZE, sweep={"sizes": [4, 6, 8], "samples": 1})
    size = result["sweep"]["size"]
    assert [p["latency_ms"]["busy_elsewhere"] for p in size["points"]] == [1.5] * 3
    assert size["exponent"] is None
    assert "there are 0 beside 3 that other processes disturbed" in size["reason"]


def test_a_disturbed_measurement_is_repeated_where_there_is_time(monkeypatch):
    loads = iter([0.0, 1.5, 0.0, 0.0])      # quiet before, busy, quiet before, quiet
    monkeypatch.setattr(elsewhere, "WINDOW", 0.01)
    monkeypatch.setattr(elsewhere.Elsewhere, "__exit__",
                        lambda self, *_: setattr(self, "cores", next(loads)))
    Watched.calls.clear()
    result = profile.profile(Watched(), **SIZE, wait_quiet=60)
    assert result["latency_ms"]["busy_elsewhere"] == 0 and not list(loads)
    assert len(result["latency_ms"]["samples"]) == 3 and len(Watched.calls) >= 1 + 3 + 3


def test_a_point_without_memory_costs_only_itself():
    class Greedy(nn.Module):
        def forward(self, x):
            return torch.empty(10**15 if x.shape[-1] > 8 else 1)

    result = profile.profile(Greedy(), **{**SIZE, "width": 8},
                               sweep={"sizes": [4, 8, 16], "batches": [1], "samples": 1})
    *fine, last = result["sweep"]["size"]["points"]
    assert all(point["latency_ms"] for point in fine)
    assert last["latency_ms"] is last["peak_memory_bytes"] is None
    assert "not enough memory to profile Greedy" in last["missing"]["latency_ms"]
    assert set(last["missing"]) == {"latency_ms", "peak_memory_bytes"}
    assert result["sweep"]["batch"]["points"][0]["latency_ms"]


def test_a_bad_sweep_is_refused_before_anything_runs():
    Watched.calls.clear()
    with pytest.raises(UserError, match=r"sweep.sizes is \[0\]"):
        profile.profile(Watched(), **SIZE, sweep={"sizes": [0]})
    assert Watched.calls == []


# -- memory ------------------------------------------------------------------------------------

def test_memory_that_cannot_be_measured_is_missing_with_a_reason(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "CLEAR_REFS", tmp_path / "none" / "clear_refs")
    result = profile.profile(nn.Identity(), **SIZE)
    assert result["peak_memory_bytes"] is None
    assert result["peak_memory_of"] is None
    assert "needs Linux" in result["missing"]["peak_memory_bytes"]


def test_too_little_memory_is_unavailable():
    class Huge(nn.Module):
        def forward(self, x):
            return torch.empty(10**15)

    with pytest.raises(Unavailable, match=r"not enough memory to profile Huge on cpu .* 1 x 3 x 8"):
        profile.profile(Huge(), **SIZE)


def test_other_errors_of_a_model_are_its_own():
    class Broken(nn.Module):
        def forward(self, x):
            return x @ x

    with pytest.raises(RuntimeError, match="size") as caught:
        profile.profile(Broken(), **SIZE)
    assert not isinstance(caught.value, UserError)
    with pytest.raises(AttributeError, match="mine"):
        profile.resident_peak(lambda: Broken().mine)
    assert profile.out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not profile.out_of_memory(ValueError("can't allocate memory"))


# -- what is missing, what is wrong ------------------------------------------------------------

def test_macs_that_cannot_be_counted_are_missing_with_a_reason():
    class Untraceable(nn.Module):
        def forward(self, x):
            if torch.jit.is_tracing():
                raise ValueError("not me")
            return x

    result = profile.profile(Untraceable(), **SIZE)
    assert result["macs"] is None
    assert result["macs_by_kind"] is None
    assert "not me" in result["missing"]["macs"]


@pytest.mark.parametrize("name", ["channels", "height", "width", "batch", "warmup", "samples",
                                  "threads"])
@pytest.mark.parametrize("value", [0, -1, 1.0, True, "1"])
def test_numbers_are_whole_and_positive(name, value):
    with pytest.raises(UserError, match=rf"profile: {name} is {value!r}"):
        profile.profile(nn.Identity(), **{**SIZE, name: value})


def test_an_unknown_device_is_refused_with_the_valid_ones():
    with pytest.raises(UserError, match=r"unknown device 'gpu'.*auto, cpu, cuda"):
        profile.profile(nn.Identity(), **SIZE, device="gpu")


def test_a_device_comes_with_a_reason(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert profile.pick_device("cpu") == ("cpu", "asked for")
    device, reason = profile.pick_device("auto")
    assert device == "cpu"
    assert "CUDA" in reason
    with pytest.raises(UserError, match=r"device 'cuda': .*CUDA.* auto"):
        profile.pick_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: "H100")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert profile.pick_device("auto") == ("cuda", "torch found H100")
    assert profile.pick_device("cpu") == ("cpu", "asked for")
    assert profile.pick_device("cuda")[0] == "cuda"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda():
    other = torch.ones(64 * MIB // 4, device="cuda")  # not the model's
    result = profile.profile(Temporary(100, 40).cuda(), **SIZE, device="cuda")
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

    result = profile.profile(OnDevice(100, 40), **SIZE, device="cuda")
    assert 100 * MIB <= result["peak_memory_bytes"] < 104 * MIB
    with pytest.raises(Unavailable, match="not enough memory"):
        profile.profile(OnDevice(10**7), **SIZE, device="cuda")
    assert other.sum() == 16 * MIB
