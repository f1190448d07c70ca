"""Samples in batches: which ones an optimizer step sees, and how they lie in tensors. Shapes: B samples, T tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cpd_engine.data.encode import Sample

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Right-padded samples. What is padding is said by the mask alone; the id that fills it may be a real token's.

    `supervised[b, t]`: predicting token t of sample b counts; the logits that predict it stand at t − 1.
    """

    input_ids: Tensor  # [B, T] int64
    attention_mask: Tensor  # [B, T] bool
    supervised: Tensor  # [B, T] bool
    sample_rows: tuple[int, ...]

    @property
    def supervised_tokens(self) -> int:
        """Supervised tokens in the batch, counted where they lie (a device read if that is an accelerator)."""
        return int(self.supervised.sum())

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return Batch(
            input_ids=self.input_ids.to(device),
            attention_mask=self.attention_mask.to(device),
            supervised=self.supervised.to(device),
            sample_rows=self.sample_rows,
        )


def collate(samples: Sequence[Sample], pad_id: int = 0) -> Batch:
    """int64 ids and bool masks of the samples, padded on the right to the longest. A sample's first token is never supervised."""
    longest = max(len(sample.input_ids) for sample in samples)
    ids_BT = np.full((len(samples), longest), pad_id, dtype=np.int64)
    real_BT = np.zeros((len(samples), longest), dtype=np.bool_)
    supervised_BT = np.zeros((len(samples), longest), dtype=np.bool_)
    for number, sample in enumerate(samples):
        length = len(sample.input_ids)
        ids_BT[number, :length] = sample.input_ids
        real_BT[number, :length] = True
        supervised_BT[number, max(sample.prompt_length, 1) : length] = True
    return Batch(
        input_ids=torch.from_numpy(ids_BT),
        attention_mask=torch.from_numpy(real_BT),
        supervised=torch.from_numpy(supervised_BT),
        sample_rows=tuple(sample.row for sample in samples),
    )


def epoch_batches(subset: Indices, *, repeat: int, batch_size: int, seed: int, epoch: int) -> list[Indices]:
    """What each optimizer step of an epoch sees: the subset `repeat` times over, shuffled, in ⌈repeat·k / batch_size⌉ parts.

    The order depends on the subset, `seed` and `epoch` alone, so a resumed run finds its place by counting.
    """
    generator = np.random.default_rng(np.random.SeedSequence([seed, epoch]))
    order = generator.permutation(np.tile(np.asarray(subset, dtype=np.int64), repeat))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def micro_batches(batch: Indices, lengths: Sequence[int] | Indices, micro_batch_size: int | None) -> list[Indices]:
    """One step's samples in parts of at most `micro_batch_size`, alike in length so that little is padding; the longest first.

    The longest first, so that a step that does not fit into memory fails before anything is spent. Ties keep the batch's order.
    """
    if micro_batch_size is None or micro_batch_size >= len(batch):
        return [batch]
    by_length = batch[np.argsort(-np.asarray(lengths)[batch], kind="stable")]
    return [by_length[start : start + micro_batch_size] for start in range(0, len(by_length), micro_batch_size)]
