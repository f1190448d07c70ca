"""Files that no row names: of uploads that were cut, and of what was deleted while the store was away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from api.core import db
from api.core.storage import Store, discard
from api.leftovers import queries

_AT_ONCE = 100


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
    """Remove what is due; how many prefixes. Doing so twice does no harm. Raises OSError, and what is left then waits for the next time."""
    with db.reading(make) as session:
        prefixes = session.scalars(queries.due(_AT_ONCE)).all()
    for prefix in prefixes:
        store.delete(prefix)
        with db.transaction(make) as session:
            queries.forget(session, prefix)
    return len(prefixes)
