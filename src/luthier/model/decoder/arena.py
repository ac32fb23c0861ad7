"""Memory for tensors that live as long as a batch.

A batch takes the same few hundred tensors as the one before it. Taken from the allocator each time, they cost page faults
and leave holes behind; here they are cut from one block, from its beginning, and all are given back at once.
"""

from __future__ import annotations

import math
import mmap
import sys

import torch
from torch import Tensor

_ALIGNMENT = 64
_STAGGER = 192
"""Bytes left between tensors, so that rows a power of two apart do not all fall into the same lines of the cache."""
_FIRST_BYTES = 1 << 20
_RESERVED_BYTES = 1 << 30
"""Address space of a block at least, on the CPU. Pages take memory when they are first written to, so that a block which is
larger than its batch costs nothing; one that has to be exchanged for a larger one costs all its page faults again."""
_MAX_MADE = 50_000


class Arena:
    """Blocks of memory that tensors are cut from in order; in the long run one block."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._blocks = [self._block(_FIRST_BYTES)]
        self._current = 0
        self._used = 0
        # The same tensors are asked for again and again, and looking one up is faster than making it.
        self._made: dict[tuple[int, int, tuple[int, ...], torch.dtype], Tensor] = {}

    @property
    def num_bytes(self) -> int:
        """Bytes held."""
        return sum(len(block) for block in self._blocks)

    def take(self, *shape: int, dtype: torch.dtype) -> Tensor:
        """Returns a tensor with arbitrary contents. It is overwritten by others once it was given back."""
        size = math.prod(shape) * dtype.itemsize
        while self._used + size > len(self._blocks[self._current]):
            if self._current == len(self._blocks) - 1:
                self._blocks.append(self._block(max(size, self.num_bytes // 2)))
            self._current, self._used = self._current + 1, 0
        start = self._used
        self._used += -(-(size + _STAGGER) // _ALIGNMENT) * _ALIGNMENT
        key = (self._current, start, shape, dtype)
        found = self._made.get(key)
        if found is None:
            found = self._blocks[self._current][start : start + size].view(dtype).view(shape)
            if len(self._made) >= _MAX_MADE:
                self._made.clear()
            self._made[key] = found
        return found

    def mark(self) -> tuple[int, int]:
        """Returns a place that `release` goes back to."""
        return self._current, self._used

    def release(self, mark: tuple[int, int]) -> None:
        """Gives back all that was taken since the mark."""
        self._current, self._used = mark

    def reset(self) -> None:
        """Gives back everything; what lay in several blocks will lie in one."""
        if len(self._blocks) > 1:
            total = self.num_bytes
            self._made.clear()
            self._blocks.clear()
            self._current = self._used = 0
            try:
                self._blocks.append(self._block(total))
            except (MemoryError, RuntimeError):
                self._blocks.append(self._block(_FIRST_BYTES))  # whoever makes do with less can go on
                raise
        self._current = self._used = 0

    def _block(self, size: int) -> Tensor:
        if self._device.type != "cpu":
            return torch.empty(size, dtype=torch.uint8, device=self._device)
        # Mapped, so that a block given back is the system's again: an allocator keeps it, and beside it the larger one
        # that takes its place.
        refused = OSError()
        for wanted in (max(2 * size, _RESERVED_BYTES), size):
            try:
                return torch.frombuffer(_mapped(wanted), dtype=torch.uint8)
            except OSError as error:
                refused = error
        raise MemoryError(f"{size:,} bytes for a batch: {refused.strerror or refused}") from refused


def _mapped(size: int) -> mmap.mmap:
    if sys.platform != "linux":
        return mmap.mmap(-1, size)
    no_reserve = 0x4000  # Source: asm-generic/mman.h
    return mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve)
