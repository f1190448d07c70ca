"""Which files of a data set's folder are rows, and of what split."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

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
