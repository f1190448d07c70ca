"""Cutting rows into training, validation and test splits. Pure: the same rows in any order give the same splits.

What decides is a seeded hash of the *prompt*. So exact duplicates land in the same split, and so do two answers to one prompt: a
test prompt that the student has trained on measures memory.

Rows are told apart by their hashes alone, `HASH_BYTES` each, so that a million rows are cut in 16 MB wherever their texts lie.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from cpd_engine.data.digests import HASH_BYTES

# The number of the part of a row that no part holds.
LEFT_OUT = 255
Hashes = NDArray[np.void]
Parts = NDArray[np.uint8]


def hash_array(hashes: bytes | bytearray) -> Hashes:
    """Hashes written one behind the other, as an array [N] that is compared and sorted bytewise."""
    return np.frombuffer(hashes, dtype=f"V{HASH_BYTES}")


def cut(prompts: Hashes, *, fractions: Sequence[float]) -> Parts:
    """The part [N] of each row: number i holds about `fractions[i]` of the rows, number `len(fractions)` what remains.

    A part of a positive fraction gets whole prompts, in the order of their hash, until it has its share, so at least one; but the
    last prompt always stays in the remainder.
    """
    _, prompt_of, sizes = np.unique(prompts, return_inverse=True, return_counts=True)
    ends = np.cumsum(sizes)
    part_of = np.full(len(sizes), len(fractions), dtype=np.uint8)
    first = 0
    for part, fraction in enumerate(fractions):
        share = fraction * len(prompts)
        rows = ends[first:] - (ends[first - 1] if first else 0)
        wanted = int(np.searchsorted(rows, share)) + 1 if share > 0 else 0
        end = max(first, min(first + wanted, len(sizes) - 1))
        part_of[first:end] = part
        first = end
    return part_of[prompt_of]


def choose(contents: Hashes, limit: int | None, *, id_of: Callable[[int], str]) -> NDArray[np.bool_]:
    """Which rows [N] stay where at most `limit` may: those of the lowest content hash, among equal contents those of the lowest id.

    `id_of(n)` tells the id of row n; it is asked only about rows whose content the limit falls among.
    """
    if limit is None or len(contents) <= limit:
        return np.ones(len(contents), dtype=np.bool_)
    _, content_of, sizes = np.unique(contents, return_inverse=True, return_counts=True)
    ends = np.cumsum(sizes)
    last = int(np.searchsorted(ends, limit))
    chosen: NDArray[np.bool_] = content_of < last
    alike = np.flatnonzero(content_of == last).tolist()
    chosen[sorted(alike, key=id_of)[: limit - int(chosen.sum())]] = True
    return chosen


def count_shared_prompts(train: Hashes, test: Hashes) -> int:
    """How many test rows ask exactly what some training row asks, by the hashes of their prompts."""
    return int(np.isin(test, train).sum())
