"""Opens what a command names: a new run, a run to resume, or a model to talk to or judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from luthier.errors import RecipeError
from luthier.recipe import Recipe
from luthier.recipe_io import LoadedRecipe, dump_recipe, load_recipe, override_recipe, recipe_hash
from luthier.runs import Listener, RunFolder, sha256_file, utc_now, write_atomically

if TYPE_CHECKING:
    from luthier.model.loader import LoadedModel
    from luthier.model.lora import Adapter

Overrides = Sequence[str] | Mapping[str, Any]


def texts(overrides: Overrides) -> list[str]:
    """Returns overrides as `key.path=value` texts."""
    if isinstance(overrides, Mapping):
        return [f"{path}={orjson.dumps(value).decode()}" for path, value in overrides.items()]
    return list(overrides)


def with_overrides(recipe: LoadedRecipe | None, overrides: Overrides, **given: str | Path | None) -> LoadedRecipe:
    """Returns a recipe with overrides laid over it; `given` are paths with `__` for the dot, such as `data__train`."""
    lines = texts(overrides)
    lines += [
        f"{path.replace('__', '.')}={orjson.dumps(str(value)).decode()}" for path, value in given.items() if value
    ]
    return override_recipe(recipe, lines) if recipe else load_recipe(lines)


def new_run(loaded: LoadedRecipe, *, kind: str) -> RunFolder:
    """Makes the folder of a new run, with its recipe and the hashes of its inputs.

    Raises:
        RecipeError: an input does not exist, or the folder holds something already.
    """
    recipe = loaded.recipe
    inputs = {
        f"data.{name}": file
        for name, file in (
            ("train", recipe.data.train),
            ("validation", recipe.data.validation),
            ("test", recipe.data.test),
        )
        if file is not None
    }
    if recipe.train.replay is not None:
        inputs["train.replay"] = recipe.train.replay
    if recipe.data.train is None:
        raise RecipeError(
            "No examples were given.", code="no_data", param="data.train", hint="Name a file: luthier run DATA.jsonl"
        )
    for path, file in inputs.items():
        if not Path(file).is_file():
            what = "is a folder, not a file" if Path(file).is_dir() else "does not exist"
            raise RecipeError(f"{file} {what}.", code="no_such_file", param=path, hint="Give a JSONL file of chats.")
    run = RunFolder.create(recipe.output.dir, name=kind)
    write_atomically(run.recipe, dump_recipe(recipe).encode())
    run.write_manifest(
        {
            "kind": kind,
            "created_at": utc_now(),
            "seed": recipe.seed,
            "recipe_sha256": recipe_hash(recipe),
            "inputs": {path: {"file": str(file), "sha256": sha256_file(file)} for path, file in inputs.items()},
            "origins": {path: origin for path, origin in loaded.origins.items() if origin != "default"},
            "stages": {},
        }
    )
    return run


def resumed_run(path: str | Path, *, kind: str, overrides: Overrides) -> tuple[RunFolder, Recipe]:
    """Opens a run to go on with.

    Raises:
        RecipeError: it is no run, of another kind, its recipe is to be changed, or a file that it has not taken over yet
            has changed.
    """
    run = RunFolder.open(path)
    found = run.read_manifest()["kind"]
    if found != kind:
        raise RecipeError(
            f"{path} was made by `luthier {found}`, not `luthier {kind}`.",
            code="other_kind_of_run",
            param="resume",
            hint=f"luthier {found} --resume {path}",
        )
    if overrides:
        raise RecipeError(
            "A resumed run keeps its recipe, so that its result is that of an uninterrupted one.",
            code="recipe_is_fixed",
            param=texts(overrides)[0],
            hint="Start a new run with another --out to change values.",
        )
    if run.stage("data") is None:
        _check_inputs(run)
    return run, read_recipe(run)


def _check_inputs(run: RunFolder) -> None:
    """Refuses files that are not those that the run began with. Once its data is prepared, a run has copies of its own."""
    for param, given in run.read_manifest().get("inputs", {}).items():
        file = Path(given["file"])
        if not file.is_file() or sha256_file(file) != given["sha256"]:
            raise RecipeError(
                f"{file} is {'not what it was when this run began' if file.is_file() else 'gone'}.",
                code="input_changed",
                param=param,
                hint="Put the file back as it was, or start a new run.",
            )


def read_recipe(run: RunFolder) -> Recipe:
    """Returns the recipe of a run."""
    return load_recipe(file=run.recipe).recipe


@dataclass(frozen=True, slots=True)
class OpenedModel:
    """A model as a person names it.

    Attributes:
        recipe: the run's recipe, or the defaults, with the base model filled in.
        base: the folder of the base model.
        adapter: the folder of the adapter, or None for a base model alone.
        run: the run it came from, if any.
    """

    recipe: Recipe
    base: Path
    adapter: Path | None
    run: RunFolder | None


def open_model(name: str, overrides: Overrides, listener: Listener) -> OpenedModel:
    """Returns what a run folder, an adapter folder, a model folder or a catalog name stands for.

    Raises:
        ModelError: it stands for nothing.
        RecipeError: a run without a finished adapter.
    """
    from luthier.model.adapter import CONFIG, read_adapter_config
    from luthier.model.sources import resolve_model

    path = Path(name).expanduser()
    if (path / "manifest.json").exists():
        run = RunFolder.open(path)
        if not ((run.adapter / CONFIG).exists() or (run.adapter / "config.json").exists()):
            raise RecipeError(
                f"The run {path} has no finished adapter.",
                code="run_not_finished",
                param="model",
                hint=f"Finish it with `luthier {run.read_manifest()['kind']} --resume {path}`.",
            )
        recipe = with_overrides(LoadedRecipe(read_recipe(run), {}), overrides).recipe
        return OpenedModel(recipe, resolve_model(recipe.model.base, listener), run.adapter, run)
    if (path / CONFIG).exists():
        base = {"model.base": str(read_adapter_config(path)["base_model_name_or_path"])}
        recipe = with_overrides(LoadedRecipe(with_overrides(None, base).recipe, {}), overrides).recipe
        return OpenedModel(recipe, resolve_model(recipe.model.base, listener), path, None)
    recipe = with_overrides(None, overrides, model__base=name).recipe
    return OpenedModel(recipe, resolve_model(name, listener), None, None)


def load_opened(opened: OpenedModel) -> tuple[LoadedModel, Adapter | None]:
    """Returns a base and its adapter, where it has one, in memory."""
    from luthier.model.adapter import load_adapter
    from luthier.model.device import resolve_device
    from luthier.model.loader import load_model, resolve_dtype

    recipe = opened.recipe.model
    device, _ = resolve_device(recipe.device)
    dtype, _ = resolve_dtype(recipe.dtype, device)
    model = load_model(opened.base, dtype, quantization=recipe.quantization, device=device)
    return model, load_adapter(model.network, opened.adapter) if opened.adapter else None


def weights_identity(base: str | Path, dtype: str, quantization: str, adapter: Path | None) -> str:
    """Returns what the answers of a local model depend on: the base, how it is held, and the bytes of an adapter."""
    from luthier.model.adapter import weights_file

    return f"{base} {dtype} {quantization} {sha256_file(weights_file(adapter)) if adapter else 'none'}"
