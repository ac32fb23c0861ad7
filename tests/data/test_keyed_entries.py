from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luthier.data.twins import keyed_entries
from luthier.data.twins.keyed_entries import Entries

pytestmark = pytest.mark.unit
KEYS = st.one_of(st.integers(0, 3), st.integers(2**64 - 3, 2**64 - 1), st.integers(0, 2**64 - 1))


@pytest.mark.parametrize("held", [1, 3, 1 << 18])
@given(keys=st.lists(KEYS, max_size=40))
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)
def test_entries_of_one_key_are_found_in_their_order(
    monkeypatch: pytest.MonkeyPatch, held: int, keys: list[int]
) -> None:
    monkeypatch.setattr(keyed_entries, "_MOST_HELD", held)
    expected: dict[int, list[int]] = defaultdict(list)
    with Entries() as entries:
        for row, key in enumerate(keys):
            entries.add(key, row, -row)
            expected[key].append(row)
        found = sorted(entries.runs())
    several = sorted(rows for rows in expected.values() if len(rows) > 1)
    assert found == [(rows, [-row for row in rows]) for rows in several]
