"""The memory that an image may use, and the memory it needs: decides whether tiles are needed.

Reads the machine's counters and runs a network on two small random images; writes nothing.

The available memory is read once, before the first image. On the CPU it is the machine's available
memory or the rest in the process's control group (a container, a Slurm job), whichever is less; on
CUDA the free memory of the device and of torch's cache. The need of an image is measured on squares
of about 64 and 128 pixels and extrapolated in proportion to the pixels, or faster if the two
measurements grow faster. It is measured only for images that would not fit at ``AMPLE`` bytes per
pixel, so that ordinary test images cost nothing.

Try: ``python -c "from irbench.inference.budget import *; print(available('cpu') / 2**30, 'GiB')"``
"""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from torch import nn

from irbench.core.errors import UserError
from irbench.inference.memory import cuda_peak, resident_peak

GIB = 2**30
SHARE = 0.8  # of the available memory that an image may use by default
# Bytes per pixel of the input. Measured at x2 in float32: Compacter 2.7 K, SemanIR-light 2.4 K,
# SemanIR-S 8.8 K.
AMPLE = 64 * 1024
NOISE = 2**20  # bytes that a process gains or loses whatever the network does
SMALL = 64  # side of the smaller measured image; the other side is twice as long
# The measurement counts live memory; the process also holds the gaps between freed blocks. Measured
# on CPU with ``allocator.keep()``: 1.66 times as much in total for SemanIR-light in tiles of 232,
# 1.36 to 1.66 times for SemanIR-S in tiles of 256 and less. The factor for CUDA is a guess.
SLACK = {"cpu": 1.75, "cuda": 1.25}
GROUPS = Path("/sys/fs/cgroup")
SEED = 0


class Budget:
    """The memory of one network on one device: its limit and its need.

    Arguments:
        network: ready to run, from float32 (1, C, h, w).
        memory_gib: limit for the whole process (CPU) or torch (CUDA); None: ``SHARE`` of the
            available memory.
        device: ``cpu`` or ``cuda``.
        multiple: the sides of measured images are multiples of this.
    """

    def __init__(self, network: nn.Module, memory_gib: float | None, device: str,
                 multiple: int) -> None:
        """Keep the arguments (above); nothing is measured yet."""
        self.network, self.device, self.multiple = network, device, multiple
        self.memory_gib = memory_gib
        self._allowed: int | None = None
        self._needs: Needs | None = None

    def allowed(self) -> int:
        """Return the bytes that a forward pass may use beyond the memory already in use.

        Raises UserError if the memory in use before the first image exceeds ``memory_gib``.
        """
        if self._allowed is None:
            if self.memory_gib is None:
                self._allowed = int(SHARE * available(self.device))
            else:
                held = taken(self.device)
                self._allowed = int(self.memory_gib * GIB) - held
                if self._allowed <= 0:
                    raise UserError(f"memory_gib is {self.memory_gib:g}, but weights and program "
                                    f"alone use {gib(held)}. Allow more.")
        return self._allowed

    def limit_in_words(self) -> str:
        """Return the limit in words, for reasons in records."""
        return (f"{gib(self.allowed())} allowed" if self.memory_gib is None
                else f"{self.memory_gib:g} GiB allowed for the process")

    def surely_fits(self, pixels: int) -> bool:
        """Whether an image fits even at ``AMPLE`` bytes per pixel."""
        return pixels * AMPLE <= self.allowed()

    def needs(self, channels: int) -> Needs:
        """Return the network's need, measured at the first call; see ``measure``."""
        if self._needs is None:
            self._needs = measure(self.network, channels, self.device, self.multiple)
            self._allowed = None  # read again: libraries have now made their one-time allocations
        return self._needs


@dataclass(frozen=True)
class Needs:
    """The bytes of a forward pass as a function of its input's pixels, from two measured points.

    ``points``: ((pixels, bytes), (pixels, bytes)), ascending; None if nothing could be measured,
    for the reason in ``reason``. ``scale`` and ``channels`` belong to the output; ``slack`` is a
    factor on the measured bytes.
    """

    points: tuple[tuple[int, int], tuple[int, int]] | None
    scale: int = 1
    channels: int = 1
    slack: float = 1.0
    reason: str = ""

    def bytes_for(self, pixels: int) -> int:
        """Estimate the bytes for an input of this many pixels, including slack."""
        (p, at_p), (q, at_q) = self.points
        each = max(at_q - at_p, 0) / (q - p)
        straight = at_q + each * (pixels - q)
        # between two amounts of noise any growth can be seen
        power = math.log(max(at_q, NOISE) / max(at_p, NOISE)) / math.log(q / p)
        curved = at_q * (pixels / q) ** power if power > 1 and pixels > q else 0
        return int(self.slack * max(straight, curved, 0))

    def output(self, pixels: int) -> int:
        """Return the bytes of the float32 output for an input of this many pixels."""
        return 4 * self.channels * self.scale**2 * pixels


def measure(network: nn.Module, channels: int, device: str, multiple: int) -> Needs:
    """Measure the memory of two forward passes on random images of about 64 and 128 pixels.

    A compiled network is measured without its compilation, which does not need less.
    """
    from irbench.inference.prepare import uncompiled

    network = uncompiled(network)
    side = -(-SMALL // multiple) * multiple
    generator = torch.Generator().manual_seed(SEED)
    points = []
    for s in (side, 2 * side):
        x = torch.rand(1, channels, s, s, generator=generator).to(device)
        shapes = []

        def forward(x=x, shapes=shapes) -> None:
            shapes.append(network(x).shape)

        if device == "cuda":
            forward()  # warm-up: plans and loads kernels, which do not count
            peak, reason = cuda_peak(forward) - torch.cuda.memory_allocated(), ""
        else:
            peak, reason = resident_peak(forward)
        if peak is None:
            return Needs(None, reason=reason)
        points.append((s * s, peak))
    return Needs(tuple(points), scale=-(-shapes[-1][-1] // s), channels=shapes[-1][1],
                 slack=SLACK.get(device, SLACK["cpu"]))


# -- the machine -------------------------------------------------------------------------------

def available(device: str) -> int:
    """Return the bytes of memory that are still available on the device."""
    if device == "cuda":
        free, _ = torch.cuda.mem_get_info()
        return free + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    _give_back()
    return min([psutil.virtual_memory().available, *group_rest()])


def taken(device: str) -> int:
    """Return the bytes that this process (CPU) or its torch (CUDA) holds."""
    if device == "cuda":
        return torch.cuda.memory_allocated()
    _give_back()
    return psutil.Process().memory_info().rss


def group_rest(groups: Path = GROUPS, own: Path = Path("/proc/self/cgroup")) -> list[int]:
    """Return the free bytes of each control group of this process (Linux): its limit less its use.

    Groups without a limit are skipped; both versions of control groups are read. The kernel's cache
    of files counts as used there but is released on demand, so it is subtracted.
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return []
    rest = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            names, root = ("memory.max", "memory.current", "inactive_file"), groups
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            root = groups / "memory"
        else:
            continue
        inner = root / path.lstrip("/")
        # inside a container the process's path may not exist; then the root is its group
        for folder in {root, inner, *(p for p in inner.parents if p.is_relative_to(root))}:
            rest += _left(folder, *names)
    return rest


def _left(folder: Path, limit: str, use: str, files: str) -> list[int]:
    """Return [limit - use] of one group, [] if it has no limit."""
    try:
        most = (folder / limit).read_text().strip()
        if most == "max" or int(most) >= 2**60:  # version 1 writes a huge number for no limit
            return []
        used = int((folder / use).read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return [max(int(most) - used + int(stat.get(files, 0)), 0)]
    except (OSError, ValueError):
        return []


def _give_back() -> None:
    """Return the freed memory that malloc keeps (glibc) to the system."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):  # another C library
        return


def gib(number: int) -> str:
    """Write bytes as GiB."""
    return f"{number / GIB:.3g} GiB"
