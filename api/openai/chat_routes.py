"""The routes of completions."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated

import anyio
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from api.auth import Writer
from api.bodies import Sent, json_body
from api.completions import service
from api.completions.service import Reading
from api.core.db import utc_now
from api.core.errors import ServiceError
from api.deps import Known, Resources
from api.openai import served
from api.openai.chat import Voice, chat_ask, streamed, text_ask
from api.openai.chat_schemas import CreateChatCompletion, CreateCompletion
from api.problems import answer
from cpd_engine.conversation import Ask

router = APIRouter(prefix="/v1", tags=["openai"], include_in_schema=False)

_SSE = {"cache-control": "no-cache", "x-accel-buffering": "no"}


@router.post("/chat/completions", response_class=Response)
async def create_chat_completion(
    request: Request,
    who: Writer,
    known: Known,
    body: Annotated[Sent[CreateChatCompletion], Depends(json_body(CreateChatCompletion))],
) -> Response:
    """Ask a finished model, or a job's teacher."""
    sent = body.value
    return await _completed(request, known, who.tenant_id, sent, chat_ask(sent, known.settings))


@router.post("/completions", response_class=Response)
async def create_completion(
    request: Request,
    who: Writer,
    known: Known,
    body: Annotated[Sent[CreateCompletion], Depends(json_body(CreateCompletion))],
) -> Response:
    """Have a finished model go on with a text, in no template."""
    sent = body.value
    return await _completed(request, known, who.tenant_id, sent, text_ask(sent, known.settings))


async def _completed(
    request: Request, known: Resources, tenant_id: str, sent: CreateChatCompletion | CreateCompletion, ask: Ask
) -> Response:
    voice = await anyio.to_thread.run_sync(_queued, known, tenant_id, sent, ask)
    readings = service.readings(
        known.make, voice.id, poll_s=known.settings.serving_poll_s, left=request.is_disconnected
    )
    handed_on = False
    try:
        # Until there is something to say the answer can still be a refusal with a status of its own.
        first = await anext(readings, None)
        while not sent.stream and first is not None and first.finish_reason is None:
            first = await anext(readings, None)
        if first is None:
            return Response(status_code=499)  # to nobody: the client is gone
        if not sent.stream:
            return JSONResponse(voice.whole(first).model_dump(mode="json"))
        handed_on = True
        stream = _dropped_after(known, voice, first, readings, request)
        return StreamingResponse(stream, media_type="text/event-stream", headers=_SSE)
    finally:
        if not handed_on:
            await service.drop(known.make, voice.id)


def _queued(known: Resources, tenant_id: str, sent: CreateChatCompletion | CreateCompletion, ask: Ask) -> Voice:
    with known.writing() as session:
        source = served.source(session, tenant_id, sent.model, known.settings)
        completion_id = service.ask(session, tenant_id, source, ask, known.settings)
        created = int(utc_now(session).timestamp())
    return Voice(
        id=completion_id,
        created=created,
        model=sent.model,
        usage=sent.stream_options is not None and sent.stream_options.include_usage,
        is_chat=isinstance(sent, CreateChatCompletion),
    )


async def _dropped_after(
    known: Resources, voice: Voice, first: Reading, readings: AsyncGenerator[Reading], request: Request
) -> AsyncIterator[bytes]:
    def broken(error: ServiceError) -> bytes:
        told = json.loads(bytes(answer(request, error).body))
        return b"data: " + json.dumps(told, separators=(",", ":")).encode() + b"\n\n"

    try:
        async with aclosing(readings), aclosing(streamed(voice, first, readings, broken=broken)) as pieces:
            async for piece in pieces:
                yield piece
    finally:
        await service.drop(known.make, voice.id)
