"""Comparisons of one service: what it answers about them, and the calls that a client has for them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from api.comparisons.schemas import ComparisonSpec
from api.jobs.states import TERMINAL, JobState
from api.remote.answers import Answer, Failure, Progress, Remark
from api.remote.follow import RESTART_FACTOR
from api.remote.lists import get, pages, parsed
from api.remote.transport import Transport
from api.remote.trouble import ServerUnreachable
from cpd_engine.events import Compared

# Progress for people: a comparison takes minutes to days.
LOOK_S = 2.0


class Run(Answer):
    """A member's job, at a glance."""

    job: str
    seed: int
    state: JobState
    requested: str = "none"
    phase: str | None = None
    progress: Progress = Progress()
    queue_position: int | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    failure: Failure | None = None
    scores: dict[str, float] | None = None


class Member(Answer):
    """A member and its jobs by seed; `scores` are means over those that have evaluated."""

    label: str
    set: dict[str, Any] = Field(default_factory=dict)
    runs: tuple[Run, ...] = ()
    scores: dict[str, float] | None = None


class Budget(Answer):
    """What every member's student may spend."""

    unit: str
    amount: int | None = None
    epochs: float | None = None


class Comparison(Answer):
    """A comparison as the service last knew it; `table` once it is made."""

    id: str
    name: str | None = None
    metadata: dict[str, str] = Field(default_factory=dict)
    state: JobState
    requested: str = "none"
    baseline: str
    budget: Budget
    seeds: tuple[int, ...] = ()
    created_at: datetime
    members: tuple[Member, ...] = ()
    table_job: str | None = None
    table: Compared | None = None
    failure: Failure | None = None
    # Only in the answer to a submission: what the members' plans warn of.
    warnings: tuple[Remark, ...] = ()

    @property
    def is_over(self) -> bool:
        """True in a state that changes no more, but that a failed table may be asked for again."""
        return self.state in TERMINAL


class ComparisonLine(Answer):
    """A comparison in a list; `jobs` counts its members' jobs by state."""

    id: str
    name: str | None = None
    state: JobState
    requested: str = "none"
    baseline: str
    members: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    jobs: dict[JobState, int] = Field(default_factory=dict)
    created_at: datetime


class Comparisons:
    """`Client.comparisons`. Calls are repeated as the client's are; `create` under an Idempotency-Key."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, spec: ComparisonSpec | Mapping[str, Any], *, idempotency_key: str | None = None) -> Comparison:
        """Queue every member's jobs, all or none. Sent again under the same key if the connection breaks: they exist once."""
        sent = (
            spec.model_dump(mode="json", by_alias=True, exclude_unset=True)
            if isinstance(spec, ComparisonSpec)
            else spec
        )
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        response = self._transport.request("POST", "/v1/comparisons", repeatable=True, headers=headers, json=dict(sent))
        return parsed(Comparison, response)

    def list(self) -> Iterator[ComparisonLine]:
        """All comparisons, newest first."""
        return pages(self._transport, "/v1/comparisons", ComparisonLine)

    def get(self, comparison_id: str) -> Comparison:
        """One comparison with its members and, at the end, its table."""
        return get(self._transport, f"/v1/comparisons/{comparison_id}", Comparison)

    def cancel(self, comparison_id: str) -> Comparison:
        """Ask for the end of every job that has not ended; there will be no table."""
        response = self._transport.request("POST", f"/v1/comparisons/{comparison_id}/cancel", repeatable=True)
        return parsed(Comparison, response)

    def retable(self, comparison_id: str) -> Comparison:
        """Have a table that failed made again; one that is there, or on its way, stays as it is."""
        response = self._transport.request("POST", f"/v1/comparisons/{comparison_id}/table", repeatable=True)
        return parsed(Comparison, response)

    def follow(self, comparison_id: str, *, every_s: float = LOOK_S) -> Iterator[Comparison]:
        """How the comparison stands, at once and then every `every_s` seconds; the last one is over, or paused.

        A service that was there is waited for longer than one that never answered.
        """
        seen, failures = False, 0
        while True:
            try:
                found = self.get(comparison_id)
            except ServerUnreachable:
                failures += 1
                if not seen or failures >= RESTART_FACTOR:
                    raise
                continue
            seen, failures = True, 0
            yield found
            if found.is_over or found.state is JobState.PAUSED:
                return
            self._transport.patience.sleep(every_s)

    def wait(self, comparison_id: str, *, every_s: float = LOOK_S) -> Comparison:
        """The comparison when it is over, or paused."""
        *_, last = self.follow(comparison_id, every_s=every_s)
        return last

    def figure(self, comparison_id: str, kind: Literal["png", "json"] = "png") -> bytes:
        """The table as a picture, or its numbers as JSON. Raises Refused (409) before there is a table."""
        return self._transport.request("GET", f"/v1/comparisons/{comparison_id}/figure.{kind}", repeatable=True).content

    def report(self, comparison_id: str, *, format: Literal["html", "markdown"] = "html") -> bytes:  # noqa: A002 - the query parameter's name
        """The comparison's report for people, as `Client.report`. Raises Refused (409) before there is a table."""
        path = f"/v1/comparisons/{comparison_id}/report"
        return self._transport.request("GET", path, repeatable=True, params={"format": format}).content
