"""Personal data in a text: e-mail addresses, phone, card and account numbers, public IP addresses.

Each must pass the checksum or the numbering plan of its kind; values set aside for examples and fiction are none.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator

from luthier.data.rules.leak_secrets import Leak, is_nobodys_domain

_ANY_NUMBER = re.compile(
    r"[0-9(+](?:(?:[\s().:/-]{0,3}\d){6}|(?<=\d)\.\d{1,3}\.\d{1,3}\.\d|(?<=[23])[0-9a-fA-F]{3}:[0-9a-fA-F:])"
)
"""Matches in every text that holds a phone, card or account number or an IP address, and in few others."""

_NO_DIGITS = bytes(byte for byte in range(256) if byte not in b"0123456789")

_EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+@/-])(?P<local>[A-Za-z0-9](?:[A-Za-z0-9._%+'-]{0,62}[A-Za-z0-9_+-])?)"
    r"@(?P<domain>(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,6}(?P<top>[A-Za-z]{2,24}))"
    r"(?![A-Za-z0-9@]|-\w|\.[A-Za-z0-9])"
)
"""Source: RFC 5321 section 4.1.2, without the forms that only machines write."""
_MAX_LOCAL_CHARS, _MAX_DOMAIN_CHARS = 64, 256
_NO_ENDING = frozenset(
    re.findall(
        r"\w+",
        "png jpg jpeg gif svg webp ico js ts jsx tsx mjs css scss html htm py rb go rs java kt json yaml yml md txt pdf "
        "service localhost local internal lan",
    )
)
"""Ends of file names and of names inside one network, which are no addresses on the internet."""
_NO_PERSON = re.compile(
    r"(?:git|noreply|no-reply|donotreply|do-not-reply|alerts?|notifications?|mailer-daemon|postmaster|bounce"
    r"|your[._-]?\w*|user(?:name)?)(?:[+-].*)?$",
    re.IGNORECASE,
)
"""Addresses that no person reads or writes from."""

_AFTER_NUMBER = r"(?!(?!x\d|ext)[\w/-]|[.,]\d)"
_PHONE = re.compile(
    r"[+(0-9](?<![\w+.,=/#-][+(0-9])(?:"
    # North America: area code and exchange begin with 2 to 9
    r"(?P<american>(?<=\+)1[ .-]{0,2}\(?[2-9]\d\d\)?[ .-]{0,2}[2-9]\d\d[ .-]?\d{4}"
    r"|(?<=1)[ .-](?:\([2-9]\d\d\) ?[2-9]\d\d[ .-]|[2-9]\d\d(?P<gap1>[ .-])[2-9]\d\d(?P=gap1))\d{4}"
    r"|(?<=\()[2-9]\d\d\) ?[2-9]\d\d[ .-]\d{4}|(?<=[2-9])\d\d(?P<gap>[ .-])[2-9]\d\d(?P=gap)\d{4})"
    + _AFTER_NUMBER
    # international: a plus and 8 to 15 digits
    + r"|(?P<international>(?<=\+)[1-9](?:[ .()/-]{0,3}\d){7,14})(?![\w-]|[.,/]?\d)"
    # elsewhere: a leading 0, then groups: 030 1234567, (0171) 2345678, 020 7946 0958, 01 23 45 67 89, 08-224 538 32
    r"|(?P<national>(?<=0)(?:[1-9]\d{1,4}[ /-]\d{5,8}|[1-9]\d{1,3}[ -]\d{3,4}[ -]\d{4}|[1-9](?:[ .]\d\d){4}"
    r"|[1-9]\d{0,2}-\d{2,3} \d{2,3} \d{2})|(?<=\()0\d{1,4}\)[ -]?\d{3,4}[ -]?\d{3,5})" + _AFTER_NUMBER + r"(?! \d))"
)
"""Each pattern for numbers begins with the characters that it can begin with, so that text without them is passed over
quickly, and only then looks back."""
_COUNTRY = re.compile(
    r"1|7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]|2(?:1[1-368]|[2346]\d|5[0-8]|9[0178])|3[578]\d|42[013]"
    r"|50\d|59\d|67\d|68\d|69[0-2]|85[02356]|88[0-368]|96\d|97[0-79]|99[2-68]"
)
"""Source: ITU-T, list of assigned country codes for E.164 (a few unassigned ones between them let through)."""
_FICTIONAL = re.compile(
    r"(?:7700900|2079460|1632960|(?:11[3-8]|1[2-69]1)4960|61491570|491570|199000)\d{3}$|808157\d{4}$|33199\d{7}$"
)
"""Numbers set aside for fiction. Source: Ofcom (UK), ACMA (Australia), Arcep (France)."""
_SUM_BEFORE = re.compile(r"[\d=]\s*$")
_NOT_DIALLED = re.compile(
    r"(?:order|invoice|isbn|issn|ticket|tracking|serial|ref(?:erence)?|\bid|#|\bno|№|sku|\bpart|model|case|version"
    r"|confirmation|policy|claim|account|booking|patent|stock|item|product|code|zip|iban|card|date|table)"
    r"[^A-Za-z0-9+(]{0,3}(?:(?:number|no|id|is|code)[^A-Za-z0-9+(]{1,4}){0,2}$",
    re.IGNORECASE,
)
"""What stands before a number that is none to dial."""

_CARD = re.compile(
    r"[2-6](?<![\w.,+-][2-6])(?:\d{3}(?P<gap>[ -])\d{4}(?P=gap)\d{4}(?P=gap)\d{1,4}(?:(?P=gap)\d{1,3})?"
    r"|\d{3}[ -]\d{6}[ -]\d{4,5}|\d{12,18})(?![\w-]|[.,]\d| \d)"
)
_ISSUERS = re.compile(
    r"4\d{12}(?:\d{3}){0,2}"  # Visa
    r"|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}"  # Mastercard
    r"|3[47]\d{13}|3(?:0[0-5]|[689]\d)\d{11}"  # American Express, Diners Club
    r"|6(?:011|5\d\d|4[4-9]\d)\d{12}|62\d{14,17}|35(?:2[89]|[3-8]\d)\d{12}"  # Discover, UnionPay, JCB
)
"""Source: ISO/IEC 7812 (the issuer's number comes first), with the ranges that the networks publish."""
_TEST_CARDS = frozenset(
    re.findall(
        r"\d+",
        "4111111111111111 4012888888881881 4222222222222 4242424242424242 4000056655665556 5555555555554444 "
        "5105105105105100 5200828282828210 5454545454545454 2223003122003222 2223000048400011 "
        "378282246310005 371449635398431 378734493671000 6011111111111117 6011000990139424 6011000400000000 "
        "6011601160116611 30569309025904 38520000023237 36227206271667 3056930009020004 3530111333300000 "
        "3566002020360505 6200000000000005 4917610000000000 4532015112830366",
    )
)
"""Source: the test numbers in the manuals of Stripe, PayPal, Adyen and Braintree."""
_CARD_WORD = re.compile(r"card|visa|credit|debit|karte|carte|tarjeta|cartão", re.IGNORECASE)

_IBAN = re.compile(r"[A-Z](?<![A-Za-z0-9][A-Z])[A-Z]\d{2}(?:(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?)(?![A-Za-z0-9])")
_IBAN_LENGTHS = {
    country: int(length)
    for country, length in re.findall(
        r"([A-Z]{2})(\d\d)",
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 "
        "EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 "
        "JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 "
        "NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 "
        "TL23 TN24 TR26 UA29 VA22 VG24 XK20",
    )
}
"""Source: SWIFT, IBAN registry."""
_EXAMPLE_IBANS = frozenset(
    re.findall(
        r"\w+",
        "DE89370400440532013000 GB29NWBK60161331926819 GB82WEST12345698765432 GB33BUKB20201555555555 "
        "FR1420041010050500013M02606 FR7630006000011234567890189 ES9121000418450200051332 "
        "IT60X0542811101000000123456 NL91ABNA0417164300 BE68539007547034 CH9300762011623852957 "
        "AT611904300234573201 PL61109010140000071219812874 SE4550000000058398257466 DK5000400440116243 "
        "NO9386011117947 FI2112345600000785 PT50000201231234567890154 IE29AIBK93115212345678 "
        "LU280019400644750000 SA0380000000608010167519 TR330006100519786457841326",
    )
)
"""Source: the registry's own examples, and those of the articles about it."""

_IPV4 = re.compile(r"\d(?<![\w.+-]\d)\d{0,2}\.(?:\d{1,3}\.){2}\d{1,3}(?![\w-]|\.\w)")
_IPV6 = re.compile(r"[23](?<![\w:.][23])[0-9a-fA-F]{3}:[0-9a-fA-F:]{2,34}(?![\w:])")
_VERSION_BEFORE = re.compile(
    r"(?:version|release|build|firmware|driver|section|chapter|clause|§|\bv|\bver\.?)[\s:=]{0,3}$", re.IGNORECASE
)
_NUMBER_BEFORE, _NUMBER_AFTER = re.compile(r"[\d.][ ,]$"), re.compile(r"[ ,]?-?\.?\d")
_PUBLIC_SERVERS = frozenset(
    re.findall(
        r"\S+",
        "8.8.8.8 8.8.4.4 1.1.1.1 1.0.0.1 9.9.9.9 208.67.222.222 208.67.220.220 4.2.2.2 2001:4860:4860::8888 "
        "2001:4860:4860::8844 2606:4700:4700::1111 2606:4700:4700::1001",
    )
)
"""Name servers that everybody is told to use."""
_MAX_SECTION = 20
"""Four numbers that are all this small number a section or a release; of random addresses 1 in 22,000 is like this."""

_PHONE_INSTEAD, _CARD_INSTEAD, _IBAN_INSTEAD = "+1-202-555-0100", "4111 1111 1111 1111", "DE89 3704 0044 0532 0130 00"


def may_hold_personal(text: str) -> bool:
    """Whether a closer look is worth while; cheap, and true of every text that holds personal data."""
    return "@" in text or _may_hold_number(text)


def _may_hold_number(text: str) -> bool:
    if text.isascii() and not text.encode().translate(None, _NO_DIGITS):
        return False
    return _ANY_NUMBER.search(text) is not None


def find_personal(text: str) -> Iterator[Leak]:
    """Yields the personal data in a text, each kind in order."""
    if "@" in text:
        for match in _addresses(text):
            if _is_personal_address(text, match):
                yield Leak("pii", "an e-mail address", *match.span(), 1, "user@example.com")
    if not _may_hold_number(text):
        return
    for pattern, judge, kind, instead in _NUMBERS:
        for match in pattern.finditer(text):
            if judge(text, match):
                yield Leak("pii", kind, *match.span(), 2, instead)


def _addresses(text: str) -> Iterator[re.Match[str]]:
    """Yields what looks like an e-mail address; only the neighbourhood of each at sign is looked at."""
    end = 0
    place = text.find("@")
    while place >= 0:
        match = _EMAIL.search(text, max(end, place - _MAX_LOCAL_CHARS - 1), place + _MAX_DOMAIN_CHARS)
        if match is not None:
            yield match
        end = max(place + 1, match.end() if match is not None else 0)
        place = text.find("@", end)


def _is_personal_address(text: str, match: re.Match[str]) -> bool:
    if match["top"].lower() in _NO_ENDING or _NO_PERSON.match(match["local"]) or is_nobodys_domain(match["domain"]):
        return False
    # the user and password of a URL
    word = text[max(0, match.start() - 80) : match.start()].rsplit(None, 1)
    return not (word and "://" in word[-1] and not text[match.start() - 1].isspace())


def _is_phone(text: str, match: re.Match[str]) -> bool:
    """Source: ITU-T E.164; the North American numbering plan, which keeps 555-0100 to 555-0199 for fiction."""
    number = match.group()
    digits = "".join(char for char in number if char.isdigit())
    if not 8 <= len(digits) <= 15 or len(set(digits)) < 3 or "1234567" in digits:
        return False
    before = text[max(0, match.start() - 40) : match.start()]
    if match["international"] is None and _NOT_DIALLED.search(before) is not None:
        return False
    if match["international"] is not None and (_COUNTRY.match(digits) is None or _SUM_BEFORE.search(before[-8:])):
        return False
    american = digits[-10:] if match["american"] or digits.startswith("1") else ""
    if american:
        known = all(part[0] in "23456789" and part[1:3] != "11" for part in (american[:3], american[3:6]))
        return known and len(digits) in (10, 11) and american[:3] != "555" and not american.startswith("55501", 3)
    return not _FICTIONAL.match(digits.removeprefix("44") if number.startswith("+44") else digits.removeprefix("0"))


def _is_card(text: str, match: re.Match[str]) -> bool:
    """Source: ISO/IEC 7812-1 annex B (the Luhn check digit)."""
    digits = "".join(char for char in match.group() if char.isdigit())
    if _ISSUERS.fullmatch(digits) is None or digits in _TEST_CARDS or len(set(digits)) < 4 or "0000000000" in digits:
        return False
    if len(digits) == 13 and _CARD_WORD.search(text, max(0, match.start() - 60), match.start()) is None:
        return False  # no such cards are issued any more, but article numbers look like them
    doubled = [int(digit) * (2 if place % 2 else 1) for place, digit in enumerate(reversed(digits))]
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0


def _is_iban(_text: str, match: re.Match[str]) -> bool:
    """Source: ISO 13616 (the check digits, modulo 97 as in ISO 7064)."""
    account = match.group().replace(" ", "")
    if _IBAN_LENGTHS.get(account[:2]) != len(account) or account in _EXAMPLE_IBANS:
        return False
    return int("".join(str(int(char, 36)) for char in account[4:] + account[:4])) % 97 == 1


def _is_public_address(text: str, match: re.Match[str]) -> bool:
    """Source: the registries of special addresses that RFC 6890 set up, as `ipaddress` knows them; RFC 3849, RFC 5737."""
    if match.group() in _PUBLIC_SERVERS or _VERSION_BEFORE.search(text, max(0, match.start() - 20), match.start()):
        return False
    try:
        address = ipaddress.ip_address(match.group())
    except ValueError:
        return False
    if _NUMBER_BEFORE.search(text, max(0, match.start() - 8), match.start()) and _NUMBER_AFTER.match(text, match.end()):
        return False  # coordinates of a drawing
    if address.version == 4 and max(address.packed) <= _MAX_SECTION:
        return False
    return address.is_global and not address.is_multicast


_Judge = Callable[[str, re.Match[str]], bool]
_NUMBERS: tuple[tuple[re.Pattern[str], _Judge, str, str], ...] = (
    (_CARD, _is_card, "a card number", _CARD_INSTEAD),
    (_IBAN, _is_iban, "an account number (IBAN)", _IBAN_INSTEAD),
    (_IPV4, _is_public_address, "a public IP address", "192.0.2.1"),
    (_IPV6, _is_public_address, "a public IP address", "2001:db8::1"),
    (_PHONE, _is_phone, "a phone number", _PHONE_INSTEAD),
)
