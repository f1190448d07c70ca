"""The whole service with its files in a bucket: jobs, outages, downloads by an address of the bucket's."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from sqlalchemy import func, select, update

from api.core.db import now, reading, transaction
from api.jobs.states import JobState
from api.leftovers import service as leftovers
from api.leftovers.tables import Leftover
from tests.backends import Backend
from tests.buckets import KEYS, PREFIX, Bucket
from tests.deadline import eventually
from tests.integration.http.api import JSONL, Api, serving
from tests.integration.worker.fleet import SPEC, Fleet, assert_as_unbroken, weights
from tests.integration.worker.severable import Relay

pytestmark = pytest.mark.parametrize("backend", ["bucket"], indirect=True)

ROWS = b'{"prompt": "one", "completion": "two"}\n' * 40
FILES = {"manifest.json": b"{}", "model.safetensors": bytes(range(256)) * 5000, "adapter/a.safetensors": b"lora"}


@pytest.fixture
def api(backend: Backend) -> Iterator[Api]:
    with serving(backend) as made:
        yield made


@pytest.fixture
def fleet(backend: Backend, tmp_path: Path) -> Iterator[Fleet]:
    with closing(Fleet(backend=backend, folder=tmp_path)) as made:
        yield made


@pytest.fixture
def relay(bucket: Bucket, backend: Backend) -> Iterator[Relay]:
    """A way to the bucket that can be cut."""
    made = Relay("127.0.0.1", bucket.server.port)
    yield made
    made.cut()


def test_a_whole_job_keeps_all_of_its_files_in_the_bucket(api: Api, fleet: Fleet) -> None:
    sent = api.owner.post("/v1/datasets", params={"name": "rows.jsonl"}, content=ROWS, headers=JSONL)
    dataset = sent.json()["id"]
    spec = {**SPEC, "dataset": {"train": dataset}, "metadata": {"steps": "20"}}
    job_id = api.owner.post("/v1/jobs", json=spec).json()["id"]
    fleet.start()
    fleet.wait_state(job_id, JobState.SUCCEEDED)
    assert_as_unbroken(fleet, job_id, 20)

    with tarfile.open(
        fileobj=io.BytesIO(api.reader.get(f"/v1/jobs/{job_id}/checkpoints/model/download").content)
    ) as tar:
        held = {member.name: (tar.extractfile(member) or io.BytesIO()).read() for member in tar}
    listed = api.reader.get(f"/v1/jobs/{job_id}/checkpoints/model").json()["files"]
    (ready,) = [event.data for event in fleet.events(job_id) if event.kind == "data_ready"]
    assert held["model.safetensors"].decode() == weights(20)[-1]
    assert {file["path"]: file["sha256"] for file in listed} == {
        name: hashlib.sha256(content).hexdigest() for name, content in held.items()
    }
    assert ready["rows"] == {"train": 40}
    assert api.reader.get(f"/v1/datasets/{dataset}/content").content == ROWS
    assert not api.backend.settings.store_dir.exists()


def test_a_worker_waits_for_a_bucket_that_is_away_and_its_engine_trains_on(
    backend: Backend, relay: Relay, fleet: Fleet
) -> None:
    gate = fleet.folder / "gate"
    job_id = fleet.submit(steps="20", gate_step="13", gate=str(gate))
    fleet.start(s3_endpoint=f"http://127.0.0.1:{relay.port}")
    fleet.wait_sealed(job_id, "step-000010")
    relay.cut()
    gate.touch()
    eventually(lambda: "store_unavailable" in fleet.logs(), within_s=60, what="a try at the bucket")
    relay.mend()
    fleet.wait_state(job_id, JobState.SUCCEEDED)

    assert_as_unbroken(fleet, job_id, 20)
    assert [attempt.outcome for attempt in fleet.attempts(job_id)] == ["succeeded"]


def expected(backend: Backend) -> int:
    """How many prefixes there are that files are coming under, or going from."""
    with reading(backend.make) as session:
        return session.scalars(select(func.count()).select_from(Leftover)).one()


def test_a_worker_killed_under_an_upload_leaves_no_row_of_it_and_another_goes_on(
    backend: Backend, bucket: Bucket, fleet: Fleet
) -> None:
    gate, note = fleet.folder / "gate", fleet.folder / "note"
    job_id = fleet.submit(steps="20", gate_step="13", gate=str(gate), note=str(note))
    fleet.start()
    fleet.wait_sealed(job_id, "step-000010")
    bucket.server.guarded.freeze()
    gate.touch()
    # Its last checkpoint is sealed, and waits with the first one after the gate for a bucket that takes nothing.
    eventually(lambda: note.read_text() == "20", within_s=60, what="the end of the training")
    eventually(lambda: expected(backend) > 0, within_s=60, what="the upload's beginning")
    known = {row.name for row in fleet.artifacts(job_id)}
    fleet.workers[0].kill()
    bucket.server.guarded.thaw()
    fleet.start()
    fleet.wait_state(job_id, JobState.SUCCEEDED)

    with transaction(backend.make) as session:
        session.execute(update(Leftover).values(due_at=now(-1.0)))
    cleared = leftovers.clear(backend.make, fleet.store)

    assert known == {"prepared", "step-000005", "step-000010"}
    # That of the upload that was cut is one of them.
    assert cleared >= 1 + sum(row.expired_at is not None for row in fleet.artifacts(job_id))
    assert_as_unbroken(fleet, job_id, 20)
    rows = [row for row in fleet.artifacts(job_id) if row.expired_at is None]
    named = {f"{row.storage_prefix}/{file['path']}": file["sha256"] for row in rows for file in row.files}
    assert {key: hashlib.sha256(kept).hexdigest() for key, kept in backend.stored("jobs/").items()} == named


def test_without_the_bucket_files_are_503_and_all_else_is_there(backend: Backend, relay: Relay) -> None:
    with serving(backend.with_settings(s3_endpoint=f"http://127.0.0.1:{relay.port}")) as api:
        hold = api.claim(api.submit())
        api.seal(hold, "model", FILES)
        relay.cut()
        asked = [
            api.reader.get(f"/v1/jobs/{hold.job_id}/checkpoints/model/download"),
            api.reader.get(f"/v1/jobs/{hold.job_id}/checkpoints/model/files/manifest.json"),
            api.owner.post("/v1/datasets", params={"name": "rows.jsonl"}, content=ROWS, headers=JSONL),
        ]
        ready = api.anonymous.get("/readyz").json()
        rest = [api.reader.get(path).status_code for path in ("/v1/jobs", f"/v1/jobs/{hold.job_id}/checkpoints")]
        relay.mend()
        again = api.reader.get(f"/v1/jobs/{hold.job_id}/checkpoints/model/files/manifest.json")

    assert {(one.status_code, one.json()["error"]["code"]) for one in asked} == {(503, "store_unavailable")}
    assert all(one.headers["retry-after"] == "5" for one in asked)
    assert (ready["status"], ready["store"], ready["database"]) == ("degraded", "unavailable", "ok")
    assert rest == [200, 200]
    assert again.content == b"{}"
    assert api.resources.store.delete("datasets") == 0


@pytest.fixture
def linking(backend: Backend) -> Iterator[Api]:
    """The API that sends readers to the bucket, which they know under another name."""
    changed = {"downloads": "presigned", "download_link_s": 120, "s3_public_endpoint": "http://localhost:1"}
    public = f"http://localhost:{urlsplit(str(backend.settings.s3_endpoint)).port}"
    with serving(backend.with_settings(**changed | {"s3_public_endpoint": public})) as made:
        yield made


@pytest.fixture
def sealed(linking: Api) -> str:
    """The address of a checkpoint."""
    hold = linking.claim(linking.submit())
    linking.seal(hold, "model", FILES)
    return f"/v1/jobs/{hold.job_id}/checkpoints/model"


def test_a_single_file_is_had_from_the_bucket_by_an_address_for_it_alone(
    linking: Api, sealed: str, bucket: Bucket
) -> None:
    sent = linking.reader.get(f"{sealed}/files/model.safetensors")
    address = urlsplit(sent.headers["location"])
    query = parse_qs(address.query)
    got = httpx.get(sent.headers["location"])

    assert (sent.status_code, sent.content) == (307, b"")
    assert sent.headers["cache-control"] == "no-store"
    assert sent.headers["referrer-policy"] == "no-referrer"
    assert address.hostname == "localhost"
    assert address.path.startswith(f"/{bucket.name}/{PREFIX}/jobs/")
    assert address.path.endswith("/model/model.safetensors")
    assert query["X-Amz-Expires"] == ["120"]
    assert query["X-Amz-SignedHeaders"] == ["host"]
    assert KEYS["AWS_SECRET_ACCESS_KEY"] not in sent.headers["location"]
    assert got.content == FILES["model.safetensors"]
    assert got.headers["content-disposition"] == "attachment; filename*=UTF-8''model.safetensors"
    assert got.headers["content-type"] == "application/octet-stream"


def test_a_part_of_a_file_is_had_there_too_and_a_client_that_follows_notices_nothing(linking: Api, sealed: str) -> None:
    asked = {"range": "bytes=10-19"}
    part = linking.reader.get(f"{sealed}/files/model.safetensors", headers=asked, follow_redirects=True)
    dataset = linking.upload(ROWS)
    rows = linking.reader.get(f"/v1/datasets/{dataset}/content", follow_redirects=True)
    file = linking.reader.get(f"/v1/files/{dataset}/content", follow_redirects=True)

    assert (part.status_code, part.content) == (206, FILES["model.safetensors"][10:20])
    assert rows.content == file.content == ROWS
    assert rows.headers["content-type"].startswith("application/jsonl")
    assert [len(answer.history) for answer in (part, rows, file)] == [1, 1, 1]
    # The key of the service is for the service.
    assert "authorization" not in rows.request.headers


def test_archives_heads_and_conditions_are_answered_by_the_service_itself(linking: Api, sealed: str) -> None:
    file = f"{sealed}/files/model.safetensors"
    etag = linking.reader.head(file).headers["etag"]
    archive = linking.reader.get(f"{sealed}/download")
    rest = linking.reader.get(file, headers={"range": "bytes=5-9", "if-range": etag})
    known = linking.reader.get(file, headers={"if-none-match": etag})

    assert etag == f'"{hashlib.sha256(FILES["model.safetensors"]).hexdigest()}"'
    assert (archive.status_code, archive.headers["content-type"]) == (200, "application/x-tar")
    assert (rest.status_code, rest.content) == (206, FILES["model.safetensors"][5:10])
    assert known.status_code == 304


def test_nobody_gets_an_address_of_what_is_not_theirs_or_gone(linking: Api, sealed: str) -> None:
    file, dataset = f"{sealed}/files/model.safetensors", linking.upload(ROWS)
    asked = [
        linking.other.get(file),
        linking.anonymous.get(file),
        linking.other.get(f"/v1/datasets/{dataset}/content"),
        linking.other.get(f"/v1/files/{dataset}/content"),
    ]
    linking.owner.delete(f"/v1/datasets/{dataset}")
    linking.resources.store.delete(next(iter(linking.backend.stored("jobs/"))).rpartition("/model/")[0])
    asked += [linking.reader.get(f"/v1/datasets/{dataset}/content"), linking.reader.get(file)]

    assert [one.status_code for one in asked] == [404, 401, 404, 404, 404, 410]
    assert not [one for one in asked if "location" in one.headers]
