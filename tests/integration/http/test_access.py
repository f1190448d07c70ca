"""Who may do what: every route of the application × every kind of caller. A route without an entry fails."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts

from api.core.db import transaction
from api.keys.service import create_key, revoke_key
from api.keys.tables import ApiKey
from api.web.pages import PageRoute
from tests.integration.http.api import COMPARISON, JSONL, ROWS, SPEC, Api
from tests.integration.http.browsing import browser


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """How a route is called so that its owner is served, and what it needs.

    `private` routes name a row of one tenant, of which a stranger hears as of one that is not there. A `page` is asked for by a
    browser that has logged in, and sends `fields` as its forms do.
    """

    scope: str | None
    private: bool
    body: Any = None
    content: bytes | None = None
    form: dict[str, Any] | None = None
    stranger: str = "not_found"
    owner: str = "served"
    query: str = ""
    page: bool = False
    fields: dict[str, str] = field(default_factory=dict)


READ = Call(scope="read", private=True)
WRITE = Call(scope="write", private=True)
LIST = Call(scope="read", private=False)
OPEN = Call(scope=None, private=False)
PAGE = replace(READ, page=True)
PAGE_LIST = replace(LIST, page=True)
PAGE_OPEN = replace(OPEN, page=True)
FORM = replace(WRITE, page=True)
# Its rows are one person's, put in as the call is made.
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "x"}]}
PROMPT: dict[str, Any] = {"prompt": "x"}
WEBHOOK = {"name": "x", "url": "http://127.0.0.1:9/", "event_types": ["fine_tuning.job.failed"]}
COMPLETION: dict[str, Any] = {"part_ids": []}
COMPARING = {
    "base": "teacher: {tiny: gpt2}\nstudent: {tiny: gpt2}\ndataset: {synthetic: {}}",
    "seeds": "0",
    "baseline": "sft",
    "method-sft": "1",
}
FINE_TUNING = {"model": "from-teacher:1", "training_file": "", "teacher": {"tiny": "gpt2"}}
CALLS: dict[tuple[str, str], Call] = {
    ("POST", "/v1/datasets"): Call(scope="write", private=False, content=ROWS, query="?name=rows.jsonl"),
    ("GET", "/v1/datasets"): LIST,
    ("GET", "/v1/datasets/{dataset_id}"): READ,
    ("GET", "/v1/datasets/{dataset_id}/content"): READ,
    ("HEAD", "/v1/datasets/{dataset_id}/content"): READ,
    ("DELETE", "/v1/datasets/{dataset_id}"): WRITE,
    ("POST", "/v1/jobs"): Call(scope="write", private=False, body=SPEC),
    ("POST", "/v1/jobs/estimate"): Call(scope="read", private=False, body=SPEC),
    ("POST", "/v1/jobs/probe"): Call(scope="write", private=False, body=SPEC),
    ("GET", "/v1/jobs"): LIST,
    ("GET", "/v1/usage"): LIST,
    ("GET", "/v1/jobs/{job_id}"): READ,
    ("POST", "/v1/jobs/{job_id}/cancel"): WRITE,
    ("POST", "/v1/jobs/{job_id}/pause"): WRITE,
    ("POST", "/v1/jobs/{job_id}/resume"): WRITE,
    ("GET", "/v1/jobs/{job_id}/events"): READ,
    ("GET", "/v1/jobs/{job_id}/metrics"): READ,
    ("GET", "/v1/jobs/{job_id}/difficulty"): READ,
    ("GET", "/v1/jobs/{job_id}/evaluation"): READ,
    ("GET", "/v1/jobs/{job_id}/samples"): READ,
    ("GET", "/v1/jobs/{job_id}/flips"): READ,
    ("GET", "/v1/jobs/{job_id}/report"): READ,
    ("HEAD", "/v1/jobs/{job_id}/report"): READ,
    ("GET", "/v1/jobs/{job_id}/figures/{name}"): READ,
    ("GET", "/v1/jobs/{job_id}/checkpoints"): READ,
    ("GET", "/v1/jobs/{job_id}/checkpoints/{name}"): READ,
    ("GET", "/v1/jobs/{job_id}/checkpoints/{name}/download"): READ,
    ("HEAD", "/v1/jobs/{job_id}/checkpoints/{name}/download"): READ,
    ("GET", "/v1/jobs/{job_id}/checkpoints/{name}/files/{path}"): READ,
    ("HEAD", "/v1/jobs/{job_id}/checkpoints/{name}/files/{path}"): READ,
    ("POST", "/v1/comparisons"): Call(scope="write", private=False, body=COMPARISON | {"seeds": [0]}),
    ("GET", "/v1/comparisons"): LIST,
    ("GET", "/v1/comparisons/{comparison_id}"): READ,
    ("POST", "/v1/comparisons/{comparison_id}/cancel"): WRITE,
    ("POST", "/v1/comparisons/{comparison_id}/table"): WRITE,
    ("GET", "/v1/comparisons/{comparison_id}/figure.png"): READ,
    ("HEAD", "/v1/comparisons/{comparison_id}/figure.png"): READ,
    ("GET", "/v1/comparisons/{comparison_id}/figure.json"): READ,
    ("HEAD", "/v1/comparisons/{comparison_id}/figure.json"): READ,
    ("GET", "/v1/comparisons/{comparison_id}/figures/{name}"): READ,
    ("GET", "/v1/comparisons/{comparison_id}/report"): READ,
    ("HEAD", "/v1/comparisons/{comparison_id}/report"): READ,
    ("POST", "/v1/files"): Call(
        scope="write", private=False, form={"file": ("rows.jsonl", ROWS), "purpose": (None, "fine-tune")}
    ),
    ("GET", "/v1/files"): LIST,
    ("GET", "/v1/files/{file_id}"): READ,
    ("GET", "/v1/files/{file_id}/content"): READ,
    ("DELETE", "/v1/files/{file_id}"): WRITE,
    ("POST", "/v1/fine_tuning/jobs"): Call(scope="write", private=True, body=FINE_TUNING, stranger="validation_error"),
    ("GET", "/v1/fine_tuning/jobs"): LIST,
    ("GET", "/v1/fine_tuning/jobs/{job_id}"): READ,
    ("POST", "/v1/fine_tuning/jobs/{job_id}/cancel"): WRITE,
    ("POST", "/v1/fine_tuning/jobs/{job_id}/pause"): WRITE,
    ("POST", "/v1/fine_tuning/jobs/{job_id}/resume"): WRITE,
    ("GET", "/v1/fine_tuning/jobs/{job_id}/events"): READ,
    ("GET", "/v1/fine_tuning/jobs/{job_id}/checkpoints"): READ,
    ("POST", "/v1/uploads"): Call(
        scope="write",
        private=False,
        body={"bytes": len(ROWS), "filename": "rows.jsonl", "mime_type": "text/jsonl", "purpose": "fine-tune"},
    ),
    ("POST", "/v1/uploads/{upload_id}/parts"): Call(scope="write", private=True, form={"data": ("part", ROWS)}),
    ("POST", "/v1/uploads/{upload_id}/complete"): Call(scope="write", private=True, body=COMPLETION),
    ("POST", "/v1/uploads/{upload_id}/cancel"): WRITE,
    ("GET", "/v1/models"): LIST,
    ("GET", "/v1/models/{name:path}"): READ,
    ("DELETE", "/v1/models/{name:path}"): WRITE,
    # No worker is up that answers; that is asked when it is known that the model may be.
    ("POST", "/v1/chat/completions"): Call(scope="write", private=True, body=CHAT, owner="no_model_server"),
    ("POST", "/v1/completions"): Call(scope="write", private=True, body=PROMPT, owner="no_model_server"),
    ("GET", "/v1/webhook_event_types"): LIST,
    ("POST", "/v1/webhook_endpoints"): Call(scope="write", private=False, body=WEBHOOK),
    ("GET", "/v1/webhook_endpoints"): LIST,
    ("GET", "/v1/webhook_endpoints/{endpoint_id}"): READ,
    ("POST", "/v1/webhook_endpoints/{endpoint_id}"): Call(scope="write", private=True, body={"name": "other"}),
    ("DELETE", "/v1/webhook_endpoints/{endpoint_id}"): WRITE,
    ("POST", "/v1/webhook_endpoints/{endpoint_id}/rotate_secret"): Call(scope="write", private=True, body={}),
    ("POST", "/v1/webhook_endpoints/{endpoint_id}/test"): Call(
        scope="write", private=True, body={"event_type": "fine_tuning.job.failed"}
    ),
    ("GET", "/v1/webhook_endpoints/{endpoint_id}/deliveries"): READ,
    ("GET", "/healthz"): OPEN,
    ("HEAD", "/healthz"): OPEN,
    ("GET", "/readyz"): OPEN,
    ("HEAD", "/readyz"): OPEN,
    ("GET", "/metrics"): OPEN,
    ("GET", "/openapi.json"): OPEN,
    ("HEAD", "/openapi.json"): OPEN,
    ("GET", "/"): PAGE_LIST,
    ("GET", "/compare"): PAGE_LIST,
    ("GET", "/compare/losses"): replace(PAGE_LIST, query="?job=job_none"),
    ("GET", "/comparisons/new"): PAGE_LIST,
    ("POST", "/comparisons/new"): replace(FORM, private=False, fields=COMPARING),
    ("GET", "/jobs"): PAGE_OPEN,
    ("GET", "/jobs/{job_id}"): PAGE,
    ("GET", "/jobs/{job_id}/try"): PAGE,
    ("POST", "/jobs/{job_id}/try"): replace(FORM, fields={"question": "x"}),
    ("POST", "/jobs/{job_id}/try/{who}"): replace(FORM, fields={"question": "x"}),
    ("GET", "/jobs/{job_id}/difficulty"): PAGE,
    ("GET", "/jobs/{job_id}/quality"): PAGE,
    ("GET", "/jobs/{job_id}/report"): PAGE,
    ("GET", "/jobs/{job_id}/answers"): PAGE,
    ("GET", "/jobs/{job_id}/figures/{name}"): PAGE,
    ("GET", "/comparisons"): PAGE_LIST,
    ("GET", "/comparisons/{comparison_id}"): PAGE,
    ("POST", "/comparisons/{comparison_id}/cancel"): FORM,
    ("GET", "/comparisons/{comparison_id}/report"): PAGE,
    ("GET", "/comparisons/{comparison_id}/figures/{name}"): PAGE,
    ("GET", "/datasets"): PAGE_LIST,
    ("POST", "/datasets"): Call(scope="write", private=False, page=True, form={"file": ("rows.jsonl", ROWS)}),
    ("GET", "/datasets/{dataset_id}"): PAGE,
    ("POST", "/datasets/{dataset_id}/delete"): FORM,
    ("GET", "/submit"): PAGE_LIST,
    ("POST", "/submit"): Call(
        scope="write",
        private=False,
        page=True,
        fields={"teacher": "tiny:gpt2", "student": "from-teacher:1", "advanced": "dataset: {synthetic: {rows: 1200}}"},
    ),
    ("GET", "/jobs/{job_id}/stream"): PAGE,
    ("POST", "/jobs/{job_id}/cancel"): FORM,
    ("POST", "/jobs/{job_id}/pause"): FORM,
    ("POST", "/jobs/{job_id}/resume"): FORM,
    ("GET", "/jobs/{job_id}/checkpoints/{name}/download"): PAGE,
    ("GET", "/jobs/{job_id}/checkpoints/{name}/files/{path}"): PAGE,
    ("GET", "/login"): PAGE_OPEN,
    ("POST", "/login"): replace(PAGE_OPEN, fields={"next": "/"}),
    ("POST", "/logout"): PAGE_LIST,
    ("GET", "/static/{name}"): PAGE_OPEN,
    ("HEAD", "/static/{name}"): PAGE_OPEN,
}


def routes(app: FastAPI) -> Iterator[tuple[str, str]]:
    """(method, path) of everything that the application answers."""
    for context in iter_route_contexts(app.routes):
        path = (context.path or "").replace("{path:path}", "{path}")
        for method in context.methods or ():
            yield method, path


def test_every_route_has_an_entry_and_every_entry_a_route(api: Api) -> None:
    assert set(routes(api.app)) == set(CALLS)


def test_a_caller_gets_just_what_its_key_is_for(api: Api) -> None:
    wrong = []
    for (method, path), call in CALLS.items():
        address = real(api, path) + call.query
        own = call
        if call.body is FINE_TUNING:
            own = replace(call, body=FINE_TUNING | {"training_file": api.upload()})
        elif call.body is CHAT or call.body is PROMPT:
            own = replace(call, body=call.body | {"model": asked(api)})
        elif call.body is COMPLETION:
            own = replace(call, body={"part_ids": [part_of(api, address)]})
        for who, expected in expectations(call).items():
            got = (
                visited(api, who, method, address, own)
                if call.page
                else verdict(send(getattr(api, who), method, address, own))
            )
            if got not in expected:
                wrong.append(f"{method} {path} as {who}: {got} instead of {expected}")

    assert wrong == []


def expectations(call: Call) -> dict[str, set[str]]:
    """What each kind of caller may be told. The owner comes last, for what it does may end the row."""
    served = {"served"}
    anonymous = served if call.scope is None else {"missing_api_key"}
    reader = {"insufficient_scope"} if call.scope == "write" else served
    other = {call.stranger} if call.private else served
    return {"anonymous": anonymous, "reader": reader, "other": other, "owner": {call.owner}}


def real(api: Api, path: str) -> str:
    """The path with the ids of rows that exist, new ones for each route."""
    if path == "/static/{name}":
        return "/static/style.css"
    for rows in ("{dataset_id}", "{file_id}"):
        if rows in path:
            return path.replace(rows, api.upload())
    if "{upload_id}" in path:
        declared = CALLS["POST", "/v1/uploads"].body
        return path.replace("{upload_id}", api.owner.post("/v1/uploads", json=declared).json()["id"])
    if "{endpoint_id}" in path:
        # Something that answers: this very service.
        sent = WEBHOOK | {"url": f"{api.url}/healthz"}
        return path.replace("{endpoint_id}", api.owner.post("/v1/webhook_endpoints", json=sent).json()["id"])
    if path == "/v1/models/{name:path}":
        job_id = api.submit()
        fill(api, job_id)
        return f"/v1/models/ft:{job_id}:model"
    if "{comparison_id}" in path:
        make_room(api)
        comparison_id = api.compare(seeds=[0])
        if not path.endswith("/cancel"):
            api.end_members(comparison_id)
            api.make_table(comparison_id)
        return path.format(comparison_id=comparison_id, name="methods")
    if "{job_id}" not in path:
        return path
    job_id = api.submit()
    if not path.endswith(("/cancel", "/pause", "/resume")):
        fill(api, job_id)
    else:
        make_room(api)
    return path.format(
        job_id=job_id, name="profile" if "/figures/" in path else "model", path="model.safetensors", who="student"
    )


def asked(api: Api) -> str:
    """The name of a finished model that could be asked."""
    hold = api.claim(api.submit())
    files = {"manifest.json": b"{}", "config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors": b"weights"}
    api.seal(hold, "model", files)
    api.succeed(hold)
    return f"ft:{hold.job_id}:model"


def part_of(api: Api, address: str) -> str:
    """The one part of the upload that is to be completed."""
    parts = address.replace("/complete", "/parts")
    return str(api.owner.post(parts, files={"data": ("part", ROWS)}).json()["id"])


def fill(api: Api, job_id: str) -> None:
    """Give a job everything that a route may be asked for, and let it end."""
    hold = api.claim(job_id)
    lists = "k cumulative histogram_edges histogram_counts targets subset_sizes mixing temperatures easiest hardest"
    empty: dict[str, list[Any]] = {name: [] for name in lists.split()}
    api.say(
        hold,
        (
            "profile_ready",
            {"difficulty": "ce_mean", "samples": 0, "unscored": 0, "descending": False, "mean": 0.0, **empty},
        ),
    )
    api.seal(hold, "model", {"manifest.json": b"{}", "model.safetensors": b"weights"})
    api.seal(hold, "report", {"manifest.json": b"{}", "samples.jsonl": b""}, role="phase")
    api.succeed(hold)


def make_room(api: Api) -> None:
    """Let the jobs that earlier routes left queued end, but for the newest."""
    waiting = api.owner.get("/v1/jobs", params={"state": "queued"}).json()["data"]
    for job in waiting[1:]:
        api.owner.post(f"/v1/jobs/{job['id']}/cancel")


def send(client: httpx.Client, method: str, address: str, call: Call) -> httpx.Response:
    headers = JSONL if call.content else {}
    return client.request(method, address, json=call.body, content=call.content, files=call.form, headers=headers)


def verdict(answer: httpx.Response) -> str:
    """`served`, or the code of the refusal; of HEAD, which has no body, by status."""
    if answer.is_success:
        return "served"
    by_status = {401: "missing_api_key", 403: "insufficient_scope", 404: "not_found"}
    return str(answer.json()["error"]["code"]) if answer.content else by_status.get(answer.status_code, "failed")


def visited(api: Api, who: str, method: str, address: str, call: Call) -> str:
    """The same for a page, which refuses by leading to the log-in or by a page with the refusal's status."""
    with browser(api, who) as client:
        fields = call.fields | ({"key": api.keys["owner"]} if address == "/login" else {})
        sends = method == "POST"
        answer = client.submit(address, fields, files=call.form) if sends else client.http.request(method, address)
    if answer.is_success:
        return "served"
    if answer.status_code == 303:
        return "missing_api_key" if answer.headers["location"].startswith("/login?") else "served"
    return {403: "insufficient_scope", 404: "not_found"}.get(answer.status_code, str(answer.status_code))


def test_a_key_that_is_not_one_opens_nothing(api: Api) -> None:
    good = api.keys["owner"]
    wrong = [
        f"{good}0",
        good[:-1] + ("0" if good[-1] != "0" else "1"),
        good.upper(),
        "cpd__",
        "bogus",
        f"cpd_{'0' * 12}_{'0' * 48}",
    ]
    for key in wrong:
        answer = api.anonymous.get("/v1/jobs", headers={"authorization": f"Bearer {key}"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key"), key
        assert key not in answer.text
    for header in ("", "Bearer", f"Basic {good}", good):
        answer = api.anonymous.get("/v1/jobs", headers={"authorization": header})
        assert answer.json()["error"]["code"] in {"missing_api_key", "invalid_api_key"}, header


def test_a_key_ends_when_it_is_revoked_or_its_time_is_over(api: Api) -> None:
    revoked = api.new_key("read")
    now = datetime.now(UTC)
    with transaction(api.backend.make) as session:
        expired = create_key(session, name="old", scopes=["read"], tenant="test", expires_at=now - timedelta(hours=1))
        valid = create_key(session, name="new", scopes=["read"], tenant="test", expires_at=now + timedelta(hours=1))
        assert revoke_key(session, revoked.split("_")[1])
        assert not revoke_key(session, revoked.split("_")[1])
    statuses = [
        api.anonymous.get("/v1/jobs", headers={"authorization": f"Bearer {key}"}).status_code
        for key in (revoked, expired, valid)
    ]

    assert statuses == [401, 401, 200]


def test_a_key_is_kept_as_its_hash_alone(api: Api) -> None:
    key = api.keys["owner"]
    with transaction(api.backend.make) as session:
        row = session.get_one(ApiKey, key.split("_")[1])
        kept = " ".join(str(value) for value in vars(row).values())

    assert row.sha256 == hashlib.sha256(key.encode()).digest()
    assert key.split("_")[2] not in kept


def test_no_answer_lets_another_site_s_page_read_it(api: Api) -> None:
    for address in ("/v1/jobs", "/healthz", "/nothing"):
        answer = api.owner.get(address, headers={"origin": "https://evil.example"})
        assert not [name for name in answer.headers if name.startswith("access-control-")]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert answer.headers["cache-control"] == "no-store"
    assert api.owner.options("/v1/jobs", headers={"origin": "https://evil.example"}).status_code == 405


def test_the_api_s_routes_are_all_of_one_kind(api: Api) -> None:
    kinds = {
        type(context.original_route)
        for context in iter_route_contexts(api.app.routes)
        if context.path != "/openapi.json"
    }

    assert kinds == {APIRoute, PageRoute}
