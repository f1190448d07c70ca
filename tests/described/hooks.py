"""Loaded by schemathesis: which refusals of what the description calls valid are none of its faults, each for a reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import schemathesis
from schemathesis import Case, HookContext, Response
from schemathesis.core.failures import Failure
from schemathesis.openapi.checks import RejectedPositiveData

SPECS = ("/v1/jobs", "/v1/jobs/probe", "/v1/jobs/estimate", "/v1/comparisons")
Refusal = dict[str, Any]
# What JSON schema cannot say. Every other refusal of a request that the schema allows is a lie of the description.
UNSAYABLE: dict[str, Callable[[Case[Any], Refusal], bool]] = {
    "a cursor is opaque: only the service makes one": lambda _, error: error["param"] == "cursor",
    "a string with a NUL is nowhere stored": lambda case, error: (
        error["code"] == "invalid_json" and "\\x00" in repr(case.body)
    ),
    "a key is that of one body": lambda _, error: error["code"] == "idempotency_key_reused",
    "a sum is that of the bytes sent": lambda _, error: error["code"] == "checksum_mismatch",
    "a file of rows is bytes to OpenAPI": lambda case, error: (
        case.path == "/v1/datasets" and error["code"] == "invalid_dataset"
    ),
    "a score is one that the job's rows have": lambda case, error: (
        case.path.endswith("/flips") and error["param"] == "metric"
    ),
    "the fields of a spec have rules with each other, and name what is there": lambda case, error: (
        case.path in SPECS and error["code"] == "validation_error" and bool(error["param"])
    ),
}


@schemathesis.hook
def filter_failure(_context: HookContext, failure: Failure, case: Case[Any], response: Response) -> bool:
    """True where the failure is one."""
    if not isinstance(failure, RejectedPositiveData):
        return True
    error: Refusal = response.json()["error"]
    return not any(meant(case, error) for meant in UNSAYABLE.values())


@schemathesis.serializer("application/jsonl", "application/x-ndjson", "application/json-lines")
def lines(_context: schemathesis.SerializationContext, value: Any) -> bytes:
    """Rows as they are: a string of the description's, or bytes of chance."""
    return value.encode() if isinstance(value, str) else bytes(value)
