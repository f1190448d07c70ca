"""Alembic's entry point: runs the migrations on the connection that apply.py gives, or on the settings' database from the command line."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from api.core.settings import Settings
from migrations.apply import exclusive
from migrations.metadata import METADATA


def run(connection: Connection) -> None:
    """One transaction a migration. SQLite alters a table by making it anew, which batch mode does."""
    context.configure(
        connection=connection,
        target_metadata=METADATA,
        render_as_batch=connection.dialect.name == "sqlite",
        # Alembic takes SQLite for a database whose CREATE TABLE cannot be rolled back; apply.py's connections can.
        transactional_ddl=True,
        transaction_per_migration=True,
        compare_type=True,
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    with exclusive(Settings().database_url) as own:
        run(own)
