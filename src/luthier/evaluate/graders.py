"""Graders: how an answer is scored against the expected one, and which grader suits which answers.

A grader scores one answer at a time. What can only be said of all rows together (macro-F1, micro-averaged fields) is
the `summarise` of those graders that have one. A wrong answer scores 0 with a reason; a row that cannot be judged
scores None with a reason.
"""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Protocol, runtime_checkable

from luthier.errors import EvaluateError
from luthier.evaluate.samples import Grade


class Grader(Protocol):
    """Scores answers.

    Attributes:
        name: as in `evaluate.grader`.
    """

    name: str

    def grade(self, target: str, answer: str) -> Grade:
        """Returns the score of one answer."""
        ...


@runtime_checkable
class Summarising(Protocol):
    """A grader with something to say of all rows together."""

    def summarise(self, targets: Sequence[str], answers: Sequence[str], grades: Sequence[Grade], /) -> dict[str, float]:
        """Returns numbers by name over rows that were all scored; at least one."""
        ...


def summarise(
    grader: Grader, targets: Sequence[str], answers: Sequence[str], grades: Sequence[Grade]
) -> dict[str, float]:
    """Returns a grader's secondary metrics over all scored rows; empty where it has none or no row was scored.

    Args:
        grader: the one that gave the grades.
        targets, answers, grades: of the same rows in the same order.

    Raises:
        ValueError: the lengths differ.
    """
    scored = [row for row in zip(targets, answers, grades, strict=True) if row[2].score is not None]
    if not scored or not isinstance(grader, Summarising):
        return {}
    kept_targets, kept_answers, kept_grades = zip(*scored, strict=True)
    return grader.summarise(kept_targets, kept_answers, kept_grades)


class ExactGrader:
    """1 where the answer equals the expected one, outer whitespace aside."""

    name = "exact"

    def grade(self, target: str, answer: str) -> Grade:
        """Returns 1 or 0, and for 0 the mildest way in which the answer differs."""
        expected, given = target.strip(), answer.strip()
        if expected == given:
            return Grade(1.0)
        if not given:
            return Grade(0.0, "the answer is empty")
        if expected.split() == given.split():
            return Grade(0.0, "differs in whitespace only")
        if expected.casefold() == given.casefold():
            return Grade(0.0, "differs in upper and lower case only")
        if given.startswith(expected):
            return Grade(0.0, "right, but more text follows")
        return Grade(0.0, "differs from the expected answer")


class ContainsGrader:
    """1 where the expected text, outer whitespace aside, stands somewhere in the answer."""

    name = "contains"

    def grade(self, target: str, answer: str) -> Grade:
        """Returns 1 or 0; None for an empty expected text, which stands in every answer."""
        expected = target.strip()
        if not expected:
            return Grade(None, "the expected answer is empty, and an empty text stands in every answer")
        if expected in answer:
            return Grade(1.0)
        return Grade(0.0, "the expected text is not in the answer" if answer.strip() else "the answer is empty")


class LabelGrader:
    """1 where the answer is the expected label; case, a full stop and surrounding quotes do not matter."""

    name = "label"

    def grade(self, target: str, answer: str) -> Grade:
        """Returns 1 or 0; None where nothing is left of the expected label."""
        expected, given = label_of(target), label_of(answer)
        if not expected:
            return Grade(None, "the expected label is empty")
        if expected == given:
            return Grade(1.0)
        if not given:
            return Grade(0.0, "the answer is empty")
        among = re.search(rf"(?<!\w){re.escape(expected)}(?!\w)", given)
        return Grade(0.0, "the label stands among other text" if among else "a different label")

    def summarise(
        self, targets: Sequence[str], answers: Sequence[str], _grades: Sequence[Grade], /
    ) -> dict[str, float]:
        """Returns accuracy, macro-F1 and the share of answers that are a label at all.

        The classes are the labels that occur as targets; any other answer counts as a miss of its row's class. This is
        scikit-learn's `f1_score(average="macro", labels=<those>, zero_division=0)`.
        """
        expected = [label_of(target) for target in targets]
        given = [label_of(answer) for answer in answers]
        support, predicted = Counter(expected), Counter(given)
        right = Counter(label for label, answer in zip(expected, given, strict=True) if label == answer)
        f1 = [2 * right[label] / (support[label] + predicted[label]) for label in support]
        return {
            "accuracy": right.total() / len(expected),
            "macro_f1": sum(f1) / len(f1),
            "known_label": sum(label in support for label in given) / len(given),
        }


class JsonGrader:
    """1 where both are JSON and equal as values: numbers by value, keys in any order, lists in theirs, true not 1."""

    name = "json"

    def grade(self, target: str, answer: str) -> Grade:
        """Returns 1 or 0 with per-field numbers; None where the expected answer is not JSON.

        Fields are the leaves of the value with their whole path, list positions included. The details hold
        `valid_json`, `field_precision`, `field_recall`, `field_f1`, and the counts they rest on.
        """
        try:
            expected = _leaves(parse_json(target))
        except ValueError as error:
            return Grade(None, f"the expected answer cannot be read as JSON: {error}")
        try:
            given = _leaves(parse_json(answer))
        except ValueError as error:
            return Grade(0.0, f"cannot be read as JSON: {error}", _field_details(0, len(expected), 0, valid=False))
        matched = sum(given.get(path) == leaf for path, leaf in expected.items())
        details = _field_details(matched, len(expected), len(given), valid=True)
        if expected == given:
            return Grade(1.0, None, details)
        return Grade(0.0, _first_difference(expected, given), details)

    def summarise(
        self, _targets: Sequence[str], _answers: Sequence[str], grades: Sequence[Grade], /
    ) -> dict[str, float]:
        """Returns the share of valid JSON, and precision, recall and F1 of the fields of all rows together (micro)."""
        matched, expected, given, valid = (
            sum(grade.details[name] for grade in grades)
            for name in ("matched_fields", "expected_fields", "answered_fields", "valid_json")
        )
        fields = _field_details(int(matched), int(expected), int(given), valid=True)
        return {
            "valid_json": valid / len(grades),
            **{name: fields[name] for name in ("field_f1", "field_precision", "field_recall")},
        }


GRADERS: Mapping[str, Grader] = {
    grader.name: grader for grader in (ExactGrader(), JsonGrader(), ContainsGrader(), LabelGrader())
}
"""The graders that need nothing but their name."""


def find_grader(name: str) -> Grader:
    """Returns a grader by name.

    Raises:
        EvaluateError: code "unknown_grader", with the nearest name.
    """
    if name in GRADERS:
        return GRADERS[name]
    near = difflib.get_close_matches(name.strip().lower(), GRADERS, n=1, cutoff=0.5)
    raise EvaluateError(
        f"There is no grader named {name!r}.",
        code="unknown_grader",
        param="evaluate.grader",
        hint=(f"Did you mean {near[0]!r}? " if near else "") + f"Graders: {', '.join(GRADERS)}.",
    )


# Which grader --------------------------------------------------------------------------------------------------------

LABEL_CHARACTERS = 60
"""The longest text taken for a label."""

UNSEEN_LABELS = 0.05
"""The largest chance that the next answer is one not seen before, for the answers to be called a closed set."""

LINE_CHARACTERS = 400
"""The longest text taken for a short line."""

_SENTENCE_WORDS = 12


def infer_grader(train_targets: Sequence[str]) -> tuple[str, str]:
    """Returns the grader that suits these answers, and why, in one sentence.

    JSON where each answer is an object or a list; a label where the answers are short and so often repeated that a new
    one is hardly to be expected; else exact, with a warning where exact equality cannot be expected of anyone.

    Source: the chance of an unseen answer is the share of answers seen once (Good 1953, Biometrika 40:237).
    """
    total = len(train_targets)
    if not total:
        return "exact", "there is no training answer to choose a grader by"
    num_json = sum(map(_is_json_container, train_targets))
    if num_json == total:
        return "json", f"each of the {total:,} training answers is a JSON object or list"
    mixed = (
        f"; {num_json:,} of {total:,} are JSON: where the others are mistakes, set evaluate.grader=json"
        if num_json >= total / 2
        else ""
    )

    labels = Counter(map(label_of, train_targets))
    once = sum(count == 1 for count in labels.values())
    short = all(label and len(label) <= LABEL_CHARACTERS and "\n" not in label for label in labels)
    if short and once / total <= UNSEEN_LABELS:
        kinds = "answer is the same" if len(labels) == 1 else f"answer is one of {len(labels):,} short texts"
        return "label", f"each training {kinds}, and nearly all of them occur more than once{mixed}"

    num_prose = sum(map(_is_prose, train_targets))
    if num_prose <= total / 10:
        share = "all" if num_prose == 0 else "nearly all"
        return "exact", f"{share} training answers are short single lines, not a small set of labels{mixed}"
    return "exact", (
        f"{num_prose:,} of {total:,} training answers are free text, on which exact match can hardly show anything: a "
        f"good answer in other words scores 0; choose with evaluate.grader=contains or another{mixed}"
    )


def label_of(text: str) -> str:
    """Returns a label as it is compared: case folded, without outer whitespace, quotes around it, and a full stop."""
    label = text.strip().casefold()
    while True:
        bare = label.removesuffix(".").strip()
        if len(bare) > 1 and bare[0] + bare[-1] in _QUOTES:
            bare = bare[1:-1].strip()
        if bare == label:
            return label
        label = bare


_QUOTES = {'""', "''", "``", "“”", "„“", "”“", "‘’", "‚‘", "«»", "»«", "‹›"}


def _is_json_container(text: str) -> bool:
    try:
        return isinstance(parse_json(text), dict | list)
    except ValueError:
        return False


def _is_prose(text: str) -> bool:
    """Whether a text is long, of several lines, or a full sentence."""
    bare = text.strip()
    sentence = len(bare.split()) > _SENTENCE_WORDS and bare.endswith((".", "!", "?"))
    return sentence or "\n" in bare or len(bare) > LINE_CHARACTERS


# JSON ----------------------------------------------------------------------------------------------------------------

Path = tuple[str | int, ...]
Leaf = tuple[str, Any]


def parse_json(text: str) -> Any:
    """Returns the value of a JSON text, with every number as a `Decimal`: 1, 1.0 and 1e0 are equal, and 0.1 is 0.1.

    Stricter than Python's parser: no NaN or Infinity, which are not JSON (RFC 8259, section 6), and no key twice, which
    programs read differently (section 4).

    Raises:
        ValueError: the text is not JSON; its message says why, in a few words.
    """
    try:
        return json.loads(
            text, parse_int=Decimal, parse_float=Decimal, parse_constant=_no_constant, object_pairs_hook=_unique_keys
        )
    except json.JSONDecodeError as error:
        raise ValueError(_why_not_json(text, error)) from None
    except RecursionError:
        raise ValueError("nested too deeply to be read") from None
    except ArithmeticError:
        raise ValueError("a number is out of every range") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        key = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f'the key "{_shortened(key)}" stands twice')
    return members


def _why_not_json(text: str, error: json.JSONDecodeError) -> str:
    if not text.strip():
        return "it is empty"
    if re.search(r'```\w*\s*[{\["]', text):
        return "it stands in a ``` fence, on which an application's parser would fail"
    if error.msg == "Extra data":
        return "more text follows the JSON value"
    if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
        return "it breaks off before its end"
    if error.pos == 0 and re.search(r"[{\[]", text):
        return "text stands before the JSON value"
    return f"{error.msg[:1].lower()}{error.msg[1:]} at character {error.pos + 1}"


def _leaves(value: Any) -> dict[Path, Leaf]:
    """Returns each leaf by its path, without recursion; two values are equal exactly if their leaves are.

    A leaf carries its kind, because Python holds True for 1. Empty objects and lists are leaves.
    """
    found: dict[Path, Leaf] = {}
    waiting: list[tuple[Path, Any]] = [((), value)]
    while waiting:
        path, item = waiting.pop()
        if isinstance(item, dict) and item:
            waiting.extend(((*path, key), member) for key, member in item.items())
        elif isinstance(item, list) and item:
            waiting.extend(((*path, index), member) for index, member in enumerate(item))
        else:
            found[path] = (type(item).__name__, item)
    return found


def _field_details(matched: int, expected: int, given: int, *, valid: bool) -> dict[str, float]:
    return {
        "valid_json": float(valid),
        "field_precision": matched / given if given else 0.0,
        "field_recall": matched / expected,
        "field_f1": 2 * matched / (expected + given),
        "matched_fields": float(matched),
        "expected_fields": float(expected),
        "answered_fields": float(given),
    }


def _first_difference(expected: Mapping[Path, Leaf], given: Mapping[Path, Leaf]) -> str:
    missing = [path for path in expected if path not in given]
    added = [path for path in given if path not in expected]
    changed = [path for path in expected if path in given and expected[path] != given[path]]
    num_more = len(missing) + len(added) + len(changed) - 1
    more = f" (and {num_more} more)" if num_more else ""
    if changed:
        path = min(changed, key=_order)
        return f"{_written(path)} is {_shown(given[path])}, expected {_shown(expected[path])}{more}"
    path, word = (min(missing, key=_order), "missing") if missing else (min(added, key=_order), "not expected")
    return f"{_written(path)} is {word}{more}"


def _order(path: Path) -> tuple[tuple[bool, int, str], ...]:
    return tuple((isinstance(part, str), part, "") if isinstance(part, int) else (True, 0, part) for part in path)


def _written(path: Path) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")
    return _shortened(text) if text else "the value"


def _shown(leaf: Leaf) -> str:
    kind, value = leaf
    return _shortened(str(value) if kind == "Decimal" else json.dumps(value, ensure_ascii=False))


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:39]}…"
