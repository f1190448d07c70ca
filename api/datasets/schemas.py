"""Uploaded data sets on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Base of the answers."""

    model_config = ConfigDict(frozen=True)


class BadRowView(Frozen):
    """A line that cannot be used. `reason` is "code: text" with a stable code; line and column count from 1."""

    line: int
    column: int | None
    reason: str
    suggestion: str


class Characters(Frozen):
    """How much text the usable rows hold."""

    prompt: int
    response: int


class Report(Frozen):
    """The first bad rows; `truncated` where there are more."""

    bad_rows: list[BadRowView]
    truncated: bool
    characters: Characters


class DatasetView(Frozen):
    """An uploaded data set. `rows` can be used, `bad_rows` are skipped."""

    id: str
    object: Literal["dataset"] = "dataset"
    name: str
    format: str
    rows: int
    bad_rows: int
    size_bytes: int
    sha256: str
    created_at: datetime
    report: Report


class DatasetPage(Frozen):
    """A page of data sets, newest first."""

    object: Literal["list"] = "list"
    data: list[DatasetView]
    has_more: bool
    next_cursor: str | None
