"""Role names: OpenAI's, and what those of other vendors mean."""

from __future__ import annotations

from typing import Any

from luthier.data.chat import ROLES

FOREIGN_ROLES = {
    "human": "user",
    "person": "user",
    "customer": "user",
    "prompter": "user",
    "model": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "chatbot": "assistant",
    "bot": "assistant",
    "ai": "assistant",
    "agent": "assistant",
    "function": "tool",
    "observation": "tool",
    "instruction": "system",
}
"""Role names of other vendors and exports, with OpenAI's."""


def known_role(role: Any) -> str | None:
    """Returns the role of OpenAI's format that is meant, or None."""
    if role in ROLES:
        return str(role)
    name = role.strip().lower() if isinstance(role, str) else ""
    return name if name in ROLES else FOREIGN_ROLES.get(name)
