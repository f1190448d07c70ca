"""One question to an OpenAI-compatible chat-completions endpoint, asked again where it makes sense. Knows nothing of verdicts."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2

from cpd_engine.errors import JudgeUnavailable
from cpd_engine.inputs import JudgeEndpoint

_ANSWER_BYTES = 4 * 2**20
# The endpoint does not know us, or there is none: asking again or something else helps nothing.
_HOPELESS = frozenset({401, 402, 403, 404, 405})
_AGAIN = frozenset({408, 409, 425, 429})


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How often to ask and for how long. `timeout_s` bounds one try, `wait_s` the first pause between two, which doubles up to a bound."""

    tries: int = 5
    timeout_s: float = 120.0
    wait_s: float = 1.0
    longest_wait_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A judge's answer; the tokens are those that the endpoint counts."""

    text: str
    prompt_tokens: int
    completion_tokens: int


class Unanswered(Exception):
    """No answer in the tries. `reason`: "timeout", "connection", "malformed" or "http_" and the status."""

    def __init__(self, reason: str, *, retry_after_s: float | None = None) -> None:
        self.reason = reason
        self.retry_after_s = retry_after_s
        super().__init__(reason)

    @property
    def passing(self) -> bool:
        """Whether it may be gone by the next try."""
        status = int(self.reason.removeprefix("http_")) if self.reason.startswith("http_") else None
        return self.reason in ("timeout", "connection") or (status is not None and (status >= 500 or status in _AGAIN))


class JudgeClient:
    """Asks; made by `connected`. `pause` sleeps between tries."""

    def __init__(
        self,
        http: httpx2.AsyncClient,
        endpoint: JudgeEndpoint,
        patience: Patience,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._http, self._endpoint, self._patience, self._pause = http, endpoint, patience, pause

    async def ask(self, body: dict[str, Any]) -> Said:
        """The answer to a request body. Raises Unanswered, and JudgeUnavailable where the endpoint refuses to be asked at all."""
        wait_s = self._patience.wait_s
        for remaining in range(self._patience.tries - 1, -1, -1):
            try:
                return await self._try(body)
            except Unanswered as failure:
                if not failure.passing or not remaining:
                    raise
                told_s = failure.retry_after_s
            await self._pause(min(self._patience.longest_wait_s, wait_s if told_s is None else max(told_s, 0.0)))
            wait_s *= 2
        raise AssertionError("tries is at least 1")

    async def _try(self, body: dict[str, Any]) -> Said:
        try:
            async with asyncio.timeout(self._patience.timeout_s):
                status, retry_after_s, content = await self._post(body)
        except (TimeoutError, httpx2.TimeoutException):
            raise Unanswered("timeout") from None
        except httpx2.TransportError:
            raise Unanswered("connection") from None
        if status in _HOPELESS:
            raise JudgeUnavailable(
                f"the judge's endpoint refuses with HTTP {status}: check CPD_JUDGE_URL, _MODEL and _API_KEY"
            )
        if status != 200:
            raise Unanswered(f"http_{status}", retry_after_s=retry_after_s)
        return _said(content)

    async def _post(self, body: dict[str, Any]) -> tuple[int, float | None, bytes]:
        async with self._http.stream("POST", self._endpoint.completions_url, content=json.dumps(body)) as response:
            content = bytearray()
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > _ANSWER_BYTES:
                    raise Unanswered("malformed")
            return response.status_code, _retry_after_s(response.headers.get("retry-after")), bytes(content)


@asynccontextmanager
async def connected(endpoint: JudgeEndpoint, patience: Patience, *, connections: int) -> AsyncIterator[JudgeClient]:
    """A client with that many connections at most. It follows no redirect: the key is for this endpoint only."""
    headers = {"Content-Type": "application/json"}
    if endpoint.api_key is not None:
        headers["Authorization"] = f"Bearer {endpoint.api_key}"
    limits = httpx2.Limits(max_connections=connections)
    async with httpx2.AsyncClient(
        headers=headers, timeout=patience.timeout_s, limits=limits, follow_redirects=False
    ) as http:
        yield JudgeClient(http, endpoint, patience)


def _said(content: bytes) -> Said:
    try:
        answer = json.loads(content)
        text = answer["choices"][0]["message"]["content"]
        usage = answer.get("usage") or {}
        return Said(
            text=text if isinstance(text, str) else "",
            prompt_tokens=int(usage.get("prompt_tokens") or 0),
            completion_tokens=int(usage.get("completion_tokens") or 0),
        )
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        raise Unanswered("malformed") from None


def _retry_after_s(header: str | None) -> float | None:
    """Seconds that the endpoint asks to wait for, told as such or as a date; None where it does not."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return None
    return seconds if math.isfinite(seconds) else None
