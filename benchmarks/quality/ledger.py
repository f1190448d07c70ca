"""What every run gave, one JSON object a line: appended as runs end, so that a study goes on where it was cut off."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One run: a method with its settings, in a family, under a seed. `role`: what it is for; `setup`: the family's, with its models."""

    family: str
    setup: str
    method: str
    role: str
    seed: int
    tau_1: float
    tau_n: float
    learning_rate: float
    change: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """A hash of all of it."""
        return sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What a unit gave. `scores` on test by metric: exact_match and rouge_l in percent, ce and kl (to the teacher) in nats a token;
    `validation`: the best of the family's metric; `rows`: that metric's score of each test row, packed; `anchors`: the scores of the
    teacher and the untouched student; `tokens`: supervised ones that the student learnt from; `cpu_s`: of the whole run.
    """

    unit: Unit
    scores: dict[str, float]
    validation: float
    rows: dict[str, str]
    anchors: dict[str, dict[str, float]]
    steps: int
    tokens: int
    cpu_s: float
    commit: str


class Ledger:
    """The records at `path` by their unit's key. A line that was cut off by a crash is dropped, and the run done again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.records: dict[str, Record] = {}
        if path.exists():
            whole, mark, torn = path.read_bytes().rpartition(b"\n")
            for line in whole.splitlines():
                self._take(json.loads(line))
            if torn:
                path.write_bytes(whole + mark)

    def add(self, record: Record) -> None:
        """Keep it, on the disk before this returns."""
        self.records[record.unit.key] = record
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(record), sort_keys=True) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def of(self, units: Iterable[Unit]) -> list[Record]:
        """Those of these units that are there."""
        return [self.records[unit.key] for unit in units if unit.key in self.records]

    def _take(self, found: dict[str, Any]) -> None:
        record = Record(**found | {"unit": Unit(**found["unit"])})
        self.records[record.unit.key] = record


def packed(values: NDArray[np.float64]) -> str:
    """Numbers as text, in half precision where they are not all 0 or 1."""
    whole = bool(np.isin(values, (0.0, 1.0)).all())
    return f"b{len(values)}:" + np.packbits(values.astype(bool)).tobytes().hex() if whole else _halves(values)


def unpacked(text: str) -> NDArray[np.float64]:
    """Inverse of `packed`, but for rounding to half precision."""
    kind, _, body = text.partition(":")
    if kind == "h":
        return np.frombuffer(bytes.fromhex(body), dtype=np.float16).astype(np.float64)
    return np.unpackbits(np.frombuffer(bytes.fromhex(body), dtype=np.uint8))[: int(kind[1:])].astype(np.float64)


def _halves(values: NDArray[np.float64]) -> str:
    return "h:" + values.astype(np.float16).tobytes().hex()
