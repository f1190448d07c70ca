"""Files that no row names: of uploads that were cut, and of what was deleted while the store was away."""

from __future__ import annotations

from sqlalchemy.orm import Session, sessionmaker

from api.core import db
from api.core.storage import Store
from api.leftovers import queries

_AT_ONCE = 100


def clear(make: sessionmaker[Session], store: Store) -> int:
    """Remove what is due; how many prefixes. Doing so twice does no harm. Raises OSError, and what is left then waits for the next time."""
    with db.reading(make) as session:
        prefixes = session.scalars(queries.due(_AT_ONCE)).all()
    for prefix in prefixes:
        store.delete(prefix)
        with db.transaction(make) as session:
            queries.forget(session, prefix)
    return len(prefixes)
