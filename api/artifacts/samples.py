"""What the models of a job answered, row by row, read from the lines of its sealed report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy.orm import Session

from api.artifacts import service
from api.artifacts.schemas import Change, SamplePage, SampleView
from api.artifacts.tables import Artifact
from api.core.errors import ArtifactNotReady, NotFound, ValidationFailed
from api.core.storage import Store
from api.downloads import Content
from api.jobs.service import last_seq

SAMPLES = "samples.jsonl"
REPORT = "report"
# Rows that one request reads at most.
LOOKED_AT = 2000


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the file, with its end, and where it begins."""

    offset: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Answers:
    """Where the answers of a job lie: a file of its report."""

    report: Artifact
    path: str

    def content(self, store: Store) -> Content:
        """Themselves, a JSON object a line. Asks the store: no session should be open meanwhile. Raises ArtifactExpired."""
        return service.file_content(store, self.report, self.path)


def find(session: Session, tenant_id: str, job_id: str, suite: str | None) -> Answers:
    """The answers to the test split or a suite.

    Raises ArtifactNotReady until they are there, ArtifactExpired, and NotFound for a suite that the job has not.
    """
    try:
        report = service.find(session, tenant_id, job_id, REPORT)
    except NotFound:
        last_seq(session, tenant_id, job_id)
        raise ArtifactNotReady("The job has not evaluated yet; its samples come with the report.") from None
    path = SAMPLES if suite is None else f"suites/{suite}.jsonl"
    if all(file["path"] != path for file in report.files):
        raise NotFound("The job has no such suite.", param="suite")
    return Answers(report, path)


def page(content: Content, *, limit: int, cursor: str | None, changed: Change | None = None) -> SamplePage:
    """A page of answers in the order of the file, of all rows or of those that changed so; the cursor is a line's offset in bytes.

    So that a request stays short, a page of changed rows ends after some rows even where it holds few.
    """
    at = _line_offset(content, cursor)
    found: list[SampleView] = []
    for looked, line in enumerate(lines(content, at)):
        if len(found) == limit or looked == LOOKED_AT:
            break
        sample = view(line.content)
        if changed is None or sample.change() == changed:
            found.append(sample)
        at = line.offset + len(line.content)
    more = at < content.size_bytes
    return SamplePage(data=found, has_more=more, next_cursor=str(at) if more else None)


def view(line: bytes) -> SampleView:
    """A line as it is shown."""
    return SampleView.model_validate(json.loads(line))


def lines(content: Content, start: int = 0) -> Iterator[Line]:
    """Line by line from the offset of one; the file is never in memory as a whole."""
    rest, at = b"", start
    for chunk in content.read(start, content.size_bytes):
        *whole, rest = (rest + chunk).split(b"\n")
        for text in whole:
            yield Line(at, text + b"\n")
            at += len(text) + 1
    if rest:
        yield Line(at, rest)


def _line_offset(content: Content, cursor: str | None) -> int:
    """Where a page begins. A cursor that does not point behind a line's end was made up."""
    at = int(cursor or 0) if (cursor or "0").isascii() and (cursor or "0").isdigit() else -1
    if at == 0:
        return 0
    if not 0 < at < content.size_bytes or b"".join(content.read(at - 1, at)) != b"\n":
        raise ValidationFailed("cursor: pass the next_cursor of a page as it is", param="cursor")
    return at
