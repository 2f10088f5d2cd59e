"""``irbench profile``: the threads that it takes, and what it says to people and programs."""

import json
import re
from pathlib import Path

import pytest
import yaml

import irbench
from irbench import cli
from irbench.core import machine, records
from irbench.jobs import outcome, threads
from tests.helpers import tiny

TINY = ["--protocol", "sr-x2", "--model", "tiny"]
RECORD = Path("results/tiny/profiles/sr-x2@2/tiny.json")


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.make(tmp_path)
    return tmp_path


def profile(capsys, *words):
    """Return what a person reads, and the JSON."""
    capsys.readouterr()
    assert cli.main(["profile", *words]) == 0
    done = capsys.readouterr()
    return done.err, json.loads(done.out)


def measured(path=RECORD):
    return records.read(path)["result"]["threads"]


def test_measured_again_a_profile_has_the_threads_of_its_record(world, capsys):
    """Else it would drop out of the plots of its run, where the workflow takes all cores."""
    profile(capsys, *TINY, "--threads", "3")
    said, _ = profile(capsys, *TINY)
    assert "profile sr-x2@2 / tiny: 3 threads, as in the record that it replaces (" in said
    assert measured() == 3
    assert list(irbench.load_run("results/tiny").profiles["threads"]) == [3]


def test_a_first_profile_has_the_threads_of_the_others(world, capsys, monkeypatch):
    profile(capsys, "--protocol", "jpeg_gray-q10", "--model", "tiny", "--threads", "3")
    said, _ = profile(capsys, *TINY)
    assert "3 threads, as in the other profile of the run (" in said and measured() == 3
    # of another machine neither the record nor the others count
    monkeypatch.setattr(machine, "processor", lambda: ("another", 64))
    monkeypatch.setattr(machine, "usable_cores", lambda: 2)
    said, _ = profile(capsys, *TINY)
    assert "2 threads, all cores, as in the workflow, since no record" in said and measured() == 2


def test_threads_that_the_others_do_not_have_are_said(world, capsys):
    first, _ = profile(capsys, *TINY, "--threads", "2")
    same, _ = profile(capsys, "--protocol", "jpeg_gray-q10", "--model", "tiny", "--threads", "2")
    assert "warning" not in first + same
    for more in ([], ["--on-failure", "record", "--supervised"]):
        RECORD.unlink()     # a current record is not measured again with --on-failure record
        said, _ = profile(capsys, *TINY, "--threads", "1", *more)
        assert ("warning: 1 thread, but the run's other profile on this kind of machine: "
                "2 threads. Such latencies do not compare" in said)
        assert measured() == 1


def test_the_threads_of_a_gpu_are_no_matter(world, capsys):
    profile(capsys, "--protocol", "jpeg_gray-q10", "--model", "tiny", "--threads", "2")
    planned = irbench.plan.load("config.yaml")
    job = planned.profiles["sr-x2@2/tiny"]
    assert threads.differing(planned, job, 1, "cpu") and not threads.differing(
        planned, job, 1, "cuda:0")


def test_a_benchmark_has_the_threads_of_its_run(world, capsys):
    config = yaml.safe_load(Path("config.yaml").read_text())
    Path("config.yaml").write_text(yaml.safe_dump(config | {"attention_bench": tiny.BENCH}))
    profile(capsys, *TINY, "--threads", "3")
    for more, why in (([], "3 threads, as in the other profile of the run"),
                      (["--threads", "2"], ""),
                      ([], "2 threads, as in the record that it replaces")):
        assert cli.main(["bench", "attention", "--config", "config.yaml", *more]) == 0
        assert why in capsys.readouterr().err
    assert measured(Path("results/tiny/benches/attention.json")) == 2


def test_a_profile_tells_its_latency_and_what_it_depends_on(world, capsys):
    """The time that measuring took must not pass for it."""
    said, found = profile(capsys, *TINY, "--threads", "2")
    result = records.read(RECORD)["result"]
    p50, name = result["latency_ms"]["p50"], re.escape(result["device_name"])
    assert re.search(
        r"tiny: 0\.6 k parameters, 0\.00 GMACs, latency ([\d.e-]+) ms\?? \(median of 3 passes, "
        rf"input 1 x 3 x 16 x 16, 2 threads, {name}(, disturbed: [\d.]+ cores busy elsewhere)?\), "
        r"peak memory [\d.]+ MiB \(measuring took [\d.]+ s\): ", said)
    assert (found["latency_p50_ms"], found["threads"], found["timed_passes"]) == (p50, 2, 3)
    assert found["input"] == {"batch": 1, "channels": 3, "height": 16, "width": 16}
    assert found["peak_memory_bytes"] == result["peak_memory_bytes"]
    assert (found["device"], found["dtype"]) == ("cpu", "float32")
    assert found["busy_elsewhere_cores"] == result["latency_ms"]["busy_elsewhere"]


@pytest.mark.parametrize(("cores", "disturbed"), [(None, False), (0.1, False), (1.04, True)])
def test_a_disturbed_latency_is_marked_as_in_the_tables(cores, disturbed):
    result = {"latency_ms": {"p50": 12.34567, "samples": [1.0] * 10, "busy_elsewhere": cores},
              "device": "cuda", "threads": 8, "parameters": 15100, "macs": 25 * 10**7}
    record = {"kind": "profile", "status": "ok", "result": result, "seconds": {"measure": 61.0}}
    text = outcome.with_time(record)
    assert ("latency 12.35 ms? (" in text) == disturbed == outcome.summary(record)["disturbed"]
    assert ("disturbed: 1.0 cores busy elsewhere" in text) == disturbed
    assert "thread" not in text and text.endswith("(measuring took 1 min 1 s)")


NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self, scale, channels, width=5):
        super().__init__()
        self.up, self.mix = nn.Upsample(scale_factor=scale), nn.Conv2d(channels, width, 1)
        self.out = nn.Conv2d(width, channels, 1)

    def forward(self, x):
        return self.out(self.mix(self.up(x))).clamp(0, 1)
"""


def test_a_network_of_ones_own_needs_no_config_even_beside_one(world, capsys):
    Path("net.py").write_text(NET)
    before = sorted(Path().rglob("*.json"))
    words = ["--protocol", "sr-x2", "--model", "net.py:Net", "--height", "16", "--width", "24"]
    said, found = profile(capsys, *words, "--threads", "2")
    assert (found["record"], found["parameters"]) == (None, 4 * 5 + 6 * 3)
    assert found["macs"] == 32 * 48 * (3 * 5 + 5 * 3) and found["threads"] == 2
    assert (found["input"]["height"], found["input"]["width"]) == (16, 24)
    assert "net under sr-x2@2: 0.0 k parameters, 0.00 GMACs, latency " in said
    wide = irbench.profile("net.py:Net", "sr-x2", "cpu", options={"width": 7}, height=16, width=24)
    loaded = irbench.load_model("net.py:Net", "sr-x2", device="cpu", options={"width": 7})
    again = irbench.profile(loaded, device="cpu", height=16, width=24)
    assert again.result["parameters"] == wide.result["parameters"]
    assert again.record["key"] == wide.record["key"]
    with pytest.raises(irbench.UserError, match="is loaded already"):
        irbench.profile(loaded, options={"width": 5})
    assert profile(capsys, *words, "--options", "width=7")[1]["macs"] == wide.result["macs"]
    assert wide.result["threads"] == machine.usable_cores()
    from torch import save
    save({"mix.weight": 0}, "w.pth")
    assert cli.main(["profile", *words, "--weights", "w.pth"]) == 2
    assert sorted(Path().rglob("*.json")) == before


@pytest.mark.parametrize(("words", "message"), [
    (["--model", "bicubic", "--no-config"], "bicubic has no weights, so there is no profile of it"),
    (["--model", "net.py:Net", "--config", "c.yaml"], "--model net.py:Net goes without a config"),
    (["--model", "net.py:Net", "--on-failure", "record"], "need a run to write to"),
    (["--model", "net.py:Net", "compacter"], "several models or logs need a run"),
    (["--model", "tinyy", "--height", "16"], "config.yaml was not read, because of --height"),
    (["--model", "compacter", "--height", "1"], "height")])
def test_what_does_not_go_together_is_said(world, capsys, words, message):
    assert cli.main(["profile", "--protocol", "sr-x2", *words]) == 2
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said
