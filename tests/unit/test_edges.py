"""Small parts of the HTTP side: cursors, rates, open binds, the envelope's bounds."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from api.core.errors import ServiceError, ValidationFailed
from api.keys.service import refuse_open_bind
from api.pages import Cursor, decode, encode
from api.problems import answer
from api.rates import RateLimiter

TIMES = st.datetimes(timezones=st.just(UTC))


@given(TIMES, st.from_regex(r"[a-z]{2,4}_[0-9a-f]{1,32}", fullmatch=True))
def test_a_cursor_comes_back_as_it_was(at: datetime, row_id: str) -> None:
    assert decode(encode(Cursor(at, row_id))) == Cursor(at, row_id)


@given(st.text(max_size=100))
def test_no_text_is_a_cursor_by_accident_and_none_breaks_anything(text: str) -> None:
    with suppress(ValidationFailed):
        assert decode(text).at.tzinfo is UTC


def test_a_key_has_its_burst_then_waits_for_its_rate() -> None:
    clock = [0.0]
    rates = RateLimiter(60, clock=lambda: clock[0])
    burst = [rates.wait_s("a") for _ in range(11)]
    other = rates.wait_s("b")
    clock[0] = 1.0

    assert burst == [0] * 10 + [1]
    assert other == 0
    assert [rates.wait_s("a"), rates.wait_s("a")] == [0, 1]


def test_fifty_requests_at_once_get_the_burst_and_no_more() -> None:
    limiter, start = RateLimiter(60, clock=lambda: 0.0), threading.Barrier(50)

    def ask(_: int) -> int:
        start.wait()
        return limiter.wait_s("key")

    with ThreadPoolExecutor(50) as pool:
        waits = list(pool.map(ask, range(50)))

    assert (waits.count(0), waits.count(1)) == (10, 40)
    assert limiter.wait_s("another") == 0


def test_buckets_that_say_nothing_are_forgotten() -> None:
    clock = [0.0]
    rates = RateLimiter(6000, clock=lambda: clock[0])
    for number in range(10_000):
        rates.wait_s(str(number))
    clock[0] = 3600.0
    rates.wait_s("one more")

    assert len(rates.buckets) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "[::1]", "localhost", "127.8.8.8"])
def test_the_loopback_needs_no_key(host: str) -> None:
    refuse_open_bind(host, has_key=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.5", "example.org", "localhost.evil.example"])
def test_beyond_the_loopback_there_must_be_a_key(host: str) -> None:
    refuse_open_bind(host, has_key=True)
    with pytest.raises(ValueError, match="without an API key"):
        refuse_open_bind(host, has_key=False)


@given(st.text(), st.integers(1, 5000), st.text(max_size=500))
def test_an_envelope_stays_within_its_size_whatever_is_said(message: str, times: int, param: str) -> None:
    request = Request({"type": "http", "cpd.request_id": "req_1", "headers": []})
    body = bytes(answer(request, ServiceError(message * times, param=param)).body)

    assert len(body) <= 4096
    assert json.loads(body)["error"]["request_id"] == "req_1"
