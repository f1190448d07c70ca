"""A minute of chaos; `make chaos` has as much as one likes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.storm import storm
from tests.chaos.world import EngineName, Kind


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("kind", "engine", "seconds", "seed"), [("sqlite", "stand-in", 20.0, 1), ("postgres", "real", 40.0, 2)]
)
def test_whatever_happens_every_job_ends_once_and_as_if_nothing_had_happened(
    tmp_path: Path, kind: Kind, engine: EngineName, seconds: float, seed: int
) -> None:
    report = storm(kind, engine, tmp_path / "world", seconds=seconds, seed=seed, say=print)
    print(report.text())
    assert not report.breaches, report.text()
    assert report.succeeded > 0
    assert report.kills > 0
