"""Makes examples/orders.jsonl: 400 messages about purchases and what a program wants to know of them.

    python examples/make_orders.py > examples/orders.jsonl

The same bytes each time: every choice comes from `Random.random()`, whose sequence Python promises to keep. The facts
of an order are drawn first, then a text that states them; a fact that the text leaves out is null in the answer.

The texts are templates in three signs: `<a|b>` is one of a, b by chance; `[a {x}]` is left out, and `[a {x}|b]` is b,
where the fact x is missing; `{x}` is the fact.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from random import Random
from typing import TypeVar

import orders_words as words

NUM_ROWS = 400
SEED = 20260610
MOST_ALIKE = 0.4
"""No two messages share more of their character 5-grams than this (Jaccard)."""

SYSTEM = (
    "Extract the order as compact JSON: customer, items (product, quantity), total, date. Copy names and products as "
    "written. The total is the overall price as stated, with two decimals. The date is the day of purchase, "
    "YYYY-MM-DD, in 2026 unless stated. Missing: null. Cancelled or returned goods do not count; without an order, "
    "all is null and items is []."
)

rng = Random(SEED)
T = TypeVar("T")


def pick(options: Sequence[T]) -> T:
    """Returns one of the options."""
    return options[int(rng.random() * len(options))]


def chance(share: float) -> bool:
    """Returns True in this share of calls."""
    return rng.random() < share


def between(low: int, high: int) -> int:
    """Returns a whole number, both ends included."""
    return low + int(rng.random() * (high - low + 1))


@dataclass(frozen=True)
class Item:
    """A product as it stands in the text, singular or plural as its quantity asks."""

    product: str
    quantity: int


@dataclass
class Order:
    """The facts: what the answer says. None is a fact that the text does not give."""

    customer: str | None = None
    items: list[Item] = field(default_factory=list)
    total: int | None = None
    """In hundredths, so that sums stay exact."""
    day: date | None = None

    def answer(self) -> str:
        """Returns the compact JSON of the answer; the total always has two decimals."""
        items = [{"product": item.product, "quantity": item.quantity} for item in self.items]
        parts = {
            "customer": _compact(self.customer),
            "items": _compact(items),
            "total": "null" if self.total is None else f"{self.total // 100}.{self.total % 100:02d}",
            "date": _compact(self.day and self.day.isoformat()),
        }
        return "{" + ",".join(f'"{key}":{value}' for key, value in parts.items()) + "}"


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


# ---- how facts are written ------------------------------------------------------------------------------------------


def in_words(number: int) -> str:
    """Returns a number below 1000 in English words."""
    if number < 20:
        return words.UNITS[number]
    if number < 100:
        tens, unit = divmod(number, 10)
        return words.TENS[tens] + (f"-{words.UNITS[unit]}" if unit else "")
    hundreds, rest = divmod(number, 100)
    return f"{words.UNITS[hundreds]} hundred" + (f" and {in_words(rest)}" if rest else "")


def _suffix(number: int) -> str:
    """Returns the letters after a day: 1st, 2nd, 3rd, 4th."""
    return "th" if number in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")


def written_quantity(quantity: int, product: str) -> str:
    """Returns the quantity as prose says it, ready to stand before the product."""
    if quantity == 1:
        return pick(["1", "one", "an" if product[0] in "aeiou" else "a"])
    forms = [str(quantity), str(quantity), in_words(quantity)]
    if quantity == 2:
        forms += ["a couple of", "a pair of"]
    if quantity % 12 == 0:
        forms += ["a dozen" if quantity == 12 else f"{in_words(quantity // 12)} dozen"] * 3
    if quantity == 6:
        forms += ["half a dozen"] * 2
    return pick(forms)


def written_money(hundredths: int) -> str:
    """Returns an amount as people write it, in one of three currencies."""
    whole, rest = divmod(hundredths, 100)
    sign, code, name, small = pick(words.CURRENCIES)
    if whole < 1000 and chance(0.12):
        cents = f" and {in_words(rest)} {small}" if rest else ""
        return f"{in_words(whole)} {name}{cents}"
    plain = f"{whole:,}" if rest == 0 and chance(0.7) else f"{whole:,}.{rest:02d}"
    forms = [f"{sign}{plain}", f"{sign}{plain}", f"{plain} {code}", f"{code} {plain}", f"{plain} {name}"]
    if code == "EUR":
        comma = plain.replace(",", " ").replace(".", ",")
        forms += [f"{comma} €", f"{comma} EUR"] if "." in plain else [f"{plain} €"]
    if code == "USD" and rest == 0:
        forms.append(f"{plain} bucks")
    return pick(forms)


def written_date(day: date) -> str:
    """Returns a date in one of many forms, none of which can be read as another day."""
    number, month, weekday = day.day, words.MONTHS[day.month - 1], words.WEEKDAYS[day.weekday()]
    short, nth = month[:3], f"{number}{_suffix(number)}"
    ordinal = words.ORDINALS[number - 1]
    with_year = [
        day.isoformat(),
        f"{month} {number}, {day.year}",
        f"{number} {month} {day.year}",
        f"{number} {short} {day.year}",
        f"the {ordinal} of {month} {day.year}",
        f"{weekday}, {nth} {month} {day.year}",
    ]
    if number > 12:
        with_year += [f"{number}.{day.month:02d}.{day.year}", f"{day.month:02d}/{number}/{day.year}"]
    without_year = [
        f"{month} {number}",
        f"{month} {nth}",
        f"{number} {month}",
        f"{short} {number}",
        f"the {nth} of {month}",
        f"the {ordinal} of {month}",
        f"{weekday} {number} {month}",
        f"{weekday}, {month} {nth}",
    ]
    return pick(without_year) if day.year == 2026 and chance(0.62) else pick(with_year)


def prose(items: Sequence[Item]) -> str:
    """Returns `two mugs, 1 lamp and a rug`."""
    parts = [f"{written_quantity(item.quantity, item.product)} {item.product}" for item in items]
    if len(parts) == 1:
        return parts[0]
    last = [" and ", " and ", " plus "] if len(parts) == 2 else [" and ", " and ", ", and ", " plus "]
    return ", ".join(parts[:-1]) + pick(last) + parts[-1]


def listed(items: Sequence[Item]) -> str:
    """Returns the items one a line."""
    form = pick(["- {0.quantity} x {0.product}", "* {0.product}, qty {0.quantity}", "{0.quantity} {0.product}"])
    return "\n".join(form.format(item) for item in items)


def short(items: Sequence[Item]) -> str:
    """Returns the items as a note or a chat has them."""
    form = pick(["{0.quantity}x {0.product}", "{0.product} x{0.quantity}", "{0.product} ({0.quantity})"])
    return pick([", ", " + ", "; "]).join(form.format(item) for item in items)


# ---- facts ----------------------------------------------------------------------------------------------------------


def draw_customer() -> str:
    """Returns a person or a company."""
    kind = rng.random()
    if kind < 0.17:
        return pick(words.COMPANIES)
    if kind < 0.42:
        return pick(words.FIRST_NAMES)
    return f"{pick(words.FIRST_NAMES)} {pick(words.LAST_NAMES)}"


def draw_day() -> date:
    """Returns a day, of 2026 in most cases."""
    year = 2026 if chance(0.86) else pick([2023, 2024, 2025, 2025])
    return date(year, 1, 1) + timedelta(days=between(0, 364))


def draw_items(count: int) -> tuple[list[Item], int]:
    """Returns items of mostly one domain, none twice, and what they cost in hundredths."""
    items: list[Item] = []
    price = 0
    home = pick(words.DOMAINS)
    nouns: set[str] = set()
    while len(items) < count:
        domain = home if chance(0.8) else pick(words.DOMAINS)
        singular, plural = pick(domain.products)
        if plural in nouns:
            continue
        nouns.add(plural)
        roll = rng.random()
        quantity = 1 if roll < 0.3 else between(2, 5) if roll < 0.75 else pick([6, 6, 7, 8, 10, 12, 12, 15, 20, 24, 30])
        if quantity > domain.most:
            quantity = between(1, domain.most)
        product = singular if quantity == 1 else plural
        if domain.adjectives and " of " not in product and chance(0.35):
            product = f"{pick(domain.adjectives)} {product}"
        items.append(Item(product, quantity))
        price += quantity * between(*domain.price)
    return items, price


def draw_total(price: int) -> int:
    """Returns a price as shops round it."""
    return pick([price * 100, price * 100, price * 100 + 50, price * 100 - 1, price * 100 - 5, price * 100 + 90])


def draw_order() -> Order:
    """Returns an order in which any fact but the items may be missing."""
    roll = rng.random()
    items, price = draw_items(1 if roll < 0.62 else 2 if roll < 0.87 else 3 if roll < 0.95 else 4)
    return Order(
        customer=draw_customer() if chance(0.9) else None,
        items=items,
        total=draw_total(price) if chance(0.86) else None,
        day=draw_day() if chance(0.88) else None,
    )


# ---- texts ----------------------------------------------------------------------------------------------------------

CHOICE = re.compile(r"<([^<>]*)>")
OPTIONAL = re.compile(r"\[([^\[\]|]*)(?:\|([^\[\]]*))?\]")
SLOT = re.compile(r"\{(\w+)\}")


def render(template: str, order: Order) -> str:
    """Returns the text of a template, its distractors freshly drawn."""
    facts: dict[str, Callable[[], str | None]] = {
        "who": lambda: order.customer,
        "items": lambda: prose(order.items),
        "list": lambda: listed(order.items),
        "short": lambda: short(order.items),
        "total": lambda: None if order.total is None else written_money(order.total),
        "date": lambda: order.day and written_date(order.day),
        "later": lambda: written_date((order.day or draw_day()) + timedelta(days=between(2, 20))),
        "id": lambda: pick(["#", "", "A-", "ORD-", "PO"]) + str(between(1200, 98000)),
        # numbers that are kept free for fiction (Ofcom, "Telephone numbers for use in TV and radio drama programmes")
        "phone": lambda: (
            f"{pick(['020 7946 0', '01632 960', '+44 117 496 0', '+44 7700 900'])}{between(100, 999)} "
            f"ext. {between(1000, 9999)}"
        ),
        "other": lambda: pick([name for name in words.FIRST_NAMES if name != (order.customer or "").split(" ")[0]]),
        "each": lambda: written_money(between(3, 90) * 100),
        "some": lambda: prose(draw_items(between(1, 2))[0]),
        "thing": lambda: pick(pick(words.DOMAINS).products)[1],
        "number": lambda: str(between(2, 40)),
    }

    def optional(match: re.Match[str]) -> str:
        names = SLOT.findall(match[1])
        return match[1] if all(facts[name]() is not None for name in names) else match[2] or ""

    while CHOICE.search(template):
        template = CHOICE.sub(lambda match: pick(match[1].split("|")), template)
    template = OPTIONAL.sub(optional, template)
    text = SLOT.sub(lambda match: facts[match[1]]() or "", template)
    return re.sub(r"  +", " ", text).strip()


def states(template: str, order: Order) -> bool:
    """Whether a template can state each fact of the order, and none that is missing."""
    template = CHOICE.sub(lambda match: match[1].replace("|", " "), template)
    required = set(SLOT.findall(OPTIONAL.sub(lambda match: match[2] or "", template)))
    able = set(SLOT.findall(template))
    given = {"who": order.customer, "total": order.total, "date": order.day}
    return all(name in able if value is not None else name not in required for name, value in given.items())


def sentence_case(text: str) -> str:
    """Returns the text with its first letter as a capital."""
    return text[:1].upper() + text[1:]


def purchase() -> tuple[str, Order]:
    """Returns a message that states an order, with fillers and distractors around it."""
    order = draw_order()
    style = pick(words.STYLES)
    if style.lower and order.customer and chance(0.5):
        order.customer = order.customer.lower()
    text = render(pick([template for template in style.templates if states(template, order)]), order)
    if chance(0.22):
        extra = render(pick(style.extras), order)
        text = f"{text}{style.joint}{extra}"
    if order.total is None and len(order.items) == 1 and order.items[0].quantity > 1 and chance(0.5):
        text += style.joint + render(style.unit_price, order)
    if style.lower:
        for right, wrong in words.TYPOS.items():
            if chance(0.5):
                text = re.sub(rf"\b{right}\b", wrong, text)
        return text, order
    return sentence_case(text), order


def partly_cancelled() -> tuple[str, Order]:
    """Returns a message in which some of the goods were called off or sent back; only the others count."""
    order = draw_order()
    dropped, _ = draw_items(1)
    if any(dropped[0].product == item.product for item in order.items):
        return partly_cancelled()
    template = pick([template for template in words.PARTLY_CANCELLED if states(template, order)])
    gone = f"the {dropped[0].product}"
    both = prose([*order.items, dropped[0]])
    return sentence_case(render(template.replace("{gone}", gone).replace("{both}", both), order)), order


def nothing(templates: Sequence[str]) -> tuple[str, Order]:
    """Returns a message after which no order stands; its names, amounts and dates are all beside the point."""
    beside_the_point = draw_order()
    beside_the_point.items = beside_the_point.items[:2]
    return sentence_case(render(pick(templates), beside_the_point)), Order()


def draw_row() -> tuple[str, Order]:
    """Returns a message and what it says."""
    roll = rng.random()
    if roll < 0.89:
        return purchase()
    if roll < 0.92:
        return partly_cancelled()
    return nothing(words.CANCELLED if roll < 0.955 else words.NO_ORDER)


def grams(text: str) -> set[str]:
    """Returns the character 5-grams of a text, case and spacing aside."""
    text = " ".join(text.lower().split())
    return {text[start : start + 5] for start in range(max(1, len(text) - 4))}


def rows() -> Iterator[dict[str, object]]:
    """Yields the examples, none of them nearly another."""
    rng.seed(SEED)
    seen: list[set[str]] = []
    while len(seen) < NUM_ROWS:
        text, order = draw_row()
        mine = grams(text)
        if any(len(mine & other) > MOST_ALIKE * len(mine | other) for other in seen):
            continue
        seen.append(mine)
        answer = order.answer()
        messages = [("system", SYSTEM), ("user", text), ("assistant", answer)]
        yield {"messages": [{"role": role, "content": content} for role, content in messages]}


if __name__ == "__main__":
    for row in rows():
        sys.stdout.buffer.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
