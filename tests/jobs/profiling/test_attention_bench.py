"""The attention benchmark: its measurements, implementations that cannot run, its table."""

import json
import subprocess
import sys

import pytest
import torch

from irbench.core.errors import UserError
from irbench.jobs.profiling import attention as bench
from irbench.jobs.profiling import elsewhere, profile
from irbench.models import attention
from tests.helpers.paths import ROOT

SMALL = {"windows": 2, "heads": 2, "head_dim": 10, "samples": 2, "device": "cpu"}


def run(**settings):
    return bench.run(**{"n": [16, 9], "k": [4, 9, 12], "implementations": ["mask", "gather"],
                        **SMALL, **settings})


@pytest.fixture(scope="module")
def result():
    return run(threads=1)


def test_every_n_and_k_that_fits_it(result):
    cells = {(r["n"], r["k"], r["implementation"]) for r in result["rows"]}
    assert cells == {(16, None, "dense"), (9, None, "dense"), *(
        (n, k, name) for n, k in ((16, 4), (16, 9), (16, 12), (9, 4), (9, 9))
        for name in ("mask", "gather"))}
    assert {(r["n"], r["k"]) for r in result["build"]} == {(n, k) for n, k, _ in cells if k}
    assert (result["device"], result["dtype"], result["threads"]) == ("cpu", "float32", 1)
    json.dumps(result, allow_nan=False)


def test_what_a_row_holds(result):
    for row in result["rows"]:
        assert (row["windows"], row["heads"], row["head_dim"]) == (2, 2, 10)
        assert row["reason"] == "" and row["peak_memory_bytes"] >= 0
        assert row["peak_memory_of"] == "process RSS growth"
        assert len(row["latency_ms"]["samples"]) == 2 and row["latency_ms"]["p50"] > 0
        assert row["latency_ms"]["warmup"] == 1
        error = row["max_error"]
        assert error is None if row["implementation"] == "dense" else 0 <= error < 1e-5


def test_the_largest_error_is_found(monkeypatch):
    right = attention.IMPLEMENTATIONS["mask"]
    monkeypatch.setitem(attention.IMPLEMENTATIONS, "mask", lambda *given: right(*given) + 0.5)
    row = run(n=[8], k=[4], implementations=["mask"])["rows"][1]
    assert row["max_error"] == pytest.approx(0.5, abs=1e-4)


def test_everything_takes_turns(monkeypatch):
    order, real = [], attention.IMPLEMENTATIONS["mask"]

    def named(name):
        def timed(*given):
            order.append(name)
            return real(*given)
        return timed

    for name in ("mask", "gather"):
        monkeypatch.setitem(attention.IMPLEMENTATIONS, name, named(name))
    monkeypatch.setattr(bench.memory, "peak", lambda *given: (1, "nothing", ""))
    run(n=[8], k=[4], samples=2, warmup=2)
    assert order == ["mask", "gather"] * 4  # the trial is the first round of the warm-up


def test_memory_counts_what_a_call_allocates(monkeypatch):
    real = attention.IMPLEMENTATIONS["mask"]

    def wasteful(*given):
        torch.ones(2**25)  # 128 MiB
        return real(*given)

    monkeypatch.setitem(attention.IMPLEMENTATIONS, "gather", wasteful)
    mask, gather = run(n=[16], k=[4])["rows"][1:]
    assert mask["peak_memory_bytes"] < 2**24 < 2**27 - 2**20 < gather["peak_memory_bytes"]


@pytest.mark.parametrize(("error", "reason"), [
    (UserError("no such thing here. Use another."), "no such thing here. Use another."),
    (torch.OutOfMemoryError("CUDA out of memory."), "not enough memory"),
    (ValueError("\nsmall\nprint"), "ValueError: small"),
])
def test_what_cannot_run_has_a_reason_and_the_others_stay(monkeypatch, error, reason):
    def fail(*given):
        raise error

    monkeypatch.setitem(attention.IMPLEMENTATIONS, "gather", fail)
    found = run(n=[16], k=[4, 8], implementations=["gather", "mask"])
    gather = [r for r in found["rows"] if r["implementation"] == "gather"]
    assert len(gather) == 2
    for row in gather:
        assert row["latency_ms"] is row["peak_memory_bytes"] is row["max_error"] is None
        assert row["reason"] == reason
    assert all(r["latency_ms"] for r in found["rows"] if r["implementation"] != "gather")
    assert {r["best"] for r in found["ratios"]} == {"mask"}
    shown = bench.table(found)
    assert shown.count(reason) == 1 and shown.count("[1]") == 3


def test_a_memory_that_cannot_be_taken_leaves_the_time(monkeypatch):
    monkeypatch.setattr(bench.memory, "peak", lambda *given: (None, None, "needs Linux"))
    found = run(n=[16], k=[4])
    assert all(r["reason"] == "needs Linux" and r["latency_ms"] for r in found["rows"])
    assert found["ratios"][0]["peak_over_mask"] is None
    assert found["ratios"][0]["mask_over_dense"] > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_triton_is_not_timed_on_a_cpu(monkeypatch):
    kernel = pytest.importorskip("irbench.models.attention.triton_kernel",
                                 reason="the package triton is not installed")
    row = run(n=[16], k=[4], implementations=["triton"])["rows"][1]
    assert row["latency_ms"] is None and "it needs a CUDA device" in row["reason"]
    monkeypatch.setattr(kernel, "INTERPRETED", True)
    row = run(n=[16], k=[4], implementations=["triton"])["rows"][1]
    assert row["latency_ms"] is None and "the interpreter's times are meaningless" in row["reason"]


def test_ratios_are_of_times_of_the_same_round():
    def entry(name, k, spent, peak):
        return bench._Entry(name, {"n": 8}, k, None, None, spent=spent, peak=peak)

    dense = entry("dense", None, [1.0, 10.0, 2.0], 50)
    here = {"mask": entry("mask", 4, [3.0, 20.0, 6.0], 400),
            "triton": entry("triton", 4, [1.5, 15.0, 3.0], 100),
            "reference": entry("reference", 4, [1.0, 1.0, 1.0], 1),
            "dictionary": entry("dictionary", 4, [1.5, 40.0, 3.0], 9)}
    assert bench._ratios(here, dense) == {
        "best": "triton", "mask_over_dense": 3.0, "build_over_mask": 0.5,
        "best_over_dense": 1.5, "peak_over_mask": 0.25}
    del here["mask"]
    assert bench._ratios(here, dense) == {
        "best": "triton", "mask_over_dense": None, "build_over_mask": None,
        "best_over_dense": 1.5, "peak_over_mask": None}


def test_the_load_elsewhere_is_recorded_and_a_disturbed_n_is_measured_again(monkeypatch):
    """At each N all rows are timed in turns, so they share what disturbed them."""
    loads = iter([1.5, 0.3])
    monkeypatch.setattr(elsewhere.Elsewhere, "__exit__",
                        lambda self, *_: setattr(self, "cores", next(loads)))
    found = run(n=[16, 25], k=[4], implementations=["mask"])
    for n, cores in ((16, 1.5), (25, 0.3)):
        rows = [row for row in (*found["rows"], *found["build"]) if row["n"] == n]
        assert [row["latency_ms"]["busy_elsewhere"] for row in rows] == [cores] * 3
    monkeypatch.setattr(elsewhere, "WINDOW", 0.01)
    loads = iter([0.0, 1.5, 0.0, 0.0])
    found = run(n=[16], k=[4], implementations=["mask"], wait_quiet=60)
    assert not list(loads)
    assert {row["latency_ms"]["busy_elsewhere"] for row in found["rows"]} == {0.0}
    assert {len(row["latency_ms"]["samples"]) for row in found["rows"]} == {2}


def test_the_table():
    def times(p50):
        return {"p50": p50, "busy_elsewhere": None}

    row = {"n": 64, "k": 16, "latency_ms": times(3.0), "peak_memory_bytes": 3 * 2**20, "reason": ""}
    none = {**row, "latency_ms": None, "peak_memory_bytes": None, "reason": "not here"}
    shown = bench.table({
        "device_name": "a chip", "dtype": "float32", "threads": 1, "torch": "2.15", "rows": [
            {**row, "implementation": "dense", "k": None, "latency_ms": times(2.0),
             "max_error": None},
            {**row, "implementation": "mask", "max_error": 1.5e-6,
             "latency_ms": {"p50": 3.0, "busy_elsewhere": 1.2}},
            {**none, "implementation": "triton", "max_error": None},
            {**none, "implementation": "triton", "k": 32, "max_error": None}],
        "build": [row],
        "ratios": [{"n": 64, "k": 16, "best": "mask", "mask_over_dense": 1.5,
                    "build_over_mask": 1.0, "best_over_dense": 1.5, "peak_over_mask": None}]})
    assert shown.startswith("""\
a chip, float32, 1 threads, torch 2.15
     N     k  implementation     p50 ms  / dense  peak MiB     error
    64   all  dense                2.00     1.00       3.0         -
    64    16  dictionary           3.00     1.50       3.0         -
    64    16  mask                 3.00     1.50       3.0   1.5e-06  [1]
    64    16  triton                  -        -         -         -  [2]
    64    32  triton                  -        -         -         -  [2]
  [1] other processes kept 1.2 cores busy at this N: not reliable (--wait-quiet waits for a quiet \
machine)
  [2] not here

     N     k  fastest          mask_over_dense  build_over_mask  best_over_dense   peak_over_mask
    64    16  mask                        1.50             1.00             1.50                -
""")


@pytest.mark.parametrize(("change", "message"), [
    ({"n": [0]}, "n is 0; it must be a whole number of at least 1"),
    ({"k": [True]}, "k is True"),
    ({"samples": 0}, "samples is 0"),
    ({"dtype": "float64"}, "unknown dtype 'float64'"),
    ({"implementations": ["tritton"]}, "unknown attention implementation 'tritton'.*'triton'"),
    ({"device": "tpu"}, "unknown device 'tpu'"),
])
def test_bad_values(change, message):
    with pytest.raises(UserError, match=message):
        run(**change)


def test_threads_are_restored():
    before = torch.get_num_threads()
    assert run(n=[4], k=[2], threads=before + 1)["threads"] == before + 1
    assert torch.get_num_threads() == before


@pytest.mark.slow
def test_the_command():
    program = ROOT / "benchmarks" / "attention.py"
    done = subprocess.run(
        [sys.executable, program, "--n", "16", "--k", "4", "--samples", "1", "--device", "cpu",
         "--heads", "2", "--head-dim", "4", "--implementations", "mask"],
        capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert [r["implementation"] for r in found["rows"]] == ["dense", "mask"]
    assert {"hardware", "time", "torch", "ratios"} <= set(found)
    assert "device cpu: asked for" in done.stderr and "mask_over_dense" in done.stderr


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu():
    found = run(n=[1024], k=[64], head_dim=30, device="cuda",
                implementations=list(attention.IMPLEMENTATIONS))
    assert [r["reason"] for r in found["rows"]] == [""] * 6
    assert all(r["max_error"] < 1e-4 for r in found["rows"][1:])
    assert found["device_name"] == profile.torch.cuda.get_device_name()
    peak = {r["implementation"]: r["peak_memory_bytes"] for r in found["rows"]}
    assert peak["triton"] < peak["mask"]
