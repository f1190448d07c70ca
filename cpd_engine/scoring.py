"""Cross-entropy of samples under a model, and of answers against references: what profiles and evaluations are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cpd_engine.data.batches import collate
from cpd_engine.data.encode import Sample
from cpd_engine.kernel import head_of, supervised_hidden, supervised_targets, token_cross_entropies
from cpd_engine.models.decoder import Decoder
from cpd_engine.runtime import Runtime

# Padded tokens a batch: bounds memory whatever the lengths, and fills a GPU.
_BATCH_TOKENS = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossEntropies:
    """Per sample: −log q(y) in nats summed over its supervised tokens (float64 [N]; may be NaN or infinite), and their number."""

    sums: NDArray[np.float64]
    tokens: NDArray[np.int64]

    @property
    def mean(self) -> float:
        """Nats per supervised token over all samples."""
        return float(self.sums.sum() / self.tokens.sum())


@torch.no_grad()
def cross_entropies(
    decoder: Decoder,
    samples: Sequence[Sample],
    *,
    runtime: Runtime,
    on_progress: Callable[[int, int], None] | None = None,
) -> CrossEntropies:
    """Score every sample. Leaves the model in eval mode. `on_progress(done, total)` is called after each batch and may raise."""
    decoder.model.eval()
    sums = np.zeros(len(samples), dtype=np.float64)
    done = 0
    for indices in _by_length(samples):
        batch = collate([samples[i] for i in indices]).to(runtime.device)
        with runtime.autocast():
            hidden_BTD = decoder.hidden(batch.input_ids, batch.attention_mask)
            ce_N = token_cross_entropies(
                supervised_hidden(hidden_BTD, batch.supervised),
                head_of(decoder),
                supervised_targets(batch.input_ids, batch.supervised),
            )
        counts = batch.supervised.sum(dim=1).cpu()
        parts = torch.split(ce_N.cpu(), counts.tolist())
        sums[indices] = [float(part.sum()) for part in parts]
        done += len(indices)
        if on_progress is not None:
            on_progress(done, len(samples))
    return CrossEntropies(sums=sums, tokens=np.array([sample.supervised for sample in samples], dtype=np.int64))


def _by_length(samples: Sequence[Sample]) -> list[list[int]]:
    """Sample indices in batches of like length, the longest first, at most `_BATCH_TOKENS` padded tokens each."""
    batches: list[list[int]] = []
    longest = 0
    for index in sorted(range(len(samples)), key=lambda i: (-len(samples[i].input_ids), i)):
        if not batches or (len(batches[-1]) + 1) * longest > _BATCH_TOKENS:
            batches.append([])
            longest = len(samples[index].input_ids)
        batches[-1].append(index)
    return batches
