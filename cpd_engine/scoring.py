"""Cross-entropy of samples under a model, and of answers against references: what profiles and evaluations are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cpd_engine.data.batches import pack, pad, parts
from cpd_engine.data.encode import Sample
from cpd_engine.fleet import Dealt
from cpd_engine.kernel import token_cross_entropies
from cpd_engine.models.decoder import Decoder
from cpd_engine.projection import Workspace, head_of
from cpd_engine.runtime import Runtime

# Tokens a batch: bounds memory whatever the lengths, and fills a GPU.
BATCH_TOKENS = 8192


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
    """Score every sample, each process of a fleet its share. Leaves the model in eval mode.

    `on_progress(done, total)` is called after each batch and may raise StopRequested.
    """
    fleet, total = runtime.fleet, len(samples)
    with fleet.apart():
        found = _cross_entropies(
            decoder,
            samples if fleet.world == 1 else Dealt(samples, fleet),
            runtime,
            lambda done: on_progress(min(done * fleet.world, total), total) if on_progress is not None else None,
        )
    if fleet.world == 1:
        return found
    whole = CrossEntropies(sums=np.zeros(total, dtype=np.float64), tokens=np.zeros(total, dtype=np.int64))
    for rank, part in enumerate(fleet.gathered(found)):
        whole.sums[rank :: fleet.world] = part.sums
        whole.tokens[rank :: fleet.world] = part.tokens
    return whole


def _cross_entropies(
    decoder: Decoder, samples: Sequence[Sample], runtime: Runtime, on_batch: Callable[[int], None]
) -> CrossEntropies:
    decoder.model.eval()
    lengths = np.array([len(sample.input_ids) for sample in samples], dtype=np.int64)
    sums, tokens = np.zeros(len(samples), dtype=np.float64), np.zeros(len(samples), dtype=np.int64)
    done, workspace = 0, Workspace()
    for part in parts(lengths, tokens=BATCH_TOKENS, padded=not decoder.packs) if len(samples) else ():
        chosen = [samples[i] for i in part]
        batch = (pack(chosen) if decoder.packs else pad(chosen)).to(runtime.device)
        with runtime.autocast():
            ce_N = token_cross_entropies(decoder.states(batch), head_of(decoder), batch.targets, workspace=workspace)
        by_sample = np.split(ce_N.cpu().numpy(), np.cumsum(batch.supervised)[:-1])
        sums[part] = [ce_S.sum() for ce_S in by_sample]
        tokens[part] = batch.supervised
        done += len(part)
        on_batch(done)
    return CrossEntropies(sums=sums, tokens=tokens)
