"""Bytes that a client may take in parts: Range, If-Range, If-None-Match and HEAD as RFC 9110 has them."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from api.core.errors import RangeNotSatisfiable
from api.problems import answer

# A first byte or a suffix length; 18 digits are more than any file has and less than what int() labours over.
_ONE_RANGE = re.compile(r"bytes=(?P<first>\d{0,18})-(?P<last>\d{0,18})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What is sent. `sha256` names the bytes: the same ETag never stands for others. `read(start, stop)` gives [start, stop).

    `link` gives an address where the bytes are to be had without this service, or None. `inline`: a browser shows them instead of saving
    them.
    """

    size_bytes: int
    sha256: str
    filename: str
    media_type: str
    read: Callable[[int, int], Iterator[bytes]]
    link: Callable[[], str | None] | None = None
    inline: bool = False


def send(request: Request, content: Content) -> Response:
    """200, 206, 304, 307 or 416. Several ranges at once, and ranges that make no sense, are answered with the whole, as the RFC allows."""
    etag = f'"{content.sha256}"'
    headers = {
        "etag": etag,
        "accept-ranges": "bytes",
        "cache-control": "private, no-cache",
        "content-disposition": f"{'inline' if content.inline else 'attachment'}; filename*=UTF-8''{quote(content.filename)}",
    }
    if _matches(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers={k: v for k, v in headers.items() if k != "content-disposition"})
    if (address := _elsewhere(request, content)) is not None:
        # Whoever has it has the bytes, for as long as it holds: nobody is to keep it or tell it on.
        return Response(status_code=307, headers={"location": address, "referrer-policy": "no-referrer"})
    wanted = _range(request, etag)
    if wanted is None:
        return _stream(request, content, 0, content.size_bytes, 200, headers)
    start, stop = _resolve(*wanted, content.size_bytes)
    if start >= stop:
        return answer(request, RangeNotSatisfiable(), {"content-range": f"bytes */{content.size_bytes}"})
    headers["content-range"] = f"bytes {start}-{stop - 1}/{content.size_bytes}"
    return _stream(request, content, start, stop, 206, headers)


def _elsewhere(request: Request, content: Content) -> str | None:
    """Where the client is to go for the bytes. Not for a rest under a condition: the ETag is ours, and means nothing there."""
    if content.link is None or request.method != "GET" or "if-range" in request.headers:
        return None
    return content.link()


def _stream(
    request: Request, content: Content, start: int, stop: int, status: int, headers: dict[str, str]
) -> Response:
    headers["content-length"] = str(stop - start)
    body = iter(()) if request.method == "HEAD" else content.read(start, stop)
    return Download(body, status, headers, media_type=content.media_type)


class Download(StreamingResponse):
    """Lets go of what it reads with its last byte or when the client goes away, not when garbage happens to be collected."""

    def __init__(self, chunks: Iterator[bytes], status_code: int, headers: dict[str, str], *, media_type: str) -> None:
        super().__init__(chunks, status_code, headers, media_type=media_type)
        self._chunks = chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send, then close."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            if isinstance(self._chunks, Generator):
                self._chunks.close()


def _matches(header: str | None, etag: str) -> bool:
    """Weak comparison, as If-None-Match asks for."""
    if header is None:
        return False
    return header.strip() == "*" or etag in {tag.strip().removeprefix("W/") for tag in header.split(",")}


def _range(request: Request, etag: str) -> tuple[int | None, int | None] | None:
    """(first, last) as written, either of them None where it is left out; None where the whole is wanted."""
    if request.method != "GET":
        return None
    condition = request.headers.get("if-range")
    if condition is not None and condition.strip() != etag:
        return None
    shape = _ONE_RANGE.fullmatch(request.headers.get("range", "").replace(" ", ""))
    if shape is None:
        return None
    first, last = (int(digits) if digits else None for digits in shape.groups())
    if (first is None and last is None) or (first is not None and last is not None and last < first):
        return None
    return first, last


def _resolve(first: int | None, last: int | None, size: int) -> tuple[int, int]:
    """[start, stop); empty where no byte of the file is meant."""
    if first is None:
        return max(0, size - (last or 0)), size
    return first, size if last is None else min(last + 1, size)


_BINARY = {"schema": {"type": "string", "format": "binary"}}


def declared_bytes(*media_types: str) -> dict[int | str, dict[str, Any]]:
    """The `responses=` of a route that answers with `send`, without its errors."""
    etag = {"ETag": {"description": "sha256 of the bytes, in quotes.", "schema": {"type": "string"}}}
    part = {"Content-Range": {"schema": {"type": "string"}}}
    content = {media_type: {} if media_type == "application/json" else _BINARY for media_type in media_types}
    return {
        200: {"description": "The bytes.", "content": content, "headers": etag},
        206: {"description": "The range asked for.", "content": content, "headers": etag | part},
        304: {"description": "The client has these bytes.", "headers": etag},
        307: {
            "description": "Where the bytes are, for a short time; only of a service that is set so, and never of archives.",
            "headers": {"Location": {"schema": {"type": "string"}}},
        },
    }
