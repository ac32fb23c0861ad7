"""Chat rows of the plainest kinds: known to be without fault after a quick look, as nearly all rows of most files are.

The look is quick because the decoder is told the shape: it refuses values of other types while it reads, and what it
leaves out (keys of other names, keys that stand twice) shows in the number of quotation marks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Required, TypedDict

import msgspec
import orjson

from luthier.data.reading.json_scan import MAX_DEPTH
from luthier.data.reading.json_value import value_problem
from luthier.data.rules.rules_tools import declared_functions, tools_problems
from luthier.data.rules.schemas import Schema, schema_of

_NEXT = {"user": "assistant", "assistant": "user"}
_MARK_AS_CODE = b"\\u0022"
_KEYS_OF_TOOLS = (b', "tools": ', b',"tools":')
_QUOTES_OF_KEY = 2
_MAX_REMEMBERED_BYTES = 2**18
"""With the decoded values and the compiled schemas, some 9 MB of memory, and 15 at worst (schemas of empty schemas)."""
_SHALLOW_CHARS = 1000
"""Arguments that are shorter cannot be nested as deep as Python's own decoder refuses."""
_STRINGS_OF_CALL = 9
"""Its keys id, type, function, name and arguments, and the text behind each but "function"."""


class _Function(TypedDict):
    name: str
    arguments: str


class _Call(TypedDict):
    id: str
    type: Literal["function"]
    function: _Function


class _Turn(TypedDict, total=False):
    role: Required[Literal["system", "developer", "user", "assistant", "tool"]]
    content: str | None
    tool_calls: list[_Call]
    tool_call_id: str
    name: str


class _Row(TypedDict, total=False):
    messages: Required[list[_Turn]]
    tools: msgspec.Raw


_ROW: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_Row)
_ARGUMENTS: msgspec.json.Decoder[Any] = msgspec.json.Decoder(dict[str, Any])


@dataclass(frozen=True, slots=True)
class _Tools:
    """A row's declaration of tools in which nothing is wrong.

    Attributes:
        text: as it is written; `value`: as decoded.
        functions: the schema of each function, by its name.
    """

    text: bytes
    value: list[Any]
    functions: dict[str, Schema]


class _KnownTools(dict[bytes, _Tools | None]):
    """What texts declare as tools, None where anything is wrong with them; the same text stands in row after row.

    At most `_MAX_REMEMBERED_BYTES` of text are remembered; then it begins anew, and a longer text is judged each time.

    Attributes:
        num_bytes: of all texts.
        last: the end of a line on which tools stand last, from before their key on, with the tools; b"" where there was none.
    """

    num_bytes = 0
    last: tuple[bytes, _Tools | None] = b"", None

    def __missing__(self, text: bytes) -> _Tools | None:
        found = _read_tools(text)
        if self.num_bytes + len(text) > _MAX_REMEMBERED_BYTES:
            self.clear()
            self.num_bytes = 0
        if len(text) <= _MAX_REMEMBERED_BYTES:
            self[text] = found
            self.num_bytes += len(text)
        return found

    def note_end(self, raw: bytes, tools: _Tools) -> None:
        """Remembers how a line ends if its tools stand last."""
        for key in _KEYS_OF_TOOLS:
            end = key + tools.text + b"}\n"
            if raw.endswith(end):
                self.last = end, tools


_KNOWN_TOOLS = _KnownTools()


def plain_chat(raw: bytes) -> dict[str, Any] | None:
    """Returns the row that a line of JSON holds if it is a chat row of a plain kind; otherwise, and in doubt, None.

    `message_problems` says nothing about such a row, and decoding it lost nothing. It has no keys but "messages" and "tools";
    the messages have a role and a text; a system message may stand first, then user and assistant take turns, and the
    assistant speaks last. In between, the assistant may call declared functions with fitting arguments, and then the
    results of these calls stand right behind it.

    Rows whose tools are written alike share one list of them, which is not to be changed.

    Every text and key has two quotation marks of its own. What a key that stands twice, or one that the decoder does not
    know, takes away with it nothing else can make up for, unless marks inside of texts are written as code points.
    """
    end, tools = _KNOWN_TOOLS.last
    if tools is not None and raw.endswith(end):
        text = raw[: -len(end)] + b"}"  # if this is an object, then so is the row: that one with the tools behind it
    else:
        text, tools = raw, None
    try:
        row: dict[str, Any] = _ROW.decode(text)
    except (ValueError, RecursionError):
        return None
    num_quotes = _QUOTES_OF_KEY
    if "tools" in row:
        if tools is not None or (tools := _KNOWN_TOOLS[bytes(row["tools"])]) is None:
            return None
        _KNOWN_TOOLS.note_end(raw, tools)
        num_quotes += _QUOTES_OF_KEY + tools.text.count(b'"')
    functions: dict[str, Schema] = {}
    if tools is not None:
        row["tools"], functions = tools.value, tools.functions
    num_strings = num_marks = 0
    waiting: set[str] = set()
    expected, is_first, role = "user", True, None
    for message in row["messages"]:
        role, content, size = message["role"], message.get("content"), len(message)
        num_strings += size + size
        if content and '"' in content:
            num_marks += content.count('"')
        if role == "tool":
            answered = message.get("tool_call_id")
            if content is None or answered not in waiting or (size != 3 and (size != 4 or "name" not in message)):
                return None
            waiting.remove(answered)
        elif waiting:
            return None
        elif size == 2 and content and not content.isspace():
            if role == expected:
                expected = _NEXT[expected]
            elif not is_first or (role != "system" and role != "developer"):
                return None
        elif role == expected == "assistant" and size == 2 + ("content" in message) and "tool_calls" in message:
            written = _written_arguments(message["tool_calls"], functions, waiting)
            if not written:
                return None
            num_marks += written.count('"')
            num_strings += _STRINGS_OF_CALL * len(waiting) - 1 - (content is None and size == 3)
        else:
            return None
        is_first = False
    if role != "assistant" or (num_marks and _MARK_AS_CODE in text):
        return None
    return row if text.count(b'"') == 2 * num_strings + num_marks + num_quotes else None


def _written_arguments(calls: list[_Call], functions: dict[str, Schema], waiting: set[str]) -> str:
    """Returns the arguments of a message's calls one behind the other, and notes the ids of the calls.

    Returns an empty text where there is no call, or one that is not as its function is declared.
    """
    written = ""
    for call in calls:
        number, function = call["id"], call["function"]
        schema, arguments = functions.get(function["name"]), function["arguments"]
        if (
            schema is None
            or not number
            or number in waiting
            or (len(arguments) > _SHALLOW_CHARS and _may_be_deep(arguments))
        ):
            return ""
        try:
            decoded = _ARGUMENTS.decode(arguments)
        except (ValueError, RecursionError):
            return ""
        if schema.fault_of(decoded, len(arguments)) is not None:
            return ""
        waiting.add(number)
        written += arguments
    return written


def _may_be_deep(arguments: str) -> bool:
    return arguments.count("{") + arguments.count("[") > MAX_DEPTH


def _read_tools(text: bytes) -> _Tools | None:
    try:
        row = {"tools": orjson.loads(text)}
    except orjson.JSONDecodeError:
        return None
    # the nesting is that of a row
    if value_problem(f'{{"tools":{text.decode()}}}', row) is not None or not isinstance(row["tools"], list):
        return None
    if next(tools_problems(row), None) is not None:
        return None
    declared = declared_functions(row["tools"]) or {}
    functions = {name: schema_of(parameters) for name, parameters in declared.items()}
    return _Tools(text, row["tools"], functions)
