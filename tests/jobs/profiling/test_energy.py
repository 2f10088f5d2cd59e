"""Energy: counters that add up and wrap, and the reason where there is none."""

import re
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from irbench.jobs.profiling import energy, profile

SIZE = {"channels": 3, "height": 8, "width": 10, "warmup": 1, "samples": 3, "threads": 1}


@pytest.fixture
def powercap(monkeypatch, tmp_path):
    """Two packages as Linux shows them, with a sub-domain and psys, which hold the same again."""
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    for domain, name in {"intel-rapl:0": "package-0", "intel-rapl:0:0": "core",
                         "intel-rapl:1": "package-1", "intel-rapl:2": "psys"}.items():
        folder = tmp_path / domain
        folder.mkdir()
        (folder / "name").write_text(f"{name}\n")
        (folder / "max_energy_range_uj").write_text("10000000\n")
        (folder / "energy_uj").write_text("9000000\n")
    return tmp_path


def test_the_cpus_counters_are_added_up_and_may_wrap(powercap):
    meter, reason = energy.meter("cpu")
    assert (meter.what, reason) == ("RAPL of package-0, package-1", "")
    first, second = (powercap / f"intel-rapl:{i}" / "energy_uj" for i in (0, 1))
    first.write_text("9500000")
    assert meter.joules() == pytest.approx(0.5)
    first.write_text("200000")  # beyond 10 J it starts again
    second.write_text("9100000")
    assert meter.joules() == pytest.approx(0.5 + 0.7 + 0.1)
    first.write_text("100000")
    assert meter.joules() == pytest.approx(1.3 + 9.9)
    meter.start()
    assert meter.joules() == 0
    (powercap / "intel-rapl:2" / "energy_uj").write_text("1")
    assert meter.joules() == 0


def test_no_counter_is_a_reason(powercap, monkeypatch):
    (powercap / "intel-rapl:1" / "energy_uj").unlink()
    assert energy.meter("cpu") == (None, f"{powercap}/intel-rapl:1/energy_uj: No such file or "
                                         "directory")
    monkeypatch.setattr(energy, "POWERCAP", powercap / "none")
    meter, reason = energy.meter("cpu")
    assert meter is None
    assert "no intel-rapl package" in reason
    monkeypatch.setattr(energy, "NVML", "libirbench-none.so")
    meter, reason = energy.meter("cuda")
    assert meter is None
    assert "libirbench-none.so cannot be loaded" in reason


def test_a_counter_that_only_root_may_read_is_a_reason(powercap, monkeypatch):
    def denied(self, *arguments, **options):
        raise PermissionError(13, "Permission denied")
    monkeypatch.setattr(type(powercap), "read_text", denied)
    meter, reason = energy.meter("cpu")
    assert meter is None
    assert "may not be read by this user" in reason


class Driver:
    """NVML with one board that spends 2 J whenever it is asked."""

    def __init__(self, code=0):
        self.code, self.spent, self.asked = code, 5000, []

    def nvmlInit_v2(self):  # noqa: N802
        return 0

    def nvmlDeviceGetHandleByUUID(self, uuid, handle):  # noqa: N802
        self.asked.append(uuid)
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, handle, value):  # noqa: N802
        self.spent += 2000
        value._obj.value = self.spent
        return self.code


@pytest.fixture
def board(monkeypatch):
    driver = Driver()
    monkeypatch.setattr(energy.ctypes, "CDLL", lambda name: driver)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties",
                        lambda device: SimpleNamespace(uuid="1234-abcd"))
    return driver


def test_the_boards_counter_is_in_millijoules(board):
    meter, _ = energy.meter("cuda")
    assert board.asked == [b"GPU-1234-abcd"]
    assert meter.joules() == 2
    assert meter.joules() == 4


def test_a_board_that_does_not_count_is_a_reason(board):
    board.code = 3
    meter, reason = energy.meter("cuda")
    assert meter is None
    assert "code 3 (not supported)" in reason


def test_energy_is_per_image_over_runs_that_last_long_enough(monkeypatch):
    counter = SimpleNamespace(value=7.0)

    class Hungry(nn.Module):
        def forward(self, x):
            counter.value += 3  # joules a run
            return x

    monkeypatch.setattr(energy, "meter", lambda device: (
        energy.Meter([(lambda: counter.value, None)], "a counter"), ""))
    monkeypatch.setattr(energy, "LEAST_S", 0.05)
    result = profile.profile(Hungry(), **SIZE, batch=2)
    assert result["energy"]["joules_per_image"] == 1.5
    found = re.fullmatch(r"a counter; (\d+) runs in [\d.]+ s; idle power not subtracted",
                         result["energy"]["method"])
    assert int(found[1]) > 3 == len(result["latency_ms"]["samples"])
    assert "energy" not in result["missing"]


def test_a_counter_that_stands_still_says_nothing(monkeypatch):
    monkeypatch.setattr(energy, "meter", lambda device: (
        energy.Meter([(lambda: 7.0, None)], "a counter"), ""))
    monkeypatch.setattr(energy, "LEAST_S", 0.01)
    result = profile.profile(nn.Identity(), **SIZE)
    assert result["energy"] is None
    assert "a counter: the counter did not move in" in result["missing"]["energy"]
