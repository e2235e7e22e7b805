"""What the C library does with memory that a training step frees."""

import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
KEEP, MAPPED_FROM = 2**31 - 1, 2**25


def keep_freed_memory() -> bool:
    """Have freed memory kept for the next step, in this process from here on; whether the C library can.

    glibc gives large blocks back to the kernel when they are freed, and every step asks for the same ones again, page
    by page and zeroed: a seventh of a step's time. The most that the process ever holds is the same.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # no glibc: musl, macOS
        return False
    return all([mallopt(MMAP_THRESHOLD, MAPPED_FROM), mallopt(TRIM_THRESHOLD, KEEP)])
