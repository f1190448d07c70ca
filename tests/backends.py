"""The two sets of servers that the service runs on, each test on a database and a broker of its own.

`conftest.py` of a folder of tests takes the fixtures from here by importing them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import psycopg
import pytest
import redis
from sqlalchemy import Engine, insert
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session, sessionmaker

from api.core.db import connect, sessions, transaction
from api.core.settings import Settings
from api.keys.tables import Tenant
from migrations.apply import upgrade
from tests.buckets import Bucket
from tests.servers import PostgresServer, RedisServer, postgresql, redis_server

TEMPLATE = "cpd_template"
TENANT = "ten_test"
_STORE = ("store_url", "s3_endpoint", "s3_region", "s3_public_endpoint", "downloads")
# For tests of whatever keeps or reads files: `pytestmark = STORES`.
STORES = pytest.mark.parametrize("backend", ["sqlite", "postgres", "bucket"], indirect=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """A migrated database with one tenant (TENANT), an empty broker, and the settings that name both."""

    name: Literal["sqlite", "postgres"]
    settings: Settings
    engine: Engine
    make: sessionmaker[Session]
    bucket: Bucket | None = None

    def stored(self, prefix: str = "") -> dict[str, bytes]:
        """What the store has under keys that begin so, looked up behind its back."""
        if self.bucket is not None:
            found = self.bucket.objects()
        else:
            root = self.settings.store_dir
            found = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        return {key: content for key, content in found.items() if key.startswith(prefix)}

    def damage(self, key: str, content: bytes) -> None:
        """Put something else under a key of the store, behind its back."""
        if self.bucket is not None:
            self.bucket.write(key, content)
        else:
            (self.settings.store_dir / key).write_bytes(content)

    def environment(self, **more: str) -> dict[str, str]:
        """What a child process needs in its environment to use the same backend; `lease_s="1"` sets CPD_LEASE_S."""
        told = {
            "data_dir": str(self.settings.data_dir),
            "database_url": self.settings.database_url,
            "broker_url": self.settings.broker_url,
            **{name: value for name in _STORE if (value := getattr(self.settings, name)) is not None},
            **more,
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CPD_")}
        return kept | {f"CPD_{name.upper()}": value for name, value in told.items()}

    def with_settings(self, **changed: Any) -> Backend:
        """The same servers under other settings."""
        return replace(self, settings=Settings.model_validate(self.settings.model_dump() | changed))


@pytest.fixture(scope="session")
def postgres_server(worker_number: int) -> Iterator[PostgresServer]:
    """PostgreSQL with a migrated template: that of CPD_TEST_DATABASE_URL, else one started for this run."""
    given = os.environ.get("CPD_TEST_DATABASE_URL")
    if given is None:
        with postgresql() as server:
            _make_template(server, TEMPLATE)
            yield server
        return
    server = PostgresServer(url=given.rpartition("/")[0])
    _make_template(server, f"{TEMPLATE}_{worker_number}")
    yield server
    admin(server, f'DROP DATABASE IF EXISTS "{TEMPLATE}_{worker_number}" WITH (FORCE)')


@pytest.fixture(scope="session")
def broker_server(worker_number: int) -> Iterator[RedisServer]:
    """Redis: that of CPD_TEST_REDIS_URL, of which each xdist worker takes a database of its own, else one started for this run."""
    given = os.environ.get("CPD_TEST_REDIS_URL")
    if given is None:
        with redis_server() as server:
            yield server
        return
    url = make_url(given)
    first = int(url.database or 0)
    yield RedisServer(url=url.set(database=str(first + worker_number)).render_as_string(hide_password=False))


@pytest.fixture(scope="session")
def worker_number() -> int:
    """Which of pytest-xdist's workers this is, from 0."""
    return int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file to copy."""
    path = tmp_path_factory.mktemp("template") / "cpd.sqlite3"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(params=["sqlite", "postgres"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    """Each test that asks for it runs twice: on SQLite with filesystem://, and on PostgreSQL with Redis. Files lie in a folder.

    A third way is there for tests that want it, STORES: on SQLite, with the files in a bucket.
    """
    if request.param != "postgres":
        data_dir = tmp_path / "data"
        data_dir.mkdir()
        shutil.copyfile(request.getfixturevalue("sqlite_template"), data_dir / "cpd.sqlite3")
        bucket: Bucket | None = request.getfixturevalue("bucket") if request.param == "bucket" else None
        kept: dict[str, Any] = {} if bucket is None else bucket.settings
        with connected("sqlite", Settings(data_dir=data_dir, pool_size=20, **kept)) as made:
            yield replace(made, bucket=bucket)
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    broker: RedisServer = request.getfixturevalue("broker_server")
    with _database(server, request.getfixturevalue("worker_number")) as url:
        _flush(broker)
        settings = Settings(data_dir=tmp_path / "data", database_url=url, broker_url=broker.url, pool_size=20)
        with connected("postgres", settings) as made:
            yield made


@contextmanager
def connected(name: Literal["sqlite", "postgres"], settings: Settings) -> Iterator[Backend]:
    """A backend over a migrated database that is there already."""
    engine = connect(settings.database_url, pool_size=settings.pool_size)
    make = sessions(engine)
    try:
        with transaction(make) as session:
            session.execute(insert(Tenant).values(id=TENANT, name="test"))
        yield Backend(name=name, settings=settings, engine=engine, make=make)
    finally:
        engine.dispose()


@contextmanager
def _database(server: PostgresServer, worker_number: int) -> Iterator[str]:
    template = f"{TEMPLATE}_{worker_number}" if server.guarded is None else TEMPLATE
    name = f"cpd_test_{uuid4().hex}"
    # Measured with fsync off: 0.08 s, where the default strategy takes 0.64 s.
    admin(server, f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY')
    try:
        yield server.database(name)
    finally:
        admin(server, f'DROP DATABASE "{name}" WITH (FORCE)')


def _make_template(server: PostgresServer, name: str) -> None:
    admin(server, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    admin(server, f'CREATE DATABASE "{name}" TEMPLATE template0')
    upgrade(server.database(name))


def admin(server: PostgresServer, statement: str) -> None:
    """Run one statement outside of any transaction, as CREATE DATABASE wants it."""
    url = server.database("postgres").replace("postgresql+psycopg://", "postgresql://")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


def _flush(server: RedisServer) -> None:
    with redis.Redis.from_url(server.url) as client:
        client.flushdb()
