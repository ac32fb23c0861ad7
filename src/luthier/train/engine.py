"""What computes a flat row: log-probabilities of its trained tokens, and their gradient in the adapter.

Two engines, one contract. `FusedEngine` computes the Llama family with a forward and backward pass of our own
(`luthier.model.decoder`); `GenericEngine` lets transformers compute any decoder whose attention can be replaced. Both see
the same flat rows, so both compute exactly what padded rows through PEFT and transformers would.

Tensor legend: T tokens of a flat row, N trained positions, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import torch
from torch import Tensor

from luthier.errors import ModelError
from luthier.model.decoder.arena import Arena
from luthier.model.decoder.decoder import Decoder, Hidden
from luthier.model.decoder.families import unsupported
from luthier.model.kernels.native import native
from luthier.model.loader import LoadedModel
from luthier.model.lora import Adapter
from luthier.train.attention import FlatAttention, flat_attention_in
from luthier.train.batch import ROW_MULTIPLE, FlatBatch
from luthier.train.loss import target_logps

Weigh = Callable[[Tensor], Tensor]
"""From log-probabilities [N] to their weights in the objective [N], float32."""


class Engine(Protocol):
    """Computes flat rows.

    Attributes:
        name: which one it is.
        reason: why, in a few words.
    """

    name: Literal["fused", "generic"]
    reason: str

    def logps(self, batch: FlatBatch) -> Tensor:
        """Returns the log-probability of each trained token [N], float32."""

    def hidden(self, batch: FlatBatch) -> tuple[Tensor, Tensor]:
        """Returns what the trained tokens are predicted from: the hidden states before the head [N, D], and the head [V, D].

        The hidden states last until the next call; the head is that of the model as it stands, base or adapted.
        """

    def accumulate(self, batch: FlatBatch, weights: Tensor | Weigh) -> Tensor:
        """Adds the gradient of Σ weight · logp to the adapter's, and returns the log-probabilities [N].

        Args:
            batch: the examples; it is brought to the model's device.
            weights: float32 [N], held constant; or a function of the log-probabilities that gives them (for an objective
                f, its derivative ∂f/∂logp), for which the head is computed twice. The mean loss of M trained tokens is
                weights of -1 / M.
        """

    def refresh(self) -> None:
        """Takes over the adapter's present values; to be called when they changed."""


def open_engine(
    model: LoadedModel,
    adapter: Adapter,
    *,
    kind: Literal["auto", "fused", "generic"] = "auto",
    max_tape_bytes: int | None = None,
) -> Engine:
    """Returns the fastest engine that computes this model with this adapter.

    Args:
        model: the frozen base with the adapter's layers in it.
        adapter: what is trained.
        kind: `fused` or `generic` where one of them is wanted.
        max_tape_bytes: what the fused engine may keep of a batch for its backward pass; see `Decoder`.

    Raises:
        ModelError: code "not_fused" where the fused engine is wanted and cannot compute it.
    """
    obstacle = unsupported(model.network) or _unfused(adapter)
    if kind == "generic" or (kind == "auto" and obstacle):
        return GenericEngine(model, adapter, obstacle or "as asked")
    if obstacle:
        raise ModelError(
            f"The fused engine cannot compute this training: {obstacle}.",
            code="not_fused",
            param="model.base",
            hint='Let the engine be chosen (kind="auto"): transformers computes it then.',
        )
    return FusedEngine(model, max_tape_bytes=max_tape_bytes)


def _unfused(adapter: Adapter) -> str | None:
    """Returns what of an adapter only autograd computes, or None."""
    if adapter.config is None or adapter.whole:
        return "whole weights are trained"
    if adapter.config.use_dora and adapter.config.lora_dropout:
        return "dropout with DoRA is not fused"
    return None


class FusedEngine:
    """Our own forward and backward pass."""

    def __init__(self, model: LoadedModel, *, max_tape_bytes: int | None) -> None:
        self.name: Literal["fused", "generic"] = "fused"
        self.reason = f"{type(model.network).__name__}, kernels {native().reason}"
        self._decoder = Decoder(model.network, max_tape_bytes=max_tape_bytes)
        self._head_VD = model.network.get_output_embeddings().weight.detach()
        self.refresh()

    def refresh(self) -> None:
        """Takes over the adapter's present values."""
        self._decoder.pack()

    def logps(self, batch: FlatBatch) -> Tensor:
        """Returns the log-probability of each trained token [N]."""
        batch = batch.to(self._decoder.device)
        return target_logps(self._forward(batch, for_backward=False).hidden_ND, self._head_VD, batch.targets_N)[0]

    def hidden(self, batch: FlatBatch) -> tuple[Tensor, Tensor]:
        """Returns the hidden states before the head at the positions that predict a trained token [N, D], and the head."""
        batch = batch.to(self._decoder.device)
        return self._forward(batch, for_backward=False).hidden_ND[: batch.num_trained], self._head_VD

    def accumulate(self, batch: FlatBatch, weights: Tensor | Weigh) -> Tensor:
        """Adds the gradient of Σ weight · logp to the adapter's, and returns the log-probabilities [N]."""
        batch = batch.to(self._decoder.device)
        hidden = self._forward(batch, for_backward=True)
        if not isinstance(weights, Tensor):
            weights = weights(target_logps(hidden.hidden_ND, self._head_VD, batch.targets_N)[0])
        weights = weights.to(self._decoder.device)
        logps_N, gradient_ND = target_logps(hidden.hidden_ND, self._head_VD, batch.targets_N, weights)
        assert gradient_ND is not None
        self._decoder.backward(hidden, gradient_ND)
        return logps_N

    def _forward(self, batch: FlatBatch, *, for_backward: bool) -> Hidden:
        """Computes the hidden states of the positions that predict a trained token, and of filling up to a multiple."""
        filling = batch.predict_N.new_zeros(-batch.num_trained % ROW_MULTIPLE)
        return self._decoder.forward(
            batch.ids_T,
            batch.positions_T,
            FlatAttention(batch, self._decoder.arena),
            keep_N=torch.cat([batch.predict_N, filling]),
            for_backward=for_backward,
        )


class GenericEngine:
    """transformers' own forward and autograd, with our layout, attention and loss."""

    def __init__(self, model: LoadedModel, adapter: Adapter, reason: str) -> None:
        self.name: Literal["fused", "generic"] = "generic"
        self.reason = reason
        self._network = model.network
        self._adapter = adapter

    def refresh(self) -> None:
        """Takes over the adapter's present values; layers beside frozen weights read their own."""
        self._adapter.refresh()

    @torch.no_grad()
    def logps(self, batch: FlatBatch) -> Tensor:
        """Returns the log-probability of each trained token [N]."""
        batch = batch.to(self._head().device)
        return target_logps(self._hidden(batch), self._head(), batch.targets_N)[0]

    @torch.no_grad()
    def hidden(self, batch: FlatBatch) -> tuple[Tensor, Tensor]:
        """Returns the hidden states before the head at the positions that predict a trained token [N, D], and the head."""
        return self._hidden(batch.to(self._head().device)), self._head().detach()

    def accumulate(self, batch: FlatBatch, weights: Tensor | Weigh) -> Tensor:
        """Adds the gradient of Σ weight · logp to the adapter's, and returns the log-probabilities [N]."""
        batch = batch.to(self._head().device)
        hidden_ND = self._hidden(batch)
        if not isinstance(weights, Tensor):
            weights = weights(target_logps(hidden_ND.detach(), self._head().detach(), batch.targets_N)[0])
        weights = weights.to(hidden_ND.device)
        logps_N, gradient_ND = target_logps(
            hidden_ND.detach(),
            self._head().detach(),
            batch.targets_N,
            weights,
            head_gradient_VD=self._adapter.gradient_of(self._head()),
        )
        hidden_ND.backward(gradient_ND)  # type: ignore[no-untyped-call]
        return logps_N

    def _head(self) -> Tensor:
        head: Tensor = self._network.get_output_embeddings().weight
        return head

    def _hidden(self, batch: FlatBatch) -> Tensor:
        """Returns the hidden states before the head at the positions that predict a trained token [N, D]."""
        with flat_attention_in(self._network):
            output = self._network.base_model(
                input_ids=batch.ids_T[None],
                position_ids=batch.positions_T[None],
                use_cache=False,
                flat=FlatAttention(batch, Arena(batch.ids_T.device)),
            )
        hidden_ND: Tensor = output.last_hidden_state[0].index_select(0, batch.predict_N)
        return hidden_ND
