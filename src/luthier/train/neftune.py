"""NEFTune: noise on the embeddings of the training examples, which makes answers of small sets less literal
(arXiv 2310.05914).

Tensor legend: T tokens of a flat row, D width.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from luthier.train.batch import FlatBatch
from luthier.train.engine import Engine, Weigh


class NoisyEngine:
    """An engine that adds uniform noise of ± alpha / √(length · width) to the embeddings wherever it takes a gradient.

    The length is that of the token's example, of the longest one where several share the token. A shared token gets one
    noise for all of them; filling gets none. The noise is drawn from torch's generator, so the same seed draws the same
    in both engines.

    Args:
        engine: what computes.
        network: the network it computes, of transformers.
        alpha: the paper tries 5, 10 and 15.
    """

    def __init__(self, engine: Engine, network: Any, alpha: float) -> None:
        self.name: Literal["fused", "generic"] = engine.name
        self.reason = engine.reason
        self._engine = engine
        self._embedding = network.get_input_embeddings()
        self._alpha = alpha

    def logps(self, batch: FlatBatch) -> Tensor:
        """Returns the log-probability of each trained token [N], without noise."""
        return self._engine.logps(batch)

    def hidden(self, batch: FlatBatch) -> tuple[Tensor, Tensor]:
        """Returns the hidden states before the head at the positions that predict a trained token [N, D], and the head;
        without noise."""
        return self._engine.hidden(batch)

    def accumulate(self, batch: FlatBatch, weights: Tensor | Weigh) -> Tensor:
        """Adds the gradient of Σ weight · logp to the adapter's, and returns the log-probabilities [N], with noise."""
        lengths_T1 = longest(batch)[:, None]
        width = self._embedding.weight.shape[1]
        bound_T1 = torch.where(lengths_T1 > 0, self._alpha * (lengths_T1.clamp(min=1) * width).rsqrt(), 0)

        def add_noise(_module: Any, _inputs: Any, output: Tensor) -> Tensor:
            noise_TD = torch.empty(output.shape, device=output.device).uniform_(-1, 1) * bound_T1.to(output.device)
            noisy: Tensor = output + noise_TD.to(output.dtype)
            return noisy

        hook = self._embedding.register_forward_hook(add_noise)
        try:
            return self._engine.accumulate(batch, weights)
        finally:
            hook.remove()

    def refresh(self) -> None:
        """Takes over the adapter's present values."""
        self._engine.refresh()


def longest(batch: FlatBatch) -> Tensor:
    """Returns, for each token of the flat row, how long the longest of its examples is [T]; 0 for filling."""
    lengths_T = torch.zeros(len(batch.ids_T), device=batch.ids_T.device)
    ends = [segment.position + segment.length for segment in batch.segments]
    for number in reversed(range(len(batch.segments))):  # a parent stands before its children
        segment = batch.segments[number]
        lengths_T[segment.start : segment.start + segment.length] = ends[number]
        if segment.parent is not None:
            ends[segment.parent] = max(ends[segment.parent], ends[number])
    return lengths_T
