"""The project's own data set: seeded instruction rows whose test values never occur in training."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Literal

from cpd_engine.data.problems import Drawn
from cpd_engine.data.tasks import TASKS, Task

Split = Literal["train", "validation", "test"]
# Of every twelve values ten are for training.
_SHARES = 12
_ATOM = re.compile(r"\w+")
# A task that finds no new row in as many attempts has hardly any left; the others fill its place.
_ATTEMPTS = 200


def split_of(drawn: Drawn) -> Split:
    """The split that owns these values: by a hash of the numbers, letters and words in them, in whatever order.

    So 12 + 30 in the test split means that no training row adds, compares or subtracts 12 and 30 either.
    """
    atoms = sorted(_ATOM.findall(" ".join(drawn.values.values())))
    bucket = int.from_bytes(sha256(" ".join(atoms).encode()).digest()[:8]) % _SHARES
    return "validation" if bucket == 0 else "test" if bucket == 1 else "train"


def _draw(task: Task, split: Split, random: Random, seen: set[bytes]) -> dict[str, str] | None:
    for _ in range(_ATTEMPTS):
        drawn = task.draw(random)
        instruction, given = (text.format(**drawn.values) for text in random.choice(task.phrasings))
        # A digest, which takes less memory than the texts: a set holds one for every row of the split.
        asked = sha256(f"{instruction}\0{given}".encode()).digest()[:16]
        if split_of(drawn) == split and asked not in seen:
            seen.add(asked)
            return {"instruction": instruction, "input": given, "output": drawn.answer, "category": task.category}
    return None


def _rows(split: Split, count: int, random: Random) -> Iterator[dict[str, str]]:
    seen: set[bytes] = set()
    tasks = deque(TASKS)
    while len(seen) < count:
        row = _draw(tasks[0], split, random, seen)
        if row is None:
            tasks.popleft()
            continue
        yield {"id": f"{split}-{len(seen):06d}", **row}
        tasks.rotate(-1)


def streams(rows: int, seed: int) -> dict[Split, Iterator[dict[str, str]]]:
    """`rows` rows in all, ten parts for training and one each for validation and test, tasks in equal shares.

    Rows are distinct; equal arguments give equal rows. Keys: id, instruction, input, output, category.
    """
    held_out = rows // _SHARES
    counts: dict[Split, int] = {"train": rows - 2 * held_out, "validation": held_out, "test": held_out}
    return {split: _rows(split, count, Random(f"{seed}/{split}")) for split, count in counts.items()}


def synthesize(rows: int, seed: int) -> dict[str, list[dict[str, str]]]:
    """The rows of `streams` as lists."""
    return {split: [*made] for split, made in streams(rows, seed).items()}


def write_splits(out: Path, rows: int, seed: int) -> dict[str, Path]:
    """Write train.jsonl, validation.jsonl and test.jsonl into `out` (made if absent) and return their paths."""
    out.mkdir(parents=True, exist_ok=True)
    paths: dict[str, Path] = {}
    for split, lines in streams(rows, seed).items():
        paths[split] = out / f"{split}.jsonl"
        with paths[split].open("w", encoding="utf-8", newline="") as file:
            file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    return paths
