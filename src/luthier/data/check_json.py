"""What `luthier check --json` prints, field by field; the JSON schema in `docs/reference` is made from it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class RowsJSON(_Part):
    """The rows that a finding concerns."""

    count: int
    """How many; 0 where the finding is about the file or the set as such."""
    lines: list[int]
    """Physical, 1-based lines of the first of them, ten at most."""


class FindingJSON(_Part):
    """One thing that is wrong or worth knowing. `docs/findings/` has a page for each code."""

    code: str
    """Stable, kebab-case name."""
    severity: Literal["error", "warning", "info"]
    """An error keeps a row, or the file, out of training; a warning is likely to hurt; an info is a fact."""
    file: str
    """The file as it was given; `<stdin>` for standard input."""
    line: int
    """Physical, 1-based line of the first place."""
    rows: RowsJSON
    message: str
    """What is wrong."""
    remedy: str
    """What to do."""
    fix: str | None
    """What `luthier clean` would do, or null."""
    excerpt: str | None
    """The offending text, shortened around the place."""
    column: int | None
    """0-based place in the excerpt."""


class BarJSON(_Part):
    """A bar of a histogram."""

    from_: int = Field(alias="from")
    """The smallest value it counts; the last bar also counts what lies past the 99th percentile."""
    rows: int
    """How many examples."""


class SpreadJSON(_Part):
    """How a number is spread over the examples."""

    min: int
    mean: float
    median: int
    p95: int
    """95 % of the examples have this or less."""
    max: int
    total: int
    histogram: list[BarJSON]


class EstimateJSON(_Part):
    """A number of tokens, counted, or estimated from a random sample of the examples."""

    total: int
    low: int
    """Lower end of the 95 % interval; equal to the total where that is exact."""
    high: int
    exact: bool
    sampled_rows: int


class BillJSON(_Part):
    """What a service would bill for training on the examples. Tools and images are not counted."""

    service: str
    model: str
    epochs: int
    """What the service would choose."""
    tokens: int
    """Billed tokens, epochs included."""
    tokens_low: int
    tokens_high: int
    exact: bool
    usd: float
    usd_low: float
    usd_high: float
    rows_cut: int
    """Rows longer than the service's context, whose ends it would cut."""
    rows_cut_exact: bool
    context_tokens: int
    price_as_of: str
    """The day the price was read, YYYY-MM-DD."""
    closes: str | None
    """From this day on the service takes no new jobs, or null."""


class TestJSON(_Part):
    """The test that a split would hold out, and what it can show."""

    __test__ = False  # no test of pytest's

    rows: int
    groups: int
    """In how many groups of like rows all examples fall."""
    effective_rows: int
    """The groups among the test rows: a test is worth as many rows as it has groups."""
    detectable_gain: float | None
    """The smallest gain, as a share, that shows with 80 % power; null where none does."""
    rows_needed: int | None
    """Test rows that would show a gain of 10 points with 80 % power; null above 100,000."""
    said: str
    """The same as a sentence."""


class SummaryJSON(_Part):
    """Numbers about the examples. What `--only` left out is null or missing."""

    rows: int
    """Rows read: examples and rejected ones."""
    examples: int
    rejected: int
    """Rows with an error of their own."""
    formats: dict[str, int]
    roles: dict[str, int]
    """Messages of each role."""
    system_prompts: int | None
    with_tools: int
    turns: SpreadJSON
    """Answers an example."""
    characters: SpreadJSON
    trained_messages: int
    answer_characters: SpreadJSON
    """Characters learned an example."""
    labels: dict[str, int] | None
    """Rows of each label where the answers are a closed set of labels; empty where they are not."""
    tokens: dict[str, EstimateJSON] = {}
    """Tokens of all examples by tokenizer: the model's, `o200k_base`, `cl100k_base`."""
    trained_tokens: EstimateJSON | None = None
    """Tokens of the answers with the token that ends each, in the model's tokenizer; null where it is not here."""
    bills: list[BillJSON] = []
    test: TestJSON | None = None


class CheckJSON(_Part):
    """The whole answer."""

    examples: int
    """Rows without an error of their own."""
    findings: list[FindingJSON]
    summary: SummaryJSON
