"""The rules about all rows together. Each is fed row by row and keeps digests and counts, never the rows."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from luthier.data import catalogue_text as rules
from luthier.data.chat import Message, content_text, is_trained
from luthier.data.findings import Finding, counted, quoted
from luthier.data.formats import Format
from luthier.data.likeness import mistyped

_MIN_ANSWERS = 10
"""Below this many answers, sharing their first or last words proves nothing."""
_MIN_CONSTANT_SHARE = 0.95
_MAX_VARIANTS = 50
"""More system prompts than this are filled in row by row; they are meant to differ."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """A row as the rules about the set see it.

    Attributes:
        file, line: where it stands.
        row: the JSON object.
        format: its shape.
        messages: its conversation in OpenAI's words.
    """

    file: str
    line: int
    row: dict[str, Any]
    format: Format
    messages: list[Message]


class SetRule(Protocol):
    """A rule that needs to see all rows."""

    def add(self, conversation: Conversation) -> None:
        """Takes note of a row."""

    def findings(self) -> Iterator[Finding]:
        """Yields what there is to say once all rows are seen."""


class Duplicates:
    """The same messages and tools, word for word. Other keys of a chat row, such as an id, do not count."""

    def __init__(self) -> None:
        self._first: dict[bytes, tuple[str, int]] = {}
        self._again: dict[str, list[tuple[int, str, int]]] = defaultdict(list)

    def add(self, conversation: Conversation) -> None:
        """Takes note of a row."""
        row = conversation.row
        content = (row["messages"], row.get("tools")) if conversation.format.name == "chat" else row
        digest = _digest(content)
        if digest in self._first:
            self._again[conversation.file].append((conversation.line, *self._first[digest]))
        else:
            self._first[digest] = (conversation.file, conversation.line)

    def findings(self) -> Iterator[Finding]:
        """Yields a finding for each file with repeated rows."""
        for file, again in self._again.items():
            originals = len({(other, line) for _, other, line in again})
            line, other, first_line = again[0]
            where = f"line {first_line}" + ("" if other == file else f" of {other}")
            detail = (
                f"{counted(len(again), 'row')} {'repeats' if len(again) == 1 else 'repeat'} {originals:,} earlier "
                f"{'one' if originals == 1 else 'ones'}; line {line} repeats {where}"
            )
            yield rules.DUPLICATE.finding(file, [line for line, _, _ in again], detail)


@dataclass(slots=True)
class _Prompt:
    text: str
    answers: dict[bytes, str]
    places: list[tuple[str, int]]


class ConflictingAnswers:
    """The same messages before the last trained answer, but not the same answer."""

    def __init__(self) -> None:
        self._prompts: dict[bytes, _Prompt] = {}

    def add(self, conversation: Conversation) -> None:
        """Takes note of a row."""
        messages = conversation.messages
        last = _last_answer(messages)
        if last is None:
            return
        before = [
            (message["role"], content_text(message).strip(), message.get("tool_calls")) for message in messages[:last]
        ]
        answer = (content_text(messages[last]).strip(), messages[last].get("tool_calls"))
        asked = next((content_text(message) for message in reversed(messages[:last]) if message["role"] == "user"), "")
        prompt = self._prompts.setdefault(
            _digest([before, conversation.row.get("tools")]), _Prompt(asked[:200], {}, [])
        )
        prompt.answers.setdefault(_digest(answer), answer[0][:200])
        prompt.places.append((conversation.file, conversation.line))

    def findings(self) -> Iterator[Finding]:
        """Yields a finding for each file in which such prompts first stand."""
        by_file: dict[str, list[_Prompt]] = defaultdict(list)
        for prompt in self._prompts.values():
            if len(prompt.answers) > 1:
                by_file[prompt.places[0][0]].append(prompt)
        for file, prompts in by_file.items():
            lines = sorted({line for prompt in prompts for place, line in prompt.places if place == file})
            num_rows = sum(len(prompt.places) for prompt in prompts)
            worst = max(prompts, key=lambda prompt: len(prompt.answers))
            answers = list(worst.answers.values())
            detail = (
                f"{counted(len(prompts), 'prompt')} in {num_rows:,} rows; {quoted(worst.text)} has {len(answers)} "
                f"answers, among them {quoted(answers[0], 40)} and {quoted(answers[1], 40)}"
            )
            yield rules.CONFLICTING_ANSWERS.finding(file, lines, detail)


class SystemPrompts:
    """Rows without the system prompt that others have, and system prompts that differ by a slip."""

    def __init__(self) -> None:
        self._lines: dict[str, list[int]] = defaultdict(list)
        self._file: dict[str, str] = {}
        self._missing: list[tuple[str, int]] = []

    def add(self, conversation: Conversation) -> None:
        """Takes note of a row."""
        system = [
            content_text(message) for message in conversation.messages if message["role"] in ("system", "developer")
        ]
        if not system or not "".join(system).strip():
            self._missing.append((conversation.file, conversation.line))
            return
        text = "\n\n".join(system)
        self._file.setdefault(text, conversation.file)
        self._lines[text].append(conversation.line)

    @property
    def num_prompts(self) -> int:
        """How many different system prompts there are."""
        return len(self._lines)

    def findings(self) -> Iterator[Finding]:
        """Yields what differs."""
        if self._lines and self._missing:
            num_with = sum(len(lines) for lines in self._lines.values())
            detail = f"{counted(num_with, 'row')} with, {counted(len(self._missing), 'row')} without"
            file = self._missing[0][0]
            lines = [line for place, line in self._missing if place == file]
            yield rules.SYSTEM_PROMPT_MISSING.finding(file, lines, detail)
        if not 1 < len(self._lines) <= _MAX_VARIANTS:
            return
        by_count = sorted(self._lines, key=lambda text: (-len(self._lines[text]), text))
        for place, rare in enumerate(by_count):
            common = next((text for text in by_count[:place] if mistyped(text, rare)), None)
            if common is None:
                continue
            common_part, rare_part = _difference(common, rare)
            num_common, num_rare = len(self._lines[common]), len(self._lines[rare])
            detail = (
                f"{counted(num_common, 'row')} say {quoted(common_part)} where {counted(num_rare, 'row')} "
                f"{'says' if num_rare == 1 else 'say'} {quoted(rare_part)}"
            )
            yield rules.SYSTEM_PROMPT_VARIANTS.finding(self._file[rare], self._lines[rare], detail, text=rare)


class Answers:
    """What all answers have in common: their beginning, their end, or everything."""

    def __init__(self) -> None:
        self._places: list[tuple[str, int]] = []
        self._prefix: str | None = None
        self._suffix = ""
        self._counts: Counter[bytes] = Counter()
        self._texts: dict[bytes, str] = {}

    def add(self, conversation: Conversation) -> None:
        """Takes note of a row."""
        last = _last_answer(conversation.messages)
        text = content_text(conversation.messages[last]).strip() if last is not None else ""
        if not text:
            return
        self._places.append((conversation.file, conversation.line))
        digest = _digest(text)
        self._counts[digest] += 1
        self._texts.setdefault(digest, text[:200])
        if self._prefix is None:
            self._prefix = self._suffix = text
        else:
            self._prefix = _common_start(self._prefix, text)
            self._suffix = _common_start(self._suffix[::-1], text[::-1])[::-1]

    def findings(self) -> Iterator[Finding]:
        """Yields what is common, for sets of at least 10 answers."""
        if len(self._places) < _MIN_ANSWERS:
            return
        file = self._places[0][0]
        lines = [line for place, line in self._places if place == file]
        digest, count = self._counts.most_common(1)[0]
        if count >= _MIN_CONSTANT_SHARE * len(self._places):
            detail = f"{count:,} of {len(self._places):,} answers are {quoted(self._texts[digest])}"
            yield rules.CONSTANT_ANSWER.finding(file, lines, detail)
            return
        found = [f"they begin with {quoted(prefix)}" for prefix in [_prefix_artefact(self._prefix or "")] if prefix]
        found += [f"they end with {quoted(suffix)}" for suffix in [_suffix_artefact(self._suffix)] if suffix]
        if found:
            yield rules.UNIFORM_AFFIX.finding(file, lines, " and ".join(found))


class Formats:
    """Rows of different shapes in one file."""

    def __init__(self) -> None:
        self._lines: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))

    def add(self, conversation: Conversation) -> None:
        """Takes note of a row."""
        self._lines[conversation.file][conversation.format.description].append(conversation.line)

    def findings(self) -> Iterator[Finding]:
        """Yields a finding for each file with more than one shape; its lines are those of the rarer shapes."""
        for file, shapes in self._lines.items():
            if len(shapes) < 2:
                continue
            common = sorted(shapes, key=lambda shape: -len(shapes[shape]))
            rarer = sorted(line for shape in common[1:] for line in shapes[shape])
            detail = "; ".join(f"{shape}: {counted(len(shapes[shape]), 'row')}" for shape in common[:5])
            yield rules.MIXED_FORMATS.finding(file, rarer, detail)


def _last_answer(messages: list[Message]) -> int | None:
    """Returns the place of the last message that is learned, or None."""
    return next((place for place in range(len(messages) - 1, -1, -1) if is_trained(messages[place])), None)


def _digest(value: Any) -> bytes:
    return hashlib.blake2b(orjson.dumps(value, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()


def _prefix_artefact(prefix: str) -> str:
    """Returns a common beginning that looks left over: a label with a colon, or several words.

    One word is often the answer's language (SELECT, def), and brackets open JSON or markup: they are meant.
    """
    if prefix[:1] in tuple("{[<`("):
        return ""
    whole_words = (
        prefix[: len(prefix.rstrip()) - len(prefix.rstrip().split(" ")[-1])] if prefix[-1:].isalnum() else prefix
    )
    label = whole_words.rstrip()
    return label if label.endswith(":") or len(label.split()) >= 2 else ""


def _suffix_artefact(suffix: str) -> str:
    """Returns a common end that looks left over: whole words, or more than a full stop or closing brackets."""
    start = 0
    while start < len(suffix) and suffix[start].isalnum():
        start += 1  # the end of a word that may differ further left
    end = suffix[start:].strip()
    if end.startswith("</"):
        return ""  # markup that closes what the answer opened
    return end if end.strip("}])>`\"'.;") and len(end) >= 2 else ""


def _common_start(one: str, other: str) -> str:
    same = next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
    return min(one, other, key=len) if same is None else one[:same]


def _difference(one: str, other: str) -> tuple[str, str]:
    """Returns the parts of two texts around where they differ, at whole words."""
    start = len(_common_start(one, other))
    start = max(0, one.rfind(" ", 0, start)) if start < min(len(one), len(other)) else max(0, start - 20)
    end = len(_common_start(one[start:][::-1], other[start:][::-1]))
    after = one.find(" ", len(one) - end) if end else -1
    end = len(one) - after if after >= 0 else 0
    return one[start : len(one) - end].strip(), other[start : len(other) - end].strip()
