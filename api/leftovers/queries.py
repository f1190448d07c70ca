"""Statements over leftovers. No prefix is ever used for two things, so that what is to go is not somebody else's by then."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Select, delete, insert, select, update
from sqlalchemy.orm import Session

from api.core.db import now
from api.leftovers.tables import Leftover

# Whoever lets files go removes them right after its commit; what is left after so long is removed by others.
_REMOVED_S = 60.0
# No upload takes so long beside what it may wait for the store.
_SENT_S = 86_400.0
# For whoever removes files, before another tries: longer than a removal takes, and than a look at a store that is away.
_CLAIMED_S = 600.0


def expect(session: Session, prefix: str, *, wait_s: float = 0.0) -> None:
    """Files are about to come under a prefix, by somebody who may wait so long for the store. Before the first of them is sent."""
    _put_down(session, [prefix], _SENT_S + wait_s)


def name(session: Session, prefix: str) -> bool:
    """A row names the files that were expected, from this transaction on. False where they took so long that they may be being removed."""
    # One that was claimed is due sooner than that.
    safe = delete(Leftover).where(Leftover.prefix == prefix, Leftover.due_at > now(_CLAIMED_S))
    return bool(session.execute(safe.returning(Leftover.prefix)).all())


def claim(session: Session, prefix: str) -> bool:
    """What is due is the caller's to remove, for some minutes, after which it is due again. False where it is due no more."""
    put_off = update(Leftover).where(Leftover.prefix == prefix, Leftover.due_at <= now()).values(due_at=now(_CLAIMED_S))
    return bool(session.execute(put_off.returning(Leftover.prefix)).all())


def forget(session: Session, prefix: str) -> None:
    """A row names the files, from this transaction on; or they are gone."""
    session.execute(delete(Leftover).where(Leftover.prefix == prefix))


def let_go(session: Session, prefixes: Sequence[str]) -> None:
    """No row names the files any more, from this transaction on."""
    if prefixes:
        _put_down(session, prefixes, _REMOVED_S)


def _put_down(session: Session, prefixes: Sequence[str], in_s: float) -> None:
    # Anew where it stands already: a transaction whose commit was not answered is run again.
    session.execute(delete(Leftover).where(Leftover.prefix.in_(prefixes)))
    session.execute(insert(Leftover).values([{"prefix": one, "due_at": now(in_s)} for one in prefixes]))


def due(limit: int) -> Select[str]:
    """Prefixes whose time has come, the oldest first."""
    return select(Leftover.prefix).where(Leftover.due_at <= now()).order_by(Leftover.due_at).limit(limit)
