from __future__ import annotations

import json
import pickle
import random
from pathlib import Path
from typing import Any

import pytest
from any_rows import CHAT, OTHER
from fillings import Fillings, Said, edited
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.data.shapes.formats import recognise
from luthier.data.twins.contamination import HeldOut, Hit, Sightings

pytestmark = pytest.mark.unit

Messages = list[dict[str, Any]]

MIN_RECALL = 0.99
MAX_FALSE_ALARMS = 0.005
"""Source of both: the bar for contamination in the data doctor's task."""
SYSTEM = "You are the assistant of a large mail-order house; you answer politely, and in one sentence if you can."
LEAKS = ("equal", "edited", "prompt", "within")


def conversation(*texts: str, system: str | None = SYSTEM) -> Messages:
    before = [{"role": "system", "content": system}] if system is not None else []
    return [*before, *({"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts))]


def held_out(*conversations: Messages) -> HeldOut:
    return HeldOut(("test.jsonl", line, messages) for line, messages in enumerate(conversations, 1))


def leaked(said: Said, kind: str, fillings: Fillings, source: random.Random) -> Said:
    """A training row that gives a held-out one away."""
    user, answer = said
    if kind == "equal":
        return user.upper(), answer
    if kind == "edited":
        share = source.uniform(0.005, 0.05)
        return edited(user, share, source), edited(answer, share, source) if len(answer) > 20 else answer
    if kind == "prompt":
        return user, fillings.free()[1]
    around = fillings.free(30, 60)
    return f"{around[0]}\n\n{user} {answer}\n\n{around[1]}", fillings.free()[1]


def probed(held: list[Said], rows: list[Said], portion: int = 1000) -> dict[int, Hit]:
    searched = held_out(*(conversation(*said) for said in held))
    seen = Sightings()
    for start in range(0, len(rows), portion):
        # as it is done in other processes
        sent = pickle.loads(pickle.dumps(searched))
        seen.merge(
            pickle.loads(pickle.dumps(sent.look([conversation(*said) for said in rows[start : start + portion]])))
        )
    return searched.settle(seen)


@pytest.mark.parametrize(
    ("seed", "num_templates", "num_rows", "num_held_out"),
    [(1, 12, 10_000, 500), (2, 40, 4000, 500), (3, 3, 4000, 200), (4, 12, 4000, 40)],
)
def test_leaks_are_found_among_fillings_of_templates_and_free_text(
    seed: int, num_templates: int, num_rows: int, num_held_out: int
) -> None:
    fillings, source = Fillings(seed, num_templates), random.Random(seed)
    rows = fillings.rows(num_rows * 6 // 10 + num_held_out // 2)
    rows += [fillings.free() for _ in range(num_rows + num_held_out - len(rows))]
    source.shuffle(rows)
    held, clean = rows[:num_held_out], rows[num_held_out:]
    leaks = [leaked(said, LEAKS[place % 4], fillings, source) for place, said in enumerate(held)]
    mixed = source.sample([*enumerate(leaks), *((None, said) for said in clean)], num_held_out + len(clean))
    hits = probed(held, [said for _, said in mixed])
    missed = [LEAKS[place % 4] for row, (place, _) in enumerate(mixed) if place is not None and row not in hits]
    right = sum(
        hits[row].other_line == place + 1 for row, (place, _) in enumerate(mixed) if place is not None and row in hits
    )
    false = [hits[row] for row, (place, _) in enumerate(mixed) if place is None and row in hits]
    assert len(missed) <= (1 - MIN_RECALL) * len(held), missed
    assert right >= MIN_RECALL * len(held) - len(missed)
    assert len(false) <= MAX_FALSE_ALARMS * len(clean), false


QUESTION = "Why do the windings of a guitar string show flat spots over the frets after a few weeks of playing?"
ANSWER = (
    "The frets are harder than the windings, so each bend files a little of them away; the string then buzzes, goes out "
    "of tune sooner and sounds dull, which is why players who practise every day change it once a month."
)
OTHERS = [
    conversation(
        "Who built the first viola da gamba that we know of, and in which town did he work?",
        "Nobody knows for certain.",
    ),
    conversation(
        "Tell me in two sentences how varnish changes the sound of a cello.",
        "Less than its makers say. It protects the wood.",
    ),
]


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        (conversation(QUESTION, ANSWER), "duplicate"),
        (conversation(QUESTION.upper(), f"  {ANSWER} ", system=None), "duplicate"),
        (conversation(QUESTION, ANSWER.replace("windings", "windigns").replace("harder", "hrder")), "near-duplicate"),
        (conversation(QUESTION, "I cannot say."), "same-prompt"),
        (conversation("Hello!", "Hello.", QUESTION, "I cannot say.", "Thanks.", "Bye."), "same-prompt"),
        (conversation(f"Here is a page of a book. {QUESTION} {ANSWER} What follows from that?", "Nothing."), "passage"),
        (
            conversation(
                QUESTION.replace("Why", "Tell me why"), ANSWER.replace("month", "year, at least, and clean it")
            ),
            "passage",
        ),
        (conversation("What files windings?", f"I would say: {' '.join(ANSWER.split()[:20])}, and so on."), "partial"),
        (conversation("Why do frets wear?", "Because of the strings."), None),
        (conversation("What is a guitar string?", ANSWER[:50]), None),
        ([{"role": "system", "content": f"{QUESTION} {ANSWER}"}, *conversation("Ready?", "Yes.", system=None)], None),
        (conversation("", ""), None),
        ([], None),
    ],
)
def test_what_gives_a_held_out_row_away(row: Messages, kind: str | None) -> None:
    searched = held_out(*OTHERS, conversation(QUESTION, ANSWER))
    expected = None if kind is None else Hit(kind, "test.jsonl", 3)  # type: ignore[arg-type]
    assert searched.probe(row) == expected
    assert searched.probe_many([OTHERS[0], row]) == [Hit("duplicate", "test.jsonl", 1), expected]


@pytest.mark.parametrize(
    ("known", "row", "kind"),
    [
        (("How do I close my account?", "terminate"), ("how can I close my account", "terminate"), "near-duplicate"),
        (("How do I close my account?", "terminate"), ("How do I close my account?", "other"), "same-prompt"),
        (("Hi", "Hello"), ("Hi", "Good day"), "same-prompt"),
        (("Hi", "Hello", "Where is my parcel?", "Lost."), ("Hi", "Good day", "Who are you?", "A bot."), None),
        (("a table for 4", "4"), ("a table for 5", "5"), None),
    ],
)
def test_short_rows(known: tuple[str, ...], row: tuple[str, ...], kind: str | None) -> None:
    hit = held_out(conversation(*known)).probe(conversation(*row))
    assert (hit and hit.kind) == kind


def test_what_stands_in_very_many_rows_is_boilerplate() -> None:
    closing = "Thank you very much, that answered every question I had about my guitar today"
    source = random.Random(1)
    fillings = Fillings(1)
    talks = [(*fillings.free(), closing, "You are welcome.") for _ in range(40)]
    searched = held_out(*(conversation(*talk) for talk in talks[:3]))
    rows = [conversation(*talk) for talk in talks[3:]]
    assert searched.settle(searched.look(rows)) == {}
    few = searched.settle(searched.look(rows[:5]))
    assert {hit.kind for hit in few.values()} == {"same-prompt"}
    notice = " ".join(source.choices(fillings.free(200, 200)[0].split(), k=40))
    talks = [(f"{fillings.free()[0]} {notice}", fillings.free()[1]) for _ in range(200)]
    searched = held_out(*(conversation(*talk) for talk in talks[:5]))
    assert searched.settle(searched.look([conversation(*talk) for talk in talks[5:]])) == {}


def test_the_same_hits_however_the_rows_are_cut() -> None:
    fillings, source = Fillings(5, 4), random.Random(5)
    rows = fillings.rows(700)
    held = rows[:100]
    rows = rows[100:] + [leaked(said, LEAKS[place % 4], fillings, source) for place, said in enumerate(held)]
    whole = probed(held, rows, len(rows))
    assert len(whole) >= 95
    for portion in (1, 37, 250):
        assert probed(held, rows, portion) == whole


def test_real_rows_held_out_and_read_as_columns(public_data: Path) -> None:
    rows = [json.loads(line) for line in (public_data / "nba-sql-exec" / "train.jsonl").read_text().splitlines()[:50]]
    spoken = [[message["content"] for message in row["messages"] if message["role"] != "system"] for row in rows]
    columns = [{"question": question, "answer": answer} for question, answer in spoken]
    searched = HeldOut(("bench.jsonl", line, recognise(row).messages or []) for line, row in enumerate(columns, 1))
    hits = searched.probe_many([row["messages"] for row in rows])
    assert [hit and (hit.kind, hit.other_line) for hit in hits] == [("duplicate", line) for line in range(1, 51)]


def test_nothing_to_look_for_and_nothing_to_look_at() -> None:
    nothing = held_out()
    assert len(nothing) == 0
    assert nothing.probe_many([conversation(QUESTION, ANSWER), []]) == [None, None]
    assert held_out(conversation("", ""), []).probe(conversation("", "")) is None
    searched = held_out(conversation(QUESTION, ANSWER))
    assert len(searched) == 1
    assert searched.probe_many([]) == []


@given(rows=st.lists(CHAT | OTHER, max_size=5), others=st.lists(CHAT | OTHER, max_size=5))
@settings(max_examples=80, deadline=None)
def test_no_row_crashes_it(rows: list[dict[str, Any]], others: list[dict[str, Any]]) -> None:
    train, held = ([recognise(row).messages or [] for row in some] for some in (rows, others))
    hits = held_out(*held).probe_many(train)
    assert len(hits) == len(train)
    assert all(hit is None or 1 <= hit.other_line <= len(held) for hit in hits)
