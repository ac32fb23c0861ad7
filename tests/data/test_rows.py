from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.data.rows import Column, Digests, FiledColumn, digest

pytestmark = pytest.mark.unit


@given(st.lists(st.lists(st.integers(-5, 5), max_size=5), max_size=5))
def test_a_column_in_pieces_is_the_column(pieces: list[list[int]]) -> None:
    whole, merged = Column("i4"), Column("i4")
    for piece in pieces:
        part = Column("i4")
        for number in piece:
            whole.add(number)
            part.add(number)
        merged.merge(part)
    flat = [number for piece in pieces for number in piece]
    assert whole.values().tolist() == merged.values().tolist() == flat
    assert whole.values().dtype == np.dtype("i4")


@given(st.lists(st.integers(0, 6), max_size=30))
def test_digests_group_equal_values_under_the_first(values: list[int]) -> None:
    digests = Digests()
    for value in values:
        digests.add(digest(value))
    assert digests.groups().tolist() == [values.index(value) for value in values]


def test_an_empty_column_has_its_width() -> None:
    assert Column("u2", 128).values().shape == (0, 128)
    assert Digests().groups().tolist() == []


def test_the_order_of_keys_does_not_count() -> None:
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1}) != digest({"a": 1, "b": 2})


def test_a_column_of_wide_numbers_goes_to_a_file_and_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luthier.data.rows._HELD_BYTES", 100)
    whole = FiledColumn("u2", 4)
    blocks = [np.arange(start, start + 40, dtype="u2").reshape(-1, 4) for start in range(0, 400, 40)]
    for block in blocks:
        part = FiledColumn("u2", 4)
        part.extend(block)
        whole.merge(part)
    assert whole.is_filed
    values = whole.values()
    assert isinstance(values, np.memmap)
    assert values.tolist() == whole.values().tolist() == np.concatenate(blocks).tolist()
    file = Path(str(values.filename))
    assert file.exists()
    del whole
    assert not file.exists()
    assert values.tolist() == np.concatenate(blocks).tolist()
    few = FiledColumn("u2", 4)
    few.merge(part)
    assert (few.is_filed, few.values().tolist()) == (False, blocks[-1].tolist())
