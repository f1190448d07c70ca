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


def install(app: FastAPI, *, page_max: int) -> None:
    """Serve the description at /openapi.json. `page_max`: rows a page has at most."""

    def describe() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = described(app, page_max=page_max)
        return app.openapi_schema

    app.openapi = describe  # type: ignore[method-assign]  # FastAPI's documented way to extend the description


def described(app: FastAPI, *, page_max: int) -> dict[str, Any]:
    """What FastAPI finds, made true of parameters, and the schema of the bodies that api/bodies.py reads."""
    found = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        routes=app.routes,
        openapi_version=app.openapi_version,
    )
    _drop_invented(found)
    for methods in found["paths"].values():
        for operation in methods.values():
            for parameter in operation.get("parameters", []):
                parameter["schema"] = _of_parameter(parameter, page_max)
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


def _of_parameter(parameter: dict[str, Any], page_max: int) -> dict[str, Any]:
    """FastAPI lets what may be left out be null as well, and no header or query has a null; the longest page is a setting."""
    schema = dict(parameter["schema"])
    kinds = [kind for kind in schema.pop("anyOf", []) if kind != {"type": "null"}]
    schema |= kinds[0] if len(kinds) == 1 else {"anyOf": kinds} if kinds else {}
    return schema | {"maximum": page_max} if parameter["name"] == "limit" else schema


def _drop_invented(found: dict[str, Any]) -> None:
    """FastAPI gives every route that has a parameter a 422 of its own shape; ours declare theirs, and an id is never invalid."""
    for methods in found["paths"].values():
        for operation in methods.values():
            schema = operation["responses"].get("422", {}).get("content", {}).get("application/json", {}).get("schema")
            if schema == {"$ref": _REFERENCE.format(model="HTTPValidationError")}:
                del operation["responses"]["422"]
    for invented in ("HTTPValidationError", "ValidationError"):
        found["components"]["schemas"].pop(invented, None)
