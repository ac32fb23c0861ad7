"""Words of a text, and whether two texts have the same ones."""

from __future__ import annotations

import re
import unicodedata

from rapidfuzz import fuzz
from rapidfuzz.distance import Indel

MAX_MISTYPED_CHARS = 3
MIN_MISTYPED_CHARS = 20
MIN_RESPELT_CHARS = 4
MIN_LONG_WORDS = 20
"""Shorter texts are compared word by word: one slot of a template is a large part of them."""

_WORD = re.compile(r"\w+")
_MANY_WORDS = re.compile(rf"\W*+(?:\w++\W++){{{MIN_LONG_WORDS - 1}}}\w")
_BEGINNING_CHARS = 300
"""Of most long texts; their 20 words need not be looked for further on."""
_OTHER_SPACES = "\t\r\v\f\x1c\x1d\x1e\x1f"
"""What else of ASCII `str.split` takes for whitespace."""
_WIDE = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WIDE_CHAR = re.compile(f"[{_WIDE}]")
"""Characters of scripts that write words without spaces between them (Thai, Burmese, Khmer, Chinese, Japanese)."""
_TOKEN = re.compile(rf"[{_WIDE}]|[^\W{_WIDE}]+|[^\w\s]")
_ASCII_TOKEN = re.compile(r"\w+|[^\w\s]", re.ASCII)
_MARKS_TO_SPACES = "".join(char if char.isalnum() or char == "_" else " " for char in map(chr, range(0x80)))
_WIDE_CHARS_A_WORD = 2
_MARK = re.compile(r"[\[\]{}()<>|\"]")
_DIGITS = re.compile(r"\d+")
FILLER = frozenset(
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
        return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    # most texts have single spaces and a few line breaks between their words, and taking them apart takes the longest
    text = text.lower().replace("\n", " ")
    if "  " in text or any(space in text for space in _OTHER_SPACES):
        return " ".join(text.split())
    return text.strip(" ")


def words(text: str) -> list[str]:
    """Returns the words and numbers of a normalised text, in order."""
    return _WORD.findall(text)


def count_words(text: str) -> int:
    """Returns how many words a normalised text has; two characters are one where words have no spaces between them."""
    found = len(_WORD.findall(text))
    if not text.isascii():
        found = max(found, len(_WIDE_CHAR.findall(text)) // _WIDE_CHARS_A_WORD)
    return found


def count_words_to_long(text: str) -> int:
    """Returns how many words a normalised text has if it is short, and else `MIN_LONG_WORDS`: past these nobody asks."""
    if _MANY_WORDS.match(text, 0, _BEGINNING_CHARS) is not None:
        return MIN_LONG_WORDS
    return min(count_words(text), MIN_LONG_WORDS)


def tokens(text: str) -> list[str]:
    """Returns the words, numbers and punctuation marks of a normalised text, in order."""
    return (_ASCII_TOKEN if text.isascii() else _TOKEN).findall(text)


def different_words(text: str) -> set[str]:
    """Returns the words and numbers among the tokens of a normalised text, and perhaps marks; faster than `tokens`."""
    return set(text.translate(_MARKS_TO_SPACES).split() if text.isascii() else tokens(text))


def is_word(token: str) -> bool:
    """Whether a token is a word or a number, not a punctuation mark."""
    return token[0].isalnum() or token[0] == "_"


def content_words(text: str) -> list[str]:
    """Returns the sorted words of a normalised text without filler words; all of them where nothing else is left."""
    found = words(text)
    return sorted([word for word in found if word not in FILLER] or found)


def respelt(one: str, other: str) -> bool:
    """Whether two words differ by one letter put in, left out or exchanged. Numbers and short words never do."""
    if one == other:
        return True
    if min(len(one), len(other)) < MIN_RESPELT_CHARS or not (one.isalpha() and other.isalpha()):
        return False
    return bool(one_letter_less(one) & one_letter_less(other))


def one_letter_less(word: str) -> set[str]:
    """Returns the word and what is left of it without one of its letters."""
    return {word, *(word[:place] + word[place + 1 :] for place in range(len(word)))}


def rewording(one: str, other: str) -> tuple[str, ...] | None:
    """Returns how two normalised texts say the same: () in the same words, (word, word) with one respelt; None if not.

    Filler words can come and go. Two texts from one template with different slots ("a table for 4", "a table for 5") do
    not say the same.
    """
    if one == other:
        return ()
    if fuzz.ratio(one, other, score_cutoff=90) == 0:
        return None
    if (_is_laid_out(one) or _is_laid_out(other)) and not _same_layout(one, other):
        return None
    left, right = content_words(one), content_words(other)
    if len(left) != len(right):
        return None
    only_left, only_right = list(left), list(right)
    for word in left:
        if word in only_right:
            only_right.remove(word)
            only_left.remove(word)
    if not only_left:
        return ()
    return (*only_left, *only_right) if len(only_left) == 1 and respelt(only_left[0], only_right[0]) else None


def _is_laid_out(text: str) -> bool:
    """Whether a text is data more than a sentence, such as a board or a table: three marks or more for two words.

    A question with a JSON answer has fewer: 1.3 a word in snips-json, where a game's boards have more than 2.
    """
    return 2 * len(_MARK.findall(text)) > 3 * count_words(text)


def _same_layout(one: str, other: str) -> bool:
    """Whether the marks of two texts stand in the same order, and their words too, but for one respelt word."""
    if _WORD.sub("w", one) != _WORD.sub("w", other):
        return False
    differing = [pair for pair in zip(words(one), words(other), strict=True) if pair[0] != pair[1]]
    return len(differing) <= 1


def is_plural(one: str, other: str) -> bool:
    """Whether one of two words is the other one with an s."""
    return one + "s" == other or other + "s" == one


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
