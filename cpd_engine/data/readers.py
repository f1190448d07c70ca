"""Files of rows, as the lines that `records` reads: JSON lines (also gzipped), JSON arrays, CSV and Parquet, told apart by their suffix.

All are read as a stream. Importable by the REST API: pyarrow, which Parquet needs, is imported by the first Parquet file.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, cast

from cpd_engine.data.arrays import array_rows, is_array
from cpd_engine.data.csvrows import csv_rows
from cpd_engine.data.jsonlines import PlacedLine, read_lines
from cpd_engine.data.records import FIELDS
from cpd_engine.errors import DatasetInvalid

_PARQUET_ROWS = 1024


def lines_of(paths: Iterable[Path], *, columns: Collection[str] | None = FIELDS) -> Iterator[bytes]:
    """The files' rows, one JSON object a line; of Parquet these columns, all of them with None.

    What stands in a file otherwise is a `PlacedLine`, which knows where. Raises DatasetInvalid where a file is not what its suffix says.
    """
    for path in paths:
        match path.suffix:
            case ".parquet":
                yield from _parquet_lines(path, columns)
            case ".gz":
                yield from _unpacked_lines(path)
            case ".json" if is_array(path):
                yield from array_rows(path)
            case ".csv" | ".tsv":
                with path.open("rb") as stream:
                    yield from csv_rows(stream)
            case _:
                yield from _whole_lines(path)


def _whole_lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        for line in read_lines(stream):  # so that the last line of one file and the first of the next stay two
            yield line if line.endswith(b"\n") else line + b"\n"


def _unpacked_lines(path: Path) -> Iterator[bytes]:
    try:
        with gzip.open(path, "rb") as stream:
            for line in read_lines(cast("BinaryIO", stream)):
                yield line if line.endswith(b"\n") else line + b"\n"
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DatasetInvalid(f"{path.name}: not a gzip file ({error})") from None


def _parquet_lines(path: Path, wanted: Collection[str] | None) -> Iterator[bytes]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError:
        raise DatasetInvalid(f"{path.name}: Parquet needs pyarrow; install cpd with its extra `engine`") from None
    try:
        with closing(pq.ParquetFile(path)) as file:
            every = tuple(file.schema_arrow.names)
            columns = [name for name in every if wanted is None or name in wanted]
            batches = file.iter_batches(batch_size=_PARQUET_ROWS, columns=columns)
            for number, row in enumerate((row for batch in batches for row in batch.to_pylist()), start=1):
                yield PlacedLine.at(json.dumps(row, default=str).encode(), number, cells=every)
    except pa.ArrowException as error:
        raise DatasetInvalid(f"{path.name}: not a parquet file ({error})") from None
