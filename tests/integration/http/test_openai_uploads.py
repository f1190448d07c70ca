"""Files that come in parts and files that go by themselves, by the official client under strict validation."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI, omit
from sqlalchemy import select, update

from api.core.db import now, transaction
from api.core.storage import StoredFileMissing
from api.datasets import parts, service
from api.datasets.tables import Dataset, PartedUpload
from api.leftovers import service as leftovers
from api.leftovers.tables import Leftover
from tests.backends import STORES
from tests.integration.http.api import Api, serving
from tests.integration.http.test_openai import CHAT, created, finished, speaking, uploaded

HALF = len(CHAT) // 2 + 7


@pytest.fixture
def client(api: Api) -> Iterator[OpenAI]:
    with speaking(api, "owner") as made:
        yield made


def begun(client: OpenAI, size: int = len(CHAT), **more: Any) -> str:
    upload = client.uploads.create(
        bytes=size, filename="rows.jsonl", mime_type="text/jsonl", purpose="fine-tune", **more
    )
    assert (upload.status, upload.bytes, upload.file) == ("pending", size, None)
    assert upload.expires_at == upload.created_at + 3600
    return upload.id


def sent(client: OpenAI, upload: str, data: bytes) -> str:
    return client.uploads.parts.create(upload, data=data).id


def nothing_is_left(api: Api) -> bool:
    """No part lies in the store, and no file that was being taken in."""
    coming = api.backend.settings.scratch_dir / "uploads"
    return not [*api.backend.stored("uploads/"), *(path for path in coming.rglob("*") if path.is_file())]


@STORES
def test_parts_sent_at_once_are_joined_in_the_order_that_is_said(api: Api, client: OpenAI) -> None:
    upload = begun(client, expires_after={"anchor": "created_at", "seconds": 7200})
    pieces = [CHAT[:100], CHAT[100:HALF], CHAT[HALF:]]
    with ThreadPoolExecutor(3) as threads:
        ids = list(threads.map(lambda piece: sent(client, upload, piece), pieces))

    md5 = hashlib.md5(CHAT).hexdigest()
    done = client.uploads.complete(upload, part_ids=ids, md5=md5)

    assert done.status == "completed"
    assert done.file is not None
    assert (done.file.filename, done.file.bytes) == ("rows.jsonl", len(CHAT))
    assert done.file.expires_at == done.file.created_at + 7200
    assert client.files.content(done.file.id).content == CHAT
    assert created(client, done.file.id).training_file == done.file.id
    # A completion that is sent again is the same one.
    again = client.uploads.complete(upload, part_ids=ids).file
    assert again is not None
    assert again.id == done.file.id
    assert len(list(client.files.list())) == 1
    assert nothing_is_left(api)
    for late in (lambda: client.uploads.cancel(upload), lambda: sent(client, upload, b"x")):
        with pytest.raises(openai.ConflictError) as refused:
            late()
        assert refused.value.code == "upload_ended"


def test_a_whole_file_goes_through_the_client_s_own_cutter(client: OpenAI) -> None:
    done = client.uploads.upload_file_chunked(
        file=CHAT, filename="cut.jsonl", bytes=len(CHAT), mime_type="text/jsonl", purpose="fine-tune", part_size=5000
    )

    assert done.file is not None
    assert client.files.content(done.file.id).content == CHAT


def test_what_does_not_add_up_leaves_the_upload_open(api: Api, client: OpenAI) -> None:
    upload = begun(client)
    first, second = sent(client, upload, CHAT[:HALF]), sent(client, upload, CHAT[HALF:])
    for part_ids, md5, param in (
        ([first], omit, "part_ids"),
        ([first, first], omit, "part_ids"),
        ([first, "part_none"], omit, "part_ids"),
        ([first, second], "0" * 32, "md5"),
    ):
        with pytest.raises(openai.UnprocessableEntityError) as refused:
            client.uploads.complete(upload, part_ids=part_ids, md5=md5)
        assert refused.value.param == param

    with pytest.raises(openai.UnprocessableEntityError, match="more bytes than were declared"):
        sent(client, upload, b"x")
    assert client.uploads.complete(upload, part_ids=[first, second]).status == "completed"
    assert nothing_is_left(api)


def test_a_part_that_the_client_sends_again_is_the_same_part(api: Api, client: OpenAI) -> None:
    upload = begun(client)
    first = sent(client, upload, CHAT)
    again = api.owner.post(
        f"/v1/uploads/{upload}/parts", files={"data": ("part", CHAT)}, headers={"x-stainless-retry-count": "1"}
    )

    assert again.json()["id"] == first
    assert len(api.backend.stored(f"uploads/{upload}/")) == 1


def test_two_completions_at_once_make_one_file(api: Api, client: OpenAI) -> None:
    upload = begun(client)
    part = sent(client, upload, CHAT)

    def complete(_: int) -> str | None:
        try:
            file = client.uploads.complete(upload, part_ids=[part]).file
        except openai.ConflictError:
            return None
        return None if file is None else file.id

    with ThreadPoolExecutor(2) as threads:
        answers = set(threads.map(complete, range(2))) - {None}

    assert answers == {file.id for file in client.files.list()}
    assert nothing_is_left(api)


@STORES
def test_a_cancelled_upload_leaves_nothing(api: Api, client: OpenAI) -> None:
    upload = begun(client)
    part = sent(client, upload, CHAT[:HALF])

    assert client.uploads.cancel(upload).status == "cancelled"
    assert client.uploads.cancel(upload).status == "cancelled"
    with pytest.raises(openai.ConflictError):
        client.uploads.complete(upload, part_ids=[part])
    assert nothing_is_left(api)


@STORES
def test_an_upload_that_is_not_completed_in_time_leaves_nothing(api: Api, client: OpenAI, tmp_path: Path) -> None:
    upload = begun(client)
    part = sent(client, upload, CHAT)
    with transaction(api.backend.make) as session:
        session.execute(update(PartedUpload).values(expires_at=now(-1.0)))

    for late in (lambda: client.uploads.complete(upload, part_ids=[part]), lambda: sent(client, upload, b"x")):
        with pytest.raises(openai.ConflictError):
            late()
    assert parts.expire(api.backend.make, api.resources.store) == 1
    assert nothing_is_left(api)
    with transaction(api.backend.make) as session:
        assert session.scalars(select(PartedUpload.state)).all() == ["expired"]
        session.execute(update(PartedUpload).values(expires_at=now(-100_000.0)))
    # Sent by a process that was killed once it was there.
    (tmp_path / "late").write_bytes(b"late")
    api.resources.store.put(f"uploads/{upload}/late", tmp_path / "late", sha256=hashlib.sha256(b"late").hexdigest())
    assert not nothing_is_left(api)
    assert parts.expire(api.backend.make, api.resources.store) == 0
    with transaction(api.backend.make) as session:
        assert session.scalars(select(PartedUpload)).all() == []
        session.execute(update(Leftover).values(due_at=now(-1.0)))
    leftovers.clear(api.backend.make, api.resources.store)
    assert nothing_is_left(api)


def test_a_folder_that_will_not_go_keeps_no_other_upload_from_being_forgotten(
    api: Api, client: OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, store = api.backend.make, api.resources.store
    uploads = [begun(client) for _ in range(3)]
    for upload in uploads:
        sent(client, upload, CHAT[:HALF])
    delete, stuck = store.delete, f"uploads/{uploads[0]}"

    def deleted(prefix: str) -> int:
        if prefix == stuck:
            raise OSError(5, "Input/output error")
        return delete(prefix)

    with monkeypatch.context() as broken:
        broken.setattr(type(store), "delete", lambda _, prefix: deleted(prefix))
        with transaction(make) as session:
            session.execute(update(PartedUpload).values(expires_at=now(-100_000.0)))
        assert parts.expire(make, store) == 3
        assert parts.expire(make, store) == 0
        with transaction(make) as session:
            assert session.scalars(select(PartedUpload)).all() == []
            session.execute(update(Leftover).values(due_at=now(-1.0)))
        with pytest.raises(OSError, match="Input/output error"):
            leftovers.clear(make, store)
        assert {key.rsplit("/", 1)[0] for key in api.backend.stored("uploads/")} == {stuck}
    with transaction(make) as session:
        session.execute(update(Leftover).values(due_at=now(-1.0)))
    assert leftovers.clear(make, store) == 1
    assert nothing_is_left(api)


def test_uploads_take_room_from_the_moment_they_are_declared(api: Api, client: OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        begun(client, api.backend.settings.upload_max_bytes + 1)
    assert refused.value.status_code == 413
    with (
        serving(api.backend.with_settings(stored_max_bytes=2 * len(CHAT))) as small,
        speaking(small, "owner") as other,
    ):
        upload = begun(other)
        uploaded(other)
        with pytest.raises(openai.RateLimitError) as full:
            begun(other)
        assert full.value.code == "quota_exceeded"
        assert other.uploads.complete(upload, part_ids=[sent(other, upload, CHAT)]).status == "completed"


def test_another_tenant_s_upload_is_not_there(api: Api, client: OpenAI) -> None:
    upload = begun(client)
    with speaking(api, "other") as other:
        for ask in (
            lambda: sent(other, upload, b"x"),
            lambda: other.uploads.complete(upload, part_ids=["part_x"]),
            lambda: other.uploads.cancel(upload),
            lambda: other.uploads.cancel("upload_\x00"),
        ):
            with pytest.raises(openai.NotFoundError):
                ask()


@STORES
def test_a_file_past_its_time_is_gone_and_its_bytes_go_when_no_job_needs_them(api: Api, client: OpenAI) -> None:
    kept = uploaded(client)
    file = client.files.create(
        file=("rows.jsonl", CHAT), purpose="fine-tune", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert file.expires_at == file.created_at + 3600
    job = created(client, file.id)
    with transaction(api.backend.make) as session:
        session.execute(update(Dataset).where(Dataset.id == file.id).values(expires_at=now(-1.0)))
        key = session.get_one(Dataset, file.id).storage_key

    assert [other.id for other in client.files.list()] == [kept]
    assert api.owner.get(f"/v1/datasets/{file.id}").status_code == 404
    for gone in (lambda: client.files.retrieve(file.id), lambda: client.files.content(file.id)):
        with pytest.raises(openai.NotFoundError):
            gone()
    with pytest.raises(openai.UnprocessableEntityError):
        created(client, file.id)
    # The job that named it in time still runs on it.
    make, store = api.backend.make, api.resources.store
    assert service.expire(make, store) == 0
    assert store.size(key) == len(CHAT)
    client.fine_tuning.jobs.cancel(job.id)
    assert service.expire(make, store) == 1
    with pytest.raises(StoredFileMissing):
        store.size(key)


@pytest.mark.parametrize(
    ("said", "param"),
    [
        ({"expires_after[seconds]": "3600"}, "expires_after.anchor"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "3599"}, "expires_after.seconds"),
        ({"expires_after[anchor]": "last_used", "expires_after[seconds]": "3600"}, "expires_after.anchor"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "soon"}, "expires_after.seconds"),
        ({"colour": "red"}, None),
    ],
)
def test_an_expiry_that_cannot_be_kept_is_refused(api: Api, said: dict[str, str], param: str | None) -> None:
    answer = api.owner.post("/v1/files", files={"file": ("a", CHAT)}, data={"purpose": "fine-tune"} | said)

    assert (answer.status_code, answer.json()["error"]["param"]) == (422, param), answer.text
    assert api.owner.get("/v1/files").json()["data"] == []


@STORES
def test_a_job_s_model_is_deleted_with_its_files(api: Api, client: OpenAI) -> None:
    job = created(client, uploaded(client))
    waiting = created(client, job.training_file)
    weights = finished(api, job.id)
    name = f"ft:{job.id}:model"
    with speaking(api, "other") as other, pytest.raises(openai.NotFoundError):
        other.models.delete(name)

    assert client.models.delete(name).deleted

    for gone in (lambda: client.models.retrieve(name), lambda: client.models.delete(name)):
        with pytest.raises(openai.NotFoundError):
            gone()
    with pytest.raises(openai.APIStatusError) as expired:
        client.files.content(weights)
    assert expired.value.status_code == 410
    assert not api.backend.stored(f"jobs/{job.id}/1/model/")
    after = client.fine_tuning.jobs.retrieve(job.id)
    assert (after.status, after.fine_tuned_model) == ("succeeded", None)
    assert weights not in after.result_files
    # A report is a result, and no model.
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve(f"ft:{job.id}:report")
    hold = api.claim(waiting.id)
    api.seal(hold, "best", {"manifest.json": b"{}"}, role="best")
    with pytest.raises(openai.ConflictError):
        client.models.delete(f"ft:{waiting.id}:best")
    with pytest.raises(openai.UnprocessableEntityError):
        client.models.delete("org/name")
