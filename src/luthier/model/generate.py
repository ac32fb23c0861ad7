"""Generation: batched greedy answers, and one sampled stream for a chat.

Rows of a batch share the computed prefix of their prompts, and a finished row leaves the batch. Everything goes
through transformers' own forward and cache, so any decoder works.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import DynamicCache

from luthier.errors import DataError
from luthier.model.loader import LoadedModel

MIN_SHARED_PREFIX_TOKENS = 8


@dataclass(frozen=True, slots=True)
class Generated:
    """What a model wrote.

    Attributes:
        index: of the prompt.
        ids: the tokens, without the one that stopped it.
        num_tokens: tokens generated, the stopping one included.
        finish_reason: `stop` or `length`.
    """

    index: int
    ids: list[int]
    num_tokens: int
    finish_reason: Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen: greedily at temperature 0, else from the most likely `top_p` of the probability."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


def batches_of(prompts: Sequence[Sequence[int]], batch_size: int) -> list[list[int]]:
    """Returns indices of prompts in batches of like length, longest first (what does not fit memory fails at once)."""
    order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


@torch.inference_mode()
def generate_batch(
    model: LoadedModel, prompts: Sequence[Sequence[int]], indices: Sequence[int], *, max_new_tokens: int
) -> list[Generated]:
    """Returns greedy answers to the chosen prompts, in the order of `indices`.

    Raises:
        DataError: a prompt and its answer do not fit the model's context.
    """
    rows = [list(prompts[i]) for i in indices]
    _check_fits(model, max(len(row) for row in rows), max_new_tokens)
    written: list[list[int]] = [[] for _ in rows]
    finished: dict[int, Literal["stop", "length"]] = {}
    active = list(range(len(rows)))
    state, logits_BV = _prefill(model, rows)
    for step in range(max_new_tokens):
        next_B = logits_BV.argmax(-1)
        tokens = next_B.tolist()
        keep = []
        for position, (row, token) in enumerate(zip(active, tokens, strict=True)):
            written[row].append(token)
            if token in model.stop_ids:
                finished[row] = "stop"
            elif step == max_new_tokens - 1:
                finished[row] = "length"
            else:
                keep.append(position)
        if not keep:
            break
        if len(keep) < len(active):
            index = torch.tensor(keep)
            state.select(index)
            next_B = next_B[index]
            active = [active[position] for position in keep]
        logits_BV = state.step(model, next_B[:, None])
    return [
        Generated(
            index=index,
            ids=[token for token in written[row] if token not in model.stop_ids],
            num_tokens=len(written[row]),
            finish_reason=finished[row],
        )
        for row, index in enumerate(indices)
    ]


@torch.inference_mode()
def stream(
    model: LoadedModel, prompt: Sequence[int], *, max_new_tokens: int, sampling: Sampling = Sampling()
) -> Iterator[int]:
    """Yields the tokens of one answer as they are chosen; stops at the end token. Closing the iterator stops the work.

    Raises:
        DataError: the prompt and its answer do not fit the model's context.
    """
    _check_fits(model, len(prompt), max_new_tokens)
    generator = torch.Generator().manual_seed(sampling.seed)
    state, logits_BV = _prefill(model, [list(prompt)])
    for _ in range(max_new_tokens):
        token = _choose(logits_BV[0], sampling, generator)
        if token in model.stop_ids:
            return
        yield token
        logits_BV = state.step(model, torch.tensor([[token]]))


class _State:
    """The cache of a batch, with what is padding in it.

    Attributes:
        seen_BS: 1 where a cached token is real, 0 where it is left padding.
        lengths_B1: real tokens of each row, which is the position of its next one.
    """

    def __init__(self, cache: DynamicCache, seen_BS: Tensor) -> None:
        self.cache = cache
        self.seen_BS = seen_BS
        self.lengths_B1 = seen_BS.sum(1, keepdim=True)

    def select(self, index: Tensor) -> None:
        """Keeps some rows of the batch."""
        self.cache.batch_select_indices(index)
        self.seen_BS, self.lengths_B1 = self.seen_BS[index], self.lengths_B1[index]

    def step(self, model: LoadedModel, ids_B1: Tensor) -> Tensor:
        """Returns the logits [B, V] after one more token a row."""
        self.seen_BS = torch.cat([self.seen_BS, torch.ones_like(ids_B1)], 1)
        logits_BV = _forward(model, ids_B1, self.seen_BS, self.lengths_B1, self.cache)
        self.lengths_B1 = self.lengths_B1 + 1
        return logits_BV


def _prefill(model: LoadedModel, rows: list[list[int]]) -> tuple[_State, Tensor]:
    """Returns the state after the prompts and the logits [B, V] of the first new token."""
    num_shared = _shared_prefix(rows)
    cache = DynamicCache()
    if num_shared:
        prefix_1P = torch.tensor([rows[0][:num_shared]])
        _forward(model, prefix_1P, torch.ones_like(prefix_1P), torch.arange(num_shared)[None], cache)
        cache.batch_repeat_interleave(len(rows))
    rest = [row[num_shared:] for row in rows]
    longest = max(len(row) for row in rest)
    pad = model.chat.end_of_turn_id  # any id will do: padding is told by the mask, never by the id
    ids_BL = torch.tensor([[pad] * (longest - len(row)) + row for row in rest])
    real_BL = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rest])
    seen_BS = torch.cat([torch.ones(len(rows), num_shared, dtype=torch.long), real_BL], 1)
    positions_BL = (num_shared + real_BL.cumsum(1) - 1).clamp(min=0)
    logits_BV = _forward(model, ids_BL, seen_BS, positions_BL, cache)
    return _State(cache, seen_BS), logits_BV


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


def _shared_prefix(rows: list[list[int]]) -> int:
    """Returns how many first tokens all rows share; at least one token of each row is left."""
    if len(rows) < 2:
        return 0
    limit = min(len(row) for row in rows) - 1
    count = 0
    while count < limit and all(row[count] == rows[0][count] for row in rows):
        count += 1
    return count if count >= MIN_SHARED_PREFIX_TOKENS else 0


def _choose(logits_V: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    if sampling.temperature <= 0:
        return int(logits_V.argmax())
    probabilities_V = torch.softmax(logits_V.float() / sampling.temperature, -1)
    sorted_V, order_V = probabilities_V.sort(descending=True, stable=True)
    outside = sorted_V.cumsum(0) - sorted_V >= sampling.top_p
    sorted_V = sorted_V.masked_fill(outside, 0)
    return int(order_V[torch.multinomial(sorted_V, 1, generator=generator)])


def _check_fits(model: LoadedModel, prompt_tokens: int, max_new_tokens: int) -> None:
    if prompt_tokens + max_new_tokens > model.context_length:
        raise DataError(
            f"A prompt of {prompt_tokens} tokens and an answer of up to {max_new_tokens} do not fit the model's context "
            f"of {model.context_length} tokens.",
            code="context_length_exceeded",
            param="messages",
            hint="Shorten the prompt or lower evaluate.max_new_tokens; nothing is ever cut.",
        )
