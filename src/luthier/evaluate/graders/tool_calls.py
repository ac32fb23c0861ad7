"""The grader of function calls: the right functions, with the right arguments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from luthier.evaluate.graders.calls import Call, Calls, read_calls
from luthier.evaluate.graders.json_value import first_difference
from luthier.evaluate.graders.protocol import NO_ITEM, Item, mean_details, shortened
from luthier.evaluate.samples import Grade
from luthier.recipe_graders import ToolCallsDefinition


class ToolCallsGrader:
    """1 where the answer calls the expected functions, each as often as expected, with the expected arguments.

    Arguments are compared as JSON values. Where no call is expected, an answer without one scores 1 and one with a call
    scores 0; nothing is said of its text.
    """

    name = "tool_calls"

    def __init__(self, definition: ToolCallsDefinition | None = None) -> None:
        given = definition or ToolCallsDefinition(type="tool_calls")
        self._names_only = given.measure == "names"
        self._ordered = given.ordered

    def grade(self, target: str, answer: str, item: Item = NO_ITEM, /) -> Grade:
        """Returns 1 or 0 with `names` and `calls` (all right, or not), `arguments` (the F1 of the arguments of calls
        whose name is right), or `no_call` where none is expected; None where the expected calls cannot be read."""
        expected = read_calls(target)
        if expected.fault:
            return Grade(None, f"of the expected answer, {expected.fault}")
        num_calls = _num_calls(item)
        if num_calls is not None and num_calls != len(expected.calls):
            return Grade(None, "the chat template writes function calls in a way that cannot be read")
        given = read_calls(answer)
        if not expected.calls:
            called = bool(given.calls or given.fault)
            return Grade(
                float(not called),
                "calls a function where none is expected" if called else None,
                {"no_call": float(not called)},
            )
        names, calls = self._compare(expected.calls, given.calls)
        right = names if self._names_only else calls
        arguments = _argument_f1(expected.calls, given.calls)
        details = {"calls": float(calls), "names": float(names), "arguments": arguments}
        return Grade(float(right), None if right else _difference(expected.calls, given, names=names), details)

    def summarise(
        self, _targets: Sequence[str], _answers: Sequence[str], grades: Sequence[Grade], /
    ) -> dict[str, float]:
        """Returns how many of the rows that expect calls have all of them right, their names right, and the mean F1 of
        their arguments; how many of the other rows rightly have none; and the share of rows that expect calls."""
        expecting = sum("calls" in grade.details for grade in grades)
        means = mean_details(grades, ("calls", "names", "arguments", "no_call"))
        words = {
            "calls": "calls_right",
            "names": "names_right",
            "arguments": "argument_f1",
            "no_call": "rightly_no_call",
        }
        return {words[name]: value for name, value in means.items()} | {"rows_with_calls": expecting / len(grades)}

    def _compare(self, wanted: Sequence[Call], made: Sequence[Call]) -> tuple[bool, bool]:
        """Returns whether the names are right, and whether the calls are."""
        if self._ordered:
            names = [call.name for call in wanted] == [call.name for call in made]
            return names, names and all(one.is_like(other) for one, other in zip(wanted, made, strict=True))
        return Counter(c.name for c in wanted) == Counter(c.name for c in made), _unlike(wanted, made) == ([], [])


def _num_calls(item: Item) -> int | None:
    """Returns how many calls the row's last assistant message makes, or None where the row is not at hand."""
    messages: Any = item.get("messages")
    if not isinstance(messages, list):
        return None
    trained = [m for m in messages if isinstance(m, dict) and m.get("role") == "assistant" and m.get("weight", 1) != 0]
    calls = trained[-1].get("tool_calls") if trained else None
    return len(calls) if isinstance(calls, list) else 0


def _argument_f1(wanted: Sequence[Call], made: Sequence[Call]) -> float:
    """Returns the F1 of all arguments, where calls of one name are paired in their order."""
    num_wanted, num_made = (sum(len(call.arguments) for call in calls) for calls in (wanted, made))
    left, matched = list(made), 0
    for call in wanted:
        same = next((other for other in left if other.name == call.name), None)
        if same:
            left.remove(same)
            matched += sum(same.arguments.get(path) == leaf for path, leaf in call.arguments.items())
    return 2 * matched / (num_wanted + num_made)


def _unlike(wanted: Sequence[Call], made: Sequence[Call]) -> tuple[list[Call], list[Call]]:
    """Returns the calls of either side that have no like on the other."""
    missing, left = [], list(made)
    for call in wanted:
        place = next((index for index, other in enumerate(left) if call.is_like(other)), None)
        if place is None:
            missing.append(call)
        else:
            del left[place]
    return missing, left


def _difference(wanted: Sequence[Call], given: Calls, *, names: bool) -> str:
    if not given.calls:
        return given.fault or "no function is called"
    missing, left = _unlike(wanted, given.calls)
    if not names:
        called, expected = (", ".join(call.name for call in calls) for calls in (given.calls, wanted))
        return f"calls {shortened(called, 80)}, expected {shortened(expected, 80)}"
    if not missing:
        return "the calls come in another order"
    other = next(call for call in left if call.name == missing[0].name)
    return f"in the call of {shortened(other.name)}, {first_difference(missing[0].arguments, other.arguments)}"
