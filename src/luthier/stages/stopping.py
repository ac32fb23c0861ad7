"""Ctrl-C and SIGTERM: the first asks the work to stop at the next safe point, the second stops at once."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from luthier.errors import Interrupted
from luthier.runs import Event, Listener, RunFolder
from luthier.train.processes import started

PASSED_ON_S = 5.0
"""A terminal's Ctrl-C reaches each of several processes twice, the second time through torchrun, which passes it on. What
follows the first within so many seconds is taken for the same."""


@contextlib.contextmanager
def stop_switch(listener: Listener) -> Iterator[Callable[[], bool]]:
    """Yields a function that tells whether a stop was asked for. Outside the main thread, where signals cannot be
    caught, it always says no."""
    requested = threading.Event()
    asked_at = 0.0

    def request(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a signal handler
        nonlocal asked_at
        if requested.is_set():
            if started()[1] > 1 and time.monotonic() - asked_at < PASSED_ON_S:
                return
            raise KeyboardInterrupt
        asked_at = time.monotonic()
        requested.set()
        listener(Event("warning", "Stopping at the next safe point; press Ctrl-C again to stop at once."))

    if threading.current_thread() is not threading.main_thread():
        yield requested.is_set
        return
    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield requested.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def resumable(run: RunFolder) -> Iterator[None]:
    """Turns an interruption at any other moment into one that says how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(
            f"Stopped; everything finished so far is saved in {run.path}.",
            code="interrupted",
            hint=f"Go on with `luthier run --resume {run.path}`.",
        ) from None
