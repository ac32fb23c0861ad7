"""Examples split by group into training, validation and test, and written down.

A group (rows that are equal, nearly equal or share a user message) never straddles two sides. Where the answers are labels,
each side gets its share of every label. The split depends on the seed and on the rows, not on their order in the file.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from luthier.data.chat import Example
from luthier.data.findings import RejectedRow, counted
from luthier.data.rows import Conversation
from luthier.data.rules.rules_answers import AnswerForms
from luthier.data.shapes.formats import recognise
from luthier.data.twins.overlap import group_examples
from luthier.errors import DataError
from luthier.runs import write_atomically

_TOLERANCE = 0.2
"""A side this much larger or smaller than asked for is said in the notes; so is one off by more than two rows."""


@dataclass(frozen=True, slots=True)
class Split:
    """Examples on three sides.

    Attributes:
        train, validation, test: the examples of each side, in an order that depends on the seed alone.
        num_groups: how many groups were kept together.
        num_labels: how many labels the split was stratified by; 0 where the answers are no labels.
        notes: what a person should know about it.
    """

    train: list[Example]
    validation: list[Example]
    test: list[Example]
    num_groups: int
    notes: tuple[str, ...] = ()
    num_labels: int = 0


def split_examples(examples: Sequence[Example], *, validation_share: float, test_share: float, seed: int) -> Split:
    """Splits examples so that no group straddles, and stratifies by label where there are labels.

    Args:
        examples: checked rows.
        validation_share, test_share: of all rows, in [0, 1); 0 leaves the side empty, else it has a row at least.
        seed: decides which groups go where.

    Raises:
        DataError: code "too_few_groups" where the sides asked for cannot all have one.
    """
    grouping = group_examples(examples)
    shares = {"test": test_share, "validation": validation_share}
    wanted = {side: max(1, round(share * len(examples))) for side, share in shares.items() if share > 0}
    if grouping.num_groups < len(wanted) + 1:
        raise _too_few(len(examples), grouping.num_groups, wanted)
    labels = _labels(examples)
    label_of = {id(example): label for example, label in zip(examples, labels or (), strict=False)}
    members: dict[int, list[Example]] = defaultdict(list)
    for example, group in zip(examples, grouping.groups, strict=True):
        members[group].append(example)
    # identical rows have one hash, so a group's smallest hash names it in any order of the rows
    left = sorted(members.values(), key=lambda rows: min(_key(seed, row.content_hash) for row in rows))
    sides: dict[str, list[Example]] = {"test": [], "validation": [], "train": []}
    for place, (side, size) in enumerate(wanted.items()):
        sides_to_come = len(wanted) - place  # this one not counted, but train is
        shared: list[Example] = []
        if labels is not None:
            quotas = _quotas(Counter(labels), size)
            shared, left = _fill_labels(left, quotas, label_of, keep=sides_to_come)
        rest: list[Example] = []
        if len(shared) < size and len(left) > sides_to_come:
            rest, left = _fill(left, size - len(shared), keep=sides_to_come, must=not shared)
        sides[side] = shared + rest
    sides["train"] = [row for rows in left for row in rows]
    ordered = {side: _ordered(rows, seed) for side, rows in sides.items()}
    notes = [*grouping.notes]
    for side, size in wanted.items():
        got = len(ordered[side])
        if abs(got - size) > max(2, _TOLERANCE * size):
            notes.append(
                f"The {side} side has {counted(got, 'row')} where {size:,} were asked for, because rows that belong "
                "together stay together."
            )
    num_labels = len(set(labels)) if labels else 0
    return Split(**ordered, num_groups=grouping.num_groups, notes=tuple(notes), num_labels=num_labels)


def take(examples: Sequence[Example], count: int, seed: int) -> list[Example]:
    """Returns a seeded choice of at most this many examples, whatever their order; a larger one holds the smaller."""
    return _ordered(examples, seed)[:count]


def write_examples(path: str | Path, examples: Iterable[Example]) -> None:
    """Writes examples as JSONL, all or nothing.

    Raises:
        DataError: code "file_not_written".
    """
    _write(Path(path), [orjson.dumps(example.row) for example in examples])


def write_rejected(path: str | Path, rejected: Iterable[RejectedRow], *, append: bool = False) -> None:
    """Writes the rows that were left out, each with its place and reason, all or nothing.

    Args:
        path: the file.
        rejected: the rows.
        append: whether to keep what the file holds already.

    Raises:
        DataError: code "file_not_written".
    """
    _write(Path(path), [orjson.dumps(row.to_json()) for row in rejected], append=append)


def _labels(examples: Sequence[Example]) -> list[str] | None:
    """Returns the label that each example's answer is, or None where the answers are no closed set of labels."""
    forms = AnswerForms()
    conversations = [Conversation(example.row, recognise(example.row), example.messages) for example in examples]
    for conversation in conversations:
        forms.add(conversation)
    return [conversation.answer.strip() for conversation in conversations] if forms.labels() else None


def _quotas(labels: Counter[str], size: int) -> dict[str, int]:
    """Returns how many of a side's rows each label should get: its share, the largest remainders rounded up."""
    exact = {label: size * count / labels.total() for label, count in labels.items()}
    quotas = {label: int(share) for label, share in exact.items()}
    by_remainder = sorted(exact, key=lambda label: (quotas[label] - exact[label], label))
    for label in by_remainder[: size - sum(quotas.values())]:
        quotas[label] += 1
    return quotas


def _fill_labels(
    groups: list[list[Example]], quotas: dict[str, int], label_of: dict[int, str], *, keep: int
) -> tuple[list[Example], list[list[Example]]]:
    """Returns rows up to each label's quota and the groups that are left, of which there are `keep` at least."""
    taken: list[Example] = []
    left: list[list[Example]] = []
    for place, group in enumerate(groups):
        needed = Counter(label_of[id(row)] for row in group)
        spare = len(left) + len(groups) - place > keep
        if spare and all(quotas.get(label, 0) >= count for label, count in needed.items()):
            taken += group
            for label, count in needed.items():
                quotas[label] -= count
        else:
            left.append(group)
    return taken, left


def _fill(
    groups: list[list[Example]], size: int, *, keep: int, must: bool
) -> tuple[list[Example], list[list[Example]]]:
    """Returns the rows of a side and the groups that are left, of which there are `keep` at least.

    The groups are taken in order where they fit; a last one is taken past the size if that comes nearer to it, or if
    the side `must` not stay empty.
    """
    taken: list[list[Example]] = []
    left: list[list[Example]] = []
    num_rows = 0
    for place, group in enumerate(groups):
        spare = len(left) + len(groups) - place > keep
        if spare and num_rows + len(group) <= size:
            taken.append(group)
            num_rows += len(group)
        else:
            left.append(group)
    smallest = min(left, key=len)
    nearer = abs(num_rows + len(smallest) - size) < abs(size - num_rows)
    if len(left) > keep and (nearer or (must and not taken)):
        left.remove(smallest)
        taken.append(smallest)
    return [row for rows in taken for row in rows], left


def _too_few(num_rows: int, num_groups: int, wanted: dict[str, int]) -> DataError:
    sides = " and ".join(["train", *reversed(wanted)])
    together = (
        "" if num_groups == num_rows else ", because rows that are nearly equal or share a user message stay together"
    )
    return DataError(
        f"The {counted(num_rows, 'example')} form {counted(num_groups, 'group')}{together}: "
        f"too few for {len(wanted) + 1} sides ({sides}).",
        code="too_few_groups",
        param="data.test_share" if "test" in wanted else "data.validation_share",
        hint="Add examples that differ in their user messages, or give separate files: data.validation, data.test.",
    )


def _key(seed: int, content_hash: str) -> bytes:
    return hashlib.blake2b(content_hash.encode(), key=str(seed).encode(), digest_size=16).digest()


def _ordered(examples: Sequence[Example], seed: int) -> list[Example]:
    return sorted(examples, key=lambda row: (_key(seed, row.content_hash), row.file, row.line))


def _write(path: Path, lines: list[bytes], *, append: bool = False) -> None:
    try:
        before = path.read_bytes() if append and path.exists() else b""
        write_atomically(path, before + b"".join(line + b"\n" for line in lines))
    except OSError as error:
        raise DataError(
            f"{path} cannot be written: {error.strerror or error}.",
            code="file_not_written",
            param=str(path),
            hint="Check that the folder exists, that it may be written to, and that the disk is not full.",
        ) from error
