"""Peak memory of one call, on CPU and CUDA, and telling when memory ran out.

Reads the kernel's or CUDA's counters, writes nothing (but resets the counters).

    CUDA          ``max_memory_allocated`` of the call: everything torch holds at its highest, what
                  lay there before too.
    CPU (Linux)   how far the resident memory of the process grows, by the kernel's own high-water
                  mark (VmHWM), reset just before: what the call allocates, its output too, without
                  what lay in memory already.
The two must not be compared.

Try: ``python -c "import torch; from irbench.inference.memory import resident_peak;
print(resident_peak(lambda: torch.ones(2**20)))"``
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import nn

from irbench.inference import allocator

CLEAR_REFS = Path("/proc/self/clear_refs")  # "5" resets VmHWM (man 5 proc_pid_clear_refs)
MALLOC_SMALL = 128 * 1024  # bytes, where glibc's thresholds start (man 3 mallopt)


def peak(forward: Callable[[], object], device: str, others: int = 0
         ) -> tuple[int | None, str | None, str]:
    """Measure a call's peak memory on a device.

    Args:
        forward: the call; on the CPU it runs twice, in inference mode.
        device: ``cpu`` or ``cuda``.
        others: bytes of CUDA memory that are not to be counted (``allocated_by_others``).

    Returns:
        The bytes, or None; what they are of, or None; why they are missing, or "".
    """
    if device == "cuda":
        return cuda_peak(forward) - others, "CUDA allocator", ""
    found, reason = resident_peak(forward)
    return found, None if found is None else "process RSS growth", reason


def allocated_by_others(model: nn.Module) -> int:
    """Return the bytes that the CUDA allocator holds and that are not this model's."""
    own = sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers())
              if t.is_cuda)
    return torch.cuda.memory_allocated() - own


def cuda_peak(forward: Callable[[], object]) -> int:
    """Return the highest number of bytes torch held on the CUDA device during a call.

    What was held before the call is in it: subtract ``torch.cuda.memory_allocated()`` of then for
    what the call itself needs.
    """
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    forward()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated()


def resident_peak(forward: Callable[[], object]) -> tuple[int | None, str]:
    """Return by how many bytes resident memory rises above its level before, or None and why.

    The call runs twice, in inference mode, with the caller's number of threads.

    Left alone, glibc keeps freed blocks of up to 32 MiB, and the figure would depend on what ran
    before (by a factor of two). So what it holds is given back first; during the pass every block
    of 128 KiB and more comes from the kernel and returns to it when freed; and the pass runs in a
    thread of its own, whose heap has no holes that would be filled, and kept, instead. The
    kernel's counters are true to a few hundred kilobytes. Afterwards ``allocator.keep()`` is in
    force.
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


def out_of_memory(error: BaseException) -> bool:
    """Say whether an exception means that memory could not be allocated."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # the CPU's allocator raises a plain RuntimeError; the texts are those of Linux and Windows
    return isinstance(error, RuntimeError) and any(
        text in str(error) for text in ("can't allocate memory", "not enough memory"))
