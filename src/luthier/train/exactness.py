"""Before the first step: does Luthier compute what transformers computes?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from luthier.errors import ModelError
from luthier.model.chat_template import EncodedExample
from luthier.model.loader import LoadedModel
from luthier.train.batch import flatten
from luthier.train.engine import Engine

CHECK_TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1}
"""How far our loss may be from transformers' own, relative, before training is refused. bfloat16 keeps eight bits."""


def check_against_transformers(model: LoadedModel, engine: Engine, rows: Sequence[EncodedExample]) -> float:
    """Compares our loss on two rows with that of transformers' own forward and attention, before the first step.

    What an architecture computes beside the plain decoder (scaled or capped logits, an attention of its own) would
    otherwise be left out in silence.

    Returns:
        The relative difference.

    Raises:
        ModelError: the two differ by more than the type's rounding.
    """
    shortest = sorted(rows, key=len)[:2]
    with torch.inference_mode():
        expected = sum(float(reference_loss(model, row, torch.from_numpy(row.ids[row.trained]))) for row in shortest)
    ours = -float(engine.logps(flatten(shortest)).sum())
    difference = abs(ours - expected) / max(abs(expected), 1e-6)
    if not difference <= CHECK_TOLERANCE[model.dtype]:
        raise ModelError(
            f"Luthier's loss on two rows is {ours:.6f}, transformers' own forward gives {expected:.6f}: this architecture "
            f"({type(model.network).__name__}) computes something that Luthier does not yet.",
            code="exactness_check_failed",
            param="model.base",
            hint="Nothing was trained. Choose another base model.",
        )
    return difference


def reference_loss(model: LoadedModel, row: EncodedExample, targets_N: Tensor) -> Tensor:
    """Returns the summed loss of a row by transformers' own forward and torch's cross-entropy.

    Args:
        model: the network, with its adapter.
        row: alone, without padding.
        targets_N: the tokens to be predicted at the trained positions.
    """
    ids_1T = torch.from_numpy(row.ids)[None].to(model.network.device)
    logits_TV = model.network(input_ids=ids_1T, use_cache=False).logits[0]
    trained_N = torch.from_numpy(row.trained).nonzero()[:, 0].to(logits_TV.device)
    return F.cross_entropy(logits_TV[trained_N - 1].float(), targets_N.to(logits_TV.device), reduction="sum")
