"""The training of a run: tokens, resolved values, adapter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson
import torch

from luthier.advise.hyperparameters import Choice, Facts, resolve
from luthier.data.chat import Example
from luthier.data.split import write_rejected
from luthier.errors import ModelError, RecipeError
from luthier.model.adapter import adapter_shape, save_adapter, start_adapter, weights_file, write_chat_template
from luthier.model.chat_template import ChatTokenizer
from luthier.model.device import device_of, resolve_device
from luthier.model.loader import (
    LoadedModel,
    load_model,
    model_shape,
    num_parameters,
    resolve_dtype,
    versions,
    weight_bytes,
)
from luthier.model.lora import Adapter, LoraConfig
from luthier.model.memory import free_memory
from luthier.model.sources import resolve_model
from luthier.recipe import AdapterRecipe, Recipe
from luthier.recipe_io import dump_recipe, recipe_hash
from luthier.report.schema import DataSummary, LossPoint, TrainingSummary
from luthier.runs import Event, Listener, RunFolder, no_listener, read_lines, sha256_file, write_atomically
from luthier.stages.opening import read_recipe
from luthier.stages.preparing import Prepared
from luthier.stages.reading import method_of
from luthier.stages.stopping import stop_switch
from luthier.stages.tokenizing import Tokens, tokenize_stage
from luthier.train.checkpoint import Progress, has_checkpoint
from luthier.train.encode import Encoded
from luthier.train.loop import train
from luthier.train.objective import ANSWERS, Objective
from luthier.train.preference import Preferences, Start, refer
from luthier.train.process_group import threads_a_process
from luthier.train.processes import ALONE, Processes, num_beside
from luthier.train.settings import TrainSettings

COMFORTABLE = 0.5
"""A base may take this share of a process's free memory before it is split; the rest is for what a batch
keeps for its backward pass and for the adapter with its optimizer."""


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
    train_examples: Sequence[Example]
    test: Encoded[Any]
    notes: list[str]


def train_stage(
    run: RunFolder, recipe: Recipe, prepared: Prepared, listener: Listener, processes: Processes = ALONE
) -> Trained:
    """Trains the run's adapter, going on from its last checkpoint where there is one, and saves it in PEFT's format.

    Several processes call this alike; the first one writes, the others read what it wrote. All return the same.

    Raises:
        LuthierError: what cannot be resolved, tokenized or trained; see `luthier.errors`.
        Interrupted: a stop was asked for; a checkpoint was written.
    """
    listener = listener if processes.is_first else no_listener
    _set_threads(run, processes)
    listener(Event("stage", f"Loading the base model {recipe.model.base}"))
    base = recipe.model.base
    folder = processes.in_turn(lambda: resolve_model(base, listener))
    chat = ChatTokenizer(folder)
    length = model_shape(folder).context_length
    tokens = processes.in_turn(lambda: tokenize_stage(run, chat, recipe, prepared, length, listener))
    recipe = processes.in_turn(lambda: _settled(run, recipe, folder, tokens, processes, listener))

    holders = _holders(recipe, folder, processes, listener)
    dtype: Any = recipe.model.dtype
    device: Any = recipe.model.device
    model = load_model(folder, dtype, chat, quantization=recipe.model.quantization, holders=holders, device=device)
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
        rows, objective = _objective(run, recipe, model, adapter, tokens, start, listener, stop_requested, processes)
        progress = train(
            model,
            adapter,
            rows["train"],
            rows["validation"],
            settings,
            run,
            listener=listener,
            objective=objective,
            replay_rows=tokens.replay.encoded,
            stop_requested=stop_requested,
            processes=processes,
        )
    if processes.is_first:
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
    lengths = tokens.train_rows.lengths
    facts = {
        "mean_tokens": round(float(lengths.mean()), 1),
        "longest_tokens": int(lengths.max()),
        "train": len(lengths),
        "validation": len(tokens.validation.encoded),
        "test": len(tokens.test.encoded),
    }
    data = prepared.summary.model_copy(update=facts)
    notes = _notes(run, recipe, settings, progress, tokens)
    if processes.is_first:
        run.finish_stage(
            "train",
            progress.seconds,
            summary=summary.model_dump(),
            data=data.model_dump(),
            notes=prepared.notes + notes,
        )
    return Trained(recipe, model, adapter, summary, data, tokens.train.examples, tokens.test, notes)


def _notes(run: RunFolder, recipe: Recipe, settings: TrainSettings, progress: Progress, tokens: Tokens) -> list[str]:
    notes = []
    num_train = len(tokens.train.encoded)
    planned = settings.n_epochs * settings.steps_an_epoch(num_train)
    if settings.max_steps is not None and settings.max_steps < planned:
        notes.append(f"Shortened: {progress.step:,} of {planned:,} steps were taken (train.max_steps).")
    if too_long := run.read_manifest().get("num_too_long"):
        notes.append(f"{too_long:,} rows longer than model.max_length were left out (data.on_too_long=drop).")
    if replayed := settings.num_replayed(num_train):
        share = replayed / (replayed + num_train)
        notes.append(
            f"Each epoch mixed in {replayed:,} of the {len(tokens.replay.encoded):,} general rows of {recipe.train.replay}, "
            f"{share:.1%} of its rows (train.replay)."
        )
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
    what became of it.

    Raises:
        ModelError: code "start_lost" where it is gone, or another one, and no checkpoint is whole.
    """
    if recipe.adapter.start_from is None:
        return None
    folder = Path(recipe.adapter.start_from)
    weights = weights_file(folder)
    if weights.exists() and sha256_file(weights) == run.read_manifest()["started_from_sha256"]:
        return folder
    if has_checkpoint(run.checkpoints):
        return None
    raise ModelError(
        f"The adapter that this training began with, {folder}, is {'another one now' if weights.exists() else 'gone'}, and "
        f"no checkpoint in {run.checkpoints} is whole.",
        code="start_lost",
        param="adapter.start_from",
        hint="Put the adapter back as it was and resume, or start a new run.",
    )


def _objective(
    run: RunFolder,
    recipe: Recipe,
    model: LoadedModel,
    adapter: Adapter,
    tokens: Tokens,
    start: Start,
    listener: Listener,
    stop_requested: Callable[[], bool],
    processes: Processes,
) -> tuple[Mapping[str, Sequence[Any]], Objective[Any]]:
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
        processes=processes,
    )
    return referred, Preferences(recipe.train.dpo_beta)


def loss_curve(run: RunFolder, base_valid_loss: float | None) -> list[LossPoint]:
    """Returns the losses in `metrics.jsonl`, with the validation loss before training as step 0."""
    start = [LossPoint(step=0, epoch=0.0, valid_loss=base_valid_loss)] if base_valid_loss is not None else []
    return start + [
        LossPoint(step=m["step"], epoch=m["epoch"], train_loss=m["train_loss"], valid_loss=m.get("valid_loss"))
        for m in read_lines(run.metrics)
    ]


def _set_threads(run: RunFolder, processes: Processes) -> None:
    """Sets how many threads compute.

    It decides the order in which sums are taken, so a run that is resumed by as many processes keeps it.
    """
    manifest = run.read_manifest()
    if "threads" in manifest and manifest.get("processes", 1) == processes.size:
        torch.set_num_threads(manifest["threads"])
    elif processes.size > 1:
        torch.set_num_threads(threads_a_process())


def _holders(recipe: Recipe, folder: Path, processes: Processes, listener: Listener) -> Processes | None:
    """Returns the processes if they are to hold the base together, each a part.

    Raises:
        RecipeError: that is asked for, and the base cannot be split.
    """
    if processes.size == 1 or recipe.train.shard is False:
        return None
    obstacles = {
        "model.quantization": recipe.model.quantization != "none",
        "adapter.method": recipe.adapter.method == "full",
        "adapter.modules_to_save": bool(recipe.adapter.modules_to_save),
    }
    param = next((param for param, given in obstacles.items() if given), None)
    if param is not None:
        if recipe.train.shard is True:
            raise RecipeError(
                f"train.shard=true splits a base whose weights are frozen and as they are in their files; {param} is given.",
                code="not_with_shard",
                param="train.shard",
                hint="Set train.shard=false, or leave the other key out.",
            )
        return None
    needed, free = weight_bytes(folder, recipe.model.dtype), free_memory(torch.device("cpu")) // num_beside()
    if recipe.train.shard is None and not processes.any(needed > free * COMFORTABLE):
        return None
    text = (
        f"The base takes {needed / 1e9:.1f} GB, and each process has {free / 1e9:.1f} GB free: its layers are split over "
        f"{processes.size} processes and gathered one by one."
    )
    listener(Event("message", text, {"sharded_over": processes.size}))
    return processes


def _settled(
    run: RunFolder, recipe: Recipe, folder: Path, tokens: Tokens, processes: Processes, listener: Listener
) -> Recipe:
    """Returns the recipe with every `auto` resolved. That is done once: a resumed run's has none left."""
    if "threads" in run.read_manifest():
        return read_recipe(run)
    recipe, choices = _resolve(recipe, folder, tokens)
    _note_before_first_step(run, recipe, choices, folder, tokens, processes, listener)
    return recipe


def _resolve(recipe: Recipe, folder: Path, tokens: Tokens) -> tuple[Recipe, list[Choice]]:
    shape = model_shape(folder)
    method, method_reason = method_of(tokens.train.examples)
    device, device_reason = resolve_device(recipe.model.device)
    dtype, reason = resolve_dtype(recipe.model.dtype, device)
    return resolve(
        recipe,
        Facts(
            num_train=len(tokens.train.encoded),
            model_width=shape.width,
            context_length=shape.context_length,
            longest_answer_tokens=tokens.train_rows.longest_answer_tokens,
            device=device,
            device_reason=device_reason,
            dtype=dtype,
            dtype_reason=reason,
            free_bytes=free_memory(device_of(device)) // (num_beside() if device == "cpu" else 1),
            method=method,
            method_reason=method_reason,
            started_from=adapter_shape(Path(recipe.adapter.start_from)) if recipe.adapter.start_from else {},
        ),
    )


def _note_before_first_step(
    run: RunFolder,
    recipe: Recipe,
    choices: list[Choice],
    folder: Path,
    tokens: Tokens,
    processes: Processes,
    listener: Listener,
) -> None:
    """Writes the resolved recipe, and everything else the result depends on, once."""
    manifest = run.read_manifest()
    for choice in choices:
        listener(Event("message", f"{choice.path} = {choice.value}: {choice.rule}", asdict(choice)))
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
            "processes": processes.size,
            "versions": versions(),
            "resolved": [asdict(choice) for choice in choices],
            "recipe_sha256": recipe_hash(recipe),
            "base_model_sha256": weights,
            "started_from_sha256": sha256_file(weights_file(Path(started))) if started else None,
            "num_too_long": len(tokens.rejected),
        }
    )
