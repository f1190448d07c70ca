"""Samples in batches: which ones an optimizer step sees, and how they lie in tensors.

Shapes: B rows of T tokens each, S samples, N supervised tokens. A packed batch is one row in which samples follow each other without
padding; in a padded one each sample has a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cpd_engine.data.encode import Sample

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Segments:
    """Where the samples of a pack lie: sample s takes positions bounds[s] to bounds[s + 1]. `starts` [S + 1] int32 holds the same."""

    bounds: tuple[int, ...]
    starts: Tensor
    longest: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Samples as a model takes them. Their supervised tokens are listed sample by sample, in order.

    What is padding is said by the mask alone; the id that fills it may be a real token's. A sample's first token is never supervised.
    """

    input_ids: Tensor  # [B, T] int64
    position_ids: Tensor  # [B, T] int64, from 0 in every sample
    attention_mask: Tensor | None  # [B, T] bool; None where packed
    segments: Segments | None  # None where padded
    predicting: Tensor  # [N] int64, places in B·T of the states that predict the supervised tokens: one before each
    targets: Tensor  # [N] int64, the supervised tokens
    sample_rows: tuple[int, ...]  # [S]
    supervised: tuple[int, ...]  # [S], of sum N
    generated: bool = False  # whether any of it is the student's own text, of which no teacher's states are kept

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return replace(
            self,
            input_ids=self.input_ids.to(device),
            position_ids=self.position_ids.to(device),
            attention_mask=None if self.attention_mask is None else self.attention_mask.to(device),
            segments=None if self.segments is None else replace(self.segments, starts=self.segments.starts.to(device)),
            predicting=self.predicting.to(device),
            targets=self.targets.to(device),
        )

    @property
    def tokens(self) -> int:
        """B·T: what goes through the model, padding included."""
        return self.input_ids.numel()


def pack(samples: Sequence[Sample]) -> Batch:
    """All samples in one row, without padding."""
    lengths = [len(sample.input_ids) for sample in samples]
    bounds = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids_T = np.concatenate([sample.input_ids for sample in samples]).astype(np.int64)
    positions_T = np.concatenate([np.arange(length, dtype=np.int64) for length in lengths])
    segments = Segments(
        bounds=tuple(bounds.tolist()), starts=torch.from_numpy(bounds.astype(np.int32)), longest=max(lengths)
    )
    return _batch(samples, ids_T[None], positions_T[None], bounds[:-1], mask_BT=None, segments=segments)


def pad(samples: Sequence[Sample], pad_id: int = 0) -> Batch:
    """A row for each sample, filled up on the right to the longest."""
    lengths = np.array([len(sample.input_ids) for sample in samples], dtype=np.int64)
    longest = int(lengths.max())
    ids_BT = np.full((len(samples), longest), pad_id, dtype=np.int64)
    for number, sample in enumerate(samples):
        ids_BT[number, : lengths[number]] = sample.input_ids
    positions_T = np.arange(longest, dtype=np.int64)
    positions_BT = np.repeat(positions_T[None], len(samples), axis=0)
    starts = np.arange(len(samples), dtype=np.int64) * longest
    return _batch(samples, ids_BT, positions_BT, starts, mask_BT=positions_T[None] < lengths[:, None], segments=None)


def _batch(
    samples: Sequence[Sample],
    ids_BT: NDArray[np.int64],
    positions_BT: NDArray[np.int64],
    starts: Iterable[int],
    *,
    mask_BT: NDArray[np.bool_] | None,
    segments: Segments | None,
) -> Batch:
    """The batch of samples that begin at `starts` of its B·T places."""
    supervised = [
        np.arange(start + max(sample.prompt_length, 1), start + len(sample.input_ids), dtype=np.int64)
        for start, sample in zip(starts, samples, strict=True)
    ]
    places_N = np.concatenate(supervised)
    return Batch(
        input_ids=torch.from_numpy(ids_BT),
        position_ids=torch.from_numpy(positions_BT),
        attention_mask=None if mask_BT is None else torch.from_numpy(mask_BT),
        segments=segments,
        predicting=torch.from_numpy(places_N - 1),
        targets=torch.from_numpy(ids_BT.reshape(-1)[places_N]),
        sample_rows=tuple(sample.row for sample in samples),
        supervised=tuple(len(places) for places in supervised),
        generated=any(sample.generated for sample in samples),
    )


def epoch_batches(
    subset: Indices, *, repeat: int, batch_size: int, seed: int, epoch: int, visits: int | None = None
) -> list[Indices]:
    """What each optimizer step of an epoch sees: the subset `repeat` times over, shuffled, in ⌈repeat·k / batch_size⌉ parts.

    `visits`: so many samples instead, for which it is shuffled anew as often as they need, and the last time cut short.
    The order depends on the subset, `seed` and `epoch` alone, so a resumed run finds its place by counting.
    """
    generator = np.random.default_rng(np.random.SeedSequence([seed, epoch]))
    whole = np.tile(np.asarray(subset, dtype=np.int64), repeat)
    wanted = len(whole) if visits is None else visits
    order = np.concatenate([generator.permutation(whole) for _ in range(-(-wanted // len(whole)))])[:wanted]
    return [order[start : start + batch_size] for start in range(0, wanted, batch_size)]


def parts(lengths: Sequence[int] | Indices, *, tokens: int, samples: int | None = None, padded: bool) -> list[Indices]:
    """Samples 0..S−1 in parts of at most `tokens` tokens and `samples` samples, alike in length; one that is longer goes alone.

    `padded`: a part takes the room of its longest sample for each. The longest first, so that a step that does not fit into memory
    fails before anything is spent. Ties keep their order.
    """
    order = np.argsort(-np.asarray(lengths), kind="stable").astype(np.int64)
    found: list[Indices] = []
    start, room = 0, 0
    for place, index in enumerate(order):
        length = int(lengths[index])
        # Of a padded part the first sample, its longest, decides what each takes.
        taken = room + (int(lengths[order[start]]) if padded else length)
        if place > start and (taken > tokens or (samples is not None and place - start >= samples)):
            found.append(order[start:place])
            start, taken = place, length
        room = taken
    return [*found, order[start:]]
