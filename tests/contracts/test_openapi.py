"""docs/openapi.json is what the application says of itself, and what it says is true."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from api.core.errors import ServiceError
from api.openapi import text
from cpd_engine.config import RunConfig
from cpd_engine.events import Event

SNAPSHOT = Path(__file__).resolve().parents[2] / "docs" / "openapi.json"
DESCRIPTION: dict[str, Any] = json.loads(SNAPSHOT.read_text(encoding="utf-8"))
SCHEMAS = DESCRIPTION["components"]["schemas"]


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in DESCRIPTION["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def references(value: Any) -> Iterator[str]:
    match value:
        case {"$ref": str(reference), **rest}:
            yield reference
            yield from references(rest)
        case dict():
            for inner in value.values():
                yield from references(inner)
        case list():
            for inner in value:
                yield from references(inner)


def test_the_snapshot_is_current() -> None:
    assert SNAPSHOT.read_text(encoding="utf-8") == text(), "run: make openapi"


def test_every_reference_leads_somewhere() -> None:
    leads = {reference.removeprefix("#/components/schemas/") for reference in references(DESCRIPTION)}

    assert leads <= set(SCHEMAS)


def test_every_error_is_declared_with_the_envelope() -> None:
    for name, operation in operations():
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                schema = response["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/ErrorEnvelope"}, f"{name} {status}"


def test_every_guarded_call_declares_what_the_guard_answers() -> None:
    for name, operation in operations():
        if " /v1/" in name:
            assert operation["security"] == [{"ApiKey": []}], name
            assert {"401", "403", "414", "429", "500", "503"} <= set(operation["responses"]), name


def test_the_body_of_a_submission_is_the_engine_s_own_config() -> None:
    for path in ("/v1/jobs", "/v1/jobs/estimate"):
        body = DESCRIPTION["paths"][path]["post"]["requestBody"]
        assert body["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/RunConfig"}
    assert set(SCHEMAS["RunConfig"]["properties"]) == set(RunConfig.model_fields)
    assert SCHEMAS["RunConfig"]["additionalProperties"] is False


def test_the_event_union_is_made_of_the_engine_s_own_classes() -> None:
    kinds = SCHEMAS["EventPage"]["properties"]["data"]["items"]["discriminator"]["mapping"]

    assert set(kinds) == {event.__dataclass_fields__["kind"].default for event in get_args(Event)} | {"state_changed"}


def test_no_error_type_is_said_that_the_errors_do_not_know() -> None:
    said = set(SCHEMAS["ErrorBody"]["properties"]["type"]["enum"])
    raised = {error.type for error in ServiceError.__subclasses__()} | {ServiceError.type}

    assert raised == said
