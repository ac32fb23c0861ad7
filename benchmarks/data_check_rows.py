"""Writes files of chat rows to measure `luthier check` on: of about 1 kB a row, seeded, with copies planted in them.

    python benchmarks/data_check_rows.py FILE [--rows 10000] [--kind texts|template|tools] [--seed 1]

Three kinds. `texts`: every row says something else, in words of a vocabulary of 40,000. `template`: an order form filled
in again and again, answered by JSON; its rows are alike, and none is a copy of another. `tools`: a question, a call, its
result and an answer, with the function declared beside the messages. In all, the rows share one system prompt, 1 % repeat
an earlier row word for word, and 2 % repeat one with 3 % of the letters of what user and assistant say exchanged.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

VOCABULARY = 40_000
EXACT_SHARE, NEAR_SHARE = 0.01, 0.02
EDITED_SHARE = 0.03
"""Of the letters. A near duplicate is a copy with at most 5 % of its characters edited."""
_SOURCES_KEPT = 10_000
_BATCH_ROWS = 1000
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_SYSTEM = (
    "You are the assistant of a workshop that builds and repairs string instruments. Answer in complete sentences, "
    "name the parts you speak of, and say so when you are not sure."
)
_COMMON = (
    "the of and to in is that it for was on are as with they at be this from have or by one had not but what all were "
    "when we there can an your which their said if do will each about how up out them then many some so these would "
    "other into has more two like him see time could no make than first been its who now people my made over did down "
    "only way find use may long little very after words called just where most know"
)
_ENDINGS = ("", "", "s", "ed", "ing", "er", "ly", "ment", "ness", "able")
_FORM = (
    "Order form 12-B, received by the front desk and copied by hand into this message.\nCustomer: {customer}\nStreet: "
    "{street} {house}\nTown: {town}\nWanted: {count} x {thing}, colour {colour}, size {size}\nAlso: {more} x {other}\n"
    "Deliver on day {day} of month {month}.\nThe customer was told that goods are sent when they are paid for.\n"
    "Remark: {remark}.\nWrite the order as JSON with the keys customer, address, lines, delivery and remark."
)


_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "find_part",
            "description": "Looks a part up in the workshop's store.",
            "parameters": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "count": {"type": "integer", "minimum": 1}},
                "required": ["name", "count"],
            },
        },
    }
]


@dataclass(frozen=True, slots=True)
class Planted:
    """What was written.

    Attributes:
        rows, bytes: of the file.
        exact, near: rows that repeat an earlier one.
    """

    rows: int
    bytes: int
    exact: int
    near: int


class Words:
    """A vocabulary, and sentences of it: every other word is a common English one, the others are drawn evenly."""

    def __init__(self, random: np.random.Generator) -> None:
        self._random = random
        self._common = _COMMON.split()
        syllables = [a + b + c for a in "bcdfglmnprstvw" for b in "aeiou" for c in ("", "n", "r", "st", "l")]
        found: dict[str, None] = {}
        while len(found) < VOCABULARY:
            drawn = random.choice(syllables, (VOCABULARY, 2)).tolist()
            endings = random.choice(_ENDINGS, VOCABULARY).tolist()
            found.update(dict.fromkeys(one + other + end for (one, other), end in zip(drawn, endings, strict=True)))
        self._rare = list(found)[:VOCABULARY]

    def draw(self, count: int) -> list[str]:
        """Returns so many words."""
        common = self._random.integers(0, len(self._common), count).tolist()
        rare = self._random.integers(0, VOCABULARY, count).tolist()
        taken = (self._random.random(count) < 0.5).tolist()
        return [self._common[c] if t else self._rare[r] for c, r, t in zip(common, rare, taken, strict=True)]

    def names(self, count: int) -> list[str]:
        """Returns so many capitalised rare words."""
        return [self._rare[place].capitalize() for place in self._random.integers(0, VOCABULARY, count)]

    def text(self, count: int, *, quotes: bool) -> str:
        """Returns so many words in sentences of 6 to 17 words; with `quotes`, one has typographic quotation marks."""
        words = self.draw(count)
        sentences: list[str] = []
        while words:
            length = 6 + len(words) % 12
            sentence = " ".join(words[:length])
            sentences.append(sentence[0].upper() + sentence[1:] + ".")
            words = words[length:]
        if quotes:
            sentences[-1] = f"“{sentences[-1]}” – naïve"
        return " ".join(sentences)


def write(path: Path, rows: int, kind: str, seed: int) -> Planted:
    """Writes a file of rows and returns what is in it."""
    random = np.random.default_rng(seed)
    words = Words(random)
    made = _forms(words, random) if kind == "template" else _texts(words, random, scale=0.35 if kind == "tools" else 1)
    sources: list[tuple[str, str]] = []
    exact = near = size = 0
    with path.open("wb") as file:
        for start in range(0, rows, _BATCH_ROWS):
            lines = []
            for fate in random.random(min(_BATCH_ROWS, rows - start)).tolist():
                if fate < EXACT_SHARE + NEAR_SHARE and sources:
                    # taken out, so that no row has two copies and every copy can be counted
                    pair = sources.pop(int(random.integers(len(sources))))
                    if fate < EXACT_SHARE:
                        exact += 1
                    else:
                        near += 1
                        pair = (_edited(pair[0], random), pair[1] if kind == "template" else _edited(pair[1], random))
                else:
                    pair = next(made)
                    if len(sources) < _SOURCES_KEPT:
                        sources.append(pair)
                lines.append(json.dumps(_row(kind, *pair), ensure_ascii=False))
            block = ("\n".join(lines) + "\n").encode()
            size += file.write(block)
    return Planted(rows, size, exact, near)


def _row(kind: str, asked: str, answered: str) -> dict[str, Any]:
    messages: list[dict[str, Any]] = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": asked}]
    if kind != "tools":
        return {"messages": [*messages, {"role": "assistant", "content": answered}]}
    name = asked.split()[0]
    called = {"name": "find_part", "arguments": json.dumps({"name": name, "count": 1 + len(asked) % 9})}
    messages += [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": called}],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": json.dumps({"name": name, "in_store": len(answered)})},
        {"role": "assistant", "content": answered},
    ]
    return {"messages": messages, "tools": _TOOLS}


def _texts(words: Words, random: np.random.Generator, *, scale: float) -> Iterator[tuple[str, str]]:
    """Yields questions and answers, of 120 words on average together if not scaled; one in twenty is not ASCII."""
    while True:
        asked = np.clip(scale * random.lognormal(3.55, 0.5, _BATCH_ROWS), 12, 400).astype(int).tolist()
        answered = np.clip(scale * random.lognormal(4.15, 0.5, _BATCH_ROWS), 12, 600).astype(int).tolist()
        quotes = (random.random(_BATCH_ROWS) < 0.05).tolist()
        for one, other, has_quotes in zip(asked, answered, quotes, strict=True):
            yield words.text(one, quotes=has_quotes), words.text(other, quotes=False)


def _forms(words: Words, random: np.random.Generator) -> Iterator[tuple[str, str]]:
    """Yields filled forms and their answers."""
    while True:
        numbers = random.integers(1, [200, 9, 48, 9, 29, 13], (_BATCH_ROWS, 6)).tolist()
        for house, count, size, more, day, month in numbers:
            first, last, street, town = words.names(4)
            thing, colour, other = (name.lower() for name in words.names(3))
            remark = " ".join(words.draw(8))
            filled = {
                "customer": f"{first} {last}",
                "street": f"{street} Street",
                "house": house,
                "town": town,
                "count": count,
                "thing": thing,
                "colour": colour,
                "size": size,
                "more": more,
                "other": other,
                "day": day,
                "month": month,
                "remark": remark,
            }
            answer = {
                "customer": filled["customer"],
                "address": f"{street} Street {house}, {town}",
                "lines": [
                    {"count": count, "thing": thing, "colour": colour, "size": size},
                    {"count": more, "thing": other},
                ],
                "delivery": f"day {day} of month {month}",
                "remark": remark,
            }
            yield _FORM.format(**filled), json.dumps(answer)


def _edited(text: str, random: np.random.Generator) -> str:
    """Returns the text with some of its letters exchanged."""
    letters = [place for place, char in enumerate(text) if char.isascii() and char.islower()]
    count = max(1, int(EDITED_SHARE * len(text)))
    places = random.choice(letters, min(count, len(letters)), replace=False).tolist()
    changed = list(text)
    for place in places:
        changed[place] = _LETTERS[(_LETTERS.index(changed[place]) + int(random.integers(1, 26))) % 26]
    return "".join(changed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--kind", choices=["texts", "template", "tools"], default="texts")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    print(json.dumps(asdict(write(arguments.file, arguments.rows, arguments.kind, arguments.seed))))


if __name__ == "__main__":
    main()
