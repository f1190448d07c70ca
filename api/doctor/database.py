"""Whether the database answers, keeps what it was given, has this version's schema, and what it says of keys and workers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from sqlalchemy import Connection, Engine, func, make_url, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from api.core.db import connect, now, reading, sessions, utc_now
from api.core.settings import Settings
from api.doctor.findings import Finding, broken, doubtful, well
from api.jobs import queries
from api.jobs.states import JobState
from api.jobs.tables import Worker
from api.keys.service import has_key, is_loopback
from migrations.apply import is_current

WORKER_SEEN_S = 60.0
# Nothing of ours hangs on this machine's clock, but log lines, signatures of webhooks and TLS do.
CLOCK_S = 2.0
OLDEST_POSTGRESQL = 14
# PostgreSQL's own maintenance and one person with psql.
_SPARE_CONNECTIONS = 10
_DURABLE = ("fsync", "full_page_writes", "synchronous_commit")


def examined(settings: Settings) -> Iterator[Finding]:
    """What there is to say; ends early where there is nothing behind the URL."""
    url = make_url(settings.database_url)
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).exists():
        yield doubtful("database", "there is none yet", "start the service: `cpd serve` makes it, or run `cpd migrate`")
        return
    engine = connect(settings.database_url, pool_size=1)
    try:
        yield from _answers(engine, settings)
    except (DBAPIError, PoolTimeout) as error:
        reason = str(error.orig if isinstance(error, DBAPIError) else error).strip().splitlines()[0]
        yield broken("database", reason, "start it, or correct CPD_DATABASE_URL; running jobs wait for CPD_OUTAGE_S")
    finally:
        engine.dispose()


def _answers(engine: Engine, settings: Settings) -> Iterator[Finding]:
    with engine.connect() as connection:
        numbers = engine.dialect.server_version_info or ()
        yield well("database", f"{engine.dialect.name} {'.'.join(map(str, numbers))} answers")
        if engine.dialect.name == "postgresql":
            yield from _server(connection, settings, int(numbers[0]))
        if not is_current(connection):
            yield broken(
                "schema",
                "not this version's",
                "stop the workers, back up, then run `cpd migrate` (`cpd serve` does so itself)",
            )
            return
        yield well("schema", "this version's")
    yield from _rows(engine, settings)


def _server(connection: Connection, settings: Settings, major: int) -> Iterator[Finding]:
    """What only PostgreSQL has."""
    if major < OLDEST_POSTGRESQL:
        yield doubtful("database", f"version {major} is not tried", f"upgrade to {OLDEST_POSTGRESQL} or later")
    if connection.scalar(text("select pg_is_in_recovery()")):
        yield broken("database", "it is a standby, which takes no writes", "point CPD_DATABASE_URL at the primary")
    off = [name for name in _DURABLE if _shown(connection, name) == "off"]
    if off:
        remedy = "turn it on: without it, what was answered for may be gone after a crash"
        yield doubtful("durability", f"{', '.join(off)} is off", remedy)
    most = int(_shown(connection, "max_connections"))
    wanted = 2 * settings.pool_size + _SPARE_CONNECTIONS
    if most < wanted:
        remedy = "raise max_connections, lower CPD_POOL_SIZE, or put a pooler in between"
        yield doubtful("connections", f"{most} at the most, and one process may want {2 * settings.pool_size}", remedy)
    yield _clock(connection)


def _shown(connection: Connection, name: str) -> str:
    return str(connection.scalar(text("select current_setting(:name)"), {"name": name}))


def _clock(connection: Connection) -> Finding:
    before = datetime.now(UTC)
    theirs = connection.scalars(select(now())).one()
    after = datetime.now(UTC)
    return clock(before, theirs, after)


def clock(before: datetime, theirs: datetime, after: datetime) -> Finding:
    """The database's clock, which was read between two looks at this machine's."""
    apart_s = max((before - theirs).total_seconds(), (theirs - after).total_seconds(), 0.0)
    if apart_s > CLOCK_S:
        return doubtful(
            "clock", f"{apart_s:.0f} s apart from the database's", "let both follow NTP (chrony, timesyncd)"
        )
    return well("clock", f"with the database's, to {CLOCK_S:.0f} s")


def _rows(engine: Engine, settings: Settings) -> Iterator[Finding]:
    with reading(sessions(engine)) as session:
        keyed = has_key(session)
        states = {JobState(state): count for state, count in session.execute(queries.counts_by_state())}
        workers = session.scalars(select(Worker).where(Worker.seen_at >= now(-WORKER_SEEN_S))).all()
        last = session.scalar(select(func.max(Worker.seen_at)))
        moment = utc_now(session)
    if keyed:
        yield well("keys", "there is one that opens the service")
    elif is_loopback(settings.host):
        yield doubtful("keys", "there is none", "`cpd serve` makes the first one, `cpd keys create NAME` any other")
    else:
        yield broken("keys", f"there is none, and CPD_HOST is {settings.host}", "make one: `cpd keys create NAME`")
    waiting = states.get(JobState.QUEUED, 0)
    if not workers:
        ago = "none was ever seen" if last is None else f"the last was seen {(moment - last).total_seconds():.0f} s ago"
        yield doubtful("workers", f"none alive, {waiting} jobs wait; {ago}", "start one: `cpd worker`, or `cpd serve`")
        return
    told = ", ".join(f"{one.hostname} (pid {one.pid}, {one.devices} devices)" for one in workers)
    yield well("workers", f"{len(workers)} alive, {waiting} jobs wait: {told}")
    others = sorted({one.version for one in workers} - {version("cpd")})
    if others:
        remedy = "api and workers must be of one version: upgrade the older"
        yield broken("workers", f"version {', '.join(others)}, and here {version('cpd')}", remedy)
