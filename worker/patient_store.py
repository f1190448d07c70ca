"""The store as an attempt sees it: asked again while it is away, for hours of training are worth some minutes of waiting."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TypeVar

import structlog

from api.core.storage import Files, StoreUnavailable
from api.jobs.lease import LeaseLost
from worker.lease import Lease

log = structlog.get_logger(__name__)
T = TypeVar("T")

_RETRY_S = (0.5, 15.0)


class PatientStore:
    """Files of `store`. Raises its StoreUnavailable once it has been away for `patience_s`, and LeaseLost once the job is another's."""

    def __init__(
        self,
        store: Files,
        lease: Lease,
        *,
        patience_s: Callable[[], float],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._store, self._lease, self._patience_s, self._clock = store, lease, patience_s, clock

    def put(self, key: str, source: Path, *, sha256: str) -> int:
        return self._insist(lambda: self._store.put(key, source, sha256=sha256))

    def fetch(self, key: str, target: Path, *, sha256: str) -> None:
        self._insist(lambda: self._store.fetch(key, target, sha256=sha256))

    def size(self, key: str) -> int:
        return self._insist(lambda: self._store.size(key))

    def read(self, key: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        return self._resumed(self._insist(lambda: self._store.read(key, start, stop)), key, start, stop)

    def delete(self, prefix: str) -> int:
        return self._insist(lambda: self._store.delete(prefix))

    def _resumed(self, chunks: Iterator[bytes], key: str, at: int, stop: int | None) -> Iterator[bytes]:
        """What comes, and after a break what comes from there on."""
        while True:
            try:
                for chunk in chunks:
                    at += len(chunk)
                    yield chunk
            except StoreUnavailable as error:
                log.warning("store_broke_off", reason=str(error))
                chunks = self._insist(partial(self._store.read, key, at, stop))
            else:
                return

    def _insist(self, act: Callable[[], T]) -> T:
        delay_s, longest_s = _RETRY_S
        since = self._clock()
        while True:
            try:
                return act()
            except StoreUnavailable as error:
                if self._clock() - since > self._patience_s():
                    raise
                log.warning("store_unavailable", reason=str(error), retry_in_s=delay_s)
            if self._lease.wait_lost(delay_s):
                raise LeaseLost
            delay_s = min(delay_s * 2, longest_s)
