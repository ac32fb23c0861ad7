"""`luthier check` and `luthier split`."""

from __future__ import annotations

from typing import Annotated

import typer

from luthier.cli.output import print_json, watching
from luthier.cli.work import Preset, RecipeFile, given_recipe

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("check")(check)
    app.command("split")(split)


def check(
    files: Annotated[list[str], typer.Argument(metavar="FILE…", help="JSONL files in OpenAI's chat format.")],
    as_json: Json = False,
) -> None:
    """Say what is wrong with the examples in a file, and where.

    Exit status: 0 if nothing is, or only warnings; 1 if there are errors.
    """
    from luthier import sdk

    result = sdk.check(files)
    if as_json:
        print_json(result.to_json())
    else:
        from rich.console import Console

        from luthier.cli.findings import print_check

        print_check(result, Console(highlight=False))
    raise typer.Exit(1 if result.has_errors else 0)


def split(
    data: Annotated[str, typer.Argument(metavar="DATA.jsonl", help="The examples.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY.PATH=VALUE …]", show_default=False)] = None,
    out: Annotated[
        str, typer.Option("--out", metavar="DIR", help="Where train, validation and test are written.")
    ] = "data",
    recipe: RecipeFile = None,
    preset: Preset = None,
    as_json: Json = False,
) -> None:
    """Split examples 80/10/10 by group, so that no duplicate straddles."""
    from luthier import sdk

    with watching() as listener:
        parts = sdk.split(data, out, recipe=given_recipe(recipe, preset), overrides=overrides or (), listener=listener)
    sizes = {"train": len(parts.train), "validation": len(parts.validation), "test": len(parts.test)}
    if as_json:
        print_json({"out": out, **sizes, "groups": parts.num_groups, "notes": list(parts.notes)})
    else:
        typer.echo(f"{out}: " + ", ".join(f"{name} {count:,}" for name, count in sizes.items()))
