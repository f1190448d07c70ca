"""Checkpoints over HTTP: lists, single files, archives, ranges."""

from __future__ import annotations

import hashlib
import io
import tarfile
from itertools import pairwise

import httpx
import pytest
from sqlalchemy import update

from api.artifacts.tables import Artifact
from api.core.db import now, transaction
from api.jobs import transitions
from api.jobs.lease import Hold
from tests.backends import STORES, Backend
from tests.integration.http.api import Api, serving

FILES = {
    "manifest.json": b'{"files": []}',
    "model.safetensors": bytes(range(256)) * 5000,
    "adapter/adapter_model.safetensors": b"lora" * 100,
    "tokenizer.json": "{“”}".encode(),
}
WEIGHTS = FILES["model.safetensors"]
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()


@pytest.fixture
def hold(api: Api) -> Hold:
    """A running job with a sealed export."""
    held = api.claim(api.submit())
    api.seal(held, "model", FILES)
    return held


def of_model(hold: Hold, rest: str = "") -> str:
    return f"/v1/jobs/{hold.job_id}/checkpoints/model{rest}"


def expire(api: Api, hold: Hold) -> None:
    with transaction(api.backend.make) as session:
        session.execute(update(Artifact).where(Artifact.job_id == hold.job_id).values(expired_at=now()))


def refusal(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def test_checkpoints_are_listed_with_their_files(api: Api, hold: Hold) -> None:
    api.seal(hold, "step-000200", {"manifest.json": b"{}"}, role="training")
    listed = api.reader.get(f"/v1/jobs/{hold.job_id}/checkpoints").json()
    one = api.reader.get(of_model(hold)).json()

    assert [(entry["name"], entry["role"]) for entry in listed["data"]] == [
        ("step-000200", "training"),
        ("model", "export"),
    ]
    assert one == listed["data"][1]
    assert one["formats"] == ["merged", "adapter"]
    assert one["size_bytes"] == sum(map(len, FILES.values()))
    assert {file["path"]: file["sha256"] for file in one["files"]}["model.safetensors"] == SHA256
    assert (one["step"], one["metrics"]) == (7, {"rouge_l": 40.5})


def test_pages_meet_every_checkpoint_once(api: Api, hold: Hold) -> None:
    for step in (1, 2, 3):
        api.seal(hold, f"step-{step}", {"manifest.json": b"{}"}, role="training")
    names: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = api.reader.get(f"/v1/jobs/{hold.job_id}/checkpoints", params={"limit": "2"} | cursor).json()
        names += [entry["name"] for entry in page["data"]]
        if not page["has_more"]:
            break
        cursor = {"cursor": page["next_cursor"]}

    assert names == ["step-3", "step-2", "step-1", "model"]


@STORES
def test_a_file_comes_whole_with_the_hash_of_its_bytes_as_etag(api: Api, hold: Hold) -> None:
    answer = api.reader.get(of_model(hold, "/files/model.safetensors"))

    assert (answer.status_code, answer.content) == (200, WEIGHTS)
    assert answer.headers["etag"] == f'"{SHA256}"'
    assert answer.headers["content-length"] == str(len(WEIGHTS))
    assert answer.headers["accept-ranges"] == "bytes"
    assert "attachment" in answer.headers["content-disposition"]


N = len(WEIGHTS)


@STORES
def test_a_range_gives_just_those_bytes(api: Api, hold: Hold) -> None:
    meant = {
        "bytes=0-0": (0, 1),
        "bytes=10-19": (10, 20),
        "bytes=1279000-": (1279000, N),
        "bytes=-5": (N - 5, N),
        "bytes=0-99999999999": (0, N),
        f"bytes=-{N * 2}": (0, N),
        f"bytes={N - 1}-{N - 1}": (N - 1, N),
    }
    for asked, (start, stop) in meant.items():
        answer = api.reader.get(of_model(hold, "/files/model.safetensors"), headers={"range": asked})

        assert (answer.status_code, answer.content) == (206, WEIGHTS[start:stop]), asked
        assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{N}"


def test_a_range_beyond_the_file_is_refused_with_its_size(api: Api, hold: Hold) -> None:
    for asked in (f"bytes={N}-", f"bytes={N}-{N + 5}", "bytes=-0"):
        answer = api.reader.get(of_model(hold, "/files/model.safetensors"), headers={"range": asked})
        assert refusal(answer) == (416, "range_not_satisfiable")
        assert answer.headers["content-range"] == f"bytes */{N}"


def test_a_range_that_means_nothing_is_answered_with_the_whole(api: Api, hold: Hold) -> None:
    for asked in (
        "bytes=",
        "bytes=-",
        "bytes=5-2",
        "bytes=a-b",
        "lines=1-2",
        "bytes=0-1,4-5",
        "bytes=" + "9" * 5000 + "-",
    ):
        answer = api.reader.get(of_model(hold, "/files/tokenizer.json"), headers={"range": asked})
        assert (answer.status_code, answer.content) == (200, FILES["tokenizer.json"]), asked


def test_if_range_gives_the_part_only_of_the_same_bytes(api: Api, hold: Hold) -> None:
    statuses = [
        api.reader.get(
            of_model(hold, "/files/model.safetensors"), headers={"range": "bytes=0-9", "if-range": condition}
        ).status_code
        for condition in (f'"{SHA256}"', '"other"', f'W/"{SHA256}"', "Tue, 24 Nov 2026 08:38:21 GMT")
    ]

    assert statuses == [206, 200, 200, 200]


def test_a_client_that_has_the_bytes_is_told_so(api: Api, hold: Hold) -> None:
    for condition in (f'"{SHA256}"', f'W/"{SHA256}"', f'"x", "{SHA256}"', "*"):
        answer = api.reader.get(of_model(hold, "/files/model.safetensors"), headers={"if-none-match": condition})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", f'"{SHA256}"')
    assert api.reader.get(of_model(hold, "/files/model.safetensors"), headers={"if-none-match": '"x"'}).is_success


@STORES
def test_head_tells_size_and_hash_and_sends_nothing(api: Api, hold: Hold) -> None:
    file = api.reader.head(of_model(hold, "/files/model.safetensors"), headers={"range": "bytes=0-9"})
    archive = api.reader.head(of_model(hold, "/download"))

    assert (file.status_code, file.content, file.headers["content-length"]) == (200, b"", str(N))
    assert (archive.status_code, archive.content) == (200, b"")
    assert archive.headers["etag"] == api.reader.get(of_model(hold, "/download")).headers["etag"]


@STORES
def test_an_archive_holds_the_files_and_is_the_same_bytes_each_time(api: Api, hold: Hold) -> None:
    first, second = (api.reader.get(of_model(hold, "/download")) for _ in range(2))
    with tarfile.open(fileobj=io.BytesIO(first.content)) as tar:
        held = {member.name: (tar.extractfile(member) or io.BytesIO()).read() for member in tar}

    assert held == FILES
    assert first.content == second.content
    assert first.headers["content-length"] == str(len(first.content))
    assert first.headers["content-type"] == "application/x-tar"


@STORES
def test_an_archive_in_parts_is_the_archive(api: Api, hold: Hold) -> None:
    whole = api.reader.get(of_model(hold, "/download"))
    size, etag = len(whole.content), whole.headers["etag"]
    cuts = [0, 1, 511, 513, 700_000, size - 3, size]
    parts = [
        api.reader.get(of_model(hold, "/download"), headers={"range": f"bytes={start}-{stop - 1}", "if-range": etag})
        for start, stop in pairwise(cuts)
    ]

    assert {part.status_code for part in parts} == {206}
    assert b"".join(part.content for part in parts) == whole.content


def test_the_adapter_comes_alone_with_the_manifest_that_vouches_for_it(api: Api, hold: Hold) -> None:
    answer = api.reader.get(of_model(hold, "/download"), params={"format": "adapter"})
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as tar:
        assert tar.getnames() == ["adapter/adapter_model.safetensors", "manifest.json"]


def test_a_model_without_adapter_says_so(api: Api) -> None:
    hold = api.claim(api.submit())
    api.seal(hold, "model", {"manifest.json": b"{}"})
    answer = api.reader.get(of_model(hold, "/download"), params={"format": "adapter"})

    assert (*refusal(answer), answer.json()["error"]["param"]) == (422, "validation_error", "format")


def test_of_a_checkpoint_that_was_made_again_the_newest_attempt_s_is_given(api: Api, hold: Hold) -> None:
    api.seal(hold, "profile", {"manifest.json": b"1"}, role="phase")
    with transaction(api.backend.make) as session:
        transitions.stop(session, hold)
    newer = api.claim(hold.job_id)
    api.seal(newer, "profile", {"manifest.json": b"2"}, role="phase")
    answer = api.reader.get(f"/v1/jobs/{hold.job_id}/checkpoints/profile/files/manifest.json")

    assert (newer.fence, answer.content) == (2, b"2")


def test_a_checkpoint_whose_files_were_removed_is_gone_and_not_unknown(api: Api, hold: Hold) -> None:
    expire(api, hold)
    for rest in ("", "/download", "/files/model.safetensors"):
        assert refusal(api.reader.get(of_model(hold, rest))) == (410, "artifact_expired")
    assert api.reader.get(f"/v1/jobs/{hold.job_id}/checkpoints").json()["data"] == []


@STORES
def test_files_that_go_before_their_row_does_are_gone_too(api: Api, hold: Hold) -> None:
    api.resources.store.delete(f"jobs/{hold.job_id}/{hold.fence}/model/tokenizer.json")

    assert refusal(api.reader.get(of_model(hold, "/download"))) == (410, "artifact_expired")
    assert refusal(api.reader.get(of_model(hold, "/files/tokenizer.json"))) == (410, "artifact_expired")
    assert api.reader.get(of_model(hold, "/files/model.safetensors")).is_success


def test_a_path_is_a_name_in_a_list_and_leads_nowhere_else(api: Api, hold: Hold) -> None:
    up, encoded = "../../../cpd.sqlite3", "..%2f..%2fkey"
    for path in (up, encoded, "%2fetc%2fpasswd", "nothing.bin", "adapter", "manifest.json%00", "."):
        assert api.reader.get(of_model(hold, f"/files/{path}")).status_code == 404
        assert api.reader.get(f"/v1/jobs/{hold.job_id}/checkpoints/{path}/download").status_code == 404


def test_a_download_needs_one_connection_for_a_moment_only(short: Backend) -> None:
    with serving(short.with_settings(pool_size=1)) as api:
        held = api.claim(api.submit())
        api.seal(held, "model", FILES)
        clients = [api.client(api.keys["reader"]) for _ in range(4)]
        streams = [client.stream("GET", of_model(held, "/download")) for client in clients]
        opened = [stream.__enter__() for stream in streams]
        assert api.reader.get(f"/v1/jobs/{held.job_id}").is_success
        assert {len(answer.read()) for answer in opened} == {int(opened[0].headers["content-length"])}
        for stream, client in zip(streams, clients, strict=True):
            stream.__exit__(None, None, None)
            client.close()


# More than sockets hold between them, so that the server is still at it when the files go.
LARGE = {"a.bin": bytes(range(256)) * 160_000, "b.bin": bytes(range(256)) * 160_000, "manifest.json": b"{}"}


def retained_no_more(api: Api, held: Hold, prefix: str) -> None:
    """What a worker does once a checkpoint is replaced."""
    expire(api, held)
    api.resources.store.delete(prefix)


def test_a_file_that_retention_removes_under_its_download_comes_whole(api: Api, hold: Hold) -> None:
    prefix = api.seal(hold, "step-000200", LARGE, role="training")
    address = f"/v1/jobs/{hold.job_id}/checkpoints/step-000200/files/a.bin"
    with api.reader.stream("GET", address) as answer:
        pieces = answer.iter_bytes()
        content = [next(pieces)]
        retained_no_more(api, hold, prefix)
        content += pieces
    assert b"".join(content) == LARGE["a.bin"]
    assert refusal(api.reader.get(address)) == (410, "artifact_expired")


@STORES
def test_an_archive_whose_files_retention_removes_breaks_off_and_never_passes_for_a_whole(api: Api, hold: Hold) -> None:
    prefix = api.seal(hold, "step-000200", LARGE, role="training")
    address = f"/v1/jobs/{hold.job_id}/checkpoints/step-000200/download"
    with api.reader.stream("GET", address) as answer:
        pieces = answer.iter_bytes()
        next(pieces)
        retained_no_more(api, hold, prefix)
        with pytest.raises(httpx.RemoteProtocolError):
            list(pieces)
