"""Keeps freed memory in the process.

glibc gives every large block back to the kernel when it is freed and takes fresh pages for the next one. A training
step frees and takes the same blocks again and again, and pays for the page faults (Source: `docs/measurements/first-runs.md`;
`benchmarks/train_speed_contenders.py luthier … --set allocator=glibc` leaves them in).
"""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD = -1
M_TOP_PAD = -2
M_MMAP_THRESHOLD = -3


def keep_freed_memory() -> bool:
    """Tells glibc to keep what is freed for the next allocation.

    Returns:
        Whether the C library took the setting; elsewhere than on glibc nothing is done and nothing is lost but speed.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    settings = ((M_MMAP_THRESHOLD, 1 << 30), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 64 << 20))
    taken = [mallopt(option, value) == 1 for option, value in settings]
    return all(taken)
