"""The namespaces of OpenAI's templates: `item`, the row, and `sample`, the answer to it."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from luthier.evaluate.graders.calls import read_calls
from luthier.evaluate.graders.protocol import Item

EXPECTED = "target"
"""The key of `item` that holds the expected answer, where the row has none of that name itself."""


def namespaces(target: str, answer: str, item: Item) -> dict[str, Any]:
    """Returns what templates and `python` graders see of a row and its answer."""
    return {"item": item_of(target, item), "sample": sample_of(answer)}


def item_of(target: str, item: Item) -> dict[str, Any]:
    """Returns the row, with the expected answer as `target`."""
    return {EXPECTED: target, **item}


def sample_of(answer: str) -> dict[str, Any]:
    """Returns an answer as OpenAI's `sample`.

    `output_json` is there where the answer is JSON, `output_tools` holds the function calls that stand in it.
    """
    calls = [
        {
            "id": f"call_{number}",
            "type": "function",
            "function": {"name": call.name, "arguments": call.written},
        }
        for number, call in enumerate(read_calls(answer).calls)
    ]
    message = {"role": "assistant", "content": answer, "tool_calls": calls or None}
    sample: dict[str, Any] = {
        "output_text": answer,
        "output_tools": calls,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
    }
    with contextlib.suppress(ValueError, RecursionError):
        sample["output_json"] = json.loads(answer, parse_constant=_no_constant)
    return sample


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")
