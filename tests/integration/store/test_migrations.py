"""The migrated schema is the declared one, on both databases, however often and by however many it is made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, create_engine, inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from migrations.apply import config, downgrade, is_current, upgrade
from migrations.metadata import METADATA
from tests.backends import admin
from tests.integration.store.steps import together


@pytest.fixture(params=["sqlite", "postgres"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The url of a database without tables."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/new/folder/cpd.sqlite3"
        return
    server = request.getfixturevalue("postgres_server")
    name = f"cpd_test_{uuid4().hex}"
    admin(server, f'CREATE DATABASE "{name}" TEMPLATE template0')
    yield server.database(name)
    admin(server, f'DROP DATABASE "{name}" WITH (FORCE)')


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def tables(url: str) -> set[str]:
    with connected(url) as connection:
        return set(inspect(connection).get_table_names())


def indexes(connection: Connection) -> dict[str, Any]:
    """Columns and uniqueness of every index and unique constraint, and the text of every check, by name."""
    found: dict[str, Any] = {}
    looking = inspect(connection)
    for table in looking.get_table_names():
        found |= {
            f"{table}.{index['name']}": (index["column_names"], bool(index["unique"]))
            for index in looking.get_indexes(table)
        }
        found |= {f"{table}.{one['name']}": one["column_names"] for one in looking.get_unique_constraints(table)}
        found |= {f"{table}.{one['name']}": one["sqltext"] for one in looking.get_check_constraints(table)}
        found |= {
            f"{table}.{one['name']}": (one["referred_table"], one["options"]) for one in looking.get_foreign_keys(table)
        }
        found |= {
            f"{table}.{column['name']}": (str(column["type"]), column["nullable"], column["default"])
            for column in looking.get_columns(table)
        }
    return {name: value for name, value in found.items() if not name.startswith("alembic_version")}


def test_the_migrated_schema_is_the_declared_one(empty: str) -> None:
    upgrade(empty)
    with connected(empty) as connection:
        options = {"compare_type": True, "compare_server_default": False}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), METADATA) == []
        assert is_current(connection)
        migrated = indexes(connection)
    downgrade(empty, "base")
    with connected(empty) as connection:
        METADATA.create_all(connection)
        connection.commit()
        assert indexes(connection) == migrated


def test_up_down_and_up_again_leaves_the_same(empty: str) -> None:
    upgrade(empty)
    first = tables(empty)
    downgrade(empty, "base")
    assert tables(empty) == {"alembic_version"}
    with connected(empty) as connection:
        assert not is_current(connection)
    upgrade(empty)
    assert tables(empty) == first == {*METADATA.tables, "alembic_version"}


def test_migrating_twice_changes_nothing(empty: str) -> None:
    upgrade(empty)
    upgrade(empty)
    with connected(empty) as connection:
        assert is_current(connection)


def test_processes_that_start_together_may_all_migrate(empty: str) -> None:
    assert together(*(partial(upgrade, empty) for _ in range(4))) == [None] * 4
    with connected(empty) as connection:
        assert is_current(connection)


def test_a_migration_that_fails_leaves_nothing_behind(empty: str) -> None:
    # A table of the second half is in the way.
    with connected(make_folder(empty)) as connection:
        connection.execute(text("CREATE TABLE artifacts (id int)"))
        connection.commit()

    assert isinstance(together(partial(upgrade, empty))[0], Exception)

    assert tables(empty) <= {"artifacts", "alembic_version"}


def test_jobs_outlive_the_change_of_their_kinds_with_their_trigger(empty: str) -> None:
    upgrade(empty, "20261124_job_kinds")
    with connected(empty) as connection:
        connection.execute(text("INSERT INTO tenants (id, name) VALUES ('t', 't')"))
        add(connection, "job_old", "probe")
        connection.commit()
    upgrade(empty)
    with connected(empty) as connection:
        add(connection, "job_new", "table")
        connection.execute(text("INSERT INTO job_attempts (job_id, fence, worker_id) VALUES ('job_new', 1, 'w')"))
        connection.commit()
        assert kinds(connection) == {"job_old": "probe", "job_new": "table"}
        with pytest.raises(DBAPIError):
            connection.execute(text("UPDATE jobs SET state = 'queued' WHERE id = 'job_old'"))
        connection.rollback()
        with pytest.raises(DBAPIError):
            add(connection, "job_odd", "odd")
        connection.rollback()
    downgrade(empty, "20261124_job_kinds")
    with connected(empty) as connection:
        assert kinds(connection) == {"job_old": "probe"}
        assert connection.execute(text("SELECT count(*) FROM job_attempts")).scalar_one() == 0
        with pytest.raises(DBAPIError):
            add(connection, "job_late", "table")
    upgrade(empty)


def add(connection: Connection, job_id: str, kind: str) -> None:
    columns = "id, tenant_id, kind, spec, resolved, state, requested, progress, fence, attempt, crashes, losses, rings, last_seq"
    values = f"'{job_id}', 't', '{kind}', '{{}}', '{{}}', 'succeeded', 'none', '{{}}', 0, 0, 0, 0, 0, 1"
    connection.execute(text(f"INSERT INTO jobs ({columns}) VALUES ({values})"))


def kinds(connection: Connection) -> dict[str, str]:
    return {row.id: row.kind for row in connection.execute(text("SELECT id, kind FROM jobs"))}


def make_folder(url: str) -> str:
    if url.startswith("sqlite"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True)
    return url


def test_the_scripts_lie_beside_the_code_that_runs_them() -> None:
    folder = Path(config().get_main_option("script_location") or "")
    assert (folder / "env.py").exists()
    assert list((folder / "versions").glob("20*.py"))
