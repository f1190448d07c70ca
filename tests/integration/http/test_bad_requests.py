"""Requests that no client should send: each has its status, its code and its parameter, none a 500, and none sees its input again."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace

import httpx
import pytest

from tests.integration.http.api import ROWS, Api
from tests.integration.http.bad_requests import (
    ADDRESSES,
    BODIES,
    CANARY,
    JSON,
    MEDIA,
    QUERIES,
    RULES,
    SPECS,
    UPLOAD,
    Bad,
)
from tests.integration.http.bad_requests_by_route import BY_ROUTE
from tests.integration.http.test_access import CALLS, fill

CASES = [*BODIES, *SPECS, *RULES, *QUERIES, *ADDRESSES, *MEDIA, *BY_ROUTE]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What is there when bad requests come: a job that waits for its data set, one that has ended, a comparison under way."""

    job: str
    ended: str
    dataset: str
    comparison: str

    def named_in(self, case: Bad) -> Bad:
        """The case with the ids in place of their names."""
        url, body = case.url, case.body
        for name in ("job", "ended", "dataset", "comparison"):
            row_id = getattr(self, name)
            url = url.replace(f"<{name}>", row_id)
            body = body and body.replace(f"<{name}>".encode(), row_id.encode())
        return replace(case, url=url, body=body)


@pytest.fixture
def rows(api: Api) -> Rows:
    ended = api.submit()
    fill(api, ended)
    dataset = api.upload(ROWS)
    comparison = api.compare(seeds=[0])
    return Rows(job=api.submit(dataset={"train": dataset}), ended=ended, dataset=dataset, comparison=comparison)


def test_there_are_enough_bad_requests_and_each_has_its_name() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 150


def test_every_guarded_route_has_its_bad_requests() -> None:
    """By method and the constant pieces of the path."""
    given = [(case.method, case.url.partition("?")[0].split("/")) for case in CASES]
    untried = [
        f"{method} {path}"
        for method, path in CALLS
        if path.startswith("/v1/") and method != "HEAD" and not any(matches(method, path, case) for case in given)
    ]

    assert untried == []


def matches(method: str, path: str, case: tuple[str, list[str]]) -> bool:
    wanted, (tried, pieces) = path.split("/"), case
    if ":path}" in path or path.endswith("{path}"):
        pieces = pieces[: len(wanted)]
    return (
        tried == method
        and len(wanted) == len(pieces)
        and all(w == p or "{" in w for w, p in zip(wanted, pieces, strict=True))
    )


def test_every_bad_request_gets_its_refusal_and_nothing_else(api: Api, rows: Rows) -> None:
    before = list(everything(api))
    wrong = [said for case in CASES for said in complaints(case, send(api, rows.named_in(case)))]

    assert wrong == []
    assert list(everything(api)) == before
    assert not list((api.backend.settings.scratch_dir / "uploads").glob("*"))


def complaints(case: Bad, answer: httpx.Response) -> Iterator[str]:
    """What is wrong with the answer to a bad request."""
    if answer.is_success:
        yield f"{case.name}: it was served"
        return
    if outcome(answer) != (case.status, case.code, case.param):
        yield f"{case.name}: {outcome(answer)} instead of {(case.status, case.code, case.param)}"
    if CANARY in answer.text or len(answer.content) > 4096:
        yield f"{case.name}: the answer repeats what was sent, or is too long"
    if answer.headers["x-request-id"] != answer.json()["error"]["request_id"]:
        yield f"{case.name}: no request id"


def everything(api: Api) -> Iterator[tuple[str, str]]:
    """Every row that the owner sees, with its state."""
    for address in ("/v1/jobs", "/v1/datasets", "/v1/comparisons", "/v1/files", "/v1/fine_tuning/jobs"):
        for row in api.owner.get(address).json()["data"]:
            yield row["id"], row.get("state", "")


@pytest.mark.parametrize("address", ["/v1/jobs/estimate", "/v1/jobs/probe"])
def test_estimates_and_probes_refuse_what_jobs_refuse(api: Api, address: str) -> None:
    cases = (*BODIES, *SPECS, *RULES)

    assert [said for case in cases for said in complaints(case, send(api, replace(case, url=address)))] == []


@pytest.mark.parametrize("address", ["/v1/comparisons", "/v1/fine_tuning/jobs"])
def test_what_is_no_json_is_refused_alike_everywhere(api: Api, address: str) -> None:
    assert [said for case in BODIES for said in complaints(case, send(api, replace(case, url=address)))] == []


def send(api: Api, case: Bad) -> httpx.Response:
    return api.owner.request(case.method, case.url, content=case.body, headers=dict(case.headers))


def outcome(answer: httpx.Response) -> tuple[int, str, str | None]:
    error = answer.json()["error"]
    assert error.keys() == {"type", "code", "message", "param", "request_id"}
    assert error["message"]
    return answer.status_code, error["code"], error["param"]


def test_a_body_that_does_not_arrive_is_given_up(api: Api) -> None:
    for address, media in (("/v1/jobs", "application/json"), (UPLOAD, "application/jsonl")):
        head = f"POST {address} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.keys['owner']}\r\n"
        said = answer_to(api, f"{head}Content-Type: {media}\r\nContent-Length: 100\r\n\r\n{{".encode())

        assert b" 408 " in said
        assert b'"code":"body_timeout"' in said
        assert b"connection: close" in said.lower()


def test_a_refused_method_is_answered_with_all_that_the_address_has(api: Api, rows: Rows) -> None:
    allowed = {
        f"/v1/datasets/{rows.dataset}": "DELETE, GET",
        "/v1/jobs": "GET, POST",
        "/v1/jobs/estimate": "POST",
        f"/v1/datasets/{rows.dataset}/content": "GET, HEAD",
        f"/v1/jobs/{rows.job}/cancel": "POST",
    }

    assert {address: api.owner.put(address).headers["allow"] for address in allowed} == allowed


def test_a_body_without_stated_length_is_cut_off_at_the_limit(api: Api) -> None:
    pieces = (b" " * 65_536 for _ in range(32))
    answer = api.owner.post("/v1/jobs", content=pieces, headers=JSON)

    assert outcome(answer) == (413, "body_too_large", None)


def answer_to(api: Api, request: bytes) -> bytes:
    """Everything that the server says to these bytes until it hangs up."""
    host, port = api.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65_536), b""))
