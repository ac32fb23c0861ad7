"""Arrays that several processes look at: each reads the file that an array lies in, and nothing is sent."""

from __future__ import annotations

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
