"""Rows through our own kernels: rows enter and leave at any step, and begin where another one began alike.

A row that begins like the one that entered before it, which is the most alike as rows enter in alphabetical order, uses
its blocks of the cache as far as they are alike; a block that is alike in part is copied. Nothing is padded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import psutil

from luthier.errors import MissingError
from luthier.model.generation.blocks import BLOCK_TOKENS, Blocks
from luthier.model.generation.native_network import NativeNetwork, obstacle_of
from luthier.model.generation.native_pass import Copy, Segment, Workshop, block_bytes
from luthier.model.generation.row import Prediction, Row
from luthier.model.kernels.native import native
from luthier.model.loader import LoadedModel
from luthier.model.lora import Adapter

PROMPT_TOKENS = 512
"""Of prompts in one pass, so that the memory of a pass is bounded; longer prompts take several."""
_CACHE_SHARE = 0.5
"""The share of the memory available that the cache may take at most."""


def obstacle(model: LoadedModel, adapter: Adapter | None) -> str | None:
    """Returns why the kernels cannot compute a model with its adapter, or None."""
    if adapter is not None and adapter.whole:
        return "whole weights are trained, which base and fine-tuned model cannot share"
    return obstacle_of(model.network)


@dataclass(slots=True)
class _Cached:
    """What the cache holds of a row.

    Attributes:
        blocks: its blocks, in order; enough for all the tokens it may have.
        num_cached: tokens whose keys and values are there, or will be after the copy.
        copy: of a block that it begins alike with in part, until it was made.
    """

    blocks: list[int]
    num_cached: int
    copy: Copy | None


class NativeEngine:
    """Our own kernels compute.

    Args:
        model, adapter: what to compute, as it is now.
        max_rows: at a time, where memory allows.
        most_tokens: of a row, its answer included.
        logits: whether predictions carry them.
        share_prefix: whether a row may begin with what is in the cache.
    """

    def __init__(
        self,
        model: LoadedModel,
        adapter: Adapter | None,
        *,
        max_rows: int,
        most_tokens: int,
        logits: bool,
        share_prefix: bool,
    ) -> None:
        self.name: Literal["native", "generic"] = "native"
        self.reason = f"{type(model.network).__name__}, kernels {native('decode').reason}"
        self._adapted = adapter is not None
        self._share_prefix = share_prefix
        self._max_rows = max_rows
        net = NativeNetwork(model.network, most_tokens)
        most_blocks = -(-most_tokens // BLOCK_TOKENS)
        allowed = int(psutil.virtual_memory().available * _CACHE_SHARE) // block_bytes(net)
        if allowed < 2 * most_blocks:
            raise MissingError(
                f"There is not enough memory for the keys and values of {most_tokens} tokens.",
                code="out_of_memory",
                param="evaluate.max_new_tokens",
            )
        # One row's worth more: the blocks of the row that entered last are kept for those like it.
        num_blocks = min((max_rows + 1) * most_blocks, allowed)
        self._blocks = Blocks(num_blocks)
        self._workshop = Workshop(
            net,
            num_blocks=num_blocks,
            most_tokens=most_tokens,
            most_pass_tokens=max_rows + PROMPT_TOKENS,
            most_segments=max_rows,
            logits=logits,
        )
        self._rows: list[Row] = []
        self._last: tuple[Row, list[int], list[int]] | None = None

    def ordered(self, rows: Sequence[Row]) -> list[Row]:
        """Returns the rows in alphabetical order of their tokens, so that each enters behind the one most like it."""
        return sorted(rows, key=lambda row: (row.prompt.adapted, row.ids, row.index))

    def takes(self, row: Row) -> bool:
        """Whether the row may enter now: there is room, and the tokens before it will be in the cache."""
        if not self._rows:
            return True
        return len(self._rows) < self._max_rows and self._blocks.num_free >= -(-row.most_tokens // BLOCK_TOKENS)

    def enter(self, row: Row) -> None:
        """Lets a row in."""
        num_alike, alike = self._alike(row)
        num_shared = num_alike // BLOCK_TOKENS
        shared = alike[:num_shared]
        self._blocks.share(shared)
        own = self._blocks.take(-(-row.most_tokens // BLOCK_TOKENS) - num_shared)
        copy = None
        if num_alike % BLOCK_TOKENS:
            copy = Copy(alike[num_shared], own[0], num_alike % BLOCK_TOKENS)
            self._blocks.share([copy.source])  # its row may leave, and others enter, before the copy is made
        blocks = shared + own
        row.state = _Cached(blocks, num_alike, copy)
        self._rows.append(row)
        held = blocks[: -(-len(row.ids) // BLOCK_TOKENS)]
        self._blocks.share(held)
        if self._last:
            self._blocks.give_back(self._last[2])
        self._last = (row, list(row.ids), held)

    def step(self) -> Iterable[Prediction]:
        """Goes on: by a token of each row whose prompt was read, and by some of the prompts of others."""
        segments, copies, predicted = [], [], []
        room = PROMPT_TOKENS
        for row in self._rows:
            cached: _Cached = row.state
            count = len(row.ids) - cached.num_cached
            if count > 1 or cached.num_cached == 0:
                count = min(count, room)
                room -= count
            if not count:
                break  # those behind it may begin with what is still to be read
            if cached.copy:
                copies.append(cached.copy)
                cached.copy = None
            ids = row.ids[cached.num_cached : cached.num_cached + count]
            whole = cached.num_cached + count == len(row.ids)
            adapted = self._adapted and row.prompt.adapted
            segments.append(Segment(ids, cached.num_cached, cached.blocks, adapted, whole))
            cached.num_cached += count
            if whole:
                predicted.append(row)
        likeliest, logits_NV = self._workshop.run(segments, copies)
        self._blocks.give_back([copy.source for copy in copies])
        return [
            Prediction(row, token, None if logits_NV is None else logits_NV[number])
            for number, (row, token) in enumerate(zip(predicted, likeliest, strict=True))
        ]

    def give(self, row: Row, token: int) -> None:
        """Appends a token to a row."""
        row.ids.append(token)

    def leave(self, row: Row) -> None:
        """Forgets a row."""
        cached: _Cached = row.state
        self._rows.remove(row)
        self._blocks.give_back(cached.blocks + ([cached.copy.source] if cached.copy else []))

    def _alike(self, row: Row) -> tuple[int, list[int]]:
        """Returns how many tokens the row begins alike with the one before it, and that one's blocks."""
        if not (self._last and self._share_prefix) or self._last[0].prompt.adapted != row.prompt.adapted:
            return 0, []
        _, ids, blocks = self._last
        limit = min(len(ids), len(row.ids) - 1)
        count = next((place for place in range(limit) if ids[place] != row.ids[place]), limit)
        return count, blocks
