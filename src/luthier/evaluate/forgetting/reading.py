"""Reads a probe: the one that is shipped, or a person's own.

A file is prose, or JSONL whose every line is of one of these shapes; a folder is read file by file.

| a line of | looks like |
|---|---|
| a minimal pair | `{"good": …, "bad": …}`, or BLiMP's `{"sentence_good": …, "sentence_bad": …}` |
| a question | `{"context": …, "choices": […], "answer": 0}` |
| a completion | `{"context": …, "target": …}`, as in LAMBADA |
| a task | `{"prompt": …, "checks": […]}`, or IFEval's `{"prompt": …, "instruction_id_list": […], "kwargs": […]}` |
| prose | `{"text": …}` |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from luthier.errors import EvaluateError
from luthier.evaluate.forgetting.checks import problem_of
from luthier.evaluate.forgetting.ifeval import checks_of
from luthier.evaluate.forgetting.items import (
    LONG_TASK_TOKENS,
    TASK_TOKENS,
    Completion,
    Pair,
    Passage,
    Probe,
    Question,
    Task,
)

DATA = Path(__file__).parent / "data"
BUILTIN, NONE = "builtin", "none"
SUFFIXES = (".jsonl", ".txt")
"""What of a folder is read; a file given by its own name may be called anything."""
PARAM = "evaluate.probe"
_SHAPES = "Give prose, or lines such as " + " or ".join(
    (
        '{"good": "…", "bad": "…"}',
        '{"context": "…", "choices": ["…", "…"], "answer": 0}',
        '{"context": "…", "target": "…"}',
        '{"prompt": "…", "checks": [{"check": "words", "at_most": 5}]}.',
    )
)


def open_probe(given: str) -> Probe | None:
    """Returns what `evaluate.probe` means: `builtin`, a file, a folder; None for `none`.

    Raises:
        EvaluateError: code "no_probe" where there is no such path, "unreadable_probe", "empty_probe", or, with file and
            line, "bad_probe_line".
    """
    if given == NONE:
        return None
    if given == BUILTIN:
        return _read_folder(DATA, BUILTIN)
    path = Path(given).expanduser()
    if not path.exists():
        raise EvaluateError(
            f"{given} does not exist.",
            code="no_probe",
            param=PARAM,
            hint=f'Give a file or a folder, "{BUILTIN}" for the probe that is shipped, or "{NONE}".',
        )
    return _read_folder(path, given) if path.is_dir() else _read_file(path, given)


def _read_folder(folder: Path, name: str) -> Probe:
    probe = Probe(name)
    files = sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    known = [file for file in files if file.suffix in SUFFIXES]
    for file in known:
        probe = probe.joined(_read_file(file, name))
    if not known:
        raise EvaluateError(
            f"{folder} holds no file that ends in {' or '.join(SUFFIXES)}.",
            code="empty_probe",
            param=PARAM,
            hint="Give a folder with such files, or a single file by its name.",
        )
    others = [file.name for file in files if file not in known]
    if others and name != BUILTIN:
        probe = probe.joined(Probe(name, notes=(f"Not read of {folder}: {', '.join(others)}.",)))
    return probe


def _read_file(path: Path, name: str) -> Probe:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else f"it is not UTF-8 (byte {error.start + 1})"
        raise EvaluateError(
            f"{path} cannot be read: {cause}.", code="unreadable_probe", param=PARAM, hint="Give a UTF-8 text file."
        ) from None
    if not text.strip():
        raise EvaluateError(f"{path} is empty.", code="empty_probe", param=PARAM, hint=_SHAPES)
    if path.suffix not in (".jsonl", ".json") and not text.lstrip().startswith("{"):
        return Probe(name, passages=(Passage(path.stem, text),))
    found = _Found(path)
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            found.add(_Line(f"{path}:{number}", found, number), line)
    return found.probe(name)


class _Found:
    """The items of a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pairs: list[Pair] = []
        self.questions: list[Question] = []
        self.completions: list[Completion] = []
        self.passages: list[Passage] = []
        self.tasks: list[Task] = []
        self.left_out: dict[str, int] = {}
        self.ids: dict[tuple[str, str], int] = {}

    def add(self, line: _Line, text: str) -> None:
        """Reads a line.

        Raises:
            EvaluateError: code "bad_probe_line".
        """
        try:
            row = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise line.refuse(f"the line is not JSON: {error}") from None
        if not isinstance(row, dict):
            raise line.refuse("the line is not a JSON object")
        for keys, read in _READERS:
            if keys <= row.keys():
                read(line, row)
                return
        raise line.refuse(f"its keys ({', '.join(row) or 'none'}) are those of no kind of item")

    def probe(self, name: str) -> Probe:
        """Returns what was read.

        Raises:
            EvaluateError: code "empty_probe", where every row was left out.
        """
        notes = tuple(
            f"{count:,} rows of {self.path} were left out: the instruction {instruction} is not checked here."
            for instruction, count in self.left_out.items()
        )
        probe = Probe(
            name,
            tuple(self.pairs),
            tuple(self.questions),
            tuple(self.completions),
            tuple(self.passages),
            tuple(self.tasks),
            notes,
        )
        if not probe.num_items:
            raise EvaluateError(
                f"Nothing of {self.path} can be used. {' '.join(notes)}", code="empty_probe", param=PARAM, hint=_SHAPES
            )
        return probe


@dataclass(frozen=True, slots=True)
class _Line:
    """A line that is read, with its place for whatever is wrong with it."""

    place: str
    found: _Found
    number: int

    def refuse(self, problem: str, hint: str = _SHAPES) -> EvaluateError:
        return EvaluateError(f"{self.place}: {problem}.", code="bad_probe_line", param=PARAM, hint=hint)

    def text(self, row: Mapping[str, Any], key: str) -> str:
        value = row[key]
        if not isinstance(value, str) or not value.strip():
            raise self.refuse(f'"{key}" is not a text with something in it')
        return value

    def id(self, row: Mapping[str, Any], kind: str) -> str:
        """Returns the row's own id, or its line; two items of a kind with one id would be taken for one."""
        given = next((row[key] for key in ("id", "key", "pairID") if row.get(key) is not None), None)
        if given is not None and (not isinstance(given, str | int) or isinstance(given, bool)):
            raise self.refuse("the id is neither a text nor a whole number", "Give ids as text, or leave them out.")
        name = f"{self.found.path.stem}-{self.number}" if given is None else str(given)
        if kind == "pair" and isinstance(row.get("UID"), str):
            name = f"{row['UID']}-{name}"  # BLiMP counts its pairs anew in each phenomenon
        before = self.found.ids.setdefault((kind, name), self.number)
        if before != self.number:
            raise self.refuse(f"the id {name!r} already stands on line {before}", "Give each item its own id, or none.")
        return name

    def group(self, row: Mapping[str, Any], *keys: str) -> str:
        return next((row[key] for key in keys if isinstance(row.get(key), str)), self.found.path.stem)

    def blimp_pair(self, row: Mapping[str, Any]) -> None:
        self.pair({**row, "good": row["sentence_good"], "bad": row["sentence_bad"]})

    def pair(self, row: Mapping[str, Any]) -> None:
        good, bad = self.text(row, "good"), self.text(row, "bad")
        if good == bad:
            raise self.refuse("both sentences are the same", "Remove the line, or write what sets them apart.")
        group = self.group(row, "phenomenon", "UID", "source")
        self.found.pairs.append(Pair(self.id(row, "pair"), group, good, bad))

    def question(self, row: Mapping[str, Any]) -> None:
        choices, answer = row["choices"], row["answer"]
        if not isinstance(choices, list) or len(choices) < 2 or not all(_is_text(choice) for choice in choices):
            raise self.refuse('"choices" are not a list of two texts or more')
        if not isinstance(answer, int) or isinstance(answer, bool) or not 0 <= answer < len(choices):
            raise self.refuse(f'"answer" is not the place of a choice, from 0 to {len(choices) - 1}')
        context, group = self.text(row, "context"), self.group(row, "topic", "source")
        self.found.questions.append(Question(self.id(row, "question"), group, context, tuple(choices), answer))

    def completion(self, row: Mapping[str, Any]) -> None:
        context, target = self.text(row, "context"), self.text(row, "target")
        self.found.completions.append(
            Completion(self.id(row, "completion"), self.group(row, "source"), context, target)
        )

    def passage(self, row: Mapping[str, Any]) -> None:
        self.found.passages.append(Passage(self.group(row, "register", "source"), self.text(row, "text")))

    def task(self, row: Mapping[str, Any]) -> None:
        checks = row["checks"]
        if not isinstance(checks, list) or not checks:
            raise self.refuse('"checks" are not a list with something in it')
        for check in checks:
            if problem := problem_of(check):
                raise self.refuse(problem)
        limit = row.get("max_tokens", TASK_TOKENS)
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
            raise self.refuse('"max_tokens" is not a whole number from 1 on')
        self._add_task(row, self.group(row, "kind", "source"), checks, limit)

    def ifeval(self, row: Mapping[str, Any]) -> None:
        names, settings = row["instruction_id_list"], row["kwargs"]
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise self.refuse('"instruction_id_list" is not a list of texts')
        if not isinstance(settings, list) or len(settings) != len(names):
            raise self.refuse('"kwargs" do not have an object for each instruction')
        checks = []
        for name, setting in zip(names, settings, strict=True):
            found = checks_of(name, setting) if isinstance(setting, dict) else None
            if found is None or any(problem_of(check) for check in found):
                self.found.left_out[name] = self.found.left_out.get(name, 0) + 1
                return
            checks += found
        self._add_task(row, names[0].partition(":")[0], checks, LONG_TASK_TOKENS)

    def _add_task(self, row: Mapping[str, Any], group: str, checks: list[Any], limit: int) -> None:
        self.found.tasks.append(Task(self.id(row, "task"), group, self.text(row, "prompt"), tuple(checks), limit))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


_READERS: tuple[tuple[set[str], Callable[[_Line, Mapping[str, Any]], None]], ...] = (
    ({"good", "bad"}, _Line.pair),
    ({"sentence_good", "sentence_bad"}, _Line.blimp_pair),
    ({"context", "choices", "answer"}, _Line.question),
    ({"context", "target"}, _Line.completion),
    ({"prompt", "checks"}, _Line.task),
    ({"prompt", "instruction_id_list", "kwargs"}, _Line.ifeval),
    ({"text"}, _Line.passage),
)
"""Each kind of item by the keys that tell it; the first that fits."""
