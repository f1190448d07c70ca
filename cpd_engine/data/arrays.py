"""Rows of a JSON array, one at a time, so that memory does not grow with the file. Standard library only."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from cpd_engine.data.jsonlines import MAX_ROW_BYTES, PlacedLine
from cpd_engine.errors import DatasetInvalid

_BLOCK = 1 << 16
_SPACE = re.compile(r"\s*")


def is_array(path: Path) -> bool:
    """Whether the file begins as a JSON array."""
    with path.open("rb") as stream:
        while block := stream.read(4096):
            if text := block.removeprefix(b"\xef\xbb\xbf").lstrip():
                return text.startswith(b"[")
    return False


def array_rows(path: Path) -> Iterator[PlacedLine]:
    """The elements as they stand in the file, line breaks included. Raises DatasetInvalid where the array is broken, saying where."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            yield from _Array(stream).elements()
    except (ValueError, RecursionError) as error:
        raise DatasetInvalid(f"{path.name}: not a JSON array of rows ({error})") from None


class _Array:
    """What is read of the file and not yet given, and where that stands in it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._text = ""
        self._at = 0
        self._line = 1
        self._column = 1
        # Numbers stay as they are written: whether one is beyond reason is for the reader of rows to say.
        self._decoder = json.JSONDecoder(parse_int=str, parse_float=str)

    def elements(self) -> Iterator[PlacedLine]:
        self._expect("[")
        if self._next() == "]":
            self._move(1)
        else:
            closed = False
            while not closed:
                self._next()
                line, column = self._line, self._column
                yield PlacedLine.at(self._element().encode("utf-8", "surrogatepass"), line, column=column)
                closed = self._expect(",]") == "]"
        if self._next():
            raise self._broken("text after its end")

    def _next(self) -> str:
        """The next character that is no space, where we then stand; nothing at the end of the file."""
        while True:
            end = _SPACE.match(self._text, self._at)
            self._move(end.end() - self._at if end else 0)
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def _expect(self, allowed: str) -> str:
        found = self._next()
        if not found or found not in allowed:
            raise self._broken(f"{' or '.join(allowed)} is missing")
        self._move(1)
        return found

    def _element(self) -> str:
        while True:
            fault = "an element has no end"
            try:
                _, end = self._decoder.raw_decode(self._text, self._at)
                if end < len(self._text) or not self._more():
                    text = self._text[self._at : end]
                    self._move(len(text))
                    return text
                continue
            except json.JSONDecodeError as error:
                fault = error.msg
            # The element may go on in what is not read yet.
            if len(self._text) - self._at > 2 * MAX_ROW_BYTES or not self._more():
                raise self._broken(fault)

    def _more(self) -> bool:
        """Read as much again as there is, so that a long element is not tried too often."""
        block = self._stream.read(max(_BLOCK, len(self._text) - self._at))
        if block:
            self._text, self._at = self._text[self._at :] + block, 0
        return bool(block)

    def _move(self, count: int) -> None:
        passed = self._text[self._at : self._at + count]
        down = passed.count("\n")
        self._line += down
        self._column = len(passed) - passed.rfind("\n") if down else self._column + count
        self._at += count

    def _broken(self, why: str) -> ValueError:
        return ValueError(f"line {self._line}, column {self._column}: {why}")
