"""The real messy files. The counts come from `expected.json`, measured by a script that is not ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from luthier.data.chat import Example
from luthier.data.check import CheckResult, check_files
from luthier.data.reading.files import RawRow, read_rows
from luthier.data.shapes.formats import recognise
from luthier.data.twins.overlap import find_overlap

pytestmark = pytest.mark.unit


class Says(NamedTuple):
    """What the check must say of a file.

    Attributes:
        code, severity: of the finding.
        count: rows, or the name of the measured defect that counts them.
        line: where it begins, or None where the measurement does not tell.
        words: what its message must hold.
    """

    code: str
    severity: str
    count: int | str | None = None
    line: int | None = None
    words: str = ""


FEW = Says("too-few-examples", "error", words="must have at least 10 examples")
ROWS = "rows_recoverable"
EXPECTED: dict[str, list[Says]] = {
    "01_python_source_saved_as_jsonl": [Says("not-jsonl", "error", line=1, words="Python source")],
    "02_pretty_printed_objects_role_model": [
        Says("not-jsonl", "warning", ROWS, 1, "several lines"),
        Says("unknown-role", "error", "invalid_role", 1, '"model" (write "assistant")'),
    ],
    "03_single_pretty_printed_object": [Says("not-jsonl", "warning", ROWS, 1), FEW],
    "04_note_line_then_pretty_printed": [Says("not-json", "error", 1, 1), Says("not-jsonl", "warning", ROWS, 2), FEW],
    "05_python_repr_single_quotes": [
        Says("not-jsonl", "error", ROWS, 1, "Python literal"),
        Says("conflicting-answers", "warning", words="{inputs_with_several_targets} prompts"),
    ],
    "06_git_merge_conflict_markers": [
        Says("merge-conflict", "error", 3, 1, "line 1: <<<<<<< HEAD; line 54: =======; line 58: >>>>>>>"),
        Says("no-assistant", "error", "no_assistant", 53),
        Says("outer-whitespace", "warning", "assistant_outer_whitespace"),
        Says("system-prompt-differs", "warning", "system_missing_on_rows"),
        Says("conflicting-answers", "warning", words="{inputs_with_several_targets} prompts"),
    ],
    "07_utf8_bom_dpo": [
        Says("encoding", "warning", 1, 1, "byte-order mark"),
    ],
    "08_json_array_not_jsonl": [
        Says("not-jsonl", "warning", ROWS, 2, "JSON array"),
    ],
    "09_empty_system_and_leading_space": [
        Says("empty-content", "warning", "empty_content:system", 1),
        Says("outer-whitespace", "warning", "assistant_outer_whitespace", 1),
    ],
    "10_system_only_rows": [
        Says("no-assistant", "error", "no_assistant", 1),
        Says("no-user", "warning", "no_user", 1),
        Says("duplicate", "warning", "exact_duplicate_rows"),
        FEW,
    ],
    "11_unescaped_quotes_and_pasted_chatgpt_text": [
        Says("not-json", "error", "lines_parse_bad", 5, "line 5, column 297"),
        Says("blank-line", "info", "blank_lines"),
    ],
    "12_legacy_prompt_completion_crlf": [
        Says("uniform-affix", "warning", ROWS, words="begin with “Answer:”"),
    ],
    "13_legacy_prepared_stop_token": [
        Says("truncated-answer", "warning"),
        Says("stop-token-leftover", "warning", ROWS, words="END"),
        Says("uniform-affix", "warning", ROWS, words="end with “END”"),
    ],
    "14_uniform_suffix_artifact": [
        Says("outer-whitespace", "warning", "assistant_outer_whitespace", 1),
        Says("uniform-affix", "warning", ROWS, words="end with “!!!”"),
    ],
    "15a_many_answers_per_prompt_train": [
        Says("duplicate", "warning", "exact_duplicate_rows"),
        Says("conflicting-answers", "warning", words="{inputs_with_several_targets} prompts"),
    ],
    "15b_leaky_valid": [
        Says("duplicate", "warning", "exact_duplicate_rows"),
        Says("conflicting-answers", "warning", words="{inputs_with_several_targets} prompts"),
    ],
    "16_conflicting_labels_and_missing_system": [
        Says("duplicate", "warning", "exact_duplicate_rows"),
        Says("conflicting-answers", "warning", words="{inputs_with_several_targets} prompts"),
        Says("system-prompt-differs", "warning", "system_missing_on_rows", 2),
    ],
    "17_openai_toy_chat": [
        FEW,
        Says("no-user", "warning", "no_user", 4),
        Says("assistant-first", "warning", "assistant_first", 4),
        Says("repetition", "warning", 1),
        Says("system-prompt-differs", "warning", "system_missing_on_rows"),
    ],
    "18_empty_completions": [
        Says("pii", "warning"),
        Says("empty-content", "error", "empty_completion", 35),
    ],
    "19_template_placeholder_targets": [
        Says("uniform-affix", "warning", ROWS, words="A description for"),
    ],
    "20_content_parts_foreign_keys": [
        Says("content-parts", "error", ROWS, 1, '"value"'),
        Says("unknown-key", "warning", ROWS, 1, '"loss_weight"'),
    ],
    "21_capitalised_columns": [Says("unknown-format", "error", ROWS, 1, "System, User, Assistant")],
    "22_cohere_roles": [Says("unknown-role", "error", "invalid_role", 1, '"Chatbot" (write "assistant")'), FEW],
    "23_two_system_messages": [
        Says("several-system", "warning", "several_system", 1),
        Says("content-parts", "error", "content_is_list", 1),
    ],
    "24_assistant_first_non_alternating": [
        Says("assistant-first", "warning", "assistant_first", 1),
        Says("same-role-twice", "warning", "same_role_twice", 1),
    ],
    "25_mojibake": [Says("mojibake", "warning", "replacement_char", 2), FEW],
    "26_comments_and_multiline_korean": [
        Says("comment-line", "warning", 2, 1),
        Says("not-jsonl", "warning", ROWS, 2, "several lines"),
        Says("blank-line", "info", "blank_lines"),
        Says("conflicting-answers", "warning", words="{inputs_with_several_targets} prompt"),
        FEW,
    ],
    "27_label_key_instead_of_assistant": [
        Says("missing-content", "error", "content_missing", 1),
        Says("unknown-key", "error", "unknown_message_key:is-malicious", 1, '"is-malicious"'),
    ],
    "28_commented_json": [Says("truncated-row", "error", 1, 1, 'no "messages"')],
    "29_negative_token_weights": [
        Says("content-parts", "error", ROWS, 1, '"weight"'),
        Says("duplicate", "warning", "exact_duplicate_rows"),
    ],
    "30_flat_question_sql_dups": [
        Says("unknown-format", "error", 119, 1, "question, sql"),  # which --convert can tell
        Says("unknown-format", "error", 40, words="--map"),
        Says("mixed-formats", "warning", 40, words="119 rows"),
        Says("duplicate", "warning", "exact_duplicate_rows"),
        Says("conflicting-answers", "warning", words="{inputs_with_several_targets} prompts"),
    ],
    "31_separator_leftovers_system_typo": [
        Says("outer-whitespace", "warning", "assistant_outer_whitespace", 1),
        Says("system-prompt-differs", "warning", 3, words="nearly the same"),
        Says("stop-token-leftover", "warning", ROWS, words="###"),
    ],
    "32_zero_bytes": [Says("empty-file", "error", line=1)],
    "33_clean_control_marv": [],
    "34_clean_control_miniscript": [],
}


def checked(folder: Path, name: str) -> CheckResult:
    return check_files([folder / f"{name}.jsonl"])


def test_every_messy_file_has_an_expectation(measured: dict[str, Any]) -> None:
    assert {Path(file).stem for file in measured} == EXPECTED.keys()


@pytest.mark.parametrize("name", EXPECTED)
def test_the_check_says_what_is_wrong(messy: Path, measured: dict[str, dict[str, Any]], name: str) -> None:
    result = checked(messy, name)
    numbers = measured[f"{name}.jsonl"]
    assert result.rows_read == len(result.examples) + len(result.rejected)
    for says in EXPECTED[name]:
        words = says.words.format(**numbers["defects"]) if "{" in says.words else says.words
        candidates = [f for f in result.findings if (f.code, f.severity) == (says.code, says.severity)]
        found = [finding for finding in candidates if words in finding.message]
        assert found, f"{says} is not among {[(f.code, f.severity, f.message) for f in result.findings]}"
        if says.line is not None:
            assert found[0].line == says.line
        if isinstance(says.count, str):
            assert found[0].rows.count == {**numbers, **numbers["defects"]}[says.count]
        elif says.count is not None:
            assert found[0].rows.count == says.count
        assert found[0].remedy
    if not EXPECTED[name]:
        assert [finding.code for finding in result.findings if finding.severity != "info"] == []


@pytest.mark.parametrize("name", EXPECTED)
def test_no_row_is_lost(messy: Path, measured: dict[str, dict[str, Any]], name: str) -> None:
    rows = [item for item in read_rows(messy / f"{name}.jsonl") if isinstance(item, RawRow)]
    assert sum(row.value is not None for row in rows) == measured[f"{name}.jsonl"]["rows_recoverable"]
    assert all(row.value is not None or row.problems for row in rows)


@pytest.mark.parametrize("name", EXPECTED)
def test_the_same_mistake_is_said_once(messy: Path, name: str) -> None:
    said = [(finding.code, finding.severity, finding.message) for finding in checked(messy, name).findings]
    assert len(said) == len(set(said))
    assert len(said) <= 8


def test_every_broken_line_of_file_11_is_pointed_at(messy: Path, measured: dict[str, dict[str, Any]]) -> None:
    name = "11_unescaped_quotes_and_pasted_chatgpt_text"
    result = checked(messy, name)
    bad = measured[f"{name}.jsonl"]["first_bad_lines"]
    assert [row.line for row in result.rejected] == bad
    assert [finding.rows.lines for finding in result.findings if finding.code == "not-json"] == [tuple(bad)]


def test_the_merge_markers_of_file_06_are_the_bad_lines(messy: Path, measured: dict[str, dict[str, Any]]) -> None:
    name = "06_git_merge_conflict_markers"
    finding = next(finding for finding in checked(messy, name).findings if finding.code == "merge-conflict")
    assert list(finding.rows.lines) == measured[f"{name}.jsonl"]["first_bad_lines"]
    assert finding in checked(messy, name).blocking


def test_the_leak_between_15a_and_15b_is_found(
    messy: Path, measured: dict[str, dict[str, Any]], examples: Callable[..., list[Example]]
) -> None:
    def as_chat(name: str) -> list[Example]:
        rows = [item.value for item in read_rows(messy / f"{name}.jsonl") if isinstance(item, RawRow) and item.value]
        return examples({"messages": recognise(row).messages} for row in rows)

    train, valid = as_chat("15a_many_answers_per_prompt_train"), as_chat("15b_leaky_valid")
    asked_in_training = {row.messages[0]["content"] for row in train}
    leaked = [row for row in valid if row.messages[0]["content"] in asked_in_training]
    assert len({row.messages[0]["content"] for row in leaked}) == 7  # expected.json: train_valid_overlap
    found = find_overlap(train, valid)
    assert {row.line for row in leaked} <= {overlap.other_line for overlap in found}
    leaking = {row.messages[0]["content"] for row in leaked}
    assert {row.line for row in train if row.messages[0]["content"] in leaking} <= {o.train_line for o in found}
