"""The six real clean sets: no error, and no warning that is not true."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from luthier.data.check import check_files
from luthier.data.twins.overlap import group_examples

pytestmark = pytest.mark.unit

CLEAN_SETS = ("snips-json", "nba-sql-exec", "wikisql-sql", "banking77-intent", "tools-glaive", "general-instructions")
TRUE_WARNINGS = {
    ("general-instructions", "train.jsonl"): [("unfilled-placeholder", 101)],  # a letter signed "[Your Name]"
    ("tools-glaive", "valid.jsonl"): [("truncated-answer", 16)],  # its JSON lacks the last brace
    ("tools-glaive", "test.jsonl"): [("bad-tool-call", 25)],  # a number given as a string
    ("banking77-intent", "train.jsonl"): [("near-duplicate", 824)],  # "How can/do I close my account?", and ten such
    ("banking77-intent", "test.jsonl"): [("near-duplicate", 156)],  # "What's/What is the top up limit"
    ("snips-json", "train.jsonl"): [("near-duplicate", 798)],  # "Find (the) movie schedules for me", and two such
    ("wikisql-sql", "train.jsonl"): [("near-duplicate", 553)],  # "(of the match) with partner Jim Pugh"
}
"""Each seen to be true by eye."""


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
    sizes = Counter(group_examples(examples).groups.tolist())
    assert max(sizes.values()) <= 20
    assert len(sizes) >= 0.75 * len(examples)
