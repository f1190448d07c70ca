"""A database that loses a commit, or the answer to one: what a cut connection does at the worst two moments."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import OperationalError

Moment = Literal["before", "after"]


class Lost(Exception):
    """What the driver would have said."""


@dataclass
class Faults:
    """Commits fail as `next_commit` says: `before` leaves nothing written, `after` writes all and tells nobody. One fault a setting."""

    next_commit: Moment | None = None
    met: int = 0

    def commit(self, connection: Connection) -> None:
        """Called when a transaction is about to be committed."""
        moment, self.next_commit = self.next_commit, None
        if moment is None:
            return
        self.met += 1
        if moment == "after":
            connection.connection.commit()
        raise OperationalError("COMMIT", None, Lost(f"the connection broke {moment} the commit"))


@contextmanager
def faulty(engine: Engine, faults: Faults) -> Iterator[Faults]:
    """The engine's commits meet these faults until the block ends."""
    event.listen(engine, "commit", faults.commit)
    try:
        yield faults
    finally:
        event.remove(engine, "commit", faults.commit)
