"""How long work takes: a line through a few timed pieces of it. Pure and torch-free.

time = a · pieces + b · units + c · others, with a, b, c ≥ 0. What they count depends on the work:

| work | pieces | units | others |
|---|---|---|---|
| training | optimizer steps | tokens | supervised tokens |
| scoring, teacher's states | batches | tokens | supervised tokens |
| answering | decoding steps | rows in those steps | prompt tokens, padding included |
| sealing | directories | bytes | – |
| loading | models | – | – |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

# A batch of answers drops the rows that are done once they are this share of it; see cpd_engine.generate.
_COMPACT_AT = 0.25
# Batches drawn to choose the telling ones from.
_POOL = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """How much work there is; the module's table says of what."""

    pieces: float = 0.0
    units: float = 0.0
    others: float = 0.0

    def __add__(self, other: Amount) -> Amount:
        return Amount(
            pieces=self.pieces + other.pieces, units=self.units + other.units, others=self.others + other.others
        )

    def __mul__(self, factor: float) -> Amount:
        return Amount(pieces=self.pieces * factor, units=self.units * factor, others=self.others * factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seconds:
    """Time on the wall, and the processor time of all threads."""

    wall_s: float = 0.0
    cpu_s: float = 0.0

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(wall_s=self.wall_s + other.wall_s, cpu_s=self.cpu_s + other.cpu_s)

    def __sub__(self, other: Seconds) -> Seconds:
        return Seconds(wall_s=self.wall_s - other.wall_s, cpu_s=self.cpu_s - other.cpu_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A piece of work that was carried out, and what it took."""

    amount: Amount
    took: Seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What a piece, a unit and an other one take."""

    piece: Seconds = Seconds()
    unit: Seconds = Seconds()
    other: Seconds = Seconds()

    def of(self, amount: Amount) -> Seconds:
        """What `amount` takes."""
        return Seconds(
            wall_s=self.piece.wall_s * amount.pieces
            + self.unit.wall_s * amount.units
            + self.other.wall_s * amount.others,
            cpu_s=self.piece.cpu_s * amount.pieces + self.unit.cpu_s * amount.units + self.other.cpu_s * amount.others,
        )


def fit(timed: Sequence[Timed]) -> Line:
    """The line with the least relative errors, none of its parts negative. Raises ValueError where nothing was timed."""
    if not timed:
        raise ValueError("a line needs at least one timed piece of work")
    amounts = np.array([(one.amount.pieces, one.amount.units, one.amount.others) for one in timed], dtype=np.float64)
    wall = _fitted(amounts, np.array([one.took.wall_s for one in timed]))
    cpu = _fitted(amounts, np.array([one.took.cpu_s for one in timed]))
    piece, unit, other = (Seconds(wall_s=float(w), cpu_s=float(c)) for w, c in zip(wall, cpu, strict=True))
    return Line(piece=piece, unit=unit, other=other)


def _fitted(amounts: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """The three parts for one clock. Each row divided by its own time: a small step counts as much as a large one."""
    seconds = np.maximum(seconds, 1e-9)
    # Columns of like size, or the solver takes bytes for more than directories.
    scale = np.maximum(amounts.max(axis=0), 1e-12)
    found, _ = nnls(amounts / scale / seconds[:, None], np.ones(len(seconds)))
    return np.asarray(found / scale, dtype=np.float64)


def answering(prompts: Sequence[int], steps: Sequence[int], batch_size: int) -> Amount:
    """What generating takes for rows of these prompt lengths that need so many decoding steps each, in batches of like prompts."""
    order = sorted(range(len(prompts)), key=lambda row: -prompts[row])
    total = Amount()
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        ends = sorted(steps[row] for row in batch)
        total += Amount(pieces=ends[-1], units=_rows_in_steps(ends), others=len(batch) * prompts[batch[0]])
    return total


def _rows_in_steps(ends: Sequence[int]) -> int:
    """Rows in the batch summed over its decoding steps; `ends`: the last step of each row, ascending. Rows that are done stay a while."""
    rows, at, total = len(ends), 0, 0
    for done, end in enumerate(ends, start=1):
        total += rows * (end - at)
        at = end
        if len(ends) - done <= (1.0 - _COMPACT_AT) * rows:
            rows = len(ends) - done
    return total


def telling_batches(
    tokens: NDArray[np.int64], batch_size: int, generator: np.random.Generator
) -> tuple[NDArray[np.int64], ...]:
    """Sample indices of steps that tell what any step takes: of some drawn batches the one with the fewest tokens, the middle one and
    the one with the most, and this one again with the longest sample of all in it, which is the most that memory must hold.
    """
    size = min(batch_size, len(tokens))
    drawn = [generator.permutation(len(tokens))[:size] for _ in range(_POOL)]
    drawn.sort(key=lambda batch: int(tokens[batch].sum()))
    largest = drawn[-1]
    longest = int(tokens.argmax())
    stretched = largest if longest in largest else np.append(largest[np.argsort(tokens[largest])][1:], longest)
    return drawn[0], drawn[_POOL // 2], largest, stretched
