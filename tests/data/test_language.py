"""Languages are told where they are clear, on texts that were not written for this: article 1 of the Universal Declaration
of Human Rights, as the United Nations publish it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.data.reading.files import RawRow, read_rows
from luthier.data.rules.language import language_of
from luthier.data.shapes.formats import recognise

pytestmark = pytest.mark.unit

ARTICLE_1 = {
    "en": "All human beings are born free and equal in dignity and rights. They are endowed with reason and "
    "conscience and should act towards one another in a spirit of brotherhood.",
    "de": "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und Gewissen "
    "begabt und sollen einander im Geist der Brüderlichkeit begegnen.",
    "fr": "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de raison et "
    "de conscience et doivent agir les uns envers les autres dans un esprit de fraternité.",
    "es": "Todos los seres humanos nacen libres e iguales en dignidad y derechos y, dotados como están de razón "
    "y conciencia, deben comportarse fraternalmente los unos con los otros.",
    "it": "Tutti gli esseri umani nascono liberi ed eguali in dignità e diritti. Essi sono dotati di ragione e "
    "di coscienza e devono agire gli uni verso gli altri in spirito di fratellanza.",
    "pt": "Todos os seres humanos nascem livres e iguais em dignidade e em direitos. Dotados de razão e de "
    "consciência, devem agir uns para com os outros em espírito de fraternidade.",
    "nl": "Alle mensen worden vrij en gelijk in waardigheid en rechten geboren. Zij zijn begiftigd met verstand "
    "en geweten, en behoren zich jegens elkander in een geest van broederschap te gedragen.",
    "sv": "Alla människor är födda fria och lika i värde och rättigheter. De är utrustade med förnuft och "
    "samvete och bör handla gentemot varandra i en anda av broderskap.",
    "da": "Alle mennesker er født frie og lige i værdighed og rettigheder. De er udstyret med fornuft og "
    "samvittighed, og de bør handle mod hverandre i en broderskabets ånd.",
    "fi": "Kaikki ihmiset syntyvät vapaina ja tasavertaisina arvoltaan ja oikeuksiltaan. Heille on annettu "
    "järki ja omatunto, ja heidän on toimittava toisiaan kohtaan veljeyden hengessä.",
    "pl": "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw. Są oni obdarzeni "
    "rozumem i sumieniem i powinni postępować wobec innych w duchu braterstwa.",
    "cs": "Všichni lidé rodí se svobodní a sobě rovní co do důstojnosti a práv. Jsou nadáni rozumem a svědomím "
    "a mají spolu jednat v duchu bratrství.",
    "tr": "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. Akıl ve vicdana sahiptirler ve "
    "birbirlerine karşı kardeşlik zihniyeti ile hareket etmelidirler.",
    "ro": "Toate ființele umane se nasc libere și egale în demnitate și în drepturi. Ele sunt înzestrate cu "
    "rațiune și conștiință și trebuie să se comporte unele față de altele în spiritul fraternității.",
    "hu": "Minden emberi lény szabadon születik és egyenlő méltósága és joga van. Az emberek, ésszel és "
    "lelkiismerettel bírván, egymással szemben testvéri szellemben kell hogy viseltessenek.",
    "id": "Semua orang dilahirkan merdeka dan mempunyai martabat dan hak-hak yang sama. Mereka dikaruniai akal "
    "dan hati nurani dan hendaknya bergaul satu sama lain dalam semangat persaudaraan.",
    "vi": "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền. Mọi con người đều được "
    "tạo hoá ban cho lý trí và lương tâm và cần phải đối xử với nhau trong tình bằng hữu.",
    "ca": "Tots els éssers humans neixen lliures i iguals en dignitat i en drets. Són dotats de raó i de "
    "consciència, i han de comportar-se fraternalment els uns amb els altres.",
    "ru": "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом и "
    "совестью и должны поступать в отношении друг друга в духе братства.",
    "uk": "Всі люди народжуються вільними і рівними у своїй гідності та правах. Вони наділені розумом і совістю "
    "і повинні діяти у відношенні один до одного в дусі братерства.",
    "bg": "Всички хора се раждат свободни и равни по достойнство и права. Те са надарени с разум и съвест и "
    "следва да се отнасят помежду си в дух на братство.",
    "el": "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα. Είναι "
    "προικισμένοι με λογική και συνείδηση.",
    "he": "כל בני אדם נולדו בני חורין ושווים בערכם ובזכויותיהם. כולם חוננו בתבונה ובמצפון, לפיכך חובה עליהם "
    "לנהוג איש ברעהו ברוח של אחווה.",
    "ar": "يولد جميع الناس أحرارا متساوين في الكرامة والحقوق. وقد وهبوا عقلا وضميرا وعليهم أن يعامل بعضهم بعضا "
    "بروح الإخاء.",
    "hi": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है। उन्हें "
    "बुद्धि और अन्तरात्मा की देन प्राप्त है।",
    "th": "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ ต่างมีเหตุผลและมโนธรรม",
    "zh": "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。",
    "ja": "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。",
    "ko": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다. 인간은 천부적으로 이성과 양심을 부여받았다.",
    "ta": "மனிதப் பிறவியினர் சகலரும் சுதந்திரமாகவே பிறக்கின்றனர்; அவர்கள் மதிப்பிலும், உரிமைகளிலும் சமமானவர்கள்.",
    "ka": "ყველა ადამიანი იბადება თავისუფალი და თანასწორი თავისი ღირსებითა და უფლებებით.",
}
MAY_BE_UNSURE = {"cs", "da", "fi", "tr", "hu", "bg", "id"}
"""Their one article has few of the commonest words, or a near relation shares them: unsure is right, another is not."""


@pytest.mark.parametrize("language", ARTICLE_1)
def test_article_1_is_told(language: str) -> None:
    allowed = {language} | ({None, "cyrl"} if language in MAY_BE_UNSURE else set())
    assert language_of(ARTICLE_1[language]) in allowed


@pytest.mark.parametrize("language", [name for name in ARTICLE_1 if name not in MAY_BE_UNSURE])
def test_a_language_does_not_depend_on_what_stands_around(language: str) -> None:
    text = ARTICLE_1[language]
    assert language_of(f"  {text}\n\n{text} ") == language
    assert language_of(f"1. {text} 2. {text} (3)") == language


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Paris.",
        "balance_not_updated_after_bank_transfer",
        "SELECT name FROM users WHERE id IN (1, 2) AND NOT is_active OR age > 5 ORDER BY name",
        '{"intent": "book_flight", "slots": {"from": "Berlin", "to": "Rome", "is": "in", "of": "on"}}',
        "def f(x):\n    for i in range(10):\n        if not i in x and i is not None:\n            return [i for i in x]",
        "x = [1, 2, 3]; y = {k: v for k, v in x}; print(x, y, sep='|')",
        "0123456789 " * 20,
        "Kim, Lee, Park, Choi, Jung, Kang, Cho, Yoon, Jang, Lim, Han, Oh, Seo, Shin",
        "Bonjour and hello",
        "zxcv qwer asdf " * 20,
    ],
)
def test_what_is_no_clear_text_has_no_language(text: str) -> None:
    assert language_of(text) is None


def test_a_foreign_name_does_not_change_the_language() -> None:
    assert language_of(ARTICLE_1["en"] + " It was adopted in Paris; in Russian it is called декларация.") == "en"
    assert language_of(ARTICLE_1["ru"] + " OpenAI API, JSON.") == "ru"
    assert language_of(ARTICLE_1["zh"] + " GPT-4 and Python") == "zh"


def test_half_and_half_is_unsure() -> None:
    assert language_of(ARTICLE_1["en"] + " " + ARTICLE_1["de"]) in (None, "en", "de")
    assert language_of(ARTICLE_1["ru"][:90] + ARTICLE_1["ja"]) != "en"


@settings(max_examples=500, deadline=None)
@given(st.text() | st.text("abcdefghij ", min_size=20, max_size=300) | st.text("가나다абваb漢字あ ", min_size=10))
def test_any_text_is_taken(text: str) -> None:
    found = language_of(text)
    assert found is None or (found.isascii() and found.islower() and 2 <= len(found) <= 4)


def test_lone_surrogates_are_taken() -> None:
    assert language_of("\ud83d" * 40) is None
    assert language_of(ARTICLE_1["en"] + "\udc80") == "en"


def test_prose_of_the_public_sets_is_english_or_unsure(public_data: Path) -> None:
    told = {"en": 0, None: 0}
    others: list[tuple[int, str]] = []
    for file in (public_data / "general-instructions/train.jsonl", public_data / "tools-glaive/train.jsonl"):
        for item in read_rows(file):
            for message in (recognise(item.value).messages or []) if isinstance(item, RawRow) and item.value else []:
                text = message.get("content")
                if isinstance(text, str) and len(text) > 150 and text.isascii() and text.count(". ") > 1:
                    found = language_of(text)
                    if found in told:
                        told[found] += 1
                    else:
                        others.append((item.line, json.dumps([found, text[:60]])))
    assert others == []
    assert told["en"] > 6 * told[None]
