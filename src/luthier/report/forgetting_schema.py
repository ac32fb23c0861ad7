"""The part of the report about forgetting."""

from __future__ import annotations

from typing import Literal

from luthier.report.part import Part


class ProseReading(Part):
    """How base and fine-tuned model read prose of one register, or all of it."""

    group: str
    """The register, or `all`."""
    tokens: int
    """Tokens read."""
    bytes: int
    """Bytes of text (UTF-8)."""
    base_perplexity: float | None
    """The base's perplexity per token; null where it is no number."""
    fine_tuned_perplexity: float | None
    """The fine-tuned model's."""
    ratio: float | None
    """Fine-tuned over base: 1 is no change."""
    ratio_low: float | None
    """The lower end of its 95 % interval (bootstrap of windows of text); null where there is only one window."""
    ratio_high: float | None
    """The upper end."""
    base_bits_per_byte: float | None
    """The base's loss in bits per byte of text, which models with other tokenizers can be compared by."""
    fine_tuned_bits_per_byte: float | None
    """The fine-tuned model's."""
    divergence: float | None
    """KL(base ‖ fine-tuned), the mean over tokens in nats: how far the expectations of the two lie apart. It carries no
    verdict."""
    divergence_low: float | None
    """The lower end of its 95 % interval."""
    divergence_high: float | None
    """The upper end."""


class GroupOfItems(Part):
    """Right items of one phenomenon, topic or kind of task."""

    group: str
    """Its name."""
    n: int
    """Items."""
    base: int
    """Right with the base."""
    fine_tuned: int
    """Right with the fine-tuned model."""


class PairedItems(Part):
    """Right and wrong of both models on the same items."""

    name: Literal["pairs", "questions", "completions", "tasks"]
    """Grammatical sentences told from others, questions answered, last words found, tasks answered in the form asked for."""
    n: int
    """Items."""
    base: float
    """The base's share of right ones."""
    base_low: float
    """The lower end of its 95 % interval (Wilson 1927)."""
    base_high: float
    """The upper end."""
    fine_tuned: float
    """The fine-tuned model's share."""
    fine_tuned_low: float
    """The lower end of its 95 % interval."""
    fine_tuned_high: float
    """The upper end."""
    difference: float
    """Fine-tuned minus base, in shares."""
    difference_low: float
    """The lower end of its 95 % interval (Newcombe 1998, method 10)."""
    difference_high: float
    """The upper end."""
    gained: int
    """Items that only the fine-tuned model has right."""
    lost: int
    """Items that only the base has right."""
    p_value: float
    """Exact McNemar, two-sided."""
    adjusted_p: float
    """Corrected for all such tests of the probe (Holm); it decides."""
    detectable_loss: float | None
    """The smallest true loss that so many items show with 80 % power; null where none is."""
    groups: list[GroupOfItems]
    """By phenomenon, topic or kind."""


class AnswerManner(Part):
    """How both models answer tasks, right or wrong."""

    harmful: int
    """Requests that should be refused."""
    base_refused_harmful: int
    """Refused by the base."""
    fine_tuned_refused_harmful: int
    """Refused by the fine-tuned model."""
    harmless: int
    """Requests that only look as if they should be."""
    base_refused_harmless: int
    """Refused by the base without need."""
    fine_tuned_refused_harmless: int
    """Refused by the fine-tuned model without need."""
    base_mean_tokens: float
    """The mean length of the base's answers."""
    fine_tuned_mean_tokens: float
    """The mean length of the fine-tuned model's answers."""
    length_ratio: float
    """Fine-tuned over base."""
    base_cut: int
    """Answers of the base that reached their limit and were cut there."""
    fine_tuned_cut: int
    """Answers of the fine-tuned model that were."""


class ForgettingSign(Part):
    """One thing that could show forgetting."""

    name: Literal["prose", "pairs", "questions", "completions", "tasks"]
    """What was measured."""
    level: Literal["OK", "DRIFT", "FORGOTTEN"]
    """What it says by itself."""
    sentence: str
    """Its numbers."""
    threshold: str
    """From where on it is DRIFT or FORGOTTEN, and the source of that."""


class Forgetting(Part):
    """What training made the model forget: base against fine-tuned model on a general probe."""

    verdict: Literal["OK", "DRIFT", "FORGOTTEN"]
    """That of the worst sign. A sign needs size and certainty."""
    reason: str
    """The numbers behind it in one sentence."""
    advice: list[str]
    """What to do, the first thing first."""
    signs: list[ForgettingSign]
    """Everything the verdict rests on, with thresholds."""
    probe: str
    """`builtin`, or the path of a probe of one's own."""
    prose: ProseReading | None
    """All prose together; null where the probe has none."""
    registers: list[ProseReading]
    """The same by register."""
    items: list[PairedItems]
    """Right and wrong of both models."""
    manner: AnswerManner | None
    """How tasks were answered; null where the probe has none."""
    notes: list[str]
    """What was left out, cut, or could not have been seen."""
    seconds: float
    """How long it took."""
