"""What services with OpenAI's fine-tuning API would bill for training on a set of examples."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from luthier.data.counting.estimates import Estimate
from luthier.data.counting.tokens import EncodingName
from luthier.errors import RecipeError

TARGET_EPOCHS = 3
MIN_TARGET_EXAMPLES = 100
MAX_TARGET_EXAMPLES = 25_000
MAX_DEFAULT_EPOCHS = 25
MIN_DEFAULT_EPOCHS = 1
"""Source of the five: OpenAI's cookbook, "Data preparation and analysis for chat model fine-tuning"."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    usd_per_million_tokens: float = Field(ge=0, allow_inf_nan=False)
    encoding: EncodingName
    context_tokens: int = Field(gt=0)


class _Service(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    source: str
    closes: datetime.date | None = None
    notice: str | None = None
    models: tuple[_Model, ...]


class _PriceList(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    as_of: datetime.date
    services: tuple[_Service, ...]


@dataclass(frozen=True, slots=True)
class Price:
    """What one model's training costs.

    Attributes:
        service, model: who trains what.
        usd_per_million_tokens: for every million tokens of the file, times epochs.
        encoding: what counts the tokens.
        context_tokens: a longer row is cut at its end to this many before it is trained and billed.
        as_of, source: when the price was read, and where.
        closes: from this day on nobody can start a job, or None; `notice` says what else there is to know.
    """

    service: str
    model: str
    usd_per_million_tokens: float
    encoding: EncodingName
    context_tokens: int
    as_of: datetime.date
    source: str
    closes: datetime.date | None = None
    notice: str | None = None


@dataclass(frozen=True, slots=True)
class Bill:
    """What one model's training on a set of examples would cost.

    Attributes:
        price: the model and its price.
        epochs: how often the set is gone through.
        tokens: the tokens billed, epochs included.
        rows_cut: how many rows are longer than the context; their ends, where the answers are, would not be trained.
    """

    price: Price
    epochs: int
    tokens: Estimate
    rows_cut: Estimate

    @property
    def usd(self) -> float:
        """The price to pay."""
        return self._usd(self.tokens.total)

    @property
    def usd_low(self) -> float:
        """The lower end of the interval; equal to `usd` where the tokens are exact."""
        return self._usd(self.tokens.low)

    @property
    def usd_high(self) -> float:
        """The upper end of the interval."""
        return self._usd(self.tokens.high)

    def _usd(self, tokens: int) -> float:
        return tokens / 1e6 * self.price.usd_per_million_tokens

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return {
            "service": self.price.service,
            "model": self.price.model,
            "epochs": self.epochs,
            "tokens": self.tokens.total,
            "tokens_low": self.tokens.low,
            "tokens_high": self.tokens.high,
            "exact": self.tokens.exact,
            "usd": round(self.usd, 4),
            "usd_low": round(self.usd_low, 4),
            "usd_high": round(self.usd_high, 4),
            "rows_cut": self.rows_cut.total,
            "rows_cut_exact": self.rows_cut.exact,
            "context_tokens": self.price.context_tokens,
            "price_as_of": self.price.as_of.isoformat(),
            "closes": self.price.closes.isoformat() if self.price.closes else None,
        }


def load_prices(path: str | Path | None = None, *, param: str = "--prices") -> list[Price]:
    """Returns the prices that are known, or those of a file in the form of `prices.yaml`.

    Raises:
        RecipeError: code "prices_not_readable" or "bad_prices".
    """
    try:
        text = (Path(path) if path is not None else resources.files("luthier.data.counting") / "prices.yaml").read_text(
            "utf-8"
        )
        prices = _PriceList.model_validate(yaml.safe_load(text))
    except (yaml.YAMLError, ValidationError, RecursionError) as error:
        raise RecipeError(
            f"The price list {path} is not in the form of prices.yaml: {_first_fault(error)}.",
            code="bad_prices",
            param=param,
            hint="Start from the prices.yaml that comes with Luthier, in luthier/data.",
        ) from error
    except (OSError, ValueError) as error:
        raise RecipeError(
            f"The price list {path} cannot be read: {error}.",
            code="prices_not_readable",
            param=param,
            hint="Give a YAML file.",
        ) from error
    return [
        Price(
            service=service.name,
            model=model.model,
            usd_per_million_tokens=model.usd_per_million_tokens,
            encoding=model.encoding,
            context_tokens=model.context_tokens,
            as_of=prices.as_of,
            source=service.source,
            closes=service.closes,
            notice=service.notice,
        )
        for service in prices.services
        for model in service.models
    ]


def _first_fault(error: Exception) -> str:
    if isinstance(error, ValidationError):
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"])
        return f"{place}: {fault['msg']}" if place else fault["msg"]
    return str(error).splitlines()[0]


def default_epochs(num_examples: int) -> int:
    """Returns how many epochs a service trains that is left to choose.

    Three, but more where that would show the model fewer than 100 examples (25 at most), and fewer where it would show it
    more than 25,000. Source: OpenAI's cookbook; recorded jobs agree (10 examples, 10 epochs).
    """
    num_examples = max(1, num_examples)
    if num_examples * TARGET_EPOCHS < MIN_TARGET_EXAMPLES:
        return min(MAX_DEFAULT_EPOCHS, MIN_TARGET_EXAMPLES // num_examples)
    if num_examples * TARGET_EPOCHS > MAX_TARGET_EXAMPLES:
        return max(MIN_DEFAULT_EPOCHS, MAX_TARGET_EXAMPLES // num_examples)
    return TARGET_EPOCHS


def billed(tokens: Estimate, epochs: int, price: Price, *, rows_cut: Estimate) -> Bill:
    """Returns the bill for a training file; a validation file is free.

    Args:
        tokens: the file's, gone through once, every row cut to the model's context.
        rows_cut: how many rows were.
    """
    return Bill(price, epochs, tokens.times(epochs), rows_cut)
