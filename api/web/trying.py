"""The page on which a finished student and its teacher answer the same question, side by side."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Literal

import anyio
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from api.completions import service
from api.completions.service import Reading
from api.core.errors import ServiceError, ValidationFailed
from api.deps import JobId, Known, Resources
from api.jobs import service as job_service
from api.jobs.schemas import JobView
from api.openai import served
from api.openai.names import made
from api.web.pages import HEADERS, PageRoute, page
from api.web.sessions import Visit
from api.web.visits import Actor, Form, SentForm, Visitor
from cpd_engine.conversation import Ask, Message

router = APIRouter(include_in_schema=False, route_class=PageRoute)

Who = Literal["teacher", "student"]
# The checkpoint by which each is named.
_NAMES: dict[Who, str] = {"teacher": served.TEACHER, "student": "model"}
QUESTION_CHARACTERS = 20_000


@dataclass(slots=True)
class Told:
    """What one of the two has said, or why it has not."""

    who: Who
    reading: Reading | None = None
    failure: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What the form asks; as it is shown again."""

    text: str = ""
    temperature: float = 0.0
    max_tokens: int = 128
    told: tuple[Told, ...] = field(default=())


@router.get("/jobs/{job_id}/try")
def show_try(request: Request, visit: Visitor, known: Known, job_id: JobId) -> Response:
    """The form."""
    return _page(request, visit, known, job_id, Question())


@router.post("/jobs/{job_id}/try")
async def ask_both(request: Request, visit: Actor, known: Known, job_id: JobId, form: SentForm) -> Response:
    """Both answers, when both have come; for browsers without scripts."""
    question = _question(form, known)
    await anyio.to_thread.run_sync(_job, visit, known, job_id)
    told = (Told("teacher"), Told("student"))
    async with anyio.create_task_group() as group:
        for one in told:
            group.start_soon(_answered, request, known, visit.identity.tenant_id, job_id, question, one)
    shown = Question(text=question.text, temperature=question.temperature, max_tokens=question.max_tokens, told=told)
    return await anyio.to_thread.run_sync(_page, request, visit, known, job_id, shown)


@router.post("/jobs/{job_id}/try/{who}")
async def ask_one(request: Request, visit: Actor, known: Known, job_id: JobId, who: Who, form: SentForm) -> Response:
    """One of the answers as it grows, a line of JSON at a time; for the page's script."""
    question = _question(form, known)
    await anyio.to_thread.run_sync(_job, visit, known, job_id)
    lines = _lines(request, known, visit.identity.tenant_id, job_id, question, who)
    return StreamingResponse(lines, media_type="application/x-ndjson", headers=HEADERS | {"cache-control": "no-store"})


def _page(request: Request, visit: Visit, known: Resources, job_id: str, question: Question) -> Response:
    job = _job(visit, known, job_id)
    most = known.settings.serving_max_tokens
    return page(request, "try.html", visit=visit, job=job, question=question, most=most)


def _job(visit: Visit, known: Resources, job_id: str) -> JobView:
    """Raises NotFound, before anybody is asked."""
    with known.reading() as session:
        return job_service.get(session, visit.identity.tenant_id, job_id)


def _question(form: Form, known: Resources) -> Question:
    """Raises ValidationFailed."""
    text = form.get("question", "").strip().replace("\0", "")
    if not 0 < len(text) <= QUESTION_CHARACTERS:
        raise ValidationFailed(f"A question has 1 to {QUESTION_CHARACTERS} characters.", param="question")
    most = known.settings.serving_max_tokens
    try:
        temperature, max_tokens = float(form.get("temperature", "0")), int(form.get("max_tokens", "128"))
    except ValueError:
        raise ValidationFailed("Temperature and tokens are numbers.") from None
    if not (0.0 <= temperature <= 2.0 and 1 <= max_tokens <= most):
        raise ValidationFailed(f"The temperature lies in 0 to 2, the tokens in 1 to {most}.")
    return Question(text=text, temperature=temperature, max_tokens=max_tokens)


async def _answered(
    request: Request, known: Resources, tenant_id: str, job_id: str, question: Question, told: Told
) -> None:
    try:
        async with aclosing(_readings(request, known, tenant_id, job_id, question, told.who)) as readings:
            async for reading in readings:
                told.reading = reading
    except ServiceError as error:
        told.failure = error.message


async def _lines(
    request: Request, known: Resources, tenant_id: str, job_id: str, question: Question, who: Who
) -> AsyncGenerator[bytes]:
    try:
        async with aclosing(_readings(request, known, tenant_id, job_id, question, who)) as readings:
            async for reading in readings:
                yield _line(text=reading.text, finish_reason=reading.finish_reason, tokens=reading.completion_tokens)
    except ServiceError as error:
        yield _line(failure=error.message)


async def _readings(
    request: Request, known: Resources, tenant_id: str, job_id: str, question: Question, who: Who
) -> AsyncGenerator[Reading]:
    completion_id = await anyio.to_thread.run_sync(_queued, known, tenant_id, job_id, question, who)
    poll_s = known.settings.serving_poll_s
    try:
        async with aclosing(
            service.readings(known.make, completion_id, poll_s=poll_s, left=request.is_disconnected)
        ) as readings:
            async for reading in readings:
                yield reading
    finally:
        await service.drop(known.make, completion_id)


def _queued(known: Resources, tenant_id: str, job_id: str, question: Question, who: Who) -> str:
    ask = Ask(
        messages=(Message(role="user", content=question.text),),
        max_tokens=question.max_tokens,
        temperature=question.temperature,
    )
    with known.writing() as session:
        source = served.source(session, tenant_id, made(job_id, _NAMES[who]), known.settings)
        return service.ask(session, tenant_id, source, ask, known.settings)


def _line(**told: object) -> bytes:
    return json.dumps(told, ensure_ascii=False).encode() + b"\n"
