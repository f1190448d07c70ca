"""Cutting rows into training, validation and test splits. Pure: the same rows in any order give the same splits.

What decides is a seeded hash of the *prompt*. So exact duplicates land in the same split, and so do two answers to one prompt: a
test prompt that the student has trained on measures memory.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from cpd_engine.data.records import Row, Turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """Rows by split; `dropped` counts rows left out by reason; `shared_prompts` test rows whose prompt is also trained on."""

    train: tuple[Row, ...]
    validation: tuple[Row, ...]
    test: tuple[Row, ...]
    dropped: dict[str, int] = field(default_factory=dict)
    shared_prompts: int = 0
    # Commit of a hub data set.
    revision: str | None = None


def cut(rows: Sequence[Row], *, fractions: Sequence[float], seed: int) -> list[tuple[Row, ...]]:
    """The rows in `len(fractions) + 1` parts: one of about each fraction of them, then what remains. Each keeps the rows' order.

    A part of a positive fraction gets whole prompts, in the order of their seeded hash, until it has its share, so at least one;
    but the last prompt always stays in the remainder.
    """
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[_prompt_hash(row, seed)].append(row)
    waiting = sorted(groups, reverse=True)
    part_of: dict[str, int] = {}
    for part, fraction in enumerate(fractions):
        taken, share = 0, fraction * len(rows)
        while taken < share and len(waiting) > 1:
            prompt = waiting.pop()
            part_of[prompt] = part
            taken += len(groups[prompt])
    parts: list[list[Row]] = [[] for _ in range(len(fractions) + 1)]
    for row in rows:
        parts[part_of.get(_prompt_hash(row, seed), len(fractions))].append(row)
    return [tuple(part) for part in parts]


def sample(rows: Sequence[Row], limit: int | None, *, seed: int) -> tuple[Row, ...]:
    """At most `limit` rows, chosen by a seeded hash of their whole content, in the order they came in."""
    if limit is None or len(rows) <= limit:
        return tuple(rows)
    chosen = {row.id for row in sorted(rows, key=lambda row: (_content_hash(row, seed), row.id))[:limit]}
    return tuple(row for row in rows if row.id in chosen)


def count_shared_prompts(train: Iterable[Row], test: Iterable[Row]) -> int:
    """How many test rows ask exactly what some training row asks."""
    trained = {_prompt(row) for row in train}
    return sum(_prompt(row) in trained for row in test)


def _prompt(row: Row) -> tuple[str, str, tuple[Turn, ...]]:
    return row.instruction, row.input, row.turns


def _prompt_hash(row: Row, seed: int) -> str:
    turns = [text for turn in row.turns for text in (turn.role, turn.content)]
    return _hash(seed, row.instruction, row.input, *turns)


def _content_hash(row: Row, seed: int) -> str:
    return _hash(seed, _prompt_hash(row, seed), *row.references)


def _hash(seed: int, *texts: str) -> str:
    """sha256 of the texts, each behind its length so that no two lists of texts run together."""
    digest = hashlib.sha256(str(seed).encode())
    for text in texts:
        raw = text.encode()
        digest.update(b"\0%d\0" % len(raw) + raw)
    return digest.hexdigest()
