"""Rows through transformers' own forward and cache: any decoder works.

Rows of like length are padded to one length. A finished row leaves; the next ones enter when all have left. Tensor legend:
B rows, L tokens of a piece, S cached tokens, V vocabulary.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from luthier.model.generation.row import Prediction, Row
from luthier.model.loader import LoadedModel
from luthier.model.lora import Adapter

MIN_SHARED_PREFIX_TOKENS = 8


class GenericEngine:
    """transformers computes.

    Args:
        model, adapter: what to compute.
        reason: why not the native engine.
        max_rows: at a time.
        logits: whether predictions carry them.
        share_prefix: whether what all rows of a batch begin with is computed once.
    """

    def __init__(
        self,
        model: LoadedModel,
        adapter: Adapter | None,
        reason: str,
        *,
        max_rows: int,
        logits: bool,
        share_prefix: bool,
    ) -> None:
        self.name: Literal["native", "generic"] = "generic"
        self.reason = reason
        self._model = model
        self._adapter = adapter
        self._max_rows = max_rows
        self._logits = logits
        self._share_prefix = share_prefix
        self._rows: list[Row] = []
        self._state: _State | None = None

    def ordered(self, rows: Sequence[Row]) -> list[Row]:
        """Returns the rows from the longest (what does not fit memory fails at once), adapted ones by themselves."""
        return sorted(rows, key=lambda row: (row.prompt.adapted, -len(row.ids), row.index))

    def takes(self, row: Row) -> bool:
        """Whether the row may enter now."""
        if not self._rows:
            return True
        alike = self._rows[0].prompt.adapted == row.prompt.adapted
        return self._state is None and alike and len(self._rows) < self._max_rows

    def enter(self, row: Row) -> None:
        """Lets a row in."""
        self._rows.append(row)

    @torch.inference_mode()
    def step(self) -> Iterable[Prediction]:
        """Goes on by one token."""
        silent = self._adapter is not None and not self._rows[0].prompt.adapted
        with self._adapter.disabled() if self._adapter and silent else contextlib.nullcontext():
            if self._state is None:
                self._state, logits_BV = _prefill(self._model, self._rows, share_prefix=self._share_prefix)
            else:
                keep = [place for place, row in enumerate(self._state.rows) if row in self._rows]
                if len(keep) < len(self._state.rows):
                    self._state.select(keep)
                ids_B1 = torch.tensor([[row.ids[-1]] for row in self._state.rows], device=self._state.seen_BS.device)
                logits_BV = self._state.step(self._model, ids_B1)
        logits_BV = logits_BV.float()
        likeliest = logits_BV.argmax(-1).tolist()
        return [
            Prediction(row, best, logits_V if self._logits else None)
            for row, best, logits_V in zip(self._state.rows, likeliest, logits_BV, strict=True)
        ]

    def give(self, row: Row, token: int) -> None:
        """Appends a token to a row."""
        row.ids.append(token)

    def leave(self, row: Row) -> None:
        """Forgets a row."""
        self._rows.remove(row)
        if not self._rows:
            self._state = None


class _State:
    """The cache of a batch, with what is padding in it.

    Attributes:
        rows: of the batch, in its order.
        seen_BS: 1 where a cached token is real, 0 where it is left padding.
        lengths_B1: real tokens of each row, which is the position of its next one.
    """

    def __init__(self, rows: list[Row], cache: DynamicCache, seen_BS: Tensor) -> None:
        self.rows = rows
        self.cache = cache
        self.seen_BS = seen_BS
        self.lengths_B1 = seen_BS.sum(1, keepdim=True)

    def select(self, keep: list[int]) -> None:
        """Keeps some rows of the batch."""
        index = torch.tensor(keep, device=self.seen_BS.device)
        self.cache.batch_select_indices(index)
        self.rows = [self.rows[place] for place in keep]
        self.seen_BS, self.lengths_B1 = self.seen_BS[index], self.lengths_B1[index]

    def step(self, model: LoadedModel, ids_B1: Tensor) -> Tensor:
        """Returns the logits [B, V] after one more token a row."""
        self.seen_BS = torch.cat([self.seen_BS, torch.ones_like(ids_B1)], 1)
        logits_BV = _forward(model, ids_B1, self.seen_BS, self.lengths_B1, self.cache)
        self.lengths_B1 = self.lengths_B1 + 1
        return logits_BV


def _prefill(model: LoadedModel, rows: Sequence[Row], *, share_prefix: bool) -> tuple[_State, Tensor]:
    """Returns the state after the prompts and the logits [B, V] of the first new token."""
    device = model.network.get_input_embeddings().weight.device
    texts = [row.ids for row in rows]
    cache = DynamicCache(config=model.network.config)
    # Padding comes to stand behind the prefix, where windows and the like would count it.
    share_prefix &= all(type(layer) is DynamicLayer for layer in cache.layers)
    num_shared = _shared_prefix(texts) if share_prefix else 0
    if num_shared:
        prefix_1P = torch.tensor([texts[0][:num_shared]], device=device)
        _forward(model, prefix_1P, torch.ones_like(prefix_1P), torch.arange(num_shared, device=device)[None], cache)
        cache.batch_repeat_interleave(len(texts))
    rest = [text[num_shared:] for text in texts]
    longest = max(map(len, rest))
    pad = model.chat.end_of_turn_id  # any id will do: padding is told by the mask, never by the id
    ids_BL = torch.tensor([[pad] * (longest - len(text)) + text for text in rest], device=device)
    real_BL = torch.tensor([[0] * (longest - len(text)) + [1] * len(text) for text in rest], device=device)
    seen_BS = torch.cat([real_BL.new_ones(len(rest), num_shared), real_BL], 1)
    positions_BL = (num_shared + real_BL.cumsum(1) - 1).clamp(min=0)
    logits_BV = _forward(model, ids_BL, seen_BS, positions_BL, cache)
    return _State(list(rows), cache, seen_BS), logits_BV


def _forward(model: LoadedModel, ids: Tensor, seen: Tensor, positions: Tensor, cache: Any) -> Tensor:
    output = model.network(
        input_ids=ids,
        attention_mask=seen,
        position_ids=positions,
        use_cache=True,
        logits_to_keep=1,
        **{_cache_keyword(type(model.network).forward): cache},
    )
    logits_BV: Tensor = output.logits[:, -1]
    return logits_BV


@functools.cache
def _cache_keyword(forward: Callable[..., Any]) -> str:
    """Returns what a model's forward calls its cache: `cache` from transformers 5.24 on, where the old name warns."""
    return "cache" if "cache" in inspect.signature(forward).parameters else "past_key_values"


def _shared_prefix(texts: list[list[int]]) -> int:
    """Returns how many first tokens all texts share; at least one token of each is left."""
    if len(texts) < 2:
        return 0
    limit = min(map(len, texts)) - 1
    count = 0
    while count < limit and all(text[count] == texts[0][count] for text in texts):
        count += 1
    return count if count >= MIN_SHARED_PREFIX_TOKENS else 0
