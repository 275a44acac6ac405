"""What the C library does with memory that is freed."""

import ctypes
import os

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # as glibc's malloc.h numbers them


def keep() -> None:
    """Up to 2 GB of freed memory stay with this process, blocks above 32 MB aside: the next step wants them again.

    glibc hands what is free at the end of its heap to the system from 64 MB on, which are the gradients at the end of
    a step, and each 4 KB of it costs a fault in the next. Nothing happens under another C library, or where the
    environment has settings for glibc's.
    """
    if any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(M_MMAP_THRESHOLD, 2**25)  # as far as glibc would raise it by itself
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
