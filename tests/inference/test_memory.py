"""Peak memory: the highest point of a call, whatever lay in memory before, and what is free."""

import subprocess
import sys

import pytest
import torch

from irbench.inference import memory
from irbench.jobs.profiling import profile
from tests.helpers.allocations import MIB, Temporary
from tests.helpers.paths import ROOT

SIZE = {"channels": 3, "height": 8, "width": 10, "warmup": 1, "samples": 3, "threads": 1}
linux = pytest.mark.skipif(not memory.CLEAR_REFS.exists(), reason="needs Linux")


def highest_points():
    """Check peaks; for a process of its own, as a profile has in a run."""
    def peak(*sizes):
        result = profile.profile(Temporary(*sizes), **SIZE)
        assert result["peak_memory_of"] == "process RSS growth"
        return result["peak_memory_bytes"]

    # the process may hold a little free memory already, which does not count as growth
    assert 28 * MIB < peak(30) < 34 * MIB
    assert 48 * MIB < peak(40, 50, 10) < 54 * MIB  # malloc gives back 40 by itself
    # smaller ones it keeps, in holes that later ones do not fit into
    assert 18 * MIB < peak(10, 20, 10, 5, 10) < 24 * MIB
    assert 28 * MIB < peak(25, 28, 30) < 34 * MIB
    assert peak() < 4 * MIB  # neither the process nor earlier peaks are in it


def held_memory():
    """Check that what malloc holds changes no peak; for a process of its own."""
    def forward():
        for blocks in (60, 90, 60):  # of half a MiB: small enough for malloc to keep
            [torch.ones(MIB // 8) for _ in range(blocks)]

    found = []
    for _ in range(2):
        kept = [torch.ones(MIB // 8) for _ in range(200)]
        pins = [torch.ones(2000) for _ in range(3)]  # above them in the heap, which cannot shrink
        del kept
        found.append(profile.resident_peak(forward)[0])
        del pins
    assert all(44 * MIB < n < 48 * MIB for n in found), found


@linux
@pytest.mark.slow
@pytest.mark.parametrize("check", [highest_points, held_memory])
def test_the_peak_is_the_highest_point_whatever_malloc_holds(check):
    # among other tests, what these left would be freed during the pass: megabytes less
    code = f"from tests.inference import test_memory; test_memory.{check.__name__}()"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
