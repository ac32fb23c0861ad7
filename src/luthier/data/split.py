"""Examples split by group into training, validation and test, and written down.

A group (rows that are equal, nearly equal or share a user message) never straddles two sides. Where the answers are labels,
each side gets its share of every label. The split depends on the seed and on the rows, not on their order in the file.
"""

from __future__ import annotations

import hashlib
import itertools
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import orjson

from luthier.data.chat import Example
from luthier.data.findings import RejectedRow, counted
from luthier.data.rows import Conversation, Digests
from luthier.data.rows_on_disk import Files, Numbers, RowsOnDisk, chosen, known_as, lines_between
from luthier.data.rules.rules_answers import AnswerForms
from luthier.data.shapes.formats import recognise
from luthier.data.twins.overlap import group_examples
from luthier.errors import DataError
from luthier.runs import write_atomically

_SIDES = ("train", "validation", "test")
_ROWS_AT_ONCE = 1024
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

    train: Sequence[Example]
    validation: Sequence[Example]
    test: Sequence[Example]
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
    groups = grouping.groups
    shares = {"test": test_share, "validation": validation_share}
    wanted = {side: max(1, round(share * len(examples))) for side, share in shares.items() if share > 0}
    if grouping.num_groups < len(wanted) + 1:
        raise _too_few(len(examples), grouping.num_groups, wanted)
    labels = _labels(examples)
    rank = _ranks(examples, seed)
    size_of = np.bincount(groups, minlength=grouping.num_groups)
    # identical rows have one hash, so a group's first row names it in any order of the rows
    first = np.full(grouping.num_groups, len(examples))
    np.minimum.at(first, groups, rank)
    left: Numbers = np.argsort(first)
    side_of = np.zeros(grouping.num_groups, np.int8)
    for place, (side, size) in enumerate(wanted.items()):
        sides_to_come = len(wanted) - place  # this one not counted, but train is
        num_shared = 0
        if labels is not None:
            shared, left = _fill_labels(left, labels.quotas(size), _LabelsOf(groups, labels.of), keep=sides_to_come)
            side_of[shared] = _SIDES.index(side)
            num_shared = int(size_of[shared].sum())
        if num_shared < size and len(left) > sides_to_come:
            rest, left = _fill(left, size_of, size - num_shared, keep=sides_to_come, must=not num_shared)
            side_of[rest] = _SIDES.index(side)
    of_rows = side_of[groups]
    order = np.argsort(rank)
    sides = {side: order[of_rows[order] == number] for number, side in enumerate(_SIDES)}
    notes = [*grouping.notes]
    for side, size in wanted.items():
        got = len(sides[side])
        if abs(got - size) > max(2, _TOLERANCE * size):
            notes.append(
                f"The {side} side has {counted(got, 'row')} where {size:,} were asked for, because rows that belong "
                "together stay together."
            )
    return Split(
        **{side: chosen(examples, numbers) for side, numbers in sides.items()},
        num_groups=grouping.num_groups,
        notes=tuple(notes),
        num_labels=len(labels.names) if labels is not None else 0,
    )


def take(examples: Sequence[Example], count: int, seed: int) -> Sequence[Example]:
    """Returns a seeded choice of at most this many examples, whatever their order; a larger one holds the smaller."""
    return chosen(examples, np.argsort(_ranks(examples, seed))[:count])


def write_examples(path: str | Path, examples: Sequence[Example]) -> RowsOnDisk:
    """Writes examples as JSONL, one after another, all or nothing; returns them as they lie there, under their places.

    Raises:
        DataError: code "file_not_written".
    """
    sizes = array("q", [0])

    def lines() -> Iterator[bytes]:
        for example in examples:
            line = orjson.dumps(example.row) + b"\n"
            sizes.append(len(line))
            yield line

    _write(Path(path), lines())
    places = lines_between(np.cumsum(sizes))
    names, places["name"], places["line"] = known_as(examples)
    return RowsOnDisk(Files([path]), names, places)


def write_rejected(path: str | Path, rejected: Iterable[RejectedRow], *, append: bool = False) -> None:
    """Writes the rows that were left out, each with its place and reason, all or nothing.

    Args:
        path: the file.
        rejected: the rows.
        append: whether to keep what the file holds already.

    Raises:
        DataError: code "file_not_written".
    """
    path = Path(path)
    before = [path.read_bytes()] if append and path.exists() else []
    _write(path, itertools.chain(before, (orjson.dumps(row.to_json()) + b"\n" for row in rejected)))


@dataclass(frozen=True, slots=True)
class _Labels:
    """The labels that answers are.

    Attributes:
        names: of the labels.
        of: for each example the number of its label, [N].
    """

    names: list[str]
    of: npt.NDArray[np.int32]

    def quotas(self, size: int) -> list[int]:
        """Returns how many of a side's rows each label should get: its share, the largest remainders rounded up."""
        counts = np.bincount(self.of, minlength=len(self.names)).tolist()
        exact = [size * count / len(self.of) for count in counts]
        quotas = [int(share) for share in exact]
        by_remainder = sorted(range(len(exact)), key=lambda label: (quotas[label] - exact[label], self.names[label]))
        for label in by_remainder[: size - sum(quotas)]:
            quotas[label] += 1
        return quotas


def _labels(examples: Sequence[Example]) -> _Labels | None:
    """Returns the labels that the examples' answers are, or None where the answers are no closed set of labels."""
    forms = AnswerForms()
    for number, example in enumerate(examples):
        forms.add(_conversation(example))
        if number % _ROWS_AT_ONCE == 0:
            forms.seal()
    if not forms.labels():
        return None
    numbers: dict[str, int] = {}
    answers = (_conversation(example).answer.strip() for example in examples)
    of = np.fromiter((numbers.setdefault(answer, len(numbers)) for answer in answers), np.int32, len(examples))
    return _Labels(list(numbers), of)


def _conversation(example: Example) -> Conversation:
    return Conversation(example.row, recognise(example.row), example.messages)


class _LabelsOf:
    """The labels of the rows of each group."""

    def __init__(self, groups: Numbers, of: npt.NDArray[np.int32]) -> None:
        order = np.argsort(groups, kind="stable")
        self._labels = of[order]
        self._ends = np.concatenate([[0], np.cumsum(np.bincount(groups))])

    def __getitem__(self, group: int) -> Counter[int]:
        return Counter(self._labels[self._ends[group] : self._ends[group + 1]].tolist())


def _fill_labels(left: Numbers, quotas: list[int], labels_of: _LabelsOf, *, keep: int) -> tuple[Numbers, Numbers]:
    """Returns groups up to each label's quota and the groups that are left, of which there are `keep` at least."""
    taken = np.zeros(len(left), np.bool_)
    num_left, num_wanted = len(left), sum(quotas)
    for place, group in enumerate(left):
        if not num_wanted or num_left <= keep:
            break
        needed = labels_of[group]
        if all(quotas[label] >= count for label, count in needed.items()):
            taken[place] = True
            num_left -= 1
            num_wanted -= needed.total()
            for label, count in needed.items():
                quotas[label] -= count
    return left[taken], left[~taken]


def _fill(left: Numbers, size_of: Numbers, size: int, *, keep: int, must: bool) -> tuple[Numbers, Numbers]:
    """Returns the groups of a side and the groups that are left, of which there are `keep` at least.

    The groups are taken in order where they fit; a last one is taken past the size if that comes nearer to it, or if
    the side `must` not stay empty.
    """
    taken = np.zeros(len(left), np.bool_)
    num_left, num_rows = len(left), 0
    for place, count in enumerate(size_of[left]):
        if num_rows == size or num_left <= keep:
            break
        if num_rows + count <= size:
            taken[place] = True
            num_left -= 1
            num_rows += int(count)
    rest = np.flatnonzero(~taken)
    smallest = rest[np.argmin(size_of[left[rest]])]
    nearer = abs(num_rows + int(size_of[left[smallest]]) - size) < abs(size - num_rows)
    if num_left > keep and (nearer or (must and not num_rows)):
        taken[smallest] = True
    return left[taken], left[~taken]


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


def _ranks(examples: Sequence[Example], seed: int) -> Numbers:
    """Returns the place of each example in an order that depends on the seed and the rows alone, [N]."""
    keys = Digests()
    for number, example in enumerate(examples):
        keys.add(_key(seed, example.content_hash))
        if number % _ROWS_AT_ONCE == 0:
            keys.seal()
    names, name, line = known_as(examples)
    by_name = np.array([sorted(names).index(file) for file in names], np.int64)
    digests = keys.values().view(">u8").astype(np.uint64)  # as numbers in the order of their bytes
    order = np.lexsort((line, by_name[name], digests[:, 1], digests[:, 0]))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank


def _write(path: Path, lines: Iterable[bytes]) -> None:
    try:
        write_atomically(path, lines)
    except OSError as error:
        raise DataError(
            f"{path} cannot be written: {error.strerror or error}.",
            code="file_not_written",
            param=str(path),
            hint="Check that the folder exists, that it may be written to, and that the disk is not full.",
        ) from error
