"""Encoded samples on the disk: written once as Arrow IPC, mapped into memory, and looked at in place.

A file holds `SCHEMA` without compression, so that a sample's ids are a view of the file and every process on a machine shares its pages.
What is held beside it are a few numbers a sample.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cpd_engine.data.encode import Ids, Sample

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("row", pa.int32(), nullable=False),
        pa.field("input_ids", pa.list_(pa.field("item", pa.int32(), nullable=False)), nullable=False),
        pa.field("prompt_length", pa.int32(), nullable=False),
    ]
)
# Rows of a table that is written in one go lie in batches of as many.
_TABLE_BATCH = 1 << 16
Counts = NDArray[np.int64]
Item = TypeVar("Item")


class Samples(Sequence[Sample]):
    """The samples of a file that `SampleWriter` wrote. `input_ids` of each is a read-only view of the file.

    `lengths`, `prompt_lengths` and `supervised` count tokens [N], `rows` [N] are the samples' rows.
    """

    def __init__(self, path: Path) -> None:
        batches = _batches(path)
        self._parts = [_Part(batch) for batch in batches]
        sizes = [batch.num_rows for batch in batches]
        self._ends = np.cumsum(np.array(sizes, dtype=np.int64))
        self.ids = pa.chunked_array([batch.column("id") for batch in batches], type=pa.string())

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        at = range(len(self))[index]
        number = int(np.searchsorted(self._ends, at, side="right"))
        return self._parts[number].sample(at - int(self._ends[number - 1]) if number else at)

    @cached_property
    def lengths(self) -> Counts:
        """Tokens of each sample, prompt and end token included."""
        return _joined([np.diff(part.starts) for part in self._parts])

    @cached_property
    def prompt_lengths(self) -> Counts:
        """Tokens of each sample's prompt."""
        return _joined([part.prompt_lengths for part in self._parts])

    @cached_property
    def supervised(self) -> Counts:
        """Supervised tokens of each sample."""
        return self.lengths - self.prompt_lengths

    @cached_property
    def rows(self) -> Counts:
        """The number of each sample's row in its split."""
        return _joined([part.rows for part in self._parts])

    def id_ranks(self) -> Counts:
        """The place of each sample's id among all ids in the order of their code points: numbers that sort as the ids do."""
        order: Counts = pc.sort_indices(self.ids).to_numpy().astype(np.int64)
        ranks: Counts = np.empty_like(order)
        ranks[order] = np.arange(len(order))
        return ranks


class _Part:
    """A record batch as numpy views: `starts` [n + 1] tells where in `tokens` each sample's ids begin and end."""

    __slots__ = ("ids", "prompt_lengths", "rows", "starts", "tokens")

    def __init__(self, batch: Any) -> None:
        lists = batch.column("input_ids")
        self.ids = batch.column("id")
        self.rows: Ids = batch.column("row").to_numpy()
        self.starts: Ids = lists.offsets.to_numpy()
        self.tokens: Ids = lists.values.to_numpy()
        self.prompt_lengths: Ids = batch.column("prompt_length").to_numpy()

    def sample(self, at: int) -> Sample:
        return Sample(
            id=self.ids[at].as_py(),
            row=int(self.rows[at]),
            input_ids=self.tokens[self.starts[at] : self.starts[at + 1]],
            prompt_length=int(self.prompt_lengths[at]),
        )


class SampleWriter:
    """Appends samples to a file for `Samples`; each call of `write` is a record batch of its own."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def write(self, samples: Sequence[Sample]) -> None:
        """Append the samples."""
        if not samples:
            return
        starts = np.zeros(len(samples) + 1, dtype=np.int32)
        np.cumsum([len(sample.input_ids) for sample in samples], out=starts[1:])
        tokens = pa.array(np.concatenate([sample.input_ids for sample in samples]))
        columns = [
            pa.array([sample.id for sample in samples], pa.string()),
            pa.array([sample.row for sample in samples], pa.int32()),
            pa.ListArray.from_arrays(pa.array(starts), tokens, type=SCHEMA.field("input_ids").type),
            pa.array([sample.prompt_length for sample in samples], pa.int32()),
        ]
        self._writer.write_batch(pa.record_batch(columns, schema=SCHEMA))


class Subset(Sequence[Item]):
    """Some of a sequence's items by their numbers, each taken when it is asked for."""

    def __init__(self, of: Sequence[Item], numbers: Counts) -> None:
        self._of = of
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Subset[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | Subset[Item]:
        if isinstance(index, slice):
            return Subset(self._of, self._numbers[index])
        return self._of[int(self._numbers[index])]


@contextmanager
def sample_writer(path: Path) -> Iterator[SampleWriter]:
    """A writer of a new file; the file is whole once the block ends well."""
    # A file of Python's own, whose errors tell their errno.
    with path.open("wb") as file, pa.ipc.new_file(file, SCHEMA) as writer:
        yield SampleWriter(writer)


def lengths(samples: Sequence[Sample]) -> Counts:
    """Tokens of each sample [N], of a store without looking at the samples."""
    if isinstance(samples, Samples):
        return samples.lengths
    return np.fromiter((len(sample.input_ids) for sample in samples), dtype=np.int64, count=len(samples))


def supervised(samples: Sequence[Sample]) -> Counts:
    """Supervised tokens of each sample [N], of a store without looking at the samples."""
    if isinstance(samples, Samples):
        return samples.supervised
    return np.fromiter((sample.supervised for sample in samples), dtype=np.int64, count=len(samples))


def write_columns(path: Path, columns: Mapping[str, Any], *, metadata: Mapping[str, str]) -> None:
    """Columns of equal length, numpy or Arrow, as a file that people read with pyarrow, pandas or polars (Feather)."""
    table = pa.table(dict(columns)).replace_schema_metadata(dict(metadata))
    with path.open("wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=_TABLE_BATCH)


def read_column(path: Path, name: str) -> NDArray[np.float64]:
    """A column of numbers that `write_columns` wrote, as float64."""
    return _joined([batch.column(name).to_numpy() for batch in _batches(path)], np.float64)


def _batches(path: Path) -> list[Any]:
    """The record batches of a file, mapped into memory."""
    reader = pa.ipc.open_file(pa.memory_map(str(path)))
    return [reader.get_batch(number) for number in range(reader.num_record_batches)]


def _joined(parts: Sequence[NDArray[Any]], dtype: type[Any] = np.int64) -> NDArray[Any]:
    return np.concatenate(parts, dtype=dtype) if parts else np.empty(0, dtype=dtype)
