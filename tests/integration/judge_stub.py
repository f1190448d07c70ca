"""A judge on a free port of this machine that speaks the chat-completions protocol and answers as a test tells it to."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cpd_engine.inputs import JudgeEndpoint

KEY = "sk-hunter2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request: what was sent, and the two answers in the order in which they were shown."""

    path: str
    authorization: str | None
    body: Mapping[str, Any]
    answers: tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A whole answer of the server."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""


def saying(text: str | None, *, prompt_tokens: int = 100, completion_tokens: int = 10) -> Reply:
    """A chat completion."""
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
    content = {"id": "x", "object": "chat.completion", "choices": [{"index": 0, "message": message}], "usage": usage}
    return Reply(content=json.dumps(content).encode())


@dataclass
class JudgeStub:
    """`decide` gets each request and its number from 0. `hanging` requests wait until the server stops."""

    decide: Callable[[Asked, int], Reply | None]
    asked: list[Asked] = field(default_factory=list)
    url: str = ""
    most_at_once: int = 0
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    over: threading.Event = field(default_factory=threading.Event)

    def endpoint(self, **other: Any) -> JudgeEndpoint:
        """How to reach it."""
        return JudgeEndpoint(**{"url": self.url, "model": "judge-1", "api_key": KEY, **other})

    def answer(self, path: str, authorization: str | None, content: bytes) -> Reply:
        """The answer to a request; one that `decide` leaves without an answer hangs."""
        body = json.loads(content)
        shown = re.findall(
            r"\[The Start of Assistant \w's Answer\]\n(.*?)\n\[The End", body["messages"][-1]["content"], re.DOTALL
        )
        asked = Asked(path=path, authorization=authorization, body=body, answers=(shown[0], shown[1]))
        with self._lock:
            number = len(self.asked)
            self.asked.append(asked)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            reply = self.decide(asked, number)
        finally:
            with self._lock:
                self._now -= 1
        if reply is None:
            self.over.wait(30)
        return reply or Reply(status=503)


@contextmanager
def serving(decide: Callable[[Asked, int], Reply | None]) -> Iterator[JudgeStub]:
    """Serve until the block ends."""
    stub = JudgeStub(decide)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            reply = stub.answer(self.path, self.headers["Authorization"], content)
            try:
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.content)))
                self.end_headers()
                self.wfile.write(reply.content)
            except OSError:
                self.close_connection = True  # the client did not wait

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the signature is http.server's
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    stub.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield stub
    finally:
        stub.over.set()
        server.shutdown()
        server.server_close()
        thread.join()
