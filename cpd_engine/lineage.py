"""Where a student comes from, as `lineage.json` tells it: models, rows, engine, libraries, seeds, and under which licences. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Ancestor:
    """A model that the student comes from: `reference` as in the spec, the hub's commit of one that is found there, and its weights.

    `licence`: as its own README.md states it; None where it states none, or where the run made the model itself (`made`).
    `weights`: sha256 by file.
    """

    reference: Mapping[str, Any]
    revision: str | None
    licence: str | None
    made: bool
    parameters: int
    weights: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file of rows, known by its content."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """The rows that a run trained and was scored on. `rows_sha256`: of the normalised rows of all splits; `files` as they were given."""

    hub: str | None
    revision: str | None
    synthetic: Mapping[str, Any] | None
    licence: str | None
    files: Mapping[str, tuple[Source, ...]]
    rows: Mapping[str, int]
    rows_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteData:
    """What a suite asked: its files, or the data set on the hub at its commit. `rows_sha256`: of rows and worked examples as read."""

    suite: str
    hub: str | None
    revision: str | None
    files: Mapping[str, Source]
    rows_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """All that a student's weights depend on. `engine`: this project's version and commit; the spec itself lies beside, in spec.json."""

    teacher: Ancestor
    student: Ancestor
    data: Data
    suites: tuple[SuiteData, ...]
    engine: Mapping[str, str | None]
    libraries: Mapping[str, str]
    device: str
    precision: str
    threads: int
    processes: int
    seeds: Mapping[str, int]
