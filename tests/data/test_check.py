from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.data.check import CheckResult, check_files
from luthier.data.rules import (
    catalogue,
    catalogue_file,
    catalogue_leak,
    catalogue_message,
    catalogue_set,
    catalogue_text,
)
from luthier.errors import DataError

pytestmark = pytest.mark.unit

Row = dict[str, Any]
Rows = Callable[[int], list[Row]]
MakeRow = Callable[..., Row]
Write = Callable[..., Path]


def codes(result: CheckResult, severity: str | None = None) -> list[str]:
    return [finding.code for finding in result.findings if severity in (None, finding.severity)]


def finding(result: CheckResult, code: str) -> Any:
    (found,) = [finding for finding in result.findings if finding.code == code]
    return found


def test_a_clean_file_gives_nothing(write: Write, rows: Rows) -> None:
    result = check_files([write(rows(60))])
    assert (codes(result), result.has_errors, result.rejected, result.num_rejected) == ([], False, [], 0)
    assert [example.line for example in result.examples] == list(range(1, 61))
    assert result.to_json()["examples"] == 60


def test_an_error_rejects_its_row_and_a_warning_does_not(write: Write, rows: Rows) -> None:
    good = rows(60)
    good[3]["messages"] = good[3]["messages"][:1]
    good[5]["source"] = "forum"
    result = check_files([write(good)])
    assert [(row.line, row.codes) for row in result.rejected] == [(4, ("no-assistant",))]
    assert len(result.examples) == 59
    assert (codes(result, "error"), codes(result, "warning")) == (["no-assistant"], ["unknown-key"])
    assert result.blocking == []
    assert json.loads(result.rejected[0].text) == good[3]
    assert "nothing to learn" in result.rejected[0].reason


def test_one_mistake_in_many_rows_is_one_finding(write: Write, rows: Rows) -> None:
    many = rows(60)
    for row in many[10:40]:
        row["messages"][1]["role"] = "model"
        row["messages"][0]["role"] = "human"
    found = finding(check_files([write(many)]), "unknown-role")
    assert (found.line, found.rows.count, found.rows.lines) == (11, 30, tuple(range(11, 21)))
    assert '"model" (write "assistant") (30 rows)' in found.message
    assert '"human" (write "user") (30 rows)' in found.message


@pytest.mark.parametrize(("count", "severity"), [(1, "error"), (9, "error"), (10, "info"), (49, "info"), (50, None)])
def test_too_few_examples(write: Write, rows: Rows, count: int, severity: str | None) -> None:
    result = check_files([write(rows(count))])
    found = [f.severity for f in result.findings if f.code == "too-few-examples"]
    assert found == ([severity] if severity else [])
    if severity == "error":
        words = f"Training file has {count} example(s), but must have at least 10 examples"
        assert words in finding(result, "too-few-examples").message
        assert codes(result) == [f.code for f in result.blocking]


def test_a_validation_file_may_be_small(write: Write, rows: Rows) -> None:
    assert codes(check_files([write(rows(1))], minimum=1)) == []


def test_duplicates_and_conflicts_leave_the_shared_system_prompt_out(write: Write, rows: Rows, row: MakeRow) -> None:
    many = [row(r["messages"][0]["content"], r["messages"][1]["content"], "You are kind.") for r in rows(60)]
    assert codes(check_files([write(many)])) == []
    again = [*many, many[0], many[0], many[7]]
    found = finding(check_files([write(again)]), "duplicate")
    assert (found.rows.count, found.rows.lines) == (3, (61, 62, 63))
    assert "3 rows repeat 2 earlier ones; line 61 repeats line 1" in found.message
    other = [*many, row(many[4]["messages"][1]["content"], "Another answer.", "You are kind.")]
    found = finding(check_files([write(other)]), "conflicting-answers")
    assert (found.rows.count, found.rows.lines) == (2, (5, 61))
    assert "Another answer." in found.message


def test_rows_that_differ_only_in_an_id_are_duplicates(write: Write, rows: Rows) -> None:
    many = [{**row, "id": number} for number, row in enumerate([*rows(60), rows(1)[0]])]
    assert finding(check_files([write(many)]), "duplicate").rows.lines == (61,)


def test_system_prompts_that_differ_by_a_slip(write: Write, rows: Rows, row: MakeRow) -> None:
    def with_prompts(rare: str) -> list[str]:
        prompts = [rare if n % 10 == 0 else "You answer questions about guitars." for n in range(60)]
        many = [
            row(r["messages"][0]["content"], r["messages"][1]["content"], p)
            for r, p in zip(rows(60), prompts, strict=True)
        ]
        return codes(check_files([write(many)]))

    assert with_prompts("You answer question about guitars.") == ["system-prompt-differs"]
    assert with_prompts("You answer questions  about guitars.") == ["system-prompt-differs"]
    assert with_prompts("You translate from French to German.") == ["system-prompt-differs"]


def test_system_prompts_that_are_meant_to_differ_are_listed_with_their_counts(
    write: Write, rows: Rows, row: MakeRow
) -> None:
    prompts = ["You translate from French to German.", "You answer questions about guitars.", "You tell jokes."]
    many = [
        row(r["messages"][0]["content"], r["messages"][1]["content"], prompts[min(n % 10, 2)])
        for n, r in enumerate(rows(60))
    ]
    found = finding(check_files([write(many)]), "system-prompt-differs")
    assert (found.severity, found.rows.count) == ("info", 12)
    assert "3 of them: 48 rows “You tell jokes.”; 6 rows “You answer questions" in found.message


def test_rows_without_the_system_prompt_of_the_others(write: Write, rows: Rows, row: MakeRow) -> None:
    many = rows(60)
    many[4] = row("hello there", "hi", "Be kind.")
    assert finding(check_files([write(many)]), "system-prompt-differs").rows.count == 59


def test_answers_that_all_begin_or_end_alike(write: Write, rows: Rows, row: MakeRow) -> None:
    def answers(form: str) -> list[str]:
        many = [row(r["messages"][0]["content"], form.format(r["messages"][1]["content"])) for r in rows(60)]
        return [f.message for f in check_files([write(many)]).findings if f.code == "uniform-affix"]

    for form in ("SELECT {};", '{{"label": "{}"}}', "{}.", "```\n{}\n```", "<b>{}</b>"):
        assert answers(form) == []
    for form, words in (
        ("Answer: {}", "Answer:"),
        ("{}!!!", "!!!"),
        ("{} END", "END"),
        ("Here is the {}", "Here is the"),
    ):
        (message,) = answers(form)
        assert f"“{words}”" in message


def test_answers_that_are_all_the_same(write: Write, rows: Rows, row: MakeRow) -> None:
    many = [row(r["messages"][0]["content"], "I do not know.") for r in rows(60)]
    assert codes(check_files([write(many)])) == ["constant-answer"]


def test_rows_of_another_shape_are_named_with_their_lines(write: Write, rows: Rows) -> None:
    result = check_files([write([*rows(60), {"prompt": "q", "completion": "a"}])])
    assert codes(result) == ["mixed-formats"]
    assert finding(result, "mixed-formats").rows.lines == (61,)


def test_a_format_asked_for_makes_others_an_error(write: Write, rows: Rows) -> None:
    file = write([*rows(60), {"prompt": "q", "completion": "a"}])
    result = check_files([file], row_format="chat")
    assert codes(result) == ["unknown-format", "mixed-formats"]
    assert (result.num_examples, [row.line for row in result.rejected]) == (60, [61])
    assert codes(check_files([file], row_format="completion"), "error") == [
        "unknown-format",
        "too-few-examples",
        "mixed-formats",
    ]


def test_several_files_are_one_set_and_keep_their_names(write: Write, rows: Rows) -> None:
    one, two = write(rows(30), "one.jsonl"), write(rows(60)[29:], "two.jsonl")
    result = check_files([one, two])
    assert len(result.examples) == 61
    found = finding(result, "duplicate")
    assert (found.file, found.line) == (str(two), 1)
    assert f"line 30 of {one}" in found.message


def test_errors_about_the_file_cannot_be_dropped_with_rows(write: Write, rows: Rows) -> None:
    lines = [json.dumps(row) for row in rows(60)]
    result = check_files([write("\n".join(["<<<<<<< HEAD", *lines, "=======", ">>>>>>> x"]))])
    assert [finding.code for finding in result.blocking] == ["merge-conflict"]
    assert result.rows_read == len(result.examples) == 60


def test_the_summary_counts(write: Write, row: MakeRow, rows: Rows) -> None:
    many = [*rows(59), row("abc", "de", "f"), {"prompt": "q"}]
    summary = check_files([write(many)]).summary
    assert (summary["rows"], summary["examples"], summary["rejected"]) == (61, 60, 1)
    assert summary["formats"] == {"chat": 60, "unknown": 1}
    assert summary["roles"] == {"user": 60, "assistant": 60, "system": 1}
    assert (summary["characters"]["min"], summary["system_prompts"]) == (6, 1)
    turns = {"min": 1, "mean": 1.0, "median": 1, "p95": 1, "max": 1, "total": 60}
    assert turns.items() <= summary["turns"].items()
    assert sum(bar["rows"] for bar in summary["characters"]["histogram"]) == 60


def test_the_json_is_plain(write: Write, rows: Rows) -> None:
    text = json.dumps(check_files([write([*rows(5), {}])]).to_json())
    assert set(json.loads(text)) == {"examples", "findings", "summary"}


def test_a_missing_file_names_the_option() -> None:
    with pytest.raises(DataError) as caught:
        check_files(["nowhere.jsonl"], param="data.validation")
    assert (caught.value.code, caught.value.param) == ("file_not_found", "data.validation")


def test_every_rule_is_listed_named_and_has_a_remedy() -> None:
    for module in (catalogue_file, catalogue_message, catalogue_text, catalogue_set, catalogue_leak):
        declared = [value for name, value in vars(module).items() if type(value).__name__ == "Rule" and name.isupper()]
        assert list(module.RULES) == declared
        for rule in module.RULES:
            assert rule.code == rule.code.lower().replace("_", "-")
            assert rule.says
            assert not rule.says.endswith(".")
            assert rule.remedy.endswith(".")
            assert rule in catalogue.RULES
            assert catalogue.CODES[rule.code] == rule.group


def test_the_check_needs_no_torch(write: Write, rows: Rows) -> None:
    program = (
        "import sys; from luthier.data.check import check_files; from luthier.data.split import split_examples; "
        "check_files(sys.argv[1:]); print(sorted({'torch', 'transformers', 'typer', 'rich'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(write(rows(20)))], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


LEAF = (
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", " ", "x", "user", "assistant", "{{a}}", "é"])
)
MESSAGE_KEYS = ["role", "content", "weight", "tool_calls", "tool_call_id", "name", "refusal", "label", "function_call"]
ANY = st.recursive(
    LEAF,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "text", "id", "function", "name", "arguments", "value"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)
ROLE = st.sampled_from(["system", "user", "assistant", "tool", "model", "User"]) | LEAF
MESSAGE = st.builds(
    lambda role, content, rest: {"role": role, "content": content, **rest},
    ROLE,
    ANY,
    st.dictionaries(st.sampled_from(MESSAGE_KEYS), ANY, max_size=2),
)
ROW = st.dictionaries(
    st.sampled_from(["messages", "tools", "prompt", "completion", "conversations", "input"]), ANY
) | st.builds(
    lambda messages, rest: {"messages": messages, **rest},
    st.lists(MESSAGE | ANY, max_size=4),
    st.dictionaries(st.sampled_from(["tools", "parallel_tool_calls", "functions", "id"]), ANY, max_size=2),
)


@given(values=st.lists(ROW | ANY, max_size=12), broken=st.lists(st.text(max_size=20), max_size=3))
@settings(max_examples=200, deadline=None)
def test_rows_read_are_examples_or_rejected_always(
    tmp_path_factory: pytest.TempPathFactory, values: list[Any], broken: list[str]
) -> None:
    path = tmp_path_factory.mktemp("any") / "any.jsonl"
    path.write_text("\n".join([*(json.dumps(value) for value in values), *broken]), encoding="utf-8", errors="replace")
    result = check_files([path])
    assert result.rows_read == len(result.examples) + len(result.rejected)
    assert all(row.codes and row.reason for row in result.rejected)
    assert {code for row in result.rejected for code in row.codes} <= set(codes(result, "error"))
    assert result.has_errors == bool(result.rejected or result.blocking)
    json.dumps(result.to_json())
    for example in result.examples:
        assert any(message["role"] == "assistant" for message in example.messages)
        assert example.content_hash
