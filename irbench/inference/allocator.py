"""Keep freed memory in the process, because every image allocates and frees large activations.

By default glibc returns blocks above some megabytes to the system at once and requests them again,
and the system fills them with zeros page by page. With that, on one CPU thread, a forward pass of
Compacter x2 on 160x240 pixels takes 1.7 times as long, and DnCNN on Set12 1.6 times.

Try: ``python -c "from irbench.inference import allocator; print(allocator.keep())"``
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

# parameters of glibc's mallopt, from malloc.h
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST = 2**30  # bytes; mallopt takes an int, so that twice this value less one must fit


def keep(below: int = LARGEST) -> bool:
    """Make this process keep freed blocks below a size; return whether the C library supports it.

    The process stays near its peak memory until it ends. Only timings change, not results.

    Args:
        below: bytes; larger blocks are returned to the system when freed.
    """
    mallopt = _glibc("mallopt")
    return bool(mallopt and mallopt(M_MMAP_THRESHOLD, below)
                and mallopt(M_TRIM_THRESHOLD, 2 * below - 1))


def release() -> bool:
    """Return freed memory to the system; return whether there was any.

    Of a large image the blocks that decoding has freed are too small for what comes next, and count
    beside it: 6 bytes a pixel of a PNG file.
    """
    trim = _glibc("malloc_trim")
    return bool(trim and trim(ctypes.c_size_t(0)))


def _glibc(name: str) -> Callable[..., int] | None:
    """Return a function of the C library, or None where it is not glibc."""
    try:
        return getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError, TypeError):
        return None
