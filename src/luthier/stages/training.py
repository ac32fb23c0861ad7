"""The training of a run: tokens, resolved values, adapter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson
import torch

from luthier.advise.hyperparameters import Choice, Facts, resolve
from luthier.data.chat import Example
from luthier.data.findings import RejectedRow
from luthier.data.split import write_rejected
from luthier.errors import DataError, RecipeError
from luthier.model.adapter import adapter_shape, save_adapter, start_adapter, weights_file, write_chat_template
from luthier.model.chat_template import ChatTokenizer
from luthier.model.loader import LoadedModel, load_model, model_shape, num_parameters, resolve_dtype, versions
from luthier.model.lora import Adapter, LoraConfig
from luthier.model.sources import resolve_model
from luthier.recipe import AdapterRecipe, Recipe
from luthier.recipe_io import dump_recipe, recipe_hash
from luthier.report.schema import DataSummary, LossPoint, TrainingSummary
from luthier.runs import Event, Listener, RunFolder, read_lines, sha256_file, write_atomically
from luthier.stages.preparing import Prepared, method_of
from luthier.stages.stopping import stop_switch
from luthier.train.checkpoint import Progress, has_checkpoint
from luthier.train.encode import Encoded, encode_examples, encode_pairs
from luthier.train.loop import train
from luthier.train.objective import ANSWERS, Objective
from luthier.train.preference import Preferences, Start, refer
from luthier.train.settings import TrainSettings


@dataclass(frozen=True, slots=True)
class Trained:
    """A model with its adapter at its best, ready to be judged.

    Attributes:
        recipe: with every `auto` resolved.
        test: the test rows as the model sees them.
        notes: what the reader of the verdict must know.
    """

    recipe: Recipe
    model: LoadedModel
    adapter: Adapter
    summary: TrainingSummary
    data: DataSummary
    train_examples: list[Example]
    test: Encoded[Any]
    notes: list[str]


@dataclass(frozen=True, slots=True)
class _Tokens:
    """The three sides as token ids: conversations, or pairs of them."""

    train: Encoded[Any]
    validation: Encoded[Any]
    test: Encoded[Any]

    @property
    def rejected(self) -> list[RejectedRow]:
        return [*self.train.rejected, *self.validation.rejected, *self.test.rejected]


def train_stage(run: RunFolder, recipe: Recipe, prepared: Prepared, listener: Listener) -> Trained:
    """Trains the run's adapter, going on from its last checkpoint where there is one, and saves it in PEFT's format.

    Raises:
        LuthierError: what cannot be resolved, tokenized or trained; see `luthier.errors`.
        Interrupted: a stop was asked for; a checkpoint was written.
    """
    # The number of threads decides the order in which sums are taken: a resumed run keeps the first one's.
    torch.set_num_threads(run.read_manifest().get("threads", torch.get_num_threads()))
    listener(Event("stage", f"Loading the base model {recipe.model.base}"))
    folder = resolve_model(recipe.model.base, listener)
    chat = ChatTokenizer(folder)
    tokens = _tokenize(chat, recipe, prepared, model_shape(folder).context_length)
    # What was auto is resolved once: a resumed run's recipe has no auto left.
    resumed = "threads" in run.read_manifest()
    recipe, choices = (recipe, []) if resumed else _resolve(recipe, folder, tokens)
    _note_before_first_step(run, recipe, choices, folder, tokens, listener)

    model = load_model(folder, recipe.model.dtype, chat, quantization=recipe.model.quantization)  # type: ignore[arg-type]
    started = _start_folder(run, recipe)
    adapter = start_adapter(model.network, lora_config(recipe), seed=recipe.seed, start_from=started)
    trainable, everything = num_parameters(model.network)
    line = f"trainable params: {trainable:,} || all params: {everything:,} || trainable%: {100 * trainable / everything:.4f}"
    listener(Event("message", line, {"trainable": trainable, "all": everything}))

    settings = TrainSettings.from_recipe(recipe.train, seed=recipe.seed)
    with stop_switch(listener) as stop_requested:
        steps = settings.total_steps(len(tokens.train.encoded))
        listener(Event("stage", f"Training, {steps} steps", {"total_steps": steps}))
        start: Start = "new" if recipe.adapter.start_from is None else "earlier" if started else "lost"
        rows, objective = _objective(run, recipe, model, adapter, tokens, start, listener, stop_requested)
        progress = train(
            model,
            adapter,
            rows["train"],
            rows["validation"],
            settings,
            run,
            listener=listener,
            objective=objective,
            stop_requested=stop_requested,
        )
    save_adapter(adapter, run.adapter, base=str(folder))
    write_chat_template(run.adapter, chat.chat_template)
    listener(Event("message", f"The adapter of step {progress.best_step} lies in {run.adapter}"))
    steps_an_epoch = settings.steps_an_epoch(len(tokens.train.encoded))
    summary = TrainingSummary(
        steps=progress.step,
        epochs=round(progress.step / steps_an_epoch, 2),
        best_step=progress.best_step,
        best_valid_loss=progress.best_valid_loss,
        stopped_early=progress.stopped_early,
        seconds=round(progress.seconds, 1),
        trainable_parameters=trainable,
        all_parameters=everything,
        trained_tokens=progress.trained_tokens,
        loss_curve=loss_curve(run, progress.base_valid_loss),
    )
    lengths = [len(row) for row in tokens.train.encoded]
    facts = {
        "mean_tokens": round(sum(lengths) / len(lengths), 1),
        "longest_tokens": max(lengths),
        "train": len(lengths),
        "validation": len(tokens.validation.encoded),
        "test": len(tokens.test.encoded),
    }
    data = prepared.summary.model_copy(update=facts)
    notes = _notes(run, settings, progress, steps_an_epoch)
    run.finish_stage(
        "train",
        progress.seconds,
        summary=summary.model_dump(),
        data=data.model_dump(),
        notes=prepared.notes + notes,
    )
    return Trained(recipe, model, adapter, summary, data, tokens.train.examples, tokens.test, notes)


def _notes(run: RunFolder, settings: TrainSettings, progress: Progress, steps_an_epoch: int) -> list[str]:
    notes = []
    planned = settings.n_epochs * steps_an_epoch
    if settings.max_steps is not None and settings.max_steps < planned:
        notes.append(f"Shortened: {progress.step:,} of {planned:,} steps were taken (train.max_steps).")
    if too_long := run.read_manifest().get("num_too_long"):
        notes.append(f"{too_long:,} rows longer than model.max_length were left out (data.on_too_long=drop).")
    return notes


def lora_config(recipe: Recipe) -> LoraConfig | None:
    """Returns the adapter's configuration of a resolved recipe; None for full fine-tuning.

    Raises:
        RecipeError: full fine-tuning, and a key that only an adapter has.
    """
    adapter = recipe.adapter
    if adapter.method == "full":
        given = [key for key, value in adapter if key != "method" and value != AdapterRecipe.model_fields[key].default]
        if given:
            raise RecipeError(
                f"adapter.{given[0]} is given, but adapter.method=full trains every weight and has no adapter.",
                code="not_with_full",
                param=f"adapter.{given[0]}",
                hint="Leave out all other keys of the section adapter, or set adapter.method=lora.",
            )
        return None
    return LoraConfig(
        r=int(adapter.r),
        lora_alpha=float(adapter.lora_alpha),
        lora_dropout=adapter.lora_dropout,
        target_modules=adapter.target_modules,
        use_rslora=adapter.use_rslora,
        use_dora=adapter.use_dora,
        layers_to_transform=adapter.layers_to_transform,
        modules_to_save=adapter.modules_to_save,
    )


def _start_folder(run: RunFolder, recipe: Recipe) -> Path | None:
    """Returns the adapter that training starts from; None where there is none, or where it is gone and a checkpoint holds
    what became of it."""
    if recipe.adapter.start_from is None:
        return None
    folder = Path(recipe.adapter.start_from)
    return folder if folder.exists() or not has_checkpoint(run.checkpoints) else None


def _objective(
    run: RunFolder,
    recipe: Recipe,
    model: LoadedModel,
    adapter: Adapter,
    tokens: _Tokens,
    start: Start,
    listener: Listener,
    stop_requested: Callable[[], bool],
) -> tuple[dict[str, list[Any]], Objective[Any]]:
    """Returns the training and validation rows, and the loss that is made smaller on them."""
    sides = {"train": tokens.train.encoded, "validation": tokens.validation.encoded}
    if recipe.train.method != "dpo":
        return sides, ANSWERS
    manifest = run.read_manifest()
    weights = manifest["base_model_sha256"], manifest.get("started_from_sha256")
    referred = refer(
        model,
        adapter,
        sides,
        run,
        base=orjson.dumps([weights, model.dtype, recipe.model.quantization], option=orjson.OPT_SORT_KEYS).decode(),
        max_tokens=recipe.train.max_batch_tokens,
        listener=listener,
        start=start,
        stop_requested=stop_requested,
    )
    return dict(referred), Preferences(recipe.train.dpo_beta)


def loss_curve(run: RunFolder, base_valid_loss: float | None) -> list[LossPoint]:
    """Returns the losses in `metrics.jsonl`, with the validation loss before training as step 0."""
    start = [LossPoint(step=0, epoch=0.0, valid_loss=base_valid_loss)] if base_valid_loss is not None else []
    return start + [
        LossPoint(step=m["step"], epoch=m["epoch"], train_loss=m["train_loss"], valid_loss=m.get("valid_loss"))
        for m in read_lines(run.metrics)
    ]


def _tokenize(chat: ChatTokenizer, recipe: Recipe, prepared: Prepared, context_length: int) -> _Tokens:
    max_length = context_length if recipe.model.max_length == "auto" else recipe.model.max_length
    if max_length > context_length:
        raise RecipeError(
            f"model.max_length={max_length:,} is longer than the model's context of {context_length:,} tokens.",
            code="invalid_value",
            param="model.max_length",
            hint=f"At most {context_length}.",
        )
    drop = recipe.data.on_too_long == "drop"
    split = prepared.split
    encode = encode_pairs if method_of(split.train)[0] == "dpo" else encode_examples
    tokens = _Tokens(
        *(
            encode(chat, rows, max_length=max_length, drop_too_long=drop)
            for rows in (split.train, split.validation, split.test)
        )
    )
    if not tokens.train.encoded:
        raise DataError(
            f"No training row has at most {max_length:,} tokens.",
            code="no_training_rows",
            param="model.max_length",
            hint="Raise model.max_length, or shorten the examples.",
        )
    return tokens


def _resolve(recipe: Recipe, folder: Path, tokens: _Tokens) -> tuple[Recipe, list[Choice]]:
    shape = model_shape(folder)
    method, method_reason = method_of(tokens.train.examples)
    dtype, reason = resolve_dtype(recipe.model.dtype)
    return resolve(
        recipe,
        Facts(
            num_train=len(tokens.train.encoded),
            model_width=shape.width,
            context_length=shape.context_length,
            longest_answer_tokens=max(row.last_answer_tokens for row in tokens.train.encoded),
            dtype=dtype,
            dtype_reason=reason,
            method=method,
            method_reason=method_reason,
            started_from=adapter_shape(Path(recipe.adapter.start_from)) if recipe.adapter.start_from else {},
        ),
    )


def _note_before_first_step(
    run: RunFolder, recipe: Recipe, choices: list[Choice], folder: Path, tokens: _Tokens, listener: Listener
) -> None:
    """Writes the resolved recipe, and everything else the result depends on, once."""
    manifest = run.read_manifest()
    for choice in choices:
        listener(Event("message", f"{choice.path} = {choice.value}: {choice.rule}", asdict(choice)))
    if "threads" in manifest:
        return
    if tokens.rejected:
        write_rejected(run.data / "rejected.jsonl", tokens.rejected, append=True)
        note = (
            f"{len(tokens.rejected)} rows longer than model.max_length were left out; data/rejected.jsonl lists them."
        )
        listener(Event("warning", note))
    write_atomically(run.recipe, dump_recipe(recipe).encode())
    weights = {file.name: sha256_file(file) for file in sorted(folder.glob("*.safetensors"))}
    started = recipe.adapter.start_from
    run.write_manifest(
        manifest
        | {
            "threads": torch.get_num_threads(),
            "versions": versions(),
            "resolved": [asdict(choice) for choice in choices],
            "recipe_sha256": recipe_hash(recipe),
            "base_model_sha256": weights,
            "started_from_sha256": sha256_file(weights_file(Path(started))) if started else None,
            "num_too_long": len(tokens.rejected),
        }
    )
