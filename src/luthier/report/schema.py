"""The report a program reads: `report.json`. Its JSON schema is generated into the reference pages."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Verdict = Literal["BETTER", "WORSE", "NO DIFFERENCE SHOWN", "UNDERPOWERED"]


class Part(BaseModel):
    """A frozen part of the report."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ModelScore(Part):
    """How one model did on the test rows."""

    name: str
    """The model: `base` or `fine-tuned`, or the file's name in a comparison of files."""
    score: float | None
    """The mean score over the rows that both models were scored on; null where there are none."""
    low: float | None
    """The lower end of the score's 95 % interval."""
    high: float | None
    """The upper end of the score's 95 % interval."""
    unscored: int = 0
    """Rows this model's answer could not be scored on; they are left out of the comparison and counted here."""
    cut: int = 0
    """Answers that reached `evaluate.max_new_tokens` and were stopped there."""
    mean_answer_tokens: float | None = None
    """The mean length of the answers in tokens."""


class DifferenceInterval(Part):
    """The change in mean score, fine-tuned minus base."""

    value: float
    """In score points: 0.1 is ten percentage points."""
    low: float
    """The lower end of its 95 % interval."""
    high: float
    """The upper end of its 95 % interval."""
    method: str
    """How the interval was computed, with its source."""


class SecondaryMetric(Part):
    """A further number for both models. It carries no verdict."""

    name: str
    """What is measured."""
    base: float | None
    """The base model's value."""
    fine_tuned: float | None
    """The fine-tuned model's value."""
    unit: str = ""
    """The unit; empty for a share between 0 and 1."""
    higher_is_better: bool = True
    """Whether larger values are better."""


class ComparedRow(Part):
    """One test row with both answers."""

    id: str
    """The sample's id."""
    prompt: str = ""
    """The conversation before the answer, readable."""
    expected: str = ""
    """The answer in the data."""
    base_answer: str = ""
    """The base model's answer."""
    fine_tuned_answer: str = ""
    """The fine-tuned model's answer."""
    base_score: float | None
    """The base model's score, null where it could not be scored."""
    fine_tuned_score: float | None
    """The fine-tuned model's score, null where it could not be scored."""
    outcome: Literal["win", "loss", "tie", "unscored"]
    """`win` where the fine-tuned model scored higher."""
    reason: str = ""
    """What was wrong or could not be scored, in a few words."""


class LossPoint(Part):
    """A point of the loss curves."""

    step: int
    """The step, from 1."""
    epoch: float
    """Passes over the training rows so far."""
    train_loss: float | None = None
    """Mean loss per trained token of this step's rows."""
    valid_loss: float | None = None
    """Mean loss per trained token of all validation rows, where it was measured."""


class TrainingSummary(Part):
    """What training did."""

    steps: int
    """Steps taken."""
    epochs: float
    """Passes over the training rows."""
    best_step: int
    """The step whose adapter was kept."""
    best_valid_loss: float | None
    """The validation loss of the kept adapter."""
    stopped_early: bool
    """Whether the validation loss had stopped falling."""
    seconds: float
    """Time spent training, resumed parts included."""
    trainable_parameters: int
    """Parameters of the adapter."""
    all_parameters: int
    """Parameters of base and adapter together, as PEFT counts them."""
    trained_tokens: int
    """Tokens the loss covered, over all steps."""
    loss_curve: list[LossPoint] = []
    """The loss of each step."""


class DataSummary(Part):
    """What the model learned from and was judged on."""

    source: str
    """The file given."""
    examples: int
    """Rows read as examples."""
    rejected: int
    """Rows left out, listed in `data/rejected.jsonl`."""
    train: int
    """Training rows."""
    validation: int
    """Validation rows."""
    test: int
    """Test rows."""
    groups: int
    """Groups of rows that were kept on one side of the split (duplicates, near duplicates, shared user messages)."""
    overlap: int = 0
    """Rows of given validation or test files that also stand in the training file."""
    mean_tokens: float | None = None
    """The mean length of a training row in tokens."""
    longest_tokens: int | None = None
    """The longest training row in tokens."""
    warnings: list[str] = []
    """What the check had to say that did not stop the run."""


class ResolvedValue(Part):
    """A value that was `auto`."""

    path: str
    """The recipe path."""
    value: str
    """What it became."""
    rule: str
    """The rule that chose it."""


class Report(Part):
    """The answer to "is it better than the base?", with everything it rests on."""

    schema_version: Literal[1] = 1
    """The version of this schema."""
    verdict: Verdict
    """BETTER and WORSE need both an exact p-value below 0.05 and an interval that excludes zero."""
    reason: str
    """The verdict in one sentence."""
    grader: str
    """How answers were scored."""
    grader_reason: str = ""
    """Why this grader."""
    n: int
    """Test rows both models were scored on."""
    base: ModelScore
    """The base model, or the first file."""
    fine_tuned: ModelScore
    """The fine-tuned model, or the second file."""
    difference: DifferenceInterval
    """Fine-tuned minus base."""
    wins: int
    """Rows where the fine-tuned model scored higher."""
    losses: int
    """Rows where it scored lower."""
    ties: int
    """Rows where both scored the same."""
    p_value: float
    """Two-sided, paired: exact McNemar for scores of 0 and 1, else a sign-flip permutation test."""
    test: str
    """The name of the test and its source."""
    detectable_gain: float | None
    """The smallest gain that a test set of this size shows with 80 % power; null where none can be shown."""
    rows_needed: int | None
    """Test rows that would show `planned_gain` with 80 % power; null above 100,000."""
    planned_gain: float | None = None
    """The observed gain where there is one, else `evaluate.minimum_gain`; also where the observed gain should have been
    shown by the rows there are, and was not."""
    power_assumption: str = ""
    """What the two numbers above assume."""
    metrics: list[SecondaryMetric] = []
    """Further numbers, without a verdict."""
    notes: list[str] = []
    """What the reader must know: shortened runs, cut answers, rows left out."""
    data: DataSummary | None = None
    """The data, in a run."""
    training: TrainingSummary | None = None
    """The training, in a run."""
    resolved: list[ResolvedValue] = []
    """Each `auto` value and its rule."""
    recipe: dict[str, object] = {}
    """The resolved recipe."""
    versions: dict[str, str] = {}
    """Versions of Luthier, Python, torch, transformers and the processor's name."""
    hashes: dict[str, str] = {}
    """sha256 of the inputs and of the adapter."""
    folder: str = ""
    """The folder that holds `report.json` and `report.html`."""
    created_at: str = ""
    """When the report was made (UTC, ISO 8601)."""
    seconds: dict[str, float] = {}
    """Wall time of each stage."""
    rows: list[ComparedRow] = []
    """Each test row with both answers."""
