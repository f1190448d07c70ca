"""Files that come in forms: the body, already in a file of its own, is taken apart into its fields and its one file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from api.core.errors import UnsupportedMediaType, ValidationFailed
from api.datasets.upload import Received

FIELD_BYTES = 4096
FIELDS = 16
# What the form itself may take beside the file.
OVERHEAD_BYTES = 64 * 1024
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """The text fields, and the file with the name that the client gave it."""

    fields: dict[str, str]
    filename: str
    file: Received


@contextmanager
def opened(body: Received, content_type: str, name: str) -> Iterator[Form]:
    """The form in `body`, whose file is the part `name`; that file goes where the block ends.

    Raises UnsupportedMediaType and ValidationFailed.
    """
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise UnsupportedMediaType("Send a form, with content-type: multipart/form-data.")
    # Rows that come this way are JSON lines, and the suffix says so.
    path = body.path.with_name(f"{uuid4().hex}.jsonl")
    try:
        with path.open("wb") as target:
            parts = _Parts(name, target)
            _parse(body.path, boundary, parts)
        yield parts.form(path)
    finally:
        path.unlink(missing_ok=True)


def _parse(path: Path, boundary: bytes, parts: _Parts) -> None:
    broken = ValidationFailed("The form is broken, or ends too early.")
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": parts.begin,
                "on_part_data": parts.data,
                "on_part_end": parts.end,
                "on_header_field": parts.header_name,
                "on_header_value": parts.header_value,
                "on_header_end": parts.header_end,
                "on_headers_finished": parts.headers_finished,
                "on_end": parts.finish,
            },
        )
        with path.open("rb") as source:
            while chunk := source.read(_CHUNK):
                parser.write(chunk)
        parser.finalize()
    except FormParserError as error:
        raise broken from error
    if not parts.whole:
        raise broken


@dataclass(slots=True)
class _Parts:
    """What the parser has told so far. Part and header are those at hand."""

    wanted: str
    target: BinaryIO
    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None
    size: int = 0
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)
    whole: bool = False
    name: str = ""
    is_file: bool = False
    value: bytearray = field(default_factory=bytearray)
    header: tuple[bytes, bytes] = (b"", b"")

    def begin(self) -> None:
        self.name, self.is_file, self.value = "", False, bytearray()

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self.header = (self.header[0] + data[start:end], self.header[1])

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self.header = (self.header[0], self.header[1] + data[start:end])

    def header_end(self) -> None:
        (name, value), self.header = self.header, (b"", b"")
        if name.lower() != b"content-disposition":
            return
        _, options = parse_options_header(value)
        self.name = options.get(b"name", b"").decode(errors="replace")
        if self.name == self.wanted:
            if self.filename is not None:
                raise ValidationFailed(f"{self.wanted}: send one file", param=self.wanted)
            self.is_file = True
            self.filename = options.get(b"filename", b"").decode(errors="replace")

    def headers_finished(self) -> None:
        if not self.is_file and len(self.fields) == FIELDS:
            raise ValidationFailed(f"A form may have at most {FIELDS} fields.")

    def data(self, data: bytes, start: int, end: int) -> None:
        if self.is_file:
            piece = data[start:end]
            self.size += len(piece)
            self.digest.update(piece)
            self.target.write(piece)
            return
        self.value += data[start:end]
        if len(self.value) > FIELD_BYTES:
            raise ValidationFailed(f"A field of a form may have at most {FIELD_BYTES} bytes.")

    def end(self) -> None:
        if not self.is_file:
            self.fields[self.name] = self.value.decode(errors="replace")

    def finish(self) -> None:
        self.whole = True

    def form(self, path: Path) -> Form:
        """Raises ValidationFailed where there was no file."""
        if self.filename is None:
            raise ValidationFailed(f"{self.wanted}: send a file under this name", param=self.wanted)
        file = Received(path=path, size_bytes=self.size, sha256=self.digest.hexdigest())
        return Form(fields=self.fields, filename=self.filename, file=file)
