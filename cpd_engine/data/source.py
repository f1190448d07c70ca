"""Where rows come from: files of an uploaded data set, a data set on the hub, or the project's own synthetic tasks.

Rows pass through one at a time, from the source into the file of their split; what is kept of each meanwhile are its hashes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cpd_engine.config import DatasetSpec
from cpd_engine.data.digests import content_hash, prompt_hash
from cpd_engine.data.files import SplitName, hub_files
from cpd_engine.data.readers import lines_of
from cpd_engine.data.records import BadRow, Row, read_rows, to_json
from cpd_engine.data.rows import Rows
from cpd_engine.data.splits import (
    LEFT_OUT,
    Hashes,
    Parts,
    choose,
    count_shared_prompts,
    cut,
    hash_array,
)
from cpd_engine.data.synthetic import streams
from cpd_engine.errors import DatasetInvalid
from cpd_engine.inputs import Inputs
from cpd_engine.models.hub import DATA_FILES, fetch

_SHOWN = 20
_ROWS_PER_CALL = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """Rows by split; `dropped` counts rows left out by reason; `shared_prompts` test rows whose prompt is also trained on.

    `files` that they were read from, by split, and `revision`, the commit of a hub data set; `snapshot`: where that one lies.
    """

    rows: dict[SplitName, int]
    dropped: dict[str, int]
    shared_prompts: int
    files: Mapping[SplitName, Sequence[Path]]
    revision: str | None
    snapshot: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """The files of an uploaded data set or of one on the hub."""

    files: Mapping[SplitName, Sequence[Path]]
    revision: str | None = None
    snapshot: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spooled:
    """What is kept of rows that lie in a file: their hashes [N], those of whole contents only where rows are to be chosen."""

    prompts: Hashes
    contents: Hashes


class Checked:
    """Good rows of JSON lines, one by one. `bad` counts the others by reason code, and is complete once the rows are read.

    Iterating raises DatasetInvalid at the end, with the first 20 bad lines, where too many are bad or no row is good.
    """

    def __init__(self, lines: Iterable[bytes], *, name: str, max_bad_fraction: float) -> None:
        self.bad: Counter[str] = Counter()
        self._lines = lines
        self._name = name
        self._max_bad_fraction = max_bad_fraction

    def __iter__(self) -> Iterator[Row]:
        good = 0
        shown: list[BadRow] = []
        for row in read_rows(self._lines):
            if isinstance(row, Row):
                good += 1
                yield row
                continue
            self.bad[row.code] += 1
            if len(shown) < _SHOWN:
                shown.append(row)
        self._judge(good, shown)

    def _judge(self, good: int, shown: Sequence[BadRow]) -> None:
        bad = self.bad.total()
        if bad > self._max_bad_fraction * (good + bad):
            listed = "\n".join(_describe(row) for row in shown)
            raise DatasetInvalid(
                f"{self._name}: {bad} of {good + bad} rows cannot be used; "
                f"max_bad_row_fraction allows {self._max_bad_fraction:.2%}.\n{listed}"
            )
        if not good:
            raise DatasetInvalid(
                f"{self._name}: no usable row. Write one JSON object a line, such as {{instruction, input, output}}."
            )


def split_rows(
    spec: DatasetSpec, *, inputs: Inputs, seed: int, into: Path, on_rows: Callable[[], None] = lambda: None
) -> Splits:
    """Write train, validation and test.jsonl into the directory; a missing validation or test split is cut from the training rows.

    `on_rows()` is called now and then and may raise.

    Raises:
        DatasetInvalid: a file is missing or unreadable, or more than `max_bad_row_fraction` of its rows are bad.
        HubUnavailable, ModelNotFound: the hub does not answer, or knows no such data set.
    """
    found = _files(spec, inputs)
    sources = _sources(spec, found.files)
    spooled: dict[SplitName, _Spooled] = {}
    for name, rows in sources.items():
        chosen = name == "train" and spec.max_rows is not None
        spooled[name] = _spool(rows, _file(into, name), seed=seed, contents=chosen, on_rows=on_rows)
    prompts, left_out = _cut(spec, spooled, into)
    dropped: Counter[str] = Counter()
    for rows in sources.values():
        dropped += rows.bad
    if left_out:
        dropped["over_max_rows"] = left_out
    return Splits(
        rows={name: len(hashes) for name, hashes in prompts.items()},
        dropped=dict(sorted(dropped.items())),
        shared_prompts=count_shared_prompts(prompts["train"], prompts["test"]),
        files=found.files,
        revision=found.revision,
        snapshot=found.snapshot,
    )


def read_files(paths: Sequence[Path], *, max_bad_fraction: float) -> Checked:
    """Good rows of JSONL, JSON (an array), CSV or Parquet files, read as one list."""
    name = ", ".join(path.name for path in paths)
    return Checked(lines_of(paths), name=name, max_bad_fraction=max_bad_fraction)


def _sources(spec: DatasetSpec, files: Mapping[SplitName, Sequence[Path]]) -> dict[SplitName, Checked]:
    """The splits that the source has, training rows among them."""
    if spec.synthetic is not None:
        made = streams(spec.synthetic.rows, spec.synthetic.seed)
        texts = {name: (json.dumps(row).encode() for row in rows) for name, rows in made.items()}
        return {name: Checked(lines, name=name, max_bad_fraction=0.0) for name, lines in texts.items()}
    return {name: read_files(paths, max_bad_fraction=spec.max_bad_row_fraction) for name, paths in files.items()}


def _files(spec: DatasetSpec, inputs: Inputs) -> _Found:
    if spec.hub is not None:
        snapshot = fetch(spec.hub, spec.revision, kind="dataset", patterns=DATA_FILES, inputs=inputs)
        return _Found(files=hub_files(snapshot.path), revision=snapshot.commit, snapshot=snapshot.path)
    named: dict[SplitName, str | None] = {"train": spec.train, "validation": spec.validation, "test": spec.test}
    return _Found(files={name: [locate(given, inputs)] for name, given in named.items() if given is not None})


def _spool(rows: Checked, path: Path, *, seed: int, contents: bool, on_rows: Callable[[], None]) -> _Spooled:
    """Write the rows as `Rows` reads them."""
    of_prompts, of_contents = bytearray(), bytearray()
    with path.open("wb") as file:
        for number, row in enumerate(rows):
            file.write(to_json(row).encode() + b"\n")
            of_prompts += prompt_hash(row, seed)
            if contents:
                of_contents += content_hash(row, seed)
            if number % _ROWS_PER_CALL == 0:
                on_rows()
    return _Spooled(prompts=hash_array(of_prompts), contents=hash_array(of_contents))


def _cut(spec: DatasetSpec, spooled: Mapping[SplitName, _Spooled], into: Path) -> tuple[dict[SplitName, Hashes], int]:
    """Make the splits that are missing and leave out training rows over the limit: prompts by split, and how many were left out."""
    order: tuple[SplitName, ...] = ("test", "validation")
    missing = [name for name in order if name not in spooled]
    share = {"test": spec.test_fraction, "validation": spec.validation_fraction}
    whole = spooled["train"]
    parts = cut(whole.prompts, fractions=[share[name] for name in missing])
    rest = np.flatnonzero(parts == len(missing))
    left_out = 0
    if spec.max_rows is not None and len(rest) > spec.max_rows:
        rows = Rows(_file(into, "train"))
        chosen = choose(whole.contents[rest], spec.max_rows, id_of=lambda n: rows[int(rest[n])].id)
        parts[rest[~chosen]] = LEFT_OUT
        left_out = len(rest) - spec.max_rows
    names: list[SplitName] = [*missing, "train"]
    if missing or left_out:
        _distribute(_file(into, "train"), parts, [_file(into, name) for name in names])
    prompts = {name: found.prompts for name, found in spooled.items()}
    return prompts | {name: whole.prompts[parts == part] for part, name in enumerate(names)}, left_out


def _distribute(path: Path, parts: Parts, files: Sequence[Path]) -> None:
    """Each line into the file of its part, in the order they came in; `path` may be one of the files."""
    uncut = path.rename(path.with_name(f".{path.name}.uncut"))
    with ExitStack() as stack:
        lines = stack.enter_context(uncut.open("rb"))
        outs = [stack.enter_context(file.open("wb")) for file in files]
        for line, part in zip(lines, parts.tobytes(), strict=True):
            if part != LEFT_OUT:
                outs[part].write(line)
    uncut.unlink()


def _file(into: Path, name: SplitName) -> Path:
    return into / f"{name}.jsonl"


def _describe(row: BadRow) -> str:
    where = f"line {row.line}" if row.column is None else f"line {row.line}, column {row.column}"
    return f"{where}: {row.reason}. {row.suggestion}"


def locate(given: str, inputs: Inputs, *, field: str = "dataset") -> Path:
    """The file of an uploaded data set, or the one of that name. Raises DatasetInvalid, naming the field that gave it."""
    path = inputs.datasets.get(given) or inputs.base / given
    if not path.is_file():
        known = ", ".join(sorted(inputs.datasets)) or "none"
        raise DatasetInvalid(
            f"{field}: no data set or file {given!r} (known data sets: {known}; files are relative to the recipe)"
        )
    return path
