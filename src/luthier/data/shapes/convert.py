"""Rows of other shapes converted to OpenAI's, as `luthier clean --convert` does."""

from __future__ import annotations

from luthier.data.cleaning.fixes_message import fix_messages
from luthier.data.rules.rules_message import holds_system_prompt
from luthier.data.shapes.formats import in_openai_words, recognise
from luthier.data.shapes.near_misses import NEAR_MISSES
from luthier.data.shapes.near_rows import Converted, Row, left_out, system_message, texts

_IN_OTHER_WORDS = frozenset(("unknown-role", "content-parts"))


def to_chat(row: Row) -> Converted | None:
    """Returns the row in OpenAI's chat or preference format, and sentences that say what was converted.

    No text is changed, and nothing is lost without a sentence. A row that is in OpenAI's format already is returned as it
    is, without a sentence.

    Returns:
        None where the row does not tell what is asked and what is answered; `ColumnMap` may tell it.
    """
    found = recognise(row)
    if found.name == "completion":
        return _completion(row)
    if found.is_trainable:
        return _in_openai_words(row, found.name)
    near = next((near for near in NEAR_MISSES if near.name == found.name), None)
    return near.convert(row) if near is not None else None


def _completion(row: Row) -> Converted | None:
    messages = texts([("user", row["prompt"]), ("assistant", row["completion"])])
    if messages is None:
        return None
    said = '"prompt" became the user message, "completion" the assistant message'
    return {"messages": messages}, [said, *left_out(row, ("prompt", "completion"))]


def _in_openai_words(row: Row, name: str) -> Converted:
    new, changes = fix_messages(row, _IN_OTHER_WORDS)
    said = list(dict.fromkeys(sentence for _, sentence in changes))
    messages = new.get("messages")
    if (
        name == "chat"
        and isinstance(messages, list)
        and in_openai_words(messages)
        and holds_system_prompt(new, "system")
    ):
        rest = {key: value for key, value in new.items() if key not in ("messages", "system")}
        new = {"messages": [system_message(row["system"]), *messages], **rest}
        said.append('"system" became the first message')
    return new, said
