"""The paper's training data (A.4.2, A.4.3) from the files that their publishers offer: fields renamed, splits drawn. Torch-free."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cpd_engine.data.readers import lines_of
from cpd_engine.errors import DatasetInvalid

# A.4.3: before each prompt of mathematics.
STEP_BY_STEP = "Please reason step by step, and put your final answer within \\boxed{}."


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A published data set. `fields`: ours to theirs; `sizes`: rows by split; `prefix` goes on a line of its own before the instruction."""

    hub: str
    fields: Mapping[str, str]
    sizes: Mapping[str, int]
    prefix: str = ""


SOURCES: Mapping[str, Source] = {
    "dolly": Source(
        hub="databricks/databricks-dolly-15k",
        fields={"instruction": "instruction", "input": "context", "output": "response"},
        sizes={"train": 11_435, "validation": 1000, "test": 500},
    ),
    "metamath": Source(
        hub="meta-math/MetaMathQA",
        fields={"instruction": "query", "output": "response"},
        sizes={"train": 20_000, "validation": 2000, "test": 500},
        prefix=STEP_BY_STEP,
    ),
    "evol": Source(
        hub="nickrosh/Evol-Instruct-Code-80k-v1",
        fields={"instruction": "instruction", "output": "output"},
        sizes={"train": 20_000, "validation": 2000, "test": 500},
    ),
}


def write_splits(source: Source, file: Path, out: Path, *, seed: int) -> dict[str, int]:
    """Write train, validation and test.jsonl under `out`; the rows in each, and `left_out`.

    Drawn by `seed` from the usable rows; rows of one instruction stay in one split. Raises DatasetInvalid where there are too few.
    """
    rows = list(_rows(source, file))
    drawn = _drawn(rows, random.Random(seed))
    counts: dict[str, int] = {}
    out.mkdir(parents=True, exist_ok=True)
    for split in ("test", "validation", "train"):
        wanted = source.sizes[split]
        chosen = _take(drawn, wanted)
        if len(chosen) < wanted:
            needed = sum(source.sizes.values())
            raise DatasetInvalid(f"{file.name}: {len(rows)} usable rows, and {needed} are drawn from them")
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in chosen)
        (out / f"{split}.jsonl").write_text(text, encoding="utf-8")
        counts[split] = len(chosen)
    return counts | {"left_out": len(rows) - sum(counts.values())}


def _rows(source: Source, file: Path) -> Iterator[dict[str, str]]:
    """Rows in the project's fields, without those that ask or answer nothing. Raises DatasetInvalid where a field is missing."""
    for number, line in enumerate(_lines(file), start=1):
        given = json.loads(line)
        missing = [theirs for theirs in source.fields.values() if not isinstance(given.get(theirs), str)]
        if missing:
            raise DatasetInvalid(f"{file.name}: row {number} has no text in {', '.join(missing)}; is it {source.hub}?")
        row = {ours: given[theirs] for ours, theirs in source.fields.items()}
        if row["instruction"].strip() and row["output"].strip():
            yield {
                **row,
                "instruction": f"{source.prefix}\n{row['instruction']}" if source.prefix else row["instruction"],
            }


def _lines(file: Path) -> Iterator[bytes]:
    if file.suffix not in {".json", ".jsonl"}:
        raise DatasetInvalid(f"{file.name}: give the published .json or .jsonl file")
    return (line for line in lines_of([file]) if line.strip())


def _drawn(rows: list[dict[str, str]], chance: random.Random) -> Iterator[list[dict[str, str]]]:
    """The rows of each instruction together, in an order of chance."""
    together: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        together.setdefault(row["instruction"], []).append(row)
    groups = list(together.values())
    chance.shuffle(groups)
    return iter(groups)


def _take(groups: Iterator[list[dict[str, str]]], wanted: int) -> list[dict[str, str]]:
    """The next `wanted` rows; what is over of the last group is left out."""
    chosen: list[dict[str, str]] = []
    while len(chosen) < wanted and (group := next(groups, None)) is not None:
        chosen += group
    return chosen[:wanted]
