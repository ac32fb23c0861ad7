"""What the tests of the data layer share: rows, files of rows, and the real files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from luthier.data.chat import Example

Row = dict[str, Any]


def chat_row(user: str = "What is the capital of France?", answer: str = "Paris.", system: str | None = None) -> Row:
    before = [{"role": "system", "content": system}] if system is not None else []
    return {"messages": [*before, {"role": "user", "content": user}, {"role": "assistant", "content": answer}]}


def distinct_rows(count: int) -> list[Row]:
    """Rows of which no two are alike: every word is made of the row's number."""
    letters = ["".join(chr(97 + (number * 7 + place * place) % 26) for place in range(6)) for number in range(count)]
    return [chat_row(f"tell {word}{number} of {word[::-1]}", f"{word} {number}") for number, word in enumerate(letters)]


@pytest.fixture
def rows() -> Callable[[int], list[Row]]:
    return distinct_rows


@pytest.fixture
def row() -> Callable[..., Row]:
    return chat_row


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes text, bytes or rows to a file and returns its path."""

    def write(content: str | bytes | Iterable[Row], name: str = "data.jsonl") -> Path:
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif isinstance(content, str):
            path.write_bytes(content.encode())
        else:
            path.write_bytes("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in content).encode())
        return path

    return write


@pytest.fixture
def examples() -> Callable[[Iterable[Row]], list[Example]]:
    def examples(rows: Iterable[Row]) -> list[Example]:
        return [Example(row, "data.jsonl", line) for line, row in enumerate(rows, 1)]

    return examples


@pytest.fixture(scope="session")
def public_data() -> Path:
    """The real data sets, where they are given."""
    folder = Path(__file__).parents[2] / "../shared/data/public"
    if not folder.is_dir():
        pytest.skip("the real data sets are not here (../shared/data/public beside the checkout)")
    return folder


@pytest.fixture(scope="session")
def messy(public_data: Path) -> Path:
    return public_data / "messy"


@pytest.fixture(scope="session")
def measured(messy: Path) -> dict[str, dict[str, Any]]:
    """What an independent script measured in each messy file."""
    expected = json.loads((messy / "expected.json").read_text())
    return {entry["file"]: entry["measured"] for entry in expected["files"]}
