"""Normalised rows on the disk: JSON lines that are read one at a time, so that memory does not grow with the data."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from cpd_engine.data.records import Row, from_json

_BLOCK_BYTES = 1 << 20
# A chunk: enough rows to keep a tokenizer busy, little enough text to bound what it makes of them.
CHUNK_ROWS = 1024
CHUNK_BYTES = 4 << 20


class Rows(Sequence[Row]):
    """The rows of a file of `to_json` lines, parsed when they are asked for. Held in memory: where each line ends, 8 bytes a row."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ends = _line_ends(path)
        with path.open("rb") as file:
            # An empty file cannot be mapped.
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if len(self._ends) else b""

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        at = range(len(self))[index]
        start = int(self._ends[at - 1]) if at else 0
        return from_json(self._bytes[start : int(self._ends[at])])

    def __iter__(self) -> Iterator[Row]:
        with self._path.open("rb") as lines:
            for line in lines:
                yield from_json(line)

    def chunks(self) -> Iterator[tuple[int, list[Row]]]:
        """All rows in order, up to `CHUNK_ROWS` and about `CHUNK_BYTES` at a time, each time behind the number of the first."""
        at = 0
        with self._path.open("rb") as lines:
            while at < len(self):
                start = int(self._ends[at - 1]) if at else 0
                within = int(np.searchsorted(self._ends, start + CHUNK_BYTES, side="right"))
                end = max(at + 1, min(at + CHUNK_ROWS, within, len(self)))
                yield at, [from_json(line) for line in islice(lines, end - at)]
                at = end


def _line_ends(path: Path) -> NDArray[np.int64]:
    """Where each line ends, its newline included: offsets [N] in bytes."""
    ends: list[NDArray[np.int64]] = []
    at = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            ends.append(np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == ord("\n")) + at + 1)
            at += len(block)
    return np.concatenate(ends) if ends else np.empty(0, dtype=np.int64)
