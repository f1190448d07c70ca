"""The client against a transport that answers from a script: retries, errors, streams, downloads."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.client import Client
from api.jobs.states import JobState
from api.remote.find import api_key, server_url
from api.remote.transport import Patience
from api.remote.trouble import BadInput, Damaged, Refused, ServerUnreachable

Handler = Callable[[httpx.Request], httpx.Response]
JOB = {"id": "job_1", "object": "job", "state": "queued", "created_at": "2026-01-01T00:00:00Z"}
SPEC = {"teacher": {"tiny": "gpt2"}, "student": {"tiny": "gpt2"}, "dataset": {"train": "ds_12345678"}}


class Script:
    """Answers requests one after the other and keeps them; an exception in the script is raised instead."""

    def __init__(self, *steps: httpx.Response | Exception | Handler) -> None:
        self.steps = list(steps)
        self.requests: list[httpx.Request] = []
        self.waits_s: list[float] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step if isinstance(step, httpx.Response) else step(request)

    def client(self) -> Client:
        patience = Patience(attempts=3, sleep=self.waits_s.append, chance=lambda: 0.0)
        return Client("http://cpd.test", "cpd_a_b", patience=patience, transport=httpx.MockTransport(self))


def refusal(status: int, code: str, **headers: str) -> httpx.Response:
    body = {"error": {"type": "x", "code": code, "message": "Do this.", "param": "epochs", "request_id": "req_1"}}
    return httpx.Response(status, json=body, headers=headers)


def test_a_read_is_repeated_after_503_and_a_broken_connection() -> None:
    script = Script(refusal(503, "database_unavailable"), httpx.ReadError("reset"), httpx.Response(200, json=JOB))
    assert script.client().job("job_1").state is JobState.QUEUED
    assert script.waits_s == [0.25, 0.5]


def test_the_service_says_how_long_to_wait() -> None:
    script = Script(refusal(429, "rate_limited", **{"retry-after": "7"}), httpx.Response(200, json=JOB))
    script.client().job("job_1")
    assert script.waits_s == [7.0]


def test_submit_repeats_under_one_idempotency_key() -> None:
    script = Script(httpx.ReadTimeout("late"), refusal(409, "idempotency_in_flight"), httpx.Response(202, json=JOB))
    assert script.client().submit(SPEC).id == "job_1"
    keys = {request.headers["idempotency-key"] for request in script.requests}
    assert len(script.requests) == 3
    assert len(keys) == 1


def test_an_upload_that_may_have_arrived_is_not_sent_twice(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'{"prompt":"a","completion":"b"}\n')
    script = Script(httpx.ReadError("reset"))
    with pytest.raises(ServerUnreachable):
        script.client().upload_dataset(file)
    assert len(script.requests) == 1


def data_set(name: str, sha256: str, **more: Any) -> dict[str, Any]:
    known = {"id": name, "name": "rows.jsonl", "format": "prompt", "rows": 2, "bad_rows": 0, "size_bytes": 9}
    return known | {"sha256": sha256, "created_at": "2026-01-01T00:00:00Z"} | more


def test_of_data_sets_of_a_file_s_bytes_the_first_that_stays_is_found(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'{"prompt":"a","completion":"b"}\n')
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    # Newest first, as the service lists them; one that knows no such filter lists all that there are.
    listed = [
        data_set("ds_new", sha256),
        data_set("ds_old", sha256),
        data_set("ds_brief", sha256, expires_at="2026-02-01T00:00:00Z"),
        data_set("ds_other", "0" * 64),
    ]
    script = Script(httpx.Response(200, json={"data": listed}), httpx.Response(200, json={"data": listed[2:]}))
    client = script.client()
    found = client.uploaded(file)
    assert found is not None
    assert found.id == "ds_old"
    assert client.uploaded(file) is None
    assert script.requests[0].url.params["sha256"] == sha256


def test_an_upload_names_its_size_and_checksum_and_is_sent_whole_after_a_429(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'{"prompt":"a","completion":"b"}\n' * 100_000)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    answer = data_set("ds_1", sha256, rows=100_000)
    script = Script(refusal(429, "rate_limited"), httpx.Response(201, json=answer))
    seen: list[tuple[int, int | None]] = []
    assert script.client().upload_dataset(file, on_bytes=lambda done, of: seen.append((done, of))).rows == 100_000
    for request in script.requests:
        assert request.content == file.read_bytes()
        assert request.headers["x-checksum-sha256"] == sha256
        assert request.headers["content-length"] == str(file.stat().st_size)
        assert "transfer-encoding" not in request.headers
    assert seen[-1] == (file.stat().st_size, file.stat().st_size)


@pytest.mark.parametrize(
    ("status", "exit_code"),
    [(400, 2), (422, 2), (413, 2), (401, 3), (403, 3), (404, 3), (410, 3), (409, 6), (500, 4), (503, 4), (429, 4)],
)
def test_a_refusal_names_field_and_code_and_has_an_exit_code(status: int, exit_code: int) -> None:
    script = Script(*(refusal(status, "some_code") for _ in range(3)))
    with pytest.raises(Refused, match=r"epochs: Do this\. \(some_code\)") as caught:
        script.client().job("job_1")
    assert caught.value.exit_code == exit_code
    assert caught.value.request_id == "req_1"


def test_an_answer_that_is_no_envelope_still_becomes_a_refusal() -> None:
    script = Script(httpx.Response(404, text="<html>"))
    with pytest.raises(Refused, match="http_404"):
        script.client().job("job_1")


def test_no_server_is_told_in_one_line_with_the_remedy() -> None:
    script = Script(*(httpx.ConnectError("refused") for _ in range(3)))
    with pytest.raises(ServerUnreachable, match="cpd serve") as caught:
        script.client().job("job_1")
    assert "\n" not in str(caught.value)


def test_lists_are_read_page_by_page() -> None:
    first = httpx.Response(200, json={"object": "list", "data": [JOB], "has_more": True, "next_cursor": "c1"})
    second = httpx.Response(200, json={"object": "list", "data": [JOB], "has_more": False, "next_cursor": None})
    script = Script(first, second)
    assert len(list(script.client().jobs(state="queued"))) == 2
    assert dict(script.requests[1].url.params) == {"limit": "100", "state": "queued", "cursor": "c1"}


def message(seq: int, kind: str, **data: Any) -> bytes:
    event = {"seq": seq, "kind": kind, "at": "2026-01-01T00:00:00Z", "attempt": 1, "data": data}
    return f": ping\n\nid: {seq}\nevent: {kind}\ndata: {json.dumps(event)}\n\n".encode()


class Broken(httpx.SyncByteStream):
    """A body whose connection breaks after its last piece."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        yield from self.pieces
        raise httpx.ReadError("reset")


def test_a_broken_stream_is_taken_up_where_it_broke() -> None:
    over = message(3, "state_changed", to="succeeded")
    script = Script(
        httpx.Response(200, stream=Broken(message(1, "warned"), message(2, "warned"))),
        httpx.ConnectError("refused"),
        # A service that sends an event again does not make it appear twice.
        httpx.Response(200, content=message(2, "warned") + over),
    )
    assert [event.seq for event in script.client().follow("job_1")] == [1, 2, 3]
    assert [request.headers["last-event-id"] for request in script.requests] == ["0", "2", "2"]


def test_following_gives_up_when_the_service_stays_away() -> None:
    script = Script(*(httpx.ConnectError("refused") for _ in range(3)))
    with pytest.raises(ServerUnreachable):
        list(script.client().follow("job_1"))


def test_following_a_job_that_is_not_there_is_refused_at_once() -> None:
    script = Script(refusal(404, "not_found"))
    with pytest.raises(Refused):
        list(script.client().follow("job_1"))
    assert script.waits_s == []


def archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def sealed(files: dict[str, bytes]) -> httpx.Response:
    listed = [
        {"path": name, "size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in files.items()
    ]
    checkpoint = {
        "name": "model",
        "role": "export",
        "size_bytes": 1,
        "files": listed,
        "manifest_sha256": "0" * 64,
        "created_at": "2026-01-01T00:00:00Z",
    }
    return httpx.Response(200, json=checkpoint)


FILES = {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 4000}


def test_a_broken_download_is_resumed_verified_and_put_in_place(tmp_path: Path) -> None:
    tar = archive(FILES)
    script = Script(
        sealed(FILES),
        httpx.Response(200, stream=Broken(tar[:300_000]), headers={"etag": '"a"', "content-length": str(len(tar))}),
        lambda _: httpx.Response(206, content=tar[300_000:], headers={"etag": '"a"'}),
    )
    got = script.client().download("job_1", tmp_path / "student")
    assert script.requests[2].headers["range"] == "bytes=300000-"
    assert script.requests[2].headers["if-range"] == '"a"'
    assert {path.name: path.read_bytes() for path in got.directory.iterdir()} == FILES
    assert [path.name for path in tmp_path.iterdir()] == ["student"]


def test_a_download_that_changed_meanwhile_starts_anew(tmp_path: Path) -> None:
    tar = archive(FILES)
    script = Script(
        sealed(FILES),
        httpx.Response(200, stream=Broken(b"old"), headers={"etag": '"a"'}),
        httpx.Response(200, content=tar, headers={"etag": '"b"'}),
    )
    assert script.client().download("job_1", tmp_path / "student").files == 2


@pytest.mark.parametrize(
    "sent",
    [
        {**FILES, "config.json": b"[]"},
        {**FILES, "extra.py": b"import os"},
        {"config.json": b"{}"},
        {},
        {"../outside": b"x"},
    ],
    ids=["changed", "added", "missing", "empty", "escaping"],
)
def test_a_damaged_archive_leaves_nothing_behind(tmp_path: Path, sent: dict[str, bytes]) -> None:
    script = Script(sealed(FILES), httpx.Response(200, content=archive(sent)))
    with pytest.raises(Damaged):
        script.client().download("job_1", tmp_path / "student")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(BadInput, match="--out"):
        Script().client().download("job_1", tmp_path)


def test_the_key_is_looked_for_in_the_order_people_expect(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "config" / "cpd").mkdir(parents=True)
    environment = {"CPD_DATA_DIR": str(tmp_path / "data"), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    assert api_key(None, environment) is None
    (tmp_path / "config" / "cpd" / "key").write_text("third\n")
    assert api_key(None, environment) == "third"
    (tmp_path / "data" / "key").write_text("second\n")
    assert api_key(None, environment) == "second"
    assert api_key(None, environment | {"CPD_API_KEY": "first"}) == "first"
    assert api_key("given", environment | {"CPD_API_KEY": "first"}) == "given"


def test_the_service_is_looked_for_at_the_address_it_serves_by_default() -> None:
    assert server_url(None, {}) == "http://127.0.0.1:8000"
    assert server_url(None, {"CPD_URL": "http://cpd.test/"}) == "http://cpd.test"
    assert server_url("http://other.test", {"CPD_URL": "http://cpd.test"}) == "http://other.test"
    for typo in ("http://127.0.0.1:80o0", "http://localhost:8000:1"):
        with pytest.raises(BadInput, match="CPD_URL"):
            server_url(None, {"CPD_URL": typo})


def test_a_report_is_asked_for_in_the_form_that_is_wanted_and_comes_as_it_is() -> None:
    script = Script(
        httpx.Response(200, content=b"<!doctype html>"),
        httpx.Response(200, content=b"# one"),
        refusal(409, "not_ready"),
    )
    client = script.client()

    assert client.report("job_1") == b"<!doctype html>"
    assert client.comparisons.report("cmp_1", format="markdown") == b"# one"
    with pytest.raises(Refused):
        client.report("job_2")
    assert [str(request.url.raw_path, "ascii") for request in script.requests[:2]] == [
        "/v1/jobs/job_1/report?format=html",
        "/v1/comparisons/cmp_1/report?format=markdown",
    ]


def test_rows_that_got_worse_are_asked_for_against_a_model() -> None:
    counts = {"rows": 3, "worse": 1, "better": 0, "equal": 2, "right_to_wrong": None, "wrong_to_right": None}
    answers = {name: {"text": name} for name in ("teacher", "student")}
    row = {"row": "r1", "prompt": "p", "reference": "x", "answers": answers, "before": 1.0, "after": 0.5, "loss": 0.5}
    body = {"object": "list", "against": "teacher", "metric": "rouge_l", "counts": counts, "data": [row]}
    script = Script(httpx.Response(200, json=body))
    found = script.client().flips("job_1", against="teacher", metric="rouge_l", limit=1)

    assert (found.counts.worse, found.data[0].loss, found.data[0].answers["student"].text) == (1, 0.5, "student")
    assert dict(script.requests[0].url.params) == {"against": "teacher", "metric": "rouge_l", "limit": "1"}
