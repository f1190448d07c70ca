"""Rows of a CSV file as JSON objects, one for each record. Standard library only.

The first record names the fields, as JSON rows would; what parts them is the comma, semicolon or tab that occurs most in it. A cell of
`messages`, `conversations` or `test_list` holds JSON; an empty one of these, or of `id`, is a field that the row does not have.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from cpd_engine.data.jsonlines import MAX_ROW_BYTES, PlacedLine, Unusable, decode, read_lines

_DELIMITERS = ",;\t"
_BOM = "\ufeff"
_JSON_CELLS = ("messages", "conversations", "test_list", "test_imports")
_MAYBE_ABSENT = ("id", *_JSON_CELLS)
_QUOTES = "Put a cell that holds a comma, a line break or a quote in quotes, and double the quotes within it."


def csv_rows(stream: BinaryIO) -> Iterator[PlacedLine]:
    """A line of JSON for each record after the first. A record that gives none is a line with its fault, and reading goes on."""
    text = _Text(stream)
    csv.field_size_limit(MAX_ROW_BYTES)
    try:
        first = next(text, "")
        text.put_back(first)
        reader = csv.reader(text, strict=True, delimiter=max(_DELIMITERS, key=first.count))
        header = _header(next(reader, []))
    except (Unusable, csv.Error) as error:
        yield PlacedLine.unusable(_fault(error), 1, ())
        return
    while True:
        text.begin()
        try:
            cells = next(reader)
            if not cells:
                continue
            raw = json.dumps(_fields(header, cells), ensure_ascii=False).encode()
        except StopIteration:
            return
        except (Unusable, csv.Error) as error:
            yield PlacedLine.unusable(_fault(error), text.start, header)
        else:
            yield PlacedLine.at(raw, text.start, cells=header)


class _Text:
    """A CSV file's lines as text. A record is read as far as a row may be long, so that a quote left open does not fill the memory."""

    def __init__(self, stream: BinaryIO) -> None:
        self._lines = read_lines(stream)
        self._waiting: str | None = None
        self._read = 0
        self._size = 0
        self.start = 1

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._waiting is not None:
            line, self._waiting = self._waiting, None
            return line
        raw = next(self._lines)
        self._read += 1
        self._size += len(raw)
        if self._size > MAX_ROW_BYTES:
            reason = f"the record is longer than {MAX_ROW_BYTES} bytes, or a quote is never closed"
            raise Unusable("too_large", reason, "Close the quotes, or shorten the row.")
        line = decode(raw)
        end = raw[len(raw.rstrip(b"\r\n")) :].decode()
        return (line.removeprefix(_BOM) if self._read == 1 else line) + end

    def put_back(self, line: str) -> None:
        """What the next call gives once more."""
        self._waiting = line

    def begin(self) -> None:
        """A record starts with the next line."""
        self.start = self._read + 1
        self._size = 0


def _header(cells: list[str]) -> tuple[str, ...]:
    header = tuple(name.strip() for name in cells)
    if len(set(header)) != len(header):
        raise Unusable("duplicate_key", "two columns have the same name", "Give each column a name of its own.")
    return header


def _fields(header: tuple[str, ...], cells: list[str]) -> dict[str, Any]:
    if len(cells) != len(header):
        reason = f"{len(cells)} cells, but the first line names {len(header)} columns"
        raise Unusable("wrong_cell_count", reason, _QUOTES)
    given = zip(header, cells, strict=True)
    return {name: _value(name, cell) for name, cell in given if cell or name not in _MAYBE_ABSENT}


def _value(name: str, cell: str) -> Any:
    if name not in _JSON_CELLS:
        return cell
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        remedy = f"Write the cell {name} as JSON, with double quotes (each doubled, as the cell is quoted)."
        raise Unusable("invalid_json", f"the cell {name} is not JSON", remedy, field=name) from None


def _fault(error: Unusable | csv.Error) -> Unusable:
    if isinstance(error, Unusable):
        return error
    return Unusable("invalid_csv", f"not CSV ({error})", _QUOTES)
