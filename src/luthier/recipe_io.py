"""Recipes in and out: YAML, presets, `key.path=value` overrides, and where each value came from.

Order: defaults < preset < recipe file < overrides.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from luthier.errors import RecipeError
from luthier.recipe import Recipe

_LONGEST_SHOWN = 160
"""Characters of a value in a message."""


@dataclass(frozen=True, slots=True)
class LoadedRecipe:
    """A recipe and where each of its values came from.

    Attributes:
        recipe: the validated tree.
        origins: recipe path → `default`, `preset NAME`, the recipe file's name, or `command line`.
    """

    recipe: Recipe
    origins: dict[str, str]


def load_recipe(
    overrides: Sequence[str] = (), *, file: str | Path | None = None, preset: str | None = None
) -> LoadedRecipe:
    """Returns the recipe made of defaults, preset, file and `key.path=value` overrides, in that order.

    Raises:
        RecipeError: an unknown preset or key (with the nearest known one), a value of the wrong kind, unreadable YAML.
    """
    layers: list[tuple[str, dict[str, Any]]] = []
    if preset is not None:
        layers.append((f"preset {preset}", _read_preset(preset)))
    if file is not None:
        layers.append((Path(file).name, _read_yaml(Path(file))))
    layers += [("command line", parse_override(text)) for text in overrides]

    return _lay_over({}, dict.fromkeys(field_paths(), "default"), layers)


def override_recipe(loaded: LoadedRecipe, overrides: Sequence[str]) -> LoadedRecipe:
    """Returns a recipe with `key.path=value` overrides laid over it.

    Raises:
        RecipeError: as `load_recipe`.
    """
    layers = [("command line", parse_override(text)) for text in overrides]
    return _lay_over(loaded.recipe.model_dump(mode="json"), dict(loaded.origins), layers)


def _lay_over(tree: dict[str, Any], origins: dict[str, str], layers: list[tuple[str, dict[str, Any]]]) -> LoadedRecipe:
    for origin, layer in layers:
        for path, value in _leaves(layer):
            _reject_unknown(path, origin)
            _put(tree, path, value)
            origins[path] = origin
    return LoadedRecipe(validate_recipe(tree, origins), origins)


def validate_recipe(tree: Mapping[str, Any], origins: Mapping[str, str] | None = None) -> Recipe:
    """Returns the recipe of a plain tree.

    Raises:
        RecipeError: names the first path at fault, its value, what is allowed, and where the value came from.
    """
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        path = next(
            (p for p in field_paths() if p == ".".join(str(part) for part in first["loc"][: p.count(".") + 1])), ""
        )
        origin = (origins or {}).get(path, "")
        causes = "; or ".join(
            dict.fromkeys(
                e["msg"] for e in error.errors() if _starts_with(e["loc"], first["loc"][: path.count(".") + 1])
            )
        )
        raise RecipeError(
            f"{path or 'recipe'}={_shown(first['input'])} is not allowed: {causes}"
            + (f" (from {origin})." if origin else "."),
            code="invalid_value",
            param=path or None,
            hint=f"{path}: {describe(path)}" if path else None,
        ) from None


def _shown(value: Any) -> str:
    """Returns a value for a message, long ones shortened in the middle."""
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN // 2]}…{text[-_LONGEST_SHOWN // 4 :]}"


def parse_override(text: str) -> dict[str, Any]:
    """Returns the tree of one `key.path=value`; the value is read as YAML, so `null`, `3` and `[a, b]` mean themselves.

    Raises:
        RecipeError: no `=`, or a value that is not YAML.
    """
    path, separator, value = text.partition("=")
    if not separator or not path.strip():
        raise RecipeError(
            f"{text!r} is not of the form key.path=value.",
            code="bad_override",
            param=text,
            hint="Example: train.n_epochs=2. `luthier recipe show` lists the keys.",
        )
    try:
        parsed = yaml.safe_load(value) if value.strip() else None
    except yaml.YAMLError as error:
        raise RecipeError(
            f"The value of {path} is not readable: {value!r} ({error}).", code="bad_override", param=path
        ) from None
    if isinstance(parsed, str) and parsed == value.strip():  # not quoted
        parsed = _number(parsed)
    tree: dict[str, Any] = {}
    _put(tree, path.strip(), parsed)
    return tree


def _number(text: str) -> str | float:
    """YAML 1.1 reads `1e-3` as text; people mean a number."""
    try:
        return float(text)
    except ValueError:
        return text


def dump_recipe(recipe: Recipe) -> str:
    """Returns the recipe as YAML, sections in their order."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)


def recipe_hash(recipe: Recipe) -> str:
    """Returns the sha256 of the recipe's canonical JSON, the output folder left out: where a run lies is not what it is."""
    tree = recipe.model_dump(mode="json", exclude={"output"})
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def preset_names() -> list[str]:
    """Returns the names of the shipped presets."""
    folder = resources.files("luthier") / "presets"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def field_paths() -> list[str]:
    """Returns the path of each value of a recipe, in order."""
    return [path for path, _ in iter_fields()]


def iter_fields(model: type[BaseModel] = Recipe, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yields the path and the declaration of each value of a recipe."""
    for name, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from iter_fields(info.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", info


def describe(path: str) -> str:
    """Returns the text under a field, on one line."""
    return " ".join((dict(iter_fields())[path].description or "").split())


def _read_preset(name: str) -> dict[str, Any]:
    if name not in preset_names():
        raise RecipeError(
            f"There is no preset {name!r}.",
            code="unknown_preset",
            param="preset",
            hint=_did_you_mean(name, preset_names()),
        )
    tree: dict[str, Any] = yaml.safe_load((resources.files("luthier") / "presets" / f"{name}.yaml").read_text("utf-8"))
    return tree


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(
            f"The recipe {path} cannot be read: {error}.", code="unreadable_recipe", param=str(path)
        ) from None
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is not YAML: {error}.", code="unreadable_recipe", param=str(path)) from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise RecipeError(
            f"{path} holds {type(tree).__name__}, not a tree of keys.",
            code="unreadable_recipe",
            param=str(path),
            hint="`luthier recipe show` prints a whole recipe.",
        )
    return tree


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    sections = {path.rsplit(".", 1)[0] for path in field_paths() if "." in path}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict) and (path in sections or "." not in path):
            yield from _leaves(value, f"{path}.")
        else:
            yield path, value


def _put(tree: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
    tree[last] = value


def _reject_unknown(path: str, origin: str) -> None:
    if path in field_paths():
        return
    raise RecipeError(
        f"There is no recipe key {path!r} (from {origin}).",
        code="unknown_key",
        param=path,
        hint=_did_you_mean(path, field_paths()),
    )


def _did_you_mean(name: str, known: Sequence[str]) -> str:
    by_last_word = [path for path in known if path.rsplit(".", 1)[-1] == name.rsplit(".", 1)[-1]]
    near = by_last_word or difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    listing = "`luthier recipe show` lists the keys." if "." in "".join(known) else f"There are: {', '.join(known)}."
    return f"Did you mean {near[0]}? {listing}" if near else listing


def _starts_with(location: tuple[int | str, ...], start: tuple[int | str, ...]) -> bool:
    return location[: len(start)] == start
