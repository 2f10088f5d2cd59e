"""Keep freed memory in the process: large activations come and go with every image.

By default glibc gives blocks above some megabytes back to the system at once and asks for them
again, which the system fills with zeros page by page. On one CPU thread a forward pass of Compacter
x2 on 160x240 pixels takes 1.7 times as long so, and DnCNN on Set12 1.6 times.

Try: ``python -c "from irbench.inference import allocator; print(allocator.keep())"``
"""

from __future__ import annotations

import ctypes

# parameters of glibc's mallopt, from malloc.h
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST = 2**30  # bytes; mallopt takes an int, and twice of it less one must be one


def keep(below: int = LARGEST) -> bool:
    """Let this process keep freed blocks below a size; return whether the C library can do that.

    The process stays near its peak until it ends. No figure changes but time.

    Args:
        below: bytes; larger blocks come from the system and return to it.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # not glibc
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, below) and mallopt(M_TRIM_THRESHOLD, 2 * below - 1))
