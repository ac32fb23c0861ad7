"""Five of OpenAI's kinds of grader as its API has them; the sixth, `multi`, is made of the others.

Source: OpenAI's API description, `GraderStringCheck`, `GraderTextSimilarity`, `GraderPython`, `GraderScoreModel`,
`GraderLabelModel` and their `EvalGrader…` forms, and the graders guide.
"""

from __future__ import annotations

import ast
import warnings
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from luthier.recipe_graders.base import Definition, Frozen, TemplateText

MAX_SOURCE_BYTES = 256_000
"""The longest source of a `python` grader. Source: OpenAI's graders guide, "Technical constraints"."""

Labels = Annotated[tuple[str, ...], Field(min_length=1)]


class StringCheckDefinition(Definition):
    """OpenAI's `string_check`: 1 where the operation holds, else 0."""

    type: Literal["string_check"]
    """The kind of grader."""
    input: TemplateText
    """The text that is looked at, a template."""
    reference: TemplateText
    """What it is compared with, a template."""
    operation: Literal["eq", "ne", "like", "ilike"]
    """`eq` and `ne`: is or is not the reference; `like` and `ilike`: contains it, the latter in any case."""

    @field_validator("operation", mode="before")
    @classmethod
    def _spelled_as_in_the_guide(cls, operation: Any) -> Any:
        """The API description says `ne`, the guide `neq`."""
        return "ne" if operation == "neq" else operation


class TextSimilarityDefinition(Definition):
    """OpenAI's `text_similarity`: how like two texts are, from 0 to 1."""

    type: Literal["text_similarity"]
    """The kind of grader."""
    input: TemplateText
    """The text that is graded, a template."""
    reference: TemplateText
    """The text that it is graded against, a template."""
    evaluation_metric: Literal[
        "cosine",
        "fuzzy_match",
        "bleu",
        "gleu",
        "meteor",
        "rouge_1",
        "rouge_2",
        "rouge_3",
        "rouge_4",
        "rouge_5",
        "rouge_l",
    ]
    """The measure of likeness."""
    pass_threshold: float | None = None
    """The score from which an answer passes; the share that passes is reported beside the mean score."""


class PythonDefinition(Definition):
    """OpenAI's `python`: a function `grade(sample, item)` of one's own, run in a process of its own."""

    type: Literal["python"]
    """The kind of grader."""
    source: str
    """The source, below 256 kB, with a function `grade(sample, item)` that returns a number."""
    image_tag: str | None = None
    """OpenAI's image; here the packages are those of Luthier's own environment."""
    pass_threshold: float | None = None
    """The score from which an answer passes; the share that passes is reported beside the mean score."""

    @field_validator("source")
    @classmethod
    def _has_grade(cls, source: str) -> str:
        size = len(source.encode("utf-8", "surrogatepass"))
        if size > MAX_SOURCE_BYTES:
            raise ValueError(f"the source has {size:,} bytes; at most {MAX_SOURCE_BYTES:,} are allowed")
        try:
            with warnings.catch_warnings(action="ignore"):
                tree = ast.parse(source, "grader.py")
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            line = f" in line {error.lineno}" if isinstance(error, SyntaxError) else ""
            raise ValueError(f"the source is not Python{line}: {error}") from None
        if not any("grade" in _names(node) for node in tree.body):
            raise ValueError("the source has no function grade(sample, item)")
        return source


class SamplingParameters(Frozen):
    """How a model that judges is asked."""

    seed: int | None = None
    """The seed of its sampling."""
    top_p: float | None = None
    """The share of probability that is sampled from."""
    temperature: float | None = None
    """The temperature; 0 for the likeliest answer."""
    max_completions_tokens: int | None = Field(default=None, ge=1)
    """The longest answer in tokens."""
    reasoning_effort: str | None = None
    """How much a reasoning model thinks."""

    @model_validator(mode="before")
    @classmethod
    def _other_spellings(cls, given: Any) -> Any:
        """The guide's examples and the chat API spell the limit of tokens in other ways."""
        if isinstance(given, dict):
            for spelling in ("max_tokens", "max_completion_tokens"):
                if spelling in given and "max_completions_tokens" not in given:
                    given = {**given, "max_completions_tokens": given[spelling]}
                    del given[spelling]
        return given


class JudgeMessage(Frozen):
    """A message to a model that judges; its content is a template."""

    role: Literal["user", "assistant", "system", "developer"]
    """Who speaks."""
    content: TemplateText
    """The text. OpenAI's text blocks are taken as well; images and sound are not."""
    type: Literal["message"] = "message"
    """The kind of item."""

    @field_validator("content", mode="before")
    @classmethod
    def _text_of_blocks(cls, content: Any) -> Any:
        blocks = content if isinstance(content, list) else [content]
        texts = []
        for block in blocks:
            kind = block.get("type") if isinstance(block, dict) else "input_text"
            text = block.get("text") if isinstance(block, dict) else block
            if kind not in ("input_text", "output_text", "text") or not isinstance(text, str):
                raise ValueError(f"a content block of type {kind!r} is not supported; text alone is")
            texts.append(text)
        return "".join(texts)


class ScoreModelDefinition(Definition):
    """OpenAI's `score_model`: a model gives a number within a range."""

    type: Literal["score_model"]
    """The kind of grader."""
    model: str
    """The model that judges."""
    input: Annotated[tuple[JudgeMessage, ...], Field(min_length=1)]
    """What it is asked."""
    range: tuple[float, float] = (0.0, 1.0)
    """The scores that it may give. Luthier reports them scaled to 0 to 1."""
    sampling_params: SamplingParameters | None = None
    """How it is asked."""
    pass_threshold: float | None = None
    """The score, within the range, from which an answer passes."""

    @field_validator("range")
    @classmethod
    def _rising(cls, ends: tuple[float, float]) -> tuple[float, float]:
        if not float("-inf") < ends[0] < ends[1] < float("inf"):
            raise ValueError("the range is two finite numbers, the smaller one first")
        return ends


class LabelModelDefinition(Definition):
    """OpenAI's `label_model`: a model gives a label, and some labels pass."""

    type: Literal["label_model"]
    """The kind of grader."""
    model: str
    """The model that judges."""
    input: Annotated[tuple[JudgeMessage, ...], Field(min_length=1)]
    """What it is asked."""
    labels: Labels
    """The labels that it may give."""
    passing_labels: Labels
    """Those that score 1."""
    sampling_params: SamplingParameters | None = None
    """How it is asked; an addition of ours."""

    @model_validator(mode="after")
    def _labels_are_known(self) -> LabelModelDefinition:
        strange = [label for label in self.passing_labels if label not in self.labels]
        if strange:
            raise ValueError(f"passing_labels has {strange[0]!r}, which is not among the labels")
        return self


def _names(node: ast.stmt) -> set[str]:
    """Returns what a statement defines: hosted graders may assign or import `grade`, too."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)} | {
        alias.asname or alias.name for alias in getattr(node, "names", []) if isinstance(alias, ast.alias)
    }
