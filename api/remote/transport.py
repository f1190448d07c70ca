"""Requests with bounded retries, and the service's error envelope turned into exceptions."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from api.remote.trouble import Refused, ServerUnreachable, Trouble

RETRIED = frozenset({429, 502, 503, 504})
# Connections that never opened, and answers that never came.
BROKEN = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ReadError, httpx.ReadTimeout, httpx.RemoteProtocolError)
NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How often and how long to try again: waits double from `first_s` to `longest_s`, less up to a quarter by chance."""

    attempts: int = 5
    first_s: float = 0.25
    longest_s: float = 8.0
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = field(default_factory=lambda: random.Random().random)

    def wait(self, attempt: int, asked_s: float | None = None) -> None:
        """Sleep before attempt number `attempt` + 1; `asked_s` is the service's own Retry-After, obeyed up to 60 s."""
        backoff_s = min(self.longest_s, self.first_s * 2**attempt)
        self.sleep(min(60.0, asked_s) if asked_s is not None else backoff_s * (1 - self.chance() / 4))


class Transport:
    """An HTTP client bound to one service and one key."""

    def __init__(self, http: httpx.Client, patience: Patience) -> None:
        self._http = http
        self.patience = patience

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def request(self, method: str, path: str, *, repeatable: bool, **arguments: Any) -> httpx.Response:
        """The answer, if it is a success. A request that is not `repeatable` is sent again only if it cannot have arrived.

        Raises Refused for an error answer, ServerUnreachable where there was none.
        """
        broken = BROKEN if repeatable else NEVER_SENT
        for attempt in range(self.patience.attempts):
            last = attempt + 1 == self.patience.attempts
            try:
                response = self._http.request(method, path, **arguments)
            except broken as error:
                if last:
                    raise self.unreachable(error) from error
                self.patience.wait(attempt)
                continue
            except httpx.TransportError as error:
                raise self.unreachable(error) from error
            if last or not _may_repeat(response, repeatable):
                return succeeded(response)
            self.patience.wait(attempt, retry_after_s(response))
        raise AssertionError("the last attempt returns or raises")

    @contextmanager
    def stream(self, method: str, path: str, **arguments: Any) -> Iterator[httpx.Response]:
        """One attempt at an answer whose body is read as it comes; retries are the caller's, who knows what it has."""
        with self._http.stream(method, path, **arguments) as response:
            if response.is_error:
                response.read()
            yield succeeded(response)

    def unreachable(self, error: Exception) -> Trouble:
        """`error` in words for people."""
        url = str(self._http.base_url).rstrip("/")
        if isinstance(error, httpx.UnsupportedProtocol | httpx.InvalidURL):
            return Trouble(f"{url} is not a server's address: it starts with http:// or https://")
        return ServerUnreachable(
            f"no answer from {url} ({error or type(error).__name__}): start it with `cpd serve`, or set CPD_URL"
        )


def _may_repeat(response: httpx.Response, repeatable: bool) -> bool:
    if response.status_code == 409:
        # The first attempt of this very request is still at work.
        return _error(response).get("code") == "idempotency_in_flight"
    return response.status_code in (RETRIED if repeatable else {429, 503})


def retry_after_s(response: httpx.Response) -> float | None:
    """Seconds that the service asks to wait; None if it does not say, or says it as a date."""
    value = response.headers.get("retry-after", "")
    return float(value) if value.isdigit() else None


def succeeded(response: httpx.Response) -> httpx.Response:
    """`response`, or the Refused that its envelope stands for."""
    if not response.is_error:
        return response
    error = _error(response)
    raise Refused(
        response.status_code,
        code=str(error.get("code") or f"http_{response.status_code}"),
        message=str(error.get("message") or response.reason_phrase or "the service gave no reason"),
        param=error.get("param"),
        request_id=error.get("request_id") or response.headers.get("x-request-id"),
        path=response.request.url.path,
    )


def _error(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    error = body.get("error") if isinstance(body, dict) else None
    return error if isinstance(error, dict) else {}
