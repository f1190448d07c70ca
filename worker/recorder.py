"""From the engine's lines to rows: batches of events with their metrics and progress, each under the attempt's fence.

A sealed directory goes to the store first; its row and its event are one transaction, so nobody sees one without the other.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import structlog
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session, sessionmaker

from api.artifacts import queries as artifacts
from api.artifacts.queries import Sealed
from api.core.db import transaction
from api.events.queries import Line, Point, append_events
from api.jobs.lease import Hold, LeaseLost
from cpd_engine.events import (
    Checkpointed,
    Event,
    Failed,
    Finished,
    Forecasted,
    PhaseStarted,
    Stopped,
    from_json,
    to_dict,
)
from worker.lease import Lease
from worker.progress import advance, points
from worker.spool import Spool, Spooled

log = structlog.get_logger(__name__)
T = TypeVar("T")

_MAX_BATCH = 500
_RETRY_S = (0.1, 5.0)


class Fenced:
    """Transactions of one attempt: tried again while the database is away, never once the lease is lost."""

    def __init__(self, make: sessionmaker[Session], lease: Lease) -> None:
        self._make, self._lease = make, lease

    def commit(self, work: Callable[[Session], T]) -> T:
        """Run `work`, which must bear to be run again after a commit whose answer was lost. Raises LeaseLost."""
        delay_s, longest_s = _RETRY_S
        while not self._lease.lost:
            try:
                with transaction(self._make) as session:
                    return work(session)
            except LeaseLost:
                self._lease.lose()
                raise
            except SQLAlchemyError as error:
                if not is_outage(error):
                    raise
                log.warning("write_postponed", error=type(error).__name__, retry_in_s=delay_s)
            self._lease.wait_lost(delay_s)
            delay_s = min(delay_s * 2, longest_s)
        raise LeaseLost


def is_outage(error: SQLAlchemyError) -> bool:
    """True where the same statement may well succeed later: server away, lock held too long, no connection free."""
    if isinstance(error, OperationalError | InterfaceError | PoolTimeout):
        return True
    return isinstance(error, DBAPIError) and error.connection_invalidated


class Keep(Protocol):
    """Puts a sealed directory into the store and says under which prefix; None where the engine has deleted it meanwhile."""

    def __call__(self, sealed: Checkpointed, /) -> Sealed | None: ...


class Recorder:
    """Reads the spool to its end in a thread. `ending` is the run's last word, `exported` whether the export is in the store,
    `forecasted` whether a forecast is recorded.

    `trouble` is what kept it from going on; it then takes no more lines.
    """

    def __init__(
        self,
        *,
        hold: Hold,
        spool: Spool,
        writes: Fenced,
        keep: Keep,
        remove: Callable[[list[str]], None],
        record_s: float,
        on_trouble: Callable[[], None],
    ) -> None:
        self._hold, self._spool, self._writes = hold, spool, writes
        self._keep, self._remove = keep, remove
        self._record_s, self._on_trouble = record_s, on_trouble
        self._progress: dict[str, Any] = {}
        self.ending: Finished | Stopped | Failed | None = None
        self.exported = False
        self.forecasted = False
        self.bad_lines = 0
        self.trouble: BaseException | None = None
        # The thread logs under the job that the starting one has bound.
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run,), name="recorder", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait until the spool is read to its end and everything is recorded; False where it is not yet."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while (batch := self._spool.take(max_lines=_MAX_BATCH, linger_s=self._record_s)) is not None:
                self._record(batch)
        except LeaseLost:
            self._spool.close()
        except BaseException as error:
            log.exception("recorder_stopped")
            self.trouble = error
            self._spool.close()
            self._on_trouble()

    def _record(self, batch: list[Spooled]) -> None:
        pending: list[tuple[int, Event]] = []
        for line in batch:
            event = self._parse(line)
            if event is None:
                continue
            if isinstance(event, Checkpointed):
                self._append(pending)
                pending = []
                self._keep_checkpoint(line.eseq, event)
                continue
            if isinstance(event, Finished | Stopped | Failed):
                self.ending = event
            self.forecasted = self.forecasted or isinstance(event, Forecasted)
            pending.append((line.eseq, event))
        self._append(pending)

    def _parse(self, line: Spooled) -> Event | None:
        try:
            return from_json(line.text)
        except (ValidationError, ValueError) as error:
            self.bad_lines += 1
            log.warning("bad_event_line", eseq=line.eseq, size_bytes=len(line.text), error=type(error).__name__)
            return None

    def _append(self, events: list[tuple[int, Event]]) -> None:
        if not events:
            return
        progress, phase = self._progress, None
        series: dict[tuple[str, int], Point] = {}
        for _, event in events:
            progress = advance(progress, event)
            phase = event.phase if isinstance(event, PhaseStarted) else phase
            # One row a step and statement: PostgreSQL refuses to update a row twice in one upsert.
            series |= {(point.name, point.step): point for point in points(event)}
        lines = [Line(eseq=eseq, kind=event.kind, data=to_dict(event)) for eseq, event in events]
        try:
            self._writes.commit(
                lambda session: append_events(
                    session, self._hold, lines, points=list(series.values()), phase=phase, progress=progress
                )
            )
            self._progress = progress
        except SQLAlchemyError:
            # The database is there and refuses a value. The others must not be lost with it.
            if len(events) > 1:
                for one in events:
                    self._append([one])
                return
            self.bad_lines += 1
            log.exception("event_refused", eseq=events[0][0], kind=events[0][1].kind)

    def _keep_checkpoint(self, eseq: int, event: Checkpointed) -> None:
        line = Line(eseq=eseq, kind=event.kind, data=to_dict(event))
        sealed = self._keep(event)

        def write(session: Session) -> list[str]:
            replaced: list[str] = []
            if sealed is not None:
                if not artifacts.add(session, self._hold, sealed):
                    replaced += filter(None, [artifacts.replace(session, self._hold, sealed)])
                if event.role in ("training", "best"):
                    replaced += artifacts.expire(
                        session, self._hold, name=event.name, role=event.role, retained=event.retained
                    )
            append_events(session, self._hold, [line])
            return replaced

        replaced = self._writes.commit(write)
        self.exported = self.exported or (sealed is not None and event.role == "export")
        # Only after the commit, and a leftover does no harm: no row points at it.
        self._remove(replaced)
