"""Files that no row names: of uploads that were cut, and of what was deleted while the store was away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from api.core import db
from api.core.storage import Store, discard
from api.leftovers import queries

log = structlog.get_logger(__name__)

_AT_ONCE = 100
# So many a round: of a store that is away each costs a time-out.
_FAILURES = 3


@contextmanager
def arriving(make: sessionmaker[Session], store: Store, prefix: str) -> Iterator[None]:
    """Files come under a prefix in this block, which ends with the transaction that names them. Where that is refused they go at once."""
    with db.transaction(make) as session:
        queries.expect(session, prefix)
    try:
        yield
    except SQLAlchemyError:
        # The commit may be done, and only its answer lost. Where nothing names the files they are leftovers now.
        raise
    except Exception:
        discard(store, prefix)
        raise


def clear(make: sessionmaker[Session], store: Store) -> int:
    """Remove what is due; how many prefixes. Others may do so at the same time.

    What cannot be removed is put off, so that it keeps nothing else from going. Raises the last of such OSErrors, when all that can go
    has gone, or earlier where the store seems to be away.
    """
    gone, failed = 0, list[OSError]()
    for prefix in _due(make):
        try:
            gone += _cleared(make, store, prefix)
        except OSError as error:
            log.warning("leftover_in_store", prefix=prefix, error=type(error).__name__)
            failed.append(error)
        if len(failed) == _FAILURES:
            break
    if failed:
        raise failed[-1]
    return gone


def _due(make: sessionmaker[Session]) -> Iterator[str]:
    """Each is removed or put off before the next look, so that there is an end."""
    while True:
        with db.reading(make) as session:
            prefixes = session.scalars(queries.due(_AT_ONCE)).all()
        yield from prefixes
        if len(prefixes) < _AT_ONCE:
            return


def _cleared(make: sessionmaker[Session], store: Store, prefix: str) -> bool:
    with db.transaction(make) as session:
        # The look at the list is old by now: a row may name the files since, or somebody else be removing them.
        if not queries.claim(session, prefix):
            return False
    store.delete(prefix)
    with db.transaction(make) as session:
        queries.forget(session, prefix)
    return True
