"""Answers read by kind: one thing, or every page of a list."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from api.remote.answers import Page
from api.remote.transport import Transport
from api.remote.trouble import Trouble

A = TypeVar("A", bound=BaseModel)


def get(transport: Transport, path: str, answer: type[A], query: Mapping[str, Any] | None = None) -> A:
    """What lies at `path`. Raises Trouble where what answers is not CPD."""
    return parsed(answer, transport.request("GET", path, repeatable=True, params=query))


def parsed(answer: type[A], response: httpx.Response) -> A:
    """A success's body. Raises Trouble where it is none of CPD's."""
    try:
        return answer.model_validate_json(response.content)
    except ValidationError as error:
        remedy = "see --url and CPD_URL, and that cpd and the service are of one version"
        raise Trouble(f"{response.url} does not answer as CPD does: {remedy}") from error


def pages(transport: Transport, path: str, item: type[A], query: Mapping[str, Any] | None = None) -> Iterator[A]:
    """Every item of a list, page by page as they are asked for."""
    cursor: str | None = None
    while True:
        asked = {"limit": 100, **(query or {})} | ({"cursor": cursor} if cursor else {})
        page = get(transport, path, Page[item], asked)  # type: ignore[valid-type]  # a generic made at run time
        yield from page.data
        if not page.has_more or page.next_cursor is None:
            return
        cursor = page.next_cursor
