"""Training examples shown in a prompt: what one would try before training anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from luthier.data.chat import Example, Message, content_text, is_trained
from luthier.evaluate.samples import Sample

_INSTRUCTIONS = ("system", "developer")


def with_examples(sample: Sample, examples: Sequence[Example]) -> Sample:
    """Returns a sample whose prompt shows examples as earlier turns of its conversation, before the question.

    The instructions of an example (its system messages) are left out where they are the sample's own, which stand above all
    turns anyway; others are put before the example's first turn.

    Args:
        sample: the question.
        examples: of which everything up to the last trained answer is shown, in this order.
    """
    own, rest = _parted(sample.prompt)
    shown = [turn for example in examples for turn in _turns(example, own)]
    return replace(sample, prompt=[*own, *shown, *rest])


def fitted(sample: Sample, examples: Sequence[Example], fits: Callable[[Sample], bool]) -> tuple[Sample, int]:
    """Returns a sample with as many of the examples as fit, and how many those are.

    Args:
        sample: the question.
        examples: to show; where not all fit, the first ones are left out.
        fits: whether a prompt is short enough.
    """
    for count in range(len(examples), 0, -1):
        shown = with_examples(sample, examples[-count:])
        if fits(shown):
            return shown, count
    return sample, 0


def question_of(messages: Sequence[Message]) -> str:
    """Returns what a conversation asks, all that is said in it but its instructions: what similar ones are found by."""
    return "\n".join(text for message in _parted(messages)[1] if (text := content_text(message)))


def asked_of(example: Example) -> list[Message]:
    """Returns the messages before an example's last trained answer."""
    return example.messages[: _last_trained(example)]


def answer_of(example: Example) -> Message:
    """Returns an example's last trained answer."""
    return example.messages[_last_trained(example)]


def _turns(example: Example, own: Sequence[Message]) -> list[Message]:
    instructions, turns = _parted(example.messages[: _last_trained(example) + 1])
    shown = [{key: value for key, value in turn.items() if key != "weight"} for turn in turns]
    if [content_text(message) for message in instructions] == [content_text(message) for message in own]:
        return shown
    said = "\n\n".join(content_text(message) for message in instructions)
    first = shown[0]
    if said and first["role"] == "user" and isinstance(first.get("content"), str):
        shown[0] = {**first, "content": f"{said}\n\n{first['content']}"}
    elif said:
        shown.insert(0, {"role": "user", "content": said})
    return shown


def _last_trained(example: Example) -> int:
    return max(index for index, message in enumerate(example.messages) if is_trained(message))


def _parted(messages: Sequence[Message]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Returns the instructions that a conversation begins with, and the rest of it."""
    count = next((i for i, message in enumerate(messages) if message["role"] not in _INSTRUCTIONS), len(messages))
    return list(messages[:count]), list(messages[count:])
