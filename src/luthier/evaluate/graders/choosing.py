"""Which grader suits which answers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from luthier.evaluate.graders.calls import read_calls
from luthier.evaluate.graders.json_value import parse_json
from luthier.evaluate.graders.label import label_of
from luthier.evaluate.graders.sql import SqlGrader, is_query

LABEL_CHARACTERS = 60
"""The longest text taken for a label."""

UNSEEN_LABELS = 0.05
"""The largest chance that the next answer is one not seen before, for the answers to be called a closed set."""

LINE_CHARACTERS = 400
"""The longest text taken for a short line."""

TRIED_QUERIES = 50
"""Training answers that are run on the database before it is relied on."""

MOSTLY = 0.9
"""The share of training answers that have to be queries, and run, for queries to be what is answered. The choice is ours."""

_SENTENCE_WORDS = 12
_SIGNS_OF_CALLS = re.compile(r'<tool_call>|\[TOOL_CALLS\]|<\|python_tag\|>|"(?:arguments|parameters)"')


def infer_grader(train_targets: Sequence[str], *, database: str | None = None) -> tuple[str, str]:
    """Returns the grader that suits these answers, and why, in one sentence.

    Function calls where each answer makes one; queries where a database is given on which they run; JSON where each
    answer is an object or a list; a label where the answers are short and so often repeated that a new one is hardly to be
    expected; else exact, with a warning where exact equality cannot be expected of anyone.

    Args:
        train_targets: the training answers, as the model has to write them.
        database: a SQLite file that queries may be run on.

    Raises:
        EvaluateError: code "no_database" where that file cannot be read.

    Source: the chance of an unseen answer is the share of answers seen once (Good 1953, Biometrika 40:237).
    """
    total = len(train_targets)
    if not total:
        return "exact", "there is no training answer to choose a grader by"
    num_calling = sum(bool(_SIGNS_OF_CALLS.search(text) and read_calls(text).calls) for text in train_targets)
    if num_calling == total:
        return "tool_calls", f"each of the {total:,} training answers calls a function"
    queries_run, of_queries = _of_queries(train_targets, database)
    if queries_run:
        return "sql", of_queries
    num_json = sum(map(_is_json_container, train_targets))
    if num_json == total:
        return "json", f"each of the {total:,} training answers is a JSON object or list"
    mixed = (
        f"; {num_json:,} of {total:,} are JSON: where the others are mistakes, set evaluate.grader=json"
        if num_json >= total / 2
        else ""
    )
    if num_calling:
        mixed += (
            f"; {num_calling:,} of {total:,} call a function, which evaluate.grader=tool_calls compares by arguments"
        )
    mixed += f"; {of_queries}" if of_queries else ""

    labels = Counter(map(label_of, train_targets))
    once = sum(count == 1 for count in labels.values())
    short = all(label and len(label) <= LABEL_CHARACTERS and "\n" not in label for label in labels)
    if short and once / total <= UNSEEN_LABELS:
        kinds = "answer is the same" if len(labels) == 1 else f"answer is one of {len(labels):,} short texts"
        return "label", f"each training {kinds}, and nearly all of them occur more than once{mixed}"

    num_prose = sum(map(_is_prose, train_targets))
    if num_prose <= total / 10:
        share = "all" if num_prose == 0 else "nearly all"
        return "exact", f"{share} training answers are short single lines, not a small set of labels{mixed}"
    return "exact", (
        f"{num_prose:,} of {total:,} training answers are free text, on which exact match can hardly show anything: a "
        f"good answer in other words scores 0; choose with evaluate.grader=contains or another{mixed}"
    )


def _of_queries(targets: Sequence[str], database: str | None) -> tuple[bool, str]:
    """Returns whether the answers are queries that run, and what is to be said of them; empty for nothing."""
    queries = [text for text in targets if is_query(text)]
    if len(queries) < MOSTLY * len(targets):
        return False, ""
    if database is None:
        return False, "they are queries, and evaluate.database=FILE would have them run and compared by their rows"
    step = max(1, len(queries) // TRIED_QUERIES)
    tried = queries[::step][:TRIED_QUERIES]
    grader = SqlGrader(database=database)
    num_run = sum(grader.database.run(query).rows is not None for query in tried)
    said = f"{num_run:,} of {len(tried):,} tried training answers are queries that run on {grader.database.path.name}"
    enough = num_run >= MOSTLY * len(tried)
    return enough, said if enough else f"only {said}"


def _is_json_container(text: str) -> bool:
    try:
        return isinstance(parse_json(text), dict | list)
    except ValueError:
        return False


def _is_prose(text: str) -> bool:
    """Whether a text is long, of several lines, or a full sentence."""
    bare = text.strip()
    sentence = len(bare.split()) > _SENTENCE_WORDS and bare.endswith((".", "!", "?"))
    return sentence or "\n" in bare or len(bare) > LINE_CHARACTERS
