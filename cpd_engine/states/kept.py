"""A teacher whose body is not needed any more: kept rows of every sample, and its head."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cpd_engine.data.encode import Sample
from cpd_engine.data.store import Samples
from cpd_engine.objective import Taught, TopK
from cpd_engine.projection import Head
from cpd_engine.states.layout import Layout
from cpd_engine.states.records import Records, cross_entropies
from cpd_engine.states.topk import TopKRecords

# Samples whose cross-entropy is taken together.
_CHUNK = 256


class Kept:
    """Looks rows up by sample. `close` lets go of what holds them (a lock, a mapping)."""

    def __init__(
        self,
        rows: Tensor,
        head: Head,
        samples: Sequence[Sample],
        layout: Layout,
        records: Records,
        *,
        device: torch.device,
        release: Callable[[], None] = lambda: None,
    ) -> None:
        self._head = head
        self._records = records
        self._rows = rows
        self._device = device
        self._release = release
        self._starts, self._counts = _by_row(samples, layout)

    def taught(self, sample_rows: Sequence[int], temperature: float) -> Taught | TopK:
        """The teacher at these samples' supervised tokens. Raises ValueError where top_k was kept for other temperatures."""
        rows = self._look_up(sample_rows)
        if isinstance(self._records, TopKRecords):
            return self._records.decode(rows, temperature)
        return Taught(hidden_ND=rows, head=self._head)

    def cross_entropies(
        self, samples: Sequence[Sample], on_progress: Callable[[int, int], None] | None = None
    ) -> NDArray[np.float64]:
        """−log p(y) in nats summed over each sample's supervised tokens, float64 [S]: the teacher's score without its body."""
        sums = np.zeros(len(samples), dtype=np.float64)
        for start in range(0, len(samples), _CHUNK):
            part = samples[start : start + _CHUNK]
            rows = self._look_up([sample.row for sample in part])
            targets = np.concatenate([sample.input_ids[max(sample.prompt_length, 1) :] for sample in part])
            targets_N = torch.from_numpy(targets.astype(np.int64)).to(self._device)
            ce_N = cross_entropies(self._records, rows, self._head, targets_N).cpu()
            counts = [int(self._counts[sample.row]) for sample in part]
            sums[start : start + len(part)] = [float(piece.sum()) for piece in torch.split(ce_N, counts)]
            if on_progress is not None:
                on_progress(start + len(part), len(samples))
        return sums

    def close(self) -> None:
        """Nothing can be looked up after."""
        self._rows = torch.empty(0)
        self._release()

    def _look_up(self, sample_rows: Sequence[int]) -> Tensor:
        """What is kept of these samples' supervised tokens, sample by sample, on the device: [N, D] or, with top_k, [N, W]."""
        places = ((int(self._starts[row]), int(self._counts[row])) for row in sample_rows)
        found = torch.cat([self._rows[start : start + count] for start, count in places])
        if self._device.type == "cuda":
            return found.pin_memory().to(self._device, non_blocking=True)
        return found.to(self._device)


def _by_row(samples: Sequence[Sample], layout: Layout) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts and counts by the number of the row, which is unique but skips rows that were dropped."""
    numbers = (
        samples.rows if isinstance(samples, Samples) else np.array([sample.row for sample in samples], dtype=np.int64)
    )
    starts, counts = (np.zeros(numbers.max(initial=-1) + 1, dtype=np.int64) for _ in range(2))
    starts[numbers], counts[numbers] = layout.starts, layout.counts
    return starts, counts
