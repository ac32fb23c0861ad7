"""A check in a model's own tokens, and what a test of that size can show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from stage_rows import write

from luthier import sdk
from luthier.evaluate.statistics import detectable_gain

pytestmark = pytest.mark.unit


def rows(count: int) -> list[dict[str, Any]]:
    words = ["".join(chr(97 + (n * 7 + k * k) % 26) for k in range(6)) for n in range(count)]
    return [
        {"messages": [{"role": "user", "content": f"tell {w}{n}"}, {"role": "assistant", "content": f"{w} {n}"}]}
        for n, w in enumerate(words)
    ]


def test_a_row_past_the_context_is_named_with_the_length_that_training_would_see(
    tmp_path: Path, tiny_model_folder: Path
) -> None:
    from luthier.model.chat_template import ChatTokenizer

    many = rows(30)
    many[11]["messages"][0]["content"] = "x" * 600  # a token a byte, and the context has 512
    many[12]["messages"][0]["content"] = "y" * 450
    result = sdk.check([write(tmp_path / "rows.jsonl", many)], model=str(tiny_model_folder))
    (finding,) = [finding for finding in result.findings if finding.code == "too-long"]
    chat = ChatTokenizer(tiny_model_folder)
    text = chat.render(many[11]["messages"])
    assert (finding.severity, finding.line, finding.rows.count) == ("error", 12, 1)
    exact = len(chat.tokenizer(text, add_special_tokens=False).input_ids)
    assert f"over the 512 tokens of {tiny_model_folder}; the longest, line 12, has {exact:,}" in finding.message


def test_without_the_model_it_says_that_nothing_was_counted(tmp_path: Path) -> None:
    result = sdk.check([write(tmp_path / "rows.jsonl", rows(60))], model=str(tmp_path / "nowhere"))
    (finding,) = [finding for finding in result.findings if finding.code == "too-long"]
    assert finding.severity == "info"
    assert result.summary["trained_tokens"] is None
    assert result.summary["tokens"].keys() == {"o200k_base", "cl100k_base"}


def test_tokens_trained_tokens_and_bills_are_exact_for_small_sets(tmp_path: Path, tiny_model_folder: Path) -> None:
    many = rows(60)
    unlearned = {"role": "assistant", "content": "one moment", "weight": 0}
    many[3]["messages"][1:1] = [unlearned, {"role": "user", "content": "go on"}]
    summary = sdk.check([write(tmp_path / "rows.jsonl", many)], model=str(tiny_model_folder)).summary
    texts = [message["content"] for row in many for message in row["messages"]]
    learned = [row["messages"][-1]["content"] for row in many]
    assert summary["tokens"][str(tiny_model_folder)] == {
        "total": sum(map(len, texts)),  # a token a byte
        "low": sum(map(len, texts)),
        "high": sum(map(len, texts)),
        "exact": True,
        "sampled_rows": 60,
    }
    assert summary["trained_tokens"]["total"] == sum(map(len, learned)) + len(learned)
    bill = next(bill for bill in summary["bills"] if bill["model"] == "gpt-4o-2024-08-06")
    assert bill["tokens"] == summary["tokens"]["o200k_base"]["total"] * bill["epochs"]
    assert bill["rows_cut"] == 0


def test_the_test_is_worth_as_many_rows_as_it_has_groups(tmp_path: Path) -> None:
    many = rows(100)
    test = sdk.check([write(tmp_path / "rows.jsonl", many)]).summary["test"]
    assert (test["rows"], test["groups"], test["effective_rows"]) == (10, 100, 10)
    assert test["detectable_gain"] == detectable_gain(10, 0.05)
    again = sdk.check([write(tmp_path / "again.jsonl", many[:20] * 5)]).summary["test"]
    assert (again["rows"], again["groups"], again["effective_rows"]) == (10, 20, 2)
    assert again["detectable_gain"] is None
    assert "can show no gain at all" in again["said"]
