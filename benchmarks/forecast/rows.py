"""Rows with a large vocabulary and the lengths of real ones, made from a seed: words are invented, lengths log-normal."""

from __future__ import annotations

import json
import string
from pathlib import Path

import numpy as np


def write_rows(path: Path, rows: int, *, words: int = 30_000, seed: int = 0) -> None:
    """Instructions of about 12 words and answers of about 20, at most 100, drawn from `words` words by Zipf's law."""
    random = np.random.default_rng(seed)
    letters = np.array(list(string.ascii_lowercase))
    lexicon = ["".join(random.choice(letters, size=int(random.integers(3, 10)))) for _ in range(words)]
    chances = 1.0 / np.arange(10, words + 10)
    chances /= chances.sum()

    def text(median: float) -> str:
        count = int(np.clip(random.lognormal(np.log(median), 0.8), 1, 100))
        return " ".join(lexicon[i] for i in random.choice(words, size=count, p=chances))

    lines = [json.dumps({"instruction": text(12.0), "output": text(20.0)}) for _ in range(rows)]
    path.write_text("\n".join(lines) + "\n", "utf-8")
