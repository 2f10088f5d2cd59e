"""Keep freed memory in the process, because every image allocates and frees large activations.

By default glibc returns blocks above some megabytes to the system at once and requests them again,
and the system fills them with zeros page by page. With that, on one CPU thread, a forward pass of
Compacter x2 on 160x240 pixels takes 1.7 times as long, and DnCNN on Set12 1.6 times.

Try: ``python -c "from irbench.inference import allocator; print(allocator.keep())"``
"""

from __future__ import annotations

import ctypes

# parameters of glibc's mallopt, from malloc.h
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST = 2**30  # bytes; mallopt takes an int, so that twice this value less one must fit


def keep(below: int = LARGEST) -> bool:
    """Make this process keep freed blocks below a size; return whether the C library supports it.

    The process stays near its peak memory until it ends. Only timings change, not results.

    Args:
        below: bytes; larger blocks are returned to the system when freed.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # not glibc
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, below) and mallopt(M_TRIM_THRESHOLD, 2 * below - 1))
