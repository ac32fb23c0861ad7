"""Measures of likeness against the libraries that define them: rapidfuzz, sacrebleu, nltk, rouge-score."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.evaluate.graders.metrics import METRICS
from luthier.evaluate.graders.metrics.porter import stem
from luthier.evaluate.graders.metrics.words import words_of

pytestmark = pytest.mark.reference

TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "the quick brown dog jumped over the lazy foxes",
    "A quick, brown fox -- jumping over 3.5 lazy dogs; isn't it?",
    "It is a guide to action which ensures that the military always obeys the commands of the party.",
    "It is a guide to action that ensures that the military will forever heed Party commands.",
    "Paris",
    "paris is the capital of France",
    "SELECT name FROM users WHERE age >= 21 AND city = 'Berlin'",
    "He said &quot;no&quot; &amp; left at 10:30, paying $1,234.56 (in cash).",
    "no no no no no",
    "no",
    "",
    "   ",
    "Größe und Übermut tun selten gut",
    "日本語のテキスト",
    "line one\nline two\nline-\nthree",
    "relational conditional rational valenci digitizer conformabli radicalli differentli vileli analogousli",
    "troubled sized hopping falling hissing fizzed failing filing happy sky agreed feed plastered bled motoring sing",
    "generalizations oscillators adjustable defensible irritant replacement dependent adoption communism",
)
PAIRS = list(itertools.product(TEXTS, TEXTS))
WORDS = st.lists(
    st.sampled_from(
        [*"abcde", "the", "The", "cats", "cat", "running", "run", "10", "3.5", "e.g.", "don't", "-", ",", "é"]
    ),
    max_size=30,
).map(" ".join)


def assert_same(metric: str, text: str, reference: str, expected: float) -> None:
    assert METRICS[metric](text, reference) == pytest.approx(expected, abs=1e-6), (metric, text, reference)


@pytest.fixture(scope="module")
def bleu():
    from sacrebleu.metrics import BLEU

    return BLEU(effective_order=True)


def test_words_are_sacrebleus():
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

    tokenizer = Tokenizer13a()
    for text in TEXTS:
        assert words_of(text) == tokenizer(text.rstrip()).split()


@given(st.text(max_size=80))
def test_words_of_any_text_are_sacrebleus(text):
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

    assert words_of(text) == Tokenizer13a()(text.rstrip()).split()


def test_bleu_is_sacrebleus(bleu):
    for text, reference in PAIRS:
        assert_same("bleu", text, reference, bleu.sentence_score(text, [reference]).score / 100)


@given(WORDS, WORDS)
@settings(max_examples=300)
def test_bleu_of_any_words_is_sacrebleus(text, reference):
    import sacrebleu

    assert_same("bleu", text, reference, sacrebleu.sentence_bleu(text, [reference]).score / 100)


def test_gleu_is_nltks():
    from nltk.translate.gleu_score import sentence_gleu

    for text, reference in PAIRS:
        assert_same("gleu", text, reference, sentence_gleu([words_of(reference)], words_of(text)))


@given(WORDS, WORDS)
def test_gleu_of_any_words_is_nltks(text, reference):
    from nltk.translate.gleu_score import sentence_gleu

    assert_same("gleu", text, reference, sentence_gleu([words_of(reference)], words_of(text)))


class NoWordNet:
    """Stands for WordNet's data, which the machine does not have: no word has a synonym."""

    def synsets(self, word):
        return []


class Published:
    """nltk's stemmer in the mode of Porter's paper, short words left alone as in his own program."""

    def __init__(self):
        from nltk.stem.porter import PorterStemmer

        self._stemmer = PorterStemmer(mode=PorterStemmer.ORIGINAL_ALGORITHM)

    def stem(self, word):
        return word if len(word) < 3 else self._stemmer.stem(word)


def nltk_meteor(text, reference):
    from nltk.translate.meteor_score import single_meteor_score

    return single_meteor_score(words_of(reference), words_of(text), stemmer=Published(), wordnet=NoWordNet())


def test_meteor_is_nltks_without_wordnet():
    for text, reference in PAIRS:
        assert_same("meteor", text, reference, nltk_meteor(text, reference))


@given(WORDS, WORDS)
def test_meteor_of_any_words_is_nltks_without_wordnet(text, reference):
    assert_same("meteor", text, reference, nltk_meteor(text, reference))


def test_stems_are_those_of_porters_paper():
    stemmer = Published()
    syllables = [
        "al",
        "at",
        "bl",
        "e",
        "er",
        "ful",
        "ion",
        "ing",
        "ed",
        "iz",
        "y",
        "s",
        "ss",
        "tt",
        "abli",
        "i",
        "o",
        "qu",
    ]
    endings = [
        "",
        "s",
        "ational",
        "izer",
        "fulness",
        "ement",
        "ies",
        "eed",
        "ing",
        "ed",
        "alli",
        "biliti",
        "ative",
        "ll",
    ]
    draw = random.Random(1)
    words = {"".join(draw.choices(syllables, k=draw.randint(1, 4))) + draw.choice(endings) for _ in range(5_000)}
    words |= {word.lower() for text in TEXTS for word in words_of(text)}
    assert len(words) > 3_000
    for word in words:
        assert stem(word) == stemmer.stem(word), word


def rouge_scores(text, reference):
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer([*(f"rouge{n}" for n in range(1, 6)), "rougeL"])
    return {name: score.fmeasure for name, score in scorer.score(reference, text).items()}


def test_rouge_is_rouge_scores():
    for text, reference in PAIRS:
        for name, expected in rouge_scores(text, reference).items():
            assert_same(f"rouge_{name.removeprefix('rouge').lower()}", text, reference, expected)


@given(WORDS, WORDS)
def test_rouge_of_any_words_is_rouge_scores(text, reference):
    for name, expected in rouge_scores(text, reference).items():
        assert_same(f"rouge_{name.removeprefix('rouge').lower()}", text, reference, expected)


def test_fuzzy_match_is_that_of_openais_example():
    from rapidfuzz import fuzz, utils

    for text, reference in PAIRS:
        expected = fuzz.WRatio(text, reference, processor=utils.default_process) / 100
        assert_same("fuzzy_match", text, reference, expected)


@given(st.text(max_size=60), st.text(max_size=60))
def test_every_measure_of_any_texts_is_between_0_and_1(text, reference):
    for metric, measure in METRICS.items():
        value = measure(text, reference)
        assert math.isfinite(value), metric
        assert -1e-12 <= value <= 1 + 1e-12, metric
