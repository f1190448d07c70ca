"""Engine, sessions and column types for both databases.

SQLite: WAL, BEGIN IMMEDIATE, busy_timeout. PostgreSQL: psycopg 3, READ COMMITTED. Time is the database's own clock on both.

Two ways to a session: `transaction` writes, `reading` only reads. On SQLite BEGIN IMMEDIATE makes every transaction a writer,
and there is one writer at a time; a poll under `reading` begins deferred instead, sees one snapshot and waits for nobody.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, cast

from sqlalchemy import (
    JSON,
    Connection,
    DateTime,
    Dialect,
    Double,
    Engine,
    MetaData,
    String,
    Text,
    TypeDecorator,
    column,
    create_engine,
    event,
    func,
    literal,
    select,
    text,
)
from sqlalchemy import Table as SqlTable
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Table(DeclarativeBase):
    """Base of every SQL class."""

    metadata = MetaData(naming_convention=NAMING)


class UtcTime(TypeDecorator[datetime]):
    """An aware UTC time. SQLite keeps ISO text with microseconds, which sorts as time does."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError("a naive time never reaches the database")
        return value.astimezone(UTC).replace(tzinfo=None) if value and dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


Json = JSON().with_variant(JSONB(), "postgresql")


class now(FunctionElement[datetime]):  # noqa: N801 - reads as the SQL function it is
    """The database's clock plus `seconds`: `now()`, `now(60.0)`."""

    type = UtcTime()
    # The seconds are a bound value and no part of the text: SQLAlchemy compiles a statement with this in it once, not each time.
    inherit_cache = True

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__(*([literal(float(seconds), Double())] if seconds else []))


@compiles(now, "postgresql")
def _postgresql_now(element: now, compiler: SQLCompiler, **kw: Any) -> str:
    # clock_timestamp, not now(): a transaction that waited for a lock must not write a lease from before the wait.
    if not len(element.clauses):
        return "clock_timestamp()"
    return f"(clock_timestamp() + make_interval(secs => {compiler.process(element.clauses, **kw)}))"


@compiles(now, "sqlite")
def _sqlite_now(element: now, compiler: SQLCompiler, **kw: Any) -> str:
    # strftime gives milliseconds; padded to the six digits in which SQLAlchemy stores times, so that text order is time order.
    shift = f", printf('%+.3f seconds', {compiler.process(element.clauses, **kw)})" if len(element.clauses) else ""
    return f"(strftime('%Y-%m-%d %H:%M:%f', 'now'{shift}) || '000')"


# A server that hangs is noticed: no statement, lock or idle transaction of ours outlives these, and a dead peer is probed.
_POSTGRESQL = {
    "connect_timeout": 5,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "application_name": "cpd",
    "options": "-c lock_timeout=10s -c statement_timeout=30s -c idle_in_transaction_session_timeout=60s",
}


def connect(url: str, *, pool_size: int = 5) -> Engine:
    """An Engine for a SQLite or PostgreSQL url, of at most twice `pool_size` connections; none is opened yet."""
    if url.startswith("sqlite"):
        engine = create_engine(
            url,
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_timeout=30,
            connect_args={"timeout": 30.0, "check_same_thread": False},
        )
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    return create_engine(
        url, pool_size=pool_size, max_overflow=pool_size, pool_pre_ping=True, pool_timeout=5, connect_args=_POSTGRESQL
    )


def _prepare_sqlite(connection: DBAPIConnection, _record: object) -> None:
    # isolation_level None hands BEGIN to us: the driver's own deferred BEGIN makes two writers fail instead of wait.
    connection.isolation_level = None
    cursor = connection.cursor()
    # FULL: in WAL, NORMAL forgets the last commits when the power fails, jobs that were answered for and checkpoints' rows among them.
    for pragma in ("busy_timeout=30000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


_READING = {"cpd_reading": True, "postgresql_readonly": True}


def _begin_sqlite(connection: Connection) -> None:
    reads = bool(connection.get_execution_options().get("cpd_reading"))
    # query_only turns a write under `reading` into an error always, not only on the day another writer is quicker.
    connection.exec_driver_sql(f"PRAGMA query_only={'ON' if reads else 'OFF'}")
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def sessions(engine: Engine) -> sessionmaker[Session]:
    """Sessions whose objects stay readable after commit."""
    return sessionmaker(engine, expire_on_commit=False)


@contextmanager
def transaction(make: sessionmaker[Session]) -> Iterator[Session]:
    """One unit of work: commits at the end, rolls back on any exception."""
    with make() as session, session.begin():
        yield session


@contextmanager
def reading(make: sessionmaker[Session]) -> Iterator[Session]:
    """A session that only reads and on SQLite blocks no writer. A write in it is refused by either database."""
    with make() as session, session.begin():
        session.connection(execution_options=_READING)
        yield session


def utc_now(session: Session) -> datetime:
    """The database's clock."""
    return session.execute(select(now())).scalar_one()


def upsert(session: Session, table: type[Table], rows: Sequence[Mapping[str, Any]], *, key: Sequence[str]) -> None:
    """Insert `rows`, each with a key of its own; where `key` exists already the other columns given are overwritten.

    More than one row must be of columns without JSON, and the numbers of a column of one type.
    """
    if not rows:
        return
    names, to = list(rows[0]), mapped(table)
    changed = [name for name in names if name not in key]
    if session.get_bind().dialect.name == "sqlite":
        statement = sqlite.insert(to)
        of_given = {name: statement.excluded[name] for name in changed}
        session.execute(statement.on_conflict_do_update(index_elements=list(key), set_=of_given), list(rows))
        return
    insert = postgresql.insert(to)
    of_given = {name: insert.excluded[name] for name in changed}
    if len(rows) == 1:
        insert = insert.values(rows[0])
    else:
        # One array a column, not a statement a row: recording takes two thirds of the CPU time, of the client and of the server.
        # Texts without their length, since a cast to that would cut what is too long in place of refusing it.
        types = {name: Text() if isinstance(to.c[name].type, String) else to.c[name].type for name in names}
        arrays = [literal([row[name] for row in rows], postgresql.ARRAY(types[name])) for name in names]
        given = func.unnest(*arrays).table_valued(*(column(name, types[name]) for name in names)).render_derived()
        insert = insert.from_select(names, select(given))
    session.execute(insert.on_conflict_do_update(index_elements=list(key), set_=of_given))


def mapped(table: type[Table]) -> SqlTable:
    """The table itself: bulk inserts into it are spared what the ORM does for each row."""
    return cast("SqlTable", table.__table__)


def is_alive(engine: Engine) -> bool:
    """True when the database answers; for readiness probes. Raises SQLAlchemyError when it does not."""
    with engine.connect().execution_options(**_READING) as connection:
        return bool(connection.execute(text("select 1")).scalar_one() == 1)


__all__ = [
    "Json",
    "Table",
    "UtcTime",
    "connect",
    "func",
    "is_alive",
    "now",
    "reading",
    "sessions",
    "transaction",
    "upsert",
    "utc_now",
]
