"""The decoder: forward and backward pass of a Llama-like network, written out.

What a layer does: `x + attention(norm(x))`, then `x + mlp(norm(x))`. The residual stream x is float32, products are in the
type of the weights. Everything a batch needs is cut from one arena. Only adapters have gradients, and none is computed
below the first of them. Tensor legend: T tokens of the flat row, N positions kept, D width, H query heads, G key heads, K
head width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from luthier.model.allocator import give_back_freed_memory
from luthier.model.decoder import families
from luthier.model.decoder.arena import Arena
from luthier.model.kernels import operations
from luthier.model.kernels.ranks import Outers


class Attention(Protocol):
    """Decides which tokens see each other, and computes it."""

    def forward(
        self, q_THK: Tensor, k_TGK: Tensor, v_TGK: Tensor, out_THK: Tensor, *, scaling: float, window: int | None
    ) -> None:
        """Writes the attended values."""

    def backward(
        self,
        gradient_THK: Tensor,
        q_THK: Tensor,
        k_TGK: Tensor,
        v_TGK: Tensor,
        out: tuple[Tensor, Tensor, Tensor],
        *,
        scaling: float,
        window: int | None,
    ) -> None:
        """Writes the gradients of queries, keys and values to `out`."""


@dataclass(slots=True)
class _Tape:
    """What the backward pass of one layer needs: `x` before its two norms, and the inputs of its products, which have room
    for the adapters' ranks behind them (`FusedLinear`); `unscaled` is DoRA's."""

    x: Tensor
    rstd: Tensor
    h: Tensor
    qkv_raw: Tensor | None
    head_rstd: tuple[Tensor, Tensor] | None
    qkv: Tensor
    attended: Tensor
    x_mlp: Tensor
    rstd_mlp: Tensor
    h_mlp: Tensor
    gate_up: Tensor
    activated: Tensor
    unscaled: list[Tensor | None]


@dataclass(slots=True)
class Hidden:
    """What the decoder knows of a batch.

    Attributes:
        hidden_ND: the normed hidden states at the positions kept, in the type of the products.
    """

    hidden_ND: Tensor
    x_ND: Tensor
    rstd_N: Tensor
    rotation: tuple[Tensor, Tensor]
    keep_N: Tensor | None
    attention: Attention
    tapes: list[_Tape | Tensor | None]


class Decoder:
    """Computes hidden states and the gradients of adapters.

    Args:
        network: a network of transformers, adapted or not, that `families.unsupported` has nothing against.
        max_tape_bytes: what the backward pass needs of a batch is kept up to this size. Of larger batches only each
            layer's input is kept, and the rest is computed again: a third more work, the same bits. None keeps all.
    """

    def __init__(self, network: Any, *, max_tape_bytes: int | None = None) -> None:
        self._embed = network.get_input_embeddings()
        self._rotary = network.base_model.rotary_emb
        self._activation = families.activation_of(network)
        self.dtype: torch.dtype = self._embed.weight.dtype
        self.device: torch.device = self._embed.weight.device
        self._max_tape_bytes = max_tape_bytes
        self.arena = Arena(self.device)
        self._layers = families.layers_of(network, self.dtype)
        give_back_freed_memory()  # where the weights lay before
        self._norm_D = families.norm_weight(network, network.base_model.norm)
        self._epsilon = float(network.config.rms_norm_eps)
        self._last = self._layers[-1]
        adapted = [number for number, layer in enumerate(self._layers) if layer.adapted]
        self._first = adapted[0] if adapted else len(self._layers)
        self.tape_bytes_a_token = sum(
            layer.tape_bytes_a_token(len(self._norm_D), self.dtype.itemsize) for layer in self._layers[self._first :]
        )

    def pack(self) -> None:
        """Takes over the adapters' present values; to be called when they changed."""
        for layer in self._layers[self._first :]:
            for linear in layer.linears:
                linear.pack()

    @torch.no_grad()
    def forward(
        self,
        ids_T: Tensor,
        positions_T: Tensor,
        attention: Attention,
        *,
        keep_N: Tensor | None = None,
        for_backward: bool = False,
    ) -> Hidden:
        """Returns the hidden states of a flat row.

        Args:
            ids_T, positions_T: tokens, and where each stands in its own text.
            attention: which of them see each other.
            keep_N: positions of the row that are wanted, some perhaps several times; None for all.
            for_backward: keep what `backward` needs. What is returned lasts until the next call.
        """
        self.arena.reset()
        tape_bytes = len(ids_T) * self.tape_bytes_a_token
        recompute = self._max_tape_bytes is not None and tape_bytes > self._max_tape_bytes
        for layer in self._layers[self._first :]:
            for linear in layer.linears:
                linear.draw()
        x_TD = self._embed(ids_T).float()
        cosine, sine = self._rotary(x_TD[None, :1], position_ids=positions_T[None])
        half = cosine.shape[-1] // 2
        rotation = (cosine[0, :, :half].contiguous(), sine[0, :, :half].contiguous())
        tapes: list[_Tape | Tensor | None] = []
        y_TD: Tensor | None = None
        # Where a layer leaves no tape, all it took is given back but the stream, and the last product to be added to it.
        spare_TD, stream_TD = self._take(*x_TD.shape), self._take(*x_TD.shape)
        product_TD = self._take(*x_TD.shape, dtype=self.dtype)
        for number, layer in enumerate(self._layers):
            keep = keep_N if number == len(self._layers) - 1 else None
            kept = for_backward and number >= self._first
            x_in_TD = self._take(*x_TD.shape) if kept else spare_TD
            mark = self.arena.mark()
            tape = self._layer(layer, x_TD, y_TD, x_in_TD, rotation, attention, keep)
            x_TD = tape.x_mlp
            y_TD = self._take(*x_TD.shape, dtype=self.dtype)
            tape.unscaled[3] = layer.down.forward(tape.activated, y_TD, self.arena)
            if kept and not recompute:
                tapes.append(tape)
                continue
            x_TD, y_TD = stream_TD[: len(x_TD)].copy_(x_TD), product_TD[: len(y_TD)].copy_(y_TD)
            self.arena.release(mark)
            tapes.append(x_in_TD if kept else None)
        x_ND = self._take(*x_TD.shape)
        hidden_ND, rstd_N = self._take(*x_TD.shape, dtype=self.dtype), self._take(len(x_TD))
        operations.add_norm(x_TD, y_TD, x_ND, self._norm_D, hidden_ND, rstd_N, self._epsilon)
        return Hidden(hidden_ND, x_ND, rstd_N, rotation, keep_N, attention, tapes)

    @torch.no_grad()
    def backward(self, hidden: Hidden, gradient_ND: Tensor) -> None:
        """Adds to the adapters' gradients, given that of the hidden states. It can be done once."""
        gx_ND = self._take(*gradient_ND.shape).zero_()
        gy = self._last.down.take_outputs(len(gradient_ND), self.arena)
        operations.norm_backward(
            gx_ND, gradient_ND, hidden.x_ND, hidden.rstd_N, self._norm_D, gy[:, : len(self._norm_D)]
        )
        for number in reversed(range(self._first, len(self._layers))):
            layer, tape = self._layers[number], hidden.tapes[number]
            keep = hidden.keep_N if layer is self._last else None
            gx_TD = gx_ND if keep is None else self._take(len(hidden.rotation[0]), gx_ND.shape[1])
            below = self._layers[number - 1].down.take_outputs(len(gx_TD), self.arena) if number > self._first else None
            mark = self.arena.mark()
            if isinstance(tape, Tensor):
                tape = self._layer(layer, tape, None, tape, hidden.rotation, hidden.attention, keep)
                tape.unscaled[3] = layer.down.project(tape.activated, self.arena)
            assert tape is not None
            self._layer_backward(layer, tape, hidden, gx_ND, gy, gx_TD, below, keep)
            self.arena.release(mark)
            if below is not None:
                gx_ND, gy = gx_TD, below

    def _layer(
        self,
        layer: families.Layer,
        x_TD: Tensor,
        y_TD: Tensor | None,
        x_in_TD: Tensor,
        rotation: tuple[Tensor, Tensor],
        attention: Attention,
        keep_N: Tensor | None,
    ) -> _Tape:
        """Computes a layer up to the last product, of which it leaves the input."""
        T, D = x_TD.shape
        H, G, K = layer.num_heads, layer.num_groups, layer.head_width
        h, rstd_T = layer.qkv.take_inputs(T, self.arena), self._take(T)
        operations.add_norm(x_TD, y_TD, x_in_TD, layer.attention_norm_D, h[:, :D], rstd_T, self._epsilon)
        qkv = self._take(T, layer.qkv.num_outputs, dtype=self.dtype)
        qkv_unscaled = layer.qkv.forward(h, qkv, self.arena)
        heads = qkv.view(T, H + 2 * G, K)
        raw, head_rstd = None, None
        if layer.query_norm_K is not None and layer.key_norm_K is not None:
            raw = self._take(*qkv.shape, dtype=self.dtype).copy_(qkv)
            head_rstd = self._take(T, H), self._take(T, G)
            operations.head_norm(heads[:, :H], layer.query_norm_K, head_rstd[0], self._epsilon)
            operations.head_norm(heads[:, H : H + G], layer.key_norm_K, head_rstd[1], self._epsilon)
        operations.rotate(heads[:, : H + G], *rotation)
        attended = layer.out.take_inputs(T, self.arena)
        attention.forward(
            heads[:, :H],
            heads[:, H : H + G],
            heads[:, H + G :],
            attended[:, : H * K].view(T, H, K),
            scaling=layer.scaling,
            window=layer.window,
        )
        x_kept = x_in_TD
        if keep_N is not None:
            attended_ND = attended[:, : H * K].index_select(0, keep_N)
            attended = layer.out.take_inputs(len(keep_N), self.arena)
            attended[:, : H * K] = attended_ND
            x_kept = torch.index_select(x_in_TD, 0, keep_N, out=self._take(len(keep_N), D))
        N = len(attended)
        out = self._take(N, D, dtype=self.dtype)
        out_unscaled = layer.out.forward(attended, out, self.arena)
        x_mlp, h_mlp, rstd_mlp = self._take(N, D), layer.gate_up.take_inputs(N, self.arena), self._take(N)
        operations.add_norm(x_kept, out, x_mlp, layer.mlp_norm_D, h_mlp[:, :D], rstd_mlp, self._epsilon)
        # Its gradient takes its place, so it has the room that a gradient needs.
        gate_up = layer.gate_up.take_outputs(N, self.arena)
        gate_up_unscaled = layer.gate_up.forward(h_mlp, gate_up, self.arena)
        activated, inner = layer.down.take_inputs(N, self.arena), layer.down.num_inputs
        operations.gated(gate_up[:, : 2 * inner], activated[:, :inner], self._activation)
        return _Tape(
            x=x_in_TD,
            rstd=rstd_T,
            h=h,
            qkv_raw=raw,
            head_rstd=head_rstd,
            qkv=qkv,
            attended=attended,
            x_mlp=x_mlp,
            rstd_mlp=rstd_mlp,
            h_mlp=h_mlp,
            gate_up=gate_up,
            activated=activated,
            unscaled=[qkv_unscaled, out_unscaled, gate_up_unscaled, None],
        )

    def _layer_backward(
        self,
        layer: families.Layer,
        tape: _Tape,
        hidden: Hidden,
        gx_ND: Tensor,
        gy: Tensor,
        gx_TD: Tensor,
        below: Tensor | None,
        keep_N: Tensor | None,
    ) -> None:
        """Takes the gradient of the stream behind a layer to its input.

        It comes and goes twice: in float32 (`gx_ND`, `gx_TD`: the same but in the last layer), and in the type of products
        with room for the ranks of the last product of this layer (`gy`) and of the layer below, if there is one.
        """
        arena, outers = self.arena, Outers()
        T, D = tape.x.shape
        H, G, K = layer.num_heads, layer.num_groups, layer.head_width
        g_activated = layer.down.backward(gy, tape.activated, tape.unscaled[3], outers, arena)
        assert g_activated is not None
        operations.gated_backward(tape.gate_up[:, : 2 * layer.down.num_inputs], g_activated, self._activation)
        g_h_mlp = layer.gate_up.backward(tape.gate_up, tape.h_mlp, tape.unscaled[2], outers, arena)
        assert g_h_mlp is not None
        g_out = layer.out.take_outputs(len(gy), arena)
        operations.norm_backward(gx_ND, g_h_mlp, tape.x_mlp, tape.rstd_mlp, layer.mlp_norm_D, g_out[:, :D])
        g_attended = layer.out.backward(g_out, tape.attended, tape.unscaled[1], outers, arena)
        assert g_attended is not None
        if keep_N is not None:
            gx_TD.zero_().index_add_(0, keep_N, gx_ND)
            whole = self._take(T, H * K, dtype=self.dtype).zero_()
            g_attended = whole.index_add_(0, keep_N, g_attended)
        heads = tape.qkv.view(T, H + 2 * G, K)
        g_qkv = layer.qkv.take_outputs(T, arena)
        g_heads = g_qkv[:, : layer.qkv.num_outputs].view(T, H + 2 * G, K)
        hidden.attention.backward(
            g_attended.view(T, H, K),
            heads[:, :H],
            heads[:, H : H + G],
            heads[:, H + G :],
            (g_heads[:, :H], g_heads[:, H : H + G], g_heads[:, H + G :]),
            scaling=layer.scaling,
            window=layer.window,
        )
        operations.rotate(g_heads[:, : H + G], *hidden.rotation, back=True)
        if tape.qkv_raw is not None and tape.head_rstd is not None:
            assert layer.query_norm_K is not None
            assert layer.key_norm_K is not None
            raw = tape.qkv_raw.view(T, H + 2 * G, K)
            operations.head_norm_backward(g_heads[:, :H], raw[:, :H], layer.query_norm_K, tape.head_rstd[0])
            operations.head_norm_backward(g_heads[:, H : H + G], raw[:, H : H + G], layer.key_norm_K, tape.head_rstd[1])
        g_h = layer.qkv.backward(g_qkv, tape.h, tape.unscaled[0], outers, arena, needs_input=below is not None)
        if g_h is not None and below is not None:
            operations.norm_backward(gx_TD, g_h, tape.x, tape.rstd, layer.attention_norm_D, below[:, :D])
        outers.add()

    def _take(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return self.arena.take(*shape, dtype=dtype)
