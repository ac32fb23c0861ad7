"""A service on loopback that does what a test says, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """What comes back.

    Attributes:
        status: of HTTP.
        body: JSON, or bytes as they are.
        headers: beside the usual ones.
        then: `close` the connection without a reply, or `cut` it in the middle of one.
    """

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    then: str = ""


def said(text: str | None, **more: Any) -> Reply:
    """A reply as OpenAI's API description has it."""
    message = {"role": "assistant", "content": text, "refusal": more.pop("refusal", None)}
    if "tool_calls" in more:
        message["tool_calls"] = more.pop("tool_calls")
    usage = more.pop("usage", {"prompt_tokens": 20, "completion_tokens": 3, "total_tokens": 23})
    return Reply(
        body={
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "fake",
            "choices": [
                {"index": 0, "message": message, "finish_reason": more.pop("finish_reason", "stop"), "logprobs": None}
            ],
            "usage": usage,
        }
    )


def failed(
    status: int, message: str = "no", code: str | None = None, param: str | None = None, **headers: str
) -> Reply:
    """An error in OpenAI's envelope."""
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return Reply(status, {"error": error}, {name.replace("_", "-"): value for name, value in headers.items()})


@dataclass
class FakeService:
    """The service: `answer` is called with each request's body and the number of times its last message was asked before."""

    answer: Callable[[dict[str, Any], int], Reply]
    models: list[str] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    most_at_once: int = 0
    delay_s: float = 0.0

    def __enter__(self) -> FakeService:
        service, lock = self, threading.Lock()
        at_once = 0

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                """Says nothing."""

            def do_GET(self) -> None:
                self._send(Reply(body={"object": "list", "data": [{"id": name} for name in service.models]}))

            def do_POST(self) -> None:
                nonlocal at_once
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with lock:
                    before = sum(question(each) == question(body) for each in service.asked)
                    service.asked.append(body)
                    service.headers.append({name.lower(): value for name, value in self.headers.items()})
                    at_once += 1
                    service.most_at_once = max(service.most_at_once, at_once)
                time.sleep(service.delay_s)
                reply = service.answer(body, before)
                with lock:
                    at_once -= 1
                self._send(reply)

            def _send(self, reply: Reply) -> None:
                if reply.then == "close":
                    self.close_connection = True
                    self.connection.close()
                    return
                data = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
                self.send_response(reply.status)
                for name, value in ({"content-type": "application/json"} | reply.headers).items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(data) + (100 if reply.then == "cut" else 0)))
                self.end_headers()
                self.wfile.write(data)
                if reply.then == "cut":
                    self.close_connection = True

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def source(self, model: str = "fake") -> str:
        return f"{self.url}#{model}"


def question(body: dict[str, Any]) -> str:
    """The last message of a request."""
    return str(body["messages"][-1]["content"])


@dataclass
class FakeTime:
    """A clock that goes on by sleeping alone."""

    seconds: float = 0.0
    wall_at_zero: float = 1_800_000_000.0
    slept: list[float] = field(default_factory=list)

    def clock(self) -> Any:
        from luthier.remote.retrying import Clock

        return Clock(
            now=lambda: self.seconds,
            wall=lambda: self.wall_at_zero + self.seconds,
            sleep=self._sleep,
            chance=lambda: 0.5,
        )

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds
