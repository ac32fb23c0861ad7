"""A file of examples with faults planted in it, and what was planted where.

Half of the clean rows are fillings of templates, as programs write them; half are free prose of made-up words, so that no
two are alike but by chance. Nothing here asks the code under test: what a fault is stands in this file.
"""

from __future__ import annotations

import copy
import json
import re
import string
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple

Row = dict[str, Any]

MAX_EDITED_SHARE = 0.05
MIN_LONG_WORDS = 20
"""Source of both: the bar for near duplicates in the data doctor's task."""


class Fault(NamedTuple):
    """Something planted: the finding that it should be, what was done, and where (of two rows that are alike, the later
    one; `partner` is the other one). Lines are physical, from 1."""

    line: int
    code: str
    kind: str
    partner: int | None


@dataclass(frozen=True, slots=True)
class Planted:
    """A file, and what was planted in it.

    Attributes:
        lines, held_out: the physical lines of the JSONL file and of the held-out file, without line ends.
        faults: in the order of their lines.
        clean_lines: the lines of rows with nothing wrong about them, alone or beside others.
        templated_lines: those of them that are fillings of templates.
        num_rows: how many rows the file holds: some lines hold none, some two, and some rows take several lines.
    """

    lines: list[bytes]
    held_out: list[bytes]
    faults: list[Fault]
    clean_lines: frozenset[int]
    templated_lines: frozenset[int]
    num_rows: int


# --- clean rows ------------------------------------------------------------------------------------------------------

SYSTEM = (
    "You work for the mail-order house Harrow & Finch. Keep to the facts you are given, and answer in the form that "
    "the customer asks for."
)
_LISTS = """
first: Amara Beatriz Callum Daniela Edward Fatima Gregor Hannah Ingrid Jamal Katarina Leopold Miriam Nikolai Olivia Pedro
last: Abernathy Bergström Castellano Dombrowski Eriksen Fairweather Goldschmidt Hawthorne Ivanova Jankowski Kowalczyk Nakamura
last: Montgomery Okonkwo Papadakis Quigley Rasmussen Saldívar Thornbury Underhill Vandenberg Whitfield Lindqvist Zimmermann
city: Aberdeen Bologna Copenhagen Dresden Edinburgh Florence Gdansk Hamburg Innsbruck Jakarta Krakow Lisbon Marseille
city: Nairobi Oslo Prague Quebec Rotterdam Sofia Toronto Utrecht Valencia Warsaw Yokohama Zagreb
thing: bookcase kettle lantern armchair blanket teapot wheelbarrow umbrella rucksack typewriter birdhouse stepladder mirror
thing: hammock doormat candlestick toolbox pillow bowl clock radio hose knife lamp
look: walnut copper striped folding enamel wicker blue velvet oak brass cotton green slate ivory birch
month: January February March April May June July August September October November December
unit: accounts warehouse returns dispatch catalogue repairs training purchasing
table: orders invoices shipments returns subscriptions deliveries
firm: Brothers Ltd Partners Trading Limited GmbH
"""
# <d3> is three of the letters called d
_SLOTS = "order: HF-<n1><d4> | price: <n2>.<d2> | room: <A1><n1><d2> | count: <n1> | number: <n1><d3> | percent: <n2>"
# a new template after "* ", another wording of the same after "+ "; ">>" between what user and assistant say in turn
_TEMPLATES = r"""
* Hello, my name is {first} {last} and I ordered the {look} {thing} from your shop on {count} {month}. The parcel with the
number {order} was supposed to arrive within five working days, but the tracking page has shown the same line ever since, and
the driver left neither a note nor a message. Could you please find out where it is, and tell me when I can expect it? If it
is lost, I would rather have my money back. >> Thank you for writing, {first} {last}. Parcel {order} is waiting in our depot
because its label was damaged on the way. It goes out again tomorrow, and the {thing} will be with you on Friday.
* Turn this order into JSON with the keys customer, product, quantity and city: {last} {firm} would like {count} pieces of the
{look} {thing}, delivered to {city}, please. >> {{"customer": "{last} {firm}", "product": "{look} {thing}", "quantity":
{count}, "city": "{city}"}}
* Table {table}(id, customer, city, total, created_at). How many rows from {city} have a total above {number}? >> SELECT
COUNT(*) FROM {table} WHERE city = '{city}' AND total > {number};
+ Table {table}(id, customer, city, total, created_at). Which customers from {city} are in more than {count} rows with a total
below {number}? >> SELECT customer FROM {table} WHERE city = '{city}' AND total < {number} GROUP BY customer HAVING
COUNT(*) > {count};
* I was charged twice for {order} >> charged_twice
+ Where is my parcel {order}? It should be in {city} by now >> parcel_late
+ Please cancel {order}, I found the {look} {thing} elsewhere >> cancel_order
+ The {look} {thing} from {order} arrived broken >> item_damaged
+ Can I still change the address of {order} to {city}? >> change_address
+ I need an invoice for {order} in the name of {last} {firm} >> invoice_request
* Is the following review positive, negative or mixed? Answer with one word. “I bought the {look} {thing} for my office in
{city} and use it every day. The delivery was quick and the box was in good order, but after only {count} days a screw came
loose, and nobody answered the phone when I called. I like how it looks, though, and for {price} euros I would probably buy it
again.” >> mixed
* Please write a short invitation to a meeting of the {unit} team on {count} {month} in room {room}. >> Dear colleagues, the
{unit} team meets on {count} {month} in room {room}. Please bring your open questions. See you there! >> Can you make that one
sentence? >> The {unit} team meets on {count} {month} in room {room}; please bring your open questions.
* Write two sentences for our catalogue about the {look} {thing}. It costs {price} euros, comes from a workshop in {city} and
is made by {last} {firm}. >> Made by {last} {firm} in {city}, the {look} {thing} will be with you for many years. For {price}
euros it brings a piece of honest craftsmanship into your home.
* What is {percent} % of {number}? >> {percent} % of {number} is {share}.
* Write a Python function `{table}_from` that returns the {table} from {city} with a total of at least {number}. >>
```python\ndef {table}_from(rows: list[dict]) -> list[dict]:\n    return [row for row in rows if row['city'] == '{city}' and
row['total'] >= {number}]\n```
* Summarise this clause in one sentence. The tenant {last} {firm} shall pay the landlord a monthly rent of {number} euros, due
on the third working day of each month, for the premises in {city}. If the rent is not received within {count} days after it
is due, the landlord may charge interest on the amount outstanding, and may, after a second written reminder, terminate this
agreement without further notice, without prejudice to any other rights. >> {last} {firm} pays {number} euros a month for the
premises in {city}, and the landlord may charge interest and in the end terminate if a payment is over {count} days late.
* Put the result of this inspection into one line. On {count} {month} the lift in our {unit} building in {city} was inspected
by {first} {last}. The doors, the cable and the emergency brake were found to be in good order; the lamp in the cabin has to
be replaced, and the sign with the largest permitted load of {number} kilograms can no longer be read. >> Lift in {city}: safe
to use; replace the lamp and the sign ({number} kg).
* The scanner in room {room} has lost its connection since {count} {month}. What should I do? >> Please switch the scanner off
and on again, and tell me what its display says after a minute. >> It says error {number}, and the address 192.168.0.{count}.
>> Error {number} means that the name of the network was changed. Open the menu and choose it again. >> That worked, thanks!
>> You are welcome. If it happens again in room {room}, write to service@example.com.
"""
# nouns, verbs, adjectives, names, integers, whole sentences
_QUESTIONS = """Why does the {a} {n} {v} when the {n} is {a}? | Explain to a beginner how to {v} a {n} with {a} {n}s. |
What did {N} say about the {n} and the {n} of {N}? | Write {i} sentences about the {a} {n} of {N} and its {n}. | Compare the
{a} {n} with the {a} {n} of {N}. | Here is what I know. {s} {s} What follows from that? | Make this shorter: {s} {s} {s}"""
_FOLLOW_UPS = "And what about the {a} {n}? | Can you say that in simpler words? | How do I {v} the {n} of {N}?"
_SENTENCES = """The {a} {n} {v}s the {n} behind the {n}. | When {N} {v}ed the {n}, {i} {n}s were still {a} and {a}. | Nobody
in {N} has ever {v}ed a {n} without its {n}. | It takes {i} {n}s to {v} one {a} {n}, or so they say in {N}. | Because the {n}
was {a}, we {v} it with {n}s from {N}. | {N} and {N} {v} their {n}s every {i} days. | If the {n} {v}s too soon, take the {a}
{n} out and {v} the rest. | There are {i} {a} {n}s on the {n}, none of them {a}. | You can {v} the {n} by hand, but a {a} {n}
does it better. | This is why {a} {n}s {v} at night and {a} ones by day. | {N} called it “the {a} {n}” — and {v}ed it."""
_DAYS, _TEXT = {"type": "integer"}, {"type": "string"}
_SCHEMA = {"type": "object", "properties": {"order": _TEXT, "days": _DAYS}, "required": ["order"]}


class Garden:
    """Grows rows in which no user asks what another one has asked. All chance comes from `rng`."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self._known: set[str] = set()
        self._words: dict[str, list[str]] = {}
        for name, words in re.findall(r"(\w+): (.+)", _LISTS):
            self._words.setdefault(name, []).extend(words.split())
        self._words["n"] = self._made_up(2500, "bel dor kin let mar per tle wick")
        self._words["v"] = self._made_up(900, "ack end ift old urn")
        self._words["a"] = self._made_up(1200, "al ful ic ish ous y")
        self._words["N"] = [word.title() for word in self._made_up(800, "a berg en é ia ov stad ün")]
        families = [family.split("\n+ ") for family in f"\n{_TEMPLATES.strip()}".split("\n* ")[1:]]
        self._families = [[wording.replace("\n", " ").replace(r"\n", "\n") for wording in some] for some in families]

    def _made_up(self, count: int, endings: str) -> list[str]:
        choice, found = self.rng.choice, dict[str, None]()
        starts = re.findall(r"\w+", "b br c cl d dr f fl g gr h j k l m n p pl qu r s sk st t tr v w z")
        while len(found) < count:
            syllables = [choice(starts) + choice("aeiou") + choice(("", "", *"lmnrs")) for _ in range(2)]
            found["".join(syllables)[: self.rng.randrange(4, 8)] + choice(endings.split())] = None
        return list(found)

    def templated(self) -> Row:
        """Returns a filled template."""
        wording = self.rng.choice(self.rng.choice([*self._families, [""]]))
        return self._fresh((lambda: self._filled(wording)) if wording else self._shipment)

    def prose(self) -> Row:
        """Returns a conversation of one to three turns in free prose."""
        return self._fresh(lambda: _chat(self._talk(self.rng.choice((1, 1, 1, 2, 3))), self.rng.random() < 0.1))

    def plain(self, source: str = "prose") -> Row:
        """Returns a row with one question and one answer in free prose, or with a call if the source is "tools"."""
        return self._fresh(self._shipment if source == "tools" else lambda: _chat(self._talk(1)))

    def sentences(self, count: int) -> str:
        """Returns a paragraph of free prose."""
        return " ".join(self._said(_SENTENCES) for _ in range(count))

    def word(self, sort: str = "n") -> str:
        """Returns a noun (n), verb (v), adjective (a) or name (N), a number (i) or a sentence (s)."""
        if sort == "s":
            return self.sentences(1)
        return str(self.rng.randrange(2, 900)) if sort == "i" else self.rng.choice(self._words[sort])

    def _said(self, patterns: str) -> str:
        pattern = self.rng.choice(patterns.replace("\n", " ").split(" | "))
        said = re.sub(r"\{(\w)\}", lambda sort: self.word(sort[1]), pattern)
        return said[0].upper() + said[1:]

    def _talk(self, turns: int) -> list[str]:
        said = []
        for turn in range(turns):
            said.append(self._said(_FOLLOW_UPS if turn else _QUESTIONS))
            count, is_list = self.rng.randrange(1, 6), self.rng.random() < 0.1
            said.append("\n".join(f"- {self.sentences(1)}" for _ in range(count)) if is_list else self.sentences(count))
        return said

    def _slots(self) -> dict[str, str]:
        slots = {name: self.rng.choice(words) for name, words in self._words.items()}
        slots |= {name: spelt(pattern, self.rng) for name, pattern in _patterns(_SLOTS)}
        return {**slots, "share": f"{int(slots['percent']) * int(slots['number']) / 100:.2f}"}

    def _filled(self, wording: str) -> Row:
        return _chat(wording.format_map(self._slots()).split(" >> "), self.rng.random() < 0.1)

    def _shipment(self) -> Row:
        slots = self._slots()
        order, city, days = slots["order"], slots["city"], slots["count"]
        function = {"name": "find_shipment", "arguments": json.dumps({"order": order, "days": int(days)})}
        row = _chat([f"Has {order} reached {city} yet? I have been waiting for {days} days."])
        row["messages"] += [
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": order, "type": "function", "function": function}],
            },
            {"role": "tool", "tool_call_id": order, "content": json.dumps({"status": "on its way", "to": city})},
            {"role": "assistant", "content": f"Not yet: {order} left for {city} today, and will be there tomorrow."},
        ]
        return {**row, "tools": [{"type": "function", "function": {"name": "find_shipment", "parameters": _SCHEMA}}]}

    def _fresh(self, make: Callable[[], Row]) -> Row:
        while True:
            row = make()
            asked = " ".join(message["content"] for message in row["messages"] if message["role"] == "user")
            key = " ".join(asked.casefold().split())
            if key not in self._known:
                self._known.add(key)
                return row


def _chat(said: list[str], weighted: bool = False) -> Row:
    messages: list[Row] = [{"role": "system", "content": SYSTEM}]
    for place, text in enumerate(said):
        messages.append({"role": ("user", "assistant")[place % 2], "content": text})
        if weighted and place % 2:
            messages[-1]["weight"] = int(place == len(said) - 1)
    return {"messages": messages}


def _written(row: Row, rng: Random) -> bytes:
    """Returns a row as one of several programs writes it."""
    separators = rng.choice((None, None, (",", ":")))
    return json.dumps(row, ensure_ascii=rng.random() < 0.3, separators=separators).encode()


def _spoken(row: Row) -> list[Row]:
    return [message for message in row["messages"] if message["role"] in ("user", "assistant") and message["content"]]


_LETTERS = {"x": "0123456789abcdef", "d": string.digits, "n": "2346789", "A": string.ascii_uppercase}
_LETTERS |= {
    "a": string.ascii_letters,
    "w": string.ascii_letters + string.digits,
    "B": string.ascii_uppercase + "234567",
}
_LETTERS |= {"u": _LETTERS["w"] + "-_", "b": _LETTERS["w"] + "+/"}
_SECRETS = r"""openai: sk-proj-<u74>T3BlbkFJ<u74> | openai-old: sk-<w20>T3BlbkFJ<w20> | anthropic: sk-ant-api03-<u93>AA |
aws: AKIA<B16> | aws-secret: aws_secret_access_key = <b40> | github: ghp_<w36> | github-fine: github_pat_<w22>_<w59> |
gitlab: glpat-<u20> | slack: xoxb-<d12>-<d13>-<w24> | slack-webhook: https://hooks.slack.com/services/T<A8>/B<A10>/<w24> |
google: AIza<u35> | google-client: GOCSPX-<u28> | stripe: sk_live_<w24> | sendgrid: SG.<u22>.<u43> | twilio: SK<x32> |
npm: npm_<w36> | pypi: pypi-AgEIcHlwaS5vcmc<u150> | hugging-face: hf_<a34> | digitalocean: dop_v1_<x64> |
azure-storage: AccountName=harrow;AccountKey=<b86>==;EndpointSuffix=core.windows.net | shopify: shpat_<x32> |
databricks: dapi<x32> | telegram: <n10>:AA<u33> | jwt: eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ<w73>.<u43> |
private-key: -----BEGIN RSA PRIVATE KEY-----\n<b64>\n<b64>\n<b64>\n<b64>\n<b30>==\n-----END RSA PRIVATE KEY----- |
password: password: <w9>#<d3>k | password-chosen: DB_PASSWORD=Thornbury!<n3>k | api-key: WEATHER_API_KEY=<x32> |
url-login: postgresql://shop:<w14>@db.harrowfinch.io:5432/orders | bearer: Authorization: Bearer <u40>"""
"""Source: the issuers' documentation, and the patterns of GitHub's secret scanning."""
_PERSONAL = """e-mail: <a6>.<a7>@lantern-<a5>.com | phone-american: (212) <n2><d1>-<d4> | phone-plus: +1 312-<n2><d1>-<d4> |
phone-german: +49 30 <n1><d7> | phone-french: +33 6 <d2> <d2> <d2> <d2> | phone-at-home: 0171 <n1><d6> |
card: 4<d3> <d4> <d4> <d3>? | card-joined: 52<d13>? | iban: DE?? <d4> <d4> <d4> <d4> <d2> | iban-joined: GB??<A4><d14> |
ip-4: 185.<n2>.<n2>.<n2> | ip-6: 2a02:<n1><x3>:<n1><x3>:<n1><x3>:<n1><x3>:<n1><x3>:<n1><x3>:<n1><x3>"""
"""In place of ? stand check digits."""


def _patterns(text: str) -> list[tuple[str, str]]:
    return [(name.strip(), pattern) for name, _, pattern in (part.partition(": ") for part in re.split(r" \|\s", text))]


def spelt(pattern: str, rng: Random) -> str:
    """Returns a pattern with random letters and the check digits of ISO/IEC 7812-1 (cards) or ISO 13616 (IBAN)."""
    text = re.sub(r"<(\w)(\d+)>", lambda some: "".join(rng.choices(_LETTERS[some[1]], k=int(some[2]))), pattern)
    if text.endswith("?"):
        doubled = [int(digit) * (2 - place % 2) for place, digit in enumerate(re.findall(r"\d", text[::-1]))]
        return text.replace("?", str(-sum(value - 9 * (value > 9) for value in doubled) % 10))
    if "??" in text:
        number = "".join(str(int(char, 36)) for char in f"{text[4:]}{text[:2]}00".replace(" ", ""))
        return text.replace("??", f"{98 - int(number) % 97:02d}")
    return text.replace(r"\n", "\n")


# --- faults of one row -----------------------------------------------------------------------------------------------

_CONFLICT = "<<<<<<< HEAD\n{}\n=======\n{}\n>>>>>>> more-examples"
RowChange = Callable[[Garden, Row], Row]
Change = Callable[[Garden, Row], Row | list[bytes]]
"""Makes a fault of a row: a row, or lines."""


def _raw(inserted: bytes) -> Change:
    """Puts bytes between two words of the question, behind the encoder's back."""

    def change(garden: Garden, row: Row) -> list[bytes]:
        words = row["messages"][1]["content"].split(" ")
        words.insert(garden.rng.randrange(1, len(words)), "@@@@")
        row["messages"][1]["content"] = " ".join(words)
        return json.dumps(row).encode().replace(b"@@@@ ", inserted).split(b"\n")

    return change


def _line(write: Callable[[Garden, str], str]) -> Change:
    """Writes one or several lines, given the row's JSON."""
    return lambda garden, row: write(garden, json.dumps(row)).encode().split(b"\n")


def _set(place: int, **keys: Any) -> RowChange:
    """Sets keys of a message; `...` deletes the key."""

    def change(_garden: Garden, row: Row) -> Row:
        message = {**row["messages"][place], **keys}
        row["messages"][place] = {key: value for key, value in message.items() if value is not ...}
        return row

    return change


def _texts(*patterns: str, place: int = 2) -> dict[str, Change]:
    """Writes a text anew, with the old one where … stands."""

    def change(pattern: str) -> Change:
        return lambda g, row: _set(place, content=pattern.replace("…", row["messages"][place]["content"]))(g, row)

    return {pattern: change(pattern) for pattern in patterns}


def _order(*places: int, role: str = "", content: str | None = None) -> RowChange:
    """Puts the messages at these places one behind the other; -1 is a new one."""

    def change(garden: Garden, row: Row) -> Row:
        new = {"role": role, "content": content or garden.sentences(2)}
        return {**row, "messages": [new if place < 0 else row["messages"][place] for place in places]}

    return change


def _call(call_id: str | None = None, **keys: Any) -> RowChange:
    """Sets keys of the function that is called, or the id of the call."""

    def change(_garden: Garden, row: Row) -> Row:
        call = row["messages"][2]["tool_calls"][0]
        call["function"].update(keys)
        call["id"] = call_id or call["id"]
        return row

    return change


def _keys(**keys: Any) -> Change:
    return lambda _garden, row: {**row, **copy.deepcopy(keys)}


def _preference(_garden: Garden, row: Row) -> Row:
    answer = row["messages"][2:]
    return {"input": {"messages": row["messages"][:2]}, "preferred_output": answer, "non_preferred_output": answer}


def _leaks(patterns: str) -> dict[str, Change]:
    """Puts a secret or something personal into the question, the answer, or the arguments of a call."""

    def change(pattern: str) -> Change:
        def leak(garden: Garden, row: Row) -> Row:
            leaked, place = spelt(pattern, garden.rng), garden.rng.randrange(3)
            if place == 2:
                return _call(arguments=json.dumps({"order": leaked}))(garden, garden.plain("tools"))
            text = garden.rng.choice(("\n\n{0} This is what I have: {1}", "\n\n{0}\n{1}", " {0} ({1})"))
            row["messages"][1 + place]["content"] += text.format(garden.sentences(1), leaked)
            return row

        return leak

    return {name: change(pattern) for name, pattern in _patterns(patterns)}


def _edited(garden: Garden, row: Row) -> Row:
    """Returns a copy in which up to 5 % of the characters that are said were edited at random."""
    rng = garden.rng
    while True:
        new = copy.deepcopy(row)
        places = [(message, at) for message in _spoken(new) for at in range(len(message["content"]))]
        count = rng.randint(1, int(MAX_EDITED_SHARE * len(places)))
        for number in sorted(rng.sample(range(len(places)), count), reverse=True):
            message, at = places[number]
            message["content"] = _edit(rng, message["content"], at)
        plain, before = ([" ".join(m["content"].casefold().split()) for m in _spoken(some)] for some in (new, row))
        if plain != before and all(plain) and len(plain) == len(before):
            return new


def _edit(rng: Random, text: str, at: int) -> str:
    """Returns the text with a character replaced, left out, put in, or exchanged with the next one."""
    alphabet = string.digits if text[at].isdigit() else string.ascii_lowercase
    other = rng.choice([char for char in alphabet if char != text[at].lower()])
    before, after = text[:at], text[at + 1 :]
    return before + rng.choice((other + after, after, other + text[at:], after[:1] + text[at] + after[1:]))


def _new_word(place: int, change: Callable[[Garden, str], str]) -> Change:
    """Writes one word of a copy anew."""

    def changed(garden: Garden, row: Row) -> Row:
        words = row["messages"][place]["content"].split(" ")
        at = garden.rng.randrange(len(words))
        words[at] = change(garden, words[at])
        return _set(place, content=" ".join(words))(garden, copy.deepcopy(row))

    return changed


def _answered(garden: Garden, row: Row) -> Row:
    """Returns a copy with another answer."""
    return {**row, "messages": [*row["messages"][:-1], {"role": "assistant", "content": garden.sentences(2)}]}


# --- what is planted -------------------------------------------------------------------------------------------------


class Kind(NamedTuple):
    """A kind of fault: the finding that it should be, its name, and how it is made of a row.

    That row is a new one ("prose", "tools"), or one that stays in the file ("clean") or stands in the held-out file ("held");
    a "long" one has 20 words or more. `share` is how many of about 500 faults.
    """

    code: str
    name: str
    change: Change
    source: str
    share: int


def _kinds(code: str, share: int = 1, source: str = "prose", /, **changes: Change) -> list[Kind]:
    return [Kind(code, name, change, source, share) for name, change in changes.items()]


KINDS = [
    *_kinds("not-json", quote=_raw(b'"so-called" '), line_break=_raw(b"\n"), words=_line(lambda g, _: g.sentences(1))),
    *_kinds("not-json", comma=_line(lambda _, text: text.replace("}]", "},]")), end=_line(lambda _, text: text[:-1] + ")")),
    *_kinds("not-an-object", value=_line(lambda g, _: g.rng.choice(("42", '"done"', "null", "[]")))),
    *_kinds("not-an-object", messages=_line(lambda _, text: text[len('{"messages": ') : -1])),
    *_kinds("not-jsonl", two=_line(lambda g, text: f"{text} {json.dumps(g.plain())}"), end=_line(lambda _, text: text + ",")),
    *_kinds("not-jsonl", python=_line(lambda _, text: repr(json.loads(text)))),
    *_kinds("not-jsonl", pretty=_line(lambda _, text: json.dumps(json.loads(text), indent=2))),
    *_kinds("encoding", byte=_raw(b"\xe9"), surrogate=_raw(rb"\ud83d"), nul=_raw(b"\0")),
    *_kinds("truncated-row", 4, cut=_line(lambda g, text: text[: g.rng.randrange(2, len(text))])),
    *_kinds("duplicate-key", messages=_line(lambda _, text: f"{text[:-1]}, {text[1:]}")),
    *_kinds("duplicate-key", role=_line(lambda _, text: text.replace('{"role"', '{"role": 1, "role"', 1))),
    *_kinds("merge-conflict", both_sides=_line(lambda g, text: _CONFLICT.format(text, json.dumps(g.plain())))),
    *_kinds("comment-line", alone=_line(lambda g, _: g.rng.choice(("// ", "# ")) + g.word())),
    *_kinds("comment-line", behind=_line(lambda _, text: f"{text} // good")),
    *_kinds("blank-line", 2, blank=_line(lambda g, _: g.rng.choice(("", "   ", "\t")))),
    *_kinds("over-limit", nested=_keys(x=json.loads("[" * 90 + "]" * 90)), number=_keys(x=10**40)),
    *_kinds("unknown-format", turns=lambda _, row: {"conversations": row["messages"]}, none=lambda g, _: {"body": g.word()}),
    *_kinds("mixed-formats", 2, completion=lambda g, _: {"prompt": g.sentences(1), "completion": g.sentences(2)}),
    *_kinds("missing-messages", null=_keys(messages=None), none=_keys(messages=[]), text=_keys(messages="Hi")),
    *_kinds("unknown-role", stranger=_set(1, role="clerk"), vendor=_set(2, role="model"), none=_set(1, role=...)),
    *_kinds("missing-content", none=_set(1, content=...), null=_set(2, content=None), number=_set(2, content=4)),
    *_kinds("empty-content", answer=_set(2, content=""), space=_set(2, content=" \n"), user=_set(1, content="")),
    *_kinds("content-parts", image=_set(1, content=[{"type": "image_url"}]), vendor=_set(1, content=[{"text": "Why?"}])),
    *_kinds("unknown-key", row=_keys(source="import"), message=_set(1, timestamp=1790000000)),
    *_kinds("unknown-key", text=_set(2, content=..., text="Yes."), old=_set(2, function_call={"name": "f"})),
    *_kinds("bad-weight", half=_set(2, weight=0.5), text=_set(2, weight="1"), user=_set(1, weight=1)),
    *_kinds("no-user", 2, gone=_order(0, 2)),
    *_kinds("no-assistant", 2, gone=_order(0, 1)),
    *_kinds("last-not-assistant", 2, user=_order(0, 1, 2, -1, role="user")),
    *_kinds("assistant-first", 2, greeting=_order(0, -1, 1, 2, role="assistant")),
    *_kinds("same-role-twice", user=_order(0, 1, -1, 2, role="user"), answer=_order(0, 1, 2, -1, role="assistant")),
    *_kinds("several-system", 2, more=_order(0, -1, 1, 2, role="system", content="Be polite.")),
    *_kinds("system-not-first", 2, behind=_order(1, 0, 2)),
    *_kinds("nothing-trained", 2, weight=_set(2, weight=0)),
    *_kinds("bad-tool-call", 1, "tools", json=_call(arguments="{'order': 'H'}"), stranger=_call(name="find_parcel")),
    *_kinds("bad-tool-call", 1, "tools", schema=_call(arguments='{"order": 5}'), missing=_call(arguments='{"days": 5}')),
    *_kinds("bad-tool-call", 1, "tools", object=_call(arguments={"order": "H"}), unanswered=_order(0, 1, 2, 4)),
    *_kinds("tool-result-without-call", 1, "tools", other=_call(call_id="call_0"), no_call=_order(0, 1, 3, 4)),
    *_kinds("bad-tools", 1, "tools", no_list=_keys(tools={}), no_name=_keys(tools=[{"type": "function", "function": {}}])),
    *_kinds("preference-same", 2, same=_preference),
    *_kinds("preference-shape", 2, text=lambda g, row: {**_preference(g, row), "non_preferred_output": "No."}),
    *_kinds("reinforcement-shape", 2, system_last=lambda g, row: {**_order(1, 0)(g, row), "reference": "7"}),
    *_kinds("outer-whitespace", **_texts(" …", "…\n")),
    *_kinds("stop-token-leftover", **_texts("… END", "…\n\n###", "…</s>", "…<|im_end|>", "…<|eot_id|>")),
    *_kinds("role-prefix-leftover", **_texts("Assistant: …", "AI: …"), **_texts("User: …", place=1)),
    *_kinds("unfilled-placeholder", **_texts("… Yours, [Your Name]", "Dear {{customer_name}}, …")),
    *_kinds("refusal-answer", **_texts("I'm sorry, but I can't assist with that.", "As an AI language model, I cannot.")),
    *_kinds("truncated-answer", **_texts('{"customer": "Eriksen", "items": [{"product": "', "```python\nx = [")),
    *_kinds("truncated-answer", sentence=lambda g, row: _set(2, content=f"{g.sentences(6)} They {g.word('v')} the")(g, row)),
    *_kinds("repetition", 2, **_texts("… " + "and then the lantern turns " * 14 + "off.")),
    *_kinds("mojibake", **_texts("… Itâ€™s the cafÃ© fÃ¼r alle.", "… The caf\ufffd is open.")),
    *_kinds("language-mix", 2, **_texts("Das Paket liegt noch im Lager, weil die Adresse nicht vollständig war.")),
    *_kinds("system-prompt-differs", 3, slip=_set(0, content=SYSTEM.replace("given", "gven")), missing=_order(1, 2)),
    *_kinds("secret", 2, **_leaks(_SECRETS)),
    *_kinds("pii", 2, **_leaks(_PERSONAL)),
    *_kinds("duplicate", 18, "clean", same=lambda _, row: row),
    *_kinds("duplicate", 18, "clean", sorted=lambda _, row: [json.dumps(row, sort_keys=True).encode()]),
    *_kinds("near-duplicate", 50, "long clean template", template=_edited),
    *_kinds("near-duplicate", 45, "long clean prose", prose=_edited),
    *_kinds("near-duplicate", 5, "long clean", capitals=_new_word(1, lambda _g, word: f"{word.upper()} ")),
    *_kinds("conflicting-answers", 12, "clean", other=_answered, reworded=_new_word(-1, lambda g, _word: g.word())),
    *_kinds("contamination", 34, "held", exact=lambda _, row: row, prompt=_answered),
    *_kinds("contamination", 34, "long held", near=_edited),
]  # fmt: skip
_NUM_ROWS = {"two": 2, "both_sides": 2, "alone": 0, "blank": 0}
"""Faults in whose lines a reader does not find one row."""


@dataclass(slots=True, eq=False)
class _Unit:
    """Lines that stay together, the row they were written from, what is wrong with it, and the other row of a pair."""

    lines: list[bytes]
    row: Row | None
    templated: bool = False
    kind: Kind | None = None
    partner: _Unit | None = None
    line: int = 0


def plant(seed: int, num_rows: int = 10_000, num_faults: int = 500) -> Planted:
    """Returns a file of `num_rows` lines with `num_faults` things wrong in it. The same seed gives the same file."""
    garden = Garden(Random(seed))
    kinds = _chosen(num_faults)
    alone = [_unit(garden, kind) for kind in kinds if kind.source in ("prose", "tools")]
    twins = [kind for kind in kinds if kind.source not in ("prose", "tools")]
    clean = _clean(garden, num_rows - len(twins) - sum(len(unit.lines) for unit in alone))
    hidden = _clean(garden, max(num_rows // 20, 2 * len(twins)))
    pools = {is_held: garden.rng.sample(pool, len(pool)) for is_held, pool in ((False, clean), (True, hidden))}
    units = clean + [_unit(garden, kind, pools["held" in kind.source]) for kind in twins] + alone
    units = _apart(garden.rng, [unit for unit in units if unit.row], [unit for unit in units if not unit.row])
    for unit, following in zip(units, [*units[1:], None], strict=True):
        if following is not None:
            following.line = unit.line + len(unit.lines)
    faults = []
    for unit in units:
        if unit.kind is not None:
            first, *later = sorted([unit.line] if unit.partner is None else [unit.line, unit.partner.line])
            faults.append(Fault(later[0] if later else first, unit.kind.code, unit.kind.name, first if later else None))
    good = {*clean} - {unit.partner for unit in units}
    return Planted(
        lines=[line for unit in units for line in unit.lines],
        held_out=[unit.lines[0] for unit in hidden],
        faults=sorted(faults),
        clean_lines=frozenset(unit.line for unit in good),
        templated_lines=frozenset(unit.line for unit in good if unit.templated),
        num_rows=sum(_NUM_ROWS.get(unit.kind.name, 1) if unit.kind else 1 for unit in units),
    )


def _chosen(num_faults: int) -> list[Kind]:
    """Returns each kind as often as it is wanted, by the method of largest remainders."""
    exact = [kind.share * num_faults / sum(kind.share for kind in KINDS) for kind in KINDS]
    counts = [int(share) for share in exact]
    for place in sorted(range(len(KINDS)), key=lambda place: counts[place] - exact[place])[: num_faults - sum(counts)]:
        counts[place] += 1
    return [kind for kind, count in zip(KINDS, counts, strict=True) for _ in range(count)]


def _clean(garden: Garden, count: int) -> list[_Unit]:
    rows = [garden.templated() if place % 2 else garden.prose() for place in range(count)]
    return [_Unit([_written(row, garden.rng)], row, templated=place % 2 == 1) for place, row in enumerate(rows)]


def _unit(garden: Garden, kind: Kind, pool: list[_Unit] | None = None) -> _Unit:
    """Returns a fault made from a new row, or from one taken out of a pool."""
    if pool is None:
        made, original = kind.change(garden, garden.plain(kind.source)), None
    else:
        original = next(unit for unit in pool if _fits(unit, kind.source))
        pool.remove(original)
        made = kind.change(garden, original.row or {})
    partner = original if "clean" in kind.source else None
    if isinstance(made, dict):
        return _Unit([_written(made, garden.rng)], made, kind=kind, partner=partner)
    return _Unit(made, original.row if original is not None else None, kind=kind, partner=partner)


def _fits(unit: _Unit, source: str) -> bool:
    words = [word for message in _spoken(unit.row or {}) for word in message["content"].split()]
    is_long, is_prose = len(words) >= MIN_LONG_WORDS, not unit.templated
    return ("long" not in source or is_long) and source.split()[-1] != ("template" if is_prose else "prose")


def _apart(rng: Random, rows: list[_Unit], broken: list[_Unit]) -> list[_Unit]:
    """Returns all units in a random order, a row between two lines that are none: where broken lines touch, it is open which
    of them is wrong."""
    rng.shuffle(rows)
    before = dict(zip(rng.sample(range(1, len(rows)), len(broken)), broken, strict=True))
    rows[0].line = 1
    return [unit for place, row in enumerate(rows) for unit in (before.get(place), row) if unit is not None]
