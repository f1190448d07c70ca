"""The routes of what a run says: events, series, difficulty, evaluation."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial
from typing import Annotated, Any, cast

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.types import Send

from api.auth import Reader
from api.core.errors import ArtifactNotReady, NotFound, ValidationFailed
from api.deps import JobId, Known, Limit, Resources
from api.events import service
from api.events.permits import Permit
from api.events.schemas import Evaluation, EventPage, EventView, Seq, SeriesList
from api.events.series import LEAST_POINTS
from api.jobs.service import last_seq
from api.keys.service import still_usable
from api.problems import declared
from cpd_engine.events import ProfileReady

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["events"])

After = Annotated[Seq, Query(description="Events numbered above this.")]
LastEventId = Annotated[
    Seq | None,
    Header(alias="Last-Event-ID", description="What an event source sends when it reconnects; stands for `after`."),
]
_STREAM: dict[str, Any] = {
    "text/event-stream": {
        "schema": {"type": "string"},
        "example": 'event: phase_started\ndata: {"seq":2,"kind":"phase_started",…}\nid: 2\n\n',
    }
}


@router.get(
    "/events",
    response_model=EventPage,
    responses={200: {"content": _STREAM}, **declared(NotFound, ValidationFailed)},
)
def list_events(
    request: Request,
    who: Reader,
    known: Known,
    job_id: JobId,
    limit: Limit,
    after: After = 0,
    last_event_id: LastEventId = None,
) -> Response:
    """Numbered events, without a gap. With `Accept: text/event-stream` a stream that ends after the job's last event."""
    with known.reading() as session:
        if "text/event-stream" in request.headers.get("accept", ""):
            newest = last_seq(session, who.tenant_id, job_id)
            start = after if last_event_id is None else last_event_id
            permit = Permit(who=("key", who.prefix), ask=partial(_still_usable, known, who.prefix))
            return event_stream(known, job_id, start, newest, permit)
        events, more = service.page(session, who.tenant_id, job_id, after=after, limit=limit)
        body = {
            "object": "list",
            "data": [event.model_dump(mode="json") for event in events],
            "has_more": more,
            "next_cursor": str(events[-1].seq) if more else None,
        }
        return Response(_compact(body), media_type="application/json")


_STREAM_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


class EventStream(StreamingResponse):
    """Server-sent events. Its generator is closed with it, not some time later, so that a feed nobody follows is not read."""

    media_type = "text/event-stream"

    async def stream_response(self, send: Send) -> None:
        """Send until the generator or the client ends."""
        async with aclosing(cast("Any", self.body_iterator)):
            await super().stream_response(send)


def event_stream(known: Resources, job_id: str, after: int, newest: int, permit: Permit) -> EventStream:
    """Every event after `after` of a job whose newest is `newest`, until its last or until the permit is gone."""
    return EventStream(_messages(known, job_id, after, newest, permit), headers=_STREAM_HEADERS)


async def _messages(known: Resources, job_id: str, after: int, newest: int, permit: Permit) -> AsyncIterator[bytes]:
    # Something goes out at once, so that a client knows it is connected before the first event.
    yield KEEPALIVE_COMMENT
    allowed = partial(known.permits.holds, permit)
    async with aclosing(known.feeds.follow(job_id, after=after, last_seq=newest, still_allowed=allowed)) as events:
        async for event in events:
            yield KEEPALIVE_COMMENT if event is None else _message(event)


def _message(event: EventView) -> bytes:
    return format_sse_event(data_str=event.json_text, event=event.kind, id=str(event.seq))


def _still_usable(known: Resources, prefix: str) -> bool:
    with known.reading() as session:
        return still_usable(session, prefix)


def _compact(body: dict[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


@router.get("/metrics", responses=declared(NotFound, ValidationFailed))
def list_series(
    who: Reader,
    known: Known,
    job_id: JobId,
    name: Annotated[
        str | None, Query(pattern=r"^[A-Za-z0-9_./-]{1,64}$", description="One series, such as student/loss.")
    ] = None,
    points: Annotated[int, Query(ge=LEAST_POINTS, le=5000, description="At most so many points a series.")] = 500,
) -> SeriesList:
    """Metric series by optimizer step (evaluations by epoch), thinned so that every extreme stays."""
    with known.reading() as session:
        return service.series(session, who.tenant_id, job_id, name=name, points=points)


@router.get("/difficulty", responses=declared(NotFound, ArtifactNotReady))
def get_difficulty(who: Reader, known: Known, job_id: JobId) -> ProfileReady:
    """The difficulty profile, its histogram, the targets and subsets made of it, the easiest and hardest samples."""
    with known.reading() as session:
        return service.difficulty(session, who.tenant_id, job_id)


@router.get("/evaluation", responses=declared(NotFound))
def get_evaluation(who: Reader, known: Known, job_id: JobId) -> Evaluation:
    """Every score so far, and the final table with its paired comparisons."""
    with known.reading() as session:
        return service.evaluation(session, who.tenant_id, job_id)
