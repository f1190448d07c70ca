"""Reading server-sent events in tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

SSE = {"accept": "text/event-stream"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One block of the stream: an event with its id, or a comment."""

    id: int | None
    event: str | None
    data: dict[str, Any] | None


@contextmanager
def following(client: httpx.Client, job_id: str, **headers: str) -> Iterator[Iterator[Message]]:
    """The blocks of a job's stream as they come."""
    query = {"after": headers.pop("after")} if "after" in headers else {}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with client.stream("GET", f"/v1/jobs/{job_id}/events", headers=SSE | named, params=query) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        yield _messages(response.iter_lines())


def events(messages: Iterator[Message]) -> Iterator[Message]:
    """The events without the comments."""
    return (message for message in messages if message.event is not None)


def _messages(lines: Iterator[str]) -> Iterator[Message]:
    block: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            block[name] = value
            continue
        seq, data = block.get("id"), block.get("data")
        yield Message(id=int(seq) if seq else None, event=block.get("event"), data=json.loads(data) if data else None)
        block = {}
