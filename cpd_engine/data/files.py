"""Files of rows, as the lines that `records` reads: JSON lines (also gzipped), JSON arrays and parquet, told apart by their suffix.

Read as a stream, but for a JSON array, which is parsed whole.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, Literal, cast

from cpd_engine.data.records import FIELDS, read_lines
from cpd_engine.errors import DatasetInvalid
from cpd_engine.models.hub import DATA_FILES

SplitName = Literal["train", "validation", "test"]
# Words in a hub file's path that name its split, as in data/train-00000-of-00002.parquet.
_SPLIT_WORDS: Mapping[str, SplitName] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}
_PARQUET_ROWS = 1024


def hub_files(snapshot: Path) -> dict[SplitName, list[Path]]:
    """The snapshot's data files by split; files whose path names no split count as training. Raises DatasetInvalid."""
    files = files_by_split(snapshot)
    if "train" not in files:
        raise DatasetInvalid("dataset.hub: the repository holds no training rows as .jsonl, .json or .parquet")
    return files


def files_by_split(snapshot: Path) -> dict[SplitName, list[Path]]:
    """The data files under a folder by split, as far as there are any."""
    files: dict[SplitName, list[Path]] = {}
    for path in sorted(path for pattern in DATA_FILES for path in snapshot.rglob(pattern)):
        words = re.split(r"[^a-z]+", path.relative_to(snapshot).as_posix().lower())
        split: SplitName = next((_SPLIT_WORDS[word] for word in reversed(words) if word in _SPLIT_WORDS), "train")
        files.setdefault(split, []).append(path)
    return files


def lines_of(paths: Iterable[Path], *, columns: Collection[str] | None = FIELDS) -> Iterator[bytes]:
    """The files' rows, one JSON object a line; of parquet these columns, all of them with None.

    Raises DatasetInvalid where a file is not what its suffix says.
    """
    for path in paths:
        match path.suffix:
            case ".parquet":
                yield from _parquet_lines(path, columns)
            case ".gz":
                yield from _unpacked_lines(path)
            case ".json":
                yield from _json_lines(path)
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


def _json_lines(path: Path) -> Iterator[bytes]:
    """A .json file is an array of rows, or JSON lines under another name."""
    if not _is_array(path):
        yield from _whole_lines(path)
        return
    try:
        rows = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise DatasetInvalid(f"{path.name}: not a JSON array of rows") from None
    for row in rows:
        yield json.dumps(row).encode()


def _is_array(path: Path) -> bool:
    with path.open("rb") as stream:
        while block := stream.read(4096):
            if text := block.lstrip():
                return text.startswith(b"[")
    return False


def _parquet_lines(path: Path, wanted: Collection[str] | None) -> Iterator[bytes]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with closing(pq.ParquetFile(path)) as file:
            columns = [name for name in file.schema_arrow.names if wanted is None or name in wanted]
            for batch in file.iter_batches(batch_size=_PARQUET_ROWS, columns=columns):
                for row in batch.to_pylist():
                    yield json.dumps(row, default=str).encode()
    except pa.ArrowException as error:
        raise DatasetInvalid(f"{path.name}: not a parquet file ({error})") from None
