"""`python -m tests.described [--seed N] [--examples N]`: the long form, on servers of its own. Exits 1 where the description lies."""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
from pathlib import Path

from api.core.settings import Settings
from migrations.apply import upgrade
from tests.backends import admin, connected
from tests.described.trial import ROOM, trial
from tests.integration.http.api import serving
from tests.servers import postgresql, redis_server


def main() -> int:
    """Parse, serve, try, tell."""
    parser = argparse.ArgumentParser(prog="python -m tests.described")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--examples", type=int, default=100)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, postgresql() as database, redis_server() as broker:
        folder = Path(name)
        admin(database, "CREATE DATABASE described")
        url = database.database("described")
        settings = Settings(data_dir=folder / "data", database_url=url, broker_url=broker.url, pool_size=20)
        upgrade(settings.database_url)
        with connected("postgres", settings) as backend, serving(backend.with_settings(**ROOM)) as api:
            found = trial(api, folder, seed=given.seed, examples=given.examples, everywhere=True)
    print(found.said)
    print("\n".join(f"never answered with a success: {name}" for name in found.unserved))
    return int(found.code != 0 or bool(found.unserved))


if __name__ == "__main__":
    sys.exit(main())
