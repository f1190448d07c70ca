"""The teacher during distillation: frozen, in eval mode, without gradients; its head is left to the kernel.

Its body runs at every batch, or it has run once and what it said is kept; or the one for the student's text and the other for the data's.
"""

from __future__ import annotations

from typing import Protocol

import torch

from cpd_engine.data.batches import Batch
from cpd_engine.models.decoder import Decoder
from cpd_engine.objective import Taught, TopK
from cpd_engine.projection import head_of
from cpd_engine.runtime import Runtime
from cpd_engine.states.kept import Kept


class Teaches(Protocol):
    """What a student learns from."""

    @property
    def packs(self) -> bool:
        """Whether batches may be packed."""

    def taught(self, batch: Batch, temperature: float) -> Taught | TopK:
        """What the teacher says at the N supervised tokens of a batch whose tensors lie on the runtime's device."""


class Teacher:
    """A teacher whose body runs at every batch; exact at every temperature."""

    def __init__(self, decoder: Decoder, runtime: Runtime) -> None:
        decoder.model.requires_grad_(False)
        decoder.model.eval()
        self._decoder = decoder
        self._runtime = runtime
        self._head = head_of(decoder)

    @property
    def packs(self) -> bool:
        """Whether its batches may be packed."""
        return self._decoder.packs

    @torch.no_grad()
    def taught(self, batch: Batch, temperature: float) -> Taught:  # noqa: ARG002 - states are the same at any
        """The last hidden states [N, D], and the head."""
        with self._runtime.autocast():
            return Taught(hidden_ND=self._decoder.states(batch), head=self._head)


class KeptTeacher:
    """A teacher without a body, for the samples it was asked about; as exact as what is kept of it."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept

    @property
    def packs(self) -> bool:
        """Always: no body sees the batch."""
        return True

    def taught(self, batch: Batch, temperature: float) -> Taught | TopK:
        """The last hidden states [N, D] and the head, or the k largest at a temperature that was scheduled.

        Raises ValueError for the student's own text, of which nothing is kept.
        """
        if batch.generated:
            raise ValueError("nothing is kept of the student's own text; it needs the teacher's body")
        return self._kept.taught(batch.sample_rows, temperature)


class PartlyKeptTeacher:
    """What is kept for the data's own responses, and the body for what the student said; a batch is of one or the other."""

    def __init__(self, kept: KeptTeacher, live: Teacher) -> None:
        self._kept = kept
        self._live = live

    @property
    def packs(self) -> bool:
        """Whether its batches may be packed."""
        return self._live.packs

    def taught(self, batch: Batch, temperature: float) -> Taught | TopK:
        """The last hidden states [N, D], and the head."""
        return (self._live if batch.generated else self._kept).taught(batch, temperature)
