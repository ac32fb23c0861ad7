"""Signs that an answer was not written to be learned: it refuses as chatbots do, stops in the middle, or loops."""

from __future__ import annotations

import json
import re

import orjson

from luthier.data.findings import quoted

_CODE_BLOCK = re.compile(r"```.*?(?:```|$)", re.DOTALL)
_SPEAKS_AS_MODEL = re.compile(
    r"(?:(?:(?:i['’]m|i am) (?:really |very |truly )?sorry|sorry|i apologi[sz]e|apologies|my apologies|unfortunately"
    r"|thank you[^.!?\n]{0,40}|hello|hi|well)[,.!;:]? (?:but )?)?"
    r"(?:as an? (?:\w+ )?(?:ai|artificial intelligence)(?: language)? model\b|as a (?:large )?language model\b"
    r"|as an ai (?:developed|created|trained|made) by (?:openai|anthropic|google|meta|microsoft)\b"
    r"|i(?:['’]m| am) (?:just |only |merely )?(?:an? (?:ai|large)? ?language model|an ai (?:model|developed|trained))\b"
    r"|als (?:eine? )?(?:ki|künstliche intelligenz|ai)?[- ]?sprachmodell\b|als (?:een )?(?:ai[- ])?taalmodel\b"
    r"|en tant qu(?:e |['’])(?:ia|un )?(?:modèle (?:de langage|linguistique|d['’]ia)|intelligence artificielle)"
    r"|como (?:un |um )?(?:modelo de (?:lenguaje|linguagem|ia|inteligencia artificial|inteligência artificial))\b"
    r"|(?:come|in quanto) (?:un )?modello (?:linguistico|di linguaggio|di ia)\b"
    r"|jako (?:duży )?model językowy\b|som (?:en |ett )?(?:ai[- ])?språkmodell?\b|bir yapay zek[aâ] (?:dil )?modeli olarak"
    r"|как (?:большая )?(?:языковая модель|модель искусственного интеллекта)"
    r"|作为(?:一个|一款|一種|一种)?(?:人工智能|大型|ai|人工智慧)?(?:助手)?(?:语言|語言)?模型"
    r"|(?:私は)?(?:ai|人工知能)?(?:の)?(?:大規模)?言語モデルとして"
    r"|(?:저는 )?(?:ai|인공지능)? ?(?:대규모 )?언어 모델(?:로서|이기)"
    r"|بصفتي نموذج|कृत्रिम बुद्धिमत्ता भाषा मॉडल|एक एआई भाषा मॉडल)",
    re.IGNORECASE,
)
_REFUSES = re.compile(
    r"(?:(?:(?:i['’]m|i am) (?:really |very |truly )?sorry|sorry|i apologi[sz]e|apologies)[,.!]? (?:but )?)?"
    r"(?:i can(?:no|['’])t|i can not|i(?:['’]m| am) (?:not able|unable) to|i won['’]t(?: be able to)?|i will not)"
    r" (?:(?:assist|help)(?: you)?(?: with)?(?: that| this)|(?:fulfil?l|comply with|process|answer|complete|continue with) "
    r"(?:that|this|your))"
    r"|es tut mir leid, (?:aber )?(?:(?:dabei|damit) kann ich|ich kann (?:ihnen |dir )?(?:dabei|damit) nicht)"
    r"|(?:je suis )?désolée?, mais je ne peux pas (?:vous |t['’])?(?:aider|répondre à cette)"
    r"|lo siento,? (?:pero )?no puedo (?:ayudar|ayudarte|asistir|asistirte|cumplir) con (?:eso|esa|esta)"
    r"|(?:desculpe|sinto muito|lamento), (?:mas )?não posso (?:ajudar|ajudá-l[oa]|atender)"
    r"|mi dispiace,? (?:ma )?non posso (?:aiutarti|aiutarla|assisterti) con (?:questo|questa)"
    r"|het spijt me,? (?:maar )?ik kan (?:je |u )?daar niet|przykro mi, ale nie mogę (?:w tym |ci )?pomóc"
    r"|(?:извините|к сожалению|простите), (?:но )?я не могу (?:с этим )?(?:помочь|выполнить|ответить)"
    r"|(?:很|非常)?抱歉[，,](?:但)?我(?:无法|不能|無法)(?:协助|帮助|满足|回答|提供|完成|協助|滿足)"
    r"|申し訳(?:ございません|ありません)が、(?:その|この|ご)[^。]{0,12}(?:お応え|お答え|応じ|お手伝い)"
    r"|죄송하지만,? ?(?:그|해당|이|요청하신)[^.]{0,12}(?:요청|도와)",
    re.IGNORECASE,
)
_MAX_REFUSAL_CHARS = 120
"""A refusal longer than this gives a reason of its own, as an answer written on purpose does."""

_MIN_CUT_CHARS = 200
_SENTENCE_END = re.compile(r"[^\W\d_][.!?][\"”’»)]?\s+[\"“„«(¿¡]?(?=[A-ZÀ-ÖØ-ÞŁŚŻČŠŽА-ЯЁІЇЄΑ-Ω])")
_WORD = re.compile(r"[(\"“«]*[^\W\d_]+(?:['’-][^\W\d_]+)*,?")
_LIST_ITEM = re.compile(r"\s*(?:[-*•+–—>#|]|\d{1,3}[.)]|[A-Za-z][.)])\s*")
_CODE_SIGN = re.compile(r"[{}<>=|\\#@_;]|\(\)|://|\w\(")
_DANGLING = frozenset(
    re.findall(
        r"\w+",
        "a an the and or but nor from into than because although while whose if be its their his your our my these "
        "der das dem ein eine einen einem einer und oder aber von zu für auf als weil dass ist sind "
        "le la les un une et ou mais avec pour dans qui que est sont el los las unos y pero para del es "
        "il gli e ma di da nel che sono um uma mas com em não het een en maar och eller att är "
        "и или но в на с для от что как к по",
    )
)
"""Words on which no sentence ends, in the languages met most."""

_OPENS_JSON = re.compile(r'\s*(?:\{\s*"[^"\n]{0,80}"\s*:|\[\s*(?:\{\s*"|\[|"[^"\n]{0,200}"\s*,))')
_JSON = json.JSONDecoder(strict=False)
_CUT_VALUE = re.compile(r"(?:t(?:ru?)?|f(?:a(?:ls?)?)?|n(?:ul?)?|-?\d*\.?\d*(?:[eE][+-]?)?)")
_FENCE = re.compile(r"^[ \t>]*(```+)([^`\n]*)$", re.MULTILINE)

_PROBE_CHARS = 12
_MIN_PROBES = 4
_MIN_TIMES = 6
_MIN_REPEATED_WORDS = 20
_MIN_REPEATED_CHARS = 60
_MIN_AGAIN = 14
"""3-grams that stand again in a text that repeats one phrase 6 times over 20 words: 5/6 of 20, less 2 at the end."""
_MIN_NGRAMS = 60
_MAX_DISTINCT_SHARE = 0.15
"""Text of this many words with fewer different word 3-grams than this share says the same over and over."""


def refusal(text: str) -> str | None:
    """Returns the words with which an answer refuses or speaks as a model, or None."""
    start = len(text) - len(text.lstrip())
    found = _SPEAKS_AS_MODEL.match(text, start)
    if found is None and len(text) <= _MAX_REFUSAL_CHARS:
        found = _REFUSES.match(text, start)
    return found.group() if found is not None else None


def unfinished(text: str) -> str | None:
    """Returns what shows that an answer stops in the middle, or None. Short answers, code, lists and labels never do."""
    text = text.rstrip()
    if "```" in text:
        return "a code fence is not closed" if _open_fence(text) else None
    if _cut_json(text):
        return "its JSON is not closed"
    return "it ends in the middle of a sentence" if len(text) > _MIN_CUT_CHARS and _mid_sentence(text) else None


def _open_fence(text: str) -> bool:
    """Whether a code fence is left open. A fence with a language opens one, even inside another."""
    opened: list[str] = []
    for fence in _FENCE.finditer(text):
        marks, language = fence.group(1), fence.group(2).strip()
        if language or not opened or len(marks) < len(opened[-1]):
            opened.append(marks)
        else:
            opened.pop()
    return bool(opened)


def _cut_json(text: str) -> bool:
    """Whether the text is the beginning of a JSON value and nothing but the rest of it is missing."""
    if _OPENS_JSON.match(text) is None:
        return False
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return _ends_early(text)
    return False


def _ends_early(text: str) -> bool:
    try:
        _JSON.decode(text)
    except json.JSONDecodeError as error:
        if error.msg.startswith("Invalid \\"):
            return error.pos >= len(text) - len("\\u0000")
        rest = text[error.pos :].strip()
        return error.msg.startswith("Unterminated string") or _CUT_VALUE.fullmatch(rest) is not None
    except RecursionError:
        return False  # nested by the thousand: no answer that a model was to learn in earnest
    return False


def _mid_sentence(text: str) -> bool:
    """Whether long prose stops where no sentence does."""
    last = text[-1]
    if last in "，、":
        return True
    if not (last == "," or (last.isalpha() and last < "\u0530")):
        return False
    line = text[text.rfind("\n") + 1 :]
    words = line.split()
    if (
        len(words) < 5
        or not _WORD.fullmatch(words[-1])
        or _CODE_SIGN.search(line) is not None
        or len(_SENTENCE_END.findall(text)) < 2
    ):
        return False
    if last == "," or words[-1] in _DANGLING:
        return True
    if len(line) < 60 or _LIST_ITEM.match(line) is not None:
        return False
    before = [row for row in text.splitlines()[:-1] if row.strip()]
    closed = sum(row.rstrip()[-1] in ".!?:;”\"’')»" for row in before)
    fragment = line[max((end.end() for end in _SENTENCE_END.finditer(line)), default=0) :]
    return closed >= 0.6 * len(before) and len(fragment.split()) >= 3


def repetition(text: str) -> tuple[str, int] | None:
    """Returns what an answer says over and over, in words, and the place where it begins; or None."""
    if len(text) < _MIN_REPEATED_CHARS or not _suspicious(text):
        return None
    if text.lstrip()[:1] in tuple("{[<") and text.rstrip()[-1:] in tuple("}]>"):
        return None  # data repeats its keys
    prose = _CODE_BLOCK.sub(" ", text) if "```" in text else text
    words = prose.split()
    by_word = len(prose) <= 25 * len(words)
    units = words if by_word else [char for char in prose if not char.isspace()]
    ngrams = [*zip(units, units[1:], units[2:], strict=False)]
    if len(ngrams) - len(set(ngrams)) < _MIN_AGAIN:
        return None
    phrase, times = _repeated(units, _MIN_REPEATED_WORDS if by_word else _MIN_REPEATED_CHARS)
    if not by_word and len(phrase) < 2:
        return None  # a drawn line, a filling
    if phrase:
        said_again = (" " if by_word else "").join(phrase)
        return f"{quoted(said_again, 40)} {times} times in a row", max(text.find(said_again), text.find(phrase[0]))
    if by_word and len(units) >= _MIN_NGRAMS and _share_distinct(units) < _MAX_DISTINCT_SHARE:
        return "most of it is said several times", 0
    return None


def _suspicious(text: str) -> bool:
    """Whether a few characters from any eighth of the text, or from its end, stand in it many times."""
    length = len(text)
    for place in (
        *range(0, length - _PROBE_CHARS, max(length // 8, 1)),
        length - 3 * _PROBE_CHARS,
        length - _PROBE_CHARS,
    ):
        if text.count(text[place : place + _PROBE_CHARS]) >= _MIN_PROBES:
            return True
    return False


def _repeated(units: list[str], minimum: int) -> tuple[list[str], int]:
    """Returns the phrase that follows itself at least 6 times over at least `minimum` units, and how many times.

    Where a text is periodic, the distance from each 3-gram to its last occurrence stays the same; one pass finds it.
    """
    last: dict[tuple[str, ...], int] = {}
    best: tuple[list[str], int] = ([], 0)
    distance = run = 0
    for place, ngram in enumerate([*zip(units, units[1:], units[2:], strict=False), ()]):
        since = place - last.get(ngram, place)
        last[ngram] = place
        if since == distance:
            run += 1
            continue
        length = run + distance + 2
        if distance and length >= minimum and length // distance >= max(_MIN_TIMES, best[1] + 1):
            phrase = units[place + 2 - length : place + 2 - length + distance]
            if any(char.isalpha() for unit in phrase for char in unit):
                best = (phrase, length // distance)
        distance, run = since, 1
    return best


def _share_distinct(units: list[str]) -> float:
    ngrams = list(zip(units, units[1:], units[2:], strict=False))
    lettered = [ngram for ngram in ngrams if any(unit.isalpha() for unit in ngram)]
    return len(set(lettered)) / len(lettered) if len(lettered) >= _MIN_NGRAMS // 2 else 1.0
