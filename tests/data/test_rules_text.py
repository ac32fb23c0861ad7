from __future__ import annotations

import json
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.data.rules.mojibake import decoded_twice
from luthier.data.rules.rules_text import text_problems

pytestmark = pytest.mark.unit


def said(answer: str, user: str = "q", **keys: object) -> list[str]:
    messages = [{"role": "user", "content": user}, {"role": "assistant", "content": answer, **keys}]
    return [problem.rule.code for problem in text_problems(messages)]


LETTERS = string.ascii_letters + "".join(map(chr, range(0xC0, 0x100))) + "日本語🙂"
PROSE = (
    "The town lies on a river that freezes over in most winters. Boats were the only way to reach it until the railway came. "
    "Today most visitors arrive by train, and a few still come by boat. The old harbour is a museum now. "
)
LOOP = "and then they walked on and on. "


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (" Paris", "outer-whitespace"),
        ("Paris\n", "outer-whitespace"),
        ("Paris<|im_end|>", "stop-token-leftover"),
        ("[INST] Paris", "stop-token-leftover"),
        ("Paris\n\n###", "stop-token-leftover"),
        ("Paris</s>", "stop-token-leftover"),
        ("Paris<｜end▁of▁sentence｜>", "stop-token-leftover"),
        ("<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>Paris", "stop-token-leftover"),
        ("<start_of_turn>model\nParis<end_of_turn>", "stop-token-leftover"),
        ("<|start_header_id|>assistant<|end_header_id|>\n\nParis<|eot_id|>", "stop-token-leftover"),
        ("Paris<|endoftext|>", "stop-token-leftover"),
        ("Paris<|end|>", "stop-token-leftover"),
        ("<s>Paris", "stop-token-leftover"),
        ("It is in Paris. END", "stop-token-leftover"),
        ("Use `<|im_start|>` here", "stop-token-leftover"),
        ("Assistant: Paris", "role-prefix-leftover"),
        ("ASSISTANT: Paris", "role-prefix-leftover"),
        ("AI: Paris", "role-prefix-leftover"),
        ("Bot: Paris", "role-prefix-leftover"),
        ("**Assistant:** Paris", "role-prefix-leftover"),
        ("### Assistant:\nParis", "role-prefix-leftover"),
        ("助手：巴黎", "role-prefix-leftover"),
        ("Dear {{name}}, hello", "unfilled-placeholder"),
        ("Regards, [Your Name]", "unfilled-placeholder"),
        ("caf\ufffd", "mojibake"),
        ("cafÃ© au lait", "mojibake"),
        ("itâ€™s", "mojibake"),
        ("5Â€ or 20Â°", "mojibake"),
        ("It is 20Â°C", "mojibake"),
        ("cafÃƒÂ©", "mojibake"),
        ("РџСЂРёРІРµС‚", "mojibake"),
        ("As an AI language model, I cannot have opinions.", "refusal-answer"),
        ("I'm sorry, but as an AI language model I have no access to it.", "refusal-answer"),
        ("I’m sorry, but I can’t assist with that.", "refusal-answer"),
        ("I cannot fulfill this request.", "refusal-answer"),
        ("I'm just an AI model, so I do not eat.", "refusal-answer"),
        ("Als KI-Sprachmodell habe ich keine Meinung.", "refusal-answer"),
        ("En tant que modèle de langage, je ne peux pas voter.", "refusal-answer"),
        ("Como modelo de lenguaje, no tengo opiniones.", "refusal-answer"),
        ("Lo siento, pero no puedo ayudar con eso.", "refusal-answer"),
        ("作为一个人工智能语言模型，我没有个人观点。", "refusal-answer"),
        ("申し訳ありませんが、そのリクエストにはお応えできません。", "refusal-answer"),
        ("Как языковая модель, я не имею мнения.", "refusal-answer"),
        (PROSE + "The new harbour was built further down the river and is used by", "truncated-answer"),
        (PROSE + "There is a second one,", "truncated-answer"),
        (PROSE + "On the other side of the river stands a mill that the", "truncated-answer"),
        ("Here it is:\n```python\ndef f(x):\n    return x", "truncated-answer"),
        ('{"name": "Anna", "orders": [{"id": 1, "items": ["bread", "mi', "truncated-answer"),
        ('{"name": "Anna", "orders": [{"id": 1}', "truncated-answer"),
        ('[{"id": 1}, {"id": 2}, {"id":', "truncated-answer"),
        ('{"valid": tr', "truncated-answer"),
        (LOOP * 12, "repetition"),
        (PROSE + LOOP * 8 + "And", "repetition"),
        ("Eat a banana!" * 50, "repetition"),
        ("very " * 40 + "good.", "repetition"),
        ("我们去吃饭吧，" * 20, "repetition"),
        ("I like it. You like it. " * 3 + "So it is. " + "I like it. We all like it. You like it. " * 15, "repetition"),
    ],
)
def test_faults_in_the_text_are_named(answer: str, code: str) -> None:
    found = said(answer)
    if code == "repetition":  # a loop may well stop in the middle
        found = [one for one in found if one not in ("truncated-answer", "outer-whitespace")]
    assert found == [code]


@pytest.mark.parametrize(
    "answer",
    [
        "Paris",
        "def f():\n    return 1",
        "# Heading\n\n### Part\ntext",
        "Write `{{name}}` in the template.",
        "```jinja\n{{ user }} and [your name]\n```",
        "x[0] and [link](http://x.y) and [1]",
        "values[user_index] and [user](https://x.y) and f'{{{name}}}'",
        "SELECT CASE WHEN a THEN b END",
        "BEGIN\n  UPDATE t SET a = 1;\nEND",
        "And they lived happily ever after. THE END",
        "10 PRINT 1\n20 END",
        "It is <s>old</s>",
        "Text <!-- a comment -->",
        "# " + "#" * 40,
        "São João, NÃO, Ângela, crème brûlée, “quoted” – dash…",
        "Disse “AMANHÔ e «IRMû, depois “NÔ.",
        "Температура 20° и №5, Рівне і Ґанок",
        "日本語 and emoji 🙂",
        # role names that are part of what is said
        "User: Hi there!\nAssistant: Hello!",
        "Assistant: Hello!\nUser: Hi there!",
        "The assistant: a short portrait.",
        "Answer: Paris",
        "A: fog",
        "AI is here.",
        "Human: All Too Human is a book by Nietzsche.",
        # refusals that are meant
        "I'm sorry, we don't offer free delivery. We are a delivery company.",
        "I'm sorry to hear that. Please send it back.",
        "I'm sorry, but I can't assist with that. My current capabilities allow me to create calendar events for you, and to "
        "look up the ones that you have.",
        "Sorry, the task involves personal information. Due to privacy concerns I will not do it.",
        "A language model is a program that predicts words.",
        # ends that are meant
        PROSE + "Best regards,\nAnna",
        PROSE + "\n\n- bread\n- milk\n- a pound of the good butter from the farm",
        PROSE.strip() + "\n\n| a | b |\n|---|---|\n| 1 | 2 |",
        PROSE + "See https://example.com/a/very/long/path/that/goes/on",
        "SELECT name, price FROM products WHERE price > 100 AND category IN ('garden', 'kitchen') AND name != 'old' " * 3
        + "ORDER BY price",
        "so i told him that we could meet at the station around five and he said that it was fine with him and that he would "
        "bring the tickets and something to eat because the train takes four hours and there is no restaurant on it",
        "Roses are red\nViolets are blue\n" * 3 + "Sugar is sweet\nand so are you and all that I ever knew about the sea",
        "```python\nx = 1\n```\n\n```markdown\n# Title\n```python\ny = 2\n```\n```",
        '{"a": "b"} is JSON',
        '{"a": None, "b": [1, 2',
        "[link](http://x.y) and more",
        '[1] A. Author, "A title"',
        "{" * 5000,
        # what repeats and is meant
        "ha ha ha ha ha ha",
        ("| - | - |\n" * 30).strip(),
        "=" * 200,
        "x" * 200,
        "0, 0, 0, 0, " * 40 + "0",
        '[' + ", ".join('{"name": "x", "value": null}' for _ in range(30)) + "]",
        "\n".join(f"INSERT INTO t (id, name) VALUES ({number}, 'name {number}');" for number in range(40)),
    ],
)  # fmt: skip
def test_good_text_gives_no_finding(answer: str) -> None:
    assert said(answer) == []


@pytest.mark.parametrize(
    ("user", "answer", "codes"),
    [
        ("User: Where?", "Paris", ["role-prefix-leftover"]),
        ("Human: Where?", "Paris", ["role-prefix-leftover"]),
        ("Question: Where?", "Answer: Paris", ["role-prefix-leftover", "role-prefix-leftover"]),
        ("Q: Where?", "A: Paris", ["role-prefix-leftover", "role-prefix-leftover"]),
        ("Question: Where?", "Paris", []),
        ("Q: Where?\nA. Paris\nB. Rome", "A: Paris", []),
        ("Assistant: Where?", "User: Paris", []),
        ("User: Where?\nAssistant:", "Paris", []),
        ("Summarise this chat.\nUser: Where?\nBot: Paris", "They talk about Paris.", []),
    ],
)
def test_whose_name_stands_before_a_message_counts(user: str, answer: str, codes: list[str]) -> None:
    assert said(answer, user) == codes


def test_only_what_is_learned_counts_for_most_rules() -> None:
    assert said(" {{name}}", weight=0) == []
    assert said("As an AI language model, no. " + LOOP * 20 + "```", weight=0) == []
    assert said("ok", user=" {{name}} ") == []
    assert said("ok", user="q\n\n###\n\n") == ["stop-token-leftover"]


def test_the_place_is_shown() -> None:
    answer = "x" * 200 + " {{name}} " + "y" * 200
    (problem,) = text_problems([{"role": "assistant", "content": answer}])
    excerpt, column = problem.shown()
    assert excerpt is not None
    assert excerpt[column:].startswith("{{name}}")
    assert len(excerpt) < 120


def test_a_cut_anywhere_in_json_is_seen() -> None:
    whole = json.dumps({"name": "Anna", "tags": ["a", "b\\n"], "size": 12.5, "ok": True, "none": None, "é": "\u00e9"})
    start = whole.index(":") + 1
    for end in range(start, len(whole)):
        assert said(whole[:end].rstrip()) == ["truncated-answer"], whole[:end]
    assert said(whole) == []


@settings(max_examples=100, deadline=None)
@given(st.integers(7, 30), st.integers(3, 12), st.integers(0, 40))
def test_a_loop_is_seen_wherever_it_stands(times: int, num_words: int, before: int) -> None:
    words = [f"w{number}o" for number in range(before)]
    phrase = [f"p{number}q" for number in range(num_words)]
    answer = " ".join(words + phrase * times) + "."
    (problem,) = text_problems([{"role": "assistant", "content": answer}])
    assert problem.rule.code == "repetition"
    assert f"{times} times" in problem.detail or f"{times - 1} times" in problem.detail


@settings(max_examples=200, deadline=None)
@given(st.text(LETTERS, max_size=20))
def test_all_that_was_decoded_twice_is_seen_and_understood(text: str) -> None:
    read_wrongly = [bytes((byte,)).decode("cp1252", "ignore") or chr(byte) for byte in text.encode()]
    twice = "".join(read_wrongly)
    meant = list(twice)
    for (start, end), decoded in reversed(decoded_twice(twice)):
        meant[start:end] = [decoded]
    assert "".join(meant) == text
    assert decoded_twice(text) == []


@pytest.mark.parametrize("text", ["naïve café", "ÀÂÃ", "“Ã”", "Ã Â â", "NÃO é “SÃO”", "20° «Â»", "â‚ not"])
def test_good_letters_are_not_taken_for_mojibake(text: str) -> None:
    assert decoded_twice(text) == []


def test_every_problem_points_into_its_excerpt() -> None:
    messages = [
        {"role": "user", "content": "User: café Ã©<|im_end|>"},
        {"role": "assistant", "content": " As an AI language model, [Your Name] " + LOOP * 20 + "###"},
    ]
    problems = list(text_problems(messages))
    assert {problem.rule.code for problem in problems} >= {
        "mojibake",
        "refusal-answer",
        "repetition",
        "outer-whitespace",
    }
    for problem in problems:
        excerpt, column = problem.shown()
        assert excerpt is not None
        assert column is not None
        assert 0 <= column <= len(excerpt)
        assert len(problem.detail) < 120


@pytest.mark.parametrize(
    "text",
    [
        *("{{a" * 20000, "[your a " * 20000, "```a\n" * 20000, "`" * 50001, "<|a" * 30000, "Ã" * 30000, "Ãƒ" * 30000),
        *(
            " " * 100000 + "x",
            "a b " * 30000,
            "User:\n" * 20000,
            "[" * 50000,
            '{"a":' * 20000,
            "It is. So " * 20000 + "the",
        ),
        *("哈哈" * 30000, "###" * 30000, "Рџ" * 30000, "Assistant:\n" * 20000, ("ab" * 50 + " ") * 2000, "<s>" * 30000),
    ],
)
def test_long_texts_take_no_long_time(text: str) -> None:
    assert isinstance(said(text), list)
