"""Uploaded data sets on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from cpd_engine.data.doctor import Found
from cpd_engine.data.lengths import Lengths


class Frozen(BaseModel):
    """Base of the answers."""

    model_config = ConfigDict(frozen=True)


class BadRowView(Frozen):
    """A line that cannot be used. `reason` is "code: text" with a stable code; line and column count from 1.

    In CSV the column is the table's.
    """

    line: int
    column: int | None
    reason: str
    suggestion: str


class Characters(Frozen):
    """How much text the usable rows hold."""

    prompt: int
    response: int


class TextLengths(Frozen):
    """How long the usable rows' prompts and responses are, in characters."""

    prompt: Lengths
    response: Lengths


class Report(Frozen):
    """The first bad rows, `truncated` where there are more; and what else a person should look at.

    `duplicates` say what an earlier row says; `conflicting` ask what an earlier row asks and answer otherwise. Both were looked for
    among the first `compared` usable rows. Data sets of older versions lack these and `lengths`.
    """

    bad_rows: list[BadRowView]
    truncated: bool
    characters: Characters
    lengths: TextLengths | None = None
    duplicates: Found | None = None
    conflicting: Found | None = None
    compared: int | None = None


class DatasetView(Frozen):
    """An uploaded data set. `rows` can be used, `bad_rows` are skipped. From `expires_at` on it is not there any more."""

    id: str
    object: Literal["dataset"] = "dataset"
    name: str
    format: str
    rows: int
    bad_rows: int
    size_bytes: int
    sha256: str
    created_at: datetime
    expires_at: datetime | None = None
    report: Report


class DatasetPage(Frozen):
    """A page of data sets, newest first."""

    object: Literal["list"] = "list"
    data: list[DatasetView]
    has_more: bool
    next_cursor: str | None
