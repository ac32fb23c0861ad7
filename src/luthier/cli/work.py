"""`luthier run`, `train`, `evaluate`, `compare`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from luthier.cli.output import is_first, print_json, watching
from luthier.errors import RecipeError

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Out = Annotated[
    str | None, typer.Option("--out", metavar="DIR", help="The run folder. Default: a new one under runs/.")
]
Resume = Annotated[str | None, typer.Option("--resume", metavar="DIR", help="Go on with a run that was stopped.")]
RecipeFile = Annotated[str | None, typer.Option("--recipe", metavar="FILE", help="A recipe in YAML.")]
Preset = Annotated[str | None, typer.Option("--preset", metavar="NAME", help="A shipped recipe, such as quick.")]
Engine = Annotated[
    Literal["local", "ray"],
    typer.Option("--engine", help="What starts the processes: this command alone, or a Ray cluster (extra: ray)."),
]
Nodes = Annotated[
    int | None,
    typer.Option("--nodes", metavar="N", min=1, help="With --engine ray: how many processes train together."),
]
Arguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[DATA.jsonl] [KEY.PATH=VALUE …]", help="The examples, and recipe values.", show_default=False
    ),
]
KEYS_HINT = "`luthier recipe show` lists every key with its value, origin and meaning."


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("run", epilog=KEYS_HINT)(run)
    app.command("train", epilog=KEYS_HINT)(train)
    app.command("evaluate", epilog=KEYS_HINT)(evaluate)
    app.command("compare")(compare)


def run(
    arguments: Arguments = None,
    out: Out = None,
    resume: Resume = None,
    recipe: RecipeFile = None,
    preset: Preset = None,
    engine: Engine = "local",
    nodes: Nodes = None,
    as_json: Json = False,
) -> None:
    """Check, split, train, evaluate: from a file of chat examples to a verdict.

    Exit status: 0 if the fine-tuned model is BETTER than its base or, with evaluate.require, if that holds; 1 if not; more
    if something is wrong.
    """
    from luthier import sdk

    data, overrides = data_and_overrides(arguments)
    with watching() as listener:
        report = sdk.finetune(
            data,
            out=out,
            resume=resume,
            recipe=given_recipe(recipe, preset),
            overrides=overrides,
            ray_nodes=_ray_nodes(engine, nodes),
            listener=listener,
        )
    _show_report(report, as_json)


def train(
    arguments: Arguments = None,
    out: Out = None,
    resume: Resume = None,
    recipe: RecipeFile = None,
    preset: Preset = None,
    engine: Engine = "local",
    nodes: Nodes = None,
    as_json: Json = False,
) -> None:
    """Train an adapter on every row of a file; nothing is held out unless data.validation=FILE is given."""
    from luthier import sdk

    data, overrides = data_and_overrides(arguments)
    with watching() as listener:
        summary = sdk.train(
            data,
            out=out,
            resume=resume,
            recipe=given_recipe(recipe, preset),
            overrides=overrides,
            ray_nodes=_ray_nodes(engine, nodes),
            listener=listener,
        )
    if not is_first():
        return
    if as_json:
        print_json(summary.model_dump())
    else:
        loss = f", validation loss {summary.best_valid_loss:.4f}" if summary.best_valid_loss is not None else ""
        typer.echo(f"Trained {summary.steps} steps; kept step {summary.best_step}{loss}.")


def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A run folder, or an adapter folder.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY.PATH=VALUE …]", show_default=False)] = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="FILE", help="Test rows. Default: the run's own.")
    ] = None,
    out: Annotated[str | None, typer.Option("--out", metavar="DIR", help="Where to write the report.")] = None,
    samples: Annotated[
        int | None, typer.Option("--samples", metavar="K", min=1, help="Answers a row: evaluate.samples=K.")
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option("--against", metavar="MODEL", help="A further model in the table, such as openai:gpt-4.1-mini."),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option("--cluster", metavar="KEY", help="What makes rows share a source: evaluate.cluster=KEY."),
    ] = None,
    probe: Annotated[
        str | None,
        typer.Option("--probe", metavar="FILE", help="What forgetting is measured by: evaluate.probe=FILE."),
    ] = None,
    require: Annotated[
        str | None,
        typer.Option("--require", metavar="CONDITION", help='What the report must fulfil: "difference.low > 0".'),
    ] = None,
    curve: Annotated[
        bool, typer.Option("--curve", help="Train on parts of the data as well: would more of it help?")
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare a fine-tuned model with its base on held-out rows, and with what one would try first.

    Exit status: 0 if it is BETTER or, with evaluate.require, if that holds; 1 if not.
    """
    from luthier import sdk

    options = {"samples": samples, "against": against, "cluster": cluster, "probe": probe, "require": require}
    given = [f"evaluate.{name}={json.dumps(value)}" for name, value in options.items() if value]
    with watching() as listener:
        report = sdk.evaluate(
            model, data=data, out=out, curve=curve, overrides=[*(overrides or ()), *given], listener=listener
        )
    _show_report(report, as_json)


def compare(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="BASE.jsonl TUNED.jsonl",
            help='Lines of {"id", "score"}, or of {"id", "scores": {name: score}}; the same ids for each model.',
        ),
    ],
    cluster: Annotated[
        str | None,
        typer.Option(
            "--cluster",
            metavar="KEY",
            help="The key of a line that names the source its row shares with others, in one file at least.",
        ),
    ] = None,
    minimum_gain: Annotated[float, typer.Option(help="The smallest gain worth having, in score points.")] = 0.1,
    as_json: Json = False,
) -> None:
    """The same paired statistics for any files of scores; every pair of several, corrected together.

    A row that was answered several times has a list of scores. Exit status: 0 if a later file is BETTER than the first,
    1 if not.
    """
    from luthier import sdk
    from luthier.report.schema import Report

    found = sdk.compare_files(files, minimum_gain=minimum_gain, cluster=cluster)
    if isinstance(found, Report):
        _show_report(found, as_json)
        return
    from luthier.cli.comparison import print_table, table_json

    if as_json:
        print_json(table_json(found))
    else:
        print_table(found)
    sys.stdout.flush()
    raise typer.Exit(0 if found.better_than_first() else 1)


def given_recipe(file: str | None, preset: str | None) -> Any:
    """Returns the recipe that a command's options name, or None where they name none.

    Raises:
        RecipeError: no such preset, or an unreadable file.
    """
    from luthier.recipe_io import load_recipe

    return load_recipe(file=file, preset=preset) if file or preset else None


def data_and_overrides(arguments: list[str] | None) -> tuple[str | None, list[str]]:
    """Returns the data file and the recipe values among a command's words.

    Raises:
        RecipeError: two words that are no recipe values.
    """
    words = arguments or []
    files = [word for word in words if "=" not in word or Path(word).exists()]
    if len(files) > 1:
        raise RecipeError(
            f"Two files were given, {files[0]} and {files[1]}.",
            code="too_many_arguments",
            param="DATA",
            hint="Name one file of examples; others go into data.validation=FILE and data.test=FILE.",
        )
    return (files[0] if files else None), [word for word in words if word not in files]


def _ray_nodes(engine: Literal["local", "ray"], nodes: int | None) -> int | None:
    """Returns how many processes of a Ray cluster are wanted, None without one.

    Raises:
        RecipeError: a number without Ray, or Ray without a number.
    """
    if engine == "ray" and nodes is None:
        raise RecipeError("How many processes is Ray to start?", code="no_nodes", param="nodes", hint="Give --nodes N.")
    if engine == "local" and nodes is not None:
        raise RecipeError(
            "--nodes is for --engine ray.",
            code="nodes_without_ray",
            param="nodes",
            hint="Add --engine ray; or start several processes with `torchrun --nproc-per-node N -m luthier …`.",
        )
    return nodes


def _show_report(report: Any, as_json: bool) -> None:
    from luthier.report.words import exit_status

    if is_first():
        if as_json:
            print_json(report.model_dump(mode="json"))
        else:
            from rich.console import Console

            from luthier.report.terminal import print_report

            path = Path(report.folder) / "report.html" if report.folder else None
            print_report(report, Console(highlight=False), path)
        sys.stdout.flush()
    raise typer.Exit(exit_status(report))
