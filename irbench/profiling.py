"""What a model costs: parameters, multiply-adds, latency and peak memory of one forward pass.

Reads a built module, writes nothing; the result is that of a ``profile`` record. A latency is worth
something only on a machine that does nothing else meanwhile: the workflow runs these jobs alone.

    latency   eval mode, inference mode, random input in [0, 1] already on the device. After the
              warm-up every run is timed by itself and kept: on the CPU by ``time.perf_counter``, on
              CUDA by a pair of events around the forward pass, synchronised before and after.
              p50 and p90 are ``numpy.percentile`` with linear interpolation.
    memory    of one forward pass after the warm-up, at its highest:
              CUDA: ``max_memory_allocated`` less what was allocated before the model came, hence
              weights, input and everything the pass allocates.
              CPU (Linux): how far the resident memory of the process grows, by the kernel's own
              high-water mark (VmHWM), reset just before: what the pass allocates, its output
              too, without the weights and the input that lie in memory already. The two must
              not be compared.
    MACs      see ``irbench.macs``; counted on the same input, last.

Try: ``python -c "import torch; from irbench.profiling import profile; print(profile(
torch.nn.Conv2d(3, 8, 3), channels=3, height=64, width=64, warmup=1, samples=5, threads=1))"``
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import nn

from irbench import allocator, macs, records
from irbench.errors import Unavailable, UserError, unknown

DEVICES = ("auto", "cpu", "cuda")
DTYPES = ("float32", "float64", "float16", "bfloat16")
CLEAR_REFS = Path("/proc/self/clear_refs")  # "5" resets VmHWM (man 5 proc_pid_clear_refs)
MALLOC_SMALL = 128 * 1024  # bytes, where glibc's thresholds start (man 3 mallopt)
SEED = 0  # of the input's values, which a latency hardly depends on


def pick_device(name: str) -> tuple[str, str]:
    """Return (``cpu`` or ``cuda``, the reason) for a device asked for as auto, cpu or cuda.

    Raises:
        UserError: another name, or ``cuda`` where torch sees no CUDA device.
    """
    if name not in DEVICES:
        raise unknown("device", name, DEVICES)
    if name == "cpu":
        return "cpu", "asked for"
    if torch.cuda.is_available():
        found = torch.cuda.get_device_name()
        return "cuda", f"asked for; it is {found}" if name == "cuda" else f"torch found {found}"
    why = ("this torch is built without CUDA" if torch.version.cuda is None
           else "torch finds no usable CUDA device")
    if name == "cuda":
        raise UserError(f"device 'cuda': {why}. Use --device cpu or auto, or check the driver "
                        "with nvidia-smi.")
    return "cpu", why


def profile(model: nn.Module, *, channels: int, height: int, width: int, batch: int = 1,
            device: str = "cpu", dtype: str = "float32", warmup: int, samples: int,
            threads: int | None = None) -> dict:
    """Measure a model on random images; see the module's text for how.

    Args:
        model: from (batch, channels, height, width) to any tensor; it is moved to the device
            and dtype, put into eval mode, and left there.
        channels: of the input, as the model expects them.
        height: of the input in pixels.
        width: of the input in pixels.
        batch: images at once.
        device: ``cpu``, ``cuda`` or ``auto``.
        dtype: one of ``DTYPES``, for weights and input.
        warmup: untimed runs before the timed ones, at least 1: the first run allocates, plans
            and loads kernels.
        samples: timed runs, at least 1.
        threads: CPU threads for torch, restored afterwards; None leaves them as they are.

    Returns:
        The ``result`` of a profile record: parameters, macs, macs_by_kind, uncounted,
        excluded_by_convention, input, latency_ms, peak_memory_bytes, peak_memory_of, missing
        (figure → reason, for every null), device, device_name, clock_mhz, dtype, precision,
        threads.

    Raises:
        UserError: a value out of range, an unknown device or dtype.
        Unavailable: not enough memory.
    """
    numbers = {"channels": channels, "height": height, "width": width, "batch": batch,
               "warmup": warmup, "samples": samples,
               **({} if threads is None else {"threads": threads})}
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UserError(f"profile: {name} is {value!r}; it must be a whole number of at "
                            "least 1.")
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES, "profile")
    device, _ = pick_device(device)
    shape = (batch, channels, height, width)
    with _threads(threads), _memory_errors(model, shape, device, dtype):
        others = _allocated_by_others(model) if device == "cuda" else 0
        # outside inference mode, in which moved weights would never again take a gradient
        model = model.to(device=device, dtype=getattr(torch, dtype)).eval()
        with torch.inference_mode():
            return _measure(model, shape, device, dtype, warmup, samples, others)


def _measure(model: nn.Module, shape: tuple[int, ...], device: str, dtype: str, warmup: int,
             samples: int, others: int) -> dict:
    generator = torch.Generator().manual_seed(SEED)
    x = torch.rand(shape, generator=generator).to(device=device, dtype=getattr(torch, dtype))

    def forward() -> None:
        model(x)

    for _ in range(warmup):
        forward()
    spent = [timed(forward, device) for _ in range(samples)]
    clock = _clock(device)  # right after the runs, before the device slows down again
    missing: dict[str, str] = {}
    if device == "cuda":
        memory, memory_of = _cuda_peak(forward) - others, "CUDA allocator"
    else:
        memory, reason = _resident_peak(forward)
        memory_of = "process RSS growth" if memory is not None else None
        if reason:
            missing["peak_memory_bytes"] = reason
    try:
        counted = macs.count(model, (x,))
    except Unavailable as error:
        counted, missing["macs"] = None, str(error)
    batch, channels, height, width = shape
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "macs": counted and counted.total,
        "macs_by_kind": counted and counted.by_kind,
        "uncounted": counted and counted.uncounted,
        "excluded_by_convention": counted and counted.excluded,
        "input": {"batch": batch, "channels": channels, "height": height, "width": width},
        "latency_ms": latency(spent, warmup),
        "peak_memory_bytes": memory, "peak_memory_of": memory_of, "missing": missing,
        "device": device, "device_name": _device_name(device), "clock_mhz": clock,
        "dtype": dtype, "precision": _precision(device), "threads": torch.get_num_threads(),
    }


# -- time --------------------------------------------------------------------------------------

def timed(forward: Callable[[], object], device: str) -> float:
    """Run once and return the milliseconds it took, complete and synchronised on CUDA."""
    if device == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        forward()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end)
    begin = time.perf_counter()
    forward()
    return 1000 * (time.perf_counter() - begin)


def latency(samples: list[float], warmup: int) -> dict:
    """Summarise milliseconds: p50, p90, all samples in their order (0.1 microseconds kept)."""
    p50, p90 = np.percentile(samples, [50, 90], method="linear")
    return {"p50": round(float(p50), 4), "p90": round(float(p90), 4),
            "samples": [round(s, 4) for s in samples], "warmup": warmup,
            "method": "numpy.percentile, linear"}


# -- memory ------------------------------------------------------------------------------------

def _allocated_by_others(model: nn.Module) -> int:
    """Bytes the CUDA allocator holds that are not this model's."""
    own = sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers())
              if t.is_cuda)
    return torch.cuda.memory_allocated() - own


def _cuda_peak(forward: Callable[[], object]) -> int:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    forward()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated()


def _resident_peak(forward: Callable[[], object]) -> tuple[int | None, str]:
    """Return by how many bytes resident memory rises above its level before, or None and why.

    Left alone, glibc keeps freed blocks of up to 32 MiB, and the figure would depend on what ran
    before (by a factor of two). So what it holds is given back first; during the pass every block
    of 128 KiB and more comes from the kernel and returns to it when freed; and the pass runs in a
    thread of its own, whose heap has no holes that would be filled, and kept, instead. The
    kernel's counters are true to a few hundred kilobytes.
    """
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_resident_peak_here, forward, torch.get_num_threads()).result()


def _resident_peak_here(forward: Callable[[], object], threads: int) -> tuple[int | None, str]:
    try:  # all that may be missing, before it is needed
        libc = ctypes.CDLL("libc.so.6")
        _trimmed_level(libc)
        allocator.keep(MALLOC_SMALL)
    except (OSError, AttributeError, KeyError) as error:
        return None, ("the peak of a CPU forward pass needs Linux with glibc and "
                      f"{CLEAR_REFS} ({type(error).__name__}: {error})")
    try:
        torch.set_num_threads(threads)  # this and inference mode belong to a thread
        with torch.inference_mode():
            forward()  # what a thread needs once is not the pass's
            before = _trimmed_level(libc)
            forward()
        return max(_resident()[1] - before, 0), ""
    finally:
        allocator.keep()


def _trimmed_level(libc: ctypes.CDLL) -> int:
    """Give back what malloc holds, restart the high-water mark, return the level in bytes."""
    libc.malloc_trim(0)
    CLEAR_REFS.write_text("5")
    return _resident()[0]


def _resident() -> tuple[int, int]:
    """Resident memory of this process in bytes, now and at its highest (VmRSS, VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return tuple(int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))


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
        raise Unavailable(f"not enough memory to profile {type(model).__name__} on {device} "
                          f"with an input of {size} ({dtype}). Profile a smaller height, width "
                          "or batch, or use a device with more memory.") from error


def out_of_memory(error: BaseException) -> bool:
    """Say whether an exception means that memory could not be allocated."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # the CPU's allocator raises a plain RuntimeError; the texts are those of Linux and Windows
    return isinstance(error, RuntimeError) and any(
        text in str(error) for text in ("can't allocate memory", "not enough memory"))


# -- the machine -------------------------------------------------------------------------------

@contextlib.contextmanager
def _threads(number: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _device_name(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    return records.provenance()["hardware"]["cpu"]


def _clock(device: str) -> int | None:
    """Return the device's clock in MHz, None where nothing tells it."""
    try:
        found = torch.cuda.clock_rate() if device == "cuda" else psutil.cpu_freq().current
    except Exception:  # torch raises whatever NVML does; this figure is only a remark
        return None
    return round(found) if found and math.isfinite(found) else None


def _precision(device: str) -> dict[str, str] | None:
    """Return what CUDA may do float32 products in ("tf32" has 10 bits of mantissa)."""
    if device != "cuda":
        return None
    return {"conv": "tf32" if torch.backends.cudnn.allow_tf32 else "ieee",
            "matmul": "tf32" if torch.backends.cuda.matmul.allow_tf32 else "ieee"}
