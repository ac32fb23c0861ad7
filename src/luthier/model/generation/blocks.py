"""Which blocks of the cache belong to which texts. A block holds 16 tokens, and several texts may share it."""

from __future__ import annotations

import heapq

BLOCK_TOKENS = 16
"""Tokens of a block; the kernels' own number (`WIDE` in decode.c)."""


class Blocks:
    """Blocks with the number of their users; free ones are given out from the lowest, so that memory is used again."""

    def __init__(self, count: int) -> None:
        self._users = [0] * count
        self._free = list(range(count))

    @property
    def num_free(self) -> int:
        """Blocks that nobody uses."""
        return len(self._free)

    def take(self, count: int) -> list[int]:
        """Returns blocks that were free, each with one user."""
        taken = [heapq.heappop(self._free) for _ in range(count)]
        for block in taken:
            self._users[block] = 1
        return taken

    def share(self, blocks: list[int]) -> None:
        """Counts one more user of each."""
        for block in blocks:
            self._users[block] += 1

    def give_back(self, blocks: list[int]) -> None:
        """Counts one user less of each; what nobody uses is free."""
        for block in blocks:
            self._users[block] -= 1
            if not self._users[block]:
                heapq.heappush(self._free, block)
