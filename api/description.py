"""The OpenAPI description: what FastAPI finds, and the bodies that we read ourselves."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, TypeAdapter

from api.comparisons.schemas import ComparisonSpec
from cpd_engine.config import RunConfig

# The bodies that api/bodies.py reads.
BODIES = (RunConfig, ComparisonSpec)
_REFERENCE = "#/components/schemas/{model}"


def install(app: FastAPI) -> None:
    """Serve the description at /openapi.json."""

    def describe() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = described(app)
        return app.openapi_schema

    app.openapi = describe  # type: ignore[method-assign]  # FastAPI's documented way to extend the description


def described(app: FastAPI) -> dict[str, Any]:
    """What FastAPI finds, and the schema of the bodies that api/bodies.py reads."""
    found = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        routes=app.routes,
        openapi_version=app.openapi_version,
    )
    _drop_invented(found)
    for body in BODIES:
        _add(found, body)
    return found


def _add(found: dict[str, Any], body: type[BaseModel]) -> None:
    schema = TypeAdapter(body).json_schema(ref_template=_REFERENCE, mode="validation")
    inner = schema.pop("$defs") | {body.__name__: schema}
    # A definition of the same name that says something else would make one of the two a lie.
    known = found["components"]["schemas"]
    clash = [name for name, value in inner.items() if known.get(name, value) != value]
    if clash:
        raise RuntimeError(f"two schemas are called {', '.join(clash)}")
    found["components"]["schemas"] = dict(sorted({**known, **inner}.items()))


def _drop_invented(found: dict[str, Any]) -> None:
    """FastAPI gives every route that has a parameter a 422 of its own shape; ours declare theirs, and an id is never invalid."""
    for methods in found["paths"].values():
        for operation in methods.values():
            schema = operation["responses"].get("422", {}).get("content", {}).get("application/json", {}).get("schema")
            if schema == {"$ref": _REFERENCE.format(model="HTTPValidationError")}:
                del operation["responses"]["422"]
    for invented in ("HTTPValidationError", "ValidationError"):
        found["components"]["schemas"].pop(invented, None)
