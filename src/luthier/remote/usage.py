"""What a service counts, and what that costs."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

import yaml
from pydantic import BaseModel, ConfigDict, Field

from luthier.remote.address import Address


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that a service counted.

    Attributes:
        replies: how many replies are counted here.
        prompt_tokens: of what was asked, the cached ones among them.
        cached_tokens: of these, how many the service had computed before.
        completion_tokens: of what was answered, thoughts among them.
        uncounted: replies for which the service gave no count.
    """

    replies: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    uncounted: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.replies + other.replies,
            self.prompt_tokens + other.prompt_tokens,
            self.cached_tokens + other.cached_tokens,
            self.completion_tokens + other.completion_tokens,
            self.uncounted + other.uncounted,
        )


class Price(BaseModel):
    """What a model's tokens cost, in US dollars per million."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: float = Field(ge=0)
    """Tokens of the prompt."""
    cached: float = Field(ge=0)
    """Those of them that the service had computed before."""
    completion: float = Field(ge=0)
    """Tokens of the answer."""


class _PriceList(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    as_of: datetime.date
    source: str
    services: Mapping[str, Mapping[str, Price]]


@cache
def price_list() -> _PriceList:
    """Returns the prices that come with the package, with their date and source."""
    return _PriceList.model_validate(yaml.safe_load((resources.files(__package__) / "prices.yaml").read_text("utf-8")))


def price_of(address: Address) -> Price | None:
    """Returns what a model costs, or None where that is not known; a dated name costs what its model does."""
    prices = price_list().services.get(address.service or "", {})
    return prices.get(address.model) or prices.get(re.sub(r"-\d{4}-\d{2}-\d{2}$", "", address.model))


def cost_usd(usage: Usage, price: Price) -> float:
    """Returns what this usage costs in US dollars; replies without a count cost nothing here."""
    fresh = usage.prompt_tokens - usage.cached_tokens
    return (
        fresh * price.prompt + usage.cached_tokens * price.cached + usage.completion_tokens * price.completion
    ) / 1e6


def told_cost(address: Address, usage: Usage) -> str:
    """Returns what was used and what it costs, in one sentence; tokens alone where there is no price."""
    cached = f" ({usage.cached_tokens:,} of them cached)" if usage.cached_tokens else ""
    told = (
        f"{address.text}: {usage.replies:,} {'reply' if usage.replies == 1 else 'replies'}, {usage.prompt_tokens:,} tokens "
        f"asked{cached}, {usage.completion_tokens:,} answered"
    )
    price = price_of(address)
    if price is None:
        told += "; what they cost is not known here"
    else:
        told += f"; {cost_usd(usage, price):.4f} US dollars by prices of {price_list().as_of.isoformat()}"
    if usage.uncounted:
        told += f"; the service counted no tokens for {usage.uncounted:,} of the replies"
    return f"{told}. Attempts that failed are not in it, though a service may bill them."
