"""`luthier models` and `luthier chat`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from luthier.cli.output import print_json, watching

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="A base model, such as smollm2-135m.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    group = typer.Typer(help="The base models on this machine.", no_args_is_help=True)
    group.command("list")(list_models)
    group.command("pull")(pull)
    group.command("path")(path)
    app.add_typer(group, name="models")
    app.command("chat")(chat)


def list_models(as_json: Json = False) -> None:
    """List the base models that need only a name."""
    from luthier import sdk

    listed = sdk.list_models()
    if as_json:
        print_json(
            [
                {"name": m.name, "title": m.title, "licence": m.licence, "path": str(m.path), "present": m.present}
                for m in listed
            ]
        )
        return
    for m in listed:
        place = str(m.path) if m.present else "not fetched yet"
        typer.echo(f"{m.name:<16} {m.title:<34} {m.licence:<12} {place}")
    typer.echo("\nAny folder with config.json, *.safetensors and a tokenizer is a base model too: model.base=FOLDER.")


def pull(name: Name, as_json: Json = False) -> None:
    """Fetch and convert a base model, once; from then on no network is needed."""
    from luthier import sdk

    with watching() as listener:
        folder = sdk.pull_model(name, listener=listener)
    print_json({"name": name, "path": str(folder)}) if as_json else typer.echo(str(folder))


def path(name: Name, as_json: Json = False) -> None:
    """Print the folder of a base model, fetching it where needed."""
    pull(name, as_json)


def chat(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A run folder, an adapter folder or a base model.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY.PATH=VALUE …]", show_default=False)] = None,
    message: Annotated[
        str | None,
        typer.Option("--message", "-m", help="Say this, print the answer, and end. `-` reads standard input."),
    ] = None,
    system: Annotated[
        str | None, typer.Option(help="The system prompt. Default: the one that all training rows share.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="The longest answer in tokens.")] = 512,
    temperature: Annotated[float, typer.Option(min=0, help="0 takes the likeliest token each time.")] = 0.0,
    top_p: Annotated[float, typer.Option(min=0, max=1, help="Sample from this share of the probability.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Same seed, same answer.")] = 0,
    as_json: Json = False,
) -> None:
    """Talk to a model; the answer appears as it is written."""
    from luthier import sdk

    with watching() as listener:
        conversation = sdk.chat(model, system=system, overrides=overrides or (), listener=listener)

    def answer(text: str) -> str:
        pieces = []
        for piece in conversation.say(text, max_new_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed):
            pieces.append(piece)
            if not as_json:
                sys.stdout.write(piece)
                sys.stdout.flush()
        if not as_json:
            sys.stdout.write("\n")
        return "".join(pieces)

    if message is None and not sys.stdin.isatty():
        message = "-"
    if message is not None:
        text = sys.stdin.read().strip() if message == "-" else message
        given = answer(text)
        if as_json:
            print_json({"model": model, "system": conversation.system, "message": text, "answer": given})
        return
    if conversation.system:
        typer.echo(f"System prompt: {conversation.system}\n")
    typer.echo("Ctrl-D ends, /reset forgets.\n")
    while True:
        try:
            text = input("> ").strip()
        except EOFError:
            typer.echo("")
            return
        if text == "/reset":
            conversation.reset()
        elif text:
            try:
                answer(text)
            except KeyboardInterrupt:
                typer.echo(" … stopped; this exchange is forgotten")
