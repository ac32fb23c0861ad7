"""The sample data: reproducible, varied, and true to its own texts."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.unit

EXAMPLES = Path(__file__).parents[2] / "examples"
LINES = (EXAMPLES / "orders.jsonl").read_text(encoding="utf-8").splitlines()
ROWS = [json.loads(line)["messages"] for line in LINES]
TEXTS = [row[1]["content"] for row in ROWS]
ANSWERS: list[dict[str, Any]] = [json.loads(row[2]["content"]) for row in ROWS]
NOTHING = {"customer": None, "items": [], "total": None, "date": None}
ORDERS = [(text, answer) for text, answer in zip(TEXTS, ANSWERS, strict=True) if answer != NOTHING]


def five_grams(text: str) -> set[str]:
    return {text[start : start + 5] for start in range(max(1, len(text) - 4))}


def most_alike(texts: list[str]) -> float:
    grams = [five_grams(text) for text in texts]
    return max(len(one & other) / len(one | other) for one, other in combinations(grams, 2))


def share(pattern: str) -> float:
    return sum(bool(re.search(pattern, text)) for text in TEXTS) / len(TEXTS)


def test_the_script_makes_the_committed_file_byte_for_byte() -> None:
    script = [sys.executable, str(EXAMPLES / "make_orders.py")]
    made = subprocess.run(script, capture_output=True, check=True).stdout
    assert made == (EXAMPLES / "orders.jsonl").read_bytes()


def test_every_row_has_the_shape_that_the_system_prompt_describes() -> None:
    assert len(ROWS) == 400
    (system,) = {row[0]["content"] for row in ROWS}
    assert 40 <= len(system.split()) <= 70
    for row, answer in zip(ROWS, ANSWERS, strict=True):
        assert [message["role"] for message in row] == ["system", "user", "assistant"]
        assert list(answer) == ["customer", "items", "total", "date"]
        assert answer["customer"] is None or answer["customer"].strip()
        assert answer["date"] is None or re.fullmatch(r"20\d\d-\d\d-\d\d", answer["date"])
        for item in answer["items"]:
            assert list(item) == ["product", "quantity"]
            assert type(item["quantity"]) is int
            assert item["quantity"] >= 1
        assert ": " not in row[2]["content"].replace('": ', "")
        assert re.search(r'"total":(null|\d+\.\d\d),"date"', row[2]["content"])
        assert len({item["product"] for item in answer["items"]}) == len(answer["items"])


def test_names_and_products_stand_in_the_text_as_written() -> None:
    for text, answer in ORDERS:
        for item in answer["items"]:
            assert item["product"] in text.replace(text[0], text[0].lower(), 1) or item["product"] in text
        if answer["customer"]:
            assert answer["customer"] in text


def test_a_total_in_digits_stands_in_the_text() -> None:
    in_digits = 0
    for text, answer in ORDERS:
        if answer["total"] is None:
            continue
        digits = text.replace(" ", "").replace(",", "").replace(".", "")
        whole, cents = f"{answer['total']:.2f}".split(".")
        found = whole + cents in digits or (cents == "00" and whole in digits)
        assert found or re.search(r"(dollars|euros|pounds)", text), text
        in_digits += found
    assert in_digits > 150


def test_a_date_stands_in_the_text_and_another_year_than_2026_is_stated() -> None:
    for text, answer in ORDERS:
        if answer["date"]:
            year, month, day = answer["date"].split("-")
            assert year == "2026" or year in text
            assert str(int(day)) in text or re.search(r"[Tt]he [a-z-]+(th|st|nd|rd) of [A-Z]", text), text
            assert month in text or re.search(r"Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec", text)


def test_no_message_is_given_twice_or_nearly_twice() -> None:
    assert len(set(TEXTS)) == len(TEXTS)
    assert most_alike(TEXTS) < 0.5
    assert most_alike([row[1]["content"] + row[2]["content"] for row in ROWS]) < 0.7


def test_every_phenomenon_has_its_share() -> None:
    items = Counter(len(answer["items"]) for _, answer in ORDERS)
    assert set(items) == {1, 2, 3, 4}
    assert min(items.values()) >= 8
    for key in ("customer", "total", "date"):
        missing = sum(answer[key] is None for _, answer in ORDERS) / len(ORDERS)
        assert 0.06 < missing < 0.3, key
    assert 0.05 < (len(ROWS) - len(ORDERS)) / len(ROWS) < 0.15
    assert 0.2 < share(r"\$|USD|dollar|bucks") < 0.6
    assert share("€|EUR|euro") > 0.1
    assert share("£|GBP|pound") > 0.1
    assert share(r"(hundred|ty|teen|ten|-\w+) (dollars|euros|pounds)") > 0.03
    assert share(r"the [a-z-]+(th|st|nd|rd) of [A-Z]") > 0.05
    assert share(r"(Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day") > 0.05
    assert share(r"\b20(2[345])\b") > 0.05
    assert share(r"a pair of|a couple of|dozen") > 0.1
    assert share(r"(#|ORD-|A-|PO)\d+") > 0.02
    assert share(r"(020 7946|01632 960|\+44)") > 0.01
    assert share(r"bougth|orderd|pls|thx|bc") > 0.02
    assert share(r"cancel|return|refund|back") > 0.04
    assert share(r"\n") > 0.15


def test_products_and_customers_are_many() -> None:
    products = {item["product"] for _, answer in ORDERS for item in answer["items"]}
    customers = {answer["customer"] for _, answer in ORDERS}
    assert len(products) > 250
    assert len(customers) > 150


def test_a_purchase_is_told_in_at_least_forty_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import orders_words as words

    assert len({template for style in words.STYLES for template in style.templates}) >= 40
    assert len({plural for domain in words.DOMAINS for _, plural in domain.products}) >= 150
