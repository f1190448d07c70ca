"""A store that is away is asked again, from where it broke off, until patience or the lease is at its end."""

# ruff: noqa: ARG002 - the signatures are the protocol's

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from api.core.storage import StoredFileMissing, StoreUnavailable
from api.jobs.lease import LeaseLost
from api.jobs.states import Requested
from worker.lease import Lease, LeaseTimes
from worker.patient_store import PatientStore

CONTENT = b"0123456789"


class Away:
    """A store that fails at the first `times` calls, and at each of these in a read after two chunks of it."""

    def __init__(self, times: int) -> None:
        self.left, self.asked = times, 0

    def _may_fail(self) -> None:
        self.asked += 1
        if self.left:
            self.left -= 1
            raise StoreUnavailable("away")

    def put(self, key: str, source: Path, *, sha256: str) -> int:
        self._may_fail()
        return len(CONTENT)

    def fetch(self, key: str, target: Path, *, sha256: str) -> None:
        self._may_fail()
        raise StoredFileMissing(key)

    def size(self, key: str) -> int:
        self._may_fail()
        return len(CONTENT)

    def read(self, key: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        self.asked += 1
        return self._chunks(start, len(CONTENT) if stop is None else stop)

    def _chunks(self, start: int, stop: int) -> Iterator[bytes]:
        for sent, at in enumerate(range(start, stop)):
            if sent == 2 and self.left:
                self.left -= 1
                raise StoreUnavailable("away")
            yield CONTENT[at : at + 1]

    def delete(self, prefix: str) -> int:
        self._may_fail()
        return 1


def nothing_asked() -> Requested:
    return Requested.NONE


@pytest.fixture
def lease() -> Lease:
    """One that nobody beats; `lose` loses it."""
    times = LeaseTimes(heartbeat_s=60.0, poll_s=60.0, outage_s=lambda: 60.0)
    return Lease(beat=nothing_asked, look=nothing_asked, times=times, on_change=lambda: None)


def patient(store: Away, lease: Lease, *, clock: Callable[[], float] = lambda: 0.0) -> PatientStore:
    return PatientStore(store, lease, patience_s=lambda: 5.0, clock=clock)


def test_a_call_is_made_again_until_it_is_answered(lease: Lease) -> None:
    store = Away(1)
    assert (patient(store, lease).size("k"), store.asked) == (len(CONTENT), 2)


def test_what_is_no_outage_is_told_at_once(lease: Lease, tmp_path: Path) -> None:
    store = Away(0)
    with pytest.raises(StoredFileMissing):
        patient(store, lease).fetch("k", tmp_path / "t", sha256="")
    assert store.asked == 1


def test_a_read_goes_on_where_it_broke_off(lease: Lease) -> None:
    store = Away(3)
    assert b"".join(patient(store, lease).read("k", 1, 9)) == CONTENT[1:9]
    assert (store.left, store.asked) == (0, 4)


def test_patience_has_an_end(lease: Lease) -> None:
    times = iter([0.0, 6.0])
    store = Away(99)
    with pytest.raises(StoreUnavailable):
        patient(store, lease, clock=lambda: next(times)).size("k")
    assert store.asked == 1


def test_nobody_waits_for_a_store_once_the_job_is_another_s(lease: Lease) -> None:
    lease.lose()
    with pytest.raises(LeaseLost):
        patient(Away(99), lease).delete("k")
