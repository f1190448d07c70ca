"""JSON lines as bytes, up to the point where each is a JSON object: what can go wrong, where, and what to do. Standard library only."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, BinaryIO, NoReturn

MAX_ROW_BYTES = 1 << 20


class Unusable(Exception):
    """A line that cannot be used: `reason` is "code: text"; `column` from 1, or `field` to look it up by, the `nth` of its name from 0."""

    def __init__(self, code: str, text: str, suggestion: str, *, column: int | None = None, field: str | None = None):
        super().__init__(code)
        self.reason = f"{code}: {text}"
        self.suggestion = suggestion
        self.column = column
        self.field = field
        self.nth = 0


class PlacedLine(bytes):
    """A row's JSON out of a file that is no JSON lines, which knows where it stood there.

    `line` and `column` are where it starts. Of a table `cells` are the columns' names, by whose number a field is found; the line of
    a Parquet row is its number. `fault`: the file's text gave no row; the bytes are then no JSON either.
    """

    line: int
    column: int
    cells: tuple[str, ...] | None
    fault: Unusable | None

    @classmethod
    def at(cls, raw: bytes, line: int, *, column: int = 1, cells: tuple[str, ...] | None = None) -> PlacedLine:
        """A row that starts there."""
        placed = cls(raw)
        placed.line, placed.column, placed.cells, placed.fault = line, column, cells, None
        return placed

    @classmethod
    def unusable(cls, fault: Unusable, line: int, cells: tuple[str, ...]) -> PlacedLine:
        """What should have been a row of a table."""
        placed = cls.at(b"?", line, cells=cells)
        placed.fault = fault
        return placed


def place(raw: bytes, number: int, text: str, bad: Unusable) -> tuple[int, int | None]:
    """Line and column of what is wrong with a row, in its file: `number` is the row's among the lines, `text` what was read of it."""
    column = bad.column if bad.column is not None else column_of(text, bad.field, bad.nth)
    if not isinstance(raw, PlacedLine):
        return number, column
    if raw.cells is not None:
        return raw.line, raw.cells.index(bad.field) + 1 if bad.field in raw.cells else None
    if column is None:
        return raw.line, None
    before = text[: column - 1]
    down = before.count("\n")
    return raw.line + down, column - 1 - before.rfind("\n") if down else raw.column + column - 1


def read_lines(stream: BinaryIO) -> Iterator[bytes]:
    """The lines of a binary stream, each cut at one byte above the limit, so that no line however long fills the memory."""
    while line := stream.readline(MAX_ROW_BYTES + 1):
        yield line
        while len(line) > MAX_ROW_BYTES and not line.endswith(b"\n"):
            line = stream.readline(MAX_ROW_BYTES + 1)
            if not line:
                return


def decode(line: bytes) -> str:
    """The line as text without its end. Raises Unusable: too large, not UTF-8, NUL."""
    if len(line) > MAX_ROW_BYTES:
        raise Unusable("too_large", f"the row is longer than {MAX_ROW_BYTES} bytes", "Split or shorten the row.")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        remedy = "Save the file as UTF-8."
        raise Unusable("not_utf8", "the line is not UTF-8", remedy, column=error.start + 1) from None
    if (at := text.find("\0")) >= 0:
        raise Unusable("nul_character", "the line holds a NUL byte", "Remove the NUL characters.", column=at + 1)
    return text.rstrip("\r\n")


def parse(text: str) -> dict[str, Any]:
    """The JSON object in the text. Raises Unusable: not JSON, not an object, NaN or Infinity, a field twice."""
    try:
        value = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique_keys)
    except json.JSONDecodeError as error:
        remedy = "Write one complete JSON object a line, with double quotes and without trailing commas."
        raise Unusable("invalid_json", f"not JSON ({error.msg})", remedy, column=error.colno) from None
    except (ValueError, RecursionError):  # integers of thousands of digits; nesting without end
        raise Unusable("invalid_json", "a number or the nesting is beyond reason", "Simplify the row.") from None
    if not isinstance(value, dict):
        remedy = 'Write an object such as {"instruction": …, "input": …, "output": …}.'
        raise Unusable("not_an_object", "the line is JSON but not an object", remedy, column=1)
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise Unusable("non_finite_number", f"{name} is not JSON", "Use a finite number or null.", field=name)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise Unusable("duplicate_key", "a field occurs twice", "Keep one of them.", field=twice)
    return fields


def column_of(text: str, field: str | None, nth: int = 0) -> int | None:
    """Where the field's name (or a bare constant) stands in the line, counted from 1: for the nth time, or first if not so often."""
    if field is None:
        return None
    quoted = json.dumps(field, ensure_ascii=False)
    at = text.find(quoted)
    at = first = at if at >= 0 else text.find(field)
    for _ in range(nth):
        at = text.find(quoted, at + 1)
    return (at if at >= 0 else first) + 1 or None
