"""How long the texts of a data set are, in characters or in tokens; and what of it is told. Standard library only."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

# The first bin holds all that is not longer than this.
_FIRST_BIN = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """How many texts are at most `upto` long and longer than the bin before allows."""

    upto: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Lengths of N texts; all 0 where N is 0. The bins end at powers of two and leave none out up to the longest."""

    total: int
    mean: float
    median: int
    p95: int
    longest: int
    histogram: tuple[Bin, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """A row as a model sees it: its tokens turned back into text, special ones included."""

    id: str
    prompt: str
    response: str
    prompt_tokens: int
    response_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenReport:
    """A file's rows by one model's tokenizer. `overlong_prompt` rows are always dropped; of `overlong` ones the job's setting says
    whether they are dropped or their responses truncated. `response` counts the end token."""

    file: str
    model: Literal["teacher", "student"]
    template: str
    max_length: int
    rows: int
    prompt: Lengths
    response: Lengths
    sample: Lengths
    overlong_prompt: int
    overlong: int
    shown: tuple[Rendered, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCheck:
    """Every file by every tokenizer that was given. `vocabularies`: why teacher and student cannot be distilled, if so."""

    reports: tuple[TokenReport, ...]
    vocabularies: str | None


@dataclass(slots=True)
class Tally:
    """Counts lengths, each once: memory grows with the different ones and not with the texts."""

    counts: Counter[int] = field(default_factory=Counter)

    def add(self, length: int) -> None:
        """Count a text."""
        self.counts[length] += 1

    def lengths(self) -> Lengths:
        """What was counted."""
        rows = self.counts.total()
        total = sum(length * count for length, count in self.counts.items())
        return Lengths(
            total=total,
            mean=total / rows if rows else 0.0,
            median=self._quantile(rows, 0.5),
            p95=self._quantile(rows, 0.95),
            longest=max(self.counts, default=0),
            histogram=self._histogram(),
        )

    def _quantile(self, rows: int, share: float) -> int:
        passed = 0
        for length in sorted(self.counts):
            passed += self.counts[length]
            if passed >= share * rows:
                return length
        return 0

    def _histogram(self) -> tuple[Bin, ...]:
        bins: Counter[int] = Counter()
        for length, count in self.counts.items():
            bins[max(_FIRST_BIN, 1 << (length - 1).bit_length())] += count
        upto, found = _FIRST_BIN, []
        while upto <= max(bins, default=0):
            found.append(Bin(upto=upto, rows=bins[upto]))
            upto *= 2
        return tuple(found)
