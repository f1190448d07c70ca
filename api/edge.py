"""The outermost layer: request ids, security headers, request metrics, and no exception beyond it."""

from __future__ import annotations

import time
import uuid
from http import HTTPStatus

import anyio
import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.core.errors import UriTooLong
from api.metrics import RequestMetrics
from api.problems import answer, on_unexpected

log = structlog.get_logger(__name__)

MAX_TARGET_BYTES = 8192
DRAIN_BYTES = 4 * 2**20
DRAIN_S = 2.0
SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
}


class Edge:
    """Wraps the application. Ids are made here and never taken from the client: an id in the log is ours."""

    def __init__(self, app: ASGIApp, *, metrics: RequestMetrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope["cpd.request_id"] = f"req_{uuid.uuid4().hex[:24]}"
        body = _Body(scope, receive)
        exchange = _Exchange(scope["cpd.request_id"], body, send)
        started = time.monotonic()
        with structlog.contextvars.bound_contextvars(request_id=scope["cpd.request_id"]):
            try:
                await self._serve(scope, body, exchange)
            finally:
                route = getattr(scope.get("route"), "path", "unmatched")
                self.metrics.observe(scope["method"], route, exchange.status, time.monotonic() - started)

    async def _serve(self, scope: Scope, receive: Receive, exchange: _Exchange) -> None:
        request = Request(scope, receive)
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > MAX_TARGET_BYTES:
            error = UriTooLong(f"An address may have at most {MAX_TARGET_BYTES} bytes.")
            await answer(request, error)(scope, receive, exchange)
            return
        try:
            await self.app(scope, receive, exchange)
        except Exception as exc:
            if exchange.status:
                raise  # Part of the answer is out; breaking the connection is the only honest signal left.
            response = await on_unexpected(request, exc)
            await response(scope, receive, exchange)


class _Body:
    """`receive`, which knows whether the request's body has been read to its end."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        headers = Headers(scope=scope)
        self.receive = receive
        self.unread = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        # Asked for only when somebody reads: such a client has sent nothing yet and waits to be told to.
        self.awaited = "expect" in headers

    async def __call__(self) -> Message:
        message = await self.receive()
        self.awaited = False
        if not message.get("more_body", False):
            self.unread = False
        return message

    async def drain(self) -> None:
        """Read on for a little. A connection that is closed on a client still sending is reset, and the refusal is lost with it."""
        left = DRAIN_BYTES
        with anyio.move_on_after(DRAIN_S):
            while self.unread and left > 0:
                left -= len((await self()).get("body", b""))


class _Exchange:
    """`send`, with the headers that every answer carries; remembers the status. A refusal of a body half read ends the connection."""

    def __init__(self, request_id: str, body: _Body, send: Send) -> None:
        self.request_id = request_id
        self.body = body
        self.send = send
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self.request_id
            headers.setdefault("cache-control", "no-store")
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
            if self.status >= HTTPStatus.BAD_REQUEST and self.body.unread:
                headers["connection"] = "close"
                if not self.body.awaited and self.status != HTTPStatus.REQUEST_TIMEOUT:
                    await self.body.drain()
        await self.send(message)
