"""Where rows come from: files of an uploaded data set, a data set on the hub, or the project's own synthetic tasks."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal

from cpd_engine.config import DatasetSpec
from cpd_engine.data.records import FIELDS, BadRow, Row, read_lines, read_rows
from cpd_engine.data.splits import Splits, count_shared_prompts, cut, sample
from cpd_engine.data.synthetic import synthesize
from cpd_engine.errors import DatasetInvalid
from cpd_engine.inputs import Inputs
from cpd_engine.models.hub import DATA_FILES, fetch

SplitName = Literal["train", "validation", "test"]
_SHOWN = 20
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


def read_splits(spec: DatasetSpec, *, inputs: Inputs, seed: int) -> Splits:
    """All rows of a data set by split; a missing validation or test split is cut from the training rows.

    Raises:
        DatasetInvalid: a file is missing or unreadable, or more than `max_bad_row_fraction` of its rows are bad.
        HubUnavailable, ModelNotFound: the hub does not answer, or knows no such data set.
    """
    revision = None
    if spec.synthetic is not None:
        made = synthesize(spec.synthetic.rows, spec.synthetic.seed)
        texts = {name: [json.dumps(row).encode() for row in rows] for name, rows in made.items()}
        read = {name: read_checked(lines, name=name, max_bad_fraction=0.0) for name, lines in texts.items()}
    elif spec.hub is not None:
        snapshot = fetch(spec.hub, spec.revision, kind="dataset", patterns=DATA_FILES, inputs=inputs)
        revision = snapshot.commit
        read = {
            name: read_files(paths, max_bad_fraction=spec.max_bad_row_fraction)
            for name, paths in _hub_files(snapshot.path).items()
        }
    else:
        named = {"train": spec.train, "validation": spec.validation, "test": spec.test}
        read = {
            name: read_files([_locate(given, inputs)], max_bad_fraction=spec.max_bad_row_fraction)
            for name, given in named.items()
            if given is not None
        }
    return _assemble(spec, read, seed=seed, revision=revision)


def read_files(paths: Sequence[Path], *, max_bad_fraction: float) -> tuple[list[Row], Counter[str]]:
    """Good rows of JSONL, JSON (an array) or parquet files, read as one list, and how many rows were bad by reason code."""
    name = ", ".join(path.name for path in paths)
    return read_checked(_lines_of(paths), name=name, max_bad_fraction=max_bad_fraction)


def read_checked(lines: Iterable[bytes], *, name: str, max_bad_fraction: float) -> tuple[list[Row], Counter[str]]:
    """Good rows and the count of bad ones by code; DatasetInvalid with the first 20 bad lines where too many are bad."""
    good: list[Row] = []
    shown: list[BadRow] = []
    codes: Counter[str] = Counter()
    for row in read_rows(lines):
        if isinstance(row, Row):
            good.append(row)
            continue
        codes[row.code] += 1
        if len(shown) < _SHOWN:
            shown.append(row)
    bad, total = codes.total(), len(good) + codes.total()
    if bad > max_bad_fraction * total:
        listed = "\n".join(_describe(row) for row in shown)
        raise DatasetInvalid(
            f"{name}: {bad} of {total} rows cannot be used; max_bad_row_fraction allows {max_bad_fraction:.2%}.\n{listed}"
        )
    if not good:
        raise DatasetInvalid(
            f"{name}: no usable row. Write one JSON object a line, such as {{instruction, input, output}}."
        )
    return good, codes


def _describe(row: BadRow) -> str:
    where = f"line {row.line}" if row.column is None else f"line {row.line}, column {row.column}"
    return f"{where}: {row.reason}. {row.suggestion}"


def _assemble(
    spec: DatasetSpec, read: Mapping[str, tuple[list[Row], Counter[str]]], *, seed: int, revision: str | None
) -> Splits:
    rows = {name: tuple(good) for name, (good, _) in read.items()}
    missing = [name for name in ("test", "validation") if name not in rows]
    share = {"test": spec.test_fraction, "validation": spec.validation_fraction}
    *cuts, rest = cut(rows["train"], fractions=[share[name] for name in missing], seed=seed)
    rows |= dict(zip(missing, cuts, strict=True))
    train = sample(rest, spec.max_rows, seed=seed)
    dropped: Counter[str] = Counter()
    for _, codes in read.values():
        dropped += codes
    if len(train) < len(rest):
        dropped["over_max_rows"] = len(rest) - len(train)
    return Splits(
        train=train,
        validation=rows["validation"],
        test=rows["test"],
        dropped=dict(sorted(dropped.items())),
        shared_prompts=count_shared_prompts(train, rows["test"]),
        revision=revision,
    )


def _locate(given: str, inputs: Inputs) -> Path:
    path = inputs.datasets.get(given) or inputs.base / given
    if not path.is_file():
        known = ", ".join(sorted(inputs.datasets)) or "none"
        raise DatasetInvalid(
            f"dataset: no data set or file {given!r} (known data sets: {known}; files are relative to the recipe)"
        )
    return path


def _hub_files(snapshot: Path) -> dict[SplitName, list[Path]]:
    """The snapshot's data files by split; files whose path names no split count as training."""
    files: dict[SplitName, list[Path]] = {}
    for path in sorted(path for pattern in DATA_FILES for path in snapshot.rglob(pattern)):
        words = re.split(r"[^a-z]+", path.relative_to(snapshot).as_posix().lower())
        split: SplitName = next((_SPLIT_WORDS[word] for word in reversed(words) if word in _SPLIT_WORDS), "train")
        files.setdefault(split, []).append(path)
    if "train" not in files:
        raise DatasetInvalid("dataset.hub: the repository holds no training rows as .jsonl, .json or .parquet")
    return files


def _lines_of(paths: Iterable[Path]) -> Iterator[bytes]:
    for path in paths:
        match path.suffix:
            case ".parquet":
                yield from _parquet_lines(path)
            case ".json":
                yield from _json_lines(path)
            case _:
                with path.open("rb") as stream:
                    yield from _whole_lines(read_lines(stream))


def _whole_lines(lines: Iterator[bytes]) -> Iterator[bytes]:
    for line in lines:  # so that the last line of one file and the first of the next stay two
        yield line if line.endswith(b"\n") else line + b"\n"


def _json_lines(path: Path) -> Iterator[bytes]:
    """A .json file is an array of rows, or JSON lines under another name."""
    raw = path.read_bytes()
    if not raw.lstrip().startswith(b"["):
        yield from _whole_lines(iter(raw.splitlines()))
        return
    try:
        rows = json.loads(raw)
    except (ValueError, RecursionError):
        raise DatasetInvalid(f"{path.name}: not a JSON array of rows") from None
    for row in rows:
        yield json.dumps(row).encode()


def _parquet_lines(path: Path) -> Iterator[bytes]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with closing(pq.ParquetFile(path)) as file:
            columns = [name for name in file.schema_arrow.names if name in FIELDS]
            for batch in file.iter_batches(batch_size=1024, columns=columns):
                for row in batch.to_pylist():
                    yield json.dumps(row, default=str).encode()
    except pa.ArrowException as error:
        raise DatasetInvalid(f"{path.name}: not a parquet file ({error})") from None
