"""The one typed description of a run.

The text under each field is the only place an option is described: `--help`, the reference pages and the JSON schema are
made from it. `auto` stands for a value that a rule resolves to a number before the first step (`luthier.advise`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from luthier.recipe_graders import GraderDefinition, GraderName, needs_database, needs_judge, read_grader

Auto = Literal["auto"]
Count = Annotated[int, Field(ge=1)]
Baseline = Literal["few-shot", "retrieved"]
Share = Annotated[float, Field(ge=0, le=0.8)]


class Section(BaseModel):
    """A frozen part of a recipe that rejects unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True)


class DataRecipe(Section):
    """What to learn from."""

    train: str | None = None
    """The examples: a JSONL file in OpenAI's chat format."""
    validation: str | None = None
    """A separate validation file. Without it, a share of the examples is held out."""
    test: str | None = None
    """A separate test file. Without it, a share of the examples is held out."""
    validation_share: Share = 0.1
    """The share of examples held out for choosing the best epoch, where there is no validation file."""
    test_share: Share = 0.1
    """The share of examples held out for the verdict, where there is no test file."""
    on_invalid: Literal["stop", "drop"] = "stop"
    """What to do with a row that is broken: `stop` before any training, or `drop` it, counted and listed in
    `data/rejected.jsonl`."""
    on_too_long: Literal["stop", "drop"] = "stop"
    """What to do with a row longer than `model.max_length`: `stop`, or `drop` it, counted and listed. A row is never
    cut."""
    on_overlap: Literal["drop", "stop", "keep"] = "drop"
    """What to do with a training row that a separate validation or test file holds too (equal, nearly equal, or the
    same opening user message): `drop` it from training, counted and listed, `stop`, or `keep` it, and the report says
    that the score cannot be trusted."""
    max_train: Count | None = None
    """Train on this many examples at most, chosen by the seed. The report says that the run was shortened."""


class ModelRecipe(Section):
    """What to start from."""

    base: str = "smollm2-135m"
    """The base model: a name from `luthier models list`, a folder in Hugging Face's layout, or a hub id."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """What computes: the processor, or an Nvidia or AMD GPU (`cuda`). `auto`: a GPU where torch can use one."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """The type of the frozen weights and their products. `auto`: bfloat16 where the device multiplies it natively,
    else float32. The adapter is float32 always."""
    quantization: Literal["none", "nf4", "int8"] = "none"
    """How the frozen weights of linear layers are held: as they are, in 4 bits (`nf4`, QLoRA: well under half the memory)
    or in 8 (`int8`). They are turned back for each product, which takes some time. The output head and the embedding
    stay as they are."""
    max_length: Count | Auto = "auto"
    """The longest example in tokens. `auto`: the model's own context."""


class AdapterRecipe(Section):
    """What is trained, in PEFT's words."""

    method: Literal["lora", "full"] = "lora"
    """`lora`: small matrices beside the frozen weights of linear layers. `full`: every weight of the model; four times
    the memory of its weights and more, a whole model as the result, and the other keys of this section must be left out."""
    start_from: str | None = None
    """The folder of an adapter to go on from: its weights, and its shape where this section does not give one. What is
    given must be the adapter's. Its optimizer is not taken over; to go on with an interrupted run, use `--resume`."""
    r: Count | Auto = "auto"
    """The rank of the two adapter matrices. `auto`: 16."""
    lora_alpha: Annotated[float, Field(gt=0)] | Auto = "auto"
    """The adapter's product is scaled by `lora_alpha / r`. `auto`: twice the rank; 8 with `use_rslora`."""
    use_rslora: bool = False
    """Scale the adapter's product by `lora_alpha / √r` instead (rank-stabilised LoRA), so that large ranks learn, too."""
    use_dora: bool = False
    """Train the length of each row of the adapted weights apart from its direction (DoRA). Often a little better at small
    ranks; slower, and more memory."""
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The probability of dropping an input of the adapter during training."""
    target_modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """The linear layers that get an adapter: `all-linear` (all but the output head) or a list of names such as
    `[q_proj, v_proj]`."""
    layers_to_transform: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    """The numbers of the decoder layers that get an adapter, from 0, such as `[20, 21, 22, 23]`; null for all."""
    modules_to_save: tuple[str, ...] = ()
    """Modules that are trained whole beside the adapter and saved with it: all whose names end in one of these, such as
    `[embed_tokens, lm_head]` for new words, or `[norm]`. Trained in float32. Copies of tied weights are not tied."""


class TrainRecipe(Section):
    """How to train."""

    method: Literal["auto", "supervised", "dpo"] = "auto"
    """What is learned: `supervised`, the answers of chat rows; `dpo`, which answer of preference rows is the better one
    (direct preference optimisation). `auto`: by what the rows are."""
    dpo_beta: Annotated[float, Field(gt=0)] = 0.1
    """How strongly DPO holds the model to its base; smaller values let it go further."""
    n_epochs: Annotated[int, Field(ge=1, le=50)] | Auto = "auto"
    """Passes over the training examples. `auto`: 3, more for few examples, fewer for very many."""
    learning_rate: Annotated[float, Field(gt=0, lt=1)] | Auto = "auto"
    """The peak learning rate. `auto`: by the model's width; rates for full fine-tuning teach an adapter nothing."""
    batch_size: Count | Auto = "auto"
    """Examples a step. `auto`: 4, 8 or 16 by the number of examples."""
    max_batch_tokens: Count = 4096
    """Tokens computed at once. A batch with more is computed in parts whose gradients add up to the same step. Where
    memory runs out, it is halved, which is said, and the step is taken again."""
    shard: bool | None = None
    """Whether several processes hold the frozen weights of the decoder's layers together, each an equal part, and gather them
    layer by layer: less memory and more time. Null: where the base takes more than half of the memory that each process has
    free, which each start decides anew. One process alone holds all of it."""
    max_activation_mb: Count | Auto = "auto"
    """Memory, in megabytes, for what one part of a batch keeps for its backward pass. A larger part keeps the input of each
    layer alone and computes the rest again (activation checkpointing): up to a third more work, the same bits. `auto`: an
    eighth of the memory that is free, at least 512. Models that transformers computes, not Luthier's decoder, keep all."""
    length_window: Count = 1
    """The rows of this many steps are sorted by length, so that a step's rows are alike, and the steps are shuffled again.
    1 leaves which rows meet in a step to chance. More makes steps a few percent faster and the fine-tuned model worse:
    on short rows whose length goes with what they ask for, the validation loss rose by 8 percent."""
    replay: str | None = None
    """A file of general chat examples to mix in, so that the model forgets less of what it knew."""
    replay_share: Annotated[float, Field(gt=0, le=0.5)] = 0.1
    """The share of each epoch's rows that are taken from `replay`, each of them once before any is taken again."""
    neftune_noise_alpha: Annotated[float, Field(gt=0)] | None = None
    """The strength of noise on the embeddings of the rows that are trained on, drawn anew in each step (NEFTune); it can make
    answers less literal where there are few examples. Its authors try 5, 10 and 15. Null turns it off."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate falls after the warm-up."""
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """The share of all steps over which the learning rate rises from zero."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """AdamW's decoupled weight decay; norms and biases that are trained whole have none."""
    max_grad_norm: Annotated[float, Field(gt=0)] | None = 1.0
    """Gradients with a larger norm are scaled down to it; null turns this off."""
    early_stopping_patience: Count | None = 2
    """Stop after this many epochs without a lower validation loss; null turns this off. The best epoch is kept either
    way."""
    max_steps: Count | None = None
    """Stop after this many steps. The report says that the run was shortened."""
    checkpoint_every_s: Annotated[float, Field(ge=0)] = 60.0
    """Seconds between checkpoints inside an epoch; 0 writes one after each step. A checkpoint is also written after
    each epoch, and when stopped. It is written in the course of the next step, when its adapter has computed a sound
    loss, so that the last checkpoint is never one of a training gone wrong."""


class EvaluateRecipe(Section):
    """How to judge."""

    grader: GraderName | GraderDefinition = "auto"
    """How an answer is scored: a name (`auto` chooses by what the training answers look like), a file with an OpenAI grader
    as JSON or with a Python function `grade(sample, item)`, or such a definition itself. What a file holds stands in the
    run's recipe from then on."""
    judge: Annotated[str, Field(min_length=1)] | None = None
    """The model that `label_model`, `score_model` and `pairwise` ask: a service's, as `openai:gpt-4.1-mini` or
    `http://localhost:8000/v1#model`, or a local one by name or folder. Keys to services are read from the environment alone.
    What it said stands in the run folder (`judge.jsonl`), and is not asked again."""
    judge_concurrency: Count = 8
    """Questions to the judge that are under way at a time."""
    judge_labels: str | None = None
    """A file of answers that people labelled right or wrong, one `{"id" or "item", "answer", "label"}` a line. From 50 on
    the share that the judge passes is corrected for its mistakes; without, it is marked as uncalibrated."""
    concurrency: Count = 8
    """Questions that are under way at a time at a service whose model is compared."""
    database: str | None = None
    """A SQLite file to run queries on, for reading only: `auto` then has answers that are SQL compared by the rows that
    they give, and `sql` needs it."""
    max_samples: Count | None = None
    """Judge on this many test rows at most, chosen by the seed. The report says that the run was shortened."""
    max_new_tokens: Count | Auto = "auto"
    """The longest answer in tokens. `auto`: half as long again as the longest training answer, at least 32. Answers
    that reach it are counted."""
    batch_size: Count = 32
    """Answers generated side by side."""
    samples: Count = 1
    """Answers a row of each model: one, the likeliest; or several, drawn at `temperature`. Then a row's score is their mean,
    and the report says how much of the uncertainty is the answers' and how much the rows'."""
    temperature: Annotated[float, Field(gt=0, le=2)] = 1.0
    """What several answers a row are drawn at; 1 is the model's own distribution."""
    cluster: str = "like-rows"
    """What makes test rows share a source, so that they are not counted as independent: `like-rows`, nearly equal rows and
    rows that share a user message; a key of the rows or of their `metadata`, such as `document`; or `none`."""
    baselines: tuple[Baseline, ...] = ("few-shot", "retrieved")
    """What is compared besides: the base with training examples in its prompt, `few-shot` the same for all rows, `retrieved`
    the most similar ones for each (BM25). How many is chosen by the loss on the validation rows. `[]` for none."""
    against: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Further models in the table: a service's, as `openai:gpt-4.1-mini` or `http://localhost:8000/v1#model`, or a local one
    by its run folder, adapter folder, folder or name. A service is asked each row once, also after an interruption."""
    probe: Annotated[str, Field(min_length=1)] = "builtin"
    """What is asked to see what training made the model forget: `builtin`, the general probe that is shipped; a file or
    folder of your own (docs/forgetting.md); or `none`."""
    minimum_gain: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """The smallest gain worth having. A test that could not have shown it is called UNDERPOWERED, not NO DIFFERENCE
    SHOWN."""
    require: Annotated[str, Field(min_length=1, max_length=2_000)] | None = None
    """What the report must fulfil, such as `difference.low > 0 and probe.verdict == 'OK'`: a condition over its values
    (docs/report.md), checked before anything is trained. `luthier run` and `luthier evaluate` then exit with 0 where it holds
    and 1 where it does not, whatever the verdict."""

    @field_validator("grader", mode="before")
    @classmethod
    def _read_grader(cls, given: Any) -> Any:
        return read_grader(given)

    @field_validator("judge")
    @classmethod
    def _is_there_for_models(cls, judge: str | None, given: ValidationInfo) -> str | None:
        if judge is None and (kind := needs_judge(given.data.get("grader"))):
            raise PydanticCustomError(
                "grader",
                "the grader {kind} asks a model: give one, such as openai:gpt-4.1-mini, http://localhost:8000/v1#MODEL, or a "
                "local model's name or folder",
                {"kind": kind},
            )
        return judge

    @field_validator("database")
    @classmethod
    def _is_there_for_sql(cls, database: str | None, given: ValidationInfo) -> str | None:
        if database is None and needs_database(given.data.get("grader")):
            raise PydanticCustomError("grader", "the grader sql needs a SQLite file to run queries on", {})
        return database


class OutputRecipe(Section):
    """Where to write."""

    dir: str | None = None
    """The run folder. Without it, a new folder under `runs/`."""


class Recipe(Section):
    """A run, whole: what goes in, what is done, what comes out."""

    data: DataRecipe = DataRecipe()
    model: ModelRecipe = ModelRecipe()
    adapter: AdapterRecipe = AdapterRecipe()
    train: TrainRecipe = TrainRecipe()
    evaluate: EvaluateRecipe = EvaluateRecipe()
    output: OutputRecipe = OutputRecipe()
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1
    """Decides the split, the order of rows, the adapter's first values and its dropout. Same inputs and seed, same
    bytes."""
