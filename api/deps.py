"""What routes ask for: the process's resources, sessions, pages, ids."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Annotated, Protocol, cast

from fastapi import Depends, Path, Query, Request
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

from api.core import db
from api.core.errors import NotFound, ValidationFailed
from api.core.settings import Settings
from api.core.storage import Store
from api.events.permits import Permits
from api.events.stream import Feeds
from api.jobs.bell import Bell
from api.metrics import RequestMetrics
from api.rates import RateLimiter

_ID = re.compile(r"[A-Za-z0-9_]{1,40}")


class Health(Protocol):
    """Tells whether something that the service stands on answers."""

    def answers(self) -> bool:
        """True where it did when last asked."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What one API process holds; made by create_app, found at `app.state.resources`."""

    settings: Settings
    engine: Engine
    make: sessionmaker[Session]
    store: Store
    feeds: Feeds
    permits: Permits
    bell: Bell
    broker: Health
    files: Health
    requests: RequestMetrics
    rates: RateLimiter

    # Sessions are opened inside a route's function and are over when it returns, not made by `Depends`: a dependency runs in one thread
    # and the route in another, and requests that hold a connection while they wait for a thread lock out those that hold a thread
    # while they wait for a connection. It also commits before the answer starts, and an answer that streams holds no connection.

    def reading(self) -> AbstractContextManager[Session]:
        """A session that only reads."""
        return db.reading(self.make)

    def writing(self) -> AbstractContextManager[Session]:
        """A transaction, committed where the block ends."""
        return db.transaction(self.make)

    @contextmanager
    def queueing(self) -> Iterator[Session]:
        """A transaction that may queue a job: the bell is woken after its commit."""
        with db.transaction(self.make) as session:
            yield session
        self.bell.wake()


def resources(request: Request) -> Resources:
    """The resources of the application that serves the request."""
    return cast("Resources", request.app.state.resources)


# Dependencies that only look are coroutines: FastAPI sends any other through a thread, which costs more than the look.
async def _known(request: Request) -> Resources:
    return resources(request)


Known = Annotated[Resources, Depends(_known)]


async def _job_id(job_id: Annotated[str, Path(description="The job's id.")]) -> str:
    if _ID.fullmatch(job_id) is None:
        raise NotFound("There is no such job.")
    return job_id


async def _dataset_id(dataset_id: Annotated[str, Path(description="The data set's id.")]) -> str:
    if _ID.fullmatch(dataset_id) is None:
        raise NotFound("There is no such data set.")
    return dataset_id


async def _comparison_id(comparison_id: Annotated[str, Path(description="The comparison's id.")]) -> str:
    if _ID.fullmatch(comparison_id) is None:
        raise NotFound("There is no such comparison.")
    return comparison_id


# Anything that no id looks like is answered as an id that does not exist, and never reaches a statement.
JobId = Annotated[str, Depends(_job_id)]
DatasetId = Annotated[str, Depends(_dataset_id)]
ComparisonId = Annotated[str, Depends(_comparison_id)]

Cursor = Annotated[str | None, Query(max_length=200, description="The `next_cursor` of the page before.")]


async def _limit(known: Known, limit: Annotated[int, Query(ge=1, description="Rows a page.")] = 20) -> int:
    if limit > known.settings.page_max:
        raise ValidationFailed(f"limit: at most {known.settings.page_max}", param="limit")
    return limit


Limit = Annotated[int, Depends(_limit)]
