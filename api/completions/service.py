"""Asking a model: admitted under limits, waited for, and read as far as it has come."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, cast

import anyio
from sqlalchemy.orm import Session, sessionmaker

from api.completions import queries
from api.completions.tables import Completion
from api.core import db
from api.core.db import now
from api.core.errors import ErrorType, ServiceError
from api.core.settings import Settings
from api.keys import queries as key_queries
from cpd_engine.conversation import Ask

# A worker not seen for so long is not counted on.
_SEEN_S = 60.0
_KEPT_S = 3600.0
_RETRY_S = 5
FinishReason = Literal["stop", "length"]


class NoModelServer(ServiceError):
    status = 503
    type: ClassVar[ErrorType] = "service_unavailable_error"
    code = "no_model_server"
    default = "No worker is up that answers for models; start one, with CPD_SERVING=on."


class ModelBusy(ServiceError):
    status = 429
    type: ClassVar[ErrorType] = "rate_limit_error"
    code = "model_busy"
    default = "Too many questions wait for an answer; ask again shortly."


class CompletionFailed(ServiceError):
    status = 503
    type: ClassVar[ErrorType] = "service_unavailable_error"
    code = "completion_failed"
    default = "The model's process ended before its answer did; ask again."


class CompletionTimeout(ServiceError):
    status = 503
    type: ClassVar[ErrorType] = "service_unavailable_error"
    code = "completion_timeout"
    default = "The answer was not there in time; ask for fewer tokens, or again when the model is loaded."


class PromptTooLong(ServiceError):
    status = 400
    type: ClassVar[ErrorType] = "invalid_request_error"
    code = "context_length_exceeded"
    default = "The prompt leaves the model no position for an answer; shorten it."


class ModelRefused(ServiceError):
    status = 422
    type: ClassVar[ErrorType] = "invalid_request_error"
    code = "model_cannot_answer"
    default = "The model cannot be loaded, or its chat template refuses these messages."


# What the engine's and the worker's codes are to the client; any other is a refusal of the model's.
_FAILURES: dict[str, type[ServiceError]] = {
    "context_length_exceeded": PromptTooLong,
    "model_crashed": CompletionFailed,
    "completion_timeout": CompletionTimeout,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """An answer as far as it has come. `finish_reason` is None while it goes on; then the counts are there."""

    text: str
    finish_reason: FinishReason | None
    prompt_tokens: int
    completion_tokens: int


def ask(session: Session, tenant_id: str, source: dict[str, Any], ask: Ask, settings: Settings) -> str:
    """Queue a question; its id. Raises NoModelServer and ModelBusy."""
    if not session.scalars(queries.servers(_SEEN_S)).one():
        raise NoModelServer(retry_after_s=_RETRY_S)
    session.execute(key_queries.tenant_for_update(tenant_id)).one()
    for limit, whose in ((settings.serving_queue_tenant, tenant_id), (settings.serving_queue, None)):
        if session.scalars(queries.waiting(whose)).one() >= limit:
            raise ModelBusy(retry_after_s=_RETRY_S)
    told = asdict(ask)
    completion_id = f"cmpl_{uuid.uuid4().hex}"
    row = Completion(
        id=completion_id,
        tenant_id=tenant_id,
        source=source,
        ask=told,
        state="queued",
        expires_at=now(settings.serving_timeout_s),
    )
    session.add(row)
    session.flush()
    return completion_id


async def readings(
    make: sessionmaker[Session], completion_id: str, *, poll_s: float, left: Callable[[], Awaitable[bool]]
) -> AsyncGenerator[Reading]:
    """The answer each time that more of it is there, to its end or until the client has `left`.

    Raises what became of it instead. Whoever is done calls `drop`.
    """
    said = ""
    while not await left():
        reading = await anyio.to_thread.run_sync(_read, make, completion_id)
        if reading is not None and (reading.finish_reason is not None or reading.text != said):
            yield reading
            said = reading.text
            if reading.finish_reason is not None:
                return
        await anyio.sleep(poll_s)


async def drop(make: sessionmaker[Session], completion_id: str) -> None:
    """Forget a question, answered or not; done even where the request was broken off."""
    with anyio.CancelScope(shield=True):
        await anyio.to_thread.run_sync(_drop, make, completion_id)


def forget(make: sessionmaker[Session]) -> int:
    """Delete questions whose api was killed; how many."""
    with db.transaction(make) as session:
        return len(session.execute(queries.forgotten(_KEPT_S).returning(Completion.id)).all())


def _drop(make: sessionmaker[Session], completion_id: str) -> None:
    with db.transaction(make) as session:
        session.execute(queries.gone(completion_id))


def _read(make: sessionmaker[Session], completion_id: str) -> Reading | None:
    """None while it waits."""
    with db.reading(make) as session:
        found = session.execute(queries.standing(completion_id)).one_or_none()
    if found is None:
        raise CompletionFailed
    row, lost, late = found
    match row.state:
        case "queued" | "running" if late:
            raise CompletionTimeout
        case "running" if lost:
            raise CompletionFailed
        case "queued":
            return None
        case "failed":
            raise _FAILURES.get(row.failure_code or "", ModelRefused)(row.failure_message)
    return Reading(
        text=row.text,
        finish_reason=cast("FinishReason | None", row.finish_reason),
        prompt_tokens=row.prompt_tokens or 0,
        completion_tokens=row.completion_tokens or 0,
    )
