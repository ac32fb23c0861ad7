"""Rows as programs write them: templates of common words with values in their slots, copies with typing errors, free text.

The values are names, places and codes, of which many are spelt almost alike (Anna and Anne, Bolnar and Bolner).
"""

from __future__ import annotations

from random import Random

LETTERS = "abcdefghijklmnopqrstuvwxyz"
_COMMON = """the of and to in is was for on that with as at by from this have be or not are but they you all can had her
one our out day get has him his how man new now old see two way who boy did its let put say she too use order please
deliver customer account number payment invoice ticket support request about after again before because between both
change check close could during each every first great group hand high house just kind know large last leave life little
long made many most move much must name need never next night often only open other over own part people place point
possible present problem program question quite rather really right room same school seem several should show side since
small some something state still such system take tell than their them then there these thing think those though three
through time under until upon very want water week well went were what when where which while white whole why will within
without woman word work world would write year young your price shipping warehouse package delay refund exchange apology
service agent manager review complaint feedback offer discount coupon delivery address street city country region area
contact phone message reply answer explain confirm cancel schedule meeting reservation travel flight hotel guitar string
neck bridge tuning amplifier cable pedal guidance summary report table figure chapter section"""
_NAMES = """Anna Anne Hanna Hannah Maria Marie Mario Marco Mark John Jon Joan Jean Dean Eric Erik Erica Carl Karl Carla
Clara Sara Sarah Paul Paula Pauline Peter Petra Tim Tom Thomas Simon Simone Daniel Daniela Danielle Michael Michel
Michelle Nina Tina Lena Elena Helena Julia Juliana Julian Lucas Luca Lukas Victor Victoria Martin Martina Martha"""
COMMON, NAMES = _COMMON.split(), _NAMES.split()

Said = tuple[str, str]


class Fillings:
    """Fillings of templates of 40 to 80 words with two to four slots of 20 to 500 values each."""

    def __init__(
        self,
        seed: int,
        num_templates: int = 12,
        num_words: tuple[int, int] = (40, 80),
        values: tuple[int, ...] = (20, 50, 100, 500),
    ) -> None:
        self.random = random = Random(seed)
        pools = [
            self._values(kind, random.choice(values)) for kind in ("name", "place", "number", "date", "code", "full")
        ]
        self._templates = []
        for _ in range(num_templates):
            words = [random.choice(COMMON) for _ in range(random.randint(*num_words))]
            for place in range(6, len(words), random.randint(7, 13)):
                words[place] += random.choice(".,?:")
            places = random.sample(range(1, len(words) - 1), random.randint(2, 4))
            answer = [random.choice(COMMON) for _ in range(random.randint(5, 15))]
            self._templates.append((words, [(place, random.choice(pools)) for place in places], answer))

    def _values(self, kind: str, count: int) -> list[str]:
        random = self.random
        made_up = [
            "".join(random.choice("bdfklmnprst") + random.choice("aeiou") + random.choice("lnr") for _ in range(3))
            for _ in range(count)
        ]
        return {
            "name": (NAMES + [word.title() for word in made_up])[:count],
            "place": made_up,
            "number": [str(random.randint(1, 10 ** random.choice((2, 3, 5)))) for _ in range(count)],
            "date": [
                f"{random.randint(2000, 2025)}-{random.randint(1, 12):02}-{random.randint(1, 28):02}"
                for _ in range(count)
            ],
            "code": ["".join(random.choices("ABCDEFGH", k=2)) + str(random.randint(100, 999)) for _ in range(count)],
            "full": [f"{random.choice(NAMES)} {random.choice(made_up).title()}" for _ in range(count)],
        }[kind]

    def row(self) -> Said:
        """What user and assistant say in a filled template."""
        words, slots, answer = self.random.choice(self._templates)
        filled = list(words)
        values = [self.random.choice(pool) for _, pool in slots]
        for (place, _), value in zip(slots, values, strict=True):
            filled[place] = value
        if len(answer) < 9:
            return " ".join(filled), f'{{"first": "{values[0]}", "last": "{values[-1]}"}}'
        return " ".join(filled), " ".join([*answer[:3], values[-1], *answer[3:]]) + "."

    def rows(self, count: int) -> list[Said]:
        """So many fillings, of which no two are equal."""
        found: dict[Said, None] = {}
        while len(found) < count:
            found[self.row()] = None
        return list(found)

    def free(self, least: int = 20, most: int = 80) -> Said:
        """Two texts of random words."""
        return tuple(
            " ".join(self.random.choices(COMMON, k=self.random.randint(*size))) for size in ((least, most), (3, 20))
        )  # type: ignore[return-value]


def edited(text: str, share: float, random: Random) -> str:
    """The text with up to this share of its characters put in, left out, replaced or exchanged with their neighbour."""
    characters = list(text)
    for _ in range(max(1, int(share * len(text)))):
        place = random.randrange(len(characters) - 1)
        kind = random.randrange(4)
        if kind == 0:
            characters[place] = random.choice(LETTERS)
        elif kind == 1:
            characters.insert(place, random.choice(LETTERS))
        elif kind == 2:
            del characters[place]
        else:
            characters[place : place + 2] = characters[place : place + 2][::-1]
    return "".join(characters)
