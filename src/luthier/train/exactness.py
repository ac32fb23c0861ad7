"""Before the first step: does Luthier compute what transformers computes?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

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
        expected = 0.0
        for row in shortest:
            ids = torch.from_numpy(row.ids)
            logits_TV = model.network(input_ids=ids[None], use_cache=False).logits[0].float()
            trained = torch.from_numpy(row.trained).nonzero()[:, 0]
            expected += float(F.cross_entropy(logits_TV[trained - 1], ids[trained], reduction="sum"))
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
