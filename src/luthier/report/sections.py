"""The parts of a report beside its verdict, from what an evaluation found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from luthier.evaluate.graders import confusion_matrix, field_scores, unscored_reasons
from luthier.evaluate.sentences import counted, points
from luthier.evaluate.shape import Shape
from luthier.evaluate.table import ComparisonTable
from luthier.report.build import model_score, pairing
from luthier.report.judged import Judged
from luthier.report.schema import (
    AnswerShape,
    ConfusionTable,
    Copying,
    FieldRow,
    ModelTable,
    Overfitting,
    TrainingSummary,
)
from luthier.report.words import CLEAR_GAP

MANY_FIELDS = 200
"""JSON answers of more fields than this are records with keys of their own, not fields that recur."""


def model_table(table: ComparisonTable, judged: Mapping[str, Judged], described: Mapping[str, str]) -> ModelTable:
    """Returns every model and every pair of them.

    Args:
        table: of the models, the base first and the fine-tuned one last.
        judged: each model by its name in the table.
        described: what each was given.
    """
    base, tuned = table.models[0], table.models[-1]
    against_base = {each.tuned: each.comparison for each in table.pairings if each.base == base}
    scores = [model_score(base, against_base[tuned].base, against_base[tuned].base_unscored, judged[base].answers)]
    for name in table.models[1:]:
        found = against_base[name]
        scores.append(model_score(name, found.tuned, found.tuned_unscored, judged[name].answers))
    return ModelTable(
        models=scores,
        described=dict(described),
        pairings=[pairing(each.comparison, (each.base, each.tuned)) for each in table.pairings],
        num_tests=table.num_tests,
        conclusion=_conclusion(table),
        notes=table.notes,
    )


def _conclusion(table: ComparisonTable) -> str:
    tuned = table.models[-1]
    verdicts = {each.base: each.comparison.verdict for each in table.pairings if each.tuned == tuned}
    beaten = [name for name, verdict in verdicts.items() if verdict == "BETTER"]
    others = {name: verdict for name, verdict in verdicts.items() if verdict != "BETTER"}
    if not others:
        return f"The fine-tuned model is BETTER than each of {_listed(beaten)}."
    kinds = {
        "WORSE": "it is WORSE than {}",
        "NO DIFFERENCE SHOWN": "no difference from {} is shown",
        "UNDERPOWERED": "this test is too small to tell it from {}",
    }
    said = [
        words.format(_listed([name for name, verdict in others.items() if verdict == kind]))
        for kind, words in kinds.items()
        if kind in others.values()
    ]
    first = f"The fine-tuned model is BETTER than {_listed(beaten)}; " if beaten else "Of the fine-tuned model: "
    return first + "; ".join(said) + "."


def confusion_table(targets: Sequence[str], base: Sequence[str], tuned: Sequence[str]) -> ConfusionTable:
    """Returns which labels were taken for which by both models, whose answers are in the order of the targets."""
    one, other = confusion_matrix(targets, base), confusion_matrix(targets, tuned)
    return ConfusionTable(labels=one.labels, base=one.counts, fine_tuned=other.counts)


def field_rows(targets: Sequence[str], base: Sequence[str], tuned: Sequence[str]) -> list[FieldRow]:
    """Returns the scores of each field of JSON answers; none where nearly every answer has fields of its own."""
    before = {each.field: each for each in field_scores(targets, base)}
    rows = [
        FieldRow(
            field=each.field,
            expected=each.expected,
            base_f1=before[each.field].f1 if each.field in before else 0.0,
            fine_tuned_f1=each.f1,
            fine_tuned_precision=each.precision,
            fine_tuned_recall=each.recall,
        )
        for each in field_scores(targets, tuned)
        if each.expected
    ]
    return rows if len(rows) <= MANY_FIELDS else []


def reasons(judged: Mapping[str, Judged]) -> dict[str, dict[str, int]]:
    """Returns why answers could not be scored, of the models of which some could not."""
    return {name: found for name, each in judged.items() if (found := unscored_reasons(each.grades))}


def answer_shape(shape: Shape, expected_tokens: float, base: Judged, tuned: Judged) -> AnswerShape:
    """Returns whether answers look like those trained on.

    Args:
        shape: of the training answers.
        expected_tokens: the mean length of the expected answers.
        base, tuned: both models.
    """
    shares = [shape.share([answer.text for answer in each.answers]) for each in (base, tuned)]
    lengths = [sum(answer.num_tokens for answer in each.answers) / len(each.answers) for each in (base, tuned)]
    cut = sum(answer.finish_reason == "length" for answer in tuned.answers)
    sentence = (
        f"{points(shares[1])} % of the fine-tuned model's answers are {shape.name} (base {points(shares[0])} %, training "
        f"answers {points(shape.trained_share)} %); they are {lengths[1]:.1f} tokens long on average, where "
        f"{expected_tokens:.1f} were expected (base {lengths[0]:.1f})"
    )
    sentence += f"; {counted(cut, 'answer')} stopped at the limit." if cut else "; none was cut at the limit."
    return AnswerShape(
        shape=shape.name,
        trained_share=shape.trained_share,
        base_share=shares[0],
        fine_tuned_share=shares[1],
        expected_tokens=expected_tokens,
        base_tokens=lengths[0],
        fine_tuned_tokens=lengths[1],
        cut=cut,
        sentence=sentence,
    )


def overfitting(training: TrainingSummary, copying: Copying | None) -> Overfitting:
    """Returns whether training went on for too long, from its loss curve and from what was copied."""
    measured = [point for point in training.loss_curve if point.valid_loss is not None]
    last = measured[-1] if measured else None
    epoch = training.steps / training.epochs if training.epochs else 0.0
    around = [
        point.train_loss
        for point in training.loss_curve
        if point.train_loss is not None and training.best_step - epoch < point.step <= training.best_step
    ]
    train_loss = sum(around) / len(around) if around else None
    best = training.best_valid_loss
    gap = best - train_loss if best is not None and train_loss is not None else None
    said = []
    if best is None:
        said.append("there were no validation rows to see it by")
    else:
        assert last is not None
        assert last.valid_loss is not None
        if last.step > training.best_step:
            said.append(
                f"the validation loss was lowest at step {training.best_step:,} ({best:.3f}), whose adapter was kept, and "
                f"{last.valid_loss:.3f} at the last step, {last.step:,}"
            )
        else:
            said.append(f"the validation loss fell to the end ({best:.3f}): training longer may still help")
        if gap is not None and train_loss:
            far = (
                "far above"
                if gap > CLEAR_GAP * train_loss
                else "close to"
                if abs(gap) <= CLEAR_GAP * train_loss
                else "below"
            )
            said.append(f"it is {far} the training loss of that epoch ({train_loss:.3f})")
    if copying:
        said.append(
            f"of {counted(copying.rows, 'training row')} asked in other words, {points(copying.fine_tuned_share)} % were "
            f"answered with the training answer word for word (base {points(copying.base_share)} %; asked in training's own "
            f"words {points(copying.unchanged_share)} %)"
        )
    sentence = "; ".join(said)
    return Overfitting(
        best_step=training.best_step,
        best_valid_loss=best,
        last_valid_loss=last.valid_loss if last else None,
        train_loss=train_loss,
        gap=gap,
        copying=copying,
        sentence=sentence[:1].upper() + sentence[1:] + ".",
    )


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else "none"
