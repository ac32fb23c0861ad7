"""`luthier check`, `luthier clean` and `luthier split`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from luthier.cli.output import print_json, watching
from luthier.cli.work import Preset, RecipeFile, given_recipe

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Files = Annotated[
    list[str],
    typer.Argument(metavar="FILE…", help="JSONL files, also compressed (gzip, zstd), or tables; - is standard input."),
]
Against = Annotated[
    list[str] | None,
    typer.Option(
        "--against", metavar="FILE", help="Held-out data (validation, test, a benchmark) that must not be in FILE."
    ),
]
Map = Annotated[
    str | None,
    typer.Option(
        "--map",
        metavar="ROLE=COLUMN,…",
        help="How the columns of flat rows become messages: user=question,assistant=sql.",
    ),
]
FormatName = Literal["auto", "chat", "preference", "reinforcement", "completion"]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("check")(check)
    app.command("clean")(clean)
    app.command("split")(split)


def check(
    files: Files,
    against: Against = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="GROUP|CODE,…",
            help="Look only for these: file, message, text, set, leak, or single codes.",
        ),
    ] = None,
    row_format: Annotated[
        FormatName, typer.Option("--format", help="The format that every row must have; auto: each row its own.")
    ] = "auto",
    column_map: Map = None,
    model: Annotated[
        str, typer.Option("--model", help="The model whose tokens and context the rows are measured by.")
    ] = "smollm2-135m",
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option("--engine", help="Where to work: on this machine's cores, or on a Ray cluster (extra: ray)."),
    ] = "local",
    as_json: Json = False,
) -> None:
    """Say what is wrong with the examples in a file, and where.

    Exit status: 0 if nothing is, or only warnings; 1 if there are errors.
    """
    from luthier import sdk

    result = sdk.check(
        files,
        against=against or (),
        only=only or (),
        row_format=None if row_format == "auto" else row_format,
        column_map=column_map,
        model=model,
        keep=False,
        on_ray=engine == "ray",
    )
    if as_json:
        print_json(result.to_json())
    else:
        from rich.console import Console

        from luthier.cli.findings import print_check

        print_check(result, Console(highlight=False))
    raise typer.Exit(1 if result.has_errors else 0)


def clean(
    files: Files,
    out: Annotated[str, typer.Option("--out", metavar="FILE", help="The file to write. The input is never modified.")],
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="GROUP|CODE,…",
            help="Mend only these. near-duplicate and pii are mended only when named here.",
        ),
    ] = None,
    skip: Annotated[
        list[str] | None, typer.Option("--skip", metavar="GROUP|CODE,…", help="Mend all but these.")
    ] = None,
    convert: Annotated[
        bool, typer.Option("--convert", help="Convert rows of other known shapes to OpenAI's format.")
    ] = False,
    column_map: Map = None,
    against: Against = None,
    drop_errors: Annotated[
        bool,
        typer.Option("--drop-errors", help="Leave out rows with errors that cannot be mended, too; they are listed."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace --out if it exists.")] = False,
    as_json: Json = False,
) -> None:
    """Mend what can be mended, and list every change in FILE.changes.jsonl.

    Rows that cannot be read are left out and listed. `luthier check` on the result finds none of what was mended.
    """
    from luthier import sdk

    result = sdk.clean(
        files,
        out,
        only=only or (),
        skip=skip or (),
        convert=convert,
        column_map=column_map,
        against=against or (),
        drop_errors=drop_errors,
        dry_run=dry_run,
        overwrite=overwrite,
    )
    if as_json:
        print_json(result.to_json())
    else:
        from rich.console import Console

        from luthier.cli.findings import print_clean

        print_clean(result, Console(highlight=False))


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
    """Split examples 80/10/10 by group, so that no duplicate straddles, and by label, so that each side has them all."""
    from luthier import sdk

    with watching() as listener:
        parts = sdk.split(data, out, recipe=given_recipe(recipe, preset), overrides=overrides or (), listener=listener)
    sizes = {"train": len(parts.train), "validation": len(parts.validation), "test": len(parts.test)}
    if as_json:
        labels = {"labels": parts.num_labels} if parts.num_labels else {}
        print_json({"out": out, **sizes, "groups": parts.num_groups, **labels, "notes": list(parts.notes)})
    else:
        typer.echo(f"{out}: " + ", ".join(f"{name} {count:,}" for name, count in sizes.items()))
