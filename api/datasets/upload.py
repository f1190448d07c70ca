"""Taking in a file that does not fit in memory: to a temporary file under a size and a time limit, hashed on the way."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import anyio
from starlette.requests import ClientDisconnect, Request

from api.bodies import declared_length
from api.core.errors import BodyTimeout, InsufficientStorage, InvalidDataset, UploadTooLarge
from api.datasets.schemas import BadRowView, Characters, Report, TextLengths
from cpd_engine.data.doctor import Diagnosis, Examination
from cpd_engine.data.readers import lines_of
from cpd_engine.errors import DatasetInvalid

_PIECE = 1 << 20
# Of an upload so many rows are compared with each other, which takes about 40 MB while it is read.
COMPARED = 200_000


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
async def received(request: Request, folder: Path, limits: Limits, *, suffix: str) -> AsyncIterator[Received]:
    """The request's body as a file under `folder`, whose suffix says how it is read. Whatever happens, nothing stays there.

    Raises UploadTooLarge, BodyTimeout and InsufficientStorage.
    """
    if (declared_length(request) or 0) > limits.size_bytes:
        raise _too_large(limits)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{uuid4().hex}{suffix}"
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
    examination = Examination(compared=COMPARED)
    try:
        examination.look(lines_of([path]))
    except DatasetInvalid as error:
        raise InvalidDataset(str(error).replace(path.name, "the upload")) from error
    seen = examination.diagnosis()
    if seen.rows == 0 or seen.bad_fraction > max_bad_fraction:
        raise InvalidDataset(_refusal(seen, max_bad_fraction))
    return Inspected(format=seen.format, rows=seen.rows, bad_rows=seen.bad_rows, report=_report(seen))


def _report(seen: Diagnosis) -> Report:
    views = [
        BadRowView(line=row.line, column=row.column, reason=row.reason, suggestion=row.suggestion)
        for row in seen.first_bad
    ]
    return Report(
        bad_rows=views,
        truncated=seen.bad_rows > len(views),
        characters=Characters(prompt=seen.prompt.total, response=seen.response.total),
        lengths=TextLengths(prompt=seen.prompt, response=seen.response),
        duplicates=seen.duplicates,
        conflicting=seen.conflicting,
        compared=seen.compared,
    )


def _refusal(seen: Diagnosis, allowed: float) -> str:
    rows = seen.rows + seen.bad_rows
    if rows == 0:
        return (
            'The upload has no row. Write one JSON object a line, such as {"instruction": …, "input": …, "output": …}.'
        )
    listed = "; ".join(f"line {row.line}: {row.reason}" for row in seen.first_bad)
    return f"{seen.bad_rows} of {rows} rows cannot be used; max_bad_row_fraction allows {allowed:.2%}. {listed}"
