"""`python -m tests.chaos [--seconds N] [--seed N] [--backend sqlite|postgres]`: chaos by hand. Exits 1 where an invariant broke."""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
from pathlib import Path

from tests.chaos.storm import storm

OUT = Path(__file__).resolve().parents[2] / "build" / "chaos"


def main() -> int:
    """Parse, rage, report. Where something broke, everything that the workers said is kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--backend", choices=["sqlite", "postgres"], default="postgres")
    parser.add_argument("--engine", choices=["real", "stand-in"], default="real")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="cpd-chaos-"))
    report = storm(
        given.backend,
        given.engine,
        folder / "world",
        seconds=given.seconds,
        seed=given.seed,
        say=lambda line: print(line, flush=True),
    )
    report.keep(OUT)
    print(report.text())
    if report.breaches:
        print(f"the workers' logs, store and database are kept in {folder}")
    return int(bool(report.breaches))


if __name__ == "__main__":
    sys.exit(main())
