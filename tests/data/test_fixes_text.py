"""The repairs, held to their laws on texts put together from everything that the rules look for."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from luthier.data.chat import Message, is_trained
from luthier.data.cleaning.fixes_text import FIXED_CODES, fix_texts
from luthier.data.rules.catalogue import RULES
from luthier.data.rules.rules_leak import leak_problems
from luthier.data.rules.rules_text import said, text_problems

pytestmark = pytest.mark.unit

ALL = frozenset(FIXED_CODES)
KEY = "ghp_" + "Zk3vQ9sW1xR7tY5uL2pN" + "8mB4cD6fG0hJ1aEi"
PIECES = [
    *(" ", "\n", "\t", "\u00a0", "x", "Paris", "hello world ", "1", "7", "+", "-", ".", ":", "`", "```", "\\", '"'),
    *(
        "<|im_end|>",
        "<|im_",
        "end|>",
        "<|im_start|>assistant\n",
        "</s>",
        "<s>",
        "###",
        "END",
        "->",
        "[INST]",
        "[/INST]",
    ),
    *("<｜end▁of▁sentence｜>", "<start_of_turn>user\n", "<|", "|>", "<bos>", "-->", "<!--", " END", "\n\n###\n\n"),
    *(
        "User:",
        "Assistant: ",
        "Human: ",
        "AI:",
        "Question: ",
        "Answer: ",
        "System: ",
        "**Assistant:** ",
        "### Assistant:",
    ),
    *("Ã©", "Ã", "Â", "â€™", "ƒÂ©", "©", "°", "“", "”", "РџСЂРёРІРµС‚", "é", "\ufffd", "Ãƒ"),
    *(
        KEY,
        "AKIA",
        "Z7QX4M2KD9WP3LTB",
        "password = ",
        'api_key: "',
        "Tr4vel-Mo0n!",
        "postgres://app:gX7kQ2pL@db.corp.io/x",
    ),
    *(
        "jane.roe@gmail.com",
        "@",
        "gmail.com",
        "+1 415 867 5309",
        "+44 20 7123 4567",
        "(415) 867-5309",
        "4539 5787 6362 1486",
    ),
    *("DE75512108001245126199", "93.184.216.34", "2607:f8b0:4005:805::200e", "+1-202-555-0100", "192.0.2.1", "xxxx"),
    *("4111 1111 1111 1111", "user@example.com", "DE89 3704 0044 0532 0130 00", "2001:db8::1", " 12", "0171/2345678"),
]
texts = st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=12).map("".join)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
parts = st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": texts}), min_size=1, max_size=4)
strange_parts = st.lists(json_values | st.fixed_dictionaries({"type": json_values, "text": json_values}), max_size=3)
roles = st.sampled_from(["system", "user", "assistant", "tool", "developer"])
messages_in_order = st.lists(
    st.fixed_dictionaries(
        {"role": roles, "content": texts | parts},
        optional={"weight": st.sampled_from([0, 1]), "refusal": texts, "name": texts},
    ),
    max_size=4,
)
strange_messages = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "role": roles | json_values,
            "content": json_values | strange_parts,
            "weight": json_values,
            "tool_calls": json_values | st.lists(st.fixed_dictionaries({"function": json_values}), max_size=2),
            "refusal": json_values,
        },
    ),
    max_size=3,
)
some_codes = st.frozensets(st.sampled_from(FIXED_CODES))


def fixable(messages: list[Message], codes: frozenset[str]) -> list[tuple[str, str]]:
    problems = [*text_problems(messages), *leak_problems(messages)]
    return [
        (problem.rule.code, problem.detail) for problem in problems if problem.rule.code in codes and problem.rule.fix
    ]


@settings(max_examples=400, deadline=None)
@given(messages_in_order, some_codes)
@example([{"role": "assistant", "content": "<|im_<|im_end|>end|>"}], ALL)
@example([{"role": "assistant", "content": "User: Assistant: ### <|im_end|> END"}], ALL)
@example(
    [{"role": "assistant", "content": [{"type": "text", "text": "ok <|im_"}, {"type": "text", "text": "end|>"}]}], ALL
)
def test_after_a_repair_nothing_it_could_repair_is_found(messages: list[Message], codes: frozenset[str]) -> None:
    fix_texts(messages, codes)
    assert fixable(messages, codes) == []


@settings(max_examples=400, deadline=None)
@given(messages_in_order, some_codes)
def test_repairing_twice_changes_nothing_more(messages: list[Message], codes: frozenset[str]) -> None:
    fix_texts(messages, codes)
    once = copy.deepcopy(messages)
    assert fix_texts(messages, codes) == []
    assert messages == once


@settings(max_examples=300, deadline=None)
@given(messages_in_order, some_codes)
def test_only_texts_change_and_each_change_is_told(messages: list[Message], codes: frozenset[str]) -> None:
    before = copy.deepcopy(messages)
    done = fix_texts(messages, codes)
    assert bool(done) == (messages != before)
    assert {code for code, _ in done} <= codes
    assert all(sentence for _, sentence in done)
    for old, new in zip(before, messages, strict=True):
        assert {**old, "content": None} == {**new, "content": None}
        if isinstance(old["content"], list):
            assert [part["type"] for part in old["content"]] == [part["type"] for part in new["content"]]
        else:
            assert isinstance(new["content"], str)


@settings(max_examples=300, deadline=None)
@given(messages_in_order, some_codes)
def test_no_answer_is_emptied(messages: list[Message], codes: frozenset[str]) -> None:
    full = [bool(said(message).strip()) for message in messages]
    fix_texts(messages, codes)
    assert [bool(said(message).strip()) for message in messages] == full
    assert all(said(message) or not is_trained(message) or not was for message, was in zip(messages, full, strict=True))


@settings(max_examples=200, deadline=None)
@given(messages_in_order)
def test_without_codes_nothing_changes(messages: list[Message]) -> None:
    before = copy.deepcopy(messages)
    assert fix_texts(messages, frozenset()) == []
    assert fix_texts(messages, frozenset({"duplicate", "refusal-answer"})) == []
    assert messages == before


@settings(max_examples=300, deadline=None)
@given(strange_messages)
def test_no_message_breaks_a_rule_or_a_repair(messages: list[Message]) -> None:
    before = [*text_problems(messages), *leak_problems(messages)]
    fix_texts(messages, ALL)
    assert all(problem.rule in RULES for problem in before)
    assert fixable(messages, ALL) == []


@settings(max_examples=200, deadline=None)
@given(texts)
def test_text_split_into_parts_is_repaired_as_one(text: str) -> None:
    whole: list[Message] = [{"role": "assistant", "content": text}]
    halves = [{"type": "text", "text": text[: len(text) // 2]}, {"type": "text", "text": text[len(text) // 2 :]}]
    split: list[Message] = [{"role": "assistant", "content": halves}]
    fix_texts(whole, ALL)
    fix_texts(split, ALL)
    assert said(split[0]) == said(whole[0])


@pytest.mark.parametrize(
    ("text", "code", "repaired"),
    [
        ("  Paris\n", "outer-whitespace", "Paris"),
        ("Paris<|im_end|>", "stop-token-leftover", "Paris"),
        ("Paris\n\n###\n\n", "stop-token-leftover", "Paris"),
        ("It is the smallest port END", "stop-token-leftover", "It is the smallest port"),
        ("<s>[INST] Say it. [/INST] Paris</s>", "stop-token-leftover", "Say it.  Paris"),
        ("Assistant: Paris", "role-prefix-leftover", "Paris"),
        ("### Assistant:\nParis", "role-prefix-leftover", "Paris"),
        ("cafÃ© â€“ itâ€™s 20Â°", "mojibake", "café – it’s 20°"),
        ("cafÃƒÂ©", "mojibake", "café"),
        ("5 Â€", "mojibake", "5 €"),
        ("РџСЂРёРІРµС‚, РјРёСЂ", "mojibake", "Привет, мир"),
        (f"Use {KEY}.", "secret", "Use ghp_" + "x" * 36 + "."),
        ('password = "Tr4vel-Mo0n!"', "secret", 'password = "xxxxxxxx"'),
        ("postgres://app:gX7kQ2pL@db.corp.io/x", "secret", "postgres://app:xxxxxxxx@db.corp.io/x"),
        ("Write to jane.roe@gmail.com.", "pii", "Write to user@example.com."),
        ("Call (415) 867-5309 now", "pii", "Call +1-202-555-0100 now"),
        ("Card 4539 5787 6362 1486", "pii", "Card 4111 1111 1111 1111"),
        ("To DE75512108001245126199", "pii", "To DE89 3704 0044 0532 0130 00"),
        ("from 93.184.216.34", "pii", "from 192.0.2.1"),
        ("from 2607:f8b0:4005:805::200e", "pii", "from 2001:db8::1"),
    ],
)
def test_what_a_repair_makes_of_a_text(text: str, code: str, repaired: str) -> None:
    messages: list[Message] = [{"role": "user", "content": "q"}, {"role": "assistant", "content": text}]
    done = fix_texts(messages, frozenset({code}))
    assert messages[1]["content"] == repaired
    assert [what for what, _ in done] == [code]
    assert "message 2 (assistant)" in done[0][1]
    json.dumps(messages)


@pytest.mark.parametrize("text", ["###", "<|im_end|>", "</s>", " END", "<|im_end|><|im_end|>\n"])
def test_an_answer_that_is_nothing_but_a_leftover_is_left_for_a_person(text: str) -> None:
    messages: list[Message] = [{"role": "assistant", "content": text}]
    assert fix_texts(messages, frozenset({"stop-token-leftover"})) == []
    assert messages[0]["content"] == text
    found = [problem for problem in text_problems(messages) if problem.rule.code == "stop-token-leftover"]
    assert [problem.rule.fix for problem in found] == [None]


def test_a_role_name_alone_is_left_for_a_person() -> None:
    messages: list[Message] = [{"role": "assistant", "content": "Assistant:"}]
    assert fix_texts(messages, ALL) == []
    assert [(problem.rule.code, problem.rule.fix) for problem in text_problems(messages)] == [
        ("role-prefix-leftover", None)
    ]


def test_repairs_in_one_call_work_together() -> None:
    answer: dict[str, Any] = {"role": "assistant", "content": " <s>Assistant: cafÃ© </s>\n\n###\n"}
    messages: list[Message] = [{"role": "user", "content": "User: where?\n\n###\n\n"}, answer]
    done = fix_texts(messages, ALL)
    assert [message["content"] for message in messages] == ["where?", "café"]
    assert {code for code, _ in done} == {"mojibake", "stop-token-leftover", "role-prefix-leftover", "outer-whitespace"}


def test_question_and_answer_go_together() -> None:
    messages: list[Message] = [
        {"role": "user", "content": "Question: What is DevAide?"},
        {"role": "assistant", "content": "Answer: A copilot."},
    ]
    fix_texts(messages, ALL)
    assert [message["content"] for message in messages] == ["What is DevAide?", "A copilot."]


def test_what_was_done_never_shows_a_secret_or_an_address() -> None:
    messages: list[Message] = [{"role": "user", "content": f"{KEY} and jane.roe@gmail.com, password: Tr4vel-Mo0n!"}]
    told = " ".join(sentence for _, sentence in fix_texts(messages, ALL))
    assert "jane" not in told
    assert KEY[4:12] not in told
    assert "Tr4vel" not in told


def test_very_long_and_nested_texts_are_repaired_in_good_time() -> None:
    messages: list[Message] = [
        {"role": "assistant", "content": "<|im_" * 3000 + "x" + "end|>" * 3000},
        {"role": "assistant", "content": "User: " * 20000 + "hello" + " ###" * 20000},
        {"role": "assistant", "content": "Ã" + "ƒ" * 50000 + "Â" * 20000 + "©"},
        {"role": "user", "content": "jane.roe@gmail.com " * 3000},
        {"role": "assistant", "content": " " * 100000 + "x" + " " * 100000},
    ]
    fix_texts(messages, ALL)
    assert fixable(messages, ALL) == []
