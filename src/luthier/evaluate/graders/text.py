"""Graders of text as it stands: equal, contained, matched by a regular expression."""

from __future__ import annotations

import regex  # type: ignore[import-untyped]

from luthier.evaluate.graders.protocol import NO_ITEM, Item
from luthier.evaluate.graders.sample import namespaces
from luthier.evaluate.samples import Grade
from luthier.recipe_graders import ContainsDefinition, MissingVariable, RegexDefinition, Template

MATCH_SECONDS = 5.0
"""How long an expression may try an answer: some take exponential time. The limit is ours."""


class ExactGrader:
    """1 where the answer equals the expected one, outer whitespace aside."""

    name = "exact"

    def grade(self, target: str, answer: str, _item: Item = NO_ITEM, /) -> Grade:
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
    """1 where a text, outer whitespace aside, stands somewhere in the answer: the expected answer, or one given."""

    name = "contains"

    def __init__(self, definition: ContainsDefinition | None = None) -> None:
        given = definition or ContainsDefinition(type="contains")
        self._template = None if given.text is None else Template(given.text)
        self._ignore_case = given.ignore_case

    def grade(self, target: str, answer: str, item: Item = NO_ITEM, /) -> Grade:
        """Returns 1 or 0; None for an empty text, which stands in every answer."""
        try:
            text = target if self._template is None else self._template.render(namespaces(target, answer, item))
        except MissingVariable as error:
            return Grade(0.0 if error.namespace == "sample" else None, str(error))
        expected = text.strip()
        if not expected:
            return Grade(None, "the expected answer is empty, and an empty text stands in every answer")
        if expected in answer or (self._ignore_case and expected.casefold() in answer.casefold()):
            return Grade(1.0)
        return Grade(0.0, "the expected text is not in the answer" if answer.strip() else "the answer is empty")


class RegexGrader:
    """1 where a regular expression matches the answer: one given, or the expected answer."""

    name = "regex"

    def __init__(self, definition: RegexDefinition | None = None) -> None:
        given = definition or RegexDefinition(type="regex")
        self._whole = given.match == "full"
        self._flags = regex.IGNORECASE if given.ignore_case else 0
        self._pattern = None if given.pattern is None else regex.compile(given.pattern, self._flags)

    def grade(self, target: str, answer: str, _item: Item = NO_ITEM, /) -> Grade:
        """Returns 1 or 0; None where there is no expression, or it takes too long."""
        try:
            pattern = self._pattern or regex.compile(target.strip(), self._flags)
        except regex.error as error:
            return Grade(None, f"the expected answer is no regular expression: {error}")
        if not pattern.pattern:
            return Grade(None, "the expression is empty, and an empty one matches every answer")
        try:
            if self._whole:
                found = pattern.fullmatch(answer.strip(), timeout=MATCH_SECONDS)
            else:
                found = pattern.search(answer, timeout=MATCH_SECONDS)
        except TimeoutError:
            return Grade(None, f"the expression took longer than {MATCH_SECONDS:g} s on this answer")
        return Grade(1.0) if found else Grade(0.0, "the expression does not match the answer")
