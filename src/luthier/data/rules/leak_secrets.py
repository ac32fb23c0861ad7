"""Keys, tokens and passwords in a text, told by the forms that their issuers publish and by how disordered they are.

Values that documentation uses are none. Nothing here ever shows more of a secret than the beginning that says its kind.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import log2

MIN_ENTROPY = 3.0
"""Bits a character. Random base-62 text of 20 characters has 3.5 to 4.3, hexadecimal of 32 has 3.2 to 3.9, English words
and repeated fillings less. Source: measured; gitleaks asks 2 to 4 for the same kinds."""
MIN_PASSWORD_ENTROPY = 2.5
"""Passwords that people choose are short: eight different characters have 3 bits each, "Tr0ub4dor" has 3.2."""


@dataclass(frozen=True, slots=True)
class Leak:
    """A secret or a piece of personal data in a text.

    Attributes:
        code: "secret" or "pii".
        kind: what it is, for a person; without the thing itself.
        start, end: its place in the text.
        kept: how many of its first characters say only what kind it is, and may be shown.
        instead: what can stand in its place without being found again.
    """

    code: str
    kind: str
    start: int
    end: int
    kept: int
    instead: str


@dataclass(frozen=True, slots=True)
class _Key:
    """A form of keys.

    Attributes:
        kind: whose key it is.
        marks: texts of which one stands in every text that holds such a key.
        pattern: with the published beginning, which may be shown, as group 1.
        min_entropy: of what follows the beginning.
    """

    kind: str
    marks: tuple[str, ...]
    pattern: re.Pattern[str]
    min_entropy: float = MIN_ENTROPY


_BEFORE, _AFTER = r"(?<![A-Za-z0-9])", r"(?![A-Za-z0-9])"
_KEYS = (
    _Key("an Anthropic key", ("sk-ant-",), re.compile(rf"{_BEFORE}(sk-ant-(?:[a-z]+\d\d-)?)[\w-]{{20,}}", re.ASCII)),
    _Key(
        "an OpenAI key",
        ("sk-",),
        re.compile(rf"{_BEFORE}(sk-(?:proj|svcacct|admin|None|or-v1)-)[\w-]{{20,}}", re.ASCII),
    ),
    _Key("an API key", ("sk-",), re.compile(rf"{_BEFORE}(sk-)(?=[A-Za-z]{{0,60}}\d)[A-Za-z0-9]{{20,}}{_AFTER}")),
    _Key(
        "an AWS access key",
        ("AKIA", "ASIA", "ABIA", "ACCA"),
        re.compile(rf"{_BEFORE}((?:AKIA|ASIA|ABIA|ACCA))[A-Z0-9]{{16}}{_AFTER}"),
        2.4,
    ),
    _Key(
        "a GitHub token",
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"),
        re.compile(rf"{_BEFORE}(gh[pousr]_)[A-Za-z0-9]{{36,255}}{_AFTER}"),
    ),
    _Key("a GitHub token", ("github_pat_",), re.compile(rf"{_BEFORE}(github_pat_)\w{{22,255}}", re.ASCII)),
    _Key(
        "a GitLab token",
        ("glpat-", "gldt-", "glrt-", "glcbt-", "glptt-", "glft-", "glsoat-"),
        re.compile(rf"{_BEFORE}(gl(?:pat|dt|rt|cbt|ptt|ft|soat)-)[\w.-]{{20,}}", re.ASCII),
    ),
    _Key("a Slack token", ("xox",), re.compile(rf"{_BEFORE}(xox[abeoprs]-)[A-Za-z0-9.-]{{16,}}"), 2.4),
    _Key("a Slack token", ("xapp-",), re.compile(rf"{_BEFORE}(xapp-)\d-[A-Z0-9]+-\d+-[A-Za-z0-9]{{20,}}")),
    _Key(
        "a Slack webhook",
        ("hooks.slack.com",),
        re.compile(r"(hooks\.slack\.com/services/)T\w{6,}/B\w{6,}/\w{20,}", re.ASCII),
    ),
    _Key("a Google API key", ("AIza",), re.compile(rf"{_BEFORE}(AIza)[\w-]{{35}}(?![\w-])", re.ASCII)),
    _Key("a Google client secret", ("GOCSPX-",), re.compile(rf"{_BEFORE}(GOCSPX-)[\w-]{{28}}", re.ASCII)),
    _Key("a Google access token", ("ya29.",), re.compile(rf"{_BEFORE}(ya29\.)[\w-]{{30,}}", re.ASCII)),
    _Key("a Stripe key", ("k_live_",), re.compile(rf"{_BEFORE}([sr]k_live_)[A-Za-z0-9]{{16,}}{_AFTER}")),
    _Key("a Stripe webhook secret", ("whsec_",), re.compile(rf"{_BEFORE}(whsec_)[A-Za-z0-9+/]{{32,}}")),
    _Key("a SendGrid key", ("SG.",), re.compile(rf"{_BEFORE}(SG\.)[\w-]{{16,32}}\.[\w-]{{32,64}}", re.ASCII)),
    _Key("a Twilio key", ("SK",), re.compile(rf"{_BEFORE}(SK)[0-9a-f]{{32}}{_AFTER}"), 2.8),
    _Key("an npm token", ("npm_",), re.compile(rf"{_BEFORE}(npm_)[A-Za-z0-9]{{36}}{_AFTER}")),
    _Key("a PyPI token", ("pypi-AgE",), re.compile(rf"{_BEFORE}(pypi-AgE)[\w-]{{50,}}", re.ASCII)),
    _Key("a Hugging Face token", ("hf_",), re.compile(rf"{_BEFORE}(hf_)[A-Za-z0-9]{{30,40}}{_AFTER}")),
    _Key("a DigitalOcean token", ("_v1_",), re.compile(rf"{_BEFORE}(do[opr]_v1_)[0-9a-f]{{64}}{_AFTER}")),
    _Key("a Databricks token", ("dapi",), re.compile(rf"{_BEFORE}(dapi)[0-9a-f]{{32}}(?:-\d)?{_AFTER}")),
    _Key("a Shopify token", ("shp",), re.compile(rf"{_BEFORE}(shp(?:at|ca|pa|ss)_)[0-9a-fA-F]{{32}}{_AFTER}")),
    _Key("a Telegram bot token", (":AA",), re.compile(rf"{_BEFORE}(\d{{8,10}}:AA)[\w-]{{33}}(?![\w-])", re.ASCII)),
    _Key(
        "a Discord bot token",
        ("M", "N", "O"),
        re.compile(rf"{_BEFORE}([MNO])[A-Za-z0-9]{{23,27}}\.[\w-]{{6}}\.[\w-]{{27,40}}(?![\w-])", re.ASCII),
        3.5,
    ),
    _Key(
        "an access token",
        ("_", "-", "."),
        re.compile(
            rf"{_BEFORE}(gsk_|xai-|r8_|pplx-|nvapi-|ntn_|lin_api_|figd_|dckr_pat_|hvs\.|glsa_|NRAK-|PMAK-|sntrys_|sntryu_"
            r"|pscale_(?:tkn|pw|oauth)_|sbp_|fo1_|fm2_|rubygems_|ATATT3|sq0(?:atp|csp)-|EAAA[A-Za-z]|dp\.pt\.|AGE-SECRET-KEY-1"
            r"|rdme_|tfp_|pul-|cloudsmith_|FLWSECK-|xkeysib-)(?=[\w-]{0,60}\d)[\w-]{28,}",
            re.ASCII,
        ),
    ),
    _Key(
        "a signed token (JWT)",
        ("eyJ",),
        re.compile(r"(?<![\w-])(eyJ)[\w-]{10,}\.[\w-]{10,}\.[\w-]{10,}", re.ASCII),
        3.5,
    ),
)
"""Source: the token formats that the issuers document; lengths and alphabets as in gitleaks' `config/gitleaks.toml`
(github.com/gitleaks/gitleaks), with some room for keys longer than today's."""

_PRIVATE_KEY = re.compile(
    r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----(?P<body>(?:(?!-----)[^\x00]){64,20000})"
)
"""Source: RFC 7468, and RFC 4880 section 6.2 for PGP's "BLOCK"."""
_KEY_BODY = re.compile(r"[A-Za-z0-9+/]{20,}={0,2}")

_NAMES = ("passw", "passphrase", "pwd", "secret", "token", "credential", "key")
_KEY_OWNERS = (
    *("api", "access", "private", "auth", "account"),
    *(f"{owner}{gap}" for owner in ("api", "access") for gap in "_- "),
    *(f"{owner}{gap}" for owner in ("private", "auth", "encryption", "account", "signing") for gap in "_-"),
)
_ASSIGNMENT = re.compile(
    r"(?P<name>pass(?:word|wd|phrase)|pwd|secret|token|[a-z]{3,10}[ _-]?key|credentials?)"
    r"(?:[_-]?(?:key|value|prod(?:uction)?|live|\d{1,2}))?"
    r"(?:\\?[\"'`])?(?:\]|\*\*)? {0,3}(?:: ?str(?:ing)? ?)?(?::=|=>|={1,3}|:| is:? )(?:\*\*)?\s{0,3}"
    r"(?:\\?(?P<quote>[\"'`])(?P<quoted>(?:(?!(?P=quote))\S){8,200})(?P=quote)|(?P<plain>[^\s\"'`<>]{8,200}))",
    re.IGNORECASE,
)
_HEADER = re.compile(
    r"\b(?P<name>bearer|authorization: (?:basic|token)) (?P<quote>)(?P<quoted>)(?P<plain>[\w.~+/-]{20,500}=*)",
    re.IGNORECASE,
)
_NAME_MARKS = ("passw", "pwd", "bearer", "token", "secret", "passphrase", "credential", "authorization")
"""Texts of which one stands, in lower case, in every text that names a password or a token, unless it names a key."""
_MARKS_WITHOUT_SIGN = _NAME_MARKS[:3]
"""Those that no colon and no equals sign need follow: "the password is …"."""
_MIN_KEY_CHARS = 20
_RUNS = bytes(0x78 if (chr(byte).isalnum() and byte < 0x80) or byte in b"_.+/=-" else 0x20 for byte in range(256))
_LONG_RUN = b"x" * _MIN_KEY_CHARS
_MIN_PASSWORD_CHARS = 8
_MIN_TOKEN_CHARS = 16
_CLASSES = (re.compile(r"[a-z]"), re.compile(r"[A-Z]"), re.compile(r"\d"), re.compile(r"[\W_]"))
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_NOT_THE_VALUE = re.compile(
    r"(?:[a-z]+:)?//|[.~]{0,2}/(?-i:[a-z._-]{2,}(?:/|$))|\$\w+$|\$[{(]|%\w*%?$|[\w-]+(?:\.[A-Za-z_][\w-]*)+$|[A-Za-z_][\w.]*[(\[]"
    r"|(?-i:[A-Z]?[a-z]+|[A-Z]+)\d{1,4}$",
    re.IGNORECASE,
)
"""An address, a path, a variable, a dotted name, a call, a word with a number: it says where the secret comes from."""

_URL_LOGIN = re.compile(
    r"(?<![\w+.-])[a-z][a-z0-9+.-]{1,20}://(?P<user>[^\s/:@\"'<>]{0,64}):(?P<value>[^\s/@\"'<>]{3,128})@"
    r"(?P<host>[\w.\[-]+)",
    re.IGNORECASE,
)
_NO_PASSWORDS = frozenset(("pass", "pwd", "admin", "root", "postgres", "guest", "test", "token", "port"))
"""Source: RFC 3986 section 3.2.1 (user information in a URL, whose form `user:password` is deprecated)."""

_DOCUMENTATION = re.compile(
    r"example|sample|dummy|placeholder|chang-?e-?_?me|your|redacted|insert|replace|xxxx|\*{3}|\.{3}|…|00000|11111|123456"
    r"|abcdef|qwerty|foobar|passw|p[a@]ss?w[o0]rd|p@ss|secret|hunter2|letmein|correct-?horse|<|\{|deadbeef|fake|not-?real"
    r"|mock|todo",
    re.IGNORECASE,
)
_JWT_OF_THE_MANUAL = "eyJzdWIiOiIxMjM0NTY3ODkw"
"""`{"sub":"1234567890`: the token that jwt.io and most manuals show."""

_NOBODYS_DOMAIN = re.compile(
    r"(?:^|\.)(?:example(?:\.(?:com|net|org|edu))?|test|invalid)$"
    r"|^(?:www\.|mail\.)?(?:(?:your|my|the|some|any|other)[a-z-]*|domain|company|email|test|sample|website|site|host|server"
    r"|acme)\.(?:com|net|org|io|co|edu)$",
    re.IGNORECASE,
)
"""Source: RFC 2606 and RFC 6761; and the names that people write for "any company"."""


def entropy(text: str) -> float:
    """Returns the Shannon entropy of a text's characters, in bits a character."""
    return -sum(count / len(text) * log2(count / len(text)) for count in Counter(text).values())


def is_documentation(value: str) -> bool:
    """Whether a value is one that manuals write: it says so, counts up, or fills with one character."""
    if _DOCUMENTATION.search(value) is not None or len(set(value)) < 5:
        return True
    letters = "".join(char for char in value.lower() if char.isalpha())
    digits = "".join(char for char in value if char.isdigit())
    return "abcdef" in letters or "123456" in digits or (letters.startswith("abcd") and digits.startswith("1234"))


def may_hold_secret(text: str) -> bool:
    """Whether a closer look is worth while; cheap, and true of every text that holds a secret."""
    # no key is shorter than 20 letters, digits and signs without a gap, and few other words are as long
    if _has_long_run(text) or ("@" in text and "://" in text):
        return True
    lowered = text.lower()
    if ":" in text or "=" in text:
        return any(mark in lowered for mark in _NAME_MARKS) or _names_key(lowered)
    return any(mark in lowered for mark in _MARKS_WITHOUT_SIGN)


def _names_key(lowered: str) -> bool:
    """Whether a key is named with what it opens: "api_key", and no other "keys"."""
    place = lowered.find("key")
    while place >= 0:
        if lowered.endswith(_KEY_OWNERS, 0, place):
            return True
        place = lowered.find("key", place + 1)
    return False


def _has_long_run(text: str) -> bool:
    """Whether 20 letters, digits and signs stand without a gap."""
    return _LONG_RUN in text.encode("ascii", "replace").translate(_RUNS)


def find_secrets(text: str, *, made_up: bool) -> Iterator[Leak]:
    """Yields the secrets in a text, in no order.

    Args:
        text: any text.
        made_up: whether passwords in it were made up for the conversation, and are nobody's.
    """
    if not may_hold_secret(text):
        return
    for key in _KEYS if _has_long_run(text) else ():
        if not any(mark in text for mark in key.marks):
            continue
        for match in key.pattern.finditer(text):
            value = text[match.end(1) : match.end()]
            if not is_documentation(value) and entropy(value) >= key.min_entropy and _JWT_OF_THE_MANUAL not in value:
                start, end = match.span()
                instead = match.group(1) + "x" * len(value)
                yield Leak("secret", key.kind, start, end, match.end(1) - start, instead)
    if "PRIVATE KEY" in text:
        for match in _PRIVATE_KEY.finditer(text):
            start, end = match.span("body")
            lines = "".join(_KEY_BODY.findall(match["body"]))
            if len(lines) >= 64 and entropy(lines) >= 4:
                yield Leak("secret", "a private key", start, end, 0, "\nxxxx\n")
    lowered = text.lower()
    if any(mark in lowered for mark in _NAME_MARKS) or _names_key(lowered):
        headers = _HEADER.finditer(text) if "bearer" in lowered or "authorization" in lowered else ()
        for match in (*_assignments(text, lowered), *headers):
            group = "quoted" if match["quoted"] else "plain"
            value = match[group].rstrip(".!?:,;)]}\\" if group == "plain" else "\\")
            name = match["name"].lower()
            password = name.startswith(("pass", "pwd"))
            if _is_chosen(value) and (not made_up if password else _is_token(name, value)):
                start = match.start(group)
                kind = f"a {'password' if password else 'key or token'} after “{match['name']}”"
                yield Leak("secret", kind, start, start + len(value), 0, "xxxxxxxx")
    if "://" in text and "@" in text:
        for match in _URL_LOGIN.finditer(text):
            if _is_login(match["user"], match["value"], match["host"]):
                yield Leak("secret", "a password in a URL", *match.span("value"), 0, "xxxxxxxx")


def _assignments(text: str, lowered: str) -> Iterator[re.Match[str]]:
    """Yields where something is assigned to a name like "password"; only the places of such names are looked at."""
    if len(lowered) != len(text):
        lowered = "".join(char.lower() if char.isascii() else char for char in text)
    for name in _NAMES:
        place = lowered.find(name)
        while place >= 0:
            start = place
            if name == "key":
                owner = next((owner for owner in _KEY_OWNERS if lowered.endswith(owner, 0, place)), None)
                start = place - len(owner) if owner is not None else -1
            match = _ASSIGNMENT.match(text, start) if start >= 0 else None
            if match is not None:
                yield match
            place = lowered.find(name, place + 1)


def _is_chosen(value: str) -> bool:
    """Whether a value looks chosen to be hard to guess, and not like a word, a date, a type or a variable."""
    if len(value) < _MIN_PASSWORD_CHARS or is_documentation(value) or _NOT_THE_VALUE.match(value) is not None:
        return False
    lower, upper, digit, sign = (found.search(value) is not None for found in _CLASSES)
    if not (lower or upper):
        return False
    if not digit:
        # words joined in camel case have few capitals, random letters about as many as small ones
        num_upper = sum(char.isupper() for char in value)
        return lower and upper and 0.25 <= num_upper / len(value) <= 0.75 and entropy(value) >= MIN_ENTROPY
    if lower + upper + digit + sign >= 3:
        return entropy(value) >= MIN_PASSWORD_ENTROPY
    return len(value) >= 10 and entropy(value) >= MIN_ENTROPY


def _is_token(name: str, value: str) -> bool:
    mixed = any(char.islower() for char in value) and any(char.isupper() for char in value)
    if len(value) < (_MIN_TOKEN_CHARS if mixed else _MIN_KEY_CHARS) or entropy(value) < MIN_ENTROPY:
        return False
    # a UUID names a session or a thing as often as it opens a door
    return "secret" in name or "key" in name or _UUID.fullmatch(value) is None


def _is_login(user: str, password: str, host: str) -> bool:
    if len(password) < 5 or password.isdigit() or password.lower() in {user.lower(), *_NO_PASSWORDS}:
        return False
    if password.isupper() and password.isalpha():
        return False  # USER:PASSWORD@HOST
    return not is_documentation(password) and not is_nobodys_domain(host)


def is_nobodys_domain(domain: str) -> bool:
    """Whether a domain is set aside for examples and tests, or a way to write "any company"."""
    return _NOBODYS_DOMAIN.search(domain) is not None
