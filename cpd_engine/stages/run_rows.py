"""The rows of a run's report as columns of scores: read line by line, so that answers, however long, are never held together."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from sys import intern
from typing import Any

import numpy as np

from cpd_engine.errors import NothingToCompare
from cpd_engine.evaluation.comparison import RunRows
from cpd_engine.evaluation.report import METRICS
from cpd_engine.members import SUBJECTS, asked_in


def test_rows(path: Path, seed: int) -> RunRows:
    """Of the test split. Raises NothingToCompare where the file cannot be read as what it should be."""
    return _read(path, seed, METRICS, supervised=True)


def suite_rows(path: Path, seed: int, metrics: Sequence[str]) -> RunRows:
    """Of a suite; a row's value is the mean over the seeds of its answers. Raises NothingToCompare likewise."""
    return _read(path, seed, metrics, supervised=False)


def _read(path: Path, seed: int, metrics: Sequence[str], *, supervised: bool) -> RunRows:
    rows: list[str] = []
    tokens: list[float] = []
    values: dict[str, list[list[float]]] = {subject: [] for subject in SUBJECTS}
    try:
        for line in _lines(path):
            # The same text in every run: kept once.
            rows.append(intern(f"{line['row']} {asked_in(line)}"))
            for subject in SUBJECTS:
                values[subject].append([_value(line["answers"][subject], metric) for metric in metrics])
            if supervised:
                tokens.append(float(line["answers"]["student"]["supervised"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NothingToCompare(f"the rows of a run cannot be read: {type(error).__name__}") from error
    return RunRows(
        seed=seed,
        rows=rows,
        values={subject: np.array(found, dtype=np.float64) for subject, found in values.items()},
        supervised=np.array(tokens, dtype=np.float64) if supervised else None,
    )


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def _value(answer: Mapping[str, Any], metric: str) -> float:
    said = answer.get("generations", [answer])
    return fmean(float(one[metric]) for one in said)
