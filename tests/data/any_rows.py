"""Rows for property tests: right ones, wrong ones, and rows in which any JSON stands anywhere."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

TEXT = st.sampled_from(["", " ", "x", "y", "hi there", "é", "\n", "{}", '{"a": 1}', "[]", "{"])
LEAF = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
    | st.sampled_from(["user", "assistant", "system", "function", "text", "c1", "look", "object", "number"])
)
KEYS = st.sampled_from([
    "type", "text", "id", "function", "name", "arguments", "value", "content", "role", "parameters", "properties", "a",
    "required", "enum", "$ref", "messages", "from",
])  # fmt: skip
ANY = st.recursive(
    LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=8
)
ROLES = st.sampled_from(
    ["system", "developer", "user", "assistant", "tool", "function", "model", "User", "human", "wizard"]
)
PART = (
    st.builds(lambda text: {"type": "text", "text": text}, TEXT)
    | st.builds(lambda text: {"type": "text", "value": text}, TEXT)
    | st.builds(lambda text: {"text": text}, TEXT)
    | st.builds(lambda text: {"type": "text", "text": text, "weight": 1}, TEXT)
    | TEXT
    | st.just({"type": "image_url", "image_url": {"url": "x"}})
    | ANY
)
CALL = (
    st.builds(
        lambda name, number, arguments: {
            "id": f"c{number}",
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        },
        st.sampled_from(["look", "find"]),
        st.integers(1, 3),
        TEXT,
    )
    | ANY
)
MESSAGE_KEYS: dict[str, st.SearchStrategy[Any]] = {
    "name": TEXT | ANY,
    "weight": st.sampled_from([0, 1, None, 2, True]) | ANY,
    "tool_calls": st.lists(CALL, max_size=3) | ANY,
    "tool_call_id": st.sampled_from(["c1", "c2", "c3"]) | ANY,
    "refusal": TEXT | ANY,
    "label": TEXT | ANY,
    "nmae": ANY,
    "function_call": st.builds(lambda text: {"name": "look", "arguments": text}, TEXT) | ANY,
}


def _message(roles: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(
        lambda role, content, rest: {"role": role, "content": content, **rest},
        roles,
        TEXT | st.lists(PART, max_size=3) | st.none() | ANY,
        st.fixed_dictionaries({}, optional=MESSAGE_KEYS) if roles is not _FEW else st.just({}),
    )


_FEW = st.sampled_from(["system", "developer", "user", "assistant", "tool", "function"])
PLAIN = st.builds(lambda role, text: {"role": role, "content": text}, _FEW, TEXT)
MESSAGE = PLAIN | PLAIN | _message(_FEW) | _message(ROLES) | _message(ROLES | LEAF)
MESSAGES = st.lists(PLAIN, min_size=1, max_size=7) | st.lists(MESSAGE, max_size=6) | st.lists(MESSAGE | ANY, max_size=4)
TOOL = st.builds(
    lambda name, parameters: {"type": "function", "function": {"name": name, "parameters": parameters}},
    st.sampled_from(["look", "find", "look out"]),
    st.sampled_from([{"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}, {}, None]) | ANY,
)
_BESIDE: dict[str, st.SearchStrategy[Any]] = {
    "tools": st.lists(TOOL, max_size=3) | ANY,
    "parallel_tool_calls": st.booleans() | ANY,
    "functions": st.lists(st.just({"name": "look"}), max_size=2) | ANY,
    "function_call": ANY,
    "id": LEAF,
    "system": TEXT | st.lists(PART, max_size=2) | ANY,
}
CHAT = st.builds(
    lambda messages, rest: {"messages": messages, **rest}, MESSAGES, st.fixed_dictionaries({}, optional=_BESIDE)
) | st.builds(lambda messages: {"messages": messages}, MESSAGES)
_INPUT = CHAT | ANY
_OUTPUT = st.lists(MESSAGE, max_size=2) | ANY
PREFERENCE = st.builds(
    lambda asked, one, two, rest: {"input": asked, "preferred_output": one, "non_preferred_output": two, **rest},
    _INPUT,
    _OUTPUT,
    _OUTPUT,
    st.dictionaries(st.sampled_from(["id", "tools", "messages"]), ANY, max_size=1),
)
_OTHER_KEYS = st.sampled_from([
    "prompt", "completion", "conversations", "input", "instruction", "output", "response", "context", "history", "system",
    "contents", "systemInstruction", "chosen", "rejected", "preferred_completion", "label", "question", "answer", "sql",
    "User", "Assistant", "role", "content", "tools", "id", "messages", "source", "target",
])  # fmt: skip
TURN = st.builds(
    lambda key, role, text_key, text, rest: {key: role, text_key: text, **rest},
    st.sampled_from(["from", "role"]),
    st.sampled_from(["human", "gpt", "system", "function_call", "observation", "tool", "user", "assistant"]) | LEAF,
    st.sampled_from(["value", "content"]),
    TEXT | st.sampled_from(['{"name": "look", "arguments": {"a": 1}}', '{"name": "look"}']) | ANY,
    st.dictionaries(st.sampled_from(["weight", "score", "name"]), LEAF, max_size=1),
)
_VALUE = TEXT | st.lists(TURN, max_size=4) | TURN | st.lists(MESSAGE, max_size=3) | ANY
OTHER = st.dictionaries(_OTHER_KEYS, _VALUE, max_size=6)
ROW = CHAT | PREFERENCE | OTHER
