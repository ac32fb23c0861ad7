"""Which test rows say something of their own: not those trained on, and each source once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from luthier.data.chat import Example
from luthier.data.twins.overlap import find_overlap, group_examples
from luthier.errors import EvaluateError
from luthier.evaluate.compare import Comparison
from luthier.evaluate.sentences import counted, points, signed
from luthier.report.build import pairing
from luthier.report.schema import Contamination

LIKE_ROWS = "rows that are nearly equal or share a user message"


@dataclass(frozen=True, slots=True)
class Leaks:
    """Test rows that stand in the training data, too.

    Attributes:
        checked: whether the training rows were at hand.
        kinds: sample id → how it is alike its twin in training.
        first: the first of them, with its twin.
    """

    checked: bool
    kinds: Mapping[str, str]
    first: str = ""


def find_leaks(
    seen: Sequence[Sequence[Example]] | None, test: Sequence[Example], ids: Sequence[str], *, kept_apart: bool
) -> Leaks:
    """Returns the test rows that were seen in training: equal, nearly equal, or with the same opening user message.

    Args:
        seen: the training rows, and those that the best epoch was chosen by; None where they are not known.
        test: the rows, whose samples have these `ids`.
        kept_apart: whether they were split from the training rows by groups of like rows. Then only equal ones are looked
            for: what is like what was decided on all rows together, and a part of them may look otherwise.

    Raises:
        EvaluateError: code "all_contaminated" where no row is left to judge by.
    """
    if seen is None:
        return Leaks(checked=False, kinds={})
    found = [overlap for rows in seen if len(rows) for overlap in find_overlap(rows, test)]
    if kept_apart:
        found = [overlap for overlap in found if overlap.kind == "duplicate"]
    kind_at = {(each.other_file, each.other_line): each.kind for each in reversed(found)}
    kinds = {
        key: kind_at[example.file, example.line]
        for key, example in zip(ids, test, strict=True)
        if (example.file, example.line) in kind_at
    }
    first = ""
    if found:
        twin = found[0]
        first = f"{twin.other_file}:{twin.other_line} is a {twin.kind} of {twin.train_file}:{twin.train_line}"
    if kinds and len(kinds) == len(test):
        raise EvaluateError(
            f"Each of the {counted(len(test), 'test row')} stands in the training data; the first: {first}.",
            code="all_contaminated",
            param="data.test",
            hint="Judge on rows that the model has not seen: a score on these says nothing of new ones.",
        )
    return Leaks(True, kinds, first)


def contamination(
    leaks: Leaks, honest: Comparison, with_them: Comparison | None, on_them: Comparison | None
) -> Contamination:
    """Returns what was found and what the score would be with the rows that were trained on.

    Args:
        leaks: the rows.
        honest: the comparison without them.
        with_them: on all rows; None where there are no such rows.
        on_them: on them alone.
    """
    if not leaks.checked:
        sentence = "The training rows are not at hand, so whether test rows stand among them is not known."
    elif not leaks.kinds:
        sentence = "No test row stands in the training or validation data."
    else:
        stand = "stands" if len(leaks.kinds) == 1 else "stand"
        sentence = (
            f"{counted(len(leaks.kinds), 'test row')} also {stand} in the training or validation data (the first: "
            f"{leaks.first}): no part of the verdict. Without, the difference is {signed(honest.difference.value)}"
        )
        if with_them:
            sentence += f", with them it would be {signed(with_them.difference.value)}"
        if on_them:
            sentence += f"; on them alone the fine-tuned model scores {points(on_them.tuned.value)} %"
        sentence += "."
    names = ("base", "fine-tuned")
    return Contamination(
        checked=leaks.checked,
        rows=len(leaks.kinds),
        kinds=dict(Counter(leaks.kinds.values()).most_common()),
        first=leaks.first,
        with_them=pairing(with_them, names) if with_them else None,
        on_them=pairing(on_them, names) if on_them else None,
        sentence=sentence,
    )


def clusters_of(key: str, test: Sequence[Example], ids: Sequence[str]) -> tuple[dict[str, str] | None, str]:
    """Returns the source of each sample, and what makes rows share one; None where each row is a source of its own.

    Args:
        key: as in `evaluate.cluster`.
        test: the rows, whose samples have these `ids`.

    Raises:
        EvaluateError: code "no_cluster" where a row has no value for the key.
    """
    if key == "none":
        return None, ""
    if key == "like-rows":
        grouping = group_examples(test)
        if grouping.num_groups == len(test):
            return None, ""
        return {name: str(group) for name, group in zip(ids, grouping.groups.tolist(), strict=True)}, LIKE_ROWS
    sources = {}
    for name, example in zip(ids, test, strict=True):
        metadata = example.row.get("metadata")
        value = example.row.get(key, metadata.get(key) if isinstance(metadata, dict) else None)
        if not isinstance(value, str | int | float):
            raise EvaluateError(
                f"{example.file}:{example.line}: the row has no {key!r}, neither itself nor in its metadata.",
                code="no_cluster",
                param="evaluate.cluster",
                hint=f'Give each row a "{key}"; a row that shares its source with none gets one of its own.',
            )
        sources[name] = str(value)
    return (sources, key) if len(set(sources.values())) < len(sources) else (None, "")


def cluster_sizes(examples: Sequence[Example], key: str) -> list[int] | None:
    """Returns how many rows each source has, or None where each row is a source of its own."""
    sources, _ = clusters_of(key, examples, [str(number) for number in range(len(examples))])
    return list(Counter(sources.values()).values()) if sources else None
