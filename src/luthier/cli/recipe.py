"""`luthier recipe`."""

from __future__ import annotations

import textwrap
from typing import Annotated

import typer

from luthier.cli.output import print_json
from luthier.cli.work import Preset, RecipeFile


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    group = typer.Typer(help="The description of a run.", no_args_is_help=True)
    group.command("show")(show)
    app.add_typer(group, name="recipe")


def show(
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY.PATH=VALUE …]", show_default=False)] = None,
    recipe: RecipeFile = None,
    preset: Preset = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")] = False,
    as_yaml: Annotated[bool, typer.Option("--yaml", help="Print a recipe file to start from.")] = False,
) -> None:
    """Print every key of the resolved recipe with its value, where it came from, and what it means."""
    from luthier.recipe_io import describe, dump_recipe, field_paths, load_recipe

    loaded = load_recipe(overrides or (), file=recipe, preset=preset)
    tree = loaded.recipe.model_dump(mode="json")
    if as_yaml:
        typer.echo(dump_recipe(loaded.recipe), nl=False)
        return
    values = {}
    for path in field_paths():
        value = tree
        for key in path.split("."):
            value = value[key]
        values[path] = value
    if as_json:
        print_json({"recipe": tree, "origins": loaded.origins})
        return
    for path, value in values.items():
        typer.echo(f"{path} = {_shown(value)}    ({loaded.origins[path]})")
        typer.echo(textwrap.fill(describe(path), 96, initial_indent="    ", subsequent_indent="    "))


def _shown(value: object) -> str:
    return "null" if value is None else f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)
