"""Measurements as CSV, each row with the machine, its load before the part and the versions that it holds for; and as text."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.engine.conditions import conditions

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

PACKAGES = ("fastapi", "uvicorn", "sqlalchemy", "psycopg", "celery")


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """`load` is the average of the minute before the part began: more than a little is other work, which costs every time on the wall."""

    date: str
    commit: str
    machine: str
    cores: int
    load: float
    python: str
    versions: str

    @classmethod
    def now(cls, moment: datetime, more: Mapping[str, str] | None = None) -> Circumstances:
        """As they are at `moment`; `more` are versions of what is not in this environment."""
        found = conditions(moment)
        versions = {name: version(name) for name in PACKAGES} | dict(more or {})
        return cls(
            date=found.date,
            commit=found.commit,
            machine=found.machine,
            cores=found.cores,
            load=round(os.getloadavg()[0], 2),
            python=found.python,
            versions=" ".join(f"{name}={number}" for name, number in versions.items()),
        )


def flat(found: DataclassInstance) -> dict[str, Any]:
    """A measurement as columns: numbers with four digits behind the point, breaches by their count."""
    return {name: _cell(value) for name, value in asdict(found).items()}


def _cell(value: Any) -> Any:
    match value:
        case float():
            return round(value, 4)
        case list() | tuple():
            return len(value)
        case _:
            return value


def write(path: Path, found: Sequence[DataclassInstance], circumstances: Circumstances) -> None:
    """One row a measurement."""
    rows = [flat(one) | asdict(circumstances) for one in found]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def text(found: DataclassInstance) -> str:
    """For a person."""
    return "\n".join(f"  {name:18} {value}" for name, value in flat(found).items())
