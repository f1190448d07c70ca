"""Which samples go through the teacher's body together, and where in the kept states each sample's stand.

A pure function of the samples: whoever fills anew what was lost meets the same packs and so the same bits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cpd_engine.data.batches import Indices, parts
from cpd_engine.data.encode import Sample
from cpd_engine.data.store import lengths
from cpd_engine.data.store import supervised as supervised_tokens

# Tokens a pack, padding included: bounds memory whatever the lengths, and fills a GPU.
PACK_TOKENS = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """`packs`: indices of samples, the longest first. States lie pack by pack, sample by sample: `starts`, `counts` [S] by sample."""

    packs: tuple[Indices, ...]
    starts: NDArray[np.int64]
    counts: NDArray[np.int64]

    @property
    def tokens(self) -> int:
        """Supervised tokens of all samples."""
        return int(self.counts.sum())

    @property
    def digest(self) -> str:
        """Names the packs, so that a fill which was broken off goes on only where its first part fits."""
        digest = hashlib.sha256(b"".join(np.asarray(pack, dtype="<i8").tobytes() + b"/" for pack in self.packs))
        return digest.hexdigest()


def supervised(sample: Sample) -> int:
    """Supervised tokens that have one before them to be predicted from."""
    return len(sample.input_ids) - max(sample.prompt_length, 1)


def lay_out(samples: Sequence[Sample], pack_tokens: int = PACK_TOKENS) -> Layout:
    """The layout of all samples."""
    tokens = lengths(samples)
    # As if padded: whether the teacher's samples can be packed is known once it is loaded, which this is to spare.
    packs = tuple(parts(tokens, tokens=pack_tokens, padded=True))
    # As `supervised` counts them one by one.
    counts = np.minimum(supervised_tokens(samples), tokens - 1)
    order = np.concatenate(packs)
    starts = np.empty(len(samples), dtype=np.int64)
    starts[order] = np.cumsum(counts[order]) - counts[order]
    return Layout(packs=packs, starts=starts, counts=counts)
