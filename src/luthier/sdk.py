"""Luthier in Python: one function a step, in the order of the work.

```
check → clean → split → train → evaluate → report        (finetune does all but clean)
```

The command line and, later, the server call these functions and nothing below them. What needs torch is imported
inside the functions, so that checking data answers at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from luthier.data.check import MIN_EXAMPLES, CheckResult
from luthier.data.cleaning.clean import DEFAULT_FIXES, CleanResult, clean_files
from luthier.data.rules.catalogue import chosen
from luthier.data.shapes.columns import ColumnMap
from luthier.data.split import Split
from luthier.data.twins.held_out import read_held_out
from luthier.errors import EvaluateError, RecipeError
from luthier.evaluate.graders import open_grader
from luthier.recipe import Recipe
from luthier.recipe_io import LoadedRecipe
from luthier.report.files import read_report, write_report
from luthier.report.schema import Report, TrainingSummary
from luthier.runs import Event, Listener, RunFolder, no_listener
from luthier.stages.checking import check_stage
from luthier.stages.opening import Overrides, new_run, open_model, resumed_run, with_overrides
from luthier.stages.preparing import prepare, prepare_stage, write_split
from luthier.stages.reading import checked, read_checked
from luthier.stages.working import working

if TYPE_CHECKING:
    from luthier.evaluate.table import ComparisonTable
    from luthier.model.sources import ListedModel
    from luthier.stages.chatting import Conversation
    from luthier.stages.subject import Subject


def finetune(
    data: str | Path | None = None,
    *,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    recipe: LoadedRecipe | None = None,
    overrides: Overrides = (),
    ray_nodes: int | None = None,
    listener: Listener = no_listener,
) -> Report:
    """Returns the answer to "is it better than the base?" for a file of chat examples, and leaves the model behind.

    Args:
        data: the examples, unless the recipe names them or a run is resumed.
        out: the run folder; by default the next free `runs/run-N`.
        resume: a run folder to go on with, from wherever it stopped.
        recipe: from `load_recipe`; the defaults otherwise.
        overrides: `key.path=value` texts, or a mapping of paths to values.
        ray_nodes: how many processes of a Ray cluster train together; by default those that torchrun started, or this one.
        listener: hears what is going on.

    Raises:
        LuthierError: see `luthier.errors`; the message says what is wrong and what to do.
        Interrupted: stopped; the run can be resumed.
    """
    with working(lambda: _open(data, out, resume, recipe, overrides, kind="run"), listener) as work:
        run, processes = work.run, work.processes
        prepared = processes.in_turn(lambda: prepare_stage(run, work.recipe, work.listener, hold_out=True))
        _check_judging(work.recipe, work.listener)

        from luthier.stages.evaluating import evaluate_stage

        if ray_nodes is not None:
            from luthier.stages.on_ray import train_on_ray

            train_on_ray(run, ray_nodes, work.listener, hold_out=True)
            return evaluate_stage(run, _from_disk(run, work.listener), work.listener)

        from luthier.stages.training import train_stage

        trained = train_stage(run, work.recipe, prepared, work.listener, processes)
        if not processes.is_first:
            del trained  # the first one judges alone, and may need the room
            return processes.in_turn(lambda: read_report(run.path))
        if processes.in_step:
            del trained  # it holds a part of the base
            return processes.in_turn(lambda: evaluate_stage(run, _from_disk(run, work.listener), work.listener))
        from luthier.stages.subject import Subject

        subject = Subject(
            recipe=trained.recipe,
            model=trained.model,
            adapter=trained.adapter,
            adapter_folder=run.adapter,
            train_examples=trained.train_examples,
            validation_examples=prepared.split.validation,
            test=trained.test,
            data=trained.data,
            training=trained.summary,
            notes=prepared.notes + trained.notes,
        )
        return processes.in_turn(lambda: evaluate_stage(run, subject, listener))


def _check_judging(recipe: Recipe, listener: Listener) -> None:
    """Opens what a recipe judges by, so that what is wrong with it is said before anything is trained or asked.

    Raises:
        RecipeError: what is required of the report cannot be known; a service that is not known.
        MissingError, ModelError: a judge without its key, or a local one that is not there.
        EvaluateError: the grader's database cannot be read, its JSON schema is no schema; a probe cannot be read.
    """
    from luthier.evaluate.forgetting.reading import open_probe
    from luthier.report.requirement import check_requirement
    from luthier.stages.judging import find_judge

    wanted = recipe.evaluate
    if wanted.require is not None:
        check_requirement(wanted.require)
    found = find_judge(recipe, listener)
    if wanted.grader != "auto":
        open_grader(wanted.grader, database=wanted.database, judge=found.judge if found else None)
    elif wanted.database is not None:
        open_grader("sql", database=wanted.database)
    open_probe(wanted.probe)


def check(
    paths: Sequence[str | Path],
    *,
    against: Sequence[str | Path] = (),
    only: Sequence[str] = (),
    row_format: str | None = None,
    column_map: str | None = None,
    model: str = Recipe().model.base,
    minimum: int = MIN_EXAMPLES,
    keep: bool = True,
    on_ray: bool = False,
) -> CheckResult:
    """Returns what is wrong with the examples in files, and those that are right.

    Args:
        paths: JSONL files, also compressed, or tables with `column_map`; "-" is standard input.
        against: held-out files that must have no row in common with them.
        only: codes or groups (file, message, text, set, leak) to look for; otherwise all.
        row_format: chat, preference, reinforcement or completion, if every row must have it.
        column_map: how the columns of flat rows become messages: "user=question,assistant=answer".
        model: in whose tokens lengths are counted.
        minimum: fewer examples than this are an error.
        keep: whether the result holds the rows; without, a file of any size is checked in little memory.
        on_ray: whether a Ray cluster does the work.

    Raises:
        DataError: a file cannot be read at all.
        RecipeError: an unknown code, or a map that cannot be understood.
        MissingError: an extra that is needed is not installed.
    """
    return check_stage(
        paths,
        against=against,
        only=only,
        row_format=row_format,
        column_map=column_map,
        model=model,
        minimum=minimum,
        keep=keep,
        on_ray=on_ray,
    )


def clean(
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    convert: bool = False,
    column_map: str | None = None,
    against: Sequence[str | Path] = (),
    drop_errors: bool = False,
    dry_run: bool = False,
    overwrite: bool = False,
) -> CleanResult:
    """Mends what the check finds and can be mended, writes the result, and lists every change in `OUT.changes.jsonl`.

    Args:
        paths: JSONL files, also compressed, or tables with `column_map`; "-" is standard input.
        out: the file to write. The input is never modified.
        only: codes or groups to mend; otherwise all but near-duplicate and pii, which are mended only when named.
        skip: codes or groups not to mend.
        convert: whether to convert rows of other known shapes to OpenAI's format.
        column_map: how the columns of flat rows become messages: "user=question,assistant=answer".
        against: held-out files; rows that stand there, too, are left out.
        drop_errors: whether to leave out rows with errors that cannot be mended.
        dry_run: whether to write nothing.
        overwrite: whether `out` may be replaced.

    Raises:
        DataError: a file cannot be read or written, or holds an unresolved merge.
        RecipeError: `out` exists, an unknown code, or a map that cannot be understood.
    """
    codes = chosen(only, param="only") if only else DEFAULT_FIXES
    return clean_files(
        paths,
        out,
        codes=codes - chosen(skip, param="skip"),
        convert=convert,
        column_map=ColumnMap.parse(column_map) if column_map else None,
        held_out=read_held_out(against) if against else None,
        drop_errors=drop_errors,
        dry_run=dry_run,
        overwrite=overwrite,
    )


def split(
    data: str | Path,
    out: str | Path,
    *,
    recipe: LoadedRecipe | None = None,
    overrides: Overrides = (),
    listener: Listener = no_listener,
) -> Split:
    """Splits examples by group and writes `train.jsonl`, `validation.jsonl` and `test.jsonl` to `out`, and
    `rejected.jsonl` where rows were left out.

    Raises:
        DataError: broken rows, too few rows, or too few groups.
        RecipeError: the folder holds such files already.
    """
    out = Path(out)
    existing = [name for name in ("train", "validation", "test") if (out / f"{name}.jsonl").exists()]
    if existing:
        raise RecipeError(
            f"{out} holds {existing[0]}.jsonl already; nothing was overwritten.",
            code="out_not_empty",
            param="out",
            hint="Choose another --out.",
        )
    prepared = prepare(with_overrides(recipe, overrides, data__train=data).recipe, listener)
    out.mkdir(parents=True, exist_ok=True)
    return write_split(out, prepared).split


def train(
    data: str | Path | None = None,
    *,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    recipe: LoadedRecipe | None = None,
    overrides: Overrides = (),
    ray_nodes: int | None = None,
    listener: Listener = no_listener,
) -> TrainingSummary:
    """Trains an adapter on every row of a file and leaves it in `out/adapter`, in PEFT's format.

    Nothing is held out: without `data.validation=FILE` the last epoch is kept and nothing stops early. The arguments are
    those of `finetune`.

    Raises:
        LuthierError: see `luthier.errors`.
        Interrupted: stopped; the run can be resumed.
    """
    with working(lambda: _open(data, out, resume, recipe, overrides, kind="train"), listener) as work:
        run, processes = work.run, work.processes
        prepared = processes.in_turn(lambda: prepare_stage(run, work.recipe, work.listener, hold_out=False))

        if ray_nodes is not None:
            from luthier.stages.on_ray import train_on_ray

            train_on_ray(run, ray_nodes, work.listener, hold_out=False)
            return TrainingSummary(**(run.stage("train") or {})["summary"])

        from luthier.stages.training import train_stage

        return train_stage(run, work.recipe, prepared, work.listener, processes).summary


def evaluate(
    model: str | Path,
    *,
    data: str | Path | None = None,
    out: str | Path | None = None,
    curve: bool = False,
    overrides: Overrides = (),
    listener: Listener = no_listener,
) -> Report:
    """Compares a fine-tuned model with its base on held-out rows; writes `report.json` and `report.html`.

    What was answered before, by the same models to the same prompts, is not asked again.

    Args:
        model: a run folder, or an adapter folder in PEFT's format (then `data` is needed).
        data: test rows; by default the run's own.
        out: where to write; by default the run folder, or `RUN/evaluations/NAME` for other rows.
        curve: whether to train on parts of a run's data as well, in `RUN/curve`, and to say whether more data would help.
        overrides: `evaluate.…` and `model.…` values that differ from the run's.
        listener: hears what is going on.

    Raises:
        LuthierError: see `luthier.errors`.
    """
    from luthier.stages.evaluating import evaluate_stage
    from luthier.stages.subject import open_subject

    opened = open_model(str(model), overrides, listener)
    if opened.adapter is None:
        raise RecipeError(
            f"{model} is a base model; there is nothing to compare it with.",
            code="not_fine_tuned",
            param="model",
            hint="Name a run folder or an adapter folder.",
        )
    _check_judging(opened.recipe, listener)
    if data is None and (opened.run is None or not (opened.run.data / "test.jsonl").stat().st_size):
        raise RecipeError(
            f"{model} has no test rows of its own.", code="no_test_rows", param="data", hint="Give --data FILE."
        )
    if data is not None:
        examples = checked(str(data), opened.recipe.data, "test", listener).examples
        place = (
            Path(out) if out else (opened.run.path if opened.run else opened.adapter) / "evaluations" / Path(data).stem
        )
    else:
        assert opened.run is not None
        examples = read_checked(opened.run.data / "test.jsonl")
        place = Path(out) if out else opened.run.path
    if curve and (data is not None or opened.run is None):
        raise RecipeError(
            "A learning curve is that of a run, on its own test rows.",
            code="no_run_to_repeat",
            param="curve",
            hint="Name a run folder, without --data.",
        )
    place.mkdir(parents=True, exist_ok=True)
    report = evaluate_stage(RunFolder(place), open_subject(opened, examples, own_rows=data is None), listener)
    return _with_curve(opened.run, report, place, listener) if curve and opened.run else report


def _with_curve(run: RunFolder, report: Report, place: Path, listener: Listener) -> Report:
    """Trains on parts of a run's data, unless that was done before, and writes the report anew with the curve."""
    from luthier.stages.curve import curve_of, parts_of
    from luthier.stages.evaluating import with_requirement

    found = {}
    for part in parts_of(run):
        listener(Event("stage", f"Learning curve: a run on {part.num_rows:,} rows"))
        if (part.folder / "report.json").exists():
            found[part.num_rows] = read_report(part.folder)
        elif (part.folder / "manifest.json").exists():
            found[part.num_rows] = finetune(resume=part.folder, listener=listener)
        else:
            found[part.num_rows] = finetune(out=part.folder, recipe=part.recipe, listener=listener)
    report = report.model_copy(update={"curve": curve_of(report, found)})
    requirement = report.requirement
    report = with_requirement(report, requirement.expression if requirement else None)
    write_report(report, place)
    return report


def compare(base: str | Path, tuned: str | Path, *, minimum_gain: float = 0.1, cluster: str | None = None) -> Report:
    """Returns the same statistics for any two files of `{"id", "score"}` lines.

    Args:
        base, tuned: the files; ids are matched.
        minimum_gain: the smallest gain worth having, in score points.
        cluster: the key that names the source a row shares with others; None where rows are independent.

    Raises:
        EvaluateError: an unreadable line (with file:line), no id in both files, a row without a cluster, or several
            metrics, which `compare_files` compares.
    """
    from luthier.evaluate.table import ComparisonTable

    found = compare_files([base, tuned], minimum_gain=minimum_gain, cluster=cluster)
    if isinstance(found, ComparisonTable):
        raise EvaluateError(
            f"The files hold several metrics: {', '.join(found.metrics)}.",
            code="several_metrics",
            hint="`compare_files` compares all of them, with Holm's correction.",
        )
    return found


def compare_files(
    files: Sequence[str | Path], *, minimum_gain: float = 0.1, cluster: str | None = None
) -> Report | ComparisonTable:
    """Returns every pair of files compared on every metric: a report where that is one comparison, else a table.

    Args:
        files: lines of `{"id", "score"}` or `{"id", "scores": {name: score}}`, the base first.
        minimum_gain, cluster: as in `compare`.

    Raises:
        EvaluateError: as `compare`; code "nothing_to_compare" where no two files share a metric.
    """
    from luthier.evaluate.pairing import mean_score
    from luthier.evaluate.score_files import joined_clusters, named, read_score_file
    from luthier.evaluate.table import compare_all
    from luthier.report.build import compare_report

    read = [read_score_file(file, cluster) for file in files]
    models = dict(zip(named(read), (file.metrics for file in read), strict=True))
    clusters = joined_clusters(read, cluster) if cluster is not None else None
    table = compare_all(models, minimum_gain=minimum_gain, clusters=clusters)
    if len(table.models) > 2 or len(table.metrics) > 1:
        return table
    only = table.pairings[0]
    base, tuned = ({key: mean_score(score) for key, score in file.metrics[only.metric].items()} for file in read)
    return compare_report(only.comparison, base, tuned, names=(only.base, only.tuned))


def chat(
    model: str | Path, *, system: str | None = None, overrides: Overrides = (), listener: Listener = no_listener
) -> Conversation:
    """Returns a conversation with a base model, a run or an adapter; `say` streams its answers.

    Raises:
        ModelError, MissingError: the model cannot be had.
    """
    from luthier.stages.chatting import Conversation

    return Conversation(str(model), system=system, overrides=overrides, listener=listener)


def list_models() -> list[ListedModel]:
    """Returns the catalog of base models, with what is present on this machine."""
    from luthier.model import sources

    return sources.list_models()


def pull_model(name: str, *, listener: Listener = no_listener) -> Path:
    """Returns the folder of a base model, fetched and converted where it is not there yet.

    Raises:
        ModelError: no such model, or the fetched file is not the pinned one.
        MissingError: it cannot be fetched.
    """
    from luthier.model.sources import resolve_model

    return resolve_model(name, listener)


def _from_disk(run: RunFolder, listener: Listener) -> Subject:
    """Returns what a run has trained as something to judge on the run's own test rows."""
    from luthier.stages.subject import open_subject

    examples = read_checked(run.data / "test.jsonl")
    return open_subject(open_model(str(run.path), (), listener), examples, own_rows=True)


def _open(
    data: str | Path | None,
    out: str | Path | None,
    resume: str | Path | None,
    recipe: LoadedRecipe | None,
    overrides: Overrides,
    *,
    kind: str,
) -> tuple[RunFolder, LoadedRecipe]:
    """Returns a new run, or one to go on with, and its recipe."""
    if resume is None:
        settled = with_overrides(recipe, overrides, data__train=data, output__dir=out)
        return new_run(settled, kind=kind), settled
    if data is not None or out is not None or recipe is not None:
        raise RecipeError(
            "A resumed run keeps its data, recipe and folder.",
            code="recipe_is_fixed",
            param="resume",
            hint=f"luthier {kind} --resume {resume}",
        )
    run, fixed = resumed_run(resume, kind=kind, overrides=overrides)
    return run, LoadedRecipe(fixed, {})
