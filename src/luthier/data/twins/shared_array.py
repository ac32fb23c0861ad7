"""Arrays that several processes look at: each reads the file that an array lies in, and nothing is sent."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
import numpy.typing as npt


class SharedArray:
    """An array; one that lies in a file is sent to another process as the file's name.

    Args:
        values: the array, perhaps of `written`.
    """

    def __init__(self, values: npt.NDArray[Any]) -> None:
        self.values = values

    def __reduce__(self) -> tuple[Any, ...]:
        values = self.values
        if isinstance(values, np.memmap) and values.filename is not None:
            return _shared, (str(values.filename), values.dtype.str, values.shape)
        return SharedArray, (values,)


def written(path: str, dtype: str, shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """Returns an array of zeros that lies in a new file, to be filled."""
    return np.memmap(path, dtype, "w+", shape=shape)


def _shared(path: str, dtype: str, shape: tuple[int, ...]) -> SharedArray:
    return SharedArray(np.memmap(path, dtype, "r", shape=shape))


def let_go(values: npt.NDArray[Any]) -> None:
    """Gives back the memory through which an array in a file is seen; what is looked at again is fetched again.

    Arrays that are not in a file, or that may be written to, are left as they are.
    """
    if isinstance(values, np.memmap) and values.mode == "r" and hasattr(mmap, "MADV_DONTNEED"):
        seen = getattr(values, "_mmap", None)
        if isinstance(seen, mmap.mmap):
            seen.madvise(mmap.MADV_DONTNEED)
