"""What an evaluation judges: a base, its adapter, and the rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from luthier.advise.hyperparameters import max_new_tokens
from luthier.data.chat import Example
from luthier.errors import EvaluateError
from luthier.model.loader import LoadedModel, model_shape
from luthier.model.lora import Adapter
from luthier.recipe import Recipe
from luthier.report.schema import DataSummary, TrainingSummary
from luthier.stages.opening import OpenedModel, load_opened, weights_identity
from luthier.stages.reading import method_of, read_checked
from luthier.train.encode import Encoded, RowStream, encode_rows


@dataclass(frozen=True)
class Subject:
    """What is judged, and on what.

    Attributes:
        recipe: with `evaluate.max_new_tokens` resolved.
        adapter_folder: its files.
        train_examples: what it was trained on; None where that is not known.
        validation_examples: what its best epoch was chosen by.
        test: the rows to judge on.
        data, training: of the run, or None for an adapter from elsewhere.
        notes: what the reader of the verdict must know already.
    """

    recipe: Recipe
    model: LoadedModel
    adapter: Adapter
    adapter_folder: Path
    train_examples: Sequence[Example] | None
    validation_examples: Sequence[Example]
    test: Encoded[Any]
    data: DataSummary | None
    training: TrainingSummary | None
    notes: list[str]

    @property
    def kept_apart(self) -> bool:
        """Whether the test rows were split from the training rows, rather than given."""
        return self.data is not None and self.recipe.data.test is None

    @cached_property
    def identity(self) -> str:
        """What the answers of both models depend on."""
        model = self.recipe.model
        return weights_identity(model.base, self.model.dtype, model.quantization, self.adapter_folder)


def open_subject(opened: OpenedModel, examples: Sequence[Example], *, own_rows: bool) -> Subject:
    """Returns an adapter on disk as something to judge on these rows.

    Args:
        opened: with an adapter.
        examples: the test rows.
        own_rows: whether they are the run's own test rows, so that its data and training belong in the report.

    Raises:
        DataError: a row is too long and is not to be dropped.
        EvaluateError: there is no adapter.
    """
    if opened.adapter is None:
        raise EvaluateError("A base model alone has nothing to be compared with.", code="not_fine_tuned", param="model")
    recipe, shape = opened.recipe, model_shape(opened.base)
    model, adapter = load_opened(opened)
    assert adapter is not None
    length = shape.context_length if recipe.model.max_length == "auto" else recipe.model.max_length
    drop = recipe.data.on_too_long == "drop"
    test = encode_rows(model.chat, examples, method=method_of(examples)[0], max_length=length, drop_too_long=drop)
    rows = {name: _rows_of(opened, name) for name in ("train", "validation")}
    if recipe.evaluate.max_new_tokens == "auto":
        known = rows["train"] or examples
        encoded = RowStream(model.chat, known, method="supervised", max_length=length, drop_too_long=True)
        tokens = max_new_tokens(max(row.last_answer_tokens for row in encoded))[0]
        recipe = recipe.model_copy(update={"evaluate": recipe.evaluate.model_copy(update={"max_new_tokens": tokens})})
    stage = opened.run.stage("train") if opened.run and own_rows else None
    return Subject(
        recipe=recipe,
        model=model,
        adapter=adapter,
        adapter_folder=opened.adapter,
        train_examples=rows["train"] or None,
        validation_examples=rows["validation"],
        test=test,
        data=DataSummary(**stage["data"]) if stage else None,
        training=TrainingSummary(**stage["summary"]) if stage else None,
        notes=stage["notes"] if stage else [],
    )


def _rows_of(opened: OpenedModel, name: str) -> Sequence[Example]:
    file = opened.run.data / f"{name}.jsonl" if opened.run else None
    return read_checked(file) if file and file.exists() and file.stat().st_size else []
