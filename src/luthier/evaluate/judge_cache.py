"""Verdicts of a judge on disk, so that nothing is asked, or paid for, twice."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import asdict, fields
from pathlib import Path

from luthier.errors import Interrupted
from luthier.evaluate.judge import Judge, JudgeReply, JudgeRequest
from luthier.runs import append_line, cut_torn_line, read_lines

_KEPT = {field.name for field in fields(JudgeReply)}


def interrupted() -> Interrupted:
    """Returns what is told where a judge is stopped."""
    return Interrupted(
        "Stopped; what the judge said is saved.",
        code="interrupted",
        hint="Give the same command again, or go on with `luthier run --resume` where it was a run.",
    )


class CachedJudge:
    """A judge whose replies are kept in a file: what was asked before gets the same reply, without asking.

    A line is written as soon as its reply is there. Of what is asked while a process dies there may be no line, so that up to
    as many questions as were under way are asked again. Failures are not kept.

    Args:
        judge: who is asked what is not known yet.
        identity: what its replies depend on but the request: its weights or its address, and its settings.
        path: the file, JSON lines of `{"asked": hash, "text": …}`.

    Attributes:
        num_asked: how often the judge was asked.
        stop_requested: looked at before the judge is asked.
    """

    def __init__(self, judge: Judge, identity: str, path: Path) -> None:
        self._judge = judge
        self._identity = identity
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        cut_torn_line(path)
        self._replies: dict[str, Future[JudgeReply]] = {}
        for line in read_lines(path):
            known: Future[JudgeReply] = Future()
            known.set_result(JudgeReply(**{name: value for name, value in line.items() if name in _KEPT}))
            self._replies[line["asked"]] = known
        self._used: set[str] = set()
        self._lock = threading.Lock()
        self.num_asked = 0
        self.stop_requested: Callable[[], bool] = lambda: False

    @property
    def used(self) -> Sequence[JudgeReply]:
        """The replies that this evaluation needed, each once, those of an earlier part of it among them."""
        with self._lock:
            futures = [self._replies[key] for key in sorted(self._used) if key in self._replies]
        return [each.result() for each in futures if each.done() and each.exception() is None]

    def ask(self, request: JudgeRequest) -> JudgeReply:
        """Returns the reply to a request; of several threads with the same request one asks.

        Raises:
            RemoteError, ModelError: as the judge.
            Interrupted: a stop was requested, and the reply is not known yet.
        """
        key = request.digest(self._identity)
        with self._lock:
            self._used.add(key)
            future = self._replies.get(key)
            mine = future is None
            if future is None:
                future = self._replies[key] = Future()
        if not mine:
            return future.result()
        try:
            if self.stop_requested():
                raise interrupted()
            reply = self._judge.ask(request)
        except BaseException as error:
            with self._lock:
                del self._replies[key]
            future.set_exception(error)
            raise
        with self._lock:
            self.num_asked += 1
            append_line(self._path, {"asked": key, **asdict(reply)})
        future.set_result(reply)
        return reply
