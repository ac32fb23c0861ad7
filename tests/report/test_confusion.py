"""Labels taken for others."""

from __future__ import annotations

import pytest
from sample_reports import confusion

from luthier.report.confusion import NONE_OF_THEM, label_rows, matrix, most_confused
from luthier.report.schema import ConfusionTable

pytestmark = pytest.mark.unit

SMALL = ConfusionTable(labels=["no", "yes"], base=[[2, 3, 5], [0, 10, 0]], fine_tuned=[[9, 1, 0], [4, 6, 0]])


def test_the_pair_confused_most_comes_first_with_both_models_counts() -> None:
    found = [(pair.expected, pair.given, pair.rows, pair.base, pair.fine_tuned) for pair in most_confused(SMALL)]
    assert found == [("yes", "no", 10, 0, 4), ("no", "yes", 10, 3, 1), ("no", NONE_OF_THEM, 10, 5, 0)]


def test_labels_are_listed_worst_first_with_the_shares_that_are_right() -> None:
    found = [(row.label, row.rows, row.base, row.fine_tuned) for row in label_rows(SMALL)]
    assert found == [("yes", 10, 1.0, 0.6), ("no", 10, 0.2, 0.9)]


def test_a_label_that_nobody_was_asked_for_is_no_division_by_zero() -> None:
    table = ConfusionTable(labels=["a"], base=[[0, 0]], fine_tuned=[[0, 0]])
    assert most_confused(table) == []
    assert label_rows(table)[0].fine_tuned == 0
    assert matrix("x", table.labels, table.base).cells == []


def test_the_picture_has_a_square_for_each_count_and_none_overlap() -> None:
    table = confusion(77)
    drawn = matrix("fine-tuned", table.labels, table.fine_tuned)
    assert sum(cell.count for cell in drawn.cells) == sum(map(sum, table.fine_tuned))
    assert len({(cell.x, cell.y) for cell in drawn.cells}) == len(drawn.cells)
    assert max(cell.x for cell in drawn.cells) < drawn.width
    assert max(cell.y for cell in drawn.cells) < drawn.height
    assert all(0 < cell.shade <= 1 for cell in drawn.cells)
    assert len(drawn.columns) == len(drawn.rows) + 1
