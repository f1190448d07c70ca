"""By what rows are told apart: hashes of what they ask, and of all they say. Standard library only.

Cutting splits and looking for duplicates go by the same ones, so that what is called a duplicate is what lands in the same split.
"""

from __future__ import annotations

import hashlib

from cpd_engine.data.records import Row

# Of sha256's 32: that any two of 10⁷ rows share 16 has a probability of 10⁻²⁵.
HASH_BYTES = 16


def prompt_hash(row: Row, seed: int) -> bytes:
    """A seeded hash of what the row asks, conversation included: `HASH_BYTES`."""
    return _prompt_digest(row, seed)[:HASH_BYTES]


def content_hash(row: Row, seed: int) -> bytes:
    """A seeded hash of what the row asks and all that it accepts as an answer: `HASH_BYTES`."""
    return _digest(seed, _prompt_digest(row, seed).hex(), *row.references)[:HASH_BYTES]


def _prompt_digest(row: Row, seed: int) -> bytes:
    turns = [text for turn in row.turns for text in (turn.role, turn.content)]
    return _digest(seed, row.instruction, row.input, *turns)


def _digest(seed: int, *texts: str) -> bytes:
    """sha256 of the texts, each behind its length so that no two lists of texts run together."""
    digest = hashlib.sha256(str(seed).encode())
    for text in texts:
        raw = text.encode()
        digest.update(b"\0%d\0" % len(raw) + raw)
    return digest.digest()
