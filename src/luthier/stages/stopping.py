"""Ctrl-C and SIGTERM: the first asks the work to stop at the next safe point, the second stops at once."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from luthier.errors import Interrupted
from luthier.runs import Event, Listener, RunFolder


@contextlib.contextmanager
def stop_switch(listener: Listener) -> Iterator[Callable[[], bool]]:
    """Yields a function that tells whether a stop was asked for. Outside the main thread, where signals cannot be
    caught, it always says no."""
    requested = threading.Event()

    def request(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a signal handler
        if requested.is_set():
            raise KeyboardInterrupt
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
