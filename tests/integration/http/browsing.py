"""A browser as far as HTTP goes: it logs in with a key, keeps the cookie, and sends the forms of the pages that it was shown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from tests.integration.http.api import Api

TOKEN = re.compile(r'name="form_token" value="([0-9a-f]{64})"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Browser:
    """`form_token` is that of the first page; None before a log-in."""

    http: httpx.Client
    form_token: str | None

    def submit(
        self, address: str, fields: Mapping[str, str] | None = None, *, files: Mapping[str, Any] | None = None
    ) -> httpx.Response:
        """Send a form of a page of this log-in."""
        token = {} if self.form_token is None else {"form_token": self.form_token}
        return self.http.post(address, data=token | dict(fields or {}), files=files)


@contextmanager
def browser(api: Api, who: str) -> Iterator[Browser]:
    """A browser in which `owner`, `reader` or `other` has logged in; for `anonymous` nobody has. It follows no redirect."""
    with httpx.Client(base_url=api.url, timeout=20.0) as client:
        token = None
        if who in api.keys:
            answer = client.post("/login", data={"key": api.keys[who]})
            assert answer.status_code == 303, answer.text
            found = TOKEN.search(client.get("/").text)
            assert found, "the first page has no form"
            token = found[1]
        yield Browser(http=client, form_token=token)
