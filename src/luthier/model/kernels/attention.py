"""The compiled attention over short texts: pieces of queries, each with the keys that it sees.

Tensor legend: T tokens, P pieces, N keys of all pieces one after another, H query heads, G key heads, K head width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from luthier.model.decoder.arena import Arena
from luthier.model.kernels.operations import call

_COLUMNS = 32
"""What the kernel fills rows up to, and an upper bound of what it fills columns up to; `COLUMNS` in kernels.c."""


@dataclass(frozen=True, slots=True)
class Pieces:
    """Runs of neighbouring queries, and the keys that each run sees; tables are int64.

    Attributes:
        start_P, length_P: where each piece's queries lie among the tokens.
        offset: [P + 1], where each piece's keys begin in `keys_N`. Its own queries are the last of them, and each sees the
            keys before it and itself.
        keys_N: places among the tokens.
        parts_of: [T + 1], where each token's uses as a key begin in `seen_at_N`.
        seen_at_N: places in `keys_N`, by token.
        most_queries, most_keys: of a piece.
    """

    start_P: Tensor
    length_P: Tensor
    offset: Tensor
    keys_N: Tensor
    parts_of: Tensor
    seen_at_N: Tensor
    most_queries: int
    most_keys: int


def attend(
    q_THK: Tensor,
    k_TGK: Tensor,
    v_TGK: Tensor,
    out_THK: Tensor,
    pieces: Pieces,
    arena: Arena,
    *,
    scaling: float,
    window: int | None,
) -> None:
    """Writes what each query of each piece attends to. All tensors may be parts of wider rows."""
    (H, K), G = q_THK.shape[1:], k_TGK.shape[1]
    mark = arena.mark()
    size = _scratch_size(pieces, K, of_keys=2, of_queries=1, of_both=1)
    scratch = arena.take(torch.get_num_threads() * size, dtype=torch.float32)
    tables = (pieces.start_P, pieces.length_P, pieces.offset, pieces.keys_N)
    sizes = (size, len(pieces.start_P), H, G, K)
    strides = (x.stride(0) for x in (q_THK, k_TGK, v_TGK, out_THK))
    call("attend", q_THK, q_THK, k_TGK, v_TGK, out_THK, *tables, scratch, *sizes, *strides, scaling, window or 0)
    arena.release(mark)


def attend_backward(
    gradient_THK: Tensor,
    tokens: tuple[Tensor, Tensor, Tensor],
    out: tuple[Tensor, Tensor, Tensor],
    pieces: Pieces,
    arena: Arena,
    *,
    scaling: float,
    window: int | None,
) -> None:
    """Writes the gradients of the queries of all pieces, and of all keys and values.

    Args:
        gradient_THK: of what `attend` wrote.
        tokens: the queries, keys and values that it was given.
        out: their gradients. Queries of no piece are left as they are; keys that nobody sees get zeros.
        pieces: as before.
        arena: for what is needed on the way.
        scaling: as before.
        window: as before.
    """
    (T, H, K), G = tokens[0].shape, tokens[1].shape[1]
    mark = arena.mark()
    size = _scratch_size(pieces, K, of_keys=5, of_queries=2, of_both=2)
    scratch = arena.take(torch.get_num_threads() * size, dtype=torch.float32)
    parts = arena.take(len(pieces.keys_N) * G * 2 * K, dtype=torch.float32)
    tables = (pieces.start_P, pieces.length_P, pieces.offset, pieces.keys_N, pieces.parts_of, pieces.seen_at_N)
    sizes = (size, T, len(pieces.start_P), H, G, K)
    strides = (x.stride(0) for x in (gradient_THK, *tokens, *out))
    arrays = (gradient_THK, *tokens, *out, *tables, parts, scratch)
    call("attend_backward", gradient_THK, *arrays, *sizes, *strides, scaling, window or 0)
    arena.release(mark)


def _scratch_size(pieces: Pieces, head_width: int, *, of_keys: int, of_queries: int, of_both: int) -> int:
    """Returns how many numbers a thread needs: so many arrays of keys, of queries, and of scores."""
    width, queries, keys = (
        -(-count // _COLUMNS) * _COLUMNS for count in (head_width, pieces.most_queries, pieces.most_keys)
    )
    return of_keys * keys * width + of_queries * queries * width + of_both * queries * keys
