"""Asking again: when, how often, and for how long."""

from __future__ import annotations

import email.utils
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from luthier.errors import RemoteError

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0
"""The wait doubles from the first to the longest. The first is that of OpenAI's clients; the longest is ours: it matters in
outages alone, where eight questions under way then ask every few seconds."""

_LOOK_EVERY_S = 0.5
"""Between two looks at whether a stop is requested, while waiting."""

_Result = TypeVar("_Result")


class Stopped(Exception):  # noqa: N818 - it is not a fault
    """A stop was requested while a question waited to be asked again."""


class Fault(Exception):  # noqa: N818 - it is what an attempt came to, not what a person is told
    """An attempt that failed.

    Attributes:
        error: what a person is told where it is not tried again.
        again: whether trying again may help.
        wait_s: how long the service asks to wait, where it says.
        most_attempts: how often it is tried at most, beside the limit in time.
        within_s: a shorter limit in time than the question's, or None.
    """

    def __init__(
        self,
        error: RemoteError,
        *,
        again: bool = False,
        wait_s: float | None = None,
        most_attempts: int | None = None,
        within_s: float | None = None,
    ) -> None:
        super().__init__(error.message)
        self.error = error
        self.again = again
        self.wait_s = wait_s
        self.most_attempts = most_attempts
        self.within_s = within_s


@dataclass(frozen=True, slots=True)
class Clock:
    """What waiting needs of the world; a test puts another in its place.

    Attributes:
        now: seconds that only grow.
        wall: seconds since 1970.
        sleep: waits.
        chance: a number from 0 to 1.
    """

    now: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.random


def retried(
    attempt: Callable[[], _Result],
    *,
    give_up_after_s: float,
    clock: Clock,
    stop_requested: Callable[[], bool] = lambda: False,
) -> _Result:
    """Returns what an attempt returns, made again while it fails in ways that may pass.

    What the service asks to wait is waited, and up to a tenth more; else the wait doubles, and a random part of it, up to a
    half, is left out: many questions that failed together must not come back together.

    Args:
        attempt: raises `Fault` where it fails.
        give_up_after_s: from the first attempt on; a wait that would end later is not begun.
        clock: tells the time and waits.
        stop_requested: asked while waiting.

    Raises:
        RemoteError: the last attempt's, with how often and how long it was tried.
        Stopped: a stop was requested while waiting.
    """
    started, attempts = clock.now(), 0
    while True:
        attempts += 1
        try:
            return attempt()
        except Fault as fault:
            spent = clock.now() - started
            wait = _wait(fault, attempts, clock)
            limit = min(give_up_after_s, fault.within_s or give_up_after_s)
            enough = fault.most_attempts is not None and attempts >= fault.most_attempts
            if not fault.again or enough or spent + wait > limit:
                raise _final(fault, attempts, spent, wait, enough=enough) from None
        end = clock.now() + wait
        while (left := end - clock.now()) > 0:
            if stop_requested():
                raise Stopped
            clock.sleep(min(left, _LOOK_EVERY_S))


def asked_to_wait(headers: Mapping[str, str], wall: float) -> float | None:
    """Returns the seconds that a reply asks to wait before the next attempt, or None where it does not say.

    `Retry-After` is a number of seconds or a date (RFC 9110, section 10.2.3); OpenAI's `retry-after-ms` goes first.
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name, "").strip()
        if not text:
            continue
        try:
            seconds = float(text) * unit
        except ValueError:
            try:
                seconds = email.utils.parsedate_to_datetime(text).timestamp() - wall
            except ValueError:
                continue
        if seconds == seconds and seconds != float("inf"):
            return max(seconds, 0.0)
    return None


def _wait(fault: Fault, attempts: int, clock: Clock) -> float:
    if fault.wait_s is not None:
        return fault.wait_s * (1 + 0.1 * clock.chance())
    longest = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(attempts - 1, 16))
    return longest * (1 - 0.5 * clock.chance())


def _final(fault: Fault, attempts: int, spent: float, wait: float, *, enough: bool) -> RemoteError:
    error = fault.error
    if not fault.again:
        return error
    tried = f"{attempts} attempts" if attempts > 1 else "1 attempt"
    message = f"{error.message} Given up after {tried} in {spent:.0f} s"
    if fault.wait_s is not None and not enough:
        message += f": the service asks to wait another {wait:.0f} s, which is past the limit"
    return RemoteError(f"{message}.", code=error.code, param=error.param, hint=error.hint)
