"""Whether a text is an edited copy of another one, or both are fillings of one template.

Two fillings of a template can be as alike as a text and its copy with typing errors. What tells them apart is which
words differ: a copy has words that stand nowhere else and are spelt almost like a word that stands everywhere; fillings
have other words, and numbers, that stand in other rows, too.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from rapidfuzz.distance import OSA, Levenshtein

from luthier.data.twins.likeness import FILLER, MIN_RESPELT_CHARS, is_word, tokens
from luthier.data.twins.minhash import shingle_hashes

MIN_JACCARD = 0.8
"""Source: reference/data-quality.md A2."""
MAX_EDITED = 0.06
"""Share of characters edited up to which a text is a copy: 5 %, and some for edits of edited places, which are counted
more than once. Source for the 5 %: reference/data-quality.md A4."""
_MAX_EXACT = 1 << 15
"""Characters of a text from which the edits are counted place by place, which may find a few more. The exact count of
such texts takes 50 ms, and grows with the square of their length."""
_MAX_READ = 1 << 17
"""Characters of a text from which it is not read word by word; that takes a second, and grows with the square."""
_RESPELT, _CLOSE, _WRECKED = 1 / 3, 1 / 4, 0.6
"""Share of its letters up to which an edited word is still the same one: likely (one letter in all is always allowed),
beyond doubt ("December" and "September" are a third apart), and possibly, where it stands nowhere else."""
_LONG_WORD = 7
"""Of two words this long, spelt alike beyond doubt, one is hardly ever another word."""
_TYPED_ONCE = 200
_MAX_TYPED = 20
"""A spelling is a typing error if it stands in one text, or is 200 times as rare as the other one and stands in 20 at
most: the same slip happens more than once in thousands of copies."""
_COMMON = 5
"""A word of a template stands in all texts of its family, but more than this many need not be asked for."""
_TYPOS_A_WRECK, _TYPOS_AN_OTHER = 2, 4
"""Typing errors it takes to believe that a word was wrecked by more of them, or that another word was. Source: planted
copies and fillings (tests/data/test_near.py)."""
_MAX_REWORDED = 3
"""Words of the one place at which a copy of a text that is like no other may be worded otherwise."""
_SHORT_NAME = 4
"""Up to this many characters, a digit more or less makes another name."""
_OPERATORS = frozenset("<>=+*/%&|^~$€£")
"""Signs that are no punctuation: another one is another meaning, as another number is."""

Likeness = Literal["mark", "respelt", "wrecked", "other"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One place at which two texts differ.

    Attributes:
        left, right: the words of either text that the other has not; one of them may be empty, and both are if only
            punctuation or signs differ.
        alike: "mark" if only punctuation, spaces or filler words differ, "respelt" if the spelling does, "wrecked" if
            hardly anything is left of the spelling, "other" if the words are different ones.
        number: whether the numbers in them differ, or signs that mean something.
        spaces: whether the words have the same letters.
        close: whether the spelling is the same beyond doubt.
        once: whether the word stands more often in its text than the other one in the other: a template's value would
            have been replaced everywhere.
    """

    left: tuple[str, ...]
    right: tuple[str, ...]
    alike: Likeness
    number: bool = False
    spaces: bool = False
    close: bool = False
    once: bool = False


@dataclass(frozen=True, slots=True)
class Comparison:
    """How two similar texts differ.

    Attributes:
        differences: the places, in order.
        num_edits: how many characters were put in, left out, replaced or exchanged with their neighbour.
    """

    differences: tuple[Difference, ...]
    num_edits: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a comparison proves.

    Attributes:
        copy: whether one text is a copy of the other.
        num_doubts: how many of the differences may as well be those of two fillings of a template.
        left_edited, right_edited: which of the texts has the typing errors.
    """

    copy: bool
    num_doubts: int = 0
    left_edited: bool = False
    right_edited: bool = False


def compare(one: str, other: str, *, by_jaccard: bool = True) -> Comparison | None:
    """Returns how two normalised texts differ, or None where they are not alike or have too many other words to be copies.

    They are alike where about 5 % of the characters are edited at most, or the Jaccard similarity of the character
    5-grams is 0.8 or more. Of very long texts, the latter alone is looked at.

    Args:
        one, other: the texts.
        by_jaccard: whether the Jaccard similarity counts, too; it takes longer than all the rest.
    """
    if other < one:  # of two equally good alignments, the same one whichever text comes first
        found = compare(other, one, by_jaccard=by_jaccard)
        return found and Comparison(
            tuple(replace(place, left=place.right, right=place.left) for place in found.differences), found.num_edits
        )
    longest = max(len(one), len(other))
    if longest > _MAX_READ:
        return Comparison((), 0) if _similar(one, other) else None
    limit = math.ceil(MAX_EDITED * longest)
    # two exchanged characters are one edit here and two for Levenshtein, which is many times as fast
    within = Levenshtein.distance(one, other, score_cutoff=2 * limit) <= 2 * limit
    if not within and not (by_jaccard and _similar(one, other)):
        return None
    left, right = one.split(), other.split()
    if not within and sorted(left) == sorted(right):  # whole passages were moved
        return Comparison((), limit)
    sides = list(_sides(left, right))
    num_edits = sum(OSA.distance(" ".join(here), " ".join(there)) for here, there in sides)
    if limit < num_edits <= 2 * limit and longest <= _MAX_EXACT:
        num_edits = OSA.distance(one, other)
    if num_edits > limit and within and not (by_jaccard and _similar(one, other)):
        return None
    places = _differences(sides)
    if places is None:
        return None
    return Comparison(tuple(_told_apart(place, one, other) for place in places), num_edits)


def verdict(compared: Comparison, num_alike: int, count: Mapping[str, int]) -> Verdict:
    """Returns whether two texts are copies.

    Args:
        compared: how they differ.
        num_alike: how many texts are as similar to them as they are to each other, themselves included. If only they
            are, there is no template.
        count: in how many of the texts a word stands; 0 for a word that was not counted.
    """
    if num_alike <= 2:
        return Verdict(_alone(compared))
    common = max(2, min(_COMMON, num_alike - 1))
    num_typos = num_doubts = num_wrecked = num_other = 0
    edited = [False, False]
    for place in compared.differences:
        left, right = _rarest(place.left, count), _rarest(place.right, count)
        typed_once = min(left, right) <= max(1, min(_MAX_TYPED, max(left, right) // _TYPED_ONCE))
        if typed_once and _is_typo(place, max(left, right), common):
            num_typos += 1
            edited[right < left if place.left and place.right else bool(place.right)] = True
        elif place.alike == "other":
            num_other += 1
        elif place.alike == "wrecked" and (place.number or not typed_once):
            num_wrecked += 1
        elif place.alike != "mark":
            num_doubts += 1
    doubtful = num_wrecked > num_typos // _TYPOS_A_WRECK or num_other > num_typos // _TYPOS_AN_OTHER
    if doubtful or (num_doubts and not num_typos):
        return Verdict(copy=False)
    return Verdict(True, num_doubts + 2 * num_wrecked + 4 * num_other, *edited)


def jaccard(one: str, other: str) -> float:
    """Returns the Jaccard similarity of the character 5-grams of two texts (of their 64-bit hashes)."""
    left, right = _shingles(one), _shingles(other)
    both = len(np.intersect1d(left, right, assume_unique=True))
    return both / (len(left) + len(right) - both) if both else 0.0


def _similar(one: str, other: str) -> bool:
    shorter, longer = sorted((len(one), len(other)))
    return shorter >= 0.5 * MIN_JACCARD * longer and jaccard(one, other) >= MIN_JACCARD


@functools.lru_cache(maxsize=256)
def _shingles(text: str) -> npt.NDArray[np.uint64]:
    return np.unique(shingle_hashes([text])[0])


@functools.lru_cache(maxsize=256)
def _tokens(text: str) -> list[str]:
    return tokens(text)


def _rarest(side: tuple[str, ...], count: Mapping[str, int]) -> int:
    """Returns in how many texts the rarest word of a side stands."""
    return min([count.get(word, 0) for word in side], default=0)


def _is_typo(place: Difference, known: int, common: int) -> bool:
    """Whether a spelling that stands nowhere else is a typing error, the other one standing in so many texts."""
    if place.alike == "mark":
        return place.spaces and known >= common
    if place.alike != "respelt":
        return False
    if not (place.left and place.right):  # a stray letter
        return known <= 1 and not place.number
    if place.once:
        return True
    longest = max(map(len, (*place.left, *place.right)))
    return not place.number and (known >= common or (known > 1 and place.close and longest >= _LONG_WORD))


def _alone(compared: Comparison) -> bool:
    """Whether two texts that are like no third one are copies: a few letters differ, or one wording, but no number."""
    num_typos = num_numbers = num_wrecked = num_other = 0
    for place in compared.differences:
        if place.number:
            num_numbers += 1 if place.close else 2
        elif place.alike == "other":
            num_other += 1 if _is_wording(place) else 2
        elif place.alike == "wrecked" or (place.alike == "respelt" and not place.close):
            num_wrecked += 1
        elif place.alike == "respelt" or place.spaces:
            num_typos += 1
    if num_numbers > num_typos or num_wrecked > 1 + num_typos // _TYPOS_A_WRECK:
        return False
    return num_other <= num_typos // _TYPOS_AN_OTHER or (num_other == 1 and not num_wrecked)


def _is_wording(place: Difference) -> bool:
    """Whether a few words are said otherwise, or some were added."""
    return not (place.left and place.right) or max(len(place.left), len(place.right)) <= _MAX_REWORDED


def _differences(sides: Iterable[tuple[Sequence[str], Sequence[str]]]) -> list[Difference] | None:
    """Returns the differences within the sides of each place, or None where too many words are other ones."""
    found: list[Difference] = []
    pairs = []
    for left, right in sides:
        one, other = tokens(" ".join(left)), tokens(" ".join(right))
        marks, more = ([token for token in side if not is_word(token)] for side in (one, other))
        if marks != more:
            means = not _OPERATORS.isdisjoint(marks + more)
            found.append(Difference((), (), "respelt" if means else "mark", number=means))
        words = _sides([word for word in one if is_word(word)], [word for word in other if is_word(word)])
        pairs += [(*pair, marks == more) for pair in words]
    # no count of words could make them copies
    most = max(1, sum(max(len(left), len(right)) for left, right, _ in pairs) // _TYPOS_AN_OTHER)
    num_other = 0
    for left, right, same_marks in pairs:
        for place in _split(left, right, same_marks):
            num_other += place.alike == "other"
            if num_other > most:
                return None
            found.append(place)
    return found


def _sides(left: Sequence[str], right: Sequence[str]) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Yields what stands on either side of each place."""
    start, again = 0, 0
    for block in Levenshtein.opcodes(left, right).as_matching_blocks():
        if block.a > start or block.b > again:
            yield tuple(left[start : block.a]), tuple(right[again : block.b])
        start, again = block.a + block.size, block.b + block.size


def _told_apart(place: Difference, left: str, right: str) -> Difference:
    """Returns the difference with whether its word is left as it was elsewhere in the text."""
    if place.alike == "respelt" and len(place.left) == len(place.right) == 1:
        (one,), (other,) = place.left, place.right
        if len(one) >= MIN_RESPELT_CHARS and _tokens(left).count(one) != _tokens(right).count(other):
            return replace(place, once=True)
    return place


def _split(left: tuple[str, ...], right: tuple[str, ...], same_marks: bool) -> list[Difference]:
    """Returns the differences of one place: word by word where that explains it, else as a whole."""
    if len(left) != len(right) or len(left) == 1:
        return [_difference(left, right, same_marks)]
    found = [_difference((one,), (other,), same_marks) for one, other in zip(left, right, strict=True)]
    whole = _difference(left, right, same_marks)
    if whole.alike == "mark" or (whole.alike == "respelt" and any(place.alike == "other" for place in found)):
        return [whole]
    return found


def _difference(left: tuple[str, ...], right: tuple[str, ...], same_marks: bool) -> Difference:
    if not (left and right) and FILLER.issuperset((*left, *right)):
        return Difference(left, right, "mark")
    one, other = "".join(left), "".join(right)
    if one == other:
        # 3.5 is not 35, but "1 000" is 1000
        if one.isdigit() and not same_marks:
            return Difference(left, right, "respelt", number=True)
        return Difference(left, right, "mark", spaces=True)
    digits, more = ("".join(filter(str.isdigit, text)) for text in (one, other))
    longest = max(len(one), len(other))
    # "t7" is another name than "t"; "deli7very" is "delivery" with a typing error, and "20O4" is 2004
    has_numbers = bool(digits and more) or longest <= _SHORT_NAME
    number = digits != more and has_numbers and one.isdigit() == other.isdigit()
    distance = OSA.distance(one, other)
    if distance <= max(1, longest * _RESPELT):
        close = len(left) != len(right) or distance <= max(1, longest * _CLOSE)
        return Difference(left, right, "respelt", number, close=close)
    return Difference(left, right, "wrecked" if distance <= max(2, longest * _WRECKED) else "other", number)
