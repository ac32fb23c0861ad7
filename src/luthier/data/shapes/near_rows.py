"""How rows of other tools and vendors become OpenAI's chat rows; for each shape, how to tell it and how to read it.

Texts are taken over as they stand. Where a row leaves open which text is the prompt and which the answer, nothing is
guessed: it is not converted.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from luthier.data.chat import ROLES, Message
from luthier.data.shapes.near_turns import conversation, tools_of
from luthier.data.shapes.parts import parts_text
from luthier.data.shapes.roles import known_role

Row = dict[str, Any]
Converted = tuple[Row, list[str]]
"""A row in OpenAI's format, and sentences that say what was done to the one it was made from."""


QUESTIONS = (
    "question", "prompt", "input", "query", "text", "utterance", "instruction", "text_input", "input_text", "problem",
)  # fmt: skip
ANSWERS = (
    "sql", "answer", "response", "output", "completion", "label", "intent", "target", "summary", "output_text",
    "solution",
)  # fmt: skip
"""Names of columns that hold what is asked, and what is answered; the commoner first."""
_BOOKKEEPING = frozenset((
    "id", "key", "idx", "index", "uid", "uuid", "row_id", "prompt_id", "example_id", "conversation_id", "url", "split",
    "date", "timestamp", "created_at", "license", "licence", "lang", "language", "dataset", "score", "rating", "metadata",
    "meta", "tags", "version",
))  # fmt: skip
CONVERSATIONS = ("conversations", "conversation", "dialog", "dialogue")
_SYSTEM_KEYS = ("system", "system_prompt")
_TURN_ORDER = {role: place for place, role in enumerate(ROLES)}


def is_bookkeeping(key: str) -> bool:
    """Whether a column's name says that it is about the row, and belongs to neither the prompt nor the answer."""
    return key.lower() in _BOOKKEEPING


def is_question(key: str, row: Row) -> bool:
    """Whether a column's name says that it holds what is asked; "source" does where a "target" is translated from it."""
    return key.lower() in QUESTIONS or (key == "source" and "target" in row)


def system_message(value: Any) -> Message | None:
    """Returns the system message that a key beside the conversation holds, or None where it is not text."""
    text = value if isinstance(value, str) else parts_text(value) if isinstance(value, list) else None
    return {"role": "system", "content": text} if text is not None else None


def left_out(row: Row, used: Iterable[str]) -> list[str]:
    """Returns a sentence with the keys of a row that have no place in the new one, or nothing."""
    keys = [key for key, value in row.items() if key not in used and value is not None]
    return [f"left out: {', '.join(keys)}"] if keys else []


def is_sharegpt(row: Row) -> bool:
    """Whether a row holds a list of turns under ShareGPT's key or one like it."""
    return any(isinstance(row.get(key), list) for key in CONVERSATIONS)


def read_sharegpt(row: Row) -> Converted | None:
    """Returns the turns as a chat row."""
    key = next(key for key in CONVERSATIONS if isinstance(row.get(key), list))
    read = conversation(row[key])
    if read is None:
        return None
    messages, said = read
    used = [key, *with_system(row, messages)]
    new: Row = {"messages": messages}
    if (tools := tools_of(row.get("tools"))) is not None:
        new["tools"] = tools
        used.append("tools")
    return new, [f'"{key}" became "messages", in OpenAI\'s words', *said, *left_out(row, used)]


def with_system(row: Row, messages: list[Message]) -> list[str]:
    """Puts the system prompt that stands beside a conversation before it; returns its key, or nothing."""
    used: list[str] = []
    for key in _SYSTEM_KEYS:
        message = system_message(row.get(key))
        if message is None:
            continue
        used.append(key)
        if message["content"] and message["content"] not in [m["content"] for m in messages if m["role"] == "system"]:
            messages.insert(0, message)
    return used


def is_alpaca(row: Row) -> bool:
    """Whether a row has an instruction and an output, as Alpaca and Dolly have them."""
    return "instruction" in row and ("output" in row or "response" in row)


def read_alpaca(row: Row) -> Converted | None:
    """Returns instruction and input as the user message, the output as the answer."""
    answer = "output" if "output" in row else "response"
    asked = [key for key in ("instruction", "input", "context") if row.get(key) not in (None, "")]
    used = [*asked, answer, "history"]
    history = row.get("history") or []
    if not asked or not isinstance(history, list):
        return None
    pairs = [pair for pair in history if isinstance(pair, list) and len(pair) == 2]
    if len(pairs) != len(history):
        return None
    turns = [(role, text) for pair in pairs for role, text in zip(("user", "assistant"), pair, strict=True)]
    if not all(isinstance(row[key], str) for key in asked):
        return None
    messages = texts([*turns, ("user", "\n\n".join(row[key] for key in asked)), ("assistant", row[answer])])
    if messages is None:
        return None
    used += with_system(row, messages)
    return {"messages": messages}, [
        f"{_listed(asked)} became the user message, {_listed([answer])} the assistant message",
        *(['"history" became the turns before them'] if pairs else []),
        *left_out(row, used),
    ]


def is_gemini(row: Row) -> bool:
    """Whether a row holds "contents"."""
    return isinstance(row.get("contents"), list)


def read_gemini(row: Row) -> Converted | None:
    """Returns the contents as a chat row; None where a part is anything but text."""
    turns: list[tuple[Any, Any]] = []
    for turn in row["contents"]:
        if (
            not isinstance(turn, dict)
            or not turn.keys() <= {"role", "parts"}
            or not isinstance(turn.get("parts"), list)
        ):
            return None
        turns.append((turn.get("role", "user"), parts_text(turn["parts"])))
    messages = texts(turns)
    if messages is None:
        return None
    used = ["contents"]
    for key in ("systemInstruction", "system_instruction"):
        value = row.get(key)
        system = system_message(value.get("parts") if isinstance(value, dict) else value)
        if system is not None:
            messages.insert(0, system)
            used.append(key)
    return {"messages": messages}, [
        '"contents" became "messages", the texts of "parts" their content, and the role model assistant',
        *left_out(row, used),
    ]


def is_message(row: Row) -> bool:
    """Whether a row is one message of a conversation."""
    return "role" in row and "content" in row


def is_messages_completion(row: Row) -> bool:
    """Whether prompt and completion are lists of messages."""
    return isinstance(row.get("prompt"), list) and isinstance(row.get("completion"), list)


def read_messages_completion(row: Row) -> Converted | None:
    """Returns both lists as one conversation."""
    read = conversation([*row["prompt"], *row["completion"]])
    if read is None:
        return None
    messages, said = read
    new: Row = {"messages": messages}
    if (tools := tools_of(row.get("tools"))) is not None:
        new["tools"] = tools
    return new, [
        'the messages of "prompt" and "completion" became one conversation',
        *said,
        *left_out(row, ("prompt", "completion", *(("tools",) if tools is not None else ()))),
    ]


def is_judged_completion(row: Row) -> bool:
    """Whether a row holds a completion and whether it is a good one."""
    return "prompt" in row and "completion" in row and isinstance(row.get("label"), bool)


def read_judged_completion(row: Row) -> Converted | None:
    """Returns a good completion as a chat row; a bad one is not to be learned."""
    if row["label"] is not True:
        return None
    messages = texts([("user", row["prompt"]), ("assistant", row["completion"])])
    if messages is None:
        return None
    return {"messages": messages}, [
        '"prompt" became the user message, "completion", which is labelled good, the assistant message',
        *left_out(row, ("prompt", "completion", "label")),
    ]


def named_turns(row: Row) -> list[tuple[str, str]] | None:
    """Returns (role, column) of a flat row whose columns are named after roles, or after question and answer."""
    turns = [(role, key) for key in row if (role := known_role(key)) is not None]
    if {"user", "assistant"} <= {role for role, _ in turns}:
        return sorted(turns, key=lambda turn: _TURN_ORDER[turn[0]])
    question = next((key for key in row if is_question(key, row)), None)
    answer = next((key for key in row if key.lower() in ANSWERS and key != question), None)
    if question is None or answer is None:
        return None
    return [("user", question), ("assistant", answer)]


def is_columns(row: Row) -> bool:
    """Whether a flat row's columns are named after turns."""
    return named_turns(row) is not None


def read_columns(row: Row) -> Converted | None:
    """Returns the columns as messages; None where a column more might belong to the prompt."""
    turns = named_turns(row) or []
    used = [key for _, key in turns]
    others = [key for key, value in row.items() if key not in used and value not in (None, "", [], {})]
    if len({role for role, _ in turns}) < len(turns) or not all(is_bookkeeping(key) for key in others):
        return None
    messages = texts((role, row[key]) for role, key in turns if not (role == "system" and row[key] is None))
    if messages is None:
        return None
    return {"messages": messages}, [
        "; ".join(f'"{key}" became the {role} message' for role, key in turns),
        *left_out(row, used),
    ]


def guessed_turns(row: Row) -> list[Message] | None:
    """Returns the messages that a flat row's columns most likely are, good enough to look at its texts."""
    return texts((role, row[key]) for role, key in named_turns(row) or [])


def texts(turns: Iterable[tuple[Any, Any]]) -> list[Message] | None:
    """Returns turns as messages, or None where a role is unknown or a text is not one."""
    messages = [{"role": known_role(role), "content": text} for role, text in turns]
    whole = all(message["role"] is not None and isinstance(message["content"], str) for message in messages)
    return messages if whole and messages else None


def _listed(keys: list[str]) -> str:
    return " and ".join(f'"{key}"' for key in keys)
