"""When, by what code and on what machine something ran.

Reads package metadata, git and /proc; writes nothing.

Try: ``python -c "from irbench.core import machine; print(machine.provenance())"``
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import importlib.metadata
import importlib.util
import os
import platform
import subprocess
import sys
from pathlib import Path

import psutil

from irbench import __version__

BUSY = 0.2                      # cores; the load of an idle system stays below this
NO_GPU = ("", "-1", "NoDevFiles")     # in CUDA_VISIBLE_DEVICES; the last is Slurm's
PACKAGES = ("torch", "torchvision", "numpy", "opencv-python-headless", "pillow", "pyiqa", "fvcore",
            "scikit-image", "safetensors", "snakemake", "pandas", "matplotlib")


def provenance(threads: int | None = None) -> dict:
    """Describe when, by what code and on what machine something ran."""
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "irbench": __version__, "git": _git(), "python": platform.python_version(),
        "packages": versions_of(*PACKAGES), "hardware": _hardware(), "threads": threads,
        "gpu_uuid": _gpu_uuid(),
    }


def basis() -> dict:
    """Return what the last bits of a computed value may depend on: machine and versions."""
    # equal nodes of a cluster do not have the same memory to the byte, and it decides no bit
    hardware = {name: value for name, value in _hardware().items() if name != "memory_bytes"}
    return {"irbench": __version__, "python": platform.python_version(),
            "packages": versions_of(*PACKAGES, "scipy"), "hardware": hardware}


@functools.cache
def versions_of(*names: str) -> dict[str, str | None]:
    """Return the installed versions of packages; null where one is absent."""
    versions: dict[str, str | None] = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def usable_cores() -> int:
    """Return how many cores this process may use, for example in a job of a scheduler."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor() -> tuple[str, int | None]:
    """Return the name of the processor and its number of cores, as ``provenance`` holds them."""
    return _cpu_name(), os.cpu_count()


def busy(cores: float | None) -> float:
    """Return how many cores other processes used during a measurement, 0 if negligible or unknown.
    """
    return cores if cores and cores >= BUSY else 0.0


@functools.cache
def _git() -> dict | None:
    """Return the commit of the checkout that this file belongs to; None if it was installed.

    A file that lies in somebody else's repository, as in a virtual environment, is not tracked.
    """
    def run(*args: str) -> str:
        return subprocess.run(["git", *args], cwd=Path(__file__).parent, check=True, text=True,
                              capture_output=True, timeout=10).stdout.strip()
    try:
        run("ls-files", "--error-unmatch", Path(__file__).name)
        return {"commit": run("rev-parse", "HEAD"), "dirty": bool(run("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


@functools.cache
def _hardware() -> dict:
    gpu = None
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        if torch.cuda.is_available():
            gpu = torch.cuda.get_device_name()
    return {"platform": f"{platform.system()} {platform.machine()}", "cpu": _cpu_name(),
            "cores": os.cpu_count(), "memory_bytes": psutil.virtual_memory().total, "gpu": gpu}


def _gpu_uuid() -> str | None:
    """Return which GPU this process was given: its UUID, or what its scheduler calls it.

    ``irbench.inference.gpus`` chooses it. None without one. Whether it was used: ``gpu_unused``.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        found = getattr(torch.cuda.get_device_properties(torch.cuda.current_device()), "uuid", None)
        if found is not None:
            return f"GPU-{str(found).removeprefix('GPU-')}"
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return None if named in NO_GPU else named


def gpu_unused(provenance: dict) -> bool:
    """Return whether a job was given a GPU and yet ran on a machine whose GPU torch cannot use."""
    return bool(provenance.get("gpu_uuid")) and not provenance.get("hardware", {}).get("gpu")


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
