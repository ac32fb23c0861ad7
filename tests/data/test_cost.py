from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.data.counting.cost import Price, billed, default_epochs, load_prices
from luthier.data.counting.estimates import Estimate
from luthier.data.counting.tokens import encoding_for, openai_counter, openai_tokens
from luthier.errors import RecipeError

pytestmark = pytest.mark.unit

Write = Callable[..., Path]
PRICE = Price("A service", "a-model", 5.0, "o200k_base", 100, datetime.date(2026, 1, 1), "a source")


# --- prices --------------------------------------------------------------------------------------------------------


def test_the_price_list_is_dated_sourced_and_says_that_openai_closes() -> None:
    prices = load_prices()
    assert {price.service for price in prices} == {"OpenAI"}
    by_model = {price.model: price for price in prices}
    assert len(by_model) == len(prices)
    assert by_model["gpt-4.1-2025-04-14"].usd_per_million_tokens == 25
    assert by_model["gpt-4.1-mini-2025-04-14"].usd_per_million_tokens == 5
    assert by_model["gpt-4.1-nano-2025-04-14"].usd_per_million_tokens == 1.5
    assert by_model["gpt-4o-2024-08-06"].usd_per_million_tokens == 25
    assert by_model["gpt-3.5-turbo-0125"].context_tokens == 16_385
    for price in prices:
        assert price.closes == datetime.date(2027, 1, 6)
        assert "2027-01-06" in str(price.notice)
        assert price.as_of.year == 2026
        assert price.source
        assert price.encoding == encoding_for(price.model)


OWN = """
as_of: 2030-01-01
services:
  - name: Mine
    source: my invoice
    models:
      - {model: small, usd_per_million_tokens: 0.5, encoding: o200k_base, context_tokens: 4096}
"""


def test_a_price_list_of_ones_own(write: Write) -> None:
    [price] = load_prices(write(OWN, "prices.yaml"))
    assert (price.service, price.model, price.usd_per_million_tokens, price.context_tokens) == (
        "Mine",
        "small",
        0.5,
        4096,
    )
    assert price.closes is None


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [
        (OWN.replace("0.5", "cheap"), "bad_prices", "services.0.models.0.usd_per_million_tokens"),
        (OWN.replace("0.5", "-1"), "bad_prices", "usd_per_million_tokens"),
        (OWN.replace("0.5", ".inf"), "bad_prices", "usd_per_million_tokens"),
        (OWN.replace("o200k_base", "r50k_base"), "bad_prices", "encoding"),
        (OWN + "    colour: red\n", "bad_prices", "colour"),
        ("[", "bad_prices", ""),
        ("", "bad_prices", ""),
        ("[" * 5000, "bad_prices", ""),
        (b"\xff", "prices_not_readable", "utf-8"),
    ],
)
def test_a_price_list_that_cannot_be_used(write: Write, content: str | bytes, code: str, says: str) -> None:
    path = write(content, "prices.yaml")
    with pytest.raises(RecipeError) as caught:
        load_prices(path)
    assert caught.value.code == code
    assert str(path) in caught.value.message
    assert says in caught.value.message


@pytest.mark.parametrize("name", ["nothing.yaml", "nul\0.yaml", "."])
def test_a_price_list_that_is_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_prices(f"{tmp_path}/{name}")
    assert caught.value.code == "prices_not_readable"


# --- epochs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_examples", "epochs"),
    [(0, 25), (1, 25), (4, 25), (5, 20), (10, 10), (33, 3), (34, 3), (8333, 3), (8334, 2), (12_501, 1), (10**9, 1)],
)
def test_epochs_follow_the_cookbook(num_examples: int, epochs: int) -> None:
    assert default_epochs(num_examples) == epochs


@given(st.integers(1, 10**7))
def test_epochs_keep_to_the_targets(num_examples: int) -> None:
    epochs = default_epochs(num_examples)
    assert 1 <= epochs <= 25
    if epochs > 3:
        assert num_examples * epochs <= 100
    if 1 < epochs < 3:
        assert num_examples * epochs <= 25_000
    assert epochs >= default_epochs(num_examples + 1)


# --- bills ---------------------------------------------------------------------------------------------------------


def exactly(number: int) -> Estimate:
    return Estimate(number, number, number, True, number)


def test_the_cookbooks_own_bill(public_data: Path) -> None:
    """Its notebook: 4,306 tokens with rows cut at 4,096, 20 epochs, 86,120 tokens billed."""
    lines = (public_data / "messy" / "17_openai_toy_chat.jsonl").read_text().splitlines()
    counts = [openai_tokens(json.loads(line)["messages"], openai_counter("cl100k_base")) for line in lines]
    price = Price("OpenAI", "gpt-3.5-turbo-0613", 8.0, "cl100k_base", 4096, datetime.date(2023, 8, 22), "its notebook")
    cut = exactly(sum(count > price.context_tokens for count in counts))
    tokens = exactly(sum(min(count, price.context_tokens) for count in counts))
    bill = billed(tokens, default_epochs(len(lines)), price, rows_cut=cut)
    assert bill.epochs == 20
    assert bill.tokens.total == 86_120
    assert bill.usd == pytest.approx(0.68896)
    assert bill.rows_cut.total == 1


def test_a_bill_is_tokens_times_epochs_times_price() -> None:
    bill = billed(Estimate(1_000_000, 900_000, 1_200_000, False, 10), 3, PRICE, rows_cut=exactly(7))
    assert bill.tokens == Estimate(3_000_000, 2_700_000, 3_600_000, False, 10)
    assert (bill.usd, bill.usd_low, bill.usd_high) == (15.0, 13.5, 18.0)
    told = bill.to_json()
    json.dumps(told)
    assert (told["usd_low"], told["usd"], told["usd_high"], told["exact"]) == (13.5, 15.0, 18.0, False)
    assert (told["rows_cut"], told["rows_cut_exact"], told["context_tokens"]) == (7, True, 100)
    assert (told["service"], told["model"], told["epochs"], told["closes"]) == ("A service", "a-model", 3, None)


def test_every_listed_price_makes_a_bill() -> None:
    bills = [billed(exactly(10**6), 1, price, rows_cut=exactly(0)) for price in load_prices()]
    assert [bill.usd for bill in bills] == [price.usd_per_million_tokens for price in load_prices()]
    assert {bill.to_json()["closes"] for bill in bills} == {"2027-01-06"}
