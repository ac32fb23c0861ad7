"""The report a program reads: `report.json`. Its JSON schema is generated into the reference pages."""

from __future__ import annotations

from typing import Literal

from luthier.report.forgetting_schema import Forgetting
from luthier.report.part import Part

Verdict = Literal["BETTER", "WORSE", "NO DIFFERENCE SHOWN", "UNDERPOWERED"]


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


class SamplingNoise(Part):
    """The standard error of the difference in its two parts, where answers were sampled several times."""

    error: float
    """Of the difference, in score points."""
    sampling_error: float
    """What answers that differ from one try to the next contribute."""
    row_error: float
    """What the rows contribute: no number of answers a row brings the error below this."""


class Pairing(Part):
    """Two of the models compared on the same rows."""

    base: str
    """The model compared with."""
    tuned: str
    """The model compared."""
    n: int
    """Rows both were scored on."""
    difference: DifferenceInterval
    """Tuned minus base."""
    wins: int
    """Rows where the second scored higher."""
    losses: int
    """Rows where it scored lower."""
    ties: int
    """Rows where both scored the same."""
    p_value: float
    """Of this comparison alone."""
    adjusted_p: float | None
    """Corrected for all comparisons of the table (Holm); the verdict rests on it. Null where there is one alone."""
    verdict: Verdict
    """Of this comparison."""
    reason: str
    """In one sentence."""


class ModelTable(Part):
    """All models that answered the test rows, and every pair of them."""

    models: list[ModelScore]
    """The base first, the fine-tuned model last."""
    described: dict[str, str]
    """What each model was given, by its name."""
    pairings: list[Pairing]
    """Every pair, corrected together."""
    num_tests: int
    """Comparisons corrected together."""
    conclusion: str
    """What the fine-tuned model beats and what it does not, in one sentence."""
    notes: list[str] = []
    """What the table's reader must know."""


class Contamination(Part):
    """Test rows that the model was trained on, and what the score would be with them."""

    checked: bool
    """Whether the training rows were at hand."""
    rows: int
    """Test rows that stand in the training data too (equal, nearly equal, or the same opening user message); they take no
    part in the verdict."""
    kinds: dict[str, int]
    """How they are alike, and how many are."""
    first: str
    """The first of them, with its twin; empty where there is none."""
    with_them: Pairing | None
    """The comparison on all rows, the contaminated ones included; it cannot be trusted. Null where there are none."""
    on_them: Pairing | None
    """The comparison on the contaminated rows alone."""
    sentence: str
    """All of it for a person."""


class ConfusionTable(Part):
    """How often each label was given where another was expected."""

    labels: list[str]
    """The expected labels, sorted."""
    base: list[list[int]]
    """Of the base model: [expected, given]; the last column counts answers that are none of the labels."""
    fine_tuned: list[list[int]]
    """Of the fine-tuned model."""


class FieldRow(Part):
    """One field of JSON answers."""

    field: str
    """Its path; positions in lists are written `[]`."""
    expected: int
    """How often it was expected."""
    base_f1: float
    """Of the base model."""
    fine_tuned_f1: float
    """Of the fine-tuned model."""
    fine_tuned_precision: float
    """The share of the given fields that were expected so."""
    fine_tuned_recall: float
    """The share of the expected fields that were given so."""


class AnswerShape(Part):
    """Whether answers look like those trained on."""

    shape: str
    """What most training answers are, such as `a JSON object`."""
    trained_share: float
    """The share of training answers that are."""
    base_share: float
    """The share of the base model's answers that are."""
    fine_tuned_share: float
    """The share of the fine-tuned model's answers that are."""
    expected_tokens: float
    """The mean length of the expected answers in tokens."""
    base_tokens: float | None
    """The mean length of the base model's answers."""
    fine_tuned_tokens: float | None
    """The mean length of the fine-tuned model's answers."""
    cut: int
    """Answers of the fine-tuned model that were stopped at `evaluate.max_new_tokens`."""
    sentence: str
    """All of it for a person."""


class Copying(Part):
    """Whether the model says training answers word for word where it was asked something else than in training."""

    rows: int
    """Training rows asked in other words."""
    base_share: float
    """The share of them that the base model answered with the training answer's very words."""
    fine_tuned_share: float
    """The share of them that the fine-tuned model did."""
    unchanged_share: float
    """The share of them that the fine-tuned model did where it was asked in training's own words."""


class Overfitting(Part):
    """Whether training went on for too long."""

    best_step: int
    """The step whose adapter was kept."""
    best_valid_loss: float | None
    """Its validation loss, nats per token."""
    last_valid_loss: float | None
    """The validation loss at the last step at which it was measured."""
    train_loss: float | None
    """The mean training loss around the kept step."""
    gap: float | None
    """Validation minus training loss there."""
    copying: Copying | None
    """Null where it was not measured."""
    sentence: str
    """All of it for a person."""


class CurvePoint(Part):
    """One model of the learning curve."""

    examples: int
    """Training examples."""
    score: float
    """The mean score on the test rows."""
    error: float
    """Its standard error."""
    low: float
    """The fitted curve's 95 % band there."""
    high: float
    """The upper end of the band."""


class LearningCurve(Part):
    """What more data would do: models trained on parts of the data, and a curve through their scores."""

    points: list[CurvePoint]
    """From the smallest part to all of the data."""
    drawn: list[CurvePoint]
    """The fitted curve and its band between the points and beyond."""
    gain: float
    """The gain asked about, in score points."""
    answer: Literal["MORE DATA WILL HELP", "MORE DATA WILL NOT HELP", "CANNOT BE TOLD"]
    """Whether more data brings it."""
    more_examples: int | None
    """How many more the likeliest curve needs; null for without end."""
    low: int | None
    """The fewest that a curve needs which the scores do not contradict."""
    high: int | None
    """The most; null for without end."""
    sentence: str
    """All of it for a person."""


class Requirement(Part):
    """What was demanded of this report, and whether it holds."""

    expression: str
    """As in `evaluate.require`."""
    holds: bool
    """Whether it is met."""
    values: dict[str, object]
    """What each name in it stands for."""


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
    source: str = ""
    """What the row comes from, where rows share a source."""
    trained_on: str = ""
    """How the row is like one of the training or validation data, and so takes no part in the verdict: `duplicate`,
    `near-duplicate` or `same-prompt`; else empty."""


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
    mid_p: float | None = None
    """The mid-p-value of McNemar's test, less cautious than the exact one; it decides nothing."""
    clusters: int | None = None
    """Sources that the rows come from, where rows share one; null where they were taken as independent."""
    cluster_key: str = ""
    """What makes rows share a source."""
    correlation: float | None = None
    """How alike the differences of one source's rows are, from 0 to 1."""
    design_effect: float | None = None
    """How many rows are worth one because of it."""
    samples: int = 1
    """Answers a row of each model; a row's score is their mean."""
    noise: SamplingNoise | None = None
    """Where each row was answered several times."""
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
    table: ModelTable | None = None
    """The base and the fine-tuned model beside what one would try first, where others answered, too."""
    unscored_reasons: dict[str, dict[str, int]] = {}
    """Why answers could not be scored and how often, by model."""
    confusion: ConfusionTable | None = None
    """Where answers are labels."""
    fields: list[FieldRow] = []
    """Where answers are JSON: the score of each field, the most expected first."""
    isolation: str = ""
    """How far a grader's own code was kept apart from this machine; empty where none was run."""
    contamination: Contamination | None = None
    """Test rows that stand in the training data."""
    shape: AnswerShape | None = None
    """Whether answers look like those trained on."""
    overfitting: Overfitting | None = None
    """Whether training went on for too long, in a run."""
    forgetting: Forgetting | None = None
    """What the fine-tuned model has lost of what the base knew."""
    curve: LearningCurve | None = None
    """What more data would do, where it was asked for."""
    requirement: Requirement | None = None
    """What was demanded of this report."""
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
