"""Energy from the device's own counters: NVML on CUDA, RAPL on a Linux CPU.

Reads the driver's library or /sys/class/powercap; writes nothing. Both counters only grow, and are
read before and after the runs. They count the whole device, including idle power (which is not
subtracted) and other processes' work. This is another reason why a profile runs alone.

    CUDA   ``nvmlDeviceGetTotalEnergyConsumption``: the board, millijoules since the driver was
           loaded; Volta and later. Called through ctypes, so that no package is needed.
    CPU    ``energy_uj`` of every domain ``package-N`` (cores, caches, memory controller; no
           memory, no power supply), of Intel and AMD alike. It wraps at ``max_energy_range_uj``,
           minutes apart, so it is read after every run. Since 2020 only root may read it, unless
           an administrator allows more.
Neither was tested with real counters: the tests use simulated ones. NVML refreshes every 20 to
100 ms (this is not documented), hence ``LEAST_S``.

Try: ``python -c "from irbench.jobs.profiling import energy; print(energy.meter('cpu'))"``
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

import torch

from irbench.core.errors import Unavailable

POWERCAP = Path("/sys/class/powercap")
NVML = "libnvidia-ml.so.1"  # comes with the driver
LEAST_S = 1.0  # seconds of work below which a counter's steps matter (our choice)


class Meter:
    """Joules since ``start``, of counters that may wrap.

    Arguments:
        counters: pairs of a function that returns a counter's joules, and the joules at which it
            wraps, None for never.
        what: a description of the counters, for the record.
    """

    def __init__(self, counters: list[tuple[Callable[[], float], float | None]], what: str):
        """Keep the arguments (above) and start."""
        self.counters = counters
        self.what = what
        self.start()

    def start(self) -> None:
        """Start counting."""
        self._joules = 0.0
        self._last = [read() for read, _ in self.counters]

    def joules(self) -> float:
        """Return the joules since ``start``. Call it more often than a counter wraps."""
        for i, (read, wrap) in enumerate(self.counters):
            now = read()
            spent = now - self._last[i]
            self._joules += spent if spent >= 0 or wrap is None else spent + wrap
            self._last[i] = now
        return self._joules


def meter(device: str) -> tuple[Meter | None, str]:
    """Return a device's energy meter and ""; or None and the reason why there is none.

    Args:
        device: ``cpu``, ``cuda`` or ``mps``.
    """
    if device == "mps":
        return None, "no energy counter of Apple's GPUs is read"
    try:
        return (_nvml() if device == "cuda" else _rapl()), ""
    except Unavailable as error:
        return None, str(error)


def _rapl() -> Meter:
    domains = []
    # only the outer domains, intel-rapl:0; not psys, which counts the packages a second time
    for folder in sorted(POWERCAP.glob("intel-rapl:*")):
        if folder.name.count(":") == 1 and _text(folder / "name").startswith("package"):
            domains.append(folder)
    if not domains:
        raise Unavailable(f"no energy counter of the CPU: {POWERCAP} shows no intel-rapl package "
                          "(not Linux, a virtual machine, or a CPU without RAPL)")
    counters = []
    for folder in domains:
        def read(path: Path = folder / "energy_uj") -> float:
            return int(_text(path)) / 1e6
        read()
        counters.append((read, int(_text(folder / "max_energy_range_uj")) / 1e6))
    names = ", ".join(_text(folder / "name") for folder in domains)
    return Meter(counters, f"RAPL of {names}")


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except PermissionError:
        raise Unavailable(f"{path} may not be read by this user: let an administrator run "
                          f"chmod a+r {path}") from None
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror}") from None


def _nvml() -> Meter:
    try:
        library = ctypes.CDLL(NVML)
    except OSError as error:
        raise Unavailable(f"no energy counter of the GPU: {NVML} cannot be loaded ({error})"
                          ) from None

    def call(name: str, *arguments) -> None:
        try:
            code = getattr(library, name)(*arguments)
        except AttributeError:
            raise Unavailable(f"no energy counter of the GPU: {NVML} has no {name}; the driver is "
                              "too old") from None
        if code:
            raise Unavailable(f"no energy counter of the GPU: {name} failed with NVML's code "
                              f"{code}" + (" (not supported)" if code == 3 else ""))

    call("nvmlInit_v2")
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    handle, value = ctypes.c_void_p(), ctypes.c_ulonglong()
    call("nvmlDeviceGetHandleByUUID", f"GPU-{properties.uuid}".encode(), ctypes.byref(handle))

    def read() -> float:
        torch.cuda.synchronize()
        call("nvmlDeviceGetTotalEnergyConsumption", handle, ctypes.byref(value))
        return value.value / 1000

    read()
    return Meter([(read, None)], "NVML, the whole board")
