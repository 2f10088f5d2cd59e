"""The GPUs of a machine, and which of them a process has for itself.

Each job of a run takes a free GPU by locking a file in the machine's folder for temporary files.
The kernel releases the lock when the process ends, even by kill -9. All users of the machine share
the files. A scheduler's choice comes first: where ``CUDA_VISIBLE_DEVICES`` names no more GPUs than
a job needs, as in a job of Slurm, nothing is taken.

Reads   nvidia-smi's list. Writes lock files. Does not import torch.

Try: ``irbench info machine``
"""

from __future__ import annotations

import csv
import functools
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from irbench.core import locks
from irbench.core.machine import NO_GPU

VISIBLE = "CUDA_VISIBLE_DEVICES"
EVERY = 0.2     # seconds between two tries
PATIENCE = 60   # seconds that nvidia-smi may take

_taken: list[int] = []      # open files: a GPU is taken until the process ends


@dataclass(frozen=True)
class Gpu:
    """A GPU of this machine.

    Attributes:
        uuid: its name in ``CUDA_VISIBLE_DEVICES``; ``mps`` for a GPU of Apple.
        name: the product.
        memory_bytes: its memory; None if it has no memory of its own.
    """

    uuid: str
    name: str
    memory_bytes: int | None = None


@functools.cache
def installed() -> tuple[Gpu, ...]:
    """Return the GPUs of this machine: NVIDIA's, or the one of an Apple processor."""
    if sys.platform == "darwin":
        return (Gpu("mps", "Apple GPU"),) if platform.machine() == "arm64" else ()
    program = shutil.which("nvidia-smi")
    if not program:
        return ()
    try:
        told = subprocess.run(
            [program, "--query-gpu=uuid,name,memory.total", "--format=csv,noheader,nounits"],
            capture_output=True, text=True, timeout=PATIENCE, check=True).stdout
    except (OSError, subprocess.SubprocessError):   # no driver, or no GPU
        return ()
    return tuple(Gpu(uuid.strip(), name.strip(), int(float(mib)) * 2**20 if _number(mib) else None)
                 for uuid, name, mib in (row for row in csv.reader(told.splitlines())
                                         if len(row) == 3))


def find() -> tuple[str, ...]:
    """Return the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    chosen = os.environ.get(VISIBLE)
    if chosen is None:
        return tuple(gpu.uuid for gpu in installed())
    return tuple(name.strip() for name in chosen.split(",") if name.strip() not in NO_GPU)


def claim(count: int = 1, waiting: Callable[[float], None] | None = None) -> tuple[str, ...]:
    """Take free GPUs until this process ends, and make them the only ones that CUDA sees.

    Must be called before torch looks for GPUs. Does nothing on a machine without NVIDIA GPUs, where
    no more than ``count`` may be used, or if this process has taken some already.

    Args:
        count: how many.
        waiting: called again and again while too few are free, with the seconds waited so far; it
            may raise an error to give up. None: a process that finds none goes on without.

    Returns:
        The names of those taken; () if nothing was done.
    """
    usable = [name for name in find() if name != "mps"]
    if _taken or len(usable) < (count if VISIBLE not in os.environ else count + 1):
        return ()
    begun = time.monotonic()
    while True:
        free = _try(usable, count)
        if free:
            os.environ[VISIBLE] = ",".join(free)
            return free
        if waiting is None:
            return ()
        waiting(time.monotonic() - begun)
        time.sleep(EVERY)


def _try(usable: list[str], count: int) -> tuple[str, ...]:
    """Lock ``count`` of some GPUs, or none if fewer are free."""
    got: dict[str, int] = {}
    for name in usable:
        handle = _open(name)
        if handle is not None and locks.lock(handle):
            got[name] = handle
            if len(got) == count:
                _taken.extend(got.values())
                return tuple(got)
        elif handle is not None:
            os.close(handle)
    for handle in got.values():
        os.close(handle)
    return ()


def _open(name: str) -> int | None:
    """Open the lock file of a GPU, which any user may have made."""
    known = [gpu.uuid for gpu in installed()]
    if name.isdigit() and int(name) < len(known):
        name = known[int(name)]
    path = Path(tempfile.gettempdir()) / f"irbench-{''.join(c for c in name if c.isalnum())}.lock"
    for flags in (os.O_RDONLY, os.O_RDONLY | os.O_CREAT):
        try:
            return os.open(path, flags, 0o444)
        except OSError:
            continue
    return None


def _number(text: str) -> bool:
    return text.strip().replace(".", "", 1).isdigit()
