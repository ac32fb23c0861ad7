"""How the columns of flat rows become messages, as `--map` says it.

    user=question,assistant=sql,system=instructions
    user="{title}\\n\\n{body}",assistant=label,system="You sort letters."

A bare word is a column. Text in double quotes, or with braces, is a template: `{title}` stands for that column's text,
`\\n` for a line break, `{{` and `}}` for braces. Roles may be repeated, for conversations of several turns.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from luthier.data.findings import Problem
from luthier.data.rules import catalogue_message as rules
from luthier.data.shapes.near_rows import ANSWERS, is_bookkeeping, is_question, left_out
from luthier.data.shapes.wording import did_you_mean, keys_of, kind, short, shown
from luthier.errors import DataError, RecipeError

_ROLES = ("system", "developer", "user", "assistant")
_PAIR = re.compile(
    r'\s*(?P<role>\w+)\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<bare>.*?))\s*(?:,(?=\s*\w+\s*=)|$)', re.DOTALL
)
_PIECE = re.compile(r"\{\{|\}\}|\{(?P<column>[^{}]+)\}|\\(?P<escaped>.)|(?P<text>[^{}\\]+)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t"}
_BARE = re.compile(r"[\w.-](?:[\w .-]*[\w.-])?")
_HINT = 'Write it as user=question,assistant=answer, or with templates as user="{title}\\n\\n{body}",assistant=label.'
_CONTEXTS = ("context", "passage", "document", "article", "background", "schema")
_SYSTEMS = ("system", "system_prompt", "instructions")


@dataclass(frozen=True, slots=True)
class _Piece:
    """A text of a template, or the name of the column whose text stands there."""

    text: str
    is_column: bool


@dataclass(frozen=True, slots=True)
class ColumnMap:
    """What each message of a conversation is made of.

    Attributes:
        text: the map as it was given.
        turns: role and template of each message, in the order of the conversation.
    """

    text: str
    turns: tuple[tuple[str, tuple[_Piece, ...]], ...]

    @classmethod
    def parse(cls, text: str) -> ColumnMap:
        """Returns the map that a text describes.

        Raises:
            RecipeError: code "bad_map".
        """
        turns = list(_turns(text))
        roles = [role for role, _ in turns]
        for role in ("user", "assistant"):
            if role not in roles:
                raise _bad_map(f"It says nothing about the {role}'s messages.")
            if not any(piece.is_column for said, template in turns if said == role for piece in template):
                raise _bad_map(f"The {role}'s messages are made of no column: each would be the same text.")
        spoken = [turn for turn in turns if turn[0] in ("user", "assistant")]
        if len(spoken) == 2:
            spoken.sort(key=lambda turn: _ROLES.index(turn[0]))
        return cls(text, (*(turn for turn in turns if turn[0] not in ("user", "assistant")), *spoken))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are used."""
        names = (piece.text for _, template in self.turns for piece in template if piece.is_column)
        return tuple(dict.fromkeys(names))

    def mapped(self, record: dict[str, Any]) -> dict[str, Any] | Problem:
        """Returns the record as a chat row, or what keeps it from being one: a column without text.

        Numbers and booleans become their JSON text; `notes` says so.
        """
        for column in self.columns:
            value = record.get(column)
            if value is None or isinstance(value, list | dict):
                fault = f"is {kind(value)}" if column in record else f"is missing; there are {keys_of(record)}"
                return rules.MISSING_CONTENT.problem(f"the column {short(column)} {fault}", text=shown(record))
        for _, template in self.turns:
            if len(template) == 1 and not template[0].is_column and template[0].text in record:
                detail = f"{short(template[0].text)} is a column, but stands in quotes in `--map`"
                return rules.MISSING_CONTENT.problem(detail, text=shown(record))
        messages = [{"role": role, "content": _filled(template, record)} for role, template in self.turns]
        return {"messages": messages}

    def row(self, record: dict[str, Any]) -> dict[str, Any]:
        """Returns the record as a chat row.

        Raises:
            DataError: code "bad_column" where a column is missing or holds no text.
        """
        mapped = self.mapped(record)
        if isinstance(mapped, Problem):
            raise DataError(f"Of a row, {mapped.detail}.", code="bad_column", param="--map", hint=_HINT)
        return mapped

    def notes(self, record: dict[str, Any]) -> list[str]:
        """Returns sentences that say what became of a record's values: made text, or left out."""
        turned = [column for column in self.columns if not isinstance(record.get(column), str | None)]
        return [
            *(f'"{column}" held {kind(record[column])}, which became text' for column in turned),
            *left_out(record, self.columns),
        ]

    @staticmethod
    def suggestion(row: dict[str, Any]) -> str | None:
        """Returns the map that a flat row's columns most likely need, or None where there is nothing to go by."""
        chosen = _chosen(row)
        if chosen is None:
            return None
        question, answer = chosen
        contexts = [key for key in _texts_of(row) if key.lower() in _CONTEXTS and key not in chosen]
        system = next((key for key in _texts_of(row) if key.lower() in _SYSTEMS and key not in chosen), None)
        sources = [
            ("user", _written(*contexts, question)),
            ("assistant", _written(answer)),
            *([("system", _written(system))] if system else []),
        ]
        if any(source is None for _, source in sources):
            return None
        return ",".join(f"{role}={source}" for role, source in sources)


def _turns(text: str) -> Iterator[tuple[str, tuple[_Piece, ...]]]:
    place = 0
    while place < len(text) or not place:
        pair = _PAIR.match(text, place)
        if pair is None or pair.end() == place:
            raise _bad_map(f"It cannot be read at “{text[place : place + 40]}”.")
        place = pair.end()
        role, quoted, bare = pair["role"].lower(), pair["quoted"], pair["bare"]
        if role not in _ROLES:
            raise _bad_map(f"There is no role {role}{did_you_mean(role, _ROLES)}: it is one of {', '.join(_ROLES)}.")
        if not (quoted or bare) or (bare and '"' in bare):
            raise _bad_map(f"What follows {role}= is not a column or a template in double quotes.")
        if bare and "{" not in bare and "}" not in bare:
            if "," in bare or "=" in bare:
                raise _bad_map(f'A column named “{bare}” is written in a template: {role}="{{{bare}}}".')
            yield role, (_Piece(bare, is_column=True),)
        else:
            yield role, tuple(_pieces(quoted or bare))


def _pieces(template: str) -> Iterator[_Piece]:
    """Yields the pieces of a template, neighbouring texts as one."""
    place, text = 0, ""
    while place < len(template):
        found = _PIECE.match(template, place)
        if found is None:
            raise _bad_map(f"A brace is open in “{template[:60]}”; one that is meant is written {{{{ or }}}}.")
        place = found.end()
        if found["column"] is None:
            text += found["text"] or _ESCAPED.get(found["escaped"] or "", found["escaped"]) or found[0][0]
            continue
        if text:
            yield _Piece(text, is_column=False)
        text = ""
        yield _Piece(found["column"], is_column=True)
    if text:
        yield _Piece(text, is_column=False)


def _filled(template: tuple[_Piece, ...], record: dict[str, Any]) -> str:
    return "".join(_text(record[piece.text]) if piece.is_column else piece.text for piece in template)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _bad_map(fault: str) -> RecipeError:
    return RecipeError(f"The map of columns is not right. {fault}", code="bad_map", param="--map", hint=_HINT)


def _texts_of(row: dict[str, Any]) -> list[str]:
    """Returns the columns that can become text."""
    return [key for key, value in row.items() if not isinstance(value, list | dict | None)]


def _chosen(row: dict[str, Any]) -> tuple[str, str] | None:
    """Returns the columns of the question and the answer, by their names or because there are only two."""
    usable = [key for key in _texts_of(row) if not is_bookkeeping(key)]
    flat = all(isinstance(row[key], str) for key in usable) and len(_texts_of(row)) == len(row)
    question = next((key for key in usable if is_question(key, row) or key.lower() in ("user", "human")), None)
    answer = next(
        (key for key in usable if key.lower() in (*ANSWERS, "assistant", "gpt", "bot") and key != question), None
    )
    others = [key for key in usable if key not in (question, answer) and key.lower() not in (*_CONTEXTS, *_SYSTEMS)]
    contexts = [key for key in usable if key.lower() in _CONTEXTS]
    if question is None and answer is None:
        return (usable[0], usable[1]) if flat and len(usable) == 2 else None
    if question is None and not others and len(contexts) == 1:
        question = contexts[0]
    if question is None or answer is None:
        if len(others) != 1 or not flat:
            return None
        question, answer = question or others[0], answer or others[0]
    return question, answer


def _written(*columns: str) -> str | None:
    """Returns the source that stands for columns, one below the other, or None where it cannot be written."""
    if len(columns) == 1 and _BARE.fullmatch(columns[0]):
        return columns[0]
    if any("{" in column or "}" in column or "\\" in column or '"' in column or not column for column in columns):
        return None
    return '"' + "\\n\\n".join(f"{{{column}}}" for column in columns) + '"'
