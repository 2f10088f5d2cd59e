"""The cost of a model: parameters, multiply-adds, latency, memory and energy of a forward pass.

Reads a built module, writes nothing; the result is that of a ``profile`` record. A latency is
meaningful only on a machine without other work, so the workflow runs these jobs alone. The network
runs with its inference options (irbench/inference/options.py), by default in float32.

    latency   eval mode, inference mode; from a random float32 input in [0, 1] on the device to the
              float32 output. After the warm-up, which also compiles if that is requested, every
              run is timed separately and kept: on the CPU by
              ``time.perf_counter``, on CUDA by a pair of events around the forward pass,
              synchronised before and after. p50 is the median; other percentiles are for those who
              print the samples. Throughput is computed from p50. ``busy_elsewhere``: how many
              cores other processes used meanwhile (``elsewhere``).
    tiles     only if the options give a side. Otherwise the whole image is run, and there is no
              result if it does not fit, because tiles chosen by the available memory would not be
              comparable.
    self-ensemble  all 8 forward passes, flips and mean are in latency, throughput, energy and
              memory, and the MACs of all 8 are added up.
    memory    peak of one forward pass after the warm-up (inference/memory.py). CUDA: weights, input
              and all allocations of the pass. CPU: the allocations of the pass including its
              output, without weights and input. The two must not be compared.
    energy    the device's own counter over the timed runs (``energy``), including idle power.
    MACs      see ``macs``; counted in float32 and uncompiled, so that they do not depend on how the
              network is run; with tiles, those of all tiles including overlaps.
    sweep     latency and memory over other sizes and batches, see ``irbench.jobs.profiling.sweep``.
    dictionary  the network's own facts about a pass over a photograph; ``attention``: the
                implementation it uses and the reason. Only for networks that offer them
                (models/interface.py).

Try: ``python -c "import torch; from irbench.jobs.profiling.profile import profile; print(profile(
torch.nn.Conv2d(3, 8, 3), channels=3, height=64, width=64, warmup=1, samples=5, threads=1))"``
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import psutil
import torch
from torch import nn

from irbench.catalog.model import Inference
from irbench.core import machine
from irbench.core.errors import Unavailable, UserError
from irbench.imaging.photograph import photograph
from irbench.inference import budget, memory
from irbench.inference.devices import DEVICES, pick_device
from irbench.inference.ensemble import VIEWS, mean_of_all
from irbench.inference.memory import cuda_peak, out_of_memory, resident_peak
from irbench.inference.options import DEFAULT, DTYPES
from irbench.inference.prepare import prepare, uncompiled
from irbench.inference.tiling import Cut, cut_for, in_tiles
from irbench.jobs.profiling import elsewhere, macs
from irbench.jobs.profiling import energy as energies
from irbench.jobs.profiling import sweep as sweeps
from irbench.models import interface

__all__ = ["DEVICES", "DTYPES", "cuda_peak", "latency", "out_of_memory", "pick_device", "profile",
           "resident_peak", "throughput", "timed"]

SEED = 0  # of the input's values, which hardly affect a latency


def profile(model: nn.Module, *, channels: int, height: int, width: int, batch: int = 1,
            device: str = "cpu", inference: Inference = DEFAULT, warmup: int, samples: int,
            threads: int | None = None, sweep: dict | None = None,
            wait_quiet: float = 0.0) -> dict:
    """Measure a model on random images; see the module's text for the method.

    Args:
        model: from (batch, channels, height, width) to any tensor; it is moved to the device,
            cast according to ``inference``, put into eval mode, and left there.
        channels: channels of the input that the model expects.
        height, width: of the input, in pixels.
        batch: images at once.
        device: ``cpu``, ``cuda`` or ``auto``.
        inference: how it is run, from ``irbench.inference.options.resolve``.
        warmup: untimed runs before the timed ones, at least 1: the first run allocates, plans
            and loads kernels.
        samples: timed runs, at least 1.
        threads: CPU threads for torch, restored afterwards; None leaves them as they are.
        sweep: settings of ``irbench.jobs.profiling.sweep.check``; None for no sweep.
        wait_quiet: seconds that the timed runs may wait for a quiet machine, all together.

    Returns:
        The ``result`` of a profile record: parameters, macs, macs_by_kind, macs_keys_only,
        uncounted, excluded_by_convention, input, tiles, inference, latency_ms, throughput,
        peak_memory_bytes, peak_memory_of, energy, attention, dictionary, dictionary_of, sweep,
        missing (name → reason, for every null that is not simply inapplicable), device,
        device_name, clock_mhz, dtype, precision, threads.

    Raises:
        UserError: a value out of range, an unknown device.
        Unavailable: not enough memory, or a missing compiler.
    """
    for name, value in {"channels": channels, "height": height, "width": width, "batch": batch,
                        "warmup": warmup, "samples": samples,
                        "threads": 1 if threads is None else threads}.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UserError(f"profile: {name} is {value!r}; it must be a whole number of at "
                            "least 1.")
    series = None if sweep is None else sweeps.check(sweep)
    device, _ = pick_device(device)
    shape = (batch, channels, height, width)
    with cpu_threads(threads), _memory_errors(model, shape, device, inference.dtype):
        others = memory.allocated_by_others(model) if device == "cuda" else 0
        # outside inference mode, in which moved weights could not have gradients again
        subject = Subject(model, prepare(model, inference, device), inference, device, others)
        patience = elsewhere.Patience(wait_quiet)
        with torch.inference_mode():
            result = _measure(subject, shape, warmup, samples, patience)
            if series is not None:
                usual = result["latency_ms"]["busy_elsewhere"]
                result["sweep"] = sweeps.run(lambda h, w, b: _point(
                    subject, (b, channels, h, w), series["samples"], patience, usual), series,
                    height=height, width=width, batch=batch, free=lambda: budget.available(device))
    return result


@dataclass(frozen=True)
class Subject:
    """A network ready to be measured.

    Attributes:
        model: the network itself, never compiled; moved and cast.
        network: the prepared one.
        options: how it is run.
        device: ``cpu`` or ``cuda``.
        others: bytes of CUDA memory that do not belong to it.
    """

    model: nn.Module
    network: nn.Module
    options: Inference
    device: str
    others: int

    def cut(self, shape: tuple[int, ...]) -> Cut | None:
        """Return how an input of this shape is tiled, None if it is not."""
        tile = self.options.tile
        if not isinstance(tile, int) or tile >= max(shape[-2:]):
            return None
        return cut_for(self.network, tile, self.options.overlap)

    def passes(self, shape: tuple[int, ...]) -> Counter[tuple[int, int]]:
        """Return (height, width) -> how many inputs of this size go through the network."""
        tiles = self.tiles(shape)
        if not self.options.self_ensemble:
            return tiles
        found = Counter()
        for _, _, swapped in VIEWS:
            found += Counter({size[::-1] if swapped else size: n for size, n in tiles.items()})
        return found

    def tiles(self, shape: tuple[int, ...]) -> Counter[tuple[int, int]]:
        """Return (height, width) -> how many tiles of this size make up one image."""
        height, width = shape[-2:]
        cut = self.cut(shape)
        rows, columns = ([(0, height)], [(0, width)]) if cut is None else (
            cut.spans(height), cut.spans(width))
        return Counter((bottom - top, right - left)
                       for top, bottom in rows for left, right in columns)

    def forward(self, shape: tuple[int, ...]) -> Callable[[], object]:
        """Return a forward pass on a random input of this shape, which is on the device."""
        generator = torch.Generator().manual_seed(SEED)
        x = torch.rand(shape, generator=generator).to(self.device)
        cut = self.cut(shape)

        def once(x: torch.Tensor) -> torch.Tensor:
            return self.network(x) if cut is None else in_tiles(self.network, x, cut)[0]

        return lambda: mean_of_all(once, x) if self.options.self_ensemble else once(x)


def _measure(subject: Subject, shape: tuple[int, ...], warmup: int, samples: int,
             patience: elsewhere.Patience) -> dict:
    batch, channels, height, width = shape
    device, model = subject.device, subject.model
    missing: dict[str, str] = {}
    forward = subject.forward(shape)
    for _ in range(warmup):
        forward()
    (spent, energy, reason), cores = patience.measured(
        lambda: _timed_with_energy(forward, device, samples, batch))
    if reason:
        missing["energy"] = reason
    clock = _clock(device)  # right after the runs, before the device slows down again
    peak, peak_of, reason = memory.peak(forward, device, subject.others)
    if reason:
        missing["peak_memory_bytes"] = reason
    dictionary, dictionary_of = _dictionary(subject, shape)
    counted = _count(subject, shape, missing)
    times = {**latency(spent, warmup), "busy_elsewhere": cores}
    return {
        "parameters": sum(p.numel() for p in model.parameters()), **counted,
        "input": {"batch": batch, "channels": channels, "height": height, "width": width},
        "tiles": subject.tiles(shape).total(),
        "inference": subject.options.as_dict(), "latency_ms": times,
        "throughput": throughput(times["p50"], shape),
        "peak_memory_bytes": peak, "peak_memory_of": peak_of, "energy": energy,
        "attention": interface.attention_choice(model), "dictionary": dictionary,
        "dictionary_of": dictionary_of, "sweep": None, "missing": missing,
        "device": device, "device_name": device_name(device), "clock_mhz": clock,
        "dtype": subject.options.dtype, "precision": _precision(device),
        "threads": torch.get_num_threads(),
    }


def _point(subject: Subject, shape: tuple[int, ...], samples: int,
           patience: elsewhere.Patience, usual: float | None) -> dict:
    """Measure one point of a sweep: latency and memory, after one warm-up.

    ``usual``: the load elsewhere of a point that is too short for the counters of CPU time.
    """
    missing: dict[str, str] = {}
    try:
        with _memory_errors(subject.model, shape, subject.device, subject.options.dtype):
            if subject.options.compile:
                torch._dynamo.reset()  # so that it is compiled for this size only
            forward = subject.forward(shape)
            forward()
            spent, cores = patience.measured(lambda: [
                timed(forward, subject.device) for _ in range(samples)], elsewhere.COUNTABLE)
            times = {**latency(spent, 1), "busy_elsewhere": usual if cores is None else cores}
            peak, _, reason = memory.peak(forward, subject.device, subject.others)
    except Unavailable as error:
        times, peak, reason = None, None, str(error)
        missing["latency_ms"] = reason
    if subject.device == "cuda":
        torch.cuda.empty_cache()
    if reason:
        missing["peak_memory_bytes"] = reason
    return {"latency_ms": times, "peak_memory_bytes": peak, "missing": missing}


def _count(subject: Subject, shape: tuple[int, ...], missing: dict[str, str]) -> dict:
    """Count the MACs of all tiles; put the reason for a failure in ``missing``."""
    model = subject.model
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))

    def count_at(height: int, width: int) -> macs.MacCount:
        x = torch.rand(*shape[:2], height, width, dtype=like.dtype, device=subject.device)
        return macs.count(model, (x,))

    try:
        found = macs.total((count_at(*size), times)
                           for size, times in subject.passes(shape).items())
    except Unavailable as error:
        missing["macs"] = str(error)
        found = None
    return {"macs": found and found.total, "macs_by_kind": found and found.by_kind,
            "macs_keys_only": found and found.keys_only, "uncounted": found and found.uncounted,
            "excluded_by_convention": found and found.excluded}


def _dictionary(subject: Subject, shape: tuple[int, ...]) -> tuple[list[dict] | None, str | None]:
    """Return the network's facts about itself and the image's name; None if it offers none."""
    if not interface.offered(subject.model, "diagnose"):
        return None, None
    x, title = photograph(shape[1], *max(subject.tiles(shape)))
    network = uncompiled(subject.network)
    with interface.diagnose(network) as found:
        network(x.to(subject.device))
    return found, title


# -- time --------------------------------------------------------------------------------------
def timed(forward: Callable[[], object], device: str) -> float:
    """Run once and return the milliseconds it took, synchronised with the GPU if there is one."""
    if device == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        forward()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end)
    wait = torch.mps.synchronize if device == "mps" else lambda: None
    wait()
    begin = time.perf_counter()
    forward()
    wait()
    return 1000 * (time.perf_counter() - begin)


def _timed_with_energy(forward: Callable[[], object], device: str, samples: int, batch: int
                       ) -> tuple[list[float], dict | None, str]:
    """Return the milliseconds of each run, the energy per image, and the reason if it is missing.

    If the timed runs are too short for the energy counter, more runs follow that are not timed.
    """
    meter, reason = energies.meter(device)
    if meter is None:
        return [timed(forward, device) for _ in range(samples)], None, reason
    spent = []
    meter.start()
    begin = time.perf_counter()
    while len(spent) < samples or time.perf_counter() - begin < energies.LEAST_S:
        spent.append(timed(forward, device))
        joules = meter.joules()
    seconds = time.perf_counter() - begin
    if joules <= 0:
        return spent[:samples], None, f"{meter.what}: the counter did not move in {seconds:.3g} s"
    return spent[:samples], {
        "joules_per_image": float(f"{joules / (len(spent) * batch):.6g}"),
        "method": f"{meter.what}; {len(spent)} runs in {seconds:.3g} s; idle power not subtracted",
    }, ""


def throughput(p50: float, shape: tuple[int, ...]) -> dict:
    """Return the throughput for a p50 in ms and an input (batch, channels, height, width).

    ``images_per_s`` and ``megapixels_per_s`` of the input, 6 digits each.
    """
    images_per_s = 1000 * shape[0] / p50
    return {"images_per_s": float(f"{images_per_s:.6g}"),
            "megapixels_per_s": float(f"{images_per_s * shape[2] * shape[3] / 1e6:.6g}")}


def latency(samples: list[float], warmup: int) -> dict:
    """Summarise milliseconds: p50, all samples in their order (0.1 microseconds kept)."""
    return {"p50": round(float(np.median(samples)), 4),
            "samples": [round(s, 4) for s in samples], "warmup": warmup, "method": "median"}


@contextlib.contextmanager
def _memory_errors(model: nn.Module, shape: tuple[int, ...], device: str,
                   dtype: str) -> Iterator[None]:
    """Turn a failed allocation into Unavailable."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
        if not out_of_memory(error):
            raise
        size = " x ".join(map(str, shape))
        raise Unavailable(
            f"not enough memory to profile {type(model).__name__} on {device} with an input of "
            f"{size} ({dtype}). Profile a smaller height, width or batch, or use a device with "
            "more memory.") from error


# -- the machine -------------------------------------------------------------------------------
@contextlib.contextmanager
def cpu_threads(number: int | None) -> Iterator[None]:
    """Set the number of torch's CPU threads inside the context; None leaves it unchanged."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def device_name(device: str) -> str:
    """Return the product's name of the GPU (``cuda``) or the processor (``cpu``)."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    return machine.provenance()["hardware"]["cpu"]


def _clock(device: str) -> int | None:
    """Return the device's clock in MHz, None if unknown."""
    try:
        found = torch.cuda.clock_rate() if device == "cuda" else psutil.cpu_freq().current
    except Exception:  # torch passes on any error of NVML; this value is only informative
        return None
    return round(found) if found and math.isfinite(found) else None


def _precision(device: str) -> dict[str, str] | None:
    """Return CUDA's precision settings of float32 products ("tf32" has a 10-bit mantissa)."""
    if device != "cuda":
        return None
    return {"conv": "tf32" if torch.backends.cudnn.allow_tf32 else "ieee",
            "matmul": "tf32" if torch.backends.cuda.matmul.allow_tf32 else "ieee"}
