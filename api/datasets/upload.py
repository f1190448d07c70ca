"""Taking in a file that does not fit in memory: to a temporary file under a size and a time limit, hashed on the way."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import anyio
from starlette.requests import ClientDisconnect, Request

from api.bodies import declared_length
from api.core.errors import BodyTimeout, InsufficientStorage, InvalidDataset, UploadTooLarge
from api.datasets.schemas import BadRowView, Characters, Report
from cpd_engine.data.records import BadRow, Row, detect_format, read_lines, read_rows

_PIECE = 1 << 20
SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A whole upload, in a file that goes when the request is over."""

    path: Path
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bytes in all, seconds in all, and seconds without a byte."""

    size_bytes: int
    total_s: float
    idle_s: float


@asynccontextmanager
async def received(request: Request, folder: Path, limits: Limits) -> AsyncIterator[Received]:
    """The request's body as a file under `folder`. Whatever happens, nothing stays there.

    Raises UploadTooLarge, BodyTimeout and InsufficientStorage.
    """
    if (declared_length(request) or 0) > limits.size_bytes:
        raise _too_large(limits)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{uuid4().hex}.upload"
    try:
        with anyio.fail_after(limits.total_s):
            size_bytes, digest = await _write(request, path, limits)
        yield Received(path=path, size_bytes=size_bytes, sha256=digest)
    except TimeoutError:
        raise BodyTimeout("The upload stood still for too long, or took too long as a whole.") from None
    except ClientDisconnect:
        raise BodyTimeout("The upload broke off.") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InsufficientStorage from error
        raise
    finally:
        path.unlink(missing_ok=True)


async def _write(request: Request, path: Path, limits: Limits) -> tuple[int, str]:
    digest, size, waiting = hashlib.sha256(), 0, bytearray()
    async with await anyio.open_file(path, "wb") as file:
        async for chunk in _unless_idle(request, limits.idle_s):
            size += len(chunk)
            if size > limits.size_bytes:
                raise _too_large(limits)
            waiting += chunk
            if len(waiting) >= _PIECE:
                await anyio.to_thread.run_sync(digest.update, bytes(waiting))
                await file.write(waiting)
                waiting = bytearray()
        digest.update(waiting)
        await file.write(waiting)
    return size, digest.hexdigest()


async def _unless_idle(request: Request, idle_s: float) -> AsyncIterator[bytes]:
    chunks = request.stream().__aiter__()
    while True:
        try:
            with anyio.fail_after(idle_s):
                chunk = await chunks.__anext__()
        except StopAsyncIteration:
            return
        yield chunk


def _too_large(limits: Limits) -> UploadTooLarge:
    return UploadTooLarge(f"An upload may have at most {limits.size_bytes} bytes; split the data set.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspected:
    """What is in an upload: the format of its first usable row, the counts, and what a person should look at."""

    format: str
    rows: int
    bad_rows: int
    report: Report


def inspect(path: Path, *, max_bad_fraction: float) -> Inspected:
    """Read every line as the engine will. Raises InvalidDataset where no row or too few rows can be used."""
    rows, bad, prompt, response, kind = 0, 0, 0, 0, "unknown"
    shown: list[BadRow] = []
    with path.open("rb") as file:
        lines = _Remembering(read_lines(file))
        for row in read_rows(lines):
            if isinstance(row, BadRow):
                bad += 1
                shown += [row] if len(shown) < SHOWN else []
                continue
            kind = kind if rows else detect_format(json.loads(lines.last.decode("utf-8-sig")))
            rows, prompt, response = rows + 1, prompt + _asked(row), response + len(row.response)
    if rows == 0 or bad > max_bad_fraction * (rows + bad):
        raise InvalidDataset(_refusal(rows, bad, max_bad_fraction, shown))
    views = [
        BadRowView(line=row.line, column=row.column, reason=row.reason, suggestion=row.suggestion) for row in shown
    ]
    report = Report(bad_rows=views, truncated=bad > len(shown), characters=Characters(prompt=prompt, response=response))
    return Inspected(format=kind, rows=rows, bad_rows=bad, report=report)


class _Remembering:
    """Lines, the last of which can be looked at again."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines
        self.last = b""

    def __iter__(self) -> Iterator[bytes]:
        for line in self._lines:
            self.last = line
            yield line


def _asked(row: Row) -> int:
    return len(row.instruction) + len(row.input)


def _refusal(rows: int, bad: int, allowed: float, shown: list[BadRow]) -> str:
    if rows + bad == 0:
        return (
            'The upload has no row. Write one JSON object a line, such as {"instruction": …, "input": …, "output": …}.'
        )
    listed = "; ".join(f"line {row.line}: {row.reason}" for row in shown)
    return f"{bad} of {rows + bad} rows cannot be used; max_bad_row_fraction allows {allowed:.2%}. {listed}"
