"""How likely texts are to a model, token by token, and how far two models differ on them.

Nothing of size tokens × vocabulary is ever held. Tensor legend: N trained positions, C positions of a chunk, D width,
V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from luthier.model.chat_template import EncodedExample
from luthier.model.lora import Adapter
from luthier.train.batch import flatten, parts_of_step
from luthier.train.engine import Engine

Floats = NDArray[np.float64]

CHUNK_POSITIONS = 64
"""Positions whose distributions over the vocabulary are held at once, of both models: 25 MB for 49,152 tokens."""


@dataclass(frozen=True, slots=True)
class Divergence:
    """What both models make of the trained tokens of one row.

    Attributes:
        base, fine_tuned: the log-probability of each token.
        divergence: at each token, the divergence KL(base ‖ fine-tuned) of what they expected, in nats.
    """

    base: Floats
    fine_tuned: Floats
    divergence: Floats


def row_logps(engine: Engine, rows: Sequence[EncodedExample], max_tokens: int) -> list[Floats]:
    """Returns the log-probabilities of each row's trained tokens.

    Args:
        engine: with the adapter on or off.
        rows: neighbours with one beginning are cheaper.
        max_tokens: computed at once.
    """
    found: list[Floats] = []
    for part in parts_of_step(rows, max_tokens, len):
        found += _by_row(engine.logps(flatten(part)), part)
    return found


def greedy_rows(engine: Engine, rows: Sequence[EncodedExample], max_tokens: int) -> list[bool]:
    """Returns of each row whether every trained token is the likeliest, so that the model would have written them."""
    found: list[bool] = []
    for part in parts_of_step(rows, max_tokens, len):
        batch = flatten(part)
        hidden_ND, head_VD = engine.hidden(batch)
        likeliest_N = torch.cat(
            [(chunk_CD @ head_VD.t()).argmax(-1) for chunk_CD in torch.split(hidden_ND, CHUNK_POSITIONS)]
        )
        hits_N = likeliest_N == batch.targets_N.to(likeliest_N.device)
        found += [bool(hits.all()) for hits in _by_row(hits_N, part)]
    return found


def divergences(
    engine: Engine, adapter: Adapter, rows: Sequence[EncodedExample], max_tokens: int
) -> Iterator[Divergence]:
    """Yields, for each row, what base and fine-tuned model make of its trained tokens.

    Args:
        engine: of the adapted model.
        adapter: turned off and on again.
        rows: texts.
        max_tokens: computed at once.
    """
    for part in parts_of_step(rows, max_tokens, len):
        batch = flatten(part)
        with adapter.disabled():
            base_ND, base_head_VD = engine.hidden(batch)
            base_ND = base_ND.clone()  # it lasts until the next call
        tuned_ND, tuned_head_VD = engine.hidden(batch)
        numbers = [
            _compare(base_CD, tuned_CD, targets_C, base_head_VD, tuned_head_VD)
            for base_CD, tuned_CD, targets_C in zip(
                torch.split(base_ND, CHUNK_POSITIONS),
                torch.split(tuned_ND, CHUNK_POSITIONS),
                torch.split(batch.targets_N.to(base_ND.device), CHUNK_POSITIONS),
                strict=True,
            )
        ]
        values = [_by_row(torch.cat(chunks), part) for chunks in zip(*numbers, strict=True)]
        for base, tuned, divergence in zip(*values, strict=True):
            yield Divergence(base, tuned, divergence)


def _compare(
    base_CD: Tensor, tuned_CD: Tensor, targets_C: Tensor, base_head_VD: Tensor, tuned_head_VD: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns both models' log-probabilities of the targets, and the divergence at each, all [C]."""
    base_CV = torch.log_softmax((base_CD @ base_head_VD.t()).float(), -1)
    tuned_CV = torch.log_softmax((tuned_CD @ tuned_head_VD.t()).float(), -1)
    targets_C1 = targets_C[:, None]
    base_C, tuned_C = base_CV.gather(1, targets_C1)[:, 0], tuned_CV.gather(1, targets_C1)[:, 0]
    divergence_C = (base_CV.exp() * (base_CV - tuned_CV)).sum(-1)
    return base_C, tuned_C, divergence_C.clamp(min=0)  # rounding can leave it just below


def _by_row(values_N: Tensor, rows: Sequence[EncodedExample]) -> list[Floats]:
    """Returns the values of each row, which stand one row after another."""
    ends = np.cumsum([row.num_trained for row in rows])[:-1]
    return np.split(values_N.double().cpu().numpy(), ends)
