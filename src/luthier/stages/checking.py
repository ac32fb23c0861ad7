"""A check with what needs more than the data: held-out files, the model's tokens and context, prices, statistics."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from luthier.data.chat import is_trained
from luthier.data.check import CheckResult, Judged, check_files
from luthier.data.counting.cost import billed, default_epochs, load_prices
from luthier.data.counting.estimates import SAMPLE_BYTES, Estimate, estimate_total, sample_rows
from luthier.data.counting.tokens import Counter, ModelCounter, conversation_texts, openai_counter
from luthier.data.findings import Finding, counted
from luthier.data.rows import RowStore, said
from luthier.data.rules import catalogue_set
from luthier.data.rules.catalogue import CODES, chosen
from luthier.data.rules.rules_near import NearDuplicates
from luthier.data.shapes.columns import ColumnMap
from luthier.data.twins.held_out import read_held_out
from luthier.evaluate.outlook import outlook
from luthier.model.sources import CATALOG, model_folder
from luthier.recipe import DataRecipe

_ENCODINGS = ("o200k_base", "cl100k_base")
_TEMPLATE_TOKENS = 512
"""More than any known template writes around a conversation."""
_FRAME_TOKENS = 32
"""More than any known template writes around a message."""
_TOOLS_FACTOR = 4
"""Templates write tools as indented JSON."""
_PROBES = tuple(text * 1000 for text in ("\ufdfa", " ", "a ", "\u0390"))
"""What normalizers make longer, if they make anything longer: U+FDFA has 18 characters under NFKC, U+0390 three under NFD.
Source: UAX #15, "maximum expansion factors"."""


def check_stage(
    paths: Sequence[str | Path],
    *,
    against: Sequence[str | Path],
    only: Sequence[str],
    row_format: str | None,
    column_map: str | None,
    model: str,
    minimum: int,
    keep: bool,
    on_ray: bool,
) -> CheckResult:
    """Returns what is wrong with files of examples; see `luthier.sdk.check`."""
    codes = chosen(only, param="only") if only else frozenset(CODES)
    return check_files(
        paths,
        minimum=minimum,
        codes=codes,
        row_format=row_format,
        column_map=ColumnMap.parse(column_map) if column_map else None,
        held_out=read_held_out(against) if against else None,
        look=_Look(model) if "too-long" in codes else None,
        keep=keep,
        on_ray=on_ray,
        param="data",
    )


class _Look:
    """Looks at the examples once more, for what needs a model, a price list or statistics."""

    def __init__(self, model: str) -> None:
        self._model = model
        folder = model_folder(model) if model in CATALOG else Path(model).expanduser()
        self._folder = folder if (folder / "tokenizer.json").exists() else None
        self._counter = _model_counter(folder, model) if self._folder is not None else None

    def __call__(self, found: Judged, examples: npt.NDArray[np.int64]) -> tuple[list[Finding], dict[str, Any]]:
        """Returns findings about lengths, and what the summary says of tokens, prices and the test."""
        if not len(examples):
            return [], {}
        summary = {**self._tokens(found.rows, examples), "test": _test(found, examples)}
        return self._too_long(found.rows, examples), summary

    def _tokens(self, rows: RowStore, examples: npt.NDArray[np.int64]) -> dict[str, Any]:
        sizes = rows.sizes()[examples]
        tokens: dict[str, Estimate] = {}
        trained: Estimate | None = None
        if self._counter is not None:
            # a model's tokenizer is some ten times as slow as OpenAI's
            picked = sample_rows(sizes, budget_bytes=SAMPLE_BYTES // 4)
            sampled = [rows.conversation(int(examples[place])) for place in picked]
            texts = [[said(message) for message in row.messages] for row in sampled]
            answers = [[said(message) for message in row.messages if is_trained(message)] for row in sampled]
            counted_texts, counted_answers = (_counted(some, self._counter) for some in (texts, answers))
            tokens[self._model] = estimate_total(sizes, dict(zip(picked.tolist(), counted_texts, strict=True)))
            ends = [count + len(some) for count, some in zip(counted_answers, answers, strict=True)]
            trained = estimate_total(sizes, dict(zip(picked.tolist(), ends, strict=True)))
        picked = sample_rows(sizes)
        sampled = [rows.conversation(int(examples[place])) for place in picked]

        def estimated(counts: Sequence[int]) -> Estimate:
            return estimate_total(sizes, dict(zip(picked.tolist(), counts, strict=True)))

        counts = {}
        for name in _ENCODINGS:
            billed_texts = [conversation_texts(row.messages) for row in sampled]
            in_texts = _counted([some for some, _ in billed_texts], openai_counter(name))
            counts[name] = [frame + count for count, (_, frame) in zip(in_texts, billed_texts, strict=True)]
            tokens[name] = estimated(counts[name])
        epochs = default_epochs(len(examples))
        bills = []
        for price in load_prices():
            limit = price.context_tokens
            each_row = counts[price.encoding]
            cut = estimated([int(count > limit) for count in each_row])
            bills.append(billed(estimated([min(limit, c) for c in each_row]), epochs, price, rows_cut=cut).to_json())
        return {
            "tokens": {name: estimate_json(count) for name, count in tokens.items()},
            "trained_tokens": estimate_json(trained) if trained else None,
            "bills": bills,
        }

    def _large(self, rows: RowStore, examples: npt.NDArray[np.int64], context: int) -> list[int]:
        """Returns the rows that are not known to fit by their bytes alone: nearly none, where tokens are a byte at least."""
        assert self._counter is not None
        growth = 0.0
        for probe in _PROBES:
            most = self._counter.longest_possible(probe)
            if most is None:
                return [int(number) for number in examples]
            growth = max(growth, most / len(probe.encode()))
        large: list[int] = examples[rows.sizes()[examples] * growth + _TEMPLATE_TOKENS > context].tolist()
        return large

    def _may_exceed(self, rows: RowStore, number: int, context: int) -> bool:
        assert self._counter is not None
        row = rows.conversation(number)
        most = [self._counter.longest_possible(said(message)) for message in row.messages]
        if None in most:
            return True
        tools = orjson.dumps(row.row.get("tools") or [])
        frames = _FRAME_TOKENS * len(row.messages) + _TEMPLATE_TOKENS + _TOOLS_FACTOR * len(tools)
        return sum(count for count in most if count is not None) + frames > context

    def _too_long(self, rows: RowStore, examples: npt.NDArray[np.int64]) -> list[Finding]:
        context = context_tokens(self._folder) if self._folder is not None else None
        if context is None or self._counter is None:
            detail = f"the tokenizer of {self._model} is not on this machine"
            return [catalogue_set.TOO_LONG_UNCOUNTED.finding(rows.files[0], [], detail)]
        assert self._folder is not None
        suspects = [
            number for number in self._large(rows, examples, context) if self._may_exceed(rows, number, context)
        ]
        if not suspects:
            return []
        # Late: rendering a row as training does needs transformers.
        from luthier.model.chat_template import ChatTokenizer  # noqa: PLC0415

        chat = ChatTokenizer(self._folder)
        lengths = {}
        for number in suspects:
            row = rows.conversation(number)
            text = chat.render(row.messages, row.row.get("tools"))
            lengths[number] = len(chat.tokenizer(text, add_special_tokens=False).input_ids)
        findings = []
        for file, numbers in rows.by_file([number for number, length in lengths.items() if length > context]):
            longest = max(numbers.tolist(), key=lambda number: lengths[number])
            line = rows.lines(np.array([longest]))[0]
            detail = (
                f"{counted(len(numbers), 'row')} over the {context:,} tokens of {self._model}; the longest, line {line}, has "
                f"{lengths[longest]:,}"
            )
            findings.append(catalogue_set.TOO_LONG.finding(file, rows.lines(numbers), detail))
        return findings


@functools.cache
def _model_counter(folder: Path, name: str) -> ModelCounter:
    return ModelCounter(folder, name=name)


def _counted(texts: Sequence[Sequence[str]], counter: Counter) -> list[int]:
    """Returns the tokens of each row's texts together."""
    each = iter(counter.count([text for some in texts for text in some]))
    return [sum(next(each) for _ in some) for some in texts]


def context_tokens(folder: Path) -> int | None:
    """Returns the longest sequence that a model was made for, or None where its config does not say."""
    try:
        config = orjson.loads((folder / "config.json").read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None
    places = [config, config.get("text_config", {})] if isinstance(config, dict) else []
    keys = ("max_position_embeddings", "n_positions", "max_sequence_length")
    found = [place.get(key) for place in places if isinstance(place, dict) for key in keys]
    return next((value for value in found if isinstance(value, int)), None)


def _test(found: Judged, examples: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Returns how large the test will be after the split, and what it can show."""
    share = DataRecipe().test_share
    near = next((rule for rule in found.report.set_rules if isinstance(rule, NearDuplicates)), None)
    num_rows = max(1, round(share * len(examples)))
    num_groups = near.num_groups(found.rows, examples) if near is not None else len(examples)
    # rows of one group fall together: a test is worth as many rows as it has groups
    effective = min(num_rows, max(1, round(share * num_groups)))
    ahead = outlook(effective)
    like = "" if num_groups == len(examples) else f" in about {effective:,} groups of like rows, which count once each"
    return {
        "rows": num_rows,
        "groups": num_groups,
        "effective_rows": effective,
        "detectable_gain": ahead.detectable_gain,
        "rows_needed": ahead.rows_needed,
        "said": f"about {counted(num_rows, 'test row')}{like}. {ahead.sentence}",
    }


def estimate_json(estimate: Estimate) -> dict[str, Any]:
    """Returns plain JSON values."""
    return {
        "total": estimate.total,
        "low": estimate.low,
        "high": estimate.high,
        "exact": estimate.exact,
        "sampled_rows": estimate.sampled_rows,
    }
