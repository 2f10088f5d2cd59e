"""Peak memory of one call, on CPU and CUDA, and detection of out-of-memory errors.

Reads the kernel's or CUDA's counters; writes nothing, but resets the counters.

    CUDA          ``max_memory_allocated`` of the call: the peak of everything torch holds,
                  including earlier allocations.
    CPU (Linux)   growth of the process's resident memory, by the kernel's high-water mark (VmHWM),
                  which is reset just before: the call's allocations including its output, without
                  earlier allocations.
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
MALLOC_SMALL = 128 * 1024  # bytes, the initial value of glibc's thresholds (man 3 mallopt)


def peak(forward: Callable[[], object], device: str, others: int = 0
         ) -> tuple[int | None, str | None, str]:
    """Measure a call's peak memory on a device.

    Args:
        forward: the call; on the CPU it runs twice, in inference mode.
        device: ``cpu`` or ``cuda``.
        others: bytes of CUDA memory to subtract (``allocated_by_others``).

    Returns:
        The bytes, or None; the kind of measurement, or None; why the bytes are missing, or "".
    """
    if device == "cuda":
        return cuda_peak(forward) - others, "CUDA allocator", ""
    found, reason = resident_peak(forward)
    return found, None if found is None else "process RSS growth", reason


def allocated_by_others(model: nn.Module) -> int:
    """Return the bytes that the CUDA allocator holds for anything but this model."""
    own = sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers())
              if t.is_cuda)
    return torch.cuda.memory_allocated() - own


def cuda_peak(forward: Callable[[], object]) -> int:
    """Return the highest number of bytes torch held on the CUDA device during a call.

    This includes memory held before the call. To get the need of the call itself, subtract the
    value of ``torch.cuda.memory_allocated()`` before the call.
    """
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    forward()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated()


def resident_peak(forward: Callable[[], object]) -> tuple[int | None, str]:
    """Return by how many bytes a call raises the resident memory; or None, and the reason.

    The call runs twice, in inference mode, with the caller's number of threads.

    By default glibc keeps freed blocks of up to 32 MiB, so that the result would depend on earlier
    calls (by a factor of two). Three steps prevent this. First, the memory that glibc keeps is
    returned to the kernel. Second, during the pass every block of 128 KiB or more is allocated from
    the kernel and returned when freed. Third, the pass runs in a new thread, whose heap has no
    holes to fill. The kernel's counters are accurate to a few hundred kilobytes. Afterwards
    ``allocator.keep()`` is in effect.
    """
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_resident_peak_here, forward, torch.get_num_threads()).result()


def _resident_peak_here(forward: Callable[[], object], threads: int) -> tuple[int | None, str]:
    try:  # check first for everything that may be missing
        libc = ctypes.CDLL("libc.so.6")
        _trimmed_level(libc)
        allocator.keep(MALLOC_SMALL)
    except (OSError, AttributeError, KeyError) as error:
        return None, ("the peak of a CPU forward pass needs Linux with glibc and "
                      f"{CLEAR_REFS} ({type(error).__name__}: {error})")
    try:
        torch.set_num_threads(threads)  # this and inference mode are settings of a thread
        with torch.inference_mode():
            forward()  # warm-up: a thread's one-time allocations do not count
            before = _trimmed_level(libc)
            forward()
        return max(_resident()[1] - before, 0), ""
    finally:
        allocator.keep()


def _trimmed_level(libc: ctypes.CDLL) -> int:
    """Return malloc's free memory, reset the high-water mark, and return the level in bytes."""
    libc.malloc_trim(0)
    CLEAR_REFS.write_text("5")
    return _resident()[0]


def _resident() -> tuple[int, int]:
    """Return this process's present and peak resident memory in bytes (VmRSS, VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return tuple(int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that memory could not be allocated."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # others than CUDA's raise a plain RuntimeError; the texts are those of Linux, Windows and MPS
    return isinstance(error, RuntimeError) and any(
        text in str(error) for text in ("can't allocate memory", "not enough memory",
                                        "MPS backend out of memory"))
