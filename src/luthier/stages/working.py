"""Work on a run, by one process or by several that were started together."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from luthier.errors import RecipeError
from luthier.recipe import Recipe
from luthier.recipe_io import LoadedRecipe
from luthier.runs import Listener, RunFolder, no_listener
from luthier.stages.opening import read_recipe
from luthier.stages.stopping import resumable
from luthier.train.processes import ALONE, Processes, started


@dataclass(frozen=True, slots=True)
class Work:
    """A run that is worked on.

    Attributes:
        listener: hears nothing in all processes but the first.
    """

    run: RunFolder
    recipe: Recipe
    processes: Processes
    listener: Listener


@contextlib.contextmanager
def working(open_run: Callable[[], tuple[RunFolder, LoadedRecipe]], listener: Listener) -> Iterator[Work]:
    """Yields the run that the first process opens and locks; the others work in the same folder.

    An error of one of them ends all.

    Raises:
        RecipeError: another process does not see the folder.
        Interrupted: stopped in the block; the run can be resumed.
    """
    with _processes() as processes:
        opened = open_run() if processes.is_first else None
        path = Path(processes.from_first(lambda: str(opened[0].path.absolute()) if opened else ""))
        if opened:
            run, settled = opened
            with run.lock(), resumable(run):
                yield Work(run, settled.recipe, processes, listener)
            return
        run, recipe = open_shared(path, processes)
        with resumable(run):
            yield Work(run, recipe, processes, no_listener)


def _processes() -> contextlib.AbstractContextManager[Processes]:
    if started()[1] == 1:
        return contextlib.nullcontext(ALONE)
    from luthier.train.process_group import joined  # noqa: PLC0415 - it loads torch

    return joined()


def open_shared(path: str | Path, processes: Processes) -> tuple[RunFolder, Recipe]:
    """Returns a run that another process opened, with its recipe.

    Raises:
        RecipeError: this process does not see its folder.
    """
    try:
        run = RunFolder.open(path)
        return run, read_recipe(run)
    except RecipeError as error:
        raise RecipeError(
            f"Process {processes.rank} does not see the run folder {path} of the first one: {error.message}",
            code="run_not_shared",
            param="output.dir",
            hint="All processes need one folder under one path: put --out on a disk that the machines share.",
        ) from error
