"""Seeds for everything that a network may draw from: torch on all devices, numpy and ``random``.

A stochastic network (a sampler, dropout that is always on) then gives the same values in every run.
A generator that code seeds from the operating system is out of reach; ``jobs.evaluate`` notices it.

Try: ``python -c "import torch; from irbench.inference.seeding import seeded
with seeded(7): print(torch.rand(1))"``
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch


def seed_all(seed: int) -> None:
    """Seed torch (CPU and every GPU), numpy and ``random`` with a number of 32 bits."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed all generators inside the context; afterwards they continue as if nothing was drawn."""
    states = random.getstate(), np.random.get_state()
    # without devices torch would look for every GPU, and warn about many
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        seed_all(seed)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
