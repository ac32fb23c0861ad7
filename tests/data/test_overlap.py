from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from exact import jaccard
from fillings import Fillings, edited
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import OSA

from luthier.data.chat import Example
from luthier.data.twins.likeness import normalised, words
from luthier.data.twins.overlap import find_overlap, group_examples

pytestmark = pytest.mark.unit

Row = dict[str, Any]
Rows = Callable[[int], list[Row]]
MakeRow = Callable[..., Row]
MakeExamples = Callable[..., list[Example]]

LONG = (
    "A guitar needs new strings when the tone turns dull, when tuning drifts within one song, or when the windings "
    "show flat spots over the frets; players who sweat much change them every few weeks, others twice a year."
)


def together(examples: list[Example]) -> set[frozenset[int]]:
    """The groups as sets of lines."""
    groups: dict[int, set[int]] = {}
    grouping = group_examples(examples)
    for example, group in zip(examples, grouping.groups.tolist(), strict=True):
        groups.setdefault(group, set()).add(example.line)
    assert grouping.num_groups == len(groups)
    return {frozenset(lines) for lines in groups.values()}


def alone(count: int) -> set[frozenset[int]]:
    return {frozenset({line}) for line in range(1, count + 1)}


def dialogue(*texts: str) -> Row:
    return {"messages": [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]}


def test_the_shared_system_prompt_joins_nothing(rows: Rows, row: MakeRow, examples: MakeExamples) -> None:
    shared = [row(r["messages"][0]["content"], r["messages"][1]["content"], LONG) for r in rows(40)]
    assert together(examples(shared)) == alone(40)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("Hello  World", "x"), ("hello world", "y")),
        (("How do I clean a fretboard?", "Oil."), ("how do i clean the fretboard", "With oil.")),
        (("Tell me", LONG), ("Please say", LONG.replace("dull", "flat"))),
        ((LONG, "Right."), (LONG.replace("twice a year", "once a year"), "Right.")),
        (
            ("a b c", "d", "What does a truss rod do in a neck?", "e"),
            ("f g h", "i", "What does a truss rod do in a neck?", "j"),
        ),
    ],
)
def test_rows_that_belong_together(one: tuple[str, ...], other: tuple[str, ...], examples: MakeExamples) -> None:
    assert together(examples([dialogue(*one), dialogue(*other)])) == {frozenset({1, 2})}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("book a table for 4 in newark", '{"people": 4}'), ("book a table for 5 in newark", '{"people": 5}')),
        (("weather in paris", "get_weather"), ("weather in parma", "get_weather")),
        (("Where is my card?", "card_arrival"), ("Where is my refund?", "refund")),
        (("first question here", "a", "Thanks!", "b"), ("second thing there", "c", "Thanks!", "d")),
        (("left", LONG), ("right", LONG[::-1])),
    ],
)
def test_rows_that_do_not(one: tuple[str, ...], other: tuple[str, ...], examples: MakeExamples) -> None:
    assert together(examples([dialogue(*one), dialogue(*other)])) == alone(2)


def test_a_follow_up_in_very_many_rows_is_boilerplate_and_said(rows: Rows, examples: MakeExamples) -> None:
    closing = "Thank you very much, that answered every question today"
    many = [dialogue(*(m["content"] for m in r["messages"]), closing, "Bye.") for r in rows(40)]
    grouping = group_examples(examples(many))
    assert grouping.num_groups == 40
    assert len(grouping.notes) == 1
    assert "40 of 40" in grouping.notes[0]
    few = [*many[:8], *rows(40)[8:]]
    assert group_examples(examples(few)).num_groups == 33


def test_one_opening_for_many_rows_keeps_them_together_and_says_so(
    row: MakeRow, rows: Rows, examples: MakeExamples
) -> None:
    many = [row("Hello!", r["messages"][1]["content"]) for r in rows(30)]
    grouping = group_examples(examples([*many, *rows(30)]))
    assert grouping.num_groups == 31
    assert "30 of 60 rows belong together" in grouping.notes[0]


def test_templated_rows_by_the_hundred_stay_apart(row: MakeRow, examples: MakeExamples) -> None:
    source = random.Random(1)
    names = ["".join(source.choices("abcdefghijklmnopqrstuvwxyz", k=7)) for _ in range(600)]
    many = [
        row(f"Order {100 + n}: a table for {n} at {names[n]} in {names[n + 300]} please", f'{{"place": "{names[n]}"}}')
        for n in range(300)
    ]
    assert together(examples(many)) == alone(300)


@given(seed=st.integers(0, 2**32), edits=st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_near_duplicates_by_the_definition_are_found(seed: int, edits: int) -> None:
    source = random.Random(seed)
    base = ["".join(source.choices("abcdefghij", k=source.randint(3, 9))) for _ in range(60)]
    changed = list(base)
    for place in source.sample(range(60), edits):
        changed[place] = "".join(source.choices("klmnopqrst", k=5))
    texts = [normalised(f"q{n}\n" + " ".join(text)) for n, text in enumerate((base, changed))]
    alike = jaccard(*texts)
    rows = [dialogue(f"q{n}", " ".join(text)) for n, text in enumerate((base, changed))]
    assert len(words(texts[0])) > 20
    pair = group_examples([Example(row, "f", line) for line, row in enumerate(rows, 1)])
    if alike >= 0.8:
        assert pair.num_groups == 1
    elif OSA.distance(*texts) > 0.07 * len(texts[0]):
        assert pair.num_groups == 2


@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_groups_do_not_depend_on_the_order(data: st.DataObject) -> None:
    texts = [
        "how do i clean a fretboard",
        "how do i clean the fretboards",
        "how do i clean it",
        LONG,
        LONG.replace("dull", "flat"),
    ]
    texts += ["book a table for 4", "book a table for 5", "hello", "Hello"]
    rows = [dialogue(u, a) for u in texts for a in (LONG, LONG.replace("sweat", "play"), "yes", "no")]
    examples = [Example(row, "f", line) for line, row in enumerate(rows, 1)]
    shuffled = data.draw(st.permutations(examples))
    assert together(shuffled) == together(examples)


INSTRUCTION = " ".join(LONG.split() * 2)


def test_an_instruction_that_all_rows_share_does_not_make_them_one_group(rows: Rows, examples: MakeExamples) -> None:
    many = [dialogue(f"{INSTRUCTION}\n{r['messages'][0]['content']}", r["messages"][1]["content"]) for r in rows(60)]
    grouping = group_examples(examples(many))
    assert grouping.num_groups == 60
    assert len(grouping.notes) == 1
    assert "60 rows are like more than 10 others in most of the text" in grouping.notes[0]
    copy = dialogue(many[7]["messages"][0]["content"].replace("tuning", "tunnig"), many[7]["messages"][1]["content"])
    assert together(examples([*many, copy])) == alone(61) - {frozenset({8}), frozenset({61})} | {frozenset({8, 61})}
    few = group_examples(examples(many[:8]))
    assert (few.num_groups, few.notes) == (1, ())


def test_edited_copies_join_their_originals_in_a_set_of_templates() -> None:
    fillings, source = Fillings(1), random.Random(1)
    said = fillings.rows(1500)
    copies = [(edited(user, 0.03, source), answer) for user, answer in said[:100]]
    rows = [Example(dialogue(*texts), "f", line) for line, texts in enumerate([*said, *copies], 1)]
    groups = group_examples(rows).groups.tolist()
    assert sum(groups[number] == groups[1500 + number] for number in range(100)) >= 98
    assert len(set(groups[:1500])) >= 0.97 * 1500
    overlap = find_overlap(rows[:1500], rows[1500:])
    assert len({found.other_line for found in overlap if found.kind == "near-duplicate"}) >= 98
    assert len({found.train_line for found in overlap}) <= 110


def test_rows_that_were_not_compared_are_counted(examples: MakeExamples) -> None:
    fillers = ("the", "a", "my", "our", "can", "will", "would", "could", "please")
    many = [dialogue(f"{one} {two} where is it", f"{one} {two}") for one in fillers for two in fillers]
    grouping = group_examples(examples(many))
    assert "81 rows have so many others of one kind" in grouping.notes[-1]


def test_overlap_names_rows_that_repeat_one_of_their_side(row: MakeRow) -> None:
    train = [Example(row("Tell me of strings", LONG), "train.jsonl", line) for line in (1, 2)]
    other = row("What of strings?", LONG.replace("dull", "flat"))
    test = [Example(other, "test.jsonl", line) for line in (1, 2)]
    found = find_overlap(train, test)
    assert {overlap.train_line for overlap in found} == {1, 2}
    assert {overlap.other_line for overlap in found} == {1, 2}
    assert {overlap.kind for overlap in found} == {"near-duplicate"}


def test_any_text_can_be_grouped(examples: MakeExamples) -> None:
    odd = [dialogue("\ud800 is half a character", "\x00"), dialogue("", ""), {"messages": []}]
    odd.append({"messages": [{"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f"}}]}]})
    assert group_examples(examples(odd)).num_groups == len(odd)
    assert find_overlap(examples(odd[:2]), examples(odd[2:])) == []
    assert group_examples([]).groups.tolist() == []


def test_overlap_names_both_places_and_the_kind(rows: Rows, row: MakeRow) -> None:
    train = [Example(r, "train.jsonl", line) for line, r in enumerate(rows(20), 1)]
    train.append(Example(row("Tell me of strings", LONG), "train.jsonl", 21))
    others = [
        rows(40)[30],
        rows(20)[4],
        row(rows(20)[5]["messages"][0]["content"].upper(), "Something else."),
        row("What of strings?", LONG.replace("dull", "flat")),
    ]
    test = [Example(r, "test.jsonl", line) for line, r in enumerate(others, 1)]
    found = [(o.train_file, o.train_line, o.other_file, o.other_line, o.kind) for o in find_overlap(train, test)]
    assert found == [
        ("train.jsonl", 5, "test.jsonl", 2, "duplicate"),
        ("train.jsonl", 6, "test.jsonl", 3, "near-duplicate"),
        ("train.jsonl", 21, "test.jsonl", 4, "near-duplicate"),
    ]


def test_overlap_covers_every_row_of_both_sides(row: MakeRow) -> None:
    train = [Example(row("Same question to all?", f"answer {n}"), "train.jsonl", n) for n in range(1, 6)]
    test = [Example(row("same question to all?", f"other {n}"), "test.jsonl", n) for n in range(1, 4)]
    found = find_overlap(train, test)
    assert {overlap.train_line for overlap in found} == {1, 2, 3, 4, 5}
    assert {overlap.other_line for overlap in found} == {1, 2, 3}


def test_nothing_in_common_is_no_overlap(rows: Rows, examples: MakeExamples) -> None:
    assert find_overlap(examples(rows(40)[:20]), examples(rows(40)[20:])) == []
    assert find_overlap([], examples(rows(3))) == []
    assert find_overlap(examples(rows(3)), []) == []


def test_rows_without_a_user_are_compared_by_what_is_said(examples: MakeExamples) -> None:
    row = {"messages": [{"role": "system", "content": "Say a word."}, {"role": "assistant", "content": "Word."}]}
    other = {"messages": [{"role": "system", "content": "Say a word."}, {"role": "assistant", "content": "Fret."}]}
    assert together(examples([row, row, other])) == {frozenset({1, 2}), frozenset({3})}
