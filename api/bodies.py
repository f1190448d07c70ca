"""JSON bodies: read whole under a size and a time limit, parsed strictly, validated with the field's path in the error."""

from __future__ import annotations

import hashlib
import json
import types
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar, Union, get_args, get_origin

import anyio
from pydantic import BaseModel, Tag, ValidationError
from starlette.requests import ClientDisconnect, Request

from api.core.errors import BodyTimeout, BodyTooLarge, InvalidJson, UnsupportedMediaType, ValidationFailed
from api.deps import resources
from cpd_engine.errors import FieldRefused

# More digits than any number here has; far below 4,300, where int() itself refuses, and below 308, where float() overflows.
MAX_DIGITS = 64

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent(Generic[Model]):
    """A validated body, and the hash of its canonical JSON by which an Idempotency-Key recognises it."""

    value: Model
    sha256: bytes


def json_body(model: type[Model]) -> Callable[[Request], Coroutine[Any, Any, Sent[Model]]]:
    """A dependency that gives the request's JSON body as `model`."""

    async def read(request: Request) -> Sent[Model]:
        if media_type(request) != "application/json":
            raise UnsupportedMediaType("Send JSON, with content-type: application/json.")
        settings = resources(request).settings
        raw = await read_whole(request, limit=settings.body_max_bytes, timeout_s=settings.body_timeout_s)
        parsed = parse_json(raw, max_depth=settings.json_max_depth)
        canonical = json.dumps(parsed, sort_keys=True, separators=(",", ":")).encode()
        return Sent(value=validate(model, parsed), sha256=hashlib.sha256(canonical).digest())

    return read


def media_type(request: Request) -> str:
    """The content type without its parameters, in lower case; empty where there is none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def declared_length(request: Request) -> int | None:
    """The body's length as the client states it; None where it states none."""
    stated = request.headers.get("content-length", "")
    return int(stated) if stated.isascii() and stated.isdigit() else None


async def read_whole(request: Request, *, limit: int, timeout_s: float) -> bytes:
    """The body. Raises BodyTooLarge and BodyTimeout."""
    too_large = BodyTooLarge(f"A body may have at most {limit} bytes.")
    if (declared_length(request) or 0) > limit:
        raise too_large
    raw = bytearray()
    try:
        with anyio.fail_after(timeout_s):
            async for chunk in request.stream():
                raw += chunk
                if len(raw) > limit:
                    raise too_large
    except (TimeoutError, ClientDisconnect):
        raise BodyTimeout(f"The body did not arrive whole within {timeout_s:g} seconds.") from None
    return bytes(raw)


def parse_json(raw: bytes, *, max_depth: int = 16) -> dict[str, Any]:
    """An object of JSON as RFC 8259 has it, and no more: no NaN, no overflow, no key twice, no NUL, no lone surrogate.

    Raises:
        InvalidJson: with the reason and without the text.
    """
    try:
        parsed = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_unique_keys,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_bounded,
        )
    except UnicodeDecodeError:
        raise _invalid("it is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise _invalid(f"{error.msg} at line {error.lineno} column {error.colno}") from None
    except RecursionError:
        raise _too_deep(max_depth) from None
    if not isinstance(parsed, dict):
        raise _invalid("the body must be an object")
    _check_text_and_depth(parsed, max_depth)
    return parsed


def _invalid(reason: str) -> InvalidJson:
    return InvalidJson(f"The body is not acceptable JSON: {reason}.")


def _too_deep(max_depth: int) -> InvalidJson:
    return _invalid(f"it nests deeper than {max_depth} levels")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise _invalid("an object has the same key twice")
    return made


def _refuse_constant(_name: str) -> float:
    raise _invalid("NaN and Infinity are not JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise _invalid("a number is too large")
    return value


def _bounded(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise _invalid(f"an integer has more than {MAX_DIGITS} digits")
    return int(digits)


def _check_text_and_depth(parsed: dict[str, Any], max_depth: int) -> None:
    pending: list[tuple[Any, int]] = [(parsed, 1)]
    while pending:
        value, depth = pending.pop()
        if isinstance(value, str):
            if "\x00" in value or any("\ud800" <= character <= "\udfff" for character in value):
                raise _invalid("a string holds a NUL or half of a surrogate pair")
        elif isinstance(value, (dict, list)):
            if depth > max_depth:
                raise _too_deep(max_depth)
            inner: Iterable[Any] = [*value.keys(), *value.values()] if isinstance(value, dict) else value
            pending.extend((item, depth + 1) for item in inner)


def validate(model: type[Model], parsed: dict[str, Any]) -> Model:
    """`parsed` as a `model`.

    Raises:
        ValidationFailed: with the path of the first offending field.
    """
    try:
        return model.model_validate(parsed)
    except ValidationError as error:
        faults = error.errors(include_input=False, include_url=False)
    # A union reports once per member; the one that got furthest into the value is the one that was meant.
    fault = max((f for f in faults if f["loc"][:1] == faults[0]["loc"][:1]), key=lambda f: len(f["loc"]))
    path, message = field_path(model, fault["loc"]), fault["msg"].removeprefix("Value error, ")
    refused = fault.get("ctx", {}).get("error")
    if isinstance(refused, FieldRefused):
        # A rule over several fields is the whole object's to pydantic, and knows better itself.
        path = f"{path}.{refused.field}" if path else refused.field
        message = message.removeprefix(f"{refused.field}: ")
    raise ValidationFailed(f"{path}: {message}" if path else message, param=path or None)


def field_path(model: type[BaseModel], loc: tuple[int | str, ...]) -> str:
    """`loc` of a pydantic error as a person writes it: `teacher.hub`, where pydantic says teacher, hub (the union's tag), hub."""
    pieces: list[str] = []
    annotation: Any = model
    for piece in loc:
        members = _members(annotation)
        if len(members) > 1 and isinstance(piece, str):
            annotation = next((m for m in members if _tag(m) == piece), None)
            continue
        if piece != "[key]":
            pieces.append(str(piece))
        annotation = _field(members[0] if members else None, piece)
    return ".".join(pieces)


def _members(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Annotated and _tag(annotation) is None:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [inner for member in get_args(annotation) if member is not type(None) for inner in _members(member)]
    return [annotation]


def _tag(annotation: Any) -> str | None:
    tags = [m.tag for m in getattr(annotation, "__metadata__", ()) if isinstance(m, Tag)]
    return tags[0] if tags else None


def _field(annotation: Any, piece: int | str) -> Any:
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            if piece in (name, field.alias):
                return field.annotation
    return None


JSON_BODY_ERRORS = (InvalidJson, BodyTimeout, BodyTooLarge, UnsupportedMediaType, ValidationFailed)


def json_body_schema(model: type[BaseModel], example: Mapping[str, Any]) -> dict[str, Any]:
    """The `openapi_extra=` of a route whose body `json_body` reads; api/description.py puts the schema it refers to in place."""
    reference = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": reference, "example": example}}}
    }
