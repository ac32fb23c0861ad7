from __future__ import annotations

import pytest

from luthier.data.rules_text import text_problems

pytestmark = pytest.mark.unit


def said(answer: str, user: str = "q", **keys: object) -> list[str]:
    messages = [{"role": "user", "content": user}, {"role": "assistant", "content": answer, **keys}]
    return [problem.rule.code for problem in text_problems(messages)]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (" Paris", "outer-whitespace"),
        ("Paris\n", "outer-whitespace"),
        ("Paris<|im_end|>", "stop-token-leftover"),
        ("[INST] Paris", "stop-token-leftover"),
        ("Paris\n\n###", "stop-token-leftover"),
        ("Paris</s>", "stop-token-leftover"),
        ("Dear {{name}}, hello", "unfilled-placeholder"),
        ("Regards, [Your Name]", "unfilled-placeholder"),
        ("caf\ufffd", "mojibake"),
        ("cafÃ© au lait", "mojibake"),
        ("itâ€™s", "mojibake"),
        ("5Â€ or 20Â°", "mojibake"),
    ],
)
def test_faults_in_the_text_are_named(answer: str, code: str) -> None:
    assert said(answer) == [code]


@pytest.mark.parametrize(
    "answer",
    [
        "Paris",
        "def f():\n    return 1",
        "# Heading\n\n### Part\ntext",
        "Write `{{name}}` in the template.",
        "```jinja\n{{ user }} and [your name]\n```",
        "x[0] and [link](http://x.y) and [1]",
        "SELECT CASE WHEN a THEN b END",
        "São João, NÃO, Ângela, crème brûlée, “quoted” – dash…",
        "日本語 and emoji 🙂",
    ],
)
def test_good_text_gives_no_finding(answer: str) -> None:
    assert said(answer) == []


def test_only_what_is_learned_counts_for_whitespace_and_placeholders() -> None:
    assert said(" {{name}}", weight=0) == []
    assert said("ok", user=" {{name}} ") == []
    assert said("ok", user="q\n\n###\n\n") == ["stop-token-leftover"]


def test_the_place_is_shown() -> None:
    answer = "x" * 200 + " {{name}} " + "y" * 200
    (problem,) = text_problems([{"role": "assistant", "content": answer}])
    assert problem.excerpt is not None
    assert problem.column is not None
    assert problem.excerpt[problem.column :].startswith("{{name}}")
    assert len(problem.excerpt) < 120
