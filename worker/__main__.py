"""`python -m worker`: one worker, on the database and broker of the environment."""

from __future__ import annotations

import argparse
import sys

from pydantic import ValidationError

from api.core.settings import Settings
from worker.app import main


def run() -> int:
    """Parse, read the environment, work; exit code 2 where the environment does not make sense."""
    parser = argparse.ArgumentParser(prog="python -m worker", description="Run distillation jobs, one at a time.")
    parser.add_argument("--watchdog", action="store_true", help="drain when standard input ends")
    arguments = parser.parse_args()
    try:
        settings = Settings()
    except ValidationError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return main(settings, watchdog=arguments.watchdog)


if __name__ == "__main__":
    sys.exit(run())
