"""What no row names goes from the store, whoever was killed and whatever was away when it should have gone; and nothing else does."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.exc import OperationalError

from api.artifacts import queries as artifacts
from api.artifacts.queries import Sealed
from api.core.archive import sha256_of
from api.core.db import Table, now, reading, transaction
from api.core.directory import DirectoryStore
from api.core.errors import QuotaExceeded, UploadEnded
from api.core.storage import Store, StoreUnavailable
from api.datasets import parts
from api.datasets import service as datasets
from api.datasets.tables import Dataset, UploadPart
from api.datasets.upload import Received
from api.jobs.lease import Hold
from api.leftovers import queries as leftovers
from api.leftovers import service
from api.leftovers.tables import Leftover
from tests.backends import STORES, TENANT, Backend
from tests.buckets import Bucket
from tests.integration.store.faults import Faults, Moment, faulty
from tests.integration.worker.fleet import Fleet
from tests.integration.worker.severable import Relay


@pytest.fixture
def fleet(backend: Backend, tmp_path: Path) -> Iterator[Fleet]:
    with closing(Fleet(backend=backend, folder=tmp_path)) as made:
        yield made


def waiting(backend: Backend) -> set[str]:
    with reading(backend.make) as session:
        return set(session.scalars(select(Leftover.prefix)))


def a_day_later(backend: Backend) -> None:
    """The time of everything that waits has come."""
    with transaction(backend.make) as session:
        session.execute(update(Leftover).values(due_at=now(-1.0)))


def named(fleet: Fleet, job_id: str) -> dict[str, str]:
    """The sha256 of every file that a standing row names, by its key."""
    rows = [row for row in fleet.artifacts(job_id) if row.expired_at is None]
    return {f"{row.storage_prefix}/{file['path']}": file["sha256"] for row in rows for file in row.files}


@STORES
def test_after_a_job_there_are_the_files_that_its_rows_name_and_no_others(fleet: Fleet) -> None:
    job_id = fleet.submit(steps="20", step_s="0.05", fault="killed", fault_step="13", once=str(fleet.folder / "once"))
    fleet.work_here(job_id)
    a_day_later(fleet.backend)
    service.clear(fleet.backend.make, fleet.store)

    stored = {key: hashlib.sha256(content).hexdigest() for key, content in fleet.backend.stored("jobs/").items()}
    assert stored == named(fleet, job_id)
    assert waiting(fleet.backend) == set()


@STORES
def test_an_upload_is_expected_until_its_row_is_there(fleet: Fleet) -> None:
    backend, known, received = fleet.backend, fleet.backend.settings, jsonl(fleet.folder)
    upload = datasets.Upload(tenant_id=TENANT, name="rows", sha256=None, max_bad_row_fraction=0.0)
    seen: list[tuple[set[str], set[str]]] = []

    def look(_session: object, dataset_id: str) -> None:
        seen.append(({f"datasets/{dataset_id}/data.jsonl"}, set(backend.stored("datasets/"))))

    made = datasets.register(backend.make, fleet.store, known, upload, received, first=look)
    after = waiting(backend)
    with pytest.raises(QuotaExceeded):
        datasets.register(
            backend.make, fleet.store, backend.with_settings(stored_max_bytes=40).settings, upload, received
        )

    assert seen == [({f"datasets/{made.id}/data.jsonl"},) * 2]
    assert after == set()
    assert set(backend.stored("datasets/")) == {f"datasets/{made.id}/data.jsonl"}
    # Its bytes have gone at once; of a process that was killed there they would go with this.
    assert len(waiting(backend)) == 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """A kind of upload: `keep` puts it into a store, `names` counts the rows that name what is there."""

    keep: Callable[[Backend, Store, Received], object]
    names: type[Table]


def keep_whole(backend: Backend, store: Store, received: Received) -> None:
    upload = datasets.Upload(tenant_id=TENANT, name="rows", sha256=None, max_bad_row_fraction=0.0)
    datasets.register(backend.make, store, backend.settings, upload, received)


def keep_part(backend: Backend, store: Store, received: Received) -> None:
    declared = parts.Declared(name="rows", size_bytes=received.size_bytes, keep_s=None)
    with transaction(backend.make) as session:
        begun = parts.begin(session, TENANT, declared, backend.settings)
    parts.add_part(backend.make, store, TENANT, begun.id, received, retried=False)


KINDS = {"whole": Keeping(keep=keep_whole, names=Dataset), "part": Keeping(keep=keep_part, names=UploadPart)}


class Then(DirectoryStore):
    """After each file that it takes something happens."""

    def __init__(self, root: Path, then: Callable[[], None]) -> None:
        super().__init__(root)
        self._then = then

    def put(self, key: str, source: Path, *, sha256: str) -> int:
        size = super().put(key, source, sha256=sha256)
        self._then()
        return size


def jsonl(folder: Path) -> Received:
    rows = folder / "rows.jsonl"
    rows.write_bytes(b'{"prompt": "a", "completion": "b"}\n')
    return Received(path=rows, size_bytes=rows.stat().st_size, sha256=sha256_of(rows))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("moment", "files"), [("before", 0), ("after", 1)])
def test_an_upload_whose_commit_is_not_answered_has_its_bytes_just_where_it_has_its_row(
    backend: Backend, tmp_path: Path, kind: str, moment: Moment, files: int
) -> None:
    faults = Faults()
    store = Then(backend.settings.store_dir, lambda: setattr(faults, "next_commit", moment))
    with faulty(backend.engine, faults), pytest.raises(OperationalError):
        KINDS[kind].keep(backend, store, jsonl(tmp_path))
    a_day_later(backend)
    service.clear(backend.make, store)
    with reading(backend.make) as session:
        rows = session.scalars(select(func.count()).select_from(KINDS[kind].names)).one()

    assert (faults.met, rows, len(backend.stored())) == (1, files, files)


def test_what_is_not_due_stays(fleet: Fleet) -> None:
    hold = held(fleet)
    fleet.store.put("jobs/j/1/best/a", source(fleet), sha256=hashlib.sha256(b"x").hexdigest())
    with transaction(fleet.backend.make) as session:
        leftovers.expect(session, "jobs/j/1/best")
    service.clear(fleet.backend.make, fleet.store)

    assert set(fleet.backend.stored("jobs/")) == {"jobs/j/1/best/a"}
    assert waiting(fleet.backend) == {"jobs/j/1/best"}
    assert hold.fence == 1


def source(fleet: Fleet) -> Path:
    path = fleet.folder / "source"
    path.write_bytes(b"x")
    return path


def held(fleet: Fleet) -> Hold:
    claim = fleet.claim_here(fleet.submit())
    assert claim is not None
    return claim.hold


def best(number: int, manifest: str) -> Sealed:
    return Sealed(
        id=f"art_{number}", name="best", role="best", path="train/best", storage_prefix=f"jobs/j/1/best/art_{number}",
        files=[], manifest_sha256=manifest, size_bytes=0,
    )  # fmt: skip


def test_of_a_directory_that_is_sealed_again_one_copy_is_named_and_the_others_go(fleet: Fleet) -> None:
    hold = held(fleet)
    gone = []
    for sealed in (best(1, "a"), best(2, "b"), best(3, "b"), best(4, "a"), best(4, "a")):
        with transaction(fleet.backend.make) as session:
            leftovers.expect(session, sealed.storage_prefix)
        with transaction(fleet.backend.make) as session:
            added = artifacts.add(session, hold, sealed)
            gone.append(None if added else artifacts.replace(session, hold, sealed))
    (row,) = fleet.artifacts(hold.job_id)

    assert gone == [None, "jobs/j/1/best/art_1", "jobs/j/1/best/art_3", "jobs/j/1/best/art_2", None]
    assert row.storage_prefix == "jobs/j/1/best/art_4"
    assert waiting(fleet.backend) == {f"jobs/j/1/best/art_{number}" for number in (1, 2, 3)}


@pytest.mark.parametrize("backend", ["bucket"], indirect=True)
def test_what_was_deleted_while_the_bucket_was_away_goes_once_it_is_back(bucket: Bucket, fleet: Fleet) -> None:
    backend, relay = fleet.backend, Relay("127.0.0.1", bucket.server.port)
    dataset = fleet.dataset(b"{}\n")
    away = Fleet(backend=backend.with_settings(s3_endpoint=f"http://127.0.0.1:{relay.port}"), folder=fleet.folder)
    with closing(away):
        relay.cut()
        datasets.delete(backend.make, away.store, TENANT, dataset)
        a_day_later(backend)
        with pytest.raises(StoreUnavailable):
            service.clear(backend.make, away.store)
        kept = backend.stored()
        relay.mend()
        a_day_later(backend)
        cleared = service.clear(backend.make, away.store)
    relay.cut()

    assert set(kept) == {f"datasets/{dataset}"}
    assert cleared == 1
    assert backend.stored() == {}
    assert waiting(backend) == set()


def overdue(backend: Backend, store: Store, received: Received, *keys: str) -> None:
    """What was kept under these keys is to go, in this order."""
    for number, key in enumerate(keys):
        store.put(key, received.path, sha256=received.sha256)
        with transaction(backend.make) as session:
            leftovers.expect(session, key, wait_s=number - 100_000.0)


def test_what_cannot_be_removed_waits_and_keeps_nothing_else_from_going(backend: Backend, tmp_path: Path) -> None:
    store, received = DirectoryStore(backend.settings.store_dir), jsonl(tmp_path)
    overdue(backend, store, received, "a/1", "b/1")
    # A folder that is a file: the store finds something else there than it put.
    shutil.rmtree(backend.settings.store_dir / "a")
    (backend.settings.store_dir / "a").write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        service.clear(backend.make, store)

    assert set(backend.stored()) == {"a"}
    assert waiting(backend) == {"a/1"}
    # Not at once again.
    assert service.clear(backend.make, store) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_an_upload_that_is_being_removed_gets_no_row(backend: Backend, tmp_path: Path, kind: str) -> None:
    def claimed() -> None:
        a_day_later(backend)
        with transaction(backend.make) as session:
            assert all(leftovers.claim(session, prefix) for prefix in waiting(backend))

    with pytest.raises((StoreUnavailable, UploadEnded)):
        KINDS[kind].keep(backend, Then(backend.settings.store_dir, claimed), jsonl(tmp_path))
    a_day_later(backend)
    service.clear(backend.make, DirectoryStore(backend.settings.store_dir))

    assert backend.stored() == {}
    assert waiting(backend) == set()


def test_two_that_clear_at_once_and_one_that_looked_before_a_row_came_remove_nothing_of_each_other_s(
    backend: Backend, tmp_path: Path
) -> None:
    store, received, removed = DirectoryStore(backend.settings.store_dir), jsonl(tmp_path), list[str]()
    overdue(backend, store, received, "a", "b", "c")

    class Meanwhile(DirectoryStore):
        """While the first goes, a row comes to name the second, and another process clears the list."""

        def delete(self, prefix: str) -> int:
            removed.append(prefix)
            if prefix == "a":
                with transaction(backend.make) as session:
                    leftovers.forget(session, "b")
                service.clear(backend.make, self)
            return super().delete(prefix)

    service.clear(backend.make, Meanwhile(backend.settings.store_dir))

    assert removed == ["a", "c"]
    assert set(backend.stored()) == {"b"}
