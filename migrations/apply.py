"""Bring a database to the newest schema. Several processes may do so at once: one works, the others wait and find it done."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import NullPool

# Any fixed number that no one else in this database uses.
_ADVISORY_LOCK = 0x0C9D_0001
# A migration that waits for a lock stalls every query behind it; rather fail and be run again at a quieter time.
_LOCK_TIMEOUT_S = 10


def upgrade(url: str, revision: str = "head") -> None:
    """Run the migrations up to `revision`. Makes the file and folder of a SQLite database."""
    with exclusive(url) as connection:
        command.upgrade(config(connection), revision)


def downgrade(url: str, revision: str) -> None:
    """Take migrations back down to `revision`; `base` drops every table."""
    with exclusive(url) as connection:
        command.downgrade(config(connection), revision)


def is_current(connection: Connection) -> bool:
    """True where the database has the newest schema; for readiness."""
    heads = ScriptDirectory.from_config(config(connection)).get_heads()
    return set(MigrationContext.configure(connection).get_current_heads()) == set(heads)


def config(connection: Connection | None = None) -> Config:
    """Alembic's settings for the scripts beside this file, working on `connection`."""
    settings = Config()
    settings.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    settings.attributes["connection"] = connection
    return settings


@contextmanager
def exclusive(url: str) -> Iterator[Connection]:
    """A connection for migrations while no other process migrates the same database."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        with _file_lock(parsed), _connection(parsed) as connection:
            yield connection
        return
    with _connection(parsed) as connection:
        # Of the session, not of the transaction: a migration may commit in the middle.
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _ADVISORY_LOCK})
        connection.execute(text(f"SET lock_timeout = '{_LOCK_TIMEOUT_S}s'"))
        connection.commit()
        yield connection


@contextmanager
def _connection(url: URL) -> Iterator[Connection]:
    engine = create_engine(url, poolclass=NullPool)
    if url.get_backend_name() == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    try:
        # Closing it ends the session and with it the advisory lock.
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def _prepare_sqlite(connection: DBAPIConnection, _record: object) -> None:
    # isolation_level None leaves BEGIN to us, and tables are then made and altered inside the transaction like rows.
    connection.isolation_level = None
    cursor = connection.cursor()
    # A table that batch mode replaces would take the rows that refer to it along.
    for pragma in ("busy_timeout=30000", "journal_mode=WAL", "foreign_keys=OFF"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


@contextmanager
def _file_lock(url: URL) -> Iterator[None]:
    """SQLite has no lock that outlives a transaction, so one is held on a file beside the database."""
    file = Path(str(url.database))
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_name(f"{file.name}.migrating").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
