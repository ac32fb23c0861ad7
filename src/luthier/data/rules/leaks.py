"""Secrets and personal data in one text: where they stand, and the text without them, to be shown."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from luthier.data.rules.leak_personal import find_personal, may_hold_personal
from luthier.data.rules.leak_secrets import Leak, find_secrets, may_hold_secret


def may_leak(text: str) -> bool:
    """Whether a closer look is worth while; cheap, and true of every text in which `find_leaks` finds something."""
    return may_hold_secret(text) or may_hold_personal(text)


def find_leaks(text: str, *, made_up: bool = False) -> list[Leak]:
    """Returns the secrets and the personal data in a text, in order and without overlaps.

    Args:
        text: any text.
        made_up: whether passwords in it were made up for the conversation; see `makes_passwords_up`.
    """
    kept: list[tuple[int, int, Leak]] = []
    # the surer kind first: a secret may hold digits that look like a card's
    for leak in (*find_secrets(text, made_up=made_up), *find_personal(text)):
        place = bisect_left(kept, (leak.start,))
        after_last = place == 0 or kept[place - 1][1] <= leak.start
        if after_last and (place == len(kept) or leak.end <= kept[place][0]):
            kept.insert(place, (leak.start, leak.end, leak))
    return [leak for _, _, leak in kept]


def masked(text: str, leaks: Sequence[Leak]) -> str:
    """Returns a text with every one of its leaks but the first characters blanked out; each place stays where it is."""
    pieces: list[str] = []
    at = 0
    for leak in leaks:
        pieces += (text[at : leak.start + leak.kept], "•" * (leak.end - leak.start - leak.kept))
        at = leak.end
    return "".join(pieces) + text[at:]


def fit_to_show(text: str) -> str:
    """Returns a text with all secrets and personal data in it masked."""
    return masked(text, find_leaks(text)) if may_leak(text) else text
