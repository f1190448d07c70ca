"""Settings for the commands of whoever runs the service, and for the processes they start."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr, ValidationError

from api.remote.trouble import BadInput, ServerUnreachable

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from api.core.settings import Settings


def settings_from(**given: Any) -> Settings:
    """Settings of the environment with options of the command line on top; None means not given. Raises BadInput."""
    # Here and not above, as below: these bring half a second of database and templates along, which most commands do without.
    from api.core.settings import Settings

    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        faults = (f"CPD_{'.'.join(map(str, fault['loc'])).upper()}: {fault['msg']}" for fault in error.errors())
        raise BadInput("; ".join(faults)) from error


def data_folder(settings: Settings) -> None:
    """Make the folder of data, readable by its owner alone, if it is not there. Raises BadInput where it cannot be had."""
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        remedy = "choose another with --data-dir or CPD_DATA_DIR"
        raise BadInput(f"there can be no folder {settings.data_dir} ({error.strerror}): {remedy}") from error


def migrate_database(settings: Settings) -> None:
    """Bring the database to this version's schema. Raises ServerUnreachable."""
    from sqlalchemy.exc import SQLAlchemyError

    from migrations.apply import upgrade

    try:
        upgrade(settings.database_url)
    except SQLAlchemyError as error:
        remedy = "see that it runs and that CPD_DATABASE_URL is right; `cpd doctor` looks closer"
        raise ServerUnreachable(f"the database cannot be migrated ({type(error).__name__}): {remedy}") from error


@contextmanager
def database_session(settings: Settings) -> Iterator[Session]:
    """A transaction on the service's database, for commands that need no service. Raises ServerUnreachable."""
    from sqlalchemy.exc import DatabaseError

    from api.core.db import connect, sessions, transaction

    engine = connect(settings.database_url)
    try:
        with transaction(sessions(engine)) as session:
            yield session
    except DatabaseError as error:
        reason = str(error.orig).splitlines()[0]
        raise ServerUnreachable(
            f"the database cannot be used ({reason}): run `cpd migrate`, or name the service's own by --data-dir or CPD_DATABASE_URL"
        ) from error
    finally:
        engine.dispose()


def environment_of(settings: Settings, environment: dict[str, str]) -> dict[str, str]:
    """`environment` with the variables from which a child process reads these same settings."""
    written = {
        f"CPD_{name.upper()}": _written(getattr(settings, name))
        for name in sorted(settings.model_fields_set)
        if not isinstance(getattr(settings, name), SecretStr | None)
    }
    return environment | written


def _written(value: Any) -> str:
    if isinstance(value, tuple) and all(isinstance(part, Path) for part in value):
        return os.pathsep.join(map(str, value))
    return json.dumps(value) if isinstance(value, tuple) else str(value)
