"""The six real clean sets: no error, and no warning that is not true."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from luthier.data.check import check_files
from luthier.data.overlap import group_examples

pytestmark = pytest.mark.unit

CLEAN_SETS = ("snips-json", "nba-sql-exec", "wikisql-sql", "banking77-intent", "tools-glaive", "general-instructions")
TRUE_WARNINGS = {("general-instructions", "train.jsonl"): [("unfilled-placeholder", 101)]}
"""Line 101 of general-instructions is a letter signed "[Your Name]"."""


@pytest.mark.parametrize("name", CLEAN_SETS)
def test_clean_sets_give_no_error_and_only_true_warnings(public_data: Path, name: str) -> None:
    files = sorted((public_data / name).glob("*.jsonl"))
    assert files
    for file in files:
        result = check_files([file])
        loud = [(finding.code, finding.line) for finding in result.findings if finding.severity != "info"]
        assert loud == TRUE_WARNINGS.get((name, file.name), [])
        assert result.rejected == []
        assert result.rows_read == len(result.examples) == len(file.read_bytes().splitlines())


@pytest.mark.parametrize("name", CLEAN_SETS)
def test_templated_rows_do_not_chain_into_giant_groups(public_data: Path, name: str) -> None:
    examples = [row for file in sorted((public_data / name).glob("*.jsonl")) for row in check_files([file]).examples]
    sizes = Counter(group_examples(examples).groups)
    assert max(sizes.values()) <= 20
    assert len(sizes) >= 0.75 * len(examples)
