"""Secrets and personal data: what is planted is found, what manuals write is not, and nothing found is shown."""

from __future__ import annotations

import base64
import itertools
import json
import random
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.data.check import check_files
from luthier.data.reading.files import RawRow, read_rows
from luthier.data.rules.leak_personal import find_personal, may_hold_personal
from luthier.data.rules.leak_secrets import entropy, find_secrets, is_documentation, may_hold_secret
from luthier.data.rules.leaks import find_leaks
from luthier.data.rules.rules_leak import leak_problems
from luthier.data.shapes.formats import recognise

pytestmark = pytest.mark.unit

Random = random.Random
ALNUM = string.ascii_letters + string.digits
TOKEN = ALNUM + "_-"


def some(rng: Random, letters: str, count: int) -> str:
    return "".join(rng.choice(letters) for _ in range(count))


def encoded(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def web_token(rng: Random) -> str:
    claims = {
        "sub": some(rng, string.digits, 12),
        "name": some(rng, ALNUM, 9),
        "exp": rng.randrange(1_700_000_000, 1_900_000_000),
    }
    return f"{encoded({'alg': 'HS256', 'typ': 'JWT'})}.{encoded(claims)}.{some(rng, TOKEN, 43)}"


def private_key(rng: Random) -> str:
    kind = rng.choice(["RSA ", "EC ", "OPENSSH ", "", "ENCRYPTED "])
    lines = "\n".join(some(rng, ALNUM + "+/", 64) for _ in range(rng.randrange(3, 20)))
    return f"-----BEGIN {kind}PRIVATE KEY-----\n{lines}\n-----END {kind}PRIVATE KEY-----"


def password(rng: Random) -> str:
    while True:
        made = some(rng, ALNUM + "!#%+-?@_", rng.randrange(10, 24))
        if any(char.isdigit() for char in made) and any(char.isalpha() for char in made):
            return made


SECRETS: dict[str, Callable[[Random], str]] = {
    "OpenAI, project": lambda rng: f"sk-proj-{some(rng, TOKEN, 74)}T3BlbkFJ{some(rng, TOKEN, 74)}",
    "OpenAI, older": lambda rng: f"sk-{some(rng, ALNUM, 20)}T3BlbkFJ{some(rng, ALNUM, 20)}",
    "Anthropic": lambda rng: f"sk-ant-api03-{some(rng, TOKEN, 93)}AA",
    "AWS": lambda rng: rng.choice(["AKIA", "ASIA"]) + some(rng, string.ascii_uppercase + "234567", 16),
    "AWS secret": lambda rng: f"aws_secret_access_key = {some(rng, ALNUM + '+/', 40)}",
    "GitHub": lambda rng: f"gh{rng.choice('pousr')}_{some(rng, ALNUM, 36)}",
    "GitHub, fine-grained": lambda rng: f"github_pat_{some(rng, ALNUM, 22)}_{some(rng, ALNUM, 59)}",
    "GitLab": lambda rng: f"glpat-{some(rng, TOKEN, 20)}",
    "Slack": lambda rng: (
        f"xox{rng.choice('bp')}-{some(rng, string.digits, 12)}-{some(rng, string.digits, 12)}-{some(rng, ALNUM, 24)}"
    ),
    "Google": lambda rng: f"AIza{some(rng, TOKEN, 35)}",
    "Stripe": lambda rng: f"{rng.choice(['sk', 'rk'])}_live_{some(rng, ALNUM, 24)}",
    "SendGrid": lambda rng: f"SG.{some(rng, TOKEN, 22)}.{some(rng, TOKEN, 43)}",
    "Twilio": lambda rng: f"SK{some(rng, '0123456789abcdef', 32)}",
    "npm": lambda rng: f"npm_{some(rng, ALNUM, 36)}",
    "PyPI": lambda rng: f"pypi-AgEIcHlwaS5vcmc{some(rng, TOKEN, 140)}",
    "Hugging Face": lambda rng: f"hf_{some(rng, string.ascii_letters, 34)}",
    "JWT": web_token,
    "private key": private_key,
    "password": lambda rng: (
        f"{rng.choice(['password', 'DB_PASSWORD', 'passwd', 'pwd'])}{rng.choice(['=', ': ', ' = '])}{password(rng)}"
    ),
    "password, quoted": lambda rng: f'"password": "{password(rng)}"',
    "API key": lambda rng: f"api_key = '{some(rng, ALNUM, 32)}'",
    "token": lambda rng: f"ACCESS_TOKEN={some(rng, '0123456789abcdef', 40)}",
    "URL": lambda rng: (
        f"postgresql://app:{some(rng, ALNUM, 14)}@db.{some(rng, string.ascii_lowercase, 6)}.io:5432/main"
    ),
}
AROUND = [
    "{}",
    "Use this: {}",
    "Here is the key {} for the server.",
    "```\n{}\n```",
    "(see {})",
    'export X="{}"',
    "键是 {} 。",
]
NUM_EACH = 40


@pytest.mark.parametrize("kind", SECRETS)
def test_planted_secrets_are_found(kind: str) -> None:
    rng = Random(kind)
    texts = [rng.choice(AROUND).replace("{}", SECRETS[kind](rng)) for _ in range(NUM_EACH)]
    missed = [text for text in texts if not any(leak.code == "secret" for leak in find_leaks(text))]
    assert len(missed) <= 0.02 * NUM_EACH, missed


def test_all_planted_secrets_together_are_found_to_98_percent() -> None:
    rng = Random(3)
    texts = [rng.choice(AROUND).replace("{}", make(rng)) for make in SECRETS.values() for _ in range(NUM_EACH)]
    found = sum(any(leak.code == "secret" for leak in find_leaks(text)) for text in texts)
    assert len(texts) > 900
    assert found >= 0.98 * len(texts)


@pytest.mark.parametrize("kind", SECRETS)
def test_what_is_found_is_not_shown(kind: str) -> None:
    rng = Random(kind)
    for _ in range(10):
        secret = SECRETS[kind](rng)
        for problem in leak_problems([{"role": "user", "content": f"before {secret} after"}]):
            shown = f"{problem.message} {problem.shown()[0]}"
            pieces = [secret[place : place + 9] for place in range(16, len(secret) - 9)]
            if kind not in ("private key", "URL", "AWS secret"):
                assert not any(piece in shown for piece in pieces if not is_documentation(piece)), shown
            assert problem.rule.code == "secret"
            assert problem.rule.severity == "error"


def test_a_detail_says_whose_key_it_is_and_how_it_begins() -> None:
    key = "ghp_" + some(Random(1), ALNUM, 36)
    (problem,) = leak_problems([{"role": "assistant", "content": f"Take {key}."}])
    assert problem.detail == "a GitHub token (ghp_…)"
    assert problem.shown() == ("Take ghp_" + "•" * 36 + ".", 5)


@pytest.mark.parametrize(
    "text",
    [
        "AKIAIOSFODNN7EXAMPLE and wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "OPENAI_API_KEY=sk-...",
        "sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx and ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "sk-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        'api_key = "<your key>"',
        'api_key="YOUR_API_KEY_GOES_HERE_1234"',
        'token = os.environ["GITHUB_TOKEN_2"]',
        "password = getpass.getpass()",
        'client_secret: ${{ secrets.CLIENT_SECRET_1 }}',
        "password: $DB_PASSWORD1",
        "password: str = Field(min_length=12)",
        "The password is at least 12 characters long.",
        'password="yourpassword123"',
        "password = hunter2hunter2",
        "password: changeme123!",
        "token: a1b2c3d4e5f6g7h8i9j0",
        "max_tokens: 4096 and tokenizer: gpt2-medium-355M-v2",
        "The secret: work hard for 10000hours2succeed",
        "postgres://user:password@localhost:5432/db and https://user:pass@example.com/",
        "redis://:{password}@host and mongodb://<user>:<password>@cluster0.mongodb.net",
        "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
        "-----BEGIN CERTIFICATE-----\n" + "MIIDdzCCAl+gAwIBAgIEAgAAuTANBgkqhkiG9w0BAQUF" * 4 + "\n-----END CERTIFICATE-----",
        # the token that jwt.io shows
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyfQ."
        "SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c",
        "commit 9fceb02d0ae598e95dc970b74767f19372d61af8",
        "import numpy as np; sk-learn; task-management-with-kanban-boards-2024",
        "SKU SK12345 and SG.1.2",
        "session token: 123e4567-e89b-12d3-a456-426614174000",
        "Bearer <token> or Authorization: Bearer $ACCESS_TOKEN",
        "SELECT password FROM users WHERE id = 1",
        "A secret: never give up. The key: patience. The token: a small gift.",
    ],
)  # fmt: skip
def test_what_manuals_write_is_no_secret(text: str) -> None:
    assert [leak.kind for leak in find_leaks(text) if leak.code == "secret"] == []


def test_a_password_that_a_tool_makes_up_is_nobodys() -> None:
    def row(function: str) -> list[dict[str, Any]]:
        call = {"id": "1", "type": "function", "function": {"name": function, "arguments": "{}"}}
        return [
            {"role": "user", "content": "I need a new password."},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "1", "content": '{"password": "a9B7$#fG3&Z1"}'},
            {"role": "assistant", "content": "Here is your new password: a9B7$#fG3&Z1."},
        ]

    assert list(leak_problems(row("generate_password"))) == []
    assert len(list(leak_problems(row("read_vault")))) == 2


def test_calls_and_refusals_are_looked_at_and_are_for_a_person_to_mend() -> None:
    key = "ghp_" + some(Random(1), ALNUM, 36)
    call = {"id": "1", "type": "function", "function": {"name": "push", "arguments": json.dumps({"with": key})}}
    messages = [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "assistant", "content": None, "refusal": "I may not write to jane.roe@gmail.com."},
    ]
    found = list(leak_problems(messages))
    assert sorted((problem.rule.code, problem.rule.fix) for problem in found) == [("pii", None), ("secret", None)]


# Numbers whose checks pass, and numbers set aside for examples, from the documents named beside them.
PERSONAL = {
    "an e-mail address": [
        "jane.roe@gmail.com", "help@we-wingit.com", "j.o'neil+news@mail.bbc.co.uk", "x_1@sub.domain.museum", "A.B@web.de",
    ],
    "a phone number": [
        "+1 415 867 5309", "(415) 867-5309", "415-867-5309", "1-415-867-5309", "+14158675309", "+44 20 7123 9568",
        "+49 (0)30 1237654", "+49 171 9876543", "030 9876543", "0171/2345698", "01 42 68 53 00", "+33 1 42 68 53 00",
        "+91 98765 43218", "+86 138 0013 8000", "08-224 538 32", "020 7946 1958",
    ],
    # Luhn digits that pass, no test numbers of any payment service
    "a card number": [
        "4539578763621486", "4539 5787 6362 1486", "4539-5787-6362-1486", "5425233430109903", "2720992593319364",
        "374245455400126", "3742 454554 00126", "6011 5564 4857 8943", "3528 3706 2489 6142", "36700102000000",
    ],
    # Source: examples of the SWIFT registry with other account numbers; check digits by python-stdnum
    "an account number (IBAN)": [
        "DE75512108001245126199", "DE75 5121 0800 1245 1261 99", "FR7630001007941234567890185",
        "NL02ABNA0123456789", "ES7921000813610123456789",
    ],
    "a public IP address": ["93.184.216.34", "172.217.16.142", "2607:f8b0:4005:805::200e", "2a00:1450:4001:81b::200e"],
}  # fmt: skip
NOT_PERSONAL = [
    # RFC 2606 and RFC 6761
    "user@example.com", "a@sub.example.org", "b@host.test", "c@nowhere.invalid", "root@localhost", "boss@company.com",
    "git@github.com:luthier/luthier.git", "noreply@github.com", "icon@2x.png", "name@yourdomain.com", "@jane", "a@b",
    "https://user@host.io/x", "actions/checkout@v4", "Torque (Nm@rpm)", "x = a @ b.T",
    # fiction, dates, sums, orders, codes
    "+1-202-555-0100", "(415) 555-0132", "555-1234", "123-456-7890", "+44 7700 900123", "07700 900123", "2024-05-01 10:00",
    "01.02.2023", "order 415-867-5309", "ISBN 978-3-16-148410-0", "1 000 000 000", "3.14159265358979",
    "10-10-2020 to 11-11-2020",
    "192.168.100.200", "table: 1-10083598-1", "1415926535 8979323846", "+12", "2 + 4158675309", "020 2345 2345 2345",
    "call 911 or 112", "DFARS 252.227-7013", "0.123 456789", "Version 12.345.6789",
    # test cards and article numbers; Luhn digits that fail
    "4111 1111 1111 1111", "4242424242424242", "378282246310005", "4539578763621487", "4006381333931", "1234567812345670",
    "0000000000000000", "1700000000000", "9780201379624",
    # the registry's examples; check digits that fail
    "DE89 3704 0044 0532 0130 00", "GB82 WEST 1234 5698 7654 32", "DE75512108001245126198", "AB12 3456 7890 1234",
    # RFC 1918, RFC 5737, RFC 3849 and versions
    "10.0.0.1", "127.0.0.1", "192.0.2.1", "198.51.100.7", "203.0.113.9", "224.0.0.251", "2001:db8::1", "fe80::1", "::1",
    "8.8.8.8", "version 23.184.216.34", "v93.184.216.34", "1.2.3.4", "999.1.1.1", "std::vector", "12:30:45", "1.2.3.4.5",
    "section 3.2.1.4",
]  # fmt: skip


@pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind, values in PERSONAL.items() for value in values])
def test_personal_data_is_found(kind: str, value: str) -> None:
    for text in (
        value,
        f"Please use {value}.",
        f"- {value}\n- x",
        f"({value})",
        f"Here: {value}, please",
        f"到 {value} 吧",
    ):
        assert [leak.kind for leak in find_leaks(text)] == [kind], text
    (problem,) = leak_problems([{"role": "user", "content": f"It is {value} now"}])
    assert (problem.rule.code, problem.rule.severity, problem.detail) == ("pii", "warning", kind)
    assert value[2:] not in f"{problem.message}{problem.shown()[0]}"


@pytest.mark.parametrize("value", NOT_PERSONAL)
def test_what_is_nobodys_is_not_personal(value: str) -> None:
    for text in (value, f"It is {value} there."):
        assert [leak.kind for leak in find_leaks(text) if leak.code == "pii"] == []


def luhn(digits: str) -> str:
    total = sum(sum(divmod(int(digit) * (2 - place % 2), 10)) for place, digit in enumerate(reversed(digits)))
    return digits + str(-total % 10)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["4", "51", "55", "2221", "6011", "65"]), st.text("0123456789", min_size=15, max_size=15))
def test_card_numbers_are_told_by_their_check_digit(issuer: str, rest: str) -> None:
    number = luhn((issuer + rest)[:15])
    wrong = number[:-1] + str((int(number[-1]) + 1) % 10)
    plain = len(set(number)) < 4 or "0000000000" in number
    assert [leak.kind for leak in find_leaks(f"pay {number} now")] in (
        [["a card number"]] if not plain else [[], ["a card number"]]
    )
    assert find_leaks(f"pay {wrong} now") == []


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from([*PERSONAL["a phone number"], *NOT_PERSONAL, *"+-.:/@# (x7", "ghp_", "token="])
        | st.text(max_size=5),
        max_size=9,
    )
)
def test_the_quick_look_misses_nothing(pieces: list[str]) -> None:
    text = "".join(pieces)
    places = [(leak.start, leak.end) for leak in find_leaks(text)]
    assert places == sorted(places)
    assert all(one[1] <= two[0] for one, two in itertools.pairwise(places))
    if not (may_hold_secret(text) or may_hold_personal(text)):
        assert places == []
    assert bool(list(leak_problems([{"role": "user", "content": text}]))) == bool(places)


def test_long_texts_take_no_long_time() -> None:
    texts = [
        *(
            "a" * 300_000,
            "+1" * 100_000,
            "1." * 100_000,
            "@a." * 60_000,
            "(0" * 100_000,
            "2001:" * 60_000,
            "eyJ" * 100_000,
        ),
        *("password" * 40_000, "key=" * 70_000, "-----BEGIN PRIVATE KEY-----" * 8_000, "sk-" * 100_000, "a@" * 100_000),
        *("://a:" * 50_000 + "@", "12 " * 100_000, "AB12 " * 60_000, "jane@gmail.com " * 5_000),
    ]
    assert all(isinstance(find_leaks(text), list) for text in texts)


def test_the_public_sets_hold_no_secret_and_no_personal_data(public_data: Path) -> None:
    sets = ("snips-json", "nba-sql-exec", "wikisql-sql", "banking77-intent", "tools-glaive", "general-instructions")
    num_rows = 0
    for file in (file for name in sets for file in sorted((public_data / name).glob("*.jsonl"))):
        for item in read_rows(file):
            if isinstance(item, RawRow) and item.value is not None:
                num_rows += 1
                assert [problem.detail for problem in leak_problems(recognise(item.value).messages or [])] == []
    assert num_rows > 6000


def test_the_address_in_a_messy_file_is_found_and_the_number_set_aside_for_fiction_is_not(messy: Path) -> None:
    found = [
        problem.detail
        for item in read_rows(messy / "18_empty_completions.jsonl")
        if isinstance(item, RawRow) and item.value is not None
        for problem in leak_problems(recognise(item.value).messages or [])
    ]
    assert found
    assert set(found) == {"an e-mail address"}


def test_entropy_is_shannons() -> None:
    assert entropy("aaaa") == 0
    assert entropy("abcd") == 2
    assert entropy("aabb") == 1


def test_the_parts_can_be_used_alone() -> None:
    assert [leak.kind for leak in find_secrets("pwd=Tr4vel-Mo0n!", made_up=False)] == ["a password after “pwd”"]
    assert list(find_secrets("pwd=Tr4vel-Mo0n!", made_up=True)) == []
    assert [leak.instead for leak in find_personal("jane.roe@gmail.com")] == ["user@example.com"]


def test_no_other_rule_shows_a_secret_either(write: Callable[..., Path]) -> None:
    key = "ghp_" + some(Random(2), ALNUM, 36)
    asked = {"role": "user", "content": f"My token is {key} "}
    rows = [
        {
            "messages": [
                asked,
                {"role": "assistant", "content": f" I'm sorry, but as an AI language model I cannot use {key} "},
            ]
        },
        {"messages": [asked, {"role": "assistant", "content": f"{key} {{{{name}}}} <|im_end|>"}], "extra": key},
    ]
    result = check_files([write(rows * 12)])
    codes = {finding.code for finding in result.findings}
    assert {
        "outer-whitespace",
        "unfilled-placeholder",
        "stop-token-leftover",
        "unknown-key",
        "conflicting-answers",
    } <= codes
    said = [f"{finding.message} {finding.excerpt}" for finding in result.findings]
    assert not [text for text in said if key[8:20] in text]
