"""One pass of the teacher's body over all samples: the states that predict their supervised tokens, into memory or onto the disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from cpd_engine.data.batches import Indices, pack, pad
from cpd_engine.data.encode import Sample
from cpd_engine.errors import OutOfDeviceMemory
from cpd_engine.models.decoder import Decoder
from cpd_engine.projection import head_of
from cpd_engine.runtime import Runtime, out_of_memory
from cpd_engine.states.layout import Layout
from cpd_engine.states.records import Records, encode


class Sink(Protocol):
    """Where rows go, in the layout's order."""

    @property
    def packs(self) -> int:
        """How many packs it has had already."""

    def put(self, rows: Tensor, packs: int) -> None:
        """Take rows on the CPU, with which the first `packs` packs are done."""


class InMemory:
    """Rows in one tensor, for this process alone."""

    def __init__(self, tokens: int, width: int, dtype: torch.dtype) -> None:
        self.rows = torch.empty((tokens, width), dtype=dtype)
        self.packs = 0
        self._end = 0

    def put(self, rows: Tensor, packs: int) -> None:
        """As `Sink.put`."""
        self.rows[self._end : self._end + len(rows)] = rows
        self._end += len(rows)
        self.packs = packs


@torch.no_grad()
def fill(
    sink: Sink,
    decoder: Decoder,
    samples: Sequence[Sample],
    layout: Layout,
    records: Records,
    *,
    runtime: Runtime,
    on_progress: Callable[[int, int], None],
) -> None:
    """Ask the teacher about every sample that the sink has not had. `on_progress(samples, of)` comes after each pack and may raise."""
    decoder.model.requires_grad_(False)
    decoder.model.eval()
    done = sum(map(len, layout.packs[: sink.packs]))
    for number, part in enumerate(layout.packs[sink.packs :], sink.packs + 1):
        sink.put(_rows(decoder, samples, part, records, runtime), number)
        done += len(part)
        on_progress(done, len(samples))


def _rows(decoder: Decoder, samples: Sequence[Sample], part: Indices, records: Records, runtime: Runtime) -> Tensor:
    """The rows of a pack or of part of it, sample by sample. What does not fit into memory goes in two halves."""
    chosen = [samples[i] for i in part]
    try:
        batch = (pack(chosen) if decoder.packs else pad(chosen)).to(runtime.device)
        with runtime.autocast():
            return encode(records, decoder.states(batch), head_of(decoder), batch.targets).cpu()
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        if len(part) == 1:
            raise OutOfDeviceMemory("the teacher does not fit beside a single sample; lower max_length") from error
    # Out of the except block, which holds the frames and with them the tensors that did not fit.
    runtime.free_memory()
    half = len(part) // 2
    return torch.cat([_rows(decoder, samples, some, records, runtime) for some in (part[:half], part[half:])])
