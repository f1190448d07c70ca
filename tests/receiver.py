"""A receiver of webhooks on a free port of this machine, which answers as a test tells it to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.deadline import eventually


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """One request."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def id(self) -> str:
        """By which a receiver knows an event that it has heard before."""
        return self.headers["webhook-id"]


@dataclass
class Receiver:
    """`answer` says the status for the n-th request, from 0; None leaves it without an answer until the receiver closes."""

    answer: Callable[[int], int | None]
    heard: list[Heard] = field(default_factory=list)
    url: str = ""
    over: threading.Event = field(default_factory=threading.Event)

    def wait_for(self, count: int, *, within_s: float = 20.0) -> list[Heard]:
        """The first `count` requests."""
        eventually(lambda: len(self.heard) >= count, within_s=within_s, what=f"delivery number {count}")
        return self.heard[:count]


@contextmanager
def receiving(answer: Callable[[int], int | None] = lambda _: 200) -> Iterator[Receiver]:
    """A receiver, until the block ends."""
    receiver = Receiver(answer)
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            with lock:
                number = len(receiver.heard)
                receiver.heard.append(Heard(path=self.path, headers=headers, body=body))
            status = receiver.answer(number)
            if status is None:
                receiver.over.wait(60)
                return
            self.send_response(status)
            self.send_header("location", receiver.url)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_port}/hook?from=cpd"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.over.set()
        server.shutdown()
        server.server_close()
        thread.join()
