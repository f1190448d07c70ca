"""What `cpd datasets check` prints for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from api.remote.answers import BadRow
from api.terminal import tables
from cpd_engine.data.doctor import Diagnosis, Found
from cpd_engine.data.lengths import Lengths, TokenCheck, TokenReport

_BAR = 30
_LINES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A file and what was found in it; `unreadable` says why reading ended early."""

    file: str
    diagnosis: Diagnosis
    unreadable: str | None
    accepted: bool


def checked(found: Sequence[Checked], tokens: TokenCheck | None) -> RenderableType:
    """Every file with its bad rows, its findings and its verdict; then its lengths by the tokenizers."""
    parts: list[RenderableType] = []
    for one in found:
        parts += _file(one)
    if tokens is not None:
        if tokens.vocabularies is not None:
            parts.append(Text(tokens.vocabularies, style="yellow"))
        for report in tokens.reports:
            parts += _tokens(report)
    return Group(*parts)


def _file(one: Checked) -> Iterator[RenderableType]:
    seen = one.diagnosis
    if seen.first_bad:
        yield tables.bad_rows(
            BadRow(line=row.line, column=row.column, reason=row.reason, suggestion=row.suggestion)
            for row in seen.first_bad
        )
        if more := seen.bad_rows - len(seen.first_bad):
            yield Text(f"and {more:,} more")
    if one.unreadable is not None:
        yield Text(one.unreadable, style="red")
    for said in _findings(one):
        yield Text(said, style="yellow")
    if seen.rows:
        yield Text(f"characters: prompt {_spread(seen.prompt)}; response {_spread(seen.response)}", style="dim")
    verdict = "accepted" if one.accepted else "refused"
    yield Text(f"{one.file}: {seen.rows:,} rows ({seen.format}), {seen.bad_rows:,} bad: {verdict}")


def _findings(one: Checked) -> Iterator[str]:
    seen = one.diagnosis
    if seen.duplicates.rows:
        yield f"duplicates of an earlier row: {_told(seen.duplicates)}; remove them, or they count twice"
    if seen.conflicting.rows:
        yield f"an earlier row's prompt with another answer: {_told(seen.conflicting)}"
    for name, leak in seen.leaked.items():
        if leak.rows:
            remedy = "keep each prompt in one file, or the scores measure memory"
            yield f"prompts that are in {name} too: {_told(leak)}; {remedy}"
    if seen.compared < seen.rows:
        yield f"duplicates were looked for among the first {seen.compared:,} rows"


def _told(found: Found) -> str:
    shown = ", ".join(map(str, found.lines[:_LINES]))
    more = ", …" if found.rows > _LINES else ""
    return f"{found.rows:,} (line {shown})" if found.rows == 1 else f"{found.rows:,} (lines {shown}{more})"


def _spread(lengths: Lengths) -> str:
    return f"{lengths.median:,} in the middle, {lengths.p95:,} at 95 %, {lengths.longest:,} at most"


def _tokens(report: TokenReport) -> Iterable[RenderableType]:
    yield Text(f"\n{report.file} by the {report.model}'s tokenizer, template {report.template}", style="bold")
    yield _histogram(report.sample)
    parts = (("prompt", report.prompt), ("response", report.response), ("sample", report.sample))
    for name, lengths in parts:
        yield Text(f"{name}: {lengths.total:,} tokens; {_spread(lengths)}")
    share = (report.overlong + report.overlong_prompt) / report.rows if report.rows else 0.0
    yield Text(
        f"over {report.max_length} tokens: {report.overlong:,} rows, dropped or truncated as the job says, and "
        f"{report.overlong_prompt:,} dropped whose prompt alone is too long: {share:.2%}",
        style="yellow" if share else "",
    )
    for row in report.shown:
        yield Text(f"row {row.id}: {row.prompt_tokens} + {row.response_tokens} tokens", style="dim")
        yield Text(row.prompt) + Text(row.response, style="green")


def _histogram(lengths: Lengths) -> Table:
    table = Table("tokens", "rows", "", box=None)
    most = max((one.rows for one in lengths.histogram), default=0)
    for one in lengths.histogram:
        width = -(-one.rows * _BAR // most)
        table.add_row(f"≤ {one.upto:,}", f"{one.rows:,}", "█" * width)
    return table
