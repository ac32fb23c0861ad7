"""The language a text is written in, where it is clear."""

from __future__ import annotations

import re
import struct

MIN_LETTERS = 20
MIN_WORDS = 6
"""Of a language in Latin script; shorter texts are told wrongly too often."""
_SAMPLE_CHARS = 600
_MIN_SCRIPT_SHARE = 0.3
"""Of the letters: a name in another script does not make a text one of that script. Chinese says with one character what
English needs four for."""
_MIN_SHARE = 0.17
_MIN_HITS = 4
_MIN_WEIGHT = 1260
_MIN_LEAD = 1.6
"""A text is of a language if this share of its different words, and this many, are among the language's commonest, and if
they weigh this much and this many times as much as those of the next language. Source: measured on texts of 85 languages:
of those in Latin script that are not listed here only close relations were taken for one that is, Malay for Indonesian
and Asturian for Spanish in most cases, Slovak for Czech in 3 % of them."""
_MAX_CODE_SHARE = 0.04
_CODE_CHARS = b"{}[]<>=;|\\_#$^~"

_FUNCTION_WORDS = {
    "en": "the and of to in is that it for was with as on are be this have from not by but they you at or his which "
    "an we were can there been has will would their what about if who your more when do my how its out so she "
    "he them than these some could into should because does our also i me",
    "de": "der die und das ist nicht ein zu den mit von sich des auf für im dem eine als auch es an werden aus er "
    "hat dass sie nach wird bei einer um am sind noch wie einem über einen so zum war haben nur oder aber vor "
    "zur bis mehr durch man sein wurde wenn ich wir kann ihr mich dir diese dieser was wo du keine uns schon",
    "fr": "le la les de des et un une est dans que qui pour pas sur au par plus ne avec se sont ce il elle nous vous "
    "je mais ou son sa ses leur cette ces aux du été être fait comme tout même bien si peut très aussi donc "
    "votre notre où à c'est quand sans après mon avez avoir",
    "es": "el la los las de y que en un una es por con para del se no al lo como más pero sus su le ya o este sí "
    "porque esta entre cuando muy sin sobre también me hasta hay donde quien desde todo nos durante uno ni "
    "contra otros ese eso ante ellos esto puede está son fue ser tiene qué yo tu te usted",
    "it": "il di che e la per un in non è una sono del con i si le della da come più ma nel anche alla lo dei delle "
    "se ha gli al questo dal ci cosa essere stato hanno suo sua loro molto quando tutto può mi ti io perché "
    "degli nella sul dalla questa tra fra ho sei cui quale "
    "ed nelle alle dai agli verso essi loro ogni così dopo senza",
    "pt": "o de que e do da em um para é com não uma os no se na por mais as dos como mas foi ao ele das tem à seu "
    "sua ou ser quando muito há nos já está eu também só pelo pela até isso ela entre era depois sem mesmo aos "
    "ter seus quem nas me esse eles você são pode qual este",
    "nl": "de van het een en in is dat op te zijn met voor niet die er aan om ook als maar dan door bij uit naar of "
    "over nog kan hebben wordt worden deze dit je ik we hij zij ze wat wel geen meer tot moet had heeft mijn "
    "hun u waar werd haar zo kunnen wil jij veel",
    "sv": "och i att det som en på är av för med den till inte om ett han har de var jag men sig från vi så kan när "
    "hade hon eller vid också ut mot alla efter ska skulle detta dessa mycket bara genom din mig du är finns "
    "kommer bli sedan",
    "da": "og i at det er en til på med af for den der ikke de et jeg som har var kan vi om du han fra eller men så "
    "skal sig efter vil også blev når være ved hun bliver nogle mig hvad kun meget dig denne dette hvor op ud "
    "deres over hvis noget",
    "no": "og i det på som er en til å han av for med at var de ikke den har jeg om et men ble så kan fra vi eller "
    "når skal hun etter seg også vil være ved noe mye bare hva dette denne hvor opp ut deg meg blir disse må "
    "hvis etter",
    "fi": "ja on ei se että hän oli joka mutta niin kuin kun tai ovat myös ole mitä minä sen olla vain jos voi nyt "
    "sitä sinä me he ne tämä tämän hänen joka jotka sekä vielä ollut olen siitä kanssa jo mukaan kuitenkin",
    "pl": "i w na z się nie to że do jest o jak ale za po co tak od przez jego tym już są jej był dla czy może by "
    "oraz które który która ich tylko jako ma bardzo przy gdy był była lub można jeśli jestem mnie ten ta te "
    "także jednak "
    "pod oni one innych wobec sobie wszyscy tego tej nad bez ich nich został są",
    "cs": "a se v na je že s z do o to i k za ve pro jako ale by po jsou jeho jsem při nebo od být který která které "
    "byl bylo tak není jen co jak když už ještě má než až také podle mezi aby jsme tento této",
    "hu": "a az és hogy nem is egy ez csak de meg van volt már el mint ha vagy még azt ki mi kell lehet én te ők "
    "nagyon minden lesz akkor amely olyan ezt után között pedig ezek mert sem így vagyok fel "
    "kell minden van a az",
    "ro": "de și în a la cu nu o să că pe un din mai este ce pentru au sunt care o fi fost dar sau ca prin până am "
    "ai foarte după când fără asta acest această acestea lui lor ei tot despre",
    "tr": "ve bir bu da de için ile çok daha ne gibi olarak var en kadar sonra ben o ama mi olan değil ki her şey "
    "veya ya sen biz siz nasıl olduğu onun ise göre kendi tarafından iyi yok bunu önce zaman mı",
    "id": "yang dan di itu dengan untuk tidak ini dari dalam akan pada juga saya ke karena tersebut bisa ada mereka "
    "lebih kata tahun sudah atau saat oleh menjadi orang ia telah adalah seperti kami kita dia dapat anda "
    "harus",
    "vi": "và của là có được trong cho không một các với những người để khi này đã ở từ đến về như còn cũng nhưng ra "
    "sẽ tôi bạn vào rất thì tại theo sự hơn nếu trên nhiều",
    "af": "die en van 'n nie is in te het dat vir met wat op hulle om ek kan sal hierdie word daar nog wees moet as deur",
    "ca": "els amb per que una és les del als aquest aquesta més són no la el i de en un ser pot també com però",
    "gl": "non unha polo pola dunha nunha máis ou tamén é o a de que e do da para con os as ser pode ao",
}
"""The commonest words of running text in each language."""

_LANGUAGES = tuple(_FUNCTION_WORDS)
_UNIT = 840
"""What a word counts that one language has alone; a word of n languages counts 840 / n in each."""
_FIELD_BITS = 32
_HIT_BITS = 12
_HITS = (1 << _HIT_BITS) - 1
_FIELDS = f"<{len(_LANGUAGES)}I"


def _packed() -> dict[str, int]:
    """Returns for each function word, in lower case and capitalised, one number with a field for each language.

    A field holds 1 in its low bits and the word's weight above them, so that one sum over the words of a text gives every
    language's number of words and weight, and the greatest field is that of the greatest weight.
    """
    spoken: dict[str, list[int]] = {}
    for place, words in enumerate(_FUNCTION_WORDS.values()):
        for word in dict.fromkeys(words.split()):
            spoken.setdefault(word, []).append(place)
    packed = {
        word: sum((_UNIT // len(places) << _HIT_BITS | 1) << _FIELD_BITS * place for place in places)
        for word, places in spoken.items()
    }
    return packed | {word.capitalize(): fields for word, fields in packed.items() if len(word) > 1}


_WORDS = _packed()
_KNOWN_WORDS = frozenset(_WORDS)

_LATIN = "latin"
_BLOCKS = (
    {
        0x03: "el",
        0x04: "cyrl",
        0x06: "arab",
        0x09: "deva",
        0x0A: "guru",
        0x0B: "taml",
        0x0C: "telu",
        0x0D: "mlym",
        0x0E: "th",
        0x10: "ka",
        0x12: "am",
        0x17: "km",
        0x30: "kana",
        0x05: "he",
    }
    | dict.fromkeys(range(0x4E, 0xA0), "han")
    | dict.fromkeys(range(0xAC, 0xD8), "ko")
)
"""Scripts by the high byte of a character's number. Source: Unicode, Blocks.txt."""
_ASCII_OTHERS = bytes(byte for byte in range(0x80) if not chr(byte).isalpha())
_SIGNS = {script: bytes((place + 1,)) for place, script in enumerate(dict.fromkeys(_BLOCKS.values()))}
_TO_SIGNS = bytes(_SIGNS[_BLOCKS[high]][0] if high in _BLOCKS else 0 for high in range(256))
_HALVES = {
    "he": (("hy", re.compile("[\u0530-\u058f]")), ("he", re.compile("[\u0590-\u05ff]"))),
    # the full stop of Hindi is Bengali's, too
    "deva": (("bn", re.compile("[\u0980-\u09ff]")), ("deva", re.compile("[\u0900-\u097f]"))),
    "guru": (("pa", re.compile("[\u0a00-\u0a7f]")), ("gu", re.compile("[\u0a80-\u0aff]"))),
    "taml": (("or", re.compile("[\u0b00-\u0b7f]")), ("ta", re.compile("[\u0b80-\u0bff]"))),
    "telu": (("te", re.compile("[\u0c00-\u0c7f]")), ("kn", re.compile("[\u0c80-\u0cff]"))),
    "mlym": (("ml", re.compile("[\u0d00-\u0d7f]")), ("si", re.compile("[\u0d80-\u0dff]"))),
    "th": (("th", re.compile("[\u0e00-\u0e7f]")), ("lo", re.compile("[\u0e80-\u0eff]"))),
    "ka": (("my", re.compile("[\u1000-\u109f]")), ("ka", re.compile("[\u10a0-\u10ff]"))),
}
"""Scripts that share a high byte."""
_TELLING = {
    # the first that fits; letters of which any, then words of which one must be there
    "cyrl with more letters": (
        ("be", re.compile(r"[ўЎ]"), re.compile(r"\b(?:і|не|на|для|што|як|або|ў|з)\b")),
        ("uk", re.compile(r"[іїєґІЇЄҐ].*[іїєґІЇЄҐ]", re.DOTALL), re.compile(r"\b(?:і|та|що|не|на|для|це|як)\b")),
        ("mk", re.compile(r"[ѓќѕ]"), re.compile(r"\b(?:и|да|се|на|од|за|не|во)\b")),
        ("sr", re.compile(r"[ђћ]"), re.compile(r"\b(?:је|и|да|се|у|на)\b")),
    ),
    "cyrl": (
        ("ru", re.compile(r"[ыэЫЭ]"), re.compile(r"\b(?:и|не|что|на|как|для|это|по|или)\b")),
        ("bg", re.compile(r"ъ"), re.compile(r"\b(?:се|да|от|за|е|са|които|който|това)\b")),
    ),
    "arab": (
        ("ur", re.compile(r"[ٹڈڑےں]"), re.compile(r"\b(?:ہے|کے|کی|میں|اور|کا)\b")),
        ("ckb", re.compile(r"[ەێۆڵ].*[ەێۆڵ]", re.DOTALL), re.compile(r"\b(?:لە|بە|بۆ|و|کە|ئەم)\b")),
        ("fa", re.compile(r"[پچژگکی]"), re.compile(r"\b(?:و|در|به|از|که|است|را|این)\b")),
        ("ar", re.compile(r"[ةىيك]|ال"), re.compile(r"\b(?:في|من|على|إلى|أن|و|هو|هي|هذا|هذه|ما|لا|عن|مع|التي|كان)\b")),
    ),
    "deva": (
        ("hi", re.compile(r"है"), re.compile(r"(?:^|\s)(?:है|हैं|में|और|के|की|का|से|को)(?:$|[\s।])")),
        ("mr", re.compile(r"ळ|आहे"), re.compile(r"आहे|आणि|च्या")),
        ("ne", re.compile(r"छ"), re.compile(r"(?:^|\s)(?:छ|छन्|हुन्छ|हुनुहुन्छ|गर्नुहोस्)(?:$|[\s।])")),
    ),
}
_MORE_CYRILLIC = re.compile(r"[қғңөұүһәҳҷӣӯўіїєґјљњћђѓќѕӕҚҒҢӨҰҮҺӘҲҶӢӮЎІЇЄҐЈЉЊЋЂЃЌЅӔ]")


def language_of(text: str) -> str | None:
    """Returns the ISO 639-1 code of a text's language, or None where it is not clear.

    Languages in a script of their own are told by it. Where only the script is clear, its ISO 15924 code in lower case is
    returned: `cyrl`, `arab`, `deva`. Languages in Latin script are told by their commonest words, so short texts, code and
    lists have no language here.
    """
    sample = text[:_SAMPLE_CHARS]
    if len(sample) < MIN_LETTERS // 2:
        return None
    if not sample.isascii() and (found := _by_script(sample)) != _LATIN:
        return found
    return _by_words(sample) if len(sample) >= MIN_LETTERS else None


def _by_script(sample: str) -> str | None:
    """Returns the language or script, `_LATIN` for Latin, or None for a mixture."""
    signs = sample.encode("utf-16-le", "surrogatepass")[1::2].translate(_TO_SIGNS)
    counts = {script: count for script, sign in _SIGNS.items() if (count := signs.count(sign))}
    num_foreign = sum(counts.values())
    if not num_foreign:
        return _LATIN
    ascii_letters = sample.encode("ascii", "ignore").translate(None, _ASCII_OTHERS)
    num_letters = len(ascii_letters) + num_foreign
    script = max(counts, key=lambda script: counts[script])
    if script in ("han", "kana", "ko"):
        return _east_asian(counts, num_letters)
    if counts[script] < MIN_LETTERS // 2 or counts[script] < 0.5 * num_letters:
        return _LATIN if num_foreign < 0.1 * num_letters else None
    if script in _HALVES:
        script = next(half for half, letters in _HALVES[script] if letters.search(sample) is not None)
    return _within_script(script, sample)


def _east_asian(counts: dict[str, int], num_letters: int) -> str | None:
    han, kana, hangul = counts.get("han", 0), counts.get("kana", 0), counts.get("ko", 0)
    if han + kana + hangul < max(MIN_LETTERS // 3, _MIN_SCRIPT_SHARE * num_letters):
        return _LATIN if han + kana + hangul < 0.05 * num_letters else None
    if hangul > 3 * (han + kana):
        return "ko"
    if hangul > 0.1 * (han + kana):
        return None
    # the block of kana holds the ideographic full stop and comma, too: Chinese has some of it
    if kana > 0.3 * (han + kana):
        return "ja"
    return "zh" if kana < 0.2 * (han + kana) else None


def _within_script(script: str, sample: str) -> str | None:
    table = script
    if script == "cyrl" and _MORE_CYRILLIC.search(sample) is not None:
        table = "cyrl with more letters"
    for language, letters, words in _TELLING.get(table, ()):
        if letters.search(sample) is not None and words.search(sample) is not None:
            return language
    return script


def _by_words(sample: str) -> str | None:
    if ":\n    " in sample or ":\n\t" in sample:
        return None  # code has many words of English
    coded = sample.encode("utf-8", "surrogatepass")
    if len(coded) - len(coded.translate(None, _CODE_CHARS)) > _MAX_CODE_SHARE * len(coded):
        return None
    # words with a comma or a quotation mark at them are passed over: the commonest ones seldom have one
    words = set(sample.split())
    if len(words) < MIN_WORDS:
        return None
    fields = sum(map(_WORDS.__getitem__, words & _KNOWN_WORDS))
    counted = struct.unpack(_FIELDS, fields.to_bytes(len(_LANGUAGES) * _FIELD_BITS // 8, "little"))
    best, second = sorted(counted)[:-3:-1]
    weight, hits = best >> _HIT_BITS, best & _HITS
    lead = _MIN_LEAD * (second >> _HIT_BITS)
    clear = hits >= max(_MIN_HITS, _MIN_SHARE * len(words)) and weight >= max(_MIN_WEIGHT, lead)
    return _LANGUAGES[counted.index(best)] if clear else None
