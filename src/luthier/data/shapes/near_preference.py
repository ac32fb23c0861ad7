"""Rows with a chosen and a rejected answer, as TRL and other trainers write them, read as OpenAI's preference rows."""

from __future__ import annotations

from typing import Any

from luthier.data.chat import Message
from luthier.data.shapes.near_rows import CONVERSATIONS, Converted, Row, left_out, with_system
from luthier.data.shapes.near_turns import conversation, tools_of

_PROMPTS = ("prompt", "question", "instruction", "query")


def is_chosen_rejected(row: Row) -> bool:
    """Whether a row holds a chosen and a rejected answer."""
    return "chosen" in row and "rejected" in row


def read_chosen_rejected(row: Row) -> Converted | None:
    """Returns the row as a preference row.

    The two answers are texts, messages, or whole conversations; of the last, what both begin with is the prompt.
    """
    answers = _answers(row["chosen"]), _answers(row["rejected"])
    prompt = _prompt(row)
    if answers[0] is None or answers[1] is None or prompt is None:
        return None
    (chosen, said), (rejected, more_said) = answers[0], answers[1]
    asked, used, prompt_said = prompt
    shared = _shared(chosen, rejected)
    if shared and asked and asked[-1]["content"] not in [message["content"] for message in chosen[:shared]]:
        return None
    messages = list(chosen[:shared]) if shared else asked
    outputs = chosen[shared:], rejected[shared:]
    if not messages or not all(_is_output(output) for output in outputs):
        return None
    used += with_system(row, messages)
    new: Row = {"input": {"messages": messages}, "preferred_output": outputs[0], "non_preferred_output": outputs[1]}
    if (tools := tools_of(row.get("tools"))) is not None:
        new["input"]["tools"] = tools
        used.append("tools")
    return new, [
        '"chosen" became "preferred_output", "rejected" "non_preferred_output", and what comes before them "input"',
        *dict.fromkeys((*prompt_said, *said, *more_said)),
        *left_out(row, ("chosen", "rejected", *used)),
    ]


def _answers(value: Any) -> tuple[list[Message], list[str]] | None:
    if isinstance(value, str):
        return [{"role": "assistant", "content": value}], []
    return conversation(value if isinstance(value, list) else [value])


def _prompt(row: Row) -> tuple[list[Message], list[str], list[str]] | None:
    """Returns the messages before the answers, the keys they stand under, and what was done; None if they cannot be told."""
    for key in (*CONVERSATIONS, "prompt"):
        if isinstance(row.get(key), list):
            read = conversation(row[key])
            return None if read is None else (read[0], [key], read[1])
    asked = [key for key in (next((key for key in _PROMPTS if row.get(key)), None), "input") if key and row.get(key)]
    if not all(isinstance(row[key], str) for key in asked):
        return None
    messages: list[Message] = [{"role": "user", "content": "\n\n".join(row[key] for key in asked)}] if asked else []
    return messages, asked, []


def _shared(chosen: list[Message], rejected: list[Message]) -> int:
    """Returns how many messages both conversations begin with; at least one of each is left."""
    most = min(len(chosen), len(rejected)) - 1
    return next((place for place in range(most) if chosen[place] != rejected[place]), most)


def _is_output(messages: list[Message]) -> bool:
    return messages[0]["role"] == "assistant" and all(message["role"] in ("assistant", "tool") for message in messages)
