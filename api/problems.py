"""Every error as one JSON envelope: `{"error": {"type", "code", "message", "param", "request_id"}}`. It never repeats what was sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, ConfigDict
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import compile_path

from api.core.errors import (
    BodyTooLarge,
    DatabaseUnavailable,
    ErrorType,
    InsufficientScope,
    InvalidApiKey,
    InvalidJson,
    MethodNotAllowed,
    MissingApiKey,
    NotFound,
    RateLimited,
    ServiceError,
    StorageUnavailable,
    UnsupportedMediaType,
    UriTooLong,
    ValidationFailed,
)
from api.core.storage import StoreUnavailable

log = structlog.get_logger(__name__)

# Quotes double in JSON; with the other fields the envelope stays under 4 KB.
MAX_MESSAGE_BYTES = 1800
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PARAM = re.compile(r"[A-Za-z0-9_.\[\]-]{1,200}")


class ErrorBody(BaseModel):
    """What went wrong, for a program (`type`, `code`, `param`) and for a person (`message`)."""

    model_config = ConfigDict(frozen=True)

    type: ErrorType
    code: str
    message: str
    param: str | None
    request_id: str


class ErrorEnvelope(BaseModel):
    """The body of every answer whose status is 400 or more."""

    model_config = ConfigDict(frozen=True)

    error: ErrorBody


Responses = dict[int | str, dict[str, Any]]


def declared(*errors: type[ServiceError]) -> Responses:
    """The `responses=` of a route that needs a key: its own errors and those that any such route may have, by status."""
    every = (MissingApiKey, InvalidApiKey, InsufficientScope, RateLimited, DatabaseUnavailable)
    return declared_open(*errors, *every)


def declared_open(*errors: type[ServiceError]) -> Responses:
    """The same for a route that needs no key."""
    codes: dict[int, list[str]] = {}
    every: tuple[type[ServiceError], ...] = (*errors, UriTooLong, ServiceError)
    for error in every:
        codes.setdefault(error.status, []).append(error.code)
    return {
        status: {"model": ErrorEnvelope, "description": ", ".join(dict.fromkeys(names))}
        for status, names in sorted(codes.items())
    }


def answer(request: Request, error: ServiceError, headers: Mapping[str, str] | None = None) -> Response:
    """The envelope as a response. A parameter name that a client made up is shown only when it is plain."""
    body = ErrorBody(
        type=error.type,
        code=error.code,
        message=_bounded(error.message),
        param=error.param if error.param and _PARAM.fullmatch(error.param) else None,
        # Given by api/edge.py to every request.
        request_id=request.scope["cpd.request_id"],
    )
    sent = dict(headers or {})
    if error.retry_after_s is not None:
        sent["retry-after"] = str(error.retry_after_s)
    if error.status == HTTPStatus.CONFLICT:
        # Clients that retry every 409 would only meet the same conflict again.
        sent["x-should-retry"] = "false"
    return JSONResponse({"error": body.model_dump()}, error.status, sent)


def _bounded(message: str) -> str:
    return _CONTROL.sub(" ", message).encode(errors="ignore")[:MAX_MESSAGE_BYTES].decode(errors="ignore")


_BY_STATUS: dict[int, type[ServiceError]] = {
    400: InvalidJson,
    404: NotFound,
    405: MethodNotAllowed,
    413: BodyTooLarge,
    415: UnsupportedMediaType,
}


async def _on_known(request: Request, exc: Exception) -> Response:
    headers = exc.headers if isinstance(exc, HTTPException) else None
    error = fault(exc)
    if isinstance(error, MethodNotAllowed):
        headers = {"allow": _allowed(request)}
    return answer(request, error, headers)


def _allowed(request: Request) -> str:
    """The methods of every route at this address; the router itself tells those of the first alone.

    Where a route has the address word for word, another that would read an id there has nothing to say.
    """
    path = request.scope["path"]
    routes = [
        route for route in iter_route_contexts(request.app.routes) if compile_path(route.path or "")[0].match(path)
    ]
    exact = [route for route in routes if route.path == path]
    return ", ".join(sorted({method for route in exact or routes for method in route.methods or ()}))


async def on_unexpected(request: Request, exc: Exception) -> Response:
    """A fault of ours: told in the log, not to the client."""
    return answer(request, fault(exc))


def fault(exc: Exception) -> ServiceError:
    """What an exception says to a caller; one that is nobody's refusal goes into the log and is told without its reason."""
    match exc:
        case ServiceError():
            return exc
        case HTTPException():
            return _BY_STATUS.get(exc.status_code, ServiceError)()
        case RequestValidationError():
            first = exc.errors()[0]
            param = ".".join(str(piece) for piece in first["loc"][1:]) or None
            return ValidationFailed(f"{param}: {first['msg']}", param=param)
        case OperationalError() | InterfaceError() | PoolTimeout():
            return _no_database(exc)
        case DBAPIError(connection_invalidated=True):
            return _no_database(exc)
        case StoreUnavailable():
            log.warning("store_unavailable", reason=str(exc))
            return StorageUnavailable(retry_after_s=5)
        case _:
            log.error("request_failed", exc_info=exc)
            return ServiceError("Something went wrong on our side; the request id finds it in the log.")


def _no_database(exc: Exception) -> ServiceError:
    log.warning("database_unavailable", reason=type(exc).__name__)
    return DatabaseUnavailable(retry_after_s=5)


def install(app: FastAPI) -> None:
    """Answer every exception with the envelope."""
    away = (OperationalError, InterfaceError, PoolTimeout, StoreUnavailable)
    for known in (ServiceError, HTTPException, RequestValidationError, *away):
        app.add_exception_handler(known, _on_known)
