"""`cpd migrate` and `cpd probe`: what deployments run beside the service itself. Both speak to the database, and need no key."""

from __future__ import annotations

import socket
from typing import Annotated

import typer

from api.remote.trouble import ServerUnreachable
from api.terminal.operator import data_folder, migrate_database, settings_from
from api.terminal.options import DataDir
from api.terminal.output import hint

# A worker is seen with every tick of its reaper; one may be late.
_TICKS = 3


def migrate(data_dir: DataDir = None) -> None:
    """Bring the database to this version's schema. Safe to run twice, and from several machines at once."""
    settings = settings_from(data_dir=data_dir)
    data_folder(settings)
    migrate_database(settings)
    hint("the database is up to date")


def probe(
    hostname: Annotated[str | None, typer.Option(help="Of the worker.", show_default="this machine")] = None,
    data_dir: DataDir = None,
) -> None:
    """Exit 0 if a worker of this machine has lately been seen in the database, 4 if not: a container's health check."""
    # Here and not above: other commands start faster without the database.
    from sqlalchemy import func, select
    from sqlalchemy.exc import SQLAlchemyError

    from api.core.db import connect, now, reading, sessions
    from api.jobs.tables import Worker

    settings = settings_from(data_dir=data_dir)
    within_s = _TICKS * settings.reaper_s
    seen = select(func.count()).where(
        Worker.hostname == (hostname or socket.gethostname()), Worker.seen_at >= now(-within_s)
    )
    engine = connect(settings.database_url, pool_size=1)
    try:
        with reading(sessions(engine)) as session:
            workers = session.scalars(seen).one()
    except SQLAlchemyError as error:
        remedy = "see that it runs and that CPD_DATABASE_URL is right; `cpd doctor` looks closer"
        raise ServerUnreachable(f"the database does not answer ({type(error).__name__}): {remedy}") from error
    finally:
        engine.dispose()
    if not workers:
        raise ServerUnreachable(
            f"no worker of this machine was seen within {within_s:.0f} s: start one with `cpd worker`"
        )
