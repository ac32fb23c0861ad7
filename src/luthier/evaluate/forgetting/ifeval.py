"""Tasks of IFEval (arXiv 2311.07911): which of its instructions are checked here, and as what.

A row whose instructions are not all known is left out, counted. Sentences are counted by their full stops, not by NLTK.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from luthier.evaluate.forgetting.items import Check

_Make = Callable[[Mapping[str, Any]], list[Check]]


def checks_of(instruction: str, settings: Mapping[str, Any]) -> list[Check] | None:
    """Returns the checks of an instruction, or None where it is not known here.

    Args:
        instruction: IFEval's id of it, such as `punctuation:no_comma`.
        settings: its `kwargs`.
    """
    make = _INSTRUCTIONS.get(instruction)
    if make is None:
        return None
    try:
        return make({key: value for key, value in settings.items() if value is not None})
    except (KeyError, TypeError, ValueError):
        return None


def _range(settings: Mapping[str, Any], relation: str, number: str) -> dict[str, int]:
    """Returns IFEval's `at least` and `less than` as ends of a range."""
    count = int(settings[number])
    if settings[relation] == "at least":
        return {"at_least": count}
    if settings[relation] == "less than":
        return {"at_most": max(0, count - 1)}
    raise ValueError(settings[relation])


_INSTRUCTIONS: dict[str, _Make] = {
    "keywords:existence": lambda s: [{"check": "contains", "words": list(s["keywords"])}],
    "keywords:forbidden_words": lambda s: [{"check": "excludes", "words": list(s["forbidden_words"])}],
    "keywords:frequency": lambda s: [
        {"check": "frequency", "word": s["keyword"], **_range(s, "relation", "frequency")}
    ],
    "keywords:letter_frequency": lambda s: [
        {"check": "frequency", "word": s["letter"], **_range(s, "let_relation", "let_frequency")}
    ],
    "length_constraints:number_words": lambda s: [{"check": "words", **_range(s, "relation", "num_words")}],
    "length_constraints:number_sentences": lambda s: [{"check": "sentences", **_range(s, "relation", "num_sentences")}],
    "length_constraints:number_paragraphs": lambda s: [
        {"check": "paragraphs", "count": s["num_paragraphs"], "separator": "***"}
    ],
    "length_constraints:nth_paragraph_first_word": lambda s: [
        {"check": "first_word", "word": s["first_word"], "paragraph": s["nth_paragraph"], "count": s["num_paragraphs"]}
    ],
    "detectable_format:number_highlighted_sections": lambda s: [
        {"check": "matches_within", "pattern": r"\*[^\n*]*\S[^\n*]*\*", "at_least": s["num_highlights"]}
    ],
    "detectable_format:title": lambda _: [{"check": "matches_within", "pattern": r"<<[^\n]*\S[^\n]*?>>"}],
    "detectable_format:json_format": lambda _: [{"check": "json"}],
    "detectable_format:number_bullet_lists": lambda s: [{"check": "bullets", "count": s["num_bullets"]}],
    "detectable_format:constrained_response": lambda _: [
        {"check": "contains_one", "words": ["My answer is yes.", "My answer is no.", "My answer is maybe."]}
    ],
    "detectable_format:multiple_sections": lambda s: [
        {
            "check": "matches_within",
            "pattern": rf"(?:{s['section_spliter']})\s?\d+",
            "at_least": s["num_sections"],
        }
    ],
    "detectable_content:number_placeholders": lambda s: [
        {"check": "matches_within", "pattern": r"\[.*?\]", "at_least": s["num_placeholders"]}
    ],
    "detectable_content:postscript": lambda s: [{"check": "contains", "words": [s["postscript_marker"]]}],
    "change_case:english_lowercase": lambda _: [{"check": "lowercase"}],
    "change_case:english_capital": lambda _: [{"check": "uppercase"}],
    "change_case:capital_word_frequency": lambda s: [
        {"check": "capital_words", **_range(s, "capital_relation", "capital_frequency")}
    ],
    "startend:end_checker": lambda s: [{"check": "ends_with", "words": s["end_phrase"]}],
    "startend:quotation": lambda _: [{"check": "quoted"}],
    "combination:two_responses": lambda _: [{"check": "paragraphs", "count": 2, "separator": "******"}],
    "combination:repeat_prompt": lambda s: [{"check": "starts_with", "words": s["prompt_to_repeat"]}],
    "punctuation:no_comma": lambda _: [{"check": "no_comma"}],
}
"""All of IFEval's instructions but the language of the answer, which takes a model to tell."""
