"""How alike two texts are: the words they share and the pieces they are made of."""

from __future__ import annotations

import re
import unicodedata

from rapidfuzz import fuzz
from rapidfuzz.distance import Indel

SHINGLE_CHARS = 5
"""Characters a shingle. One word changed in ten leaves 0.76 of the character 5-grams alike but only 0.37 of the word
5-grams. Source: measured, reference/data-quality.md A2."""

MAX_MISTYPED_CHARS = 3
MIN_MISTYPED_CHARS = 20

_WORD = re.compile(r"\w+")
_DIGITS = re.compile(r"\d+")
_FILLER = frozenset(
    [
        "a",
        "an",
        "the",
        "please",
        "i",
        "me",
        "my",
        "we",
        "our",
        "you",
        "your",
        "am",
        "is",
        "are",
        "was",
        "be",
        "do",
        "does",
        "did",
        "can",
        "could",
        "would",
        "will",
        "to",
        "s",
        "m",
        "re",
        "ve",
        "d",
        "ll",
    ]
)
"""Words that can come and go without changing what is asked. Question words, prepositions and negations are not."""


def normalised(text: str) -> str:
    """Returns the text with compatible characters unified (NFKC), case folded and whitespace collapsed."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split())


def words(text: str) -> list[str]:
    """Returns the words and numbers of a normalised text, in order."""
    return _WORD.findall(text)


def content_words(text: str) -> list[str]:
    """Returns the sorted words of a normalised text without filler words; all of them where nothing else is left."""
    found = words(text)
    return sorted([word for word in found if word not in _FILLER] or found)


def shingles(text: str) -> frozenset[str]:
    """Returns the character 5-grams of a normalised text."""
    if len(text) <= SHINGLE_CHARS:
        return frozenset((text,))
    return frozenset(text[start : start + SHINGLE_CHARS] for start in range(len(text) - SHINGLE_CHARS + 1))


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """Returns the share of all pieces that both sets have."""
    both = len(one & other)
    return both / (len(one) + len(other) - both) if both else 0.0


def respelt(one: str, other: str) -> bool:
    """Whether two words differ by one letter put in, left out or exchanged. Numbers and short words never do."""
    if one == other:
        return True
    if min(len(one), len(other)) < 4 or not (one.isalpha() and other.isalpha()):
        return False
    return bool(_variants(one) & _variants(other))


def _variants(word: str) -> set[str]:
    return {word, *(word[:place] + word[place + 1 :] for place in range(len(word)))}


def spelling_keys(text: str) -> set[tuple[str, ...]]:
    """Returns keys of which two short texts share one if they have the same content words but for one respelt word.

    Source: the deletion neighbourhood of SymSpell, over words and then over the letters of one word.
    """
    found = content_words(text)
    keys = {tuple(found)}
    for place, word in enumerate(found):
        if len(word) >= 4 and word.isalpha():
            rest = (*found[:place], *found[place + 1 :])
            keys.update((*rest, "·", variant) for variant in _variants(word))
    return keys


def reworded(one: str, other: str) -> bool:
    """Whether two normalised texts say the same in the same words, but for filler words and one respelt word.

    Two texts from one template with different slots ("a table for 4", "a table for 5") do not.
    """
    if one == other:
        return True
    if fuzz.ratio(one, other, score_cutoff=90) == 0:
        return False
    left, right = content_words(one), content_words(other)
    if len(left) != len(right):
        return False
    only_left, only_right = list(left), list(right)
    for word in left:
        if word in only_right:
            only_right.remove(word)
            only_left.remove(word)
    return not only_left or (len(only_left) == 1 and respelt(only_left[0], only_right[0]))


def mistyped(one: str, other: str) -> bool:
    """Whether two texts look meant to be equal: only case, whitespace, or up to three letters or signs differ.

    Texts that differ in a number are not: that is a slot of a template.
    """
    left, right = normalised(one), normalised(other)
    if left == right:
        return True
    if min(len(left), len(right)) < MIN_MISTYPED_CHARS or _DIGITS.findall(left) != _DIGITS.findall(right):
        return False
    return Indel.distance(left, right, score_cutoff=MAX_MISTYPED_CHARS) <= MAX_MISTYPED_CHARS
