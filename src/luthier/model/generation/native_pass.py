"""A pass of the kernels over the next tokens of some texts, and the memory that it works in.

Tensor legend: T tokens of a pass, N tokens whose logits are wanted, D width, V vocabulary.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from luthier.model.generation.blocks import BLOCK_TOKENS
from luthier.model.generation.native_network import DEEP, NativeNetwork
from luthier.model.kernels.native import native

_POINTER, _INTEGER = ctypes.c_void_p, ctypes.c_int64
_COUNTS = (
    *("tokens", "segments", "copies", "kept", "threads", "table_stride", "span", "adapting", "most_ranks", "deepest"),
    *("most_queries", "scores_size"),
)
_GIVEN = (
    *("embedded", "start", "length", "first", "row", "table", "adapted", "copy", "keep"),
    *("best", "logits", "cache"),
)
_WORKED_IN = (
    *("x", "heads", "turn", "mask", "normed", "attended", "inner", "ranks", "halves", "scores", "best_of"),
    *("token_segment", "chunk"),
)
_ALONE = 2 * BLOCK_TOKENS
"""Tokens whose norms each thread makes for itself; the kernels' own number (decode.c)."""
_QUERIES_TOGETHER = 8
"""Query heads that an item of attention takes, at least one token's; the kernels' own number (decode_layers.h)."""


class Pass(ctypes.Structure):
    """`Pass` of decode.c."""

    _fields_ = (
        *((name, _INTEGER) for name in _COUNTS),
        *((name, _POINTER) for name in (*_GIVEN, *_WORKED_IN)),
        ("tiles", _INTEGER),
    )


@dataclass(frozen=True, slots=True)
class Segment:
    """The next tokens of one text.

    Attributes:
        ids: the tokens.
        first: the position of the first of them.
        blocks: of the cache, those of the whole text in order.
        adapted: whether the adapter takes part.
        predict: whether what comes behind the last of them is wanted.
    """

    ids: Sequence[int]
    first: int
    blocks: Sequence[int]
    adapted: bool
    predict: bool


@dataclass(frozen=True, slots=True)
class Copy:
    """The first tokens of a block that become those of another."""

    source: int
    target: int
    num_tokens: int


class Workshop:
    """Memory for passes of up to `most_pass_tokens` tokens of `most_segments` texts.

    Args:
        net: what is computed.
        num_blocks: of the cache.
        most_tokens: of a text.
        most_pass_tokens, most_segments: of a pass.
        logits: whether they are wanted, not only the likeliest token.
    """

    def __init__(
        self,
        net: NativeNetwork,
        *,
        num_blocks: int,
        most_tokens: int,
        most_pass_tokens: int,
        most_segments: int,
        logits: bool,
    ) -> None:
        self._net = net
        sizes = net.structure
        suffix = "bfloat16" if net.dtype == torch.bfloat16 else "float32"
        library = native("decode").library
        assert library is not None
        self._decode = getattr(library, f"decode_{suffix}")
        self._decode.restype = None
        threads = torch.get_num_threads()
        tiles, kept_tiles = _tiles(most_pass_tokens), _tiles(most_segments)
        tokens = tiles * BLOCK_TOKENS
        span = _tiles(most_tokens) * BLOCK_TOKENS
        queries = max(sizes.H // sizes.G, _QUERIES_TOGETHER)
        scores_size = queries * (span + _tiles(sizes.K) * BLOCK_TOKENS)
        self._logits_NV = torch.empty(most_segments, sizes.V) if logits else None
        self._best = np.zeros(most_segments, np.int32)
        # Taken in one piece and touched only where texts are: what no text needs is never made resident.
        self._cache = torch.empty(num_blocks * block_bytes(net), dtype=torch.uint8)
        widths = {"attended": sizes.H * sizes.K, "inner": sizes.F, "ranks": net.most_ranks}
        work = {
            "x": torch.empty(tokens, sizes.D),
            "heads": torch.empty(tokens * (sizes.H + 2 * sizes.G) * sizes.K + kept_tiles * BLOCK_TOKENS * sizes.D),
            "turn": torch.empty(tokens, 2 * sizes.turned),
            "mask": torch.empty(tokens),
            **{name: torch.zeros(tokens, -(-width // DEEP) * DEEP, dtype=net.dtype) for name, width in widths.items()},
            "normed": torch.zeros(max(tokens, threads * _ALONE), -(-sizes.D // DEEP) * DEEP, dtype=net.dtype),
            "halves": torch.zeros(threads, 2 * BLOCK_TOKENS * net.deepest, dtype=net.dtype),
            "scores": torch.empty(threads, scores_size),
            "best_of": torch.empty(threads, kept_tiles, 2 * BLOCK_TOKENS),
            "token_segment": torch.empty(tokens, dtype=torch.int32),
            "chunk": torch.empty(tokens, dtype=torch.int32),
        }
        self._work = work
        self._pass = Pass(
            threads=threads,
            span=span,
            most_ranks=net.most_ranks,
            deepest=net.deepest,
            most_queries=queries,
            scores_size=scores_size,
            best=self._best.ctypes.data,
            logits=None if self._logits_NV is None else self._logits_NV.data_ptr(),
            cache=self._cache.data_ptr(),
            **{name: tensor.data_ptr() for name, tensor in work.items()},
        )

    def run(self, segments: Sequence[Segment], copies: Sequence[Copy]) -> tuple[list[int], Tensor | None]:
        """Computes the tokens of some texts, and puts their keys and values into the cache.

        Args:
            segments: of different texts, in order: one may see what others before it have put into the cache.
            copies: made in each layer behind the keys and values of all tokens, in order.

        Returns:
            Of each segment that is to be predicted: the likeliest next token, and its logits where they are wanted [N, V],
            which last until the next call.
        """
        lengths = np.array([len(segment.ids) for segment in segments], np.int32)
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int32)
        firsts = np.array([segment.first for segment in segments], np.int32)
        width = max(len(segment.blocks) for segment in segments)
        table = np.zeros((len(segments), width), np.int32)
        for row, segment in zip(table, segments, strict=True):
            row[: len(segment.blocks)] = segment.blocks
        places = np.arange(len(segments), dtype=np.int32)
        adapted = np.repeat(np.array([segment.adapted for segment in segments], np.float32), lengths)
        predicted = [number for number, segment in enumerate(segments) if segment.predict]
        keep = (starts + lengths - 1)[predicted].astype(np.int32)
        copied = np.array([(copy.source, copy.target, copy.num_tokens) for copy in copies], np.int32)
        ids = torch.tensor([token for segment in segments for token in segment.ids])
        embedded = self._net.embed(ids)
        given = self._pass
        given.tokens, given.segments, given.copies, given.kept = len(ids), len(segments), len(copies), len(keep)
        given.table_stride, given.adapting = width, int(adapted.any())
        given.embedded = embedded.data_ptr()
        arrays: dict[str, NDArray[np.generic]] = {
            "start": starts,
            "length": lengths,
            "first": firsts,
            "row": places,
            "table": table,
            "adapted": adapted,
            "copy": copied,
            "keep": keep,
        }
        for name, array in arrays.items():
            setattr(given, name, array.ctypes.data)
        self._decode(ctypes.byref(self._net.structure), ctypes.byref(given))
        logits_NV = None if self._logits_NV is None else self._logits_NV[: len(keep)]
        return self._best[: len(keep)].tolist(), logits_NV


def block_bytes(net: NativeNetwork) -> int:
    """Returns the bytes of a block of the cache: keys and values of 16 tokens in all layers."""
    sizes = net.structure
    width = _tiles(sizes.K) * BLOCK_TOKENS
    return int(sizes.L * sizes.G * 2 * width * BLOCK_TOKENS * net.dtype.itemsize)


def _tiles(count: int) -> int:
    return -(-count // BLOCK_TOKENS)
