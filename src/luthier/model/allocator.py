"""Keeps freed memory in the process, or gives it back.

glibc gives every large block back to the kernel when it is freed and takes fresh pages for the next one. A training
step frees and takes the same blocks again and again, and pays for the page faults (Source: `docs/measurements/first-runs.md`;
`benchmarks/train_speed_contenders.py luthier … --set allocator=glibc` leaves them in).
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

M_TRIM_THRESHOLD = -1
M_TOP_PAD = -2
M_MMAP_THRESHOLD = -3


def keep_freed_memory() -> bool:
    """Tells glibc to keep what is freed for the next allocation.

    Returns:
        Whether the C library took the setting; elsewhere than on glibc nothing is done and nothing is lost but speed.
    """
    mallopt = _function("mallopt")
    if mallopt is None:
        return False
    settings = ((M_MMAP_THRESHOLD, 1 << 30), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 64 << 20))
    taken = [mallopt(option, value) == 1 for option, value in settings]
    return all(taken)


def give_back_freed_memory() -> bool:
    """Gives what is free now back to the kernel, after something large was copied and freed.

    Returns:
        Whether the C library gave something back.
    """
    trim = _function("malloc_trim")
    return trim is not None and trim(0) == 1


def _function(name: str) -> Any:
    """Returns a function of glibc, or None elsewhere."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
