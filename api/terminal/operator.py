"""Settings for the commands of whoever runs the service, and for the processes they start."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session

from api.core.db import connect, sessions, transaction
from api.core.settings import Settings
from api.remote.trouble import BadInput, ServerUnreachable


def settings_from(**given: Any) -> Settings:
    """Settings of the environment with options of the command line on top; None means not given. Raises BadInput."""
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        faults = (f"CPD_{'.'.join(map(str, fault['loc'])).upper()}: {fault['msg']}" for fault in error.errors())
        raise BadInput("; ".join(faults)) from error


@contextmanager
def database_session(settings: Settings) -> Iterator[Session]:
    """A transaction on the service's database, for commands that need no service. Raises ServerUnreachable."""
    engine = connect(settings.database_url)
    try:
        with transaction(sessions(engine)) as session:
            yield session
    except DatabaseError as error:
        reason = str(error.orig).splitlines()[0]
        raise ServerUnreachable(
            f"the database cannot be used ({reason}): run `cpd migrate`, or set CPD_DATABASE_URL"
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
